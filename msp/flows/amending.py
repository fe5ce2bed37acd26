"""Amending a contract: new terms from a day of the client on, with evidence. Open tickets stay on theirs (rule R2)."""

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from msp import evidence
from msp.clock import utc_now
from msp.contracts import agreements
from msp.contracts.fields import local_midnight
from msp.contracts.models import Client, Contract, ContractVersion
from msp.errors import Conflict


def amend(
    session: Session,
    contract: Contract,
    terms: Any,
    effective_on: date,
    *,
    by: str,
    after_number: int | None = None,
    now: datetime | None = None,
) -> ContractVersion:
    """Add terms that hold from the beginning of a day in the client's zone, and return their version.

    after_number: the version that the person had before them (0: none); if another has been added since then, it is
    a Conflict. Raises what agreements.add_version raises.
    """
    known = agreements.versions(session, contract.id)
    latest = max((one.number for one in known), default=0)
    if after_number is not None and latest != after_number:
        raise Conflict(
            f"Version {latest} was added to contract {contract.reference} meanwhile.",
            advice="Look at it, and make your changes on top of it.",
        )
    client = session.get_one(Client, contract.client_id)
    effective_at = local_midnight(effective_on, ZoneInfo(client.time_zone))
    version = agreements.add_version(session, contract, terms, effective_at, by, now=now or utc_now())
    evidence.record(
        session,
        "contract.amended",
        actor=by,
        subject=("contract", contract.id),
        client_id=contract.client_id,
        data={"version": version.number, "effective_at": version.effective_at.isoformat(), "digest": version.digest},
    )
    return version
