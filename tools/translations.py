"""Keep the catalogues whole: of the pages, and of what msp itself says (see msp/sentences.py).

    python tools/translations.py              take new strings in, drop old ones, compile; list what is untranslated
    python tools/translations.py fill FILE    take translations from a JSON object {string: translation} first;
                                              a plural string is {"one|many": ["1", "2-4", "5+"]}
Strings are English in the code. `ru` is translated by hand; `en` repeats the code, so that its plurals are right.
"""

import io
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sentences import sentences

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "web" / "msp_web"
FOLDER = PAGES / "translations"
SLOT = re.compile(r"%\((\w+)\)s")
SAID = ROOT / "msp" / "translations"
LOCALES = ("en", "ru")
METHODS = [("**.py", "python"), ("templates/**.html", "jinja2")]
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "lazy_gettext": None, "lazy_ngettext": (1, 2)}


def extracted() -> Catalog:
    """Return every string of the code and the templates, in the order of files."""
    catalog = Catalog(project="msp-toolkit", charset="utf-8")
    found = extract_from_dir(
        str(PAGES), METHODS, {"**.html": {"trimmed": "true", "silent": "false"}}, KEYWORDS, strip_comment_tags=True
    )
    for file, _line, message, _comments, context in found:
        catalog.add(message, locations=[(file, 0)], context=context)
    return catalog


def extracted_sentences() -> Catalog:
    """Return every sentence that msp says, in the order of files."""
    catalog = Catalog(project="msp-toolkit", charset="utf-8")
    for text, file in sentences().items():
        catalog.add(text, locations=[(file, 0)])
    return catalog


def file_of_sentences(locale: str) -> Path:
    return SAID / f"{locale}.po"


def file_of(locale: str) -> Path:
    return FOLDER / locale / "LC_MESSAGES" / "messages.po"


def stored(locale: str, file: Path | None = None) -> Catalog:
    """Return a catalogue as it is in the repository: that of the pages, or of `file`."""
    file = file or file_of(locale)
    if not file.exists():
        return Catalog(locale=locale, project="msp-toolkit", charset="utf-8")
    with file.open("rb") as source:
        return read_po(source, locale=locale)


def updated(locale: str, template: Catalog, file: Path | None = None) -> Catalog:
    """Return the stored catalogue with the strings of `template` and no others. Nothing is guessed.

    Slots of a sentence (`file` is its catalogue) are named after variables; it stays translated when those are renamed.
    """
    old = stored(locale, file)
    renamed = {SLOT.sub("\0", one.id): one for one in old if file and one.id and isinstance(one.id, str)}
    new = Catalog(locale=locale, project="msp-toolkit", charset="utf-8")
    for message in template:
        if not message.id:
            continue
        known = old.get(message.id if isinstance(message.id, str) else message.id[0], message.context)
        text = known.string if known is not None and known.id == message.id and not known.fuzzy else ""
        if not text and isinstance(message.id, str) and (same := renamed.get(SLOT.sub("\0", message.id))):
            slots = dict(zip(SLOT.findall(same.id), SLOT.findall(message.id), strict=True))
            text = SLOT.sub(lambda slot, slots=slots: f"%({slots[slot[1]]})s", str(same.string))
        if locale == "en":
            text = message.id
        new.add(message.id, text, locations=sorted({(file, 0) for file, _ in message.locations}))
    return new


def untranslated(catalog: Catalog) -> list[str]:
    """Return the strings without a translation, or with a fuzzy or half one."""
    wanted = catalog.num_plurals
    missing = []
    for message in catalog:
        if not message.id:
            continue
        if isinstance(message.id, str):
            whole = bool(message.string)
        else:
            whole = len(message.string) == wanted and all(message.string)
        if not whole or message.fuzzy:
            missing.append(message.id if isinstance(message.id, str) else "|".join(message.id))
    return missing


def written(catalog: Catalog) -> bytes:
    """Return the text of a catalogue: no dates and no line numbers, so that it changes only when strings do."""
    out = io.BytesIO()
    write_po(out, catalog, width=120, sort_by_file=True, include_lineno=False, omit_header=False)
    lines = [line for line in out.getvalue().decode().splitlines() if not line.startswith(('"POT-', '"PO-Rev'))]
    return ("\n".join(lines) + "\n").encode()


def compiled(catalog: Catalog) -> bytes:
    """Return the catalogue as programs read it."""
    catalog.creation_date = catalog.revision_date = datetime(2026, 1, 1, tzinfo=UTC)  # the same bytes every time
    out = io.BytesIO()
    write_mo(out, catalog)
    return out.getvalue()


def fill(catalogs: list[Catalog], translations: dict[str, object]) -> None:
    """Put translations into the catalogues that have their string. Raises KeyError for a string that none has."""
    for text, translation in translations.items():
        known = [catalog.get(text.split("|")[0] if isinstance(translation, list) else text) for catalog in catalogs]
        if not any(known):
            raise KeyError(f"Nobody says {text!r}.")
        for message in filter(None, known):
            message.string = tuple(translation) if isinstance(translation, list) else str(translation)


def main(arguments: list[str]) -> int:
    """Update every catalogue; return 1 if something is untranslated."""
    pages, said = extracted(), extracted_sentences()
    missing: list[str] = []
    for locale in LOCALES:
        files = {file_of(locale): updated(locale, pages)}
        if locale != "en":  # a sentence is English already
            files[file_of_sentences(locale)] = updated(locale, said, file_of_sentences(locale))
            if arguments[:1] == ["fill"]:
                fill(list(files.values()), json.loads(Path(arguments[1]).read_text("utf-8")))
        for file, catalog in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(written(catalog))
            with file.open("rb") as source:  # compiled from what was written: the two never differ
                file.with_suffix(".mo").write_bytes(compiled(read_po(source, locale=locale)))
            missing += [f"{locale}: {text}" for text in untranslated(catalog)]
    for line in missing:
        print(line)
    print(f"{len(pages)} strings, {len(said)} sentences, {len(missing)} untranslated", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
