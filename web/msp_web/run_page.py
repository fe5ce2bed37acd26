"""What the page of one run shows: what was decided, hosts x steps, the chosen cell, the log."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import current_app, request
from flask_babel import gettext
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from msp import events
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.desk.models import Ticket
from msp.dispatch.models import WorkOrder
from msp.engine import claims
from msp.errors import MspError, NotFound
from msp.flows import approving
from msp.people.access import may
from msp.remote import catalogue
from msp.remote.models import Approval, Run, RunHost, StepResult
from msp.remote.output import shown
from msp_web import matrix, run_output, run_pictures, ticket_page
from msp_web.access import actor, scoped, visible
from msp_web.views.desk import number_of
from msp_web.words import BADGES, WORDS

HOSTS = 200  # rows of one page of the matrix
LOG = 400  # lines of the log that a page shows at once
PORTION = 10  # events that are read at once for them
ENDED = frozenset({"succeeded", "failed", "in_doubt", "cancelled", "refused", "expired"})
AGAIN = frozenset(
    {"failed", "killed", "unreachable", "auth_failed", "not_started", "cancelled", "host_key_unknown"}
)  # hosts on which a run can be repeated


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a run's log: of the `run` itself, of a `step` of a host, or of the end of a `host`."""

    at: datetime
    of: str
    said: Mapping[str, Any]


def own() -> str:
    """Return the folder of the installation's own playbooks."""
    return str(current_app.config["MSP_SETTINGS"].playbooks or "")


def head(session: Session, run: Run) -> dict[str, Any]:
    """Return what stands above the matrix: who, what the contract said, who must or did approve."""
    asked = session.scalar(
        visible(select(Approval), Approval).where(Approval.run_id == run.id).order_by(Approval.id.desc()).limit(1)
    )
    outcomes = select(RunHost.outcome, RunHost.state, func.count()).where(RunHost.run_id == run.id)
    counted: dict[str, int] = {}
    for outcome, state, count in session.execute(outcomes.group_by(RunHost.outcome, RunHost.state)):
        name = outcome or ("running" if state == "running" else "waiting")
        counted[name] = counted.get(name, 0) + count
    order = session.scalar(visible(select(WorkOrder), WorkOrder).where(WorkOrder.run_id == run.id))
    decides = approving.RIGHTS.get(asked.rule, "portal.approve") if asked else ""
    return {
        "run": run,
        "client": session.get(Client, run.client_id) if run.client_id else None,
        "ticket": session.get(Ticket, run.ticket_id) if run.ticket_id else None,
        "asked": asked,
        "may_decide": bool(asked) and run.state == "awaiting_approval" and may(actor(), decides, run.client_id),
        "counted": dict(sorted(counted.items(), key=lambda pair: matrix.rank(pair[0]))),
        "again": sum(count for outcome, count in counted.items() if outcome in AGAIN),
        "order": order,
        "ended": run.state in ENDED,
        "elapsed": ((run.finished_at or utc_now()) - run.started_at) if run.started_at else None,
        "longest": longest_of(run),
        "names": ticket_page.people_of(
            session, [run.actor, *([asked.decided_by] if asked and asked.decided_by else [])]
        ),
    }


def longest_of(run: Run) -> Any:
    """Return the time within which a host must be done, or None if the playbook does not read any more."""
    try:
        book = catalogue.kept(run.document).playbook
    except MspError:
        return None
    return book.limits.run or book.limits.connect + len(book.steps) * book.limits.step


def planned_steps(run: Run) -> dict[int, str]:
    """Return the steps of the playbook as it ran by number, as far as they are known before it ran."""
    try:
        book = catalogue.kept(run.document).playbook
    except MspError:
        return {}
    if any(step.loop is not None or step.do.kind == "include" for step in book.steps):
        return {}  # numbers are known once loops and inclusions are unrolled
    return {number: step.name or step.do.kind for number, step in enumerate(book.steps, 1)}


def grid(session: Session, run: Run) -> dict[str, Any]:
    """Return one page of hosts x steps, the gravest first."""
    order = case(
        *((RunHost.outcome.in_(sorted(kinds)), place) for place, kinds in enumerate(matrix.RANKS)),
        (RunHost.outcome.is_not(None), len(matrix.RANKS)),
        (RunHost.state == "running", 2),
        else_=4,
    )
    query = visible(select(RunHost), RunHost).where(RunHost.run_id == run.id)
    if wanted := request.args.get("outcome", ""):
        query = query.where(RunHost.outcome == wanted)
    start = number_of(request.args.get("from")) or 0
    hosts = list(session.scalars(query.order_by(order, RunHost.position).offset(start).limit(HOSTS + 1)))
    results = select(StepResult).where(StepResult.run_host_id.in_([host.id for host in hosts[:HOSTS]]))
    found = list(session.scalars(visible(results, StepResult)))
    columns = matrix.columns_of(found, planned_steps(run))
    return {
        "columns": columns,
        "rows": matrix.rows_of(hosts[:HOSTS], found, columns),
        "more": start + HOSTS if len(hosts) > HOSTS else None,
        "doubtful": any(matrix.rank(matrix.outcome_of(host)) == 0 for host in hosts),
    }


def chosen_cell(session: Session, run: Run, host_id: int | None = None) -> dict[str, Any]:
    """Return the phases of the cell that the address names."""
    number = host_id or number_of(request.args.get("host"))
    step = number_of(request.args.get("step"))
    host = None
    if number:
        host = scoped(session, RunHost, number)
        if host.run_id != run.id:
            raise NotFound("This run has no such host.", advice="Choose one of the rows.")
    if host is None:
        return {"host": None, "phases": [], "step": None, "run": run, "doubts": [], "printing": []}
    query = visible(select(StepResult), StepResult).where(StepResult.run_host_id == host.id)
    if step is not None:
        query = query.where(StepResult.step == step)
    doubts = [one for one in claims.in_doubt(session, run_id=run.id) if one.host_id == host.id]
    phases = list(session.scalars(query.order_by(StepResult.step, StepResult.started_at, StepResult.id).limit(40)))
    ended = {(one.step, one.phase, one.attempt) for one in phases}
    return {
        "host": host,
        "phases": [(one, streams_of(one)) for one in phases],
        "printing": [
            place
            for place in ([] if run.finished_at else run_output.files_of(run.id, host.position))
            if place[:3] not in ended and step in (None, place[0])
        ],
        "step": step,
        "run": run,
        "doubts": doubts,
        "pictures": run_pictures.of_host(session, host.id),
    }


def streams_of(result: StepResult) -> list[tuple[str, str, int, int, str]]:
    """Return (stream, text, bytes sent, bytes left out, SHA-256) of what a phase printed, without empty streams."""
    streams = []
    for name in ("stdout", "stderr"):
        head, tail = getattr(result, f"{name}_head"), getattr(result, f"{name}_tail")
        size, digest = getattr(result, f"{name}_bytes"), getattr(result, f"{name}_sha256")
        left_out = max(size - len(head) - len(tail), 0)
        text = shown(head) + (f"\n[... {left_out} ...]\n" if left_out else "") + shown(tail)
        if size or text:
            streams.append((name, text, size, left_out, digest))
    return streams


def log_of(session: Session, run_id: int) -> list[LogLine]:
    """Return the last lines of the run's log, oldest first."""
    query = select(events.Event).where(events.Event.topic == f"run:{run_id}").order_by(events.Event.id.desc())
    lines: list[LogLine] = []
    with session.scalars(query.limit(LOG).execution_options(yield_per=PORTION)) as told:
        for entry in told:  # newest first; one of a fleet holds hundreds of lines
            lines += reversed(lines_of(entry))
            if len(lines) >= LOG:
                break
    return lines[:LOG][::-1]


def lines_of(entry: events.Event) -> list[LogLine]:
    """Return what one event says: of the run itself, or of steps and hosts that were told of together."""
    said = entry.data
    if entry.kind != "run.steps":
        return [LogLine(entry.at, "run", said)]
    steps = [LogLine(entry.at, "step", step) for step in said["steps"]]
    return steps + [LogLine(entry.at, "host", host) for host in said["hosts"]]


def log_words() -> dict[str, dict[str, list[str]]]:
    """Return the words by which an open page writes new entries of the log: value -> [words, colour]."""
    return {
        "outcome": {key: [str(look.word), look.colour] for key, look in BADGES["outcome"].items()},
        "state": {key: [str(look.word), look.colour] for key, look in BADGES["run_state"].items()},
        "phase": {key: [str(words)] for key, words in WORDS["phase"].items()},
        "own": {"run": [gettext("run")], "done": [gettext("host is done")]},
    }
