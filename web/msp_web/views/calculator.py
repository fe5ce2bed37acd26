"""The cost calculator: anybody adds the needed and removes the rest; staff turn the quote into a contract."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from flask import Blueprint, Response, current_app, flash, redirect, render_template, request, url_for
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select

from msp.clock import utc_now
from msp.contracts import agreements, rate_card
from msp.contracts.models import Client
from msp.contracts.quote import Quote, QuoteLine, RateCard, RateItem, draft_terms
from msp.contracts.quote import quote as quoted
from msp.errors import Conflict, Misconfigured, Refused
from msp.evidence import canonical, record
from msp.people.access import may
from msp_web import dates, language
from msp_web.access import actor, public, requires, scoped, visible
from msp_web.unit import read_only, unit_of_work

bp = Blueprint("calculator", __name__)

OFTEN = "120 per minute"  # of one address
MOST = 100_000  # units of one item


@dataclass(frozen=True, slots=True)
class Row:
    """One item of the card: what of it is wanted, what it costs, what one more would add, and the two addresses."""

    item: RateItem
    quantity: int
    line: QuoteLine | None
    adds: Decimal | None
    more: Mapping[str, int]
    without: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks for. `quote` None: it cannot be ordered so, `error` says why."""

    card: RateCard
    wanted: dict[str, int]
    quote: Quote | None
    error: str
    example: bool

    @property
    def rows(self) -> list[Row]:
        lines = {line.item.key: line for line in self.quote.lines} if self.quote else {}
        return [
            Row(
                item=item,
                quantity=self.wanted.get(item.key, 0),
                line=lines.get(item.key),
                adds=self.quote.additions[item.key] if self.quote else None,
                more=self.with_one_more(item),
                without=self.without(item),
            )
            for item in self.card.items
        ]

    def names(self, keys: tuple[str, ...]) -> str:
        return ", ".join(self.card.item(key).name for key in keys)

    def with_one_more(self, item: RateItem) -> dict[str, int]:
        """Return the demand with one unit more, and one of each that it needs."""
        more = dict(self.wanted)
        more[item.key] = more.get(item.key, 0) + 1
        missing = list(item.needs)
        while missing:
            needed = self.card.item(missing.pop())
            if not more.get(needed.key):
                more[needed.key] = 1
                missing += needed.needs
        return more

    def without(self, item: RateItem) -> dict[str, int]:
        """Return the demand without an item, and without all that need it."""
        gone = {item.key}
        for other in self.card.items:  # what is needed stands before what needs it
            if gone & set(other.needs):
                gone.add(other.key)
        return {key: quantity for key, quantity in self.wanted.items() if key not in gone}


def asked() -> Asked:
    """Read the demand of the address; a figure that is none counts as zero, and says so."""
    file = current_app.config["MSP_SETTINGS"].rate_card
    card = rate_card.load(file, language.language())
    wanted, error = {}, ""
    for item in card.items:
        text = request.values.get(item.key, "").strip()
        if text.isdecimal() and len(text) < 9 and int(text) <= MOST:
            wanted[item.key] = int(text)
        elif text:
            error = gettext("%(name)s: give a whole number up to %(most)s.", name=item.name, most=MOST)
    wanted = {key: quantity for key, quantity in wanted.items() if quantity}
    found = None
    missing = [(card.item(key), card.item(one)) for key in wanted for one in card.item(key).needs if one not in wanted]
    if missing:
        error = gettext("%(item)s needs %(needed)s. Add it.", item=missing[0][0].name, needed=missing[0][1].name)
    else:
        found = quoted(card, wanted)
    return Asked(card, wanted, found, error, example=not file)


@bp.get("/calculator")
@public
def show() -> str:
    """Play with the prices; no log-in, nothing is stored."""
    provider = current_app.config["MSP_SETTINGS"].provider
    return render_template("billing/calculator.html", asked=asked(), provider=provider)


@bp.get("/billing/quote")
@requires("contract.edit")
def quote() -> str:
    """The same for staff, with a client and a reference to make a contract of it."""
    with read_only() as session:
        clients = list(session.scalars(visible(select(Client), Client).order_by(Client.name)))
        return render_template("billing/quote.html", asked=asked(), clients=clients, today=utc_now().date())


@bp.get("/billing/quote/terms.json")
@requires("contract.edit")
def terms() -> Response:
    """Give the draft terms of the quote away, to be completed with clauses and targets."""
    answer = Response(canonical(drafted()) + b"\n", content_type="application/json")
    answer.headers["Content-Disposition"] = 'attachment; filename="draft-terms.json"'
    return answer


def drafted() -> dict[str, Any]:
    """Return the draft terms of the demand; raises Misconfigured if there is nothing to agree on."""
    found = asked()
    if found.error or found.quote is None or not found.quote.lines:
        raise Misconfigured(found.error or gettext("Nothing is ordered."), advice=gettext("Add what is needed first."))
    return draft_terms(found.quote)


@bp.post("/billing/quote")
@requires("contract.edit")
def draft() -> ResponseReturnValue:
    """Make a draft of the quote: its first version holds the prices and no clause; it is in force once signed."""
    form: dict[str, Any] = {key: value for key, value in request.form.items() if key != "csrf_token"}
    try:
        document = drafted()
        starts = dates.day(request.form.get("starts_on", ""))
        with unit_of_work() as session:
            client = scoped(session, Client, request.form.get("client", "0"))
            if not may(actor(), "contract.edit", client.id):
                raise Refused("You may not edit this client's contracts.", advice="Ask your administrator.")
            contract = agreements.add_contract(
                session,
                client,
                reference=request.form.get("reference", "").strip(),
                kind=document["lines"][0]["kind"],
                currency=document["currency"],
                starts_on=starts,
                title=gettext("Draft of a quote"),
                draft=True,
            )
            begins, _ = agreements.in_force(contract, client)
            version = agreements.add_version(session, contract, document, begins, actor().name)
            record(
                session,
                "contract.drafted",
                actor=actor().name,
                subject=("contract", contract.id),
                client_id=client.id,
                data={"reference": contract.reference, "digest": version.digest},
            )
            number = contract.id
    except (Conflict, Misconfigured) as error:
        flash(language.explained(error), "error")
        return redirect(url_for("calculator.quote", **form), code=303)
    flash(gettext("The draft is made. Complete it with clauses and targets in a new version, then sign it."), "success")
    return redirect(url_for("contracts.show", contract_id=number), code=303)


@bp.record
def slow_down(state: BlueprintSetupState) -> None:
    """Limit how often one address may ask: the page is open to everybody."""
    for limiter in state.app.extensions.get("limiter", ()):
        views: dict[str, Any] = state.app.view_functions
        views["calculator.show"] = limiter.limit(OFTEN)(views["calculator.show"])
