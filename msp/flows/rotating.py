"""Replacing a secret on the hosts that it opens, so that at every instant one value is known to work.

The new value is stored as `next`; a run sets it on the hosts, as the contract lets it; a fresh log-in with it proves it
(see proving.py); only then it is in force. A key's predecessor is withdrawn by a second run. What cannot be proven is
put back by another. Both values are kept until a log-in has proven which one holds.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncssh
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db, evidence
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts.models import Client
from msp.engine import crashpoints, queues
from msp.errors import Conflict, Misconfigured, NotFound
from msp.flows import credentials, keyring, runs
from msp.people.access import Actor, may
from msp.remote.models import Approval, Run, RunHost
from msp.remote.rotations import (
    APPLYING,
    BACKING,
    CHECKING,
    DONE,
    OPEN,
    PROVING,
    ROLLED_BACK,
    STUCK,
    WITHDRAWING,
    RotationHost,
    SecretRotation,
)
from msp.secret import Secret
from msp.secret_store import reference as references
from msp.secret_store.reference import Reference
from msp.settings import Settings
from msp.vault import CURRENT, NEXT, PREVIOUS, kind_of

HANDLER = "credential.prove"
TIDY = "tidy"  # what a job does when there is nothing left to prove
ABANDONED = timedelta(minutes=10)  # after which a rotation without a run never began
PLAYBOOKS = {"password": "rotate-password", "ssh_key": "rotate-ssh-key"}


def rotate(
    settings: Settings,
    *,
    client_id: int,
    secret: str,
    actor: Actor,
    ticket_id: int | None = None,
    now: datetime | None = None,
) -> int:
    """Begin to rotate a client's secret on every asset that it opens, and return the number of the rotation.

    Opens transactions of its own, because the value may be kept across a network. Raises NotFound for a secret that
    this actor may not see, Conflict while it is being rotated, Misconfigured for one that no asset uses, or that is no
    password or key of hosts reached by SSH; what the contract refuses ends the rotation at once.
    """
    now = now or utc_now()
    wanted = references.parse(secret)
    with db.begin() as session:
        client = session.get(Client, client_id)
        if client is None or not may(actor, "credential.rotate", client_id):
            raise NotFound(f"There is no secret {secret} of yours to rotate.", advice="Look it up on the desk.")
        rotation = _open(session, client, wanted, actor, ticket_id, now)
        number = rotation.id
    crashpoints.at("rotation.opened")
    try:
        with keyring.store_of(settings, wanted, client, actor.name) as store:
            old = store.get(wanted).value
            fresh, keys = new_value(old, f"msp {client.key} {now:%Y-%m-%d}")
            store.drop(value_at(wanted, NEXT))
            store.stage(wanted, fresh)
        crashpoints.at("rotation.staged")
        with db.begin() as session:
            rotation = session.get_one(SecretRotation, number)
            rotation.kind = kind_of(old.value)
            rotation.old_key, rotation.new_key = keys
            _begin_run(session, settings, rotation, now)
    except Exception:
        with db.begin() as session:
            end(session, session.get_one(SecretRotation, number), ROLLED_BACK, "It never began.", now)
        raise
    crashpoints.at("rotation.asked")
    return number


def new_value(old: Secret, comment: str) -> tuple[Secret, tuple[str, str]]:
    """Return a new secret of the same kind, and the public keys (old, new) of a key. Raises Misconfigured."""
    if kind_of(old.value) == "password":
        return credentials.generate(), ("", "")
    try:
        before = asyncssh.import_private_key(old.value)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise Misconfigured(f"The key in force cannot be read: {error}.", advice="Replace it on the desk.") from error
    key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
    publics = tuple(" ".join(one.export_public_key("openssh").decode().split()[:2]) for one in (before, key))
    return Secret(key.export_private_key("openssh").decode()), (publics[0], publics[1])


def _open(
    session: Session, client: Client, wanted: Reference, actor: Actor, ticket_id: int | None, now: datetime
) -> SecretRotation:
    row = keyring.known(session, client.id, str(wanted), lock=True)
    if row is None:
        raise NotFound(f"There is no secret {wanted} of {client.name}.", advice="Look it up on the desk.")
    busy = select(SecretRotation).where(
        SecretRotation.client_id == client.id,
        SecretRotation.secret == str(wanted),
        SecretRotation.state.in_((*OPEN, STUCK)),
    )
    before = session.scalar(busy.order_by(SecretRotation.id.desc()).limit(1))
    if before is not None:
        raise Conflict(
            f"Rotation {before.id} of {wanted} is {before.state}.", advice="Let it end, or check it again, first."
        )
    items = credentials.used_by(session, row)
    if not items:
        raise Misconfigured(f"No asset is opened by {wanted}.", advice="Replace it on the desk instead.")
    other = [one.name for one in items if one.transport != "ssh" or one.platform != "linux" or not log_in(one, wanted)]
    if other:
        raise Misconfigured(
            f"{', '.join(other[:5])} cannot be given a new secret by a playbook.", advice="Change it by hand."
        )
    rotation = SecretRotation(
        client_id=client.id,
        secret=str(wanted),
        kind=row.kind,
        state=APPLYING,
        ticket_id=ticket_id,
        asked_by=actor.name,
        asked_at=now,
    )
    session.add(rotation)
    session.flush()
    session.add_all(RotationHost(rotation_id=rotation.id, asset_id=item.id) for item in items)
    prove(session, rotation, "rotation.begun", actor.name, now, assets=[item.name for item in items])
    return rotation


def _begin_run(session: Session, settings: Settings, rotation: SecretRotation, now: datetime) -> None:
    given: dict[str, Any] = {"phase": "admit"} if rotation.kind == "ssh_key" else {}
    run = request(session, settings, rotation, given, [host.asset_id for host in hosts_of(session, rotation)], now)
    if run.state == "refused":
        end(session, rotation, ROLLED_BACK, str(run.decision.get("text", "")), now)


def request(
    session: Session,
    settings: Settings,
    rotation: SecretRotation,
    given: dict[str, Any],
    asset_ids: Sequence[int],
    now: datetime,
) -> Run:
    """Ask for the next run of a rotation; what was approved for its first run covers those that follow."""
    wanted = references.parse(rotation.secret)
    if rotation.kind == "ssh_key":
        parameters = {"new_key": rotation.new_key, "old_key": rotation.old_key, **given}
    else:
        parameters = {"old_password": wanted.at(CURRENT), "new_password": wanted.at(NEXT), **given}
    first = rotation.run_id
    run = runs.request_run(
        session,
        playbook=PLAYBOOKS[rotation.kind],
        asset_ids=asset_ids,
        actor=Actor(rotation.asked_by, frozenset({"technician"})),  # may rotate; the run is the contract's to decide
        parameters=parameters,
        ticket_id=rotation.ticket_id,
        own=settings.playbooks,
        now=now,
    )
    rotation.run_id, rotation.ticket_id, rotation.tries = run.id, run.ticket_id, 0
    if run.state == "awaiting_approval" and first is not None:
        _carry_approval(session, first, run, now)
    return run


def _carry_approval(session: Session, first: int, run: Run, now: datetime) -> None:
    """Let the word that somebody gave for the first run of a rotation cover a following one of the same playbook."""
    given = select(Approval).where(Approval.run_id == first, Approval.decision == "approved")
    approved = session.scalar(given.limit(1))
    asked = session.scalar(select(Approval).where(Approval.run_id == run.id).limit(1))
    if approved is None or asked is None or session.get_one(Run, first).digest != run.digest:
        return
    asked.decided_at, asked.decided_by, asked.decision = now, approved.decided_by, "approved"
    asked.reason = f"Approved with run {first} of the same rotation."
    run.state = "queued"
    runs.enqueue(session, run)
    evidence.record(
        session,
        "run.approved",
        actor=approved.decided_by or "",
        subject=("run", run.id),
        client_id=run.client_id,
        data={"playbook": run.playbook, "approval_digest": run.approval_digest, "with_run": first},
        at=now,
    )


def hosts_of(session: Session, rotation: SecretRotation) -> list[RotationHost]:
    """Return the hosts of a rotation, in order."""
    query = select(RotationHost).where(RotationHost.rotation_id == rotation.id).order_by(RotationHost.id)
    return list(session.scalars(query))


def follow(session: Session, run: Run, now: datetime) -> None:
    """Go on when the run of a rotation has ended; part of the transaction that ends it.

    However it ended, a log-in is asked what holds now: also a run that failed or is in doubt may have done its work.
    """
    query = select(SecretRotation).where(SecretRotation.run_id == run.id, SecretRotation.state.in_(OPEN))
    rotation = session.scalar(db.locked(query))
    if rotation is None:
        return
    if rotation.state == APPLYING and not _touched(session, run):
        end(session, rotation, ROLLED_BACK, f"Run {run.id} is {run.state}; no host was touched.", now)
        return
    ask_proof(session, rotation, PROVING if rotation.state == APPLYING else CHECKING, now)


def _touched(session: Session, run: Run) -> bool:
    query = select(RunHost.id).where(RunHost.run_id == run.id, RunHost.started_at.is_not(None))
    return run.state not in ("refused", "expired") and session.scalar(query.limit(1)) is not None


def ask_proof(
    session: Session, rotation: SecretRotation, state: str, now: datetime, *, pause: timedelta = timedelta()
) -> None:
    """Let the worker find out, by logging in, which value holds on each host."""
    rotation.state = state
    enqueue(session, rotation, state, now, pause=pause)


def enqueue(
    session: Session, rotation: SecretRotation, what: str, now: datetime, *, pause: timedelta = timedelta()
) -> None:
    """Queue work for a rotation: a proof in its state, or TIDY."""
    queues.enqueue(
        session,
        queues.RUNS,
        HANDLER,
        {"rotation_id": rotation.id, "state": what},
        job_id=f"rotation:{rotation.id}:{what}:{now:%Y%m%dT%H%M%S%f}",
        partition=rotation.client_id,
        not_before=now + pause if pause else None,
        client_id=rotation.client_id,
    )


def again(session: Session, rotation_id: int, *, actor: Actor, now: datetime | None = None) -> SecretRotation:
    """Look once more at a rotation that is stuck. Raises NotFound, or Conflict for one that is not."""
    now = now or utc_now()
    query = select(SecretRotation).where(SecretRotation.id == rotation_id)
    rotation = session.scalar(db.locked(query)) if abs(rotation_id) < 2**63 else None
    if rotation is None or not may(actor, "credential.rotate", rotation.client_id):
        raise NotFound(f"There is no rotation {rotation_id}.", advice="Look it up on the desk.")
    if rotation.state != STUCK:
        raise Conflict(f"Rotation {rotation.id} is {rotation.state}.", advice="Look at it again.")
    rotation.tries, rotation.ended_at = 0, None
    ask_proof(session, rotation, CHECKING if rotation.in_force else PROVING, now)
    prove(session, rotation, "rotation.looked_again", actor.name, now)
    return rotation


def end(session: Session, rotation: SecretRotation, state: str, found: str, now: datetime) -> None:
    """End a rotation. What is not in force is forgotten by a job of its own, and only if it is done or rolled back."""
    rotation.state, rotation.found, rotation.ended_at = state, found, now
    kind = {DONE: "rotation.proven", ROLLED_BACK: "rotation.rolled_back", STUCK: "rotation.stuck"}[state]
    prove(session, rotation, kind, "worker", now, found=found, hosts=_told(session, rotation))
    if state != STUCK:
        enqueue(session, rotation, TIDY, now)


def tidy(settings: Settings, rotation_id: int) -> None:
    """Forget what an ended rotation has left in the store: the next value, or the previous one."""
    with db.read() as session:
        rotation = session.get_one(SecretRotation, rotation_id)
        client = session.get_one(Client, rotation.client_id)
    if rotation.state in (DONE, ROLLED_BACK):
        wanted = references.parse(rotation.secret)
        with keyring.store_of(settings, wanted, client, "worker") as store:
            store.drop(value_at(wanted, PREVIOUS if rotation.in_force else NEXT))


def catch_up(session: Session, now: datetime) -> int:
    """Go on with rotations whose run ended without driving (declined, expired, cancelled), and end those whose
    beginning was cut short; return how many. A tick calls it."""
    ended = (
        select(Run)
        .join(SecretRotation, SecretRotation.run_id == Run.id)
        .where(SecretRotation.state.in_((APPLYING, WITHDRAWING, BACKING)), Run.finished_at.is_not(None))
    )
    runs_ended = list(session.scalars(ended.limit(50)))
    for run in runs_ended:
        follow(session, run, now)
    never = select(SecretRotation).where(
        SecretRotation.state == APPLYING, SecretRotation.run_id.is_(None), SecretRotation.asked_at < now - ABANDONED
    )
    cut_short = list(session.scalars(never.limit(50).with_for_update(skip_locked=True)))
    for rotation in cut_short:
        end(session, rotation, ROLLED_BACK, "It was cut short before anything was changed.", now)
    return len(runs_ended) + len(cut_short)


def _told(session: Session, rotation: SecretRotation) -> list[dict[str, Any]]:
    rows = [(session.get_one(ConfigurationItem, host.asset_id), host) for host in hosts_of(session, rotation)]
    return [{"name": item.name, "old_works": host.old_works, "new_works": host.new_works} for item, host in rows]


def log_in(item: ConfigurationItem, wanted: Reference) -> bool:
    """Return whether an asset is entered with this secret: one that only sudo asks for cannot be proven by a log-in."""
    return item.secret_name is not None and str(references.parse(item.secret_name)) == str(wanted)


def prove(session: Session, rotation: SecretRotation, kind: str, by: str, now: datetime, **data: Any) -> None:
    """Keep an act of a rotation as evidence."""
    whole = {"rotation": rotation.id, "secret": rotation.secret, "state": rotation.state, "run": rotation.run_id}
    evidence.record(
        session,
        kind,
        actor=by,
        subject=("secret", rotation.secret),
        client_id=rotation.client_id,
        data={**whole, **data},
        at=now,
    )


def value_at(wanted: Reference, which: str) -> Reference:
    """Return the reference of another value of a secret."""
    return references.parse(wanted.at(which))
