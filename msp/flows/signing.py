"""A draft becomes a contract in force: signed by a person, with evidence, and never beside another one in force."""

from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from msp import db, evidence
from msp.clock import utc_now
from msp.contracts import agreements
from msp.contracts.change import local_day
from msp.contracts.models import Client, Contract
from msp.errors import Conflict, Misconfigured


def sign(
    session: Session,
    contract: Contract,
    *,
    by: str,
    begins: date | None = None,
    replace: bool = False,
    now: datetime | None = None,
) -> None:
    """Put a draft in force from its first day on, or from another, `begins`.

    replace: what is in force then ends the day before; that day must not be past.
    Raises Conflict if it is signed already, if a version was added that an earlier one takes over from, or if another
    contract of the client is in force in its days; Misconfigured without terms on the first day.
    """
    now = now or utc_now()
    client = session.get_one(Client, contract.client_id)
    zone = ZoneInfo(client.time_zone)
    known = select(Contract).where(Contract.client_id == client.id).order_by(Contract.id)
    session.scalars(db.locked(known)).all()  # one is signed at a time; rows are read anew as they are fetched
    if not contract.draft:
        raise Conflict(f"Contract {contract.reference} is signed already.", advice="Amend it instead.")
    first = begins or contract.starts_on
    versions = agreements.versions(session, contract.id)
    if not versions or local_day(versions[0].effective_at, zone) > first:
        raise Misconfigured(
            f"Contract {contract.reference} has no terms on {first}.",
            advice="Choose the first day of its first version.",
        )
    for earlier, later in pairwise(versions):
        if later.number < earlier.number:
            raise Conflict(
                f"Version {later.number} would take over from version {earlier.number} on "
                f"{local_day(later.effective_at, zone)}.",
                advice="Add the newest terms once more, from a later day.",
            )
    if contract.ends_on is not None and contract.ends_on <= first:
        raise Misconfigured(
            f"Contract {contract.reference} ends on {contract.ends_on}, not after it begins on {first}.",
            advice="Check the dates.",
        )
    others = known.where(
        Contract.id != contract.id,
        Contract.draft.is_(False),
        or_(Contract.ends_on.is_(None), Contract.ends_on >= first),
        Contract.starts_on <= (contract.ends_on or date.max),
    )
    ended = list(session.scalars(others))
    before = first - timedelta(days=1)
    for other in ended:
        if not replace:
            raise Conflict(
                f"Contract {other.reference} of this client is in force in these days too.",
                advice="Let it end the day before this one begins, or choose a first day after its end.",
            )
        if other.starts_on >= before or first < local_day(now, zone):
            raise Conflict(
                f"Contract {other.reference} cannot end on {before}.",
                advice="Choose a first day from today on, two days after the other began at least.",
            )
        other.ends_on = before
    contract.draft, contract.starts_on = False, first
    session.flush()
    evidence.record(
        session,
        "contract.signed",
        actor=by,
        subject=("contract", contract.id),
        client_id=client.id,
        data={
            "reference": contract.reference,
            "starts_on": first.isoformat(),
            "digests": [version.digest for version in versions],
            "ended": [other.reference for other in ended],
        },
        at=now,
    )
