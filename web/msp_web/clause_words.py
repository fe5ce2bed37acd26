"""What a clause says, in the reader's words: in short parts beside its text, and as a sentence while it is edited."""

from collections.abc import Mapping
from typing import Any

from flask_babel import gettext

from msp.contracts.clauses import KEYS, Clause, parse_clause
from msp.contracts.fields import Fields
from msp.contracts.windows import Window, parse_freeze
from msp.errors import Misconfigured
from msp_web import language
from msp_web.filters import day, duration, money
from msp_web.words import badge_of, word
from msp_web.words_of_work import seconds

_DAY = 1440


def clock_time(minute: int) -> str:
    """Return minutes after midnight as a clock shows them; 24:00 is the end of the day."""
    return f"{minute // 60 if minute <= _DAY else minute // 60 % 24:02d}:{minute % 60:02d}"


def window(one: Window) -> str:
    """Return a weekly window: "Mon Tue 20:00–05:00"."""
    days = " ".join(word("weekday_short", number) for number in sorted(one.weekdays))
    return f"{days} {clock_time(one.begins)}–{clock_time(one.ends)}"


def parts(clause: Clause, currency: str) -> list[str]:
    """Return when and under what a clause holds, in short parts."""
    found = []
    if clause.action_classes:
        actions = ", ".join(word("action_class", one) for one in sorted(clause.action_classes))
        found.append(gettext("actions: %(actions)s", actions=actions))
    things = sorted(clause.assets) or [word("asset_kind", kind) for kind in sorted(clause.asset_classes)]
    if things:
        found.append(gettext("on: %(things)s", things=", ".join(things)))
    if clause.sites:
        found.append(gettext("at: %(sites)s", sites=", ".join(sorted(clause.sites))))
    found += [window(one) for one in clause.windows]
    if clause.outside:
        found.append(gettext("outside: %(effect)s", effect=word("effect", clause.outside)))
    for one in clause.freezes:
        found.append(
            gettext("never from %(first)s to %(last)s: %(why)s", first=day(one.first), last=day(one.last), why=one.name)
        )
    if "ask" in (clause.effect, clause.outside):
        found.append(gettext("asked: %(who)s", who=word("approver", clause.approver)))
    if clause.consent:
        found.append(gettext("the person at the machine is asked too"))
    if clause.price is not None:
        found.append(money(clause.price, currency))
    return found


def sentence(document: Mapping[str, Any], currency: str, freezes: list[Any]) -> str:
    """Return what a clause in the making would say, or what is wrong with it.

    document: the clause as fields make it. freezes: those of the terms, as documents; broken ones are passed over.
    """
    known = {}
    for item in freezes:
        try:
            freeze = parse_freeze(Fields(item, "freezes", ("name", "from", "to")))
        except Misconfigured:
            continue  # told beside its own field
        known[freeze.name] = freeze
    named = [one for one in document.get("freezes", []) if not isinstance(one, str) or one in known]
    try:
        clause = parse_clause(Fields({**document, "freezes": named}, "", KEYS), known)
    except Misconfigured as error:
        return language.explained(error)
    effect = str(badge_of("decision", clause.effect).word)
    if not clause.action_classes:
        effect = gettext("every action is %(effect)s", effect=effect)
    told = "; ".join([effect, *parts(clause, currency)])
    if "ask" in (clause.effect, clause.outside):
        told += "; " + gettext("a yes is good for %(time)s", time=duration(seconds(clause.expires_s)))
    return told[0].upper() + told[1:] + "."
