"""The story of a ticket as its client reads it: the public entries of the log alone, in the viewer's words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from flask import url_for
from flask_babel import gettext

from msp.desk.models import TicketEvent
from msp.remote.models import Run
from msp_web import language, portal_words, words

#: kind of an entry -> icon
ICONS = {
    "created": "ticket",
    "customer_message": "message",
    "agent_reply": "send",
    "auto_reply": "send",
    "call_by_agent": "phone",
    "run": "terminal-2",
    "playbook_run": "terminal-2",
    "console": "device-desktop",
    "approval": "rubber-stamp",
    "visit": "truck",
    "onsite_requested": "truck",
    "arrived": "map-pin",
    "no_access": "lock",
    "proof": "shield-check",
    "rated": "star",
    "priority": "flag",
}
MESSAGES = frozenset({"created", "customer_message", "agent_reply", "auto_reply", "call_by_agent"})
#: Kinds that the product writes in its own words; we say the same in the viewer's.
TOLD = frozenset({"run", "playbook_run", "approval"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the story. `mine`: the client's own people said it. `state`: (vocabulary, value) of a badge."""

    at: datetime
    icon: str
    who: str
    title: str
    text: str = ""
    mine: bool = False
    message: bool = False
    href: str | None = None
    state: tuple[str, str] | None = None
    anchor: str = ""


def of(log: Iterable[TicketEvent], runs: Mapping[int, Run], names: Mapping[str, str], own: set[str]) -> list[Entry]:
    """Return the public entries in order. names: log-in -> name. own: log-ins of the client's people."""
    return [_entry(one, runs, names, own) for one in log if one.public]


def _entry(one: TicketEvent, runs: Mapping[int, Run], names: Mapping[str, str], own: set[str]) -> Entry:
    run = runs.get(number) if isinstance(number := one.data.get("run"), int) else None
    title, state, href = _said(one, run)
    machine = one.actor in portal_words.MACHINES
    told = run is not None and one.kind in TOLD
    return Entry(
        at=one.at,
        icon=ICONS.get(one.kind, "history"),
        who=portal_words.who(one.actor, names),
        title=title,
        text="" if told or (machine and one.kind == "state") else language.said(one.text) if machine else one.text,
        mine=one.actor in own,
        message=one.kind in MESSAGES,
        href=href,
        state=state,
        anchor=f"entry-{one.seq}",
    )


def _said(one: TicketEvent, run: Run | None) -> tuple[str, tuple[str, str] | None, str | None]:
    """Return (title, badge, address) of an entry."""
    to = str(one.data.get("to", ""))
    if run is not None:
        state = ("run_state", str(one.data.get("state", run.state)))
        href = url_for("portal.approval", run_id=run.id) if run.decision.get("effect") == "ask" else None
        return gettext("remote action: %(playbook)s", playbook=run.playbook), state, href
    match one.kind:
        case "created":
            return gettext("ticket opened"), None, None
        case "customer_message":
            return gettext("message to us"), None, None
        case "agent_reply" | "auto_reply":
            return gettext("answer"), None, None
        case "call_by_agent":
            return gettext("call"), None, None
        case "state":
            return gettext("it is now"), ("ticket_state", to), None
        case "priority":
            return gettext("priority"), ("priority", to), None
        case "visit" | "onsite_requested":
            return gettext("a visit is needed"), None, url_for("portal.visits")
        case "arrived":
            return gettext("technician on site"), None, None
        case "rated":
            return gettext("rating: %(stars)s of 5", stars=one.data.get("stars")), None, None
        case "no_access":
            return gettext("the technician was not let in"), None, None
        case "proof":
            return gettext("restore test of the backup"), None, url_for("portal.backups")
    return words.word("ticket_event", one.kind), None, None
