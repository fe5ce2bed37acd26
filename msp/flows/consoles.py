"""A console's life: the contract admits, a one-use ticket opens, the records end it, everything is evidence."""

import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from msp import db, events, evidence
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts import agreements
from msp.contracts.clauses import ALLOW, ASK, REFUSE, BreakGlass
from msp.contracts.entries import Worked
from msp.desk import tickets
from msp.desk.models import Ticket
from msp.errors import Conflict, Misconfigured, NotFound, Refused
from msp.flows import deciding, worked
from msp.flows.console_offers import RIGHT, grant_of, has, offer_of
from msp.people import users
from msp.people.access import Actor, may
from msp.people.credential_grants import CredentialGrant
from msp.people.models import User
from msp.remote.consoles import recordings, rules
from msp.remote.consoles import tickets as passes
from msp.remote.consoles.models import ConsoleSession, ConsoleWatcher
from msp.remote.consoles.recordings import Recorded
from msp.remote.consoles.rules import End, Limits, Standing
from msp.settings import Settings

LATELY, MOST_LATELY = timedelta(minutes=1), 20  # consoles that one person may ask for, however they end
OVER = ("ended", "refused", "expired")
#: What the log of a ticket and the portal call a kind of console.
NAMES = {"terminal": "Terminal", "screen": "Screen"}


def request(
    session: Session,
    settings: Settings,
    *,
    asset_id: int,
    kind: str,
    actor: Actor,
    ticket_id: int | None = None,
    mode: str = "full",
    consent_by: str = "",
    break_glass_approver: str = "",
    break_glass_reason: str = "",
    now: datetime | None = None,
) -> ConsoleSession:
    """Ask the contract for a console; without a ticket one is opened for it. Nothing is contacted here.

    Returns a session that is granted, or refused (stored too, with the clause and the way out).
    Raises NotFound for a machine or ticket that this actor may not see, Misconfigured if the machine has no such
    console or the clause wants to know who at the machine agreed, CannotRecord when there is no room for recordings.
    """
    now = now or utc_now()
    item = session.get(ConfigurationItem, asset_id) if abs(asset_id) < 2**63 else None
    if item is None or not may(actor, RIGHT, item.client_id):
        raise NotFound(f"There is no asset {asset_id}.", advice="Choose one from the list.")
    if kind not in rules.KINDS or not has(item, kind):
        raise Misconfigured(f"{item.name} has no {kind}.", advice="Choose what its page offers.")
    if actor.user_id is None:
        raise Refused("Only a person opens a console.", advice="Log in to the pages.")
    user_id = actor.user_id
    lately = select(func.count()).where(ConsoleSession.user_id == user_id, ConsoleSession.requested_at > now - LATELY)
    if (session.scalar(lately) or 0) >= MOST_LATELY:
        raise Refused(f"{MOST_LATELY} consoles were asked for within a minute.", advice="Wait a minute.")
    recordings.require_room(settings.recordings_path, settings.recordings_quota_mb * recordings.MEGABYTE)
    glass = BreakGlass(break_glass_approver, break_glass_reason) if break_glass_approver or break_glass_reason else None
    ticket = _ticket(session, ticket_id, item, kind, actor, now)
    decided = deciding.decide(session, item, "access", actor=actor.name, at=now, break_glass=glass)
    grant = grant_of(session, item, actor, ticket.id, now)
    offer = offer_of(kind, decided, grant, now)
    agreed = consent_by.strip()
    if offer.effect == ALLOW and offer.consent and not agreed:
        raise Misconfigured(
            "The contract wants the person at the machine to agree.", advice="Ask them, and write down who agreed."
        )
    allowed = offer.effect == ALLOW
    console = ConsoleSession(
        client_id=item.client_id,
        ticket_id=ticket.id,
        asset_id=item.id,
        user_id=user_id,
        actor=actor.name,
        kind=kind,
        mode=rules.narrower(mode, offer.mode),
        state="granted" if allowed else "refused",
        contract_version_id=decided.version_id,
        decision=decided.as_dict() | {"effect": offer.effect, "text": offer.text, "text_ru": offer.text_ru},
        consent_by=agreed,
        credential_grant_id=offer.grant_id,
        requested_at=now,
        expires_at=now + rules.GRANT_LIFE,
        ended_at=None if allowed else now,
        ends_by=decided.decision.ends_at,
    )
    session.add(console)
    session.flush()
    if allowed:
        _prove(session, console, "console.granted", now, {"consent_by": agreed, "expires_at": str(console.expires_at)})
    else:
        _prove(session, console, "console.refused", now, {"text": offer.text})
        _tell(session, console, item, f"refused. {offer.text}", now)
    return console


def _ticket(
    session: Session, ticket_id: int | None, item: ConfigurationItem, kind: str, actor: Actor, now: datetime
) -> Ticket:
    """Return the ticket that the console belongs to. Nobody gets in without one: a quick look opens its own."""
    if ticket_id is not None:
        ticket = tickets.get(session, ticket_id)
        if ticket.client_id != item.client_id:
            raise NotFound(f"There is no ticket {ticket_id} of this client.", advice="Choose one of its tickets.")
        if not ticket.is_open:
            raise Conflict(f"Ticket {ticket.id} is {ticket.state}.", advice="Choose one that is open.")
        return ticket
    subject = f"{NAMES[kind]}: {item.name}"
    opening = tickets.Opening(item.client_id, subject, kind="request", channel="phone_by_agent", asset_id=item.id,
                              nearest=True)  # fmt: skip
    return tickets.open_ticket(session, opening, by=actor.name, now=now)


def get(session: Session, console_id: int, actor: Actor, *, lock: bool = False) -> ConsoleSession:
    """Return a session that this actor may know of; raises NotFound."""
    query = select(ConsoleSession).where(ConsoleSession.id == console_id)
    found = session.scalar(db.locked(query) if lock else query) if abs(console_id) < 2**63 else None
    if found is None or not actor.sees(found.client_id):
        raise NotFound(f"There is no console {console_id}.", advice="Look it up in the list.")
    return found


def issue(session: Session, key: bytes, console_id: int, actor: Actor, now: datetime | None = None) -> str:
    """Return a one-use ticket for a granted console. One issued before and not used is void from now on.

    Raises NotFound for another person's console, Conflict for one that was used or is over.
    """
    now = now or utc_now()
    console = get(session, console_id, actor, lock=True)
    if console.user_id != actor.user_id:
        raise NotFound(f"There is no console {console_id} of yours.", advice="Open your own.")
    if console.state != "granted" or now > console.expires_at:
        raise Conflict(f"Console {console.id} was used or is over.", advice="Open it again from its ticket.")
    console.nonce = secrets.token_urlsafe(16)
    return passes.sign(
        key,
        passes.Ticket(
            console_id=console.id,
            user_id=console.user_id,
            ticket_id=console.ticket_id,
            asset_id=console.asset_id,
            kind=console.kind,
            mode=console.mode,
            nonce=console.nonce,
            expires_at=now + rules.TICKET_LIFE,
        ),
    )


def redeem(
    session: Session,
    settings: Settings,
    key: bytes,
    text: str,
    console_id: int,
    actor: Actor,
    *,
    browser: str = "",
    now: datetime | None = None,
) -> ConsoleSession:
    """Use a ticket up and open its console. Of two that use it at once, one gets in.

    Raises BadTicket for one that is forged, too old, used, or not for this person and console; Refused if the
    contract or the role no longer admits. The refusal is evidence too if the caller commits it: see `turned_away`.
    """
    now = now or utc_now()
    ticket = passes.read(key, text, now)
    console = get(session, console_id, actor, lock=True)
    bound = (console.id, console.user_id, console.ticket_id, console.asset_id, console.kind, console.mode)
    said = (ticket.console_id, ticket.user_id, ticket.ticket_id, ticket.asset_id, ticket.kind, ticket.mode)
    if bound != said or ticket.user_id != actor.user_id:
        raise passes.BadTicket("The ticket is for somebody or something else.")
    used = session.execute(
        update(ConsoleSession)
        .where(ConsoleSession.id == console.id, ConsoleSession.state == "granted", ConsoleSession.nonce == ticket.nonce)
        .values(nonce="", state="open", opened_at=now, seen_at=now, browser=browser)
    )
    if used.rowcount != 1:  # type: ignore[attr-defined]  # every driver of ours counts
        raise passes.BadTicket("The ticket was used before.")
    session.refresh(console)
    limit = timedelta(minutes=settings.console_limit_minutes)
    console.ends_by = rules.latest(now, limit, console.ends_by)
    item = session.get_one(ConfigurationItem, console.asset_id)
    if why := _refusal(session, console, item, now):
        raise Refused(why, advice="Look at what the contract says now.")
    _prove(session, console, "console.opened", now, {"ends_by": console.ends_by.isoformat(), "browser": browser})
    _tell(session, console, item, "opened" + (" to look only." if console.mode == "view" else "."), now)
    return console


def turned_away(session: Session, console_id: int, actor: Actor, what: str, now: datetime | None = None) -> None:
    """Keep as evidence that somebody came with a ticket that opens nothing."""
    console = get(session, console_id, actor)
    _prove(session, console, "console.turned_away", now or utc_now(), {"what": what}, by=actor.name)


def limits_of(console: ConsoleSession, settings: Settings) -> Limits:
    """Return how long an open console may last."""
    ends_by = console.ends_by or (console.opened_at or console.requested_at)
    return Limits(timedelta(minutes=settings.console_idle_minutes), ends_by)


def standing(session: Session, console_ids: Collection[int], *, now: datetime, thorough: bool) -> dict[int, Standing]:
    """Return how the records stand for open consoles. `thorough`: the contract is asked again too."""
    found: dict[int, Standing] = {}
    query = select(ConsoleSession, User).join(User, User.id == ConsoleSession.user_id)
    for console, user in session.execute(query.where(ConsoleSession.id.in_(list(console_ids)))):
        withdrawn_by = console.withdrawn_by if console.withdrawn_at is not None else None
        if withdrawn_by is None and console.credential_grant_id is not None:
            grant = session.get_one(CredentialGrant, console.credential_grant_id)
            if not grant.holds(now):
                withdrawn_by = grant.withdrawn_by or "The clock"
        refusal = None
        if thorough and withdrawn_by is None:
            refusal = _refusal(session, console, session.get_one(ConfigurationItem, console.asset_id), now)
        active = user.active and may(users.actor_of(session, user), RIGHT, console.client_id)
        if console.state != "open":
            withdrawn_by = withdrawn_by or "The server's own record"
        closed = console.withdrawn_at is not None and withdrawn_by == console.actor
        found[console.id] = Standing(withdrawn_by, closed, active, refusal, watchers_of(session, console.id, now))
    for missing in set(console_ids) - set(found):
        found[missing] = Standing(active=False)
    return found


def watchers_of(session: Session, console_id: int, now: datetime) -> tuple[str, ...]:
    """Return the names of the others who look at an open console now."""
    query = select(User.name).join(ConsoleWatcher, ConsoleWatcher.user_id == User.id)
    lately = ConsoleWatcher.seen_at > now - rules.WATCHING
    return tuple(session.scalars(query.where(ConsoleWatcher.console_id == console_id, lately).order_by(User.name)))


def watch(session: Session, console: ConsoleSession, actor: Actor, now: datetime) -> None:
    """Note that somebody looks at an open console; that they began to is evidence, and its person is told."""
    if actor.user_id is None or actor.user_id == console.user_id:
        return
    mine = (ConsoleWatcher.console_id == console.id) & (ConsoleWatcher.user_id == actor.user_id)
    row = session.scalar(select(ConsoleWatcher).where(mine))
    if row is not None:
        row.seen_at = now
        return
    session.add(ConsoleWatcher(console_id=console.id, user_id=actor.user_id, since=now, seen_at=now))
    _prove(session, console, "console.watched", now, {}, by=actor.name)


def seen(session: Session, console_ids: Collection[int], now: datetime) -> None:
    """Note that the process which serves these consoles is alive."""
    session.execute(update(ConsoleSession).where(ConsoleSession.id.in_(list(console_ids))).values(seen_at=now))


def _refusal(session: Session, console: ConsoleSession, item: ConfigurationItem, now: datetime) -> str | None:
    """Return why the contract would no longer admit, or None. A broken glass and a given grant still count."""
    given = console.decision.get("break_glass")
    glass = BreakGlass(given["approver"], given["reason"]) if given else None
    said = deciding.decide(
        session, item, "access", actor=console.actor, at=now, break_glass=glass, prepaid=False
    ).decision
    if said.effect == REFUSE or (said.effect == ASK and console.credential_grant_id is None):
        return said.text
    if rules.narrower(console.mode, said.mode) != console.mode:
        return f"{said.text} It may only be looked at now."
    return None


def ended(
    session: Session, console_id: int, end: End, recorded: Recorded | None = None, now: datetime | None = None
) -> ConsoleSession:
    """Record how a console ended and what was recorded; time that it was open becomes a proposed bill line."""
    now = now or utc_now()
    console = session.scalar(db.locked(select(ConsoleSession).where(ConsoleSession.id == console_id)))
    if console is None or console.state in OVER:
        raise Conflict(f"Console {console_id} has ended before.", advice="Look at it again.")
    opened = console.opened_at
    console.state, console.end, console.detail, console.ended_at, console.nonce = "ended", end.how, end.detail, now, ""
    if recorded is not None:
        console.recording, console.recording_bytes = recorded.name, recorded.size
        console.recording_sha256, console.recording_ms = recorded.sha256, recorded.milliseconds
    data = {
        "end": end.how,
        "detail": end.detail,
        "seconds": round((now - opened).total_seconds()) if opened else 0,
        "recording_sha256": console.recording_sha256,
        "recording_bytes": console.recording_bytes,
    }
    if recorded is not None and recorded.pictures:
        data |= {"pictures": recorded.pictures, "pictures_sha256": recorded.pictures_sha256}
    proof = _prove(session, console, "console.ended", now, data, by=console.withdrawn_by or console.actor)
    item = session.get_one(ConfigurationItem, console.asset_id)
    _tell(session, console, item, f"ended. {end.detail}", now)
    if opened is not None and end.how != "failed":
        work = Worked(
            client_id=console.client_id,
            begun_at=opened,
            minutes=worked.minutes_between(opened, now),
            ticket_id=console.ticket_id,
            evidence_id=proof.id,
            site=agreements.site_name(session, item.site_id),
            asset=item.name,
            asset_class=item.kind,
            work="remote",
        )
        worked.propose(session, work, subject=("console", console.id), now=now)
    return console


def withdraw(session: Session, console_id: int, *, actor: Actor, now: datetime | None = None) -> ConsoleSession:
    """Take an admission back. One that is open ends within two seconds, wherever it is served.

    Its own person may, and who holds `console.end`. Raises NotFound, Refused, or Conflict if it is over.
    """
    now = now or utc_now()
    console = get(session, console_id, actor, lock=True)
    if console.user_id != actor.user_id and not may(actor, "console.end", console.client_id):
        raise Refused("Only its own person or an administrator ends this console.", advice="Ask one of them.")
    if console.state in OVER or console.withdrawn_at is not None:
        raise Conflict(f"Console {console.id} is over already.", advice="Look at it again.")
    console.withdrawn_at, console.withdrawn_by = now, actor.name
    _prove(session, console, "console.withdrawn", now, {}, by=actor.name)
    if console.state == "granted":
        console.state, console.ended_at, console.end = "ended", now, "withdrawn"
        console.detail = f"{actor.name} withdrew the admission."
        console.nonce = ""
    return console


def reap(session: Session, now: datetime) -> int:
    """End what nobody serves any more and void what nobody used; return how many. A tick calls it."""
    query = select(ConsoleSession).where(
        ((ConsoleSession.state == "open") & (ConsoleSession.seen_at < now - rules.SILENCE))
        | ((ConsoleSession.state == "granted") & (ConsoleSession.expires_at < now))
    )
    found = list(session.scalars(query.limit(100).with_for_update(skip_locked=True)))
    for console in found:
        if console.state == "open":
            ended(session, console.id, End("stopped", "The process that served it died."), now=now)
        else:
            console.state, console.ended_at, console.nonce = "expired", now, ""
            _prove(session, console, "console.expired", now, {}, by="clock")
    return len(found)


def _prove(
    session: Session, console: ConsoleSession, kind: str, now: datetime, data: dict[str, Any], by: str = ""
) -> evidence.Evidence:
    whole = {
        "console": console.kind,
        "mode": console.mode,
        "asset": console.asset_id,
        "ticket": console.ticket_id,
        "clause": console.decision.get("clause_id"),
        **data,
    }
    events.record(
        session, f"console:{console.id}", "console.changed", client_id=console.client_id, data={"state": console.state}
    )
    return evidence.record(
        session,
        kind,
        actor=by or console.actor,
        subject=("console", console.id),
        client_id=console.client_id,
        data=whole,
        at=now,
    )


def _tell(session: Session, console: ConsoleSession, item: ConfigurationItem, what: str, now: datetime) -> None:
    """Tell the ticket, where its client reads it too."""
    ticket = tickets.get(session, console.ticket_id, lock=True)
    text = f"{NAMES[console.kind]} of {item.name}: {what}"
    data = {"console": console.id, "state": console.state, "clause": console.decision.get("clause_id")}
    tickets.append(session, ticket, "console", by=console.actor, public=True, text=text, data=data, now=now)
