"""Clients and their contracts in the database: which version is in force, how a new one begins. The caller commits."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.contracts import terms as document
from msp.contracts.change import local_day, refuse_same_day
from msp.contracts.fields import local_midnight, parse_zone
from msp.contracts.models import KINDS, Client, Contract, ContractVersion, Site
from msp.contracts.money import minor_units
from msp.contracts.terms import Terms
from msp.errors import Conflict, Misconfigured, NotFound

_KEY = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def add_client(session: Session, *, key: str, name: str, time_zone: str = "UTC", locale: str = "en") -> Client:
    """Store a client and return it; raises Misconfigured for a key that is no slug, Conflict if it is taken."""
    if not _KEY.fullmatch(key):
        raise Misconfigured(
            f"The client key {key!r} cannot be used.", advice="Use lower-case letters, digits and hyphens, 63 at most."
        )
    if not name.strip():
        raise Misconfigured("The client has no name.")
    parse_zone(time_zone, "The time zone")
    if session.scalar(select(Client.id).where(Client.key == key)) is not None:
        raise Conflict(f"There is a client {key!r} already.", advice="Choose another key.")
    client = Client(key=key, name=name.strip(), time_zone=time_zone, locale=locale, created_at=utc_now())
    session.add(client)
    session.flush()
    return client


def client_by_key(session: Session, key: str) -> Client:
    """Return a client by its key; raises NotFound."""
    client = session.scalar(select(Client).where(Client.key == key))
    if client is None:
        raise NotFound(f"There is no client {key!r}.", advice="List them with msp client list.")
    return client


def site_name(session: Session, site_id: int | None) -> str | None:
    """Return the name of a site, by which contracts know it; None for None."""
    return session.scalar(select(Site.name).where(Site.id == site_id)) if site_id is not None else None


def add_contract(
    session: Session,
    client: Client,
    *,
    reference: str,
    kind: str,
    currency: str,
    starts_on: date,
    ends_on: date | None = None,
    title: str = "",
    draft: bool = False,
) -> Contract:
    """Store a contract without terms yet and return it; its first version makes it count, unless it is a draft.

    Raises Misconfigured if it ends before it begins, Conflict if the reference is taken.
    """
    if kind not in KINDS:
        raise Misconfigured(f"{kind!r} is no kind of contract.", advice=f"Use one of {', '.join(KINDS)}.")
    minor_units(currency)
    if not reference.strip():
        raise Misconfigured("The contract has no reference.", advice="Give the number on the signed paper.")
    if ends_on is not None and ends_on <= starts_on:
        raise Misconfigured(
            f"Contract {reference} ends on {ends_on}, not after it begins on {starts_on}.", advice="Check the dates."
        )
    if session.scalar(select(Contract.id).where(Contract.reference == reference)) is not None:
        raise Conflict(f"There is a contract {reference} already.", advice="Add a version to it instead.")
    contract = Contract(
        client_id=client.id,
        reference=reference,
        title=title,
        kind=kind,
        currency=currency,
        starts_on=starts_on,
        ends_on=ends_on,
        draft=draft,
    )
    session.add(contract)
    session.flush()
    return contract


def contract_by_reference(session: Session, reference: str) -> Contract:
    """Return a contract by the number on the paper; raises NotFound."""
    contract = session.scalar(select(Contract).where(Contract.reference == reference))
    if contract is None:
        raise NotFound(f"There is no contract {reference!r}.", advice="List them with msp contract list.")
    return contract


def versions(session: Session, contract_id: int) -> list[ContractVersion]:
    """Return all versions of a contract, the oldest first."""
    query = select(ContractVersion).where(ContractVersion.contract_id == contract_id)
    return list(session.scalars(query.order_by(ContractVersion.effective_at)))


def version_at(session: Session, contract_id: int, at: datetime) -> ContractVersion | None:
    """Return the version whose terms hold at an instant, whether or not the contract is in force then; else None."""
    query = select(ContractVersion).where(
        ContractVersion.contract_id == contract_id, ContractVersion.effective_at <= at
    )
    return session.scalar(query.order_by(ContractVersion.effective_at.desc()).limit(1))


def contract_for(session: Session, client_id: int, at: datetime) -> Contract | None:
    """Return the client's contract in force at an instant, the one that began last if there are several; else None."""
    client = session.get_one(Client, client_id)
    day = local_day(at, ZoneInfo(client.time_zone))
    query = select(Contract).where(
        Contract.client_id == client_id,
        Contract.draft.is_(False),
        Contract.starts_on <= day,
        or_(Contract.ends_on.is_(None), Contract.ends_on >= day),
        select(ContractVersion.id)
        .where(ContractVersion.contract_id == Contract.id, ContractVersion.effective_at <= at)
        .exists(),
    )
    return session.scalar(query.order_by(Contract.starts_on.desc(), Contract.id.desc()).limit(1))


def version_in_force(session: Session, client_id: int, at: datetime) -> ContractVersion | None:
    """Return the version of the client's contract in force at an instant, or None if the client has none then."""
    contract = contract_for(session, client_id, at)
    return version_at(session, contract.id, at) if contract else None


def in_force(contract: Contract, client: Client) -> tuple[datetime, datetime | None]:
    """Return the UTC instants from which, and until which, a contract holds: its days in the client's zone.

    A draft ends when it begins.
    """
    zone = ZoneInfo(client.time_zone)
    if contract.draft:
        return (local_midnight(contract.starts_on, zone),) * 2
    ends = contract.ends_on
    return local_midnight(contract.starts_on, zone), local_midnight(ends + timedelta(days=1), zone) if ends else None


def terms_of(version: ContractVersion) -> Terms:
    """Return the terms of a stored version; parsed once, because a version never changes."""
    return _parsed(json.dumps(version.terms))


def add_version(
    session: Session,
    contract: Contract,
    terms: Any,
    effective_at: datetime,
    by: str,
    *,
    now: datetime | None = None,
) -> ContractVersion:
    """Store new terms that hold from `effective_at` and return their version.

    Only the first version, or one of a draft, may begin in the past: tickets and bills since then were judged by the
    old terms.
    Raises Misconfigured for terms that cannot be signed, another currency than the contract's, an instant in the
    past, or a second version on the same day of the client.
    """
    now = now or utc_now()
    parsed = document.parse(terms)
    if parsed.currency != contract.currency:
        raise Misconfigured(
            f"The terms are in {parsed.currency}, and contract {contract.reference} is in {contract.currency}.",
            advice="Sign another contract for another currency.",
        )
    known = versions(session, contract.id)
    if known:
        if effective_at < now and not contract.draft:
            raise Misconfigured(
                f"A version of contract {contract.reference} cannot begin in the past, on {effective_at:%Y-%m-%d}.",
                advice="Let it begin now or later; correct what is past by a new billing entry.",
            )
        zone = ZoneInfo(session.get_one(Client, contract.client_id).time_zone)
        refuse_same_day(local_day(at, zone) for at in (effective_at, *(version.effective_at for version in known)))
    plain = document.plain(terms)
    version = ContractVersion(
        contract_id=contract.id,
        number=max((version.number for version in known), default=0) + 1,
        effective_at=effective_at.astimezone(UTC),
        terms=plain,
        digest=document.digest(plain),
        created_at=now,
        created_by=by,
    )
    session.add(version)
    session.flush()
    return version


@lru_cache(maxsize=256)
def _parsed(text: str) -> Terms:
    return document.parse(json.loads(text))
