"""No page speaks half a language."""

import importlib.util
import re
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

import msp_web

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("translations", ROOT / "tools" / "translations.py")
assert spec is not None
assert spec.loader is not None
translations = importlib.util.module_from_spec(spec)
spec.loader.exec_module(translations)

SLOT = re.compile(r"%\((\w+)\)[sd]")
#: Names, and words that read the same in both languages.
NAMES = {"msp-toolkit", "· msp-toolkit", "CSV", "XLSX", "PDF", "SHA-256", "SSH", "VNC"}
SAME = {"CSV", "SSH", "WinRM", "VNC", "CLI"}


@pytest.mark.parametrize("locale", ["en", "ru"])
def test_every_string_of_every_page_is_translated(locale: str) -> None:
    catalog = translations.updated(locale, translations.extracted())
    missing = translations.untranslated(catalog)
    assert not missing, f"run `python tools/translations.py` and translate: {missing[:20]}"


@pytest.mark.parametrize("locale", ["en", "ru"])
def test_no_stored_string_is_fuzzy_or_loses_a_value(locale: str) -> None:
    for message in translations.stored(locale):
        if not message.id or not message.string:
            continue
        assert not message.fuzzy, message.id
        if isinstance(message.id, str):
            assert set(SLOT.findall(message.id)) == set(SLOT.findall(message.string)), message.id
        else:
            for text in message.string:
                assert set(SLOT.findall(text)) <= set(SLOT.findall(message.id[1])), message.id


def test_russian_strings_are_in_russian() -> None:
    for message in translations.stored("ru"):
        texts = [message.string] if isinstance(message.string, str) else message.string
        if message.id and message.id not in SAME:
            assert all(re.search("[а-яА-ЯёЁ№]", text) or not re.search("[A-Za-z]{3}", text) for text in texts), (
                message.id
            )


@pytest.mark.parametrize("locale", ["en", "ru"])
def test_compiled_catalogues_are_those_of_the_sources(locale: str) -> None:
    file = Path(msp_web.__file__).parent / "translations" / locale / "LC_MESSAGES" / "messages.po"
    with file.open("rb") as source:
        assert file.with_suffix(".mo").read_bytes() == translations.compiled(read_po(source, locale=locale))


def test_templates_hold_no_words_outside_the_catalogue() -> None:
    faults = []
    for file in sorted((Path(msp_web.__file__).parent / "templates").rglob("*.html")):
        text = re.sub(r"\{% block body_class %\}\w+", "", file.read_text("utf-8"))
        text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", " ", text, flags=re.DOTALL)
        text = re.sub(r"<(?:\"[^\"]*\"|'[^']*'|[^'\">])*>", "\n", text)
        for line in text.splitlines():
            words = re.findall(r"[A-Za-z]{3,}", re.sub(r"&\w+;", "", line))
            known = line.strip() in NAMES or line.strip().startswith(("msp ", "data-")) or line.strip().endswith("-")
            if words and not known:
                faults.append(f"{file.name}: {line.strip()}")
    assert not faults
