"""What the product says reads in the reader's language wherever it was stored, and nobody's own text is touched."""

import ast
import random
import re
import sys
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from msp import sentences
from msp.sentences import Catalogue, Template, catalogue, catalogue_of, said

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import translations  # noqa: E402
from sentences import sentences as extracted  # noqa: E402  (the tool, not the module)
from sentences import template  # noqa: E402


@pytest.fixture
def words() -> Catalogue:
    return catalogue_of(
        [
            ("It is late.", "Срок нарушен."),
            ("%(where)s is missing.", "Нет %(where)s."),
            ("Visit %(name)s cannot be confirmed: %(missing)s.", "Выезд %(name)s подтвердить нельзя: %(missing)s."),
            ("%(skill)s at level %(level)s", "%(skill)s, уровень %(level)s"),
            ("Add %(needed)s.", "Добавьте %(needed)s."),
            ("Ask.", "Спросите."),
        ]
    )


@pytest.mark.parametrize(
    ("english", "russian"),
    [
        ("It is late.", "Срок нарушен."),
        ("app.sqlite is missing.", "Нет app.sqlite."),
        ("app.sqlite is missing. It is late.", "Нет app.sqlite. Срок нарушен."),
        ("It is late. Our own words. Ask.", "Срок нарушен. Our own words. Спросите."),
        ("It is late.\nAsk.", "Срок нарушен.\nСпросите."),
        ("Visit 7 cannot be confirmed: linux at level 3.", "Выезд 7 подтвердить нельзя: linux, уровень 3."),
        ("Add rack-2.", "Добавьте rack-2."),
        ("Add a plan, or say why none is due.", "Add a plan, or say why none is due."),
        ("The printer hums", "The printer hums"),
        ("  It is late.  ", "  Срок нарушен.  "),
        ("", ""),
    ],
)
def test_a_sentence_is_found_by_its_fixed_words(words: Catalogue, english: str, russian: str) -> None:
    assert words.text(english) == russian


def test_the_surest_sentence_wins() -> None:
    pairs = [("%(a)s is %(b)s.", "общее"), ("%(a)s is no kind of contract.", "%(a)s — не вид договора.")]
    for order in (pairs, pairs[::-1]):
        assert catalogue_of(order).text("lease is no kind of contract.") == "lease — не вид договора."


def test_english_and_long_output_stay_as_they_are() -> None:
    assert said("The message is empty.", "en") == "The message is empty."
    assert said("The message is empty.", "ru") == "Сообщение пустое."
    for own in ("The pane is broken.", "The server has no disk.", "My laptop opens nothing.", "The backup is missing."):
        assert said(own, "ru") == own
    assert said("The message is empty.", "fr") == "The message is empty."
    assert said("x" * (sentences.LONGEST + 1), "ru").startswith("xxx")


#: Pieces that many weak sentences are made of: in a row they fit those sentences in ever more ways.
WEAK = (" is ", " of ", ": ", " min ", " and ", ". ", "; ", " at ", " by ", " (", "a", "x y", "Add ", "Known: ")
SLOW = ("QEMU refused : ", ": ,  by The newest backup is of . b is ; ", ", not so:  ( units of , Secret . ended.a)Abc")


def texts_made_to_be_slow() -> list[str]:
    draw = random.Random(7)
    pieces = [(one,) for one in (*WEAK, *SLOW)] + [draw.sample(WEAK, draw.randint(2, 6)) for _ in range(15)]
    found = []
    for size in (300, sentences.LONGEST):
        for some in pieces:
            found.append(("".join(some) * size)[: size - 1] + ".")
            found.append("".join(draw.choice(some) for _ in range(size))[: size - 1] + ".")
    return found


def test_a_text_made_to_be_slow_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may write a subject: what is compared and searched is bounded by its length, not by what fits it."""
    compared, matched = [], []
    values_in = Template.values_in

    def counted(self: Template, text: str) -> dict[str, str] | None:
        compared.append(text)
        if (found := values_in(self, text)) is not None:
            matched.append(text)
        return found

    monkeypatch.setattr(Template, "values_in", counted)
    used_up = 0
    for text in texts_made_to_be_slow():
        compared.clear(), matched.clear()
        allowed = sentences.LOOKS * (len(text) + sentences.SHORT)
        told = catalogue("ru").text(text)
        assert len(compared) <= allowed / 15 + 1, text[:60]
        assert sum(30 + len(one) // 4 for one in matched) <= allowed + len(text), text[:60]
        reading = sentences.Reading(catalogue("ru"), allowed)
        try:
            reading.text(text)
        except sentences.Exhausted:
            used_up += 1
            assert told == text
    assert used_up, "none of these is slow any more: find worse ones"


def test_a_long_text_of_many_sentences_is_read_to_its_end() -> None:
    english = [re.sub(r"%\(\w+\)s", "rack 2", text) for text in sorted(extracted())]
    for begin in range(0, len(english) - 30, 30):
        text = "\n".join(english[begin : begin + 30])[: sentences.LONGEST]
        reading = sentences.Reading(catalogue("ru"), sentences.LOOKS * (len(text) + sentences.SHORT))
        assert reading.text(text) != text


def test_slots_are_named_after_what_they_hold() -> None:
    def of(source: str) -> str | None:
        return template(ast.parse(source, mode="eval").body)

    assert of('f"{path} is {error.what}, {error.what}"') == "%(path)s is %(what)s, %(what2)s"
    assert of("f\"{', '.join(names)}: {sizes[0]} {round(spent):,}\"") == "%(names)s: %(sizes)s %(spent)s"


def test_every_sentence_of_the_source_is_found_again_with_its_values() -> None:
    """Put a value into each slot, as at run time: the translation must hold every value, and no English key."""
    known = catalogue("ru")
    lost = []
    for text in extracted():
        names = re.findall(r"%\((\w+)\)s", text)
        said_so = text
        for number, name in enumerate(names):
            said_so = said_so.replace(f"%({name})s", f"v{number}", 1)
        translated = known.text(said_so)
        if translated == said_so or any(f"v{number}" not in translated for number in range(len(names))):
            lost.append((said_so, translated))
    assert not lost, f"run `python tools/translations.py` and translate: {lost[:5]}"


def test_the_compiled_sentences_are_those_of_the_source() -> None:
    with (sentences.FOLDER / "ru.po").open("rb") as source, (sentences.FOLDER / "ru.mo").open("rb") as compiled:
        written = {one.id: one.string for one in read_po(source) if one.id and one.string}
        assert {one.id: one.string for one in read_mo(compiled) if one.id} == written


def test_a_renamed_variable_leaves_its_sentence_translated(tmp_path: Path) -> None:
    (tmp_path / "ru.po").write_text('msgid "%(path)s is gone."\nmsgstr "%(path)s больше нет."\n', "utf-8")
    fresh = Catalog(locale="ru")
    fresh.add("%(file)s is gone.", locations=[("x.py", 0)])
    updated = translations.updated("ru", fresh, tmp_path / "ru.po")
    assert updated.get("%(file)s is gone.").string == "%(file)s больше нет."
