"""Corrections and credits: a closed act is never touched, so what is to be put right is a new entry of an open month.

Functions take a session and do not commit.
"""

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence
from msp.clock import utc_now
from msp.contracts.acts import month_of
from msp.contracts.agreements import version_at
from msp.contracts.change import local_day
from msp.contracts.holding import hold, hold_contract
from msp.contracts.models import PROPOSED, WITHDRAWN, Act, BillingEntry, Client, Contract, ContractVersion
from msp.contracts.money import rounded
from msp.errors import Conflict, Misconfigured

_CARRIED = (
    *("client_id", "contract_version_id", "contract_line", "ticket_id", "run_id", "appointment_id", "minutes"),
    *("billed_minutes", "prepaid_minutes", "amount", "currency", "evidence_id"),
)


def adjust(
    session: Session,
    contract: Contract,
    amount: Decimal,
    reason: str,
    *,
    by: str,
    on: datetime | None = None,
    line: str | None = None,
    ticket_id: int | None = None,
    now: datetime | None = None,
) -> BillingEntry:
    """Propose an amount without time, above or below zero, in the open month of `on` (default: now); return it.

    line: contract line whose VAT it bears. The reason is printed on the act as it stands, and the entry has evidence
    of its own. Raises Misconfigured without an amount or a reason, Conflict if the act of that month is closed.
    """
    now = now or utc_now()
    at = on or now
    amount = rounded(amount, contract.currency)
    if not amount or not reason.strip():
        raise Misconfigured("A correction needs an amount and a reason.", advice="Give both; the client reads them.")
    version = version_at(session, contract.id, at)
    if version is None:
        raise Misconfigured(
            f"No terms of contract {contract.reference} hold on {at:%Y-%m-%d}.", advice="Choose a later day."
        )
    client = session.get_one(Client, contract.client_id)
    period = month_of(local_day(at, ZoneInfo(client.time_zone)))
    hold_contract(session, contract.id)
    closed = select(Act.id).where(Act.contract_id == contract.id, Act.period == period)
    if session.scalar(closed) is not None:
        raise Conflict(f"The act of {period} is closed.", advice="Enter a correction on a day of an open month.")
    entry = BillingEntry(
        client_id=client.id,
        contract_version_id=version.id,
        contract_line=line,
        ticket_id=ticket_id,
        worked_at=at,
        minutes=0,
        billed_minutes=0,
        prepaid_minutes=0,
        amount=amount,
        currency=contract.currency,
        reason=reason.strip(),
        state=PROPOSED,
        created_at=now,
    )
    session.add(entry)
    session.flush()
    entry.evidence_id = evidence.record(
        session,
        "billing.adjusted",
        actor=by,
        subject=("billing_entry", entry.id),
        client_id=client.id,
        data={"amount": str(amount), "currency": contract.currency, "reason": entry.reason, "period": period},
    ).id
    session.flush()
    return entry


def correct(
    session: Session, entry: BillingEntry, right: Decimal, reason: str, *, by: str, now: datetime | None = None
) -> BillingEntry:
    """Propose the difference between what an entry billed and what is right, in the open month of `now`.

    Raises Conflict for an entry in no act: that one is withdrawn instead.
    """
    if entry.act_id is None:
        raise Conflict(f"Billing entry {entry.id} is in no act yet.", advice="Withdraw it and enter it anew.")
    act = session.get_one(Act, entry.act_id)
    contract = session.get_one(Contract, act.contract_id)
    difference = rounded(right, contract.currency) - entry.amount
    words = f"Correction of entry {entry.id} in the act of {act.period}: {reason.strip()}" if reason.strip() else ""
    return adjust(
        session, contract, difference, words, by=by, line=entry.contract_line, ticket_id=entry.ticket_id, now=now
    )


def carry_over(session: Session, entry: BillingEntry, *, by: str, now: datetime | None = None) -> BillingEntry:
    """Propose an entry that its closed month left out again, in the open month of `now`, at the same price.

    Its minutes still count in the month of the work, and nowhere else: included ones, a retainer and what rolls over
    are those of that month. What a block has paid stays paid.
    Raises Conflict unless the entry is proposed and its month is closed.
    """
    hold(session, entry)
    now = now or utc_now()
    version = session.get_one(ContractVersion, entry.contract_version_id)
    client = session.get_one(Client, entry.client_id)
    worked_on, today = (local_day(at, ZoneInfo(client.time_zone)) for at in (entry.worked_at, now))
    months = month_of(worked_on), month_of(today)
    closed = set(session.scalars(select(Act.period).where(Act.contract_id == version.contract_id)))
    if entry.state != PROPOSED or months[0] not in closed:
        raise Conflict(
            f"Billing entry {entry.id} is {entry.state}, and {months[0]} is open.", advice="Confirm or withdraw it."
        )
    if months[1] in closed:
        raise Conflict(f"The act of {months[1]} is closed.", advice="Wait for the next month.")
    again = BillingEntry(
        **{name: getattr(entry, name) for name in _CARRIED},
        carried_from=entry.carried_from or entry.id,
        worked_at=now,
        reason=entry.reason if entry.carried_from else f"Of {worked_on:%Y-%m-%d}: {entry.reason}",
        state=PROPOSED,
        created_at=now,
    )
    entry.state = WITHDRAWN
    session.add(again)
    session.flush()
    data = {"of": entry.id, "from": months[0], "to": months[1]}
    subject = ("billing_entry", again.id)
    evidence.record(session, "billing.carried_over", actor=by, subject=subject, client_id=client.id, data=data)
    return again


def credit_of(session: Session, act: Act, clause: str) -> BillingEntry | None:
    """Return the entry that credits this act's missed promises of a contract line, unless it was withdrawn."""
    versions = select(ContractVersion.id).where(ContractVersion.contract_id == act.contract_id)
    query = select(BillingEntry).where(
        BillingEntry.contract_version_id.in_(versions),
        BillingEntry.contract_line == clause,
        BillingEntry.state != WITHDRAWN,
        BillingEntry.reason.startswith(_credit_words(act, clause), autoescape=True),
    )
    return session.scalar(query.limit(1))


def propose_credit(session: Session, act: Act, clause: str, *, by: str, now: datetime | None = None) -> BillingEntry:
    """Propose the service credit that an act states for a contract line; raises Conflict if there is one already."""
    stated = {one["clause"]: one for one in (act.annex or {}).get("credits", [])}
    amount = Decimal(stated.get(clause, {}).get("amount", "0"))
    if not amount:
        raise Conflict(f"The act of {act.period} owes no service credit for {clause}.", advice="Look at its annex.")
    hold_contract(session, act.contract_id)
    if credit_of(session, act, clause):
        raise Conflict(f"The service credit of {act.period} for {clause} is proposed already.")
    words = f"{_credit_words(act, clause)} {stated[clause]['attainment']} % of promises kept"
    contract = session.get_one(Contract, act.contract_id)
    return adjust(session, contract, -amount, words, by=by, line=clause, now=now)


def _credit_words(act: Act, clause: str) -> str:
    return f"Service credit {act.period}, clause {clause}:"
