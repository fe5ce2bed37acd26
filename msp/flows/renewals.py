"""What ends soon and is not followed by anything: contracts and blocks of hours, and what loses cover with them.

A block that is nearly used up is told of at 80 and at 95 %.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.backup.models import BackupPlan
from msp.contracts import block, ledger
from msp.contracts.change import local_day
from msp.contracts.models import Client, Contract, HourBlock
from msp.desk import tickets
from msp.desk.models import Ticket
from msp.people import users
from msp.people.access import may
from msp.people.models import User

SOON = timedelta(days=60)
ACTOR = "renewals"
NAMES = 20  # of the things that lose cover, as the ticket names them


@dataclass(frozen=True, slots=True)
class Ending:
    """A contract that ends, or a block that expires with minutes left. `days` until after its last day of use."""

    kind: str  # contract, block
    contract: Contract
    client: Client
    ends_on: date  # the last day
    days: int
    key: str  # names it for ever: one ticket each
    minutes: int = 0  # left in a block
    assets: tuple[str, ...] = ()
    open_tickets: tuple[int, ...] = ()
    plans: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """Return what a person must know, a sentence each."""
        day = f"{self.ends_on:%Y-%m-%d}"
        if self.kind == "block":
            left = f"{self.minutes // 60} h {self.minutes % 60} min"
            return [
                f"A block of contract {self.contract.reference} expires after {day} with {left} left.",
                "Agree on what becomes of them before that day: use, roll over, or a new block.",
            ]
        lost = [f"Contract {self.contract.reference} ends with {day}, and no other follows it."]
        for words, things in (
            ("Configuration items without cover", self.assets),
            ("Backup plans that nobody proves", self.plans),
            ("Open tickets", tuple(f"#{number}" for number in self.open_tickets)),
        ):
            if things:
                more = f" and {len(things) - NAMES} more" if len(things) > NAMES else ""
                lost.append(f"{words}: {len(things)} ({', '.join(things[:NAMES])}{more}).")
        return [*lost, "Renew it, or tell the client what ends."]


def ending(
    session: Session, now: datetime, *, within: timedelta = SOON, client_ids: Sequence[int] | None = None
) -> list[Ending]:
    """Return what ends within a time and is not followed by anything, the nearest first.

    client_ids: of these clients; None: of all. Days are those of the client's zone.
    """
    found = [*_contracts(session, now, within, client_ids), *_blocks(session, now, within, client_ids)]
    return sorted(found, key=lambda one: (one.ends_on, one.kind, one.contract.id))


def tell(session: Session, now: datetime) -> int:
    """Open a ticket for the account manager about everything that ends soon, once for ever; return how many."""
    told = [_told(session, one.client.id, one.key, one.sentences(), now) for one in ending(session, now)]
    return sum([*told, *(_told(session, *one, now) for one in _used(session, now))])


def _told(session: Session, client_id: int, key: str, sentences: Sequence[str], now: datetime) -> bool:
    """Open the ticket of a key unless there ever was one: also one that was closed, for who closed it knows."""
    known = select(Ticket.id).where(Ticket.client_id == client_id, Ticket.dedup_key == key)
    if session.scalar(known) is not None:
        return False
    first, *rest = sentences
    opening = tickets.Opening(
        client_id=client_id,
        subject=first,
        priority="P3",
        kind="request",
        channel="monitoring",
        text="\n".join(rest),
        dedup_key=key,
        nearest=True,
    )
    ticket = tickets.open_ticket(session, opening, by=ACTOR, now=now)
    manager = manager_of(session, client_id)
    if manager is not None:
        tickets.assign(session, ticket.id, manager, by=ACTOR, now=now)
    return True


def _used(session: Session, now: datetime) -> Iterator[tuple[int, str, list[str]]]:
    """Yield (client, key, sentences) of prepaid hours that are nearly used up; the highest level reached counts."""
    query = (
        select(Contract, Client)
        .join(Client, Client.id == Contract.client_id)
        .where(
            Contract.draft.is_(False),
            Contract.id.in_(select(HourBlock.contract_id).where(HourBlock.balance_minutes < HourBlock.minutes)),
        )
        .order_by(Contract.id)
    )
    for contract, client in session.execute(query):
        today = local_day(now, ZoneInfo(client.time_zone))
        bought, left = ledger.balance(session, contract.id, today)
        levels = block.warnings_crossed(bought, bought, left)
        if levels:
            spare = f"{left // 60} h {left % 60} min are left of {bought // 60} h {bought % 60} min"
            first = f"{max(levels)} % of the prepaid hours of contract {contract.reference} are used: {spare}."
            newest = select(func.max(HourBlock.id)).where(
                HourBlock.contract_id == contract.id,
                HourBlock.purchased_on <= today,
                or_(HourBlock.expires_on.is_(None), HourBlock.expires_on >= today),
            )
            key = f"used:contract:{contract.id}:{session.scalar(newest)}:{bought}:{max(levels)}"
            yield client.id, key, [first, "Work beyond them is charged as overage. Agree on a new block in time."]


def manager_of(session: Session, client_id: int) -> User | None:
    """Return the account manager of a client: one who is granted just some clients goes before one of all."""
    known = []
    for user in session.scalars(select(User).where(User.client_id.is_(None), User.active).order_by(User.id)):
        actor = users.actor_of(session, user)
        if "account manager" in actor.roles and may(actor, "contract.edit", client_id):
            known.append((actor.granted is None, user.id, user))
    return min(known, key=lambda one: one[:2])[2] if known else None


def _contracts(
    session: Session, now: datetime, within: timedelta, client_ids: Sequence[int] | None
) -> Iterator[Ending]:
    horizon = (now + within).date() + timedelta(days=1)
    query = select(Contract, Client).join(Client, Client.id == Contract.client_id)
    query = query.where(
        Contract.draft.is_(False), Contract.ends_on.is_not(None), Contract.ends_on >= now.date() - timedelta(days=1)
    )
    for contract, client in session.execute(_of(query.where(Contract.ends_on <= horizon), Contract, client_ids)):
        today = local_day(now, ZoneInfo(client.time_zone))
        if not today <= contract.ends_on <= today + within or _followed(session, contract):
            continue
        assets = select(ConfigurationItem.name).where(
            ConfigurationItem.client_id == client.id, ConfigurationItem.status == "live"
        )
        plans = select(BackupPlan.name).where(BackupPlan.client_id == client.id, BackupPlan.enabled)
        open_ones = select(Ticket.id).where(Ticket.client_id == client.id, Ticket.is_open)
        yield Ending(
            kind="contract",
            contract=contract,
            client=client,
            ends_on=contract.ends_on,
            days=(contract.ends_on - today).days,
            key=f"ends:contract:{contract.id}:{contract.ends_on}",
            assets=tuple(session.scalars(assets.order_by(ConfigurationItem.criticality, ConfigurationItem.name))),
            open_tickets=tuple(session.scalars(open_ones.order_by(Ticket.id))),
            plans=tuple(session.scalars(plans.order_by(BackupPlan.name))),
        )


def _blocks(session: Session, now: datetime, within: timedelta, client_ids: Sequence[int] | None) -> Iterator[Ending]:
    query = (
        select(HourBlock, Contract, Client)
        .join(Contract, Contract.id == HourBlock.contract_id)
        .join(Client, Client.id == Contract.client_id)
        .where(Contract.draft.is_(False), HourBlock.balance_minutes > 0, HourBlock.expires_on.is_not(None))
        .where(HourBlock.expires_on >= now.date() - timedelta(days=1))
    )
    for prepaid, contract, client in session.execute(_of(query, Contract, client_ids)):
        today = local_day(now, ZoneInfo(client.time_zone))
        if today <= prepaid.expires_on <= today + within:
            yield Ending(
                kind="block",
                contract=contract,
                client=client,
                ends_on=prepaid.expires_on,
                days=(prepaid.expires_on - today).days,
                key=f"ends:block:{prepaid.id}:{prepaid.expires_on}",
                minutes=prepaid.balance_minutes,
            )


def _of(query: Any, model: Any, client_ids: Sequence[int] | None) -> Any:
    return query if client_ids is None else query.where(model.client_id.in_(client_ids))


def _followed(session: Session, contract: Contract) -> bool:
    """Whether another contract of the client is in force on the day after."""
    after = (contract.ends_on or date.max) + timedelta(days=1)
    query = select(func.count()).where(
        Contract.client_id == contract.client_id,
        Contract.id != contract.id,
        Contract.draft.is_(False),
        Contract.starts_on <= after,
        or_(Contract.ends_on.is_(None), Contract.ends_on >= after),
    )
    return bool(session.scalar(query))
