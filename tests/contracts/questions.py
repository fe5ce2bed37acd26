"""Every kind of clock question with the answer that painting minutes gives; shares no code with the product."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.contracts import oracle

BEFORE, DAYS = 4, 18  # days painted before the day asked about, and in all
KINDS = ("deadline", "deadline_backward", "elapsed", "open", "next_open", "next_close", "periods", "warn_before")


def printed(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Painted:
    """The open minutes of a calendar document around a day. Every answer is None where the painting ends."""

    def __init__(self, document: dict[str, Any], day: date) -> None:
        self.minutes = oracle.open_minutes(document, day - timedelta(days=BEFORE), DAYS)
        noon = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())
        self.noon, self.first, self.last = noon, noon - 2 * 86400, noon + 10 * 86400  # whole within these
        self.runs: list[tuple[int, int]] = []
        for minute in sorted(self.minutes):
            if self.runs and self.runs[-1][1] == minute * 60:
                self.runs[-1] = (self.runs[-1][0], minute * 60 + 60)
            else:
                self.runs.append((minute * 60, minute * 60 + 60))

    def following(self, at: int) -> list[tuple[int, int]]:
        """The open runs that end after `at`, the current one from `at` on, as far as they are wholly painted."""
        return [(max(a, at), b) for a, b in self.runs if b > at and b < self.last]

    def answer(self, kind: str, given: dict[str, Any]) -> dict[str, Any] | None:
        start, seconds = given.get("start", given.get("at", 0)), given.get("seconds", 0)
        pauses = given.get("pauses", ())
        match kind:
            case "deadline":
                return self._at("due", oracle.deadline(self.minutes, start, seconds, pauses))
            case "warn_before":
                if given["warn_seconds"] >= seconds:
                    return {"at": printed(start)}
                return self._at("at", oracle.deadline(self.minutes, start, seconds - given["warn_seconds"]))
            case "deadline_backward":
                return self._at("at", self._backward(given["end"], seconds))
            case "elapsed":
                cut = [(max(a, start), min(b, given["end"])) for a, b in pauses]
                lost = sum(oracle.counted(self.minutes, a, b) for a, b in _joined(cut))
                return {"seconds": oracle.counted(self.minutes, start, given["end"]) - lost}
            case "open":
                return {"open": start // 60 in self.minutes}
            case "periods":
                found = self.following(start)[: given["count"]]
                whole = len(found) == given["count"]
                return {"periods": [[printed(a), printed(b)] for a, b in found]} if whole else None
        found = self.following(start)[:1]
        if not found:
            return None
        return {"at": printed(found[0][0 if kind == "next_open" else 1])}

    def _at(self, key: str, second: int | None) -> dict[str, Any] | None:
        inside = second is not None and self.first < second < self.last
        return {key: printed(second)} if inside and second is not None else None

    def _backward(self, end: int, seconds: int) -> int | None:
        at = end
        while at > self.first:
            minute = (at - 1) // 60
            begin = minute * 60
            if minute in self.minutes:
                if at - begin >= seconds:
                    return at - seconds
                seconds -= at - begin
            at = begin
        return None


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    seconds: list[tuple[int, int]] = []
    for a, b in sorted(spans):
        if seconds and a <= seconds[-1][1]:
            seconds[-1] = (seconds[-1][0], max(b, seconds[-1][1]))
        elif a < b:
            seconds.append((a, b))
    return seconds


def asked(painted: Painted, start: int, dice: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every kind of question about one second, with lengths and pauses at random."""
    seconds = dice.choice([1, 60, 3600, dice.randrange(1, 12 * 3600)])
    edges = sorted(start + dice.randrange(-7200, 20000) for _ in range(4))
    pauses = [(edges[1], edges[3]), (edges[0], edges[2])]  # they overlap, and come in the wrong order
    yield "deadline", {"start": start, "seconds": seconds}
    yield "deadline", {"start": start, "seconds": min(seconds, 7200), "pauses": pauses}
    yield "deadline_backward", {"end": start, "seconds": seconds}
    yield "elapsed", {"start": start, "end": start + dice.randrange(-3600, 2 * 86400), "pauses": pauses}
    yield "warn_before", {"start": start, "seconds": seconds, "warn_seconds": dice.choice([0, 60, 3600])}
    yield "open", {"at": start}
    yield "next_open", {"at": start}
    yield "next_close", {"at": start}
    yield "periods", {"start": start, "count": dice.randrange(1, 4)}


def cases(
    name: str, document: dict[str, Any], painted: Painted, starts: Sequence[int], dice: random.Random
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield (case as `msp sla eval` reads it, wanted result), for every kind about each of `starts`."""
    for start in starts:
        for kind, given in asked(painted, start, dice):
            if kind == "elapsed" and given["end"] <= given["start"]:
                wanted: dict[str, Any] | None = {"seconds": 0}
            else:
                wanted = painted.answer(kind, given)
            if wanted is None:
                continue
            ident = f"{name} {kind} {given}"
            shown = {key: _shown(key, value) for key, value in given.items()}
            yield {"id": ident, "kind": kind, "calendar": name, "input": shown}, {"id": ident, **wanted}


def _shown(key: str, value: Any) -> Any:
    if key in ("start", "end", "at"):
        return printed(value)
    if key == "pauses":
        return [[printed(a), printed(b)] for a, b in value]
    return value


def starts_near(painted: Painted, dice: random.Random, count: int) -> list[int]:
    """Seconds within some days, a third of them at an edge of an open run."""
    found = []
    for _ in range(count):
        start = painted.noon + dice.randrange(-86400, 3 * 86400)
        if painted.runs and dice.random() < 0.3:
            start = dice.choice(dice.choice(painted.runs)) + dice.choice([-1, 0, 0, 1])
        if painted.first < start < painted.last - 5 * 86400:
            found.append(start)
    return found
