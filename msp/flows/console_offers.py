"""Which consoles a machine offers somebody now, and what its contract says of each."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from msp.assets.models import ConfigurationItem
from msp.assets.reach import secrets_of
from msp.clock import utc_now
from msp.contracts.clauses import ALLOW, ASK, REFUSE
from msp.flows import deciding
from msp.flows.deciding import Decided
from msp.people.access import Actor, may
from msp.people.credential_grants import GIVEN, WITHDRAWN, CredentialGrant
from msp.remote.consoles import rules
from msp.secret_store import reference as references

RIGHT = "console.open"


@dataclass(frozen=True, slots=True)
class Offer:
    """What the contract says now of one kind of console on one machine. `effect`: allow, ask or refuse."""

    kind: str
    effect: str
    mode: str
    clause_id: str | None
    text: str
    text_ru: str
    way_out: str
    way_out_ru: str
    consent: bool
    approver: str | None
    grant_id: int | None = None  # the grant by which it is allowed


def offers(
    session: Session,
    item: ConfigurationItem,
    actor: Actor,
    *,
    ticket_id: int | None = None,
    now: datetime | None = None,
) -> list[Offer]:
    """Return one offer for each kind of console that the machine has; none for one that has no console."""
    now = now or utc_now()
    kinds = [kind for kind in rules.KINDS if has(item, kind)]
    if not kinds or not may(actor, RIGHT, item.client_id):
        return []
    decided = deciding.decide(session, item, "access", actor=actor.name, at=now)
    grant = grant_of(session, item, actor, ticket_id, now)
    return [offer_of(kind, decided, grant, now) for kind in kinds]


def has(item: ConfigurationItem, kind: str) -> bool:
    """Return whether a machine has such a console."""
    if kind == "screen":
        return item.transport == "vnc" or (item.transport == "ssh" and "vnc_port" in item.facts)
    return item.transport in rules.KINDS.get(kind, ())


def offer_of(kind: str, decided: Decided, grant: CredentialGrant | None, now: datetime) -> Offer:
    said = decided.decision
    effect, text, text_ru = said.effect, said.text, said.text_ru
    if grant is not None and grant.forbids(now) and effect != REFUSE:
        effect = REFUSE
        text = f"{grant.withdrawn_by} withdrew the use of the credential on this ticket."
        text_ru = f"{grant.withdrawn_by} отозвал(а) право пользоваться учётными данными по этой заявке."
    used = grant if grant is not None and grant.holds(now) else None
    if used is not None and effect == ASK:
        effect = ALLOW
    return Offer(
        kind=kind,
        effect=effect,
        mode=said.mode,
        clause_id=said.clause_id,
        text=text,
        text_ru=text_ru,
        way_out=said.way_out,
        way_out_ru=said.way_out_ru,
        consent=said.consent,
        approver=said.approver,
        grant_id=used.id if used else None,
    )


def grant_of(
    session: Session, item: ConfigurationItem, actor: Actor, ticket_id: int | None, now: datetime
) -> CredentialGrant | None:
    """Return the newest grant of this machine's credential to this person on this ticket that holds or forbids now.

    What a run was given for itself admits nobody to a console.
    """
    if ticket_id is None:
        return None
    secrets = {str(references.parse(name)) for name in secrets_of(session, item)}
    query = select(CredentialGrant).where(
        CredentialGrant.client_id == item.client_id,
        CredentialGrant.ticket_id == ticket_id,
        CredentialGrant.actor == actor.name,
        CredentialGrant.state.in_((GIVEN, WITHDRAWN)),
        CredentialGrant.run_id.is_(None),
        or_(CredentialGrant.asset_id == item.id, CredentialGrant.secret.in_(secrets)),
    )
    found = session.scalars(query.order_by(CredentialGrant.id.desc()))
    return next((one for one in found if one.holds(now) or one.forbids(now)), None)
