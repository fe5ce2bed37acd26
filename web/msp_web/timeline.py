"""The story of a ticket: its log, its runs, approvals, visits and proofs as one list, newest last."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import url_for
from flask_babel import gettext, lazy_gettext

from msp.backup.models import RestoreTest
from msp.desk.models import TicketEvent
from msp.dispatch.models import Appointment, WorkOrder
from msp.remote.models import Approval, Run
from msp_web import language, words
from msp_web.portal_words import MACHINES

#: group -> (icon, words): the chips by which the story is narrowed.
GROUPS: dict[str, tuple[str, Any]] = {
    "message": ("messages", lazy_gettext("messages")),
    "note": ("note", lazy_gettext("notes")),
    "run": ("terminal-2", lazy_gettext("runs")),
    "console": ("device-desktop", lazy_gettext("consoles")),
    "approval": ("rubber-stamp", lazy_gettext("approvals")),
    "visit": ("truck", lazy_gettext("visits")),
    "proof": ("shield-check", lazy_gettext("proofs")),
    "change": ("history", lazy_gettext("changes")),
}

#: kind of a log entry -> (group, icon)
KINDS: dict[str, tuple[str, str]] = {
    "created": ("message", "ticket"),
    "customer_message": ("message", "mail"),
    "agent_reply": ("message", "send"),
    "auto_reply": ("message", "send"),
    "call_by_agent": ("message", "phone"),
    "playbook_run": ("run", "terminal-2"),
    "onsite_requested": ("visit", "truck"),
    "no_access": ("visit", "lock"),
    "arrived": ("visit", "map-pin"),
}
#: kinds that other rooms append to a log, by how their names begin
PREFIXES = {
    "run": "run",
    "playbook": "run",
    "console": "console",
    "approval": "approval",
    "visit": "visit",
    "work_order": "visit",
    "restore": "proof",
    "proof": "proof",
    "backup": "proof",
}


#: kinds whose text a person wrote
OWN_WORDS = frozenset({"created", "customer_message", "agent_reply", "call_by_agent", "rated", "rebased", "line"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the story. `state` is (vocabulary, value) of a badge; `public`: the client may read it."""

    at: datetime
    group: str
    icon: str
    who: str
    title: str
    text: str = ""
    public: bool = False
    href: str | None = None
    state: tuple[str, str] | None = None
    anchor: str = ""


def of(
    log: Iterable[TicketEvent],
    runs: Sequence[Run] = (),
    approvals: Iterable[Approval] = (),
    orders: Sequence[WorkOrder] = (),
    visits: Iterable[Appointment] = (),
    tests: Iterable[RestoreTest] = (),
) -> list[Entry]:
    """Return everything in order of time; a run or visit that the log tells of is not told twice."""
    by_run = {run.id: run for run in runs}
    found = [_of_log(entry, by_run) for entry in log]
    told = {entry.href for entry in found}
    by_order = {order.id: order for order in orders}
    found += [entry for run in runs if (entry := _of_run(run)).href not in told]
    found += [_of_approval(one, by_run[one.run_id]) for one in approvals if one.run_id in by_run]
    found += [entry for order in orders if (entry := _of_order(order)).href not in told]
    found += [_of_visit(one, by_order[one.work_order_id]) for one in visits if one.work_order_id in by_order]
    found += [entry for test in tests if (entry := _of_test(test)).href not in told]
    return sorted(found, key=lambda entry: entry.at)


def _of_log(entry: TicketEvent, runs: Mapping[int, Run]) -> Entry:
    data = entry.data
    group, icon = KINDS.get(entry.kind, ("", "history"))
    if not group:
        group = next((to for start, to in PREFIXES.items() if entry.kind.startswith(start)), "change")
        icon = GROUPS[group][0]
    if entry.kind == "agent_reply" and data.get("internal"):
        group, icon = "note", "note"
    run = runs.get(data.get("run_id") or data.get("run") or 0)
    decision = run.decision if run else None
    href = None
    for key, endpoint, name in (
        ("run_id", "runs.show", "run_id"),
        ("run", "runs.show", "run_id"),
        ("console", "consoles.show", "console_id"),
        ("work_order_id", "dispatch.show", "work_order_id"),
        ("work_order", "dispatch.show", "work_order_id"),
        ("restore_test_id", "backups.test", "test_id"),
        ("restore_test", "backups.test", "test_id"),
    ):
        if isinstance(data.get(key), int):
            href = href or url_for(endpoint, **{name: data[key]})
    return Entry(
        entry.at,
        group,
        icon,
        entry.actor,
        _title(entry),
        entry.text if entry.kind in OWN_WORDS and entry.actor not in MACHINES else language.said(entry.text, decision),
        public=entry.public,
        href=href,
        anchor=f"event-{entry.seq}",
    )


def _title(entry: TicketEvent) -> str:
    """Return a log entry in words."""
    to = entry.data.get("to")
    title: str = words.word("ticket_event", entry.kind)
    match entry.kind:
        case "created":
            title = gettext("opened by %(channel)s", channel=words.word("channel", entry.data.get("channel", "")))
        case "customer_message":
            title = gettext("message from the client")
        case "agent_reply":
            title = gettext("note") if entry.data.get("internal") else gettext("reply to the client")
        case "auto_reply":
            title = gettext("automatic reply")
        case "call_by_agent":
            title = gettext("call to the client")
        case "playbook_run":
            title = gettext("playbook run")
        case "state":
            title = gettext("state: %(state)s", state=str(words.badge_of("ticket_state", to).word))
        case "priority":
            title = gettext("priority: %(priority)s", priority=str(words.badge_of("priority", to).word))
        case "line":
            title = gettext("handed over to %(line)s", line=f"{to} ({words.word('line', to)})")
        case "assigned":
            title = gettext("assigned to %(who)s", who=to) if to else gettext("assigned to nobody")
        case "onsite_requested":
            title = gettext("visit requested")
        case "no_access":
            title = gettext("the technician was not let in")
        case "arrived":
            title = gettext("technician on site")
    return title


def _of_run(run: Run) -> Entry:
    title = gettext("run %(number)s: %(playbook)s", number=run.id, playbook=run.playbook)
    href, state = url_for("runs.show", run_id=run.id), ("run_state", run.state)
    return Entry(run.requested_at, "run", "terminal-2", run.actor, title, href=href, state=state)


def _of_approval(one: Approval, run: Run) -> Entry:
    title = gettext("approval of %(playbook)s: %(who)s", playbook=run.playbook, who=one.rule)
    href, state = url_for("runs.show", run_id=run.id), ("approval", one.decision or "pending")
    who = one.decided_by or run.actor
    return Entry(
        one.decided_at or one.requested_at, "approval", "rubber-stamp", who, title, one.reason, False, href, state
    )


def _of_order(order: WorkOrder) -> Entry:
    href, state = url_for("dispatch.show", work_order_id=order.id), ("visit_state", order.state)
    title, reason = language.said(order.summary), language.said(order.reason)
    return Entry(order.created_at, "visit", "truck", "", title, reason, False, href, state)


def _of_visit(visit: Appointment, order: WorkOrder) -> Entry:
    href, state = url_for("dispatch.show", work_order_id=order.id), ("visit_state", visit.state)
    return Entry(visit.starts_at, "visit", "calendar-event", "", gettext("visit"), "", False, href, state)


def _of_test(test: RestoreTest) -> Entry:
    title = gettext("restore test %(number)s", number=test.id)
    href = url_for("backups.test", test_id=test.id)
    return Entry(
        test.started_at, "proof", "shield-check", "", title, "", False, href, ("verdict", test.verdict or "running")
    )
