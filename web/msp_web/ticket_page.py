"""What one ticket's page shows, read through the client gate: clocks, story, facts."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from msp.assets import inventory
from msp.assets.models import ConfigurationItem
from msp.backup.models import RestoreTest
from msp.clock import utc_now
from msp.contracts.models import BillingEntry, Client, Contact, Contract, ContractVersion, HourBlock, Site
from msp.desk import clock, tickets
from msp.desk.models import Article, Ticket
from msp.dispatch.models import Appointment, WorkOrder
from msp.events import Event
from msp.flows import first_try
from msp.people.models import User
from msp.remote.models import Approval, Run
from msp_web import playbooks, timeline
from msp_web.access import scoped, visible


def newest(session: Session) -> int:
    """Return the id of the last event that this snapshot has seen: an open page asks for everything after it."""
    return session.scalar(select(func.max(Event.id))) or 0


def standing(session: Session, ticket: Ticket) -> dict[str, Any]:
    """Return what the clocks' part of the page shows."""
    orders = visible(select(WorkOrder), WorkOrder).where(
        WorkOrder.ticket_id == ticket.id, WorkOrder.state != "cancelled"
    )
    return {
        "ticket": ticket,
        "view": clock.view(session, ticket, utc_now()),
        "site_zone": session.scalar(select(Site.time_zone).where(Site.id == ticket.site_id)),
        "orders": list(session.scalars(orders.order_by(WorkOrder.id.desc()))),
    }


def story(session: Session, ticket: Ticket, wanted: str = "") -> dict[str, Any]:
    """Return what the timeline shows; `wanted`: one group of timeline.GROUPS alone."""
    runs = list(session.scalars(visible(select(Run), Run).where(Run.ticket_id == ticket.id)))
    orders = list(session.scalars(visible(select(WorkOrder), WorkOrder).where(WorkOrder.ticket_id == ticket.id)))
    approvals = visible(select(Approval), Approval).where(Approval.run_id.in_([run.id for run in runs]))
    visits = visible(select(Appointment), Appointment).where(Appointment.work_order_id.in_([one.id for one in orders]))
    tests = visible(select(RestoreTest), RestoreTest).where(RestoreTest.ticket_id == ticket.id)
    log = tickets.log_of(session, ticket.id)
    every = timeline.of(log, runs, session.scalars(approvals), orders, session.scalars(visits), session.scalars(tests))
    groups = {entry.group for entry in every}
    return {
        "story": [entry for entry in every if not wanted or entry.group == wanted],
        "groups": {name: look for name, look in timeline.GROUPS.items() if name in groups},
        "wanted": wanted,
        "names": people_of(session, (entry.who for entry in every)),
    }


def people_of(session: Session, names: Iterable[str]) -> dict[str, str]:
    """Return the names of the people who log in as `names`."""
    query = select(User.email, User.name).where(User.email.in_(set(names)))
    return {row[0]: row[1] for row in session.execute(query)}


def impact_of(session: Session, item: ConfigurationItem) -> list[tuple[str, ConfigurationItem]]:
    """Return (strength, item) of what an item pulls down, the worst first."""
    hits = inventory.impact(session, item)
    query = visible(select(ConfigurationItem), ConfigurationItem).where(
        ConfigurationItem.id.in_([h.item for h in hits])
    )
    items = {one.id: one for one in session.scalars(query)}
    return [(hit.strength, items[hit.item]) for hit in hits if hit.item in items]


def blocks_of(session: Session, version: ContractVersion | None) -> list[HourBlock]:
    """Return the blocks of hours of a contract that may still be used."""
    if version is None:
        return []
    query = visible(select(HourBlock), HourBlock).where(HourBlock.contract_id == version.contract_id)
    today = utc_now().date()
    return [block for block in session.scalars(query) if block.expires_on is None or block.expires_on >= today]


def facts(session: Session, ticket: Ticket) -> dict[str, Any]:
    """Return who and what the ticket is about, and what its contract gives."""
    version = session.get(ContractVersion, ticket.contract_version_id) if ticket.contract_version_id else None
    item = scoped(session, ConfigurationItem, ticket.asset_id) if ticket.asset_id else None
    assignee = session.get(User, ticket.assignee_id) if ticket.assignee_id else None
    entries = visible(select(BillingEntry), BillingEntry).where(BillingEntry.ticket_id == ticket.id)
    suggested = playbooks.for_symptom(ticket.symptom, item)
    return {
        "client": scoped(session, Client, ticket.client_id),
        "site": session.get(Site, ticket.site_id) if ticket.site_id else None,
        "contact": session.get(Contact, ticket.contact_id) if ticket.contact_id else None,
        "assignee": assignee.name if assignee else None,
        "item": item,
        "hits": impact_of(session, item) if item else [],
        "version": version,
        "contract": scoped(session, Contract, version.contract_id) if version else None,
        "contract_line": clock.line_of(session, ticket),
        "blocks": blocks_of(session, version),
        "entries": list(session.scalars(entries.order_by(BillingEntry.id))),
        "articles": list(session.scalars(select(Article).where(Article.symptom == (ticket.symptom or "")))),
        "suggested": suggested,
        "advice": first_try.advise(session, ticket, suggested, utc_now()) if suggested and ticket.is_open else None,
    }
