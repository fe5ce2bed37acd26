"""The terms of a contract version: the document that was signed, read strictly. Pure.

A document says everything a clock, a decision or a bill needs: calendars, lines with targets and prices, clauses,
and how often a restore must be proven. It never changes; an amendment is another document. An unknown key is an
error, because a promise that nobody reads is not kept.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from msp.contracts import clauses as by_clause
from msp.contracts import lines as by_line
from msp.contracts.calendar import parse as parse_calendar
from msp.contracts.clauses import BreakGlass, Clause, Decision, parse_clause
from msp.contracts.covers import Asset, Facts
from msp.contracts.fields import REQUIRED, Fields, parse_zone, unique
from msp.contracts.lines import Line, parse_line, parse_vat
from msp.contracts.money import minor_units
from msp.contracts.vat import VatTerms
from msp.contracts.windows import Freeze, parse_freeze
from msp.errors import Misconfigured

KEYS = frozenset({"currency", "zone", "calendars", "lines", "clauses", "freezes", "vat", "restore"})


@dataclass(frozen=True, slots=True)
class Restore:
    """How often a backup is proven by a restore, how old it may be (RPO) and how long it may take (RTO): seconds."""

    proof_every_s: int
    rpo_s: int | None = None
    rto_s: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed. `calendars` are documents as calendar.py reads them; `zone` None is the client's."""

    currency: str
    lines: tuple[Line, ...]
    clauses: tuple[Clause, ...] = ()
    calendars: Mapping[str, Any] = field(default_factory=dict)
    freezes: tuple[Freeze, ...] = ()
    vat: VatTerms | None = None
    restore: Restore | None = None
    zone: ZoneInfo | None = None

    def line(self, line_id: str) -> Line | None:
        """Return the line of an id, or None."""
        return next((line for line in self.lines if line.id == line_id), None)

    @property
    def assets(self) -> frozenset[str]:
        """The assets that are named anywhere: by a clause, or by what a line covers or leaves out."""
        covers = [one for line in self.lines for one in (line.covers, line.excludes) if one is not None]
        return frozenset().union(*(clause.assets for clause in self.clauses), *(one.assets for one in covers))

    def decide(
        self,
        *,
        action_class: str,
        asset: Asset,
        at: datetime,
        zone: ZoneInfo,
        actor: str = "",
        in_force: tuple[datetime, datetime | None] | None = None,
        break_glass: BreakGlass | None = None,
    ) -> Decision:
        """Return what these terms say of an action on an asset; see clauses.decide."""
        return by_clause.decide(
            self.clauses,
            action_class=action_class,
            asset=asset,
            at=at,
            zone=self.zone or zone,
            actor=actor,
            in_force=in_force,
            lines=[(line.covers, line.excludes) for line in self.lines],
            break_glass=break_glass,
        )


def line_for(
    terms: Terms,
    *,
    service: str | None = None,
    role: str | None = None,
    site: str | None = None,
    asset: str | None = None,
    asset_class: str | None = None,
    work: str | None = None,
) -> Line | None:
    """Return the first line that covers the work and does not exclude it, else the first for time and materials.

    All are names; work is "remote" or "onsite". What is not known (None) limits nothing. None if no line takes it.
    """
    facts = Facts(service, role, site, asset, asset_class, work)
    allowed = [line for line in terms.lines if not (line.excludes and line.excludes.denies(facts))]
    covering = (line for line in allowed if line.covers.holds(facts))
    return next(covering, None) or next((line for line in allowed if line.kind == "t_and_m"), None)


def parse(document: Any) -> Terms:
    """Return the terms of a document; raises Misconfigured with every problem, one sentence each."""
    terms, found = _read(document)
    if terms is None or found:
        raise Misconfigured(" ".join(found), advice="Mend the terms and check them again.")
    return terms


def problems(document: Any) -> list[str]:
    """Return what is wrong with a document, a sentence for each part of it; empty if it can be signed."""
    return _read(document)[1]


def plain(document: Any) -> Any:
    """Return the document in JSON's own types, with decimals as text: what is stored and digested."""
    return json.loads(json.dumps(document, ensure_ascii=False, default=_plain, allow_nan=False))


def digest(document: Any) -> str:
    """Return the SHA-256 over the canonical JSON of a terms document: key order and spaces do not matter."""
    text = json.dumps(plain(document), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two versions differ. `path` like "lines[L1].rate"; None where a version has nothing."""

    path: str
    old: Any
    new: Any


def differences(old: Any, new: Any) -> tuple[Difference, ...]:
    """Return where two terms documents differ, in the order of the old one, then what the new one adds.

    Items of a list that have an `id` or a `name` are compared by it; a change of their order is a difference too.
    """
    return tuple(_differences(plain(old), plain(new), ""))


def _read(document: Any) -> tuple[Terms | None, list[str]]:
    """Return the terms, and the problems of each part; only terms without problems may be used."""
    found: list[str] = []
    try:
        top = Fields(document, "", KEYS)
        currency = _currency(top)
        calendars = top.object("calendars")
        names: Mapping[str, Any] = calendars.value if calendars else {}
        for name, calendar in names.items():
            with _noting(found):
                parse_calendar(calendar, where=f"calendars: {name}", strict=True)
        freezes: dict[str, Freeze] = {}
        for item in top.objects("freezes", ("name", "from", "to")):
            with _noting(found):
                freeze = parse_freeze(item)
                unique([*freezes, freeze.name], "The freeze")
                freezes[freeze.name] = freeze
            named = item.value.get("name")
            if isinstance(named, str) and named not in freezes:  # told above; the clauses that name it are not wrong
                freezes[named] = Freeze(named, date.min, date.min)
        lines: list[Line] = []
        for item in top.objects("lines", default=REQUIRED):
            with _noting(found):
                lines.append(parse_line(Fields(item.value, item.where, by_line.KEYS), currency, names))
                unique((line.id for line in lines), "The line")
        clauses: list[Clause] = []
        for item in top.objects("clauses"):
            with _noting(found):
                clauses.append(parse_clause(Fields(item.value, item.where, by_clause.KEYS), freezes))
                unique((clause.id for clause in clauses), "The clause")
        if not top.items("lines"):
            raise Misconfigured("lines is empty; a contract needs at least one line.")
        return (
            Terms(
                currency=currency,
                lines=tuple(lines),
                clauses=tuple(clauses),
                calendars=dict(names),
                freezes=tuple(freezes.values()),
                vat=parse_vat(top.object("vat", ("mode", "rates"))),
                restore=_restore(top.object("restore", ("proof_every_s", "rpo_s", "rto_s"))),
                zone=parse_zone(top.value["zone"], "zone") if "zone" in top else None,
            ),
            found,
        )
    except Misconfigured as error:
        found.append(_sentence(error))
        return None, found


@contextmanager
def _noting(found: list[str]) -> Iterator[None]:
    """Note what is misconfigured in this part, so that the next part is still read."""
    try:
        yield
    except Misconfigured as error:
        found.append(_sentence(error))


def _sentence(error: Misconfigured) -> str:
    return " ".join(filter(None, (error.what, error.advice)))


def _currency(top: Fields) -> str:
    code: str = top.text("currency")
    minor_units(code)
    return code


def _restore(fields: Fields | None) -> Restore | None:
    if fields is None:
        return None
    every, rpo, rto = (fields.whole(key, default, least=1) for key, default in _RESTORE)
    return Restore(every, rpo, rto)


_RESTORE = (("proof_every_s", REQUIRED), ("rpo_s", None), ("rto_s", None))


def _differences(old: Any, new: Any, path: str) -> Iterator[Difference]:
    if isinstance(old, list) and isinstance(new, list):
        if (left := _named(old)) is None or (right := _named(new)) is None:
            if old != new:
                yield Difference(path, old, new)
            return
        common = [name for name in left if name in right]
        if common != [name for name in right if name in left]:
            yield Difference(f"{path} order", list(left), list(right))
        for name in [*left, *(name for name in right if name not in left)]:
            yield from _differences(left.get(name), right.get(name), f"{path}[{name}]")
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield Difference(path, old, new)


def _named(items: list[Any]) -> dict[str, Any] | None:
    """Return the items by their id or name, or None if they have none."""
    names = [str(item.get("id") or item.get("name") or "") if isinstance(item, dict) else "" for item in items]
    return dict(zip(names, items, strict=True)) if all(names) and len(set(names)) == len(names) else None


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    raise Misconfigured(f"{value!r} is no JSON value.")
