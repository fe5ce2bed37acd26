"""Trying the clocks of a contract: a start, a priority, pauses; when would it be due, and why then?"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, render_template, request
from flask_babel import gettext

from msp.clock import utc_now
from msp.contracts import agreements, explain, sla
from msp.contracts.clocks import Warn
from msp.contracts.explain import Why
from msp.contracts.models import Client, Contract
from msp.contracts.terms import Terms
from msp.desk import clock
from msp.errors import Misconfigured, NotFound
from msp_web import dates, language, reckoning
from msp_web.access import requires, scoped
from msp_web.unit import read_only
from msp_web.views.contracts import in_force, versions_of

bp = Blueprint("contract_clocks", __name__, url_prefix="/contracts")

PAUSES = 3


@dataclass(frozen=True, slots=True)
class Tried:
    """What the terms say of one invented ticket: for each clock its reckoning, drawing and warnings."""

    reckonings: tuple[tuple[Why, reckoning.Picture | None, tuple[Warn, ...]], ...]
    text: str


@bp.get("/<int:contract_id>/clocks")
@requires("contract.see")
def explore(contract_id: int) -> str:
    """Show the form, and what the terms say of what is in the address."""
    with read_only() as session:
        contract = scoped(session, Contract, contract_id)
        client = scoped(session, Client, contract.client_id)
        versions = versions_of(session, contract)
        number = request.args.get("version", "")
        version = next((one for one in versions if str(one.number) == number), in_force(versions, utc_now()))
        if version is None:
            raise NotFound("This contract has no version yet.", advice="Sign its first terms.")
        terms = agreements.terms_of(version)
        lines = [line for line in terms.lines if line.targets and line.calendar]
        chosen = next((line for line in lines if line.id == request.args.get("line")), lines[0] if lines else None)
        tried, fault = None, ""
        if chosen is not None:
            try:
                tried = read(terms, chosen.id, request.args, terms.zone or ZoneInfo(client.time_zone))
            except Misconfigured as error:
                fault = language.explained(error)
        zone = terms.zone or ZoneInfo(client.time_zone)
        return render_template(
            "contracts/clocks.html",
            contract=contract,
            client=client,
            version=version,
            versions=versions,
            lines=lines,
            line=chosen,
            tried=tried,
            fault=fault,
            zone=str(zone),
            start=request.args.get("start") or utc_now().astimezone(zone).strftime("%Y-%m-%dT%H:%M"),
            pauses=range(PAUSES),
        )


def read(terms: Terms, line_id: str, asked: Mapping[str, str], zone: ZoneInfo) -> Tried | None:
    """Return what the terms say of a ticket that starts at `start`, local time; None before anything is asked."""
    if not asked.get("start"):
        return None
    promise = clock.promise_under(terms, terms.line(line_id))
    if promise is None:
        return None
    priority = asked.get("priority", "")
    if priority not in promise.line.targets:
        priority = min(promise.line.targets)
    start = dates.instant(asked["start"], zone)
    log: list[dict[str, Any]] = [{"type": "created", "at": start, "priority": priority, "channel": "portal"}]
    for begin, end in pauses_of(asked, zone):
        if begin < log[-1]["at"]:
            raise Misconfigured(
                gettext("A pause begins before the start, or before the pause above it ends."),
                advice=gettext("Give them in order."),
            )
        log.append({"type": "state", "at": begin, "to": min(promise.policy.pause_states, default="waiting_client")})
        log.append({"type": "state", "at": end, "to": "open"})
    found = sla.clocks_of(
        log,
        promise.policy,
        promise.covered,
        log[-1]["at"],
        calendars=promise.calendars,
        calendar_name=promise.line.calendar or "",
    )
    shown = [(one, one.warnings) for one in (found.first_response, found.resolution) if one.goal_s is not None]
    reckonings = []
    for one, warnings in shown:
        why = explain.why(one, promise.covered, found.as_of)
        reckonings.append((why, reckoning.picture(why, why.due or found.as_of), warnings))
    return Tried(tuple(reckonings), explain.text(found, promise.covered))


def pauses_of(asked: Mapping[str, str], zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """Return the pauses that are given whole, in their order; raises Misconfigured for one that ends too early."""
    found = []
    for number in range(PAUSES):
        begin, end = asked.get(f"from{number}", ""), asked.get(f"to{number}", "")
        if begin and end:
            span = dates.instant(begin, zone), dates.instant(end, zone)
            if span[1] < span[0]:
                raise Misconfigured(gettext("A pause ends before it begins."), advice=gettext("Correct its times."))
            found.append(span)
    return found
