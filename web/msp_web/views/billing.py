"""The billing desk: entries to confirm, hours left, months to close, and acts until the client accepts them."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from flask import Blueprint, Response, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, ngettext
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.contracts import act_states, corrections, entries
from msp.contracts.models import Act, BillingEntry, Client, Contract, ContractVersion, HourBlock
from msp.contracts.money import parse_decimal
from msp.contracts.outputs import FORMATS, written
from msp.contracts.outputs.act_json import digest
from msp.errors import Conflict, Misconfigured, NotFound, Refused
from msp.evidence import Evidence
from msp.flows import billing
from msp.people.access import may
from msp_web import dates, language
from msp_web.access import actor, requires, scoped, visible
from msp_web.unit import read_only, unit_of_work
from msp_web.views.evidence import whole_number

bp = Blueprint("billing", __name__, url_prefix="/billing")

PAGE = 100
STATES = ("proposed", "confirmed", "withdrawn")


@dataclass(frozen=True, slots=True)
class Left:
    """Prepaid hours of one contract that may be used today, in minutes."""

    contract: Contract
    client: Client
    bought: int
    left: int

    @property
    def used_percent(self) -> int:
        return (self.bought - self.left) * 100 // self.bought if self.bought else 0

    @property
    def tone(self) -> str:
        """The colour of the warning: 95 % is red, 80 % orange."""
        return "red" if self.used_percent >= 95 else "orange" if self.used_percent >= 80 else "blue"


@bp.get("/")
@requires("billing.confirm")
def index() -> str:
    """Show what waits for a person: entries, months to close, blocks nearly used up, acts not accepted."""
    state, after = request.args.get("state", "proposed"), whole_number("after")
    client_id = whole_number("client")
    with read_only() as session:
        query = (
            visible(select(BillingEntry, Client), BillingEntry)
            .join(Client, Client.id == BillingEntry.client_id)
            .order_by(BillingEntry.id.desc())
            .limit(PAGE + 1)
        )
        if state in STATES:
            query = query.where(BillingEntry.state == state)
        if state != "all":
            query = query.where(BillingEntry.act_id.is_(None))
        if client_id is not None:
            query = query.where(BillingEntry.client_id == client_id)
        if after is not None:
            query = query.where(BillingEntry.id < after)
        rows = session.execute(query).all()
        contracts = list(session.scalars(visible(select(Contract), Contract).where(Contract.draft.is_(False))))
        left_out = left_behind(session, [row[0] for row in rows])
        acts = (
            visible(select(Act, Contract, Client), Act)
            .join(Contract, Contract.id == Act.contract_id)
            .join(Client, Client.id == Contract.client_id)
            .order_by(Act.period.desc(), Act.id.desc())
            .limit(PAGE)
        )
        if client_id is not None:
            acts = acts.where(Client.id == client_id)
        return render_template(
            "billing/index.html",
            rows=rows[:PAGE],
            after=rows[PAGE - 1][0].id if len(rows) > PAGE else None,
            left_out=left_out,
            reasons=entries.reasons(session, (row[0] for row in rows), language.language()),
            state=state,
            clients=list(session.scalars(visible(select(Client), Client).order_by(Client.name))),
            blocks=blocks_left(session, contracts),
            months=billing.closable(session, contracts, utc_now()),
            acts=session.execute(acts).all(),
        )


def left_behind(session: Session, rows: list[BillingEntry]) -> set[int]:
    """Return the ids of entries that wait although the act of their month is closed."""
    versions = {row.contract_version_id for row in rows}
    found = session.execute(
        select(ContractVersion.id, Act.period, Client.time_zone)
        .join(Act, Act.contract_id == ContractVersion.contract_id)
        .join(Contract, Contract.id == Act.contract_id)
        .join(Client, Client.id == Contract.client_id)
        .where(ContractVersion.id.in_(versions))
    )
    closed = {(row[0], row[1]): row[2] for row in found}
    zones = {version: zone for (version, _), zone in closed.items()}
    return {
        row.id
        for row in rows
        if row.act_id is None
        and row.contract_version_id in zones
        and (row.contract_version_id, billing.month_in(row.worked_at, zones[row.contract_version_id])) in closed
    }


def blocks_left(session: Session, contracts: list[Contract]) -> list[Left]:
    """Return the prepaid hours of each contract, the most used first."""
    today = utc_now().date()
    clients = {client.id: client for client in session.scalars(visible(select(Client), Client))}
    sums: dict[int, tuple[int, int]] = {}
    for block in session.scalars(visible(select(HourBlock), HourBlock)):
        if block.purchased_on <= today and (block.expires_on is None or block.expires_on >= today):
            bought, left = sums.get(block.contract_id, (0, 0))
            sums[block.contract_id] = (bought + block.minutes, left + block.balance_minutes)
    found = [Left(one, clients[one.client_id], *sums[one.id]) for one in contracts if one.id in sums]
    return sorted(found, key=lambda one: -one.used_percent)


@bp.post("/entries")
@requires("billing.confirm")
def decide() -> ResponseReturnValue:
    """Confirm, withdraw or carry over the chosen entries; each that cannot be is told with its reason."""
    chosen = [int(one) for one in request.form.getlist("id") if one.isdecimal() and len(one) < 16][:PAGE]
    what = request.form.get("what", "confirm")
    acts: dict[str, Callable[[Session, BillingEntry], object]] = {
        "confirm": lambda session, entry: entries.confirm(session, entry, actor().name),
        "withdraw": entries.withdraw,
        "carry": lambda session, entry: corrections.carry_over(session, entry, by=actor().name),
    }
    if what not in acts:
        raise Misconfigured("That cannot be done with billing entries.", advice="Go back to the list.")
    done, refused = 0, []
    for number in chosen:
        try:
            with unit_of_work() as session:
                entry = scoped(session, BillingEntry, number)
                allowed(entry.client_id)
                acts[what](session, entry)
                done += 1
        except (Conflict, NotFound, Refused) as error:
            refused.append(f"{number}: {language.explained(error)}")
    if not chosen:
        flash(gettext("No entry was chosen."), "error")
    if done:
        flash(ngettext("%(num)d entry is done.", "%(num)d entries are done.", done), "success")
    for words in refused[:10]:
        flash(words, "error")
    return redirect(url_for("billing.index", state=request.form.get("state") or None), code=303)


def allowed(client_id: int) -> None:
    """Raise Refused unless the asking person may bill this client."""
    if not may(actor(), "billing.confirm", client_id):
        raise Refused("You may not bill this client.", advice="Ask your administrator.")


@bp.post("/close")
@requires("billing.confirm")
def close() -> ResponseReturnValue:
    """Make the act of one month; a second press makes nothing."""
    period = request.form.get("period", "")
    settings = current_app.config["MSP_SETTINGS"]
    try:
        with unit_of_work() as session:
            contract = scoped(session, Contract, request.form.get("contract", "0"))
            dates.month(period)
            provider = billing.Provider(settings.provider, settings.provider_details)
            act = billing.close_month(session, contract, period, by=actor().name, provider=provider)
            number = act.id if act else None
    except (Conflict, Misconfigured) as error:
        flash(language.explained(error), "error")
        return redirect(url_for("billing.index"), code=303)
    if number is None:
        flash(gettext("Nothing to do: the month is closed already, or there is nothing to bill."))
        return redirect(url_for("billing.index"), code=303)
    flash(gettext("The act is made. Look through it and send it."), "success")
    return redirect(url_for("billing.show", act_id=number), code=303)


@bp.get("/acts/<int:act_id>")
@requires("billing.confirm")
def show(act_id: int) -> str:
    """Show one act in the reader's language: every line with its reason and evidence, and what became of it."""
    with read_only() as session:
        act = scoped(session, Act, act_id)
        contract = scoped(session, Contract, act.contract_id)
        document = billing.document_of(session, act, language.language())
        credited = {one.clause: corrections.credit_of(session, act, one.clause) for one in document.credits}
        return render_template(
            "billing/act.html",
            act=act,
            contract=contract,
            client=scoped(session, Client, contract.client_id),
            document=document,
            credited=credited,
            history=history(session, act),
            formats=FORMATS,
        )


def history(session: Session, act: Act) -> list[Evidence]:
    """Return the evidence of an act's states, oldest first."""
    query = select(Evidence).where(Evidence.subject_kind == "act", Evidence.subject_id == str(act.id))
    return list(session.scalars(visible(query, Evidence).order_by(Evidence.seq)))


def download(act: Act, session: Session, form: str) -> Response:
    """Return the act as a file in the client's language; the same act is the same bytes."""
    if form not in FORMATS:
        raise NotFound("There is no such format.", advice=f"There are {', '.join(FORMATS)}.")
    document = billing.document_of(session, act)
    answer = Response(written(document, form), content_type=FORMATS[form])
    name = "".join(one if one.isascii() and (one.isalnum() or one in "-_") else "-" for one in document.number)
    answer.headers["Content-Disposition"] = f'attachment; filename="act-{name}.{form}"'
    return answer


@bp.get("/acts/<int:act_id>/file.<form>")
@requires("billing.confirm")
def file(act_id: int, form: str) -> Response:
    """Give the act away as PDF, XLSX, CSV or JSON."""
    with read_only() as session:
        return download(scoped(session, Act, act_id), session, form)


def changed(act_id: int, change: Callable[[Session, Act], object], words: str) -> ResponseReturnValue:
    """Change an act in one transaction and go back to it; what stands against it is told there."""
    try:
        with unit_of_work() as session:
            act = scoped(session, Act, act_id)
            allowed(session.get_one(Contract, act.contract_id).client_id)
            change(session, act)
        flash(words, "success")
    except (Conflict, Misconfigured) as error:
        flash(language.explained(error), "error")
    return redirect(url_for("billing.show", act_id=act_id), code=303)


@bp.post("/acts/<int:act_id>/send")
@requires("billing.confirm")
def send(act_id: int) -> ResponseReturnValue:
    """Show the act to the client and ask for acceptance."""
    return changed(
        act_id,
        lambda session, act: act_states.send(
            session, act, by=actor().name, digest=digest(billing.document_of(session, act))
        ),
        gettext("Sent: the client sees it in the portal and is asked to accept it."),
    )


@bp.post("/acts/<int:act_id>/credit")
@requires("billing.confirm")
def credit(act_id: int) -> ResponseReturnValue:
    """Propose the service credit that the act states as an entry of an open month."""
    clause = request.form.get("clause", "")
    return changed(
        act_id,
        lambda session, act: corrections.propose_credit(session, act, clause, by=actor().name),
        gettext("The credit is proposed as an entry of this month."),
    )


@bp.post("/acts/<int:act_id>/correct")
@requires("billing.confirm")
def correct(act_id: int) -> ResponseReturnValue:
    """Propose the difference to what an entry of the act should have billed."""
    number, reason = request.form.get("entry", "0"), request.form.get("reason", "")

    def change(session: Session, act: Act) -> object:
        entry = scoped(session, BillingEntry, number)
        if entry.act_id != act.id:
            raise Conflict("That entry is not in this act.", advice="Look at it again.")
        right: Decimal = parse_decimal(request.form.get("amount", "").replace(",", "."), gettext("The amount"))
        return corrections.correct(session, entry, right, reason, by=actor().name)

    return changed(act_id, change, gettext("The difference is proposed as an entry of this month."))
