"""Amending a contract on a page: hours, targets and clauses as fields, the differences before they are signed."""

import json
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.contracts import terms
from msp.contracts.change import local_day
from msp.contracts.clauses import ACTION_CLASSES
from msp.contracts.covers import WORK
from msp.contracts.fields import DAYS
from msp.contracts.lines import MONEY, PRICES
from msp.contracts.models import Client, Contract, ContractVersion, Site
from msp.contracts.policy import MILESTONES
from msp.contracts.vat import MODES
from msp.desk import rebase
from msp.desk.models import Ticket
from msp.errors import Conflict, Misconfigured, MspError, NotFound
from msp.flows import amending, signing
from msp_web import clause_words, dates, language, terms_form
from msp_web.access import actor, can, requires, scoped, visible
from msp_web.terms_covers import NAMES, SETS
from msp_web.terms_draft import Draft, fits
from msp_web.terms_form import WHOLE
from msp_web.terms_rows import DATED
from msp_web.terms_vat import BEARS
from msp_web.unit import read_only, unit_of_work
from msp_web.views.contracts import Week, versions_of, week_of

bp = Blueprint("contract_edit", __name__, url_prefix="/contracts")

MOST = 1_000_000  # characters of a document


@bp.get("/<int:contract_id>/edit")
@requires("contract.edit")
def edit(contract_id: int) -> str:
    """Show the newest terms as fields."""
    with read_only() as session:
        contract = scoped(session, Contract, contract_id)
        require_edit(contract)
        versions = versions_of(session, contract)
        client = scoped(session, Client, contract.client_id)
        base = versions[0].terms if versions else terms_form.empty(contract.currency, client.time_zone)
        return page(session, contract, terms_form.opened(base))


@bp.post("/<int:contract_id>/edit")
@requires("contract.edit")
def save(contract_id: int) -> ResponseReturnValue:
    """Show what the fields would change; sign it once that was seen and nothing is wrong with it."""
    with unit_of_work() as session:
        contract = scoped(session, Contract, contract_id)
        require_edit(contract)
        draft = drafted(request.form)
        day = day_of(request.form.get("effective_on", ""))
        if day is None:
            draft.tell("effective_on", gettext("Choose the day from which it holds."))
        digest = None if draft.problems else terms.digest(draft.document)
        if request.form.get("do") == "sign" and day and digest:
            if digest != request.form.get("seen"):
                draft.tell("seen", gettext("Look at the differences first; they have changed."))
                return page(session, contract, draft, seen=digest)
            try:
                number = request.form.get("after", "")
                version = amending.amend(
                    session,
                    contract,
                    draft.document,
                    day,
                    by=actor().name,
                    after_number=int(number) if number.isdecimal() and len(number) < 6 else None,
                )
            except MspError as error:
                draft.tell("effective_on", language.explained(error))
                return page(session, contract, draft, seen=digest)
            flash(gettext("Version %(number)s is signed.", number=version.number), "success")
            return redirect(url_for("contracts.show", contract_id=contract.id, version=version.number), 303)
        return page(session, contract, draft, seen=digest)


@bp.post("/<int:contract_id>/sign")
@requires("contract.edit")
def sign(contract_id: int) -> ResponseReturnValue:
    """Put a draft in force."""
    typed = request.form.get("begins", "")
    try:
        begins = dates.day(typed) if typed else None
        with unit_of_work() as session:
            contract = scoped(session, Contract, contract_id)
            require_edit(contract)
            replace = request.form.get("replace") == "1"
            signing.sign(session, contract, by=actor().name, begins=begins, replace=replace)
    except (Conflict, Misconfigured) as error:
        flash(language.explained(error), "error")
    else:
        flash(gettext("The contract is signed and in force from its first day on."), "success")
    return redirect(url_for("contracts.show", contract_id=contract_id), 303)


def require_edit(contract: Contract) -> None:
    if not can("contract.edit", contract.client_id):
        raise NotFound("There is no such contract.", advice="Go back to the list.")


@bp.post("/<int:contract_id>/edit/reads")
@requires("contract.edit")
def reads(contract_id: int) -> str:
    """Say what one clause would say as it stands in its fields; nothing is kept."""
    with read_only() as session:
        contract = scoped(session, Contract, contract_id)
        require_edit(contract)
        before, typed = shown_before(request.form), {name: request.form.getlist(name) for name in request.form}
        number = request.args.get("clause", "")
        clause = terms_form.clause_of(typed, before, int(number) if number.isdecimal() and len(number) < 6 else -1)
        freezes = terms_form.of_fields(typed, before).document.get("freezes", [])
        return render_template("contracts/reads.html", sentence=reading(clause, contract.currency, freezes))


def reading(clause: Any, currency: str, freezes: list[Any]) -> str:
    return clause_words.sentence(clause, currency, freezes) if clause.get("id") or clause.get("text") else ""


def readings_of(document: Any, currency: str) -> list[str]:
    """Return what each clause says, in order."""
    freezes = document.get("freezes", [])
    return [reading(clause, currency, freezes) for clause in document.get("clauses", [])]


def shown_before(form: Any) -> Any:
    """Return the terms whose places the fields of a form name."""
    text = form.get("draft", "")
    try:
        before = json.loads(text) if len(text) < MOST else None
    except (ValueError, RecursionError):
        before = None
    if before is None or not terms_form.has_places(before):
        raise Misconfigured("The page was sent without its terms.", advice="Load it again.")
    return before


def drafted(form: Any) -> Draft:
    """Return the draft that a form makes of the one it was shown."""
    before = shown_before(form)
    if "raw" in form:
        return terms_form.of_json(form["raw"][:MOST], before)
    return terms_form.of_fields({name: form.getlist(name) for name in form}, before)


def day_of(text: str) -> date | None:
    try:
        return dates.day(text)
    except Misconfigured:
        return None


def page(session: Session, contract: Contract, draft: Draft, *, seen: str | None = None) -> str:
    client = scoped(session, Client, contract.client_id)
    versions = versions_of(session, contract)
    tomorrow = local_day(utc_now(), ZoneInfo(client.time_zone)) + timedelta(days=1)
    latest = versions[0] if versions else None
    posted = request.method == "POST"
    return render_template(
        "contracts/edit.html",
        contract=contract,
        client=client,
        latest=latest,
        draft=draft,
        weeks=weeks_of(draft.document),
        raw=request.form.get("raw") if draft.problems.get("raw") else None,
        as_json=request.args.get("as") == "json" or "raw" in request.form,
        differences=terms.differences(latest.terms if latest else {}, draft.document) if posted else None,
        seen=seen,
        effective_on=request.form.get("effective_on") or tomorrow.isoformat(),
        tomorrow=tomorrow,
        actions=ACTION_CLASSES,
        days=DAYS,
        money_keys=MONEY,
        milestones=MILESTONES,
        prices=PRICES,
        whole=WHOLE,
        dated=DATED,
        covers_sets=SETS,
        covers_names=NAMES,
        covers_work=WORK,
        fits=fits,
        sites=session.scalars(
            visible(select(Site.name), Site).where(Site.client_id == client.id).order_by(Site.name)
        ).all(),
        vat_modes=MODES,
        vat_bears=BEARS,
        readings=[
            reading(clause, contract.currency, draft.shown.get("freezes", []))
            for clause in draft.shown.get("clauses", [])
        ],
    )


def weeks_of(document: Any) -> dict[str, Week]:
    """Return the grid of each calendar that can be read."""
    found = {}
    for name, calendar in document.get("calendars", {}).items():
        try:
            found[name] = week_of(name, calendar)
        except MspError:
            continue  # its problem stands beside its field
    return found


@bp.get("/<int:contract_id>/rebase")
@requires("contract.edit")
def tickets(contract_id: int) -> str:
    """List open tickets that other versions judge, and what the version asked for would make of them."""
    with read_only() as session:
        contract = scoped(session, Contract, contract_id)
        version = version_asked(session, contract)
        shown = [rebase.preview(session, one, version, utc_now()) for one in rebase.open_on_others(session, version)]
        client = scoped(session, Client, contract.client_id)
        return render_template("contracts/rebase.html", contract=contract, client=client, version=version, rows=shown)


@bp.post("/<int:contract_id>/rebase")
@requires("contract.edit")
def judge_anew(contract_id: int) -> ResponseReturnValue:
    """Judge the chosen tickets by another version, each with its entry in the log and its evidence."""
    with unit_of_work() as session:
        contract = scoped(session, Contract, contract_id)
        require_edit(contract)
        version = version_asked(session, contract)
        chosen = [int(text) for text in request.form.getlist("ticket") if text.isdecimal() and len(text) < 16]
        if not chosen:
            raise Misconfigured("No ticket is chosen.", advice="Tick those that are to be judged anew.")
        for number in chosen:
            ticket = scoped(session, Ticket, number)
            rebase.rebase(session, ticket.id, version, by=actor().name, reason=request.form.get("reason", ""))
    flash(gettext("Judged by version %(number)s: %(count)s", number=version.number, count=len(chosen)), "success")
    return redirect(url_for("contract_edit.tickets", contract_id=contract_id, version=version.number), 303)


def version_asked(session: Session, contract: Contract) -> ContractVersion:
    number = request.values.get("version", "")
    versions = versions_of(session, contract)
    version = next((one for one in versions if str(one.number) == number), None)
    version = version or next((one for one in versions if one.effective_at <= utc_now()), None)
    if version is None:
        raise NotFound("This contract has no such version.", advice="Choose one of its list.")
    return version
