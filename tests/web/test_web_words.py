"""How values read: durations in words, instants in the viewer's zone, money by locale, a week as a grid."""

import ast
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from clicking import Browser
from flask import Flask, g
from flask_babel import refresh

import msp
import msp_web
from msp.clock import utc_now
from msp.people.access import Actor
from msp_web import filters
from msp_web import portal_words as portal_words  # joins words.py
from msp_web.views.assets import plain_cell
from msp_web.views.contracts import week_of
from msp_web.words import BADGES, WORDS, badge_of, word

Reader = Callable[[str, str], None]


@pytest.fixture
def reads_as(app: Flask) -> Iterator[Reader]:
    """Become a reader of a language in a time zone."""
    with app.test_request_context("/"):

        def become(language: str, zone: str) -> None:
            g.actor = Actor("x", frozenset({"admin"}), language=language, time_zone=zone)
            refresh()

        yield become


@pytest.mark.parametrize(
    ("span", "en", "ru"),
    [
        (timedelta(hours=2, minutes=14), "2 h 14 min", "2 ч 14 мин"),
        (timedelta(days=3, hours=4, minutes=59), "3 d 4 h", "3 д 4 ч"),
        (timedelta(days=1), "1 d", "1 д"),
        (timedelta(minutes=-5, seconds=-59), "5 min", "5 мин"),
        (timedelta(seconds=45), "45 s", "45 с"),
        (timedelta(), "0 s", "0 с"),
    ],
)
def test_durations_are_words(reads_as: Reader, span: timedelta, en: str, ru: str) -> None:
    reads_as("en", "UTC")
    assert filters.duration(span) == en
    reads_as("ru", "UTC")
    assert filters.duration(span) == ru


def test_billed_minutes_stay_hours_however_many(reads_as: Reader) -> None:
    reads_as("en", "UTC")
    assert filters.minutes(2890) == "48 h 10 min"
    assert filters.minutes(60) == "1 h"
    assert filters.minutes(0) == "0 min"
    assert filters.minutes(-90) == "−1 h 30 min"


def test_an_instant_stands_in_the_viewers_zone_with_utc_and_the_site_behind_it(reads_as: Reader) -> None:
    winter = datetime(2025, 1, 15, 12, 0, tzinfo=UTC)
    reads_as("en", "Europe/Moscow")
    shown = filters.moment(winter, "Europe/Berlin")
    assert "15 Jan 2025, 15:00 MSK" in shown
    assert "12:00:00 UTC" in shown
    assert "on site 15 Jan 13:00 CET" in shown
    assert 'datetime="2025-01-15T12:00:00+00:00"' in shown
    reads_as("ru", "Asia/Yekaterinburg")
    assert "15 янв. 2025" in filters.moment(winter)
    assert "17:00" in filters.moment(winter)
    today = utc_now().replace(microsecond=0)
    reads_as("en", "UTC")
    assert f">{today:%H:%M} UTC<" in filters.moment(today)


def test_money_and_dates_follow_the_locale(reads_as: Reader) -> None:
    reads_as("en", "UTC")
    assert filters.money(Decimal("1234.50"), "EUR") == "€1,234.50"
    assert filters.day(date(2026, 11, 3)) == "3 Nov 2026"
    reads_as("ru", "UTC")
    assert filters.money(Decimal("1234.50"), "RUB").replace("\xa0", " ").replace("\u202f", " ") == "1 234,50 ₽"
    assert filters.day(date(2026, 11, 3)) == "3 нояб. 2026"


def test_every_badge_has_a_word_a_colour_and_an_icon(reads_as: Reader) -> None:
    for language in ("en", "ru"):
        reads_as(language, "UTC")
        for vocabulary, looks in BADGES.items():
            for value, look in looks.items():
                assert str(look.word), (vocabulary, value)
                assert look.colour in {"green", "red", "orange", "purple", "blue", "grey"}, (vocabulary, value)
                assert look.icon, (vocabulary, value)
        assert all(str(text) for words in WORDS.values() for text in words.values())


def test_a_value_that_nobody_named_reads_as_itself(reads_as: Reader) -> None:
    reads_as("en", "UTC")
    assert badge_of("run_state", "brand_new").word == "brand new"
    assert word("no such vocabulary", "some_thing") == "some thing"


def test_a_night_shift_stands_on_both_days_of_the_grid() -> None:
    week = week_of("n", {"tz": "UTC", "week": {"sun": [["22:00", "02:30"]], "wed": [["08:00", "24:00"]]}})
    assert [hour for hour, share in enumerate(week.days[6]) if share == 60] == [22, 23]
    assert week.days[0][:4] == (60, 60, 30, 0)
    assert sum(week.days[2]) == 16 * 60
    assert week.hours[6] == ("22:00–02:30",)
    assert week.hours[2] == ("08:00–24:00",)


@pytest.mark.parametrize("evil", ["=1+1", "+cmd", "-2", "@SUM(A1)", "\t=1"])
def test_no_exported_cell_is_a_formula(evil: str) -> None:
    assert plain_cell(evil) == f"'{evil}"
    assert plain_cell("srv-1") == "srv-1"


def test_programs_get_problem_documents_and_page_parts_get_parts(app: Flask, log_in: Callable[[str], Browser]) -> None:
    document = app.test_client().get("/api/nope")
    assert (document.status_code, document.mimetype) == (404, "application/problem+json")
    assert document.json is not None
    assert document.json.keys() >= {"type", "title", "status", "detail", "code", "retry", "instance"}
    part = log_in("tech@provider.example").get("/assets/999999", headers={"HX-Request": "true"})
    assert part.status_code == 404
    assert "<html" not in part.text
    away = app.test_client().get("/assets/", headers={"HX-Request": "true"})
    assert (away.status_code, away.headers["HX-Redirect"]) == (401, "/log-in?next=/assets/")
    large = log_in("tech@provider.example").post("/account", data={"name": "x" * (17 * 1024 * 1024)})
    assert large.status_code == 413


def recorded() -> Iterator[str]:
    """Yield the kinds of evidence that are written into a client's chain, as the code names them."""
    for room in (msp, msp_web):
        for file in Path(room.__path__[0]).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if not isinstance(node, ast.Call) or len(node.args) < 2:
                    continue
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                proves = ast.unparse(node.func) in ("evidence.record", "record") and "client_id" in [
                    one.arg for one in node.keywords
                ]
                if proves or name == "_prove":
                    yield from (
                        one.value
                        for one in node.args[1:]
                        if isinstance(one, ast.Constant) and isinstance(one.value, str) and "." in one.value
                    )


def test_every_kind_of_evidence_that_a_client_reads_has_words() -> None:
    kinds = set(recorded())
    assert {"contract.drafted", "contract.signed", "host_key.change_asked", "console.opened"} <= kinds
    assert sorted(kinds - WORDS["act"].keys()) == []
