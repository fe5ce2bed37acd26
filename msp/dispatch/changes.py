"""What a new plan changes on the board: one entry per visit that goes elsewhere, and the figures before and after."""

from typing import Any

from msp.dispatch.board_problem import MINUTE, BoardProblem, Movable
from msp.dispatch.checker import check


def changes(problem: BoardProblem, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what moves, as JSON values in the order of the new starts.

    kind: "new" (nobody went yet), "move", or "off" (the plan finds nobody for it). order, appointment, version;
    technician, starts_at, ends_at (None for "off"); was: {technician, starts_at, ends_at, promised} or None. promise:
    "none", "kept" or "broken". late, was_late: minutes after it is due. reason: why it is taken off.
    """
    jobs = {job["id"]: job for job in problem.raw["visits"]}
    found = []
    for route in plan["routes"]:
        for stop in route["stops"]:
            if stop["kind"] == "visit":
                one = problem.movable[stop["visit"]]
                if _differs(problem, one, route["tech"], stop["start"]):
                    job = jobs[stop["visit"]]
                    found.append(_change(problem, one, job, route["tech"], stop["start"]))
    for item in plan["unassigned"]:
        one = problem.movable[item["visit"]]
        if one.appointment is not None:
            found.append({**_change(problem, one, jobs[item["visit"]], None, None), "reason": item["reason"]})
    return sorted(found, key=lambda one: (one["starts_at"] is None, one["starts_at"] or "", one["order"]))


def _differs(problem: BoardProblem, one: Movable, technician: str, start: int) -> bool:
    visit = one.appointment
    if visit is None:
        return True
    return (str(visit.technician_id), problem.minute(visit.starts_at)) != (technician, start)


def _change(
    problem: BoardProblem, one: Movable, job: dict[str, Any], technician: str | None, start: int | None
) -> dict[str, Any]:
    visit, order = one.appointment, one.order
    starts = problem.instant(start) if start is not None else None
    ends = starts + order.duration if starts is not None else None
    promise = "none"
    if visit is not None and visit.promised_from and visit.promised_until:
        kept = starts is not None and visit.promised_from <= starts <= visit.promised_until
        promise = "kept" if kept else "broken"
    was = None
    if visit is not None:
        told = [visit.promised_from.isoformat(), visit.promised_until.isoformat()] if job["promised"] else None  # type: ignore[union-attr]
        was = {
            "technician": visit.technician_id,
            "starts_at": visit.starts_at.isoformat(),
            "ends_at": visit.ends_at.isoformat(),
            "promised": told,
        }
    return {
        "kind": "new" if visit is None else "move" if start is not None else "off",
        "order": order.id,
        "appointment": visit.id if visit is not None else None,
        "version": visit.version if visit is not None else None,
        "technician": int(technician) if technician is not None else None,
        "starts_at": starts.isoformat() if starts is not None else None,
        "ends_at": ends.isoformat() if ends is not None else None,
        "was": was,
        "promise": promise,
        "late": _late(order.due_at, ends),
        "was_late": _late(order.due_at, visit.ends_at if visit is not None else None),
        "reason": "",
    }


def _late(due: Any, ends: Any) -> int:
    return max(0, -((due - ends) // MINUTE)) if due is not None and ends is not None else 0


def figures(problem: BoardProblem, plan: dict[str, Any]) -> dict[str, int]:
    """Return what a plan costs: visits that nobody makes and that cannot be kept, lateness, minutes on the road and of
    overtime, promises broken. Minutes on the road are those of the days planned and of visits that may move."""
    verdict = check(problem.raw, plan)
    left = [problem.movable[item["visit"]] for item in plan["unassigned"]]
    stops = [stop for route in plan["routes"] for stop in route["stops"] if stop["kind"] == "visit"]
    placed = [(problem.movable[stop["visit"]].order, problem.instant(stop["start"])) for stop in stops]
    late = [_late(order.due_at, starts + order.duration) for order, starts in placed]
    return {
        "waiting": sum(one.appointment is None for one in left),
        "impossible": sum(one.appointment is not None for one in left),
        "late": sum(minutes > 0 for minutes in late),
        "late_minutes": sum(late),
        "road": verdict.travel,
        "overtime": verdict.overtime,
        "broken": verdict.moved,
    }
