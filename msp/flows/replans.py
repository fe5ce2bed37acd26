"""A better plan for the board: asked for, computed by a worker, shown as changes, taken in whole or in part, undone.

What is accepted is one transaction, judged again by the rule of every drop; tickets hear of each visit that moves.
"""

import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, events, evidence
from msp.clock import utc_now
from msp.dispatch import board_problem, feedback, visits
from msp.dispatch.calm import calmed
from msp.dispatch.changes import changes, figures
from msp.dispatch.models import Appointment, Replan, Technician, WorkOrder
from msp.dispatch.solve import solve
from msp.engine import queues
from msp.errors import Conflict, Misconfigured, NotFound, Refused
from msp.flows import placing, prepaid
from msp.flows import visits as field_visits

HANDLER = "board.replan"
SECONDS = (5, 15, 60)  # that a dispatcher may give the planner
NEAR = timedelta(hours=4)  # visits that far apart may stand in each other's way, with the roads between them
BEAT = 1.0  # seconds between two looks at whether somebody pressed "enough"


def ask(
    session: Session,
    begins_at: datetime,
    ends_at: datetime,
    *,
    seconds: int,
    client_ids: Sequence[int] | None,
    by: str,
    now: datetime,
) -> Replan:
    """Ask the planner for a better plan of these days. Raises Misconfigured for days that are over or too many."""
    if seconds not in SECONDS:
        raise Misconfigured("The planner cannot take that long.", advice="Choose one of the times offered.")
    if ends_at <= now:
        raise Misconfigured("These days are over.", advice="Plan today or a later day.")
    if ends_at - max(begins_at, now) > board_problem.LONGEST:
        raise Misconfigured("These are too many days.", advice="Plan at most 14 days at once.")
    found = Replan(
        asked_by=by,
        asked_at=now,
        begins_at=begins_at,
        ends_at=ends_at,
        seconds=seconds,
        client_ids=None if client_ids is None else list(client_ids),
    )
    session.add(found)
    session.flush()
    queues.enqueue(session, queues.NOTIFY, HANDLER, {"replan_id": found.id}, job_id=f"replan:{found.id}", priority=1)
    return found


def compute(replan_id: int) -> None:
    """Compute one plan that was asked for. No transaction is open while the planner works."""
    with db.begin() as session:
        asked = session.scalar(db.locked(select(Replan).where(Replan.id == replan_id)))
        if asked is None or asked.state not in ("queued", "working"):
            return
        asked.state, seconds = "working", asked.seconds
    with db.read() as session:  # many places take seconds, in which nobody else shall wait to write
        asked = session.get_one(Replan, replan_id)
        problem = board_problem.pose(session, asked.begins_at, asked.ends_at, utc_now(), asked.client_ids)
        session.expunge_all()
    before = figures(problem, problem.raw["incumbent"])
    found = calmed(problem.raw, solve(problem.raw, seconds=float(seconds), told=_teller(replan_id)).plan)
    with db.begin() as session:
        asked = session.scalars(db.locked(select(Replan).where(Replan.id == replan_id))).one()
        if asked.state != "working":
            return  # discarded meanwhile
        asked.changes = changes(problem, found)
        asked.figures = {"before": before, "after": figures(problem, found)}
        asked.state, asked.progress = "ready", 1.0
        events.record(session, "board", "replan.ready", data={"replan": asked.id})


def _teller(replan_id: int) -> Callable[[float], bool]:
    """Return what the planner calls as it goes on: writes the progress once a second and says whether to stop."""
    last = time.monotonic()

    def told(share: float) -> bool:
        nonlocal last
        if time.monotonic() - last < BEAT:
            return False
        last = time.monotonic()
        with db.begin() as session:
            asked = session.get_one(Replan, replan_id)
            asked.progress = round(min(max(share, 0.0), 0.99), 2)
            return asked.stopping or asked.state != "working"

    return told


def gave_up(session: Session, payload: dict[str, Any], what: str) -> None:
    """Say on the plan's page why there is none."""
    asked = session.scalar(db.locked(select(Replan).where(Replan.id == int(payload["replan_id"]))))
    if asked is not None and asked.state in ("queued", "working"):
        asked.state, asked.problem = "failed", what


def enough(session: Session, replan_id: int, *, by: str, now: datetime) -> Replan:
    """End the search: what was found by now is shown within a second."""
    asked = locked(session, replan_id)
    if asked.state == "queued":
        return discard(session, replan_id, by=by, now=now)
    asked.stopping = True
    return asked


def locked(session: Session, replan_id: int) -> Replan:
    """Return a plan, locked. Raises NotFound."""
    found = session.scalar(db.locked(select(Replan).where(Replan.id == replan_id)))
    if found is None:
        raise NotFound(f"There is no plan {replan_id}.", advice="Ask for a new one on the board.")
    return found


def discard(session: Session, replan_id: int, *, by: str, now: datetime) -> Replan:
    """Put a plan away; nothing changes on the board."""
    asked = locked(session, replan_id)
    if asked.state in ("accepted", "undone"):
        raise Conflict(f"{asked.decided_by} has accepted this plan.", advice="Undo it instead.")
    asked.state, asked.decided_by, asked.decided_at = "discarded", by, now
    return asked


def accept(
    session: Session,
    replan_id: int,
    orders: Collection[int],
    *,
    agreed: Collection[int] = (),
    by: str,
    now: datetime,
) -> Replan:
    """Carry out the changes of these work orders, all or none.

    agreed: work orders whose client agreed to leave the window it was told. Raises Conflict when the plan was decided
    or a visit has changed since, and Refused when a change does not hold alone or any more.
    """
    asked = locked(session, replan_id)
    if asked.state != "ready":
        who = f"{asked.decided_by} was first: this plan is {asked.state}."
        raise Conflict(who if asked.decided_by else f"This plan is {asked.state}.", advice="Look at the board again.")
    chosen = [one for one in asked.changes if one["order"] in orders]
    if not chosen:
        raise Misconfigured("No change was chosen.", advice="Tick what shall change, or discard the plan.")
    broken = {one["order"] for one in chosen if one["promise"] == "broken"}
    _all_agreed(session, chosen, broken - set(agreed), "Agree on a new one and say so, or leave this change out.")
    left_out = [one for one in asked.changes if one["order"] not in orders]
    undo = _carry_out(session, chosen, broken, by=by, now=now, left_out=left_out)
    taken = {one["order"] for one in chosen}
    asked.changes = [{**one, "accepted": one["order"] in taken} for one in asked.changes]
    asked.undo = undo
    asked.state, asked.decided_by, asked.decided_at = "accepted", by, now
    data = {"visits": sorted(taken), "of": len(asked.changes), "figures": asked.figures}
    evidence.record(session, "plan.accepted", actor=by, subject=("replan", asked.id), data=data, at=now)
    return asked


def take_back(session: Session, replan_id: int, *, agreed: Collection[int] = (), by: str, now: datetime) -> Replan:
    """Put every visit of an accepted plan back where it was; one that somebody changed since keeps all as it is.

    agreed: work orders whose client agreed to leave the window that the plan gave it (see `renegotiated`).
    """
    asked = locked(session, replan_id)
    if asked.state != "accepted":
        raise Conflict("This plan was not accepted, or is undone already.", advice="Look at the board again.")
    broken = renegotiated(asked)
    advice = "Agree on the window from before and say so, or leave the plan as it is."
    _all_agreed(session, asked.undo, broken - set(agreed), advice)
    _carry_out(session, asked.undo, broken, by=by, now=now)
    asked.state, asked.decided_by, asked.decided_at = "undone", by, now
    data = {"visits": [one["order"] for one in asked.undo]}
    evidence.record(session, "plan.undone", actor=by, subject=("replan", asked.id), data=data, at=now)
    return asked


def renegotiated(plan: Replan) -> set[int]:
    """Return the work orders whose client agreed to leave a window when the plan was accepted: an undo asks again."""
    return {one["order"] for one in plan.changes if one.get("accepted") and one["promise"] == "broken"}


def _all_agreed(session: Session, chosen: Sequence[dict[str, Any]], missing: Collection[int], advice: str) -> None:
    """Raise Conflict naming the first of the changes that a client has yet to agree to."""
    for one in chosen:
        if one["order"] in missing:
            raise Conflict(f"{_summary(session, one)}: the client was told another window.", advice=advice)


def _carry_out(
    session: Session,
    chosen: Sequence[dict[str, Any]],
    broken: Collection[int],
    *,
    by: str,
    now: datetime,
    left_out: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Carry out changes in one go and return those that take them back.

    broken: work orders whose told window is left, as their clients agreed. left_out: further changes of the same plan.
    """
    current: dict[int, Appointment | None] = {}
    for one in sorted(chosen, key=lambda one: one["order"]):
        standing = visits.appointment_of(session, one["order"])
        current[one["order"]] = standing
        if not _as_seen(session, one, standing):
            raise Conflict(
                f"{_summary(session, one)} has changed since the plan was made.",
                advice="Leave this change out, or plan anew.",
            )
    _lock_technicians(session, chosen)
    before = {order: _memory(visit) for order, visit in current.items()}
    for visit in current.values():
        if visit is not None:
            visits.give_back(session, visit)
    left = [one["order"] for one in chosen]
    undo = []
    for one in sorted(chosen, key=lambda one: one["starts_at"] is not None):  # who is taken off makes room
        left.remove(one["order"])
        try:
            leaves = one["order"] in broken
            made = _do(session, one, current[one["order"]], left, by=by, now=now, renegotiated=leaves)
        except prepaid.Unagreed as error:
            raise Refused(f"{_summary(session, one)}: {error.what}", advice=error.advice) from error
        except Refused as error:
            raise _refused(session, one, left_out, error) from error
        undo.append(
            {
                "order": one["order"],
                "appointment": made.id if made.state != "cancelled" else None,
                "version": made.version if made.state != "cancelled" else None,
                "technician": None,
                "starts_at": None,
                "promise": "none",
                **before[one["order"]],
            }
        )
    return undo


def _lock_technicians(session: Session, chosen: Sequence[dict[str, Any]]) -> None:
    """Lock whoever gets a visit, in one order: of two plans accepted at once one waits for the other."""
    wanted = {one["technician"] for one in chosen if one["technician"] is not None}
    query = select(Technician.id).where(Technician.id.in_(wanted)).order_by(Technician.id).with_for_update()
    session.scalars(query).all()


def _as_seen(session: Session, one: dict[str, Any], standing: Appointment | None) -> bool:
    """Return whether a work order stands as it did when the change was computed. A mere proposal binds nobody."""
    if one["appointment"] is None:
        order = session.get_one(WorkOrder, one["order"])
        return order.state in ("proposed", "planned") and (standing is None or standing.state == "proposed")
    return standing is not None and (standing.id, standing.version) == (one["appointment"], one["version"])


def _memory(visit: Appointment | None) -> dict[str, Any]:
    """Return what a later undo needs; nothing where only a proposal stood."""
    if visit is None or visit.state == "proposed":
        return {}
    told = None
    if visit.promised_from and visit.promised_until and not feedback.leaves_promise(visit, visit.starts_at):
        told = [visit.promised_from.isoformat(), visit.promised_until.isoformat()]
    return {"technician": visit.technician_id, "starts_at": visit.starts_at.isoformat(), "promised": told}


def _do(
    session: Session,
    one: dict[str, Any],
    current: Appointment | None,
    left: Sequence[int],
    *,
    by: str,
    now: datetime,
    renegotiated: bool,
) -> Appointment:
    if one["starts_at"] is None:
        if current is None:
            raise Conflict("The visit was cancelled meanwhile.", advice="Look at the board again.")
        return field_visits.carry_on(session, current.id, "cancelled", by=by, now=now, expected_version=current.version)
    told = one.get("promised")
    promised = (datetime.fromisoformat(told[0]), datetime.fromisoformat(told[1])) if told else None
    return placing.place(
        session,
        one["order"],
        one["technician"],
        datetime.fromisoformat(one["starts_at"]),
        by=by,
        now=now,
        expected_version=current.version if current is not None else None,
        promised=promised,
        renegotiated=renegotiated,
        aside=left,
    )


def _refused(session: Session, one: dict[str, Any], left_out: Sequence[dict[str, Any]], error: Refused) -> Refused:
    """Say which change does not hold, and which of those left out would make room for it."""
    starts = datetime.fromisoformat(one["starts_at"])
    room = [
        _summary(session, other)
        for other in left_out
        if (was := other["was"]) is not None
        and was["technician"] == one["technician"]
        and abs(datetime.fromisoformat(was["starts_at"]) - starts) < NEAR
    ]
    what = f"{_summary(session, one)}: {error.what}"
    if room:
        return Refused(what, advice=f"Take these changes too, which make room for it: {', '.join(room)}.")
    return Refused(what, advice="The board has changed since: leave this change out, or plan anew.")


def _summary(session: Session, one: dict[str, Any]) -> str:
    return session.get_one(WorkOrder, one["order"]).summary


def lately(session: Session, now: datetime, within: timedelta = timedelta(hours=12)) -> Sequence[Replan]:
    """Return the plans that nobody has decided on yet and that still concern the future, newest first."""
    query = select(Replan).where(
        Replan.state.in_(("queued", "working", "ready")), Replan.asked_at > now - within, Replan.ends_at > now
    )
    return session.scalars(query.order_by(Replan.id.desc())).all()
