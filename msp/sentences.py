"""What the product says of itself, in the reader's language, from the English sentence it was said and stored in.

Errors, reasons and findings are written once, in English, where they arise: `f"{path} is missing."`. So they stand in
logs, in evidence and in JSON, and are never stored in two languages. The words of such an f-string are its key and
its slots are its parameters; `tools/translations.py` reads both from the source into `translations/ru.po`. A page, a
mail or a document gives the sentence to `said`, which finds the key by its fixed words, translates it, and puts the
values in. What matches nothing is somebody's own text and stays as it is.
See docs/decisions/0024-sentences-are-their-own-keys.md.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

FOLDER = Path(__file__).parent / "translations"
_SLOT = re.compile(r"%\((\w+)\)s")
_WORD = re.compile(r"(?<!\w)[A-Za-z]+(?!\w)")
#: Where a text is taken apart, the coarsest first: sentences, items of a list, a name and what is said of it.
_BORDERS = tuple(map(re.compile, (r"(?<=[.!?])\s+(?=\S)|\n+", r";\s+", r":\s+")))
_HEAD = re.compile(r"(.*[.!?]) %\(\w+\)s", re.DOTALL)
#: A sentence begins within a value: then the value is more than a value.
_SWALLOWED = re.compile(r"[.!?]\s+[A-ZА-ЯЁ]|\n")
LONGEST = 4000  # characters of what is looked at; more is output of machines
WEAK = 16  # fixed letters: with fewer, such as "Add {what}.", a value must be a name or known, no prose
_PROSE = 5  # words
#: What begins with one of these is no name either: somebody wrote it.
_TALK = re.compile(
    r"(?:an?|any|her|his|i|its?|my|no|our|some|that|the|their|these|this|those|we|you|your)\b", re.IGNORECASE
)
_JOINED = 4  # sentences that may stand in one key
_DEEP = 3  # values within values that are looked at
#: How often a text may be looked at from end to end, with SHORT characters more: a text made to be slow stays cheap.
LOOKS, SHORT = 64, 1000


@dataclass(frozen=True, slots=True)
class Template:
    """A sentence with slots: `fixed` stands around them, so there is one more of it than of slots."""

    slots: tuple[str, ...]
    fixed: tuple[str, ...]
    translation: str

    @property
    def weight(self) -> int:
        """Letters that are fixed: the more, the surer a match."""
        return sum(map(len, self.fixed))

    def frames(self, text: str) -> bool:
        """Return whether a text begins and ends as this sentence does."""
        first, last = self.fixed[0], self.fixed[-1]
        return text.startswith(first) and text.endswith(last) and len(first) + len(last) <= len(text)

    def values_in(self, text: str) -> dict[str, str] | None:
        """Return the shortest values with which this sentence reads as `text`, or None. Takes linear time."""
        if not self.frames(text):
            return None
        first, *between, last = self.fixed
        end = len(text) - len(last)
        values, at = [], len(first)
        for part in between:
            found = text.find(part, at, end)
            if found < 0:
                return None
            values.append(text[at:found])
            at = found + len(part)
        return dict(zip(self.slots, [*values, text[at:end]], strict=True))


@dataclass(frozen=True)
class Catalogue:
    """Every sentence of one language: those without slots by themselves, the others by the rarest word of each.

    A text is compared only with the sentences whose rarest word it holds: a handful of more than a thousand. Those
    that have no whole word of their own stand under "".
    """

    plain: Mapping[str, str]
    templates: Mapping[str, Sequence[Template]]

    def text(self, text: str) -> str:
        """Return a text with each of its sentences translated that is known; as it is if that would take long."""
        try:
            return Reading(self, LOOKS * (len(text) + SHORT)).text(text)
        except Exhausted:
            return text


class Exhausted(Exception):
    """A reading has used up what it may look at."""


@dataclass(slots=True)
class Reading:
    """One text on its way through the catalogue, with the values within it and the values within those.

    left: characters that may yet be looked at, over all of them: weak sentences such as "{} of {}: {}" fit a text
    made for it in many ways, each fails late, and every depth multiplies them. Who uses it up is no sentence of ours.
    """

    catalogue: Catalogue
    left: int
    read: dict[tuple[str, int, bool], str | None] = field(default_factory=dict)

    def look(self, characters: int) -> None:
        """Take what is looked at next from what is left. Raises Exhausted."""
        self.left -= characters
        if self.left < 0:
            raise Exhausted

    def whole(self, text: str, depth: int, *, strict: bool) -> str | None:
        """Return the translation of one sentence. strict: no value may hold a further sentence."""
        if (known := self.catalogue.plain.get(text)) is not None:
            return known
        self.look(80 + len(text) // 16)
        if (key := (text, depth, strict)) not in self.read:
            self.read[key] = self._fitted(text, depth, strict=strict)
        return self.read[key]

    def _fitted(self, text: str, depth: int, *, strict: bool) -> str | None:
        words = {"", *_WORD.findall(text)}
        near = [one for word in words for one in self.catalogue.templates.get(word, ())]
        self.look(len(text) + 6 * len(near))
        for template in sorted((one for one in near if one.frames(text)), key=_surest):
            self.look(15 + len(text) // 16)
            values = template.values_in(text)
            if values is None:
                continue
            self.look(30 + len(text) // 4)
            if strict and any(_SWALLOWED.search(value) for value in values.values()):
                continue
            told = {name: self.text(value, depth + 1) for name, value in values.items()}
            if template.weight < WEAK and any(told[name] == value and _prose(value) for name, value in values.items()):
                continue
            return "".join(told[part] if at % 2 else part for at, part in enumerate(_SLOT.split(template.translation)))
        return None

    def text(self, text: str, depth: int = 0) -> str:
        """Return a text with each of its sentences translated that is known. depth: values within values so far."""
        bare = text.strip()
        if " " not in bare or depth > _DEEP:  # a name, a number
            return text.replace(bare, self.catalogue.plain[bare], 1) if bare in self.catalogue.plain else text
        if (found := self.whole(bare, depth, strict=True)) is None:
            found = self._parts(bare, depth)
        if found is None:
            found = self.whole(bare, depth, strict=False)
        return text if found is None else text.replace(bare, found, 1)

    def _parts(self, text: str, depth: int, borders: tuple[re.Pattern[str], ...] = _BORDERS) -> str | None:
        """Translate piece by piece; None if nothing is known."""
        for at, border in enumerate(borders):
            self.look(50 + len(text))
            pieces, between = border.split(text), border.findall(text)
            if len(pieces) > 1 and (found := self._joined(pieces, between, depth, borders[at + 1 :])) is not None:
                return found
        return None

    def _joined(
        self, pieces: list[str], between: list[str], depth: int, finer: tuple[re.Pattern[str], ...]
    ) -> str | None:
        out, known, at = "", False, 0
        while at < len(pieces):
            for upto in range(min(len(pieces), at + _JOINED), at, -1):  # a key may hold several sentences
                gaps = [*between[at : upto - 1], ""]
                piece = "".join(part + gap for part, gap in zip(pieces[at:upto], gaps, strict=True))
                if (translated := self.whole(piece, depth, strict=True)) is not None:
                    break
            else:
                piece, upto = pieces[at], at + 1
                translated = self._parts(piece, depth, finer)
            out += piece if translated is None else translated
            out += between[upto - 1] if upto < len(pieces) else ""
            known, at = known or translated is not None, upto
        return out if known else None


def _prose(value: str) -> bool:
    words = value.split()
    return len(words) >= _PROSE or _TALK.match(value) is not None


def said(text: str, language: str) -> str:
    """Return what the product said in the reader's language; English, and what it never said, stays as it is."""
    if language == "en" or not text or len(text) > LONGEST:
        return text
    return _said(text, language)


@lru_cache(maxsize=4096)
def _said(text: str, language: str) -> str:
    return catalogue(language).text(text)


@cache
def catalogue(language: str) -> Catalogue:
    """Return the sentences of a language; none for one that has no file."""
    file = FOLDER / f"{language}.mo"
    if not file.exists():
        return Catalogue({}, {})
    from babel.messages.mofile import read_mo  # only who reads another language pays for it

    with file.open("rb") as source:
        return catalogue_of((str(one.id), str(one.string)) for one in read_mo(source) if one.id and one.string)


def catalogue_of(pairs: Iterable[tuple[str, str]]) -> Catalogue:
    """Return the catalogue of (English, translation) pairs; slots are `%(name)s` in both."""
    plain: dict[str, str] = {}
    templates: list[tuple[Template, set[str]]] = []
    pairs = list(pairs)
    for english, translation in pairs:
        slots = tuple(_SLOT.findall(english))
        if not slots:
            plain[english] = translation
            continue
        if (head := _HEAD.fullmatch(english)) and (translated := _HEAD.fullmatch(translation)):
            pairs.append((head[1], translated[1]))  # "Not so. {detail}" where there is no detail
        fixed = _SLOT.split(english)[::2]
        one = Template(slots, tuple(fixed), translation)
        templates.append((one, set(_WORD.findall(_SLOT.sub("_", english)))))  # "_": a word that a value may lengthen
    counted = Counter(word for _, words in templates for word in words)
    index: dict[str, list[Template]] = {}
    for one, words in templates:
        index.setdefault(min(words, key=lambda word: (counted[word], word), default=""), []).append(one)
    return Catalogue(plain, index)


def _surest(one: Template) -> tuple[int, tuple[str, ...]]:
    return -one.weight, one.fixed
