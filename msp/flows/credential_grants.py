"""Just in time: the use of one credential by one person for one ticket, as long as the contract and its people let it.

What a clause allows is given at once; what it asks for waits for the person it names; what it refuses is recorded. The
value itself is never shown by a grant. Consoles and runs ask again while they last: see `forbidden`.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, events, evidence
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.clauses import ALLOW, ASK, EXPIRES_S, REFUSE
from msp.desk import tickets
from msp.errors import Conflict, Misconfigured, NotFound, Refused
from msp.flows import approving, deciding
from msp.people.access import Actor, may
from msp.people.credential_grants import (
    DECLINED,
    EXPIRED,
    GIVEN,
    LONGEST,
    REFUSED,
    USUAL,
    WAITING,
    WITHDRAWN,
    CredentialGrant,
)
from msp.secret_store import reference as references

ACTION_CLASS = "access"  # what the clauses are asked about


def ask(
    session: Session,
    *,
    asset_id: int,
    ticket_id: int,
    actor: Actor,
    reason: str,
    lasts: timedelta = USUAL,
    now: datetime | None = None,
) -> CredentialGrant:
    """Ask for the use of an asset's credential on a ticket; what the contract allows is given at once.

    Returns the grant: given, waiting for the person that the clause names, or refused (stored too, with the clause).
    Raises NotFound for an asset or ticket that this actor may not see, Conflict for a ticket that is closed,
    Misconfigured without a reason or for a span that is too long.
    """
    now = now or utc_now()
    item = session.get(ConfigurationItem, asset_id) if abs(asset_id) < 2**63 else None
    if item is None or not may(actor, "credential.ask", item.client_id):
        raise NotFound(f"There is no asset {asset_id}.", advice="Choose one from the list.")
    if not item.secret_name or item.credential_kind == "ca":
        raise Misconfigured(f"{item.name} has no credential of its own.", advice="It is reached by certificate.")
    if not reason.strip():
        raise Misconfigured("A reason is missing.", advice="Say in a few words what the credential is needed for.")
    if not timedelta(minutes=1) <= lasts <= LONGEST:
        raise Misconfigured(
            f"{lasts} is not between a minute and {LONGEST.total_seconds() / 3600:g} hours.", advice="Ask for less."
        )
    ticket = tickets.get(session, ticket_id)
    if ticket.client_id != item.client_id:
        raise NotFound(f"There is no ticket {ticket_id} of this client.", advice="Choose one of its tickets.")
    if not ticket.is_open:
        raise Conflict(f"Ticket {ticket.id} is {ticket.state}.", advice="Choose one that is open.")
    decided = deciding.decide(session, item, ACTION_CLASS, actor=actor.name, at=now)
    said = decided.decision
    grant = CredentialGrant(
        client_id=item.client_id,
        secret=str(references.parse(item.secret_name)),
        actor=actor.name,
        ticket_id=ticket.id,
        asset_id=item.id,
        reason=reason.strip(),
        state={ALLOW: GIVEN, ASK: WAITING, REFUSE: REFUSED}[said.effect],
        decision=decided.as_dict(),
        asked_at=now,
        lasts=lasts,
        answer_by=now + timedelta(seconds=said.expires_s or EXPIRES_S) if said.effect == ASK else None,
    )
    session.add(grant)
    if grant.state == GIVEN:
        _begin(grant, "contract", now, said.ends_at)
    session.flush()
    kind = {GIVEN: "credential.given", WAITING: "credential.asked", REFUSED: "credential.refused"}[grant.state]
    words = {
        GIVEN: f"{actor.name} may use {grant.secret} on {item.name} until {_clock(grant.ends_at)}.",
        WAITING: f"{actor.name} asks to use {grant.secret} on {item.name}; {said.approver} decides.",
        REFUSED: f"{actor.name} may not use {grant.secret} on {item.name}. {said.text}",
    }[grant.state]
    _prove(session, grant, kind, actor.name, now, words)
    return grant


def get(session: Session, grant_id: int, actor: Actor, *, lock: bool = False) -> CredentialGrant:
    """Return a grant that this actor may know of; raises NotFound."""
    query = select(CredentialGrant).where(CredentialGrant.id == grant_id)
    found = session.scalar(db.locked(query) if lock else query) if abs(grant_id) < 2**63 else None
    if found is None or not actor.sees(found.client_id):
        raise NotFound(f"There is no grant {grant_id}.", advice="Look it up in the list.")
    return found


def may_answer(grant: CredentialGrant, actor: Actor) -> bool:
    """Return whether this actor is the one whose word the clause asks for. Nobody answers for themselves."""
    right = approving.RIGHTS.get(str(grant.decision.get("approver")), "portal.approve")
    return grant.actor != actor.name and may(actor, right, grant.client_id)


def give(session: Session, grant_id: int, *, actor: Actor, now: datetime | None = None) -> CredentialGrant:
    """Let a use begin that waits. Raises NotFound, Refused for who may not answer, Conflict if it waits no more."""
    now = now or utc_now()
    grant = _waiting(session, grant_id, actor, now)
    item = session.get_one(ConfigurationItem, grant.asset_id)
    said = deciding.decide(session, item, ACTION_CLASS, actor=grant.actor, at=now).decision
    if said.effect == REFUSE:
        raise Refused(said.text, advice=said.way_out)
    _begin(grant, actor.name, now, said.ends_at)
    words = f"{actor.name} lets {grant.actor} use {grant.secret} until {_clock(grant.ends_at)}."
    _prove(session, grant, "credential.given", actor.name, now, words)
    return grant


def decline(
    session: Session, grant_id: int, *, actor: Actor, reason: str = "", now: datetime | None = None
) -> CredentialGrant:
    """Say no. Raises as `give` does."""
    now = now or utc_now()
    grant = _waiting(session, grant_id, actor, now)
    grant.state, grant.decided_at, grant.decided_by = DECLINED, now, actor.name
    grant.withdrawn_why = reason.strip()
    words = f"{actor.name} does not let {grant.actor} use {grant.secret}. {reason.strip()}".strip()
    _prove(session, grant, "credential.declined", actor.name, now, words)
    return grant


def withdraw(
    session: Session, grant_id: int, *, actor: Actor, reason: str = "", now: datetime | None = None
) -> CredentialGrant:
    """Take a grant back: consoles under it end within two seconds, runs before their next step.

    Its holder may, whoever may answer for it, and who holds `credential.withdraw`. Raises NotFound, Refused, Conflict.
    """
    now = now or utc_now()
    grant = get(session, grant_id, actor, lock=True)
    own = grant.actor == actor.name
    if not (own or may_answer(grant, actor) or may(actor, "credential.withdraw", grant.client_id)):
        raise Refused("You may not withdraw this grant.", advice="Ask its holder or an administrator.")
    if grant.state == WAITING:
        grant.state = DECLINED
        grant.decided_at, grant.decided_by = now, actor.name
    elif grant.holds(now):
        grant.state = WITHDRAWN
    else:
        raise Conflict(f"Grant {grant.id} is over already.", advice="Look at it again.")
    grant.withdrawn_at, grant.withdrawn_by, grant.withdrawn_why = now, actor.name, reason.strip()
    words = f"{actor.name} withdrew the use of {grant.secret} by {grant.actor}. {reason.strip()}".strip()
    _prove(session, grant, "credential.withdrawn", actor.name, now, words)
    return grant


def waiting(session: Session, actor: Actor) -> list[CredentialGrant]:
    """Return what waits for this actor's word, oldest first."""
    query = select(CredentialGrant).where(CredentialGrant.state == WAITING).order_by(CredentialGrant.id)
    return [grant for grant in session.scalars(query) if actor.sees(grant.client_id) and may_answer(grant, actor)]


def in_force(session: Session, client_id: int, secret: str, now: datetime) -> list[CredentialGrant]:
    """Return who may use a secret now."""
    query = select(CredentialGrant).where(
        CredentialGrant.client_id == client_id, CredentialGrant.secret == secret, CredentialGrant.state == GIVEN
    )
    return [grant for grant in session.scalars(query.order_by(CredentialGrant.id)) if grant.holds(now)]


def standing(
    session: Session, *, client_id: int, actor: str, ticket_id: int | None, secrets: Iterable[str], now: datetime
) -> dict[str, CredentialGrant]:
    """Return, for each secret, the newest grant of this person on this ticket that holds or forbids now."""
    query = select(CredentialGrant).where(
        CredentialGrant.client_id == client_id,
        CredentialGrant.actor == actor,
        CredentialGrant.ticket_id == ticket_id,
        CredentialGrant.secret.in_(sorted(set(secrets))),
        CredentialGrant.state.in_((GIVEN, WITHDRAWN)),
    )
    found: dict[str, CredentialGrant] = {}
    for grant in session.scalars(query.order_by(CredentialGrant.id)):
        if grant.holds(now) or grant.forbids(now):
            found[grant.secret] = grant
    return found


def give_to_run(
    session: Session,
    *,
    client_id: int,
    actor: str,
    ticket_id: int,
    run_id: int,
    secret: str,
    decision: dict[str, Any],
    lasts: timedelta,
    now: datetime,
) -> CredentialGrant:
    """Give what a run needs that the contract allowed or somebody approved: its clause is the grant's clause."""
    grant = CredentialGrant(
        client_id=client_id,
        secret=secret,
        actor=actor,
        ticket_id=ticket_id,
        run_id=run_id,
        reason=f"Run {run_id}",
        state=GIVEN,
        decision=decision,
        asked_at=now,
        lasts=lasts,
    )
    session.add(grant)
    _begin(grant, "contract", now, None)
    session.flush()
    return grant


def why_forbidden(grant: CredentialGrant) -> str:
    """Return the sentence by which a withdrawn grant keeps somebody out."""
    said = f": {grant.withdrawn_why}" if grant.withdrawn_why else "."
    return f"{grant.withdrawn_by} withdrew the use of {grant.secret} on ticket {grant.ticket_id}{said}"


def used(session: Session, grant: CredentialGrant, now: datetime) -> None:
    """Note a use; the evidence of it is written by whoever uses it."""
    grant.used_at, grant.uses = now, grant.uses + 1


def expire(session: Session, now: datetime) -> int:
    """End what nobody answered in time and what is over; return how many. A tick calls it."""
    query = select(CredentialGrant).where(
        ((CredentialGrant.state == WAITING) & (CredentialGrant.answer_by < now))
        | ((CredentialGrant.state == GIVEN) & (CredentialGrant.ends_at <= now))
    )
    over = list(session.scalars(query.limit(200).with_for_update(skip_locked=True)))
    for grant in over:
        answered = grant.state == GIVEN
        grant.state = EXPIRED
        if grant.run_id is not None:  # given by a run to itself: its end is the run's
            continue
        words = f"{grant.actor} may no longer use {grant.secret}." if answered else "Nobody answered in time."
        _prove(session, grant, "credential.expired", "clock", now, words, tell=not answered)
    return len(over)


def _waiting(session: Session, grant_id: int, actor: Actor, now: datetime) -> CredentialGrant:
    grant = get(session, grant_id, actor, lock=True)
    if not may_answer(grant, actor):
        raise Refused(f"Grant {grant.id} is for {grant.decision.get('approver')} to give.", advice="Ask that person.")
    if grant.state != WAITING or (grant.answer_by is not None and now > grant.answer_by):
        raise Conflict(f"Grant {grant.id} no longer waits for an answer.", advice="Look at it again.")
    return grant


def _begin(grant: CredentialGrant, by: str, now: datetime, window_ends: datetime | None) -> None:
    grant.state, grant.decided_at, grant.decided_by = GIVEN, now, by
    ends = now + grant.lasts
    grant.starts_at, grant.ends_at = now, min(ends, window_ends) if window_ends else ends


def _clock(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC" if instant else "further notice"


def _prove(
    session: Session, grant: CredentialGrant, kind: str, by: str, now: datetime, words: str, *, tell: bool = True
) -> None:
    data = {
        "grant": grant.id,
        "secret": grant.secret,
        "actor": grant.actor,
        "ticket": grant.ticket_id,
        "asset": grant.asset_id,
        "clause": grant.clause_id,
        "reason": grant.reason,
        "state": grant.state,
        "ends_at": grant.ends_at.isoformat() if grant.ends_at else None,
    }
    evidence.record(
        session, kind, actor=by, subject=("secret", grant.secret), client_id=grant.client_id, data=data, at=now
    )
    if tell:
        ticket = tickets.get(session, grant.ticket_id, lock=True)
        about = {"grant": grant.id, "state": grant.state, "clause": grant.clause_id}
        tickets.append(session, ticket, "credential", by=by, public=True, text=words, data=about, now=now)
    events.record(session, f"grant:{grant.id}", "grant.changed", client_id=grant.client_id, data={"state": grant.state})
