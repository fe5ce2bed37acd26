"""The clause table: known cases, and a thousand random ones against an oracle that shares no code with it."""

import random
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msp.contracts.clauses import (
    BreakGlass,
    Clause,
    Decision,
    approval_digest,
    approval_expired,
    approval_void,
    decide,
    parse_clause,
)
from msp.contracts.covers import Asset, Covers
from msp.contracts.fields import Fields
from msp.errors import Misconfigured

BERLIN = ZoneInfo("Europe/Berlin")
SERVER = Asset("srv-fs1", "server", "Head office")
SATURDAY_23 = datetime(2026, 3, 14, 22, tzinfo=UTC)  # 23:00 in Berlin
SUNDAY_03 = datetime(2026, 3, 15, 2, tzinfo=UTC)
MONDAY_10 = datetime(2026, 3, 16, 9, tzinfo=UTC)
NIGHT = {
    "id": "4.2",
    "text": "Disruptive work on servers is done on Saturday night.",
    "text_ru": "Работы с перерывом на серверах ведутся в ночь на воскресенье.",
    "action_classes": ["disruptive"],
    "asset_classes": ["server"],
    "effect": "allow",
    "windows": [{"days": ["sat"], "from": "22:00", "to": "04:00"}],
}


def clause(**fields: Any) -> Clause:
    document = {"id": "1", "text": "A sentence.", "effect": "allow"} | fields
    return parse_clause(Fields(document, "clause"), {})


def said(clauses: list[Clause], at: datetime = MONDAY_10, action: str = "disruptive", **more: Any) -> Decision:
    return decide(clauses, action_class=action, asset=more.pop("asset", SERVER), at=at, zone=BERLIN, **more)


def test_first_matching_clause_decides() -> None:
    table = [clause(id="1", effect="refuse", assets=["srv-fs1"]), clause(id="2", effect="allow")]
    assert (said(table).effect, said(table).clause_id) == ("refuse", "1")
    assert said(table, asset=Asset("srv-db1", "server")).clause_id == "2"


@pytest.mark.parametrize(
    ("at", "effect"), [(SATURDAY_23, "allow"), (SUNDAY_03 - timedelta(microseconds=1), "allow"), (SUNDAY_03, "refuse")]
)
def test_window_runs_past_midnight_and_is_open_at_its_end(at: datetime, effect: str) -> None:
    night = NIGHT | {"windows": [{"days": ["sat"], "from": "22:00", "to": "03:00"}]}
    assert said([clause(**night)], at).effect == effect


def test_refusal_outside_the_window_names_the_clause_and_the_next_window() -> None:
    decision = said([clause(**NIGHT)])
    assert (decision.effect, decision.rule, decision.clause_id) == ("refuse", "outside_window", "4.2")
    assert decision.next_at == datetime(2026, 3, 21, 21, tzinfo=UTC)
    assert "2026-03-21 22:00 Europe/Berlin" in decision.way_out
    assert "Saturday night" in decision.text
    assert "ночь на воскресенье" in decision.text_ru


def test_outside_effect_asks_instead_of_refusing() -> None:
    decision = said([clause(**NIGHT, outside="ask", approver="client_approver", price="250.00", expires_s=3600)])
    assert (decision.effect, decision.approver, decision.price) == ("ask", "client_approver", Decimal("250.00"))
    assert (decision.expires_s, decision.way_out) == (3600, "Ask client_approver; a yes is good for 1 h.")


def test_outside_its_window_a_clause_gives_way_to_the_next() -> None:
    table = [clause(**NIGHT), clause(id="4.3", effect="ask", asset_classes=["server"])]
    assert said(table).clause_id == "4.3"
    assert said(table, SATURDAY_23).clause_id == "4.2"


def test_later_refusal_still_names_the_window_that_would_open() -> None:
    decision = said([clause(**NIGHT), clause(id="9", effect="refuse")])
    assert (decision.clause_id, decision.next_at) == ("9", datetime(2026, 3, 21, 21, tzinfo=UTC))


def test_freeze_refuses_inside_the_window_and_the_way_out_is_after_it() -> None:
    frozen = clause(**NIGHT, freezes=[{"name": "Year end", "from": "2026-03-10", "to": "2026-03-21"}])
    decision = said([frozen], SATURDAY_23)
    assert (decision.effect, decision.rule, decision.clause_id) == ("refuse", "freeze", "4.2")
    assert "'Year end'" in decision.text
    assert decision.next_at == datetime(2026, 3, 21, 23, tzinfo=UTC)  # the freeze ends inside Saturday's window


@pytest.mark.parametrize(
    ("effect", "outside", "at", "next_at"),
    [
        ("refuse", "allow", datetime(2026, 12, 25, 21, tzinfo=UTC), datetime(2027, 1, 10, 23, tzinfo=UTC)),
        ("refuse", "ask", datetime(2026, 12, 25, 11, tzinfo=UTC), datetime(2027, 1, 10, 23, tzinfo=UTC)),
        ("ask", "allow", datetime(2026, 12, 25, 21, tzinfo=UTC), datetime(2027, 1, 10, 23, tzinfo=UTC)),
        ("allow", "refuse", datetime(2026, 12, 25, 21, tzinfo=UTC), datetime(2027, 1, 11, 8, tzinfo=UTC)),
    ],
)
def test_freeze_refuses_what_a_clause_lets_inside_its_window_or_outside(
    effect: str, outside: str, at: datetime, next_at: datetime
) -> None:
    year_end = {"name": "Year end", "from": "2026-12-20", "to": "2027-01-10"}
    hours = [{"from": "09:00", "to": "18:00"}]
    table = [clause(effect=effect, outside=outside, windows=hours, freezes=[year_end])]
    decision = said(table, at)
    assert (decision.effect, decision.rule, decision.next_at) == ("refuse", "freeze", next_at)
    assert said(table, next_at).effect != "refuse"


def test_freeze_that_ends_inside_a_refusing_window_waits_for_its_end() -> None:
    night = [{"days": ["sun"], "from": "22:00", "to": "06:00"}, {"days": ["mon"], "from": "05:00", "to": "08:00"}]
    frozen = {"name": "Audit", "from": "2026-03-01", "to": "2026-03-15"}  # until Sunday
    table = [clause(effect="refuse", outside="allow", windows=night, freezes=[frozen])]
    decision = said(table, SUNDAY_03)
    assert decision.next_at == datetime(2026, 3, 16, 7, tzinfo=UTC)  # 08:00 on Monday in Berlin
    assert said(table, decision.next_at).effect == "allow"
    always = [clause(effect="refuse", outside="ask", windows=[{"from": "00:00", "to": "24:00"}], freezes=[frozen])]
    assert (said(always, SUNDAY_03).rule, said(always, SUNDAY_03).next_at) == ("freeze", None)


def test_what_no_clause_mentions_is_refused_with_a_reason() -> None:
    decision = said([clause(action_classes=["read"])])
    assert (decision.effect, decision.rule, decision.clause_id) == ("refuse", "no_clause", None)
    assert "disruptive actions on srv-fs1 (server)" in decision.text
    assert decision.way_out


def test_uncovered_asset_is_refused_even_where_a_clause_allows() -> None:
    lines = [(Covers(sites=frozenset({"Warehouse"})), None), (Covers(), Covers(assets=frozenset({"srv-fs1"})))]
    assert said([clause()], lines=lines).rule == "not_covered"
    assert said([clause()], lines=lines, asset=Asset("srv-db1", "server", "Head office")).effect == "allow"


@pytest.mark.parametrize(
    ("at", "effect"),
    [
        (MONDAY_10 - timedelta(seconds=1), "refuse"),
        (MONDAY_10, "allow"),
        (MONDAY_10 + timedelta(days=1, seconds=-1), "allow"),
        (MONDAY_10 + timedelta(days=1), "refuse"),
    ],
)
def test_contract_allows_nothing_before_it_begins_or_after_it_ends(at: datetime, effect: str) -> None:
    decision = said([clause()], at, in_force=(MONDAY_10, MONDAY_10 + timedelta(days=1)))
    assert decision.effect == effect


def test_break_glass_overrides_a_refusal_and_is_recorded() -> None:
    glass = BreakGlass("Head of operations", "Ransomware is spreading")
    decision = said([clause(**NIGHT)], break_glass=glass, actor="anna")
    assert (decision.effect, decision.rule, decision.clause_id) == ("allow", "break_glass", "4.2")
    assert decision.break_glass == glass
    assert decision.overrides is not None
    assert decision.overrides.rule == "outside_window"
    assert "Ransomware is spreading" in decision.text


def test_nobody_breaks_the_glass_for_themselves_or_without_a_reason() -> None:
    assert said([], break_glass=BreakGlass("anna", "late"), actor="anna").effect == "refuse"
    with pytest.raises(Misconfigured, match="name and a reason"):
        said([], break_glass=BreakGlass("boss", "  "), actor="anna")


def test_break_glass_needs_a_contract_to_override() -> None:
    glass = BreakGlass("boss", "urgent")
    assert said([clause()], in_force=(SUNDAY_03, MONDAY_10), break_glass=glass).effect == "refuse"
    assert said([clause()], lines=[(Covers(sites=frozenset({"X"})), None)], break_glass=glass).effect == "refuse"


def test_unknown_class_of_action_is_an_error_and_not_a_refusal() -> None:
    with pytest.raises(Misconfigured, match="'reboot' is no class of action"):
        said([clause()], action="reboot")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"effect": "maybe"}, "effect must be one of allow, ask, refuse"),
        ({"action_classes": ["reboot"]}, "action_classes has 'reboot'"),
        ({"outside": "ask"}, "outside says nothing without windows"),
        ({"windows": [{"days": ["sat"], "from": "25:00", "to": "04:00"}]}, "windows 1: from must be a time"),
        ({"windows": [{"days": ["sat"], "from": "22:00"}]}, "windows 1: to is missing"),
        ({"freezes": ["Year end"]}, "names 'Year end'"),
        ({"freezes": [{"name": "x", "from": "2026-02-02", "to": "2026-02-01"}]}, "before it begins"),
        ({"zone": "Mars/Olympus"}, "zone must be a time zone"),
        ({"price": "free"}, "price must be a decimal number"),
        ({"expires_s": 0}, "expires_s must be between 1"),
        ({"id": ""}, "id must be a text"),
    ],
)
def test_clause_that_cannot_mean_what_it_says_names_its_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        clause(**fields)


def test_spring_night_window_skips_the_hour_that_does_not_exist() -> None:
    table = [clause(windows=[{"days": ["sun"], "from": "01:00", "to": "05:00"}])]
    begin = datetime(2026, 3, 29, 0, tzinfo=UTC)  # clocks go from 02:00 to 03:00
    open_for = [minute for minute in range(360) if said(table, begin + timedelta(minutes=minute)).effect == "allow"]
    assert (open_for[0], open_for[-1], len(open_for)) == (0, 179, 180)


# ---- an oracle without windows.py or clauses.py: wall-clock minutes of the raw documents ----

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ZONES = [ZoneInfo(name) for name in ("Europe/Moscow", "Asia/Tokyo", "America/Bogota", "Asia/Kathmandu")]  # no DST


def minute_of(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def oracle_open(document: dict[str, Any], local: datetime) -> bool:
    now = local.hour * 60 + local.minute
    for window in document.get("windows", []):
        begin, end = minute_of(window["from"]), minute_of(window["to"])
        today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
        if end > begin and today in window["days"] and begin <= now < end:
            return True
        if end <= begin and ((today in window["days"] and now >= begin) or (yesterday in window["days"] and now < end)):
            return True
    return False


def oracle(table: list[dict[str, Any]], action: str, asset: Asset, local: datetime) -> tuple[str, str | None]:
    skipped = None
    for document in table:
        lists = (
            (action, "action_classes"),
            (asset.kind, "asset_classes"),
            (asset.name, "assets"),
            (asset.site, "sites"),
        )
        if any(document.get(key) and value not in document[key] for value, key in lists):
            continue
        day = local.date().isoformat()
        lets = {document["effect"], document.get("outside", "refuse")} - {"refuse"}  # at whatever hour
        if lets and any(f["from"] <= day <= f["to"] for f in document.get("freezes", [])):
            return "refuse", document["id"]
        if document.get("windows") and not oracle_open(document, local):
            if document.get("outside"):
                return document["outside"], document["id"]
            if document["effect"] != "refuse" and skipped is None:
                skipped = document["id"]
            continue
        return document["effect"], document["id"]
    return "refuse", skipped


def random_clause(pick: random.Random, number: int) -> dict[str, Any]:
    def some(names: list[str], most: int) -> list[str]:
        return pick.sample(names, pick.randint(0, most))

    document: dict[str, Any] = {
        "id": f"{number}.{pick.randint(1, 9)}",
        "text": "A sentence.",
        "effect": pick.choice(["allow", "ask", "refuse"]),
        "action_classes": some(["read", "change", "disruptive", "access"], 3),
        "asset_classes": some(["server", "network", "workstation"], 2),
        "assets": some(["a1", "a2", "a3", "a4"], 3) if pick.random() < 0.3 else [],
        "sites": some(["North", "South"], 1),
    }
    if pick.random() < 0.6:
        hours = [f"{pick.randint(0, 23):02}:{pick.choice([0, 15, 30, 59]):02}" for _ in range(4)]
        document["windows"] = [
            {"days": pick.sample(DAYS, pick.randint(1, 5)), "from": begin, "to": end}
            for begin, end in ((hours[0], hours[1]), (hours[2], hours[3]))[: pick.randint(1, 2)]
        ]
        if pick.random() < 0.4:
            document["outside"] = pick.choice(["allow", "ask", "refuse"])
            if pick.random() < 0.5:  # refused in these hours, and only then
                document |= {"effect": "refuse", "outside": pick.choice(["allow", "ask"])}
    if pick.random() < 0.3:
        first = datetime(2026, pick.randint(1, 12), pick.randint(1, 28), tzinfo=UTC)
        last = first + timedelta(days=pick.randint(0, 60))
        document["freezes"] = [{"name": "F", "from": f"{first:%Y-%m-%d}", "to": f"{last:%Y-%m-%d}"}]
    return document


def test_a_thousand_random_cases_agree_with_the_oracle() -> None:
    pick = random.Random(20260315)
    differences, effects, frozen_outside = [], set(), 0
    for case in range(1000):
        table = [random_clause(pick, number) for number in range(pick.randint(0, 6))]
        asset = Asset(pick.choice(["a1", "a2", "a3"]), pick.choice(["server", "network"]), pick.choice(["North", None]))
        action, zone = pick.choice(["read", "change", "disruptive", "access"]), pick.choice(ZONES)
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=pick.randint(0, 525_000))
        freezes = [freeze for document in table for freeze in document.get("freezes", [])]
        if freezes and pick.random() < 0.8:  # on the first or the last day of one, in UTC
            day = datetime.fromisoformat(pick.choice(freezes)[pick.choice(["from", "to"])])
            at = day.replace(tzinfo=UTC) + timedelta(minutes=pick.randint(0, 1439))
        found = decide([clause(**document) for document in table], action_class=action, asset=asset, at=at, zone=zone)
        expected = oracle(table, action, asset, at.astimezone(zone))
        effects.add((found.effect, found.rule))
        if (found.effect, found.clause_id) != expected:
            differences.append((case, (found.effect, found.clause_id), expected))
        if found.effect == "refuse" and found.next_at is not None:
            later = decide([clause(**d) for d in table], action_class=action, asset=asset, at=found.next_at, zone=zone)
            assert later.rule != "freeze" or later.clause_id != found.clause_id
        if found.rule == "freeze":
            one = next(document for document in table if document["id"] == found.clause_id)
            frozen_outside += one["effect"] == "refuse"
            if found.next_at is not None:
                alone = decide([clause(**one)], action_class=action, asset=asset, at=found.next_at, zone=zone)
                assert alone.effect != "refuse", (case, one, found.next_at)
    assert differences == []
    assert len(effects) >= 6  # the cases reached every way to decide
    assert frozen_outside >= 5


def test_a_decision_takes_less_than_a_millisecond() -> None:
    table = [clause(**NIGHT | {"id": str(number), "assets": [f"srv-{number}"]}) for number in range(50)] + [
        clause(**NIGHT, outside="ask")
    ]
    begin = time.process_time()
    for _ in range(200):
        said(table)
    assert (time.process_time() - begin) / 200 < 0.001


def test_approval_covers_exactly_playbook_parameters_and_hosts() -> None:
    digest = approval_digest("abc", {"path": "/var", "size": 3}, ["b", "a"])
    assert digest == approval_digest("abc", {"size": 3, "path": "/var"}, ["a", "b", "a"])
    assert not approval_void(digest, "abc", {"size": 3, "path": "/var"}, ["a", "b"])
    assert approval_void(digest, "abd", {"size": 3, "path": "/var"}, ["a", "b"])
    assert approval_void(digest, "abc", {"size": 4, "path": "/var"}, ["a", "b"])
    assert approval_void(digest, "abc", {"size": 3, "path": "/var"}, ["a", "b", "c"])
    with pytest.raises(Misconfigured, match="cannot be approved"):
        approval_digest("abc", {"when": MONDAY_10}, ["a"])


def test_approval_holds_until_exactly_its_end() -> None:
    assert not approval_expired(MONDAY_10, 3600, MONDAY_10 + timedelta(hours=1))
    assert approval_expired(MONDAY_10, 3600, MONDAY_10 + timedelta(hours=1, microseconds=1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 525_000), st.sampled_from(DAYS), st.integers(0, 23), st.integers(0, 23))
def test_the_next_window_named_by_a_refusal_is_open(minute: int, day: str, begin: int, end: int) -> None:
    table = [clause(windows=[{"days": [day], "from": f"{begin:02}:00", "to": f"{end:02}:30"}])]
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    decision = said(table, at)
    if decision.effect == "refuse" and decision.next_at is not None:
        assert decision.next_at > at
        assert said(table, decision.next_at).effect == "allow"
