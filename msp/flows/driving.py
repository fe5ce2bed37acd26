"""One shard of a run, in the worker: read what to do, do it with no transaction open, settle when all have ended."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from msp import db, events, evidence
from msp.assets import inventory, reach
from msp.assets.models import ConfigurationItem
from msp.assets.reach import Reachable
from msp.clock import utc_now
from msp.contracts.clauses import ALLOW, ASK, BreakGlass
from msp.desk import tickets
from msp.engine import crashpoints, perform, queues
from msp.engine.models import Job
from msp.errors import Conflict, MspError, NotFound, Refused
from msp.flows import after_run, approving, deciding, keyring, offline, reaching, runs
from msp.flows.reaching import target_of as target_of
from msp.redact import Redactor
from msp.remote import catalogue, plan
from msp.remote.models import Run, RunHost
from msp.remote.run_certificates import RunCertificates
from msp.remote.runner import Runner
from msp.remote.spool import MEGABYTE, Spool
from msp.remote.sql_ledger import SqlLedger
from msp.remote.target import Target
from msp.remote.wires import Wires
from msp.settings import Settings
from msp.vault import CURRENT, Secret, Vault

WIRES = Wires()  # of this process: connections stay warm from one run to the next
NOT_ASKED_FOR = "The run is not what the contract was asked for."
LOOK_AGAIN = timedelta(seconds=5)  # how old the answer to "may we still?" may be


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that driving a shard needs, read in one transaction; nothing in it is a stored object."""

    run_id: int
    client_id: int | None
    actor: str
    plan: plan.Plan
    targets: tuple[Target, ...]
    positions: tuple[int, ...]
    parallel: int
    max_fail: int | None
    dry_run: bool
    looked_at: datetime  # when the contract was asked about the hosts
    refused: Mapping[str, str]  # why nothing may be done to a host, by its name


def drive(settings: Settings, run_id: int, shard: int, segment: str | None = None) -> None:
    """Drive one shard to its end. Entered again after a crash it goes on where the ledger says it was.

    segment: of the job that asks; nothing is done if a later one has taken the shard up (None: whoever asks).
    Raises HandBack when this worker is stopping; another one goes on.
    """
    with db.begin() as session:
        state = begin(session, run_id, shard, segment, own=settings.playbooks)
    if state is None:
        return
    crashpoints.at("run.started")
    if state == "running":
        with db.read() as session:
            wanted = keyring.of_run(session, run_id, shard)
        fetched = keyring.fetch(settings, wanted)
        with db.begin() as session:  # a first secret of a client writes its key
            work = read(session, settings, run_id, shard, fetched)
        interrupted = work is not None and bool(work.targets) and WIRES.run(_run(settings, work))
        if interrupted:
            raise queues.HandBack
    crashpoints.at("run.driven")
    with db.begin() as session:
        offline.wait(session, run_id, shard, utc_now())
        after_run.finish(session, run_id, now=utc_now())
    crashpoints.at("run.finished")


def begin(session: Session, run_id: int, shard: int, segment: str | None = None, *, own: str = "") -> str | None:
    """Mark a run as running and return its state; None if it has moved on (cancelled, ended).

    own: the setting `playbooks`. What was cancelled, and what is no longer the run that was decided upon, is ended
    here: nothing of it is sent.
    """
    run = session.scalar(db.locked(select(Run).where(Run.id == run_id)))
    if run is None or run.state not in ("queued", "running", "cancelling") or _late(session, run, shard, segment):
        return None
    if run.state == "cancelling":  # its worker died before it could stop
        after_run.end_rest(session, run, "cancelled", "Cancelled by a person.", utc_now(), shard=shard)
        return run.state
    if run.state == "queued":
        run.state, run.started_at = "running", run.started_at or utc_now()
        events.record(session, f"run:{run.id}", "run.changed", client_id=run.client_id, data={"state": run.state})
    if approving.altered(session, run, run.approval_digest, own):
        after_run.end_rest(session, run, "refused", NOT_ASKED_FOR, utc_now(), shard=shard)
        return "refused"
    return run.state


def _late(session: Session, run: Run, shard: int, segment: str | None) -> bool:
    """Return whether a later job has the shard: this one ended before, and was begun again because its worker died."""
    if segment is None:
        return False
    jobs = select(Job.id).where(Job.id.startswith(runs.job_id(run.id, shard, ""))).order_by(Job.created_at.desc())
    newest = session.scalar(jobs.limit(1))
    return newest is not None and newest != runs.job_id(run.id, shard, segment)


def read(
    session: Session,
    settings: Settings,
    run_id: int,
    shard: int,
    fetched: keyring.Fetched = MappingProxyType({}),
) -> Work | None:
    """Return the work of one shard: its plan with secrets opened, and a target for each host not yet ended.

    fetched: what other stores than our vault keep for it. A host whose credential was withdrawn ends as refused; all
    do if what was read for the plan is not what was decided upon, and nothing is returned.
    """
    run = session.get_one(Run, run_id)
    keys = keyring.Keyring(Vault.from_file(settings.key_path), fetched)

    def secret(reference: str) -> Secret:
        return keys.get(session, reference, client_id=run.client_id or 0)

    ready = _planned(session, run, settings.playbooks, secret)
    if ready is None:
        run = session.get_one(Run, run_id, with_for_update=True)
        after_run.end_rest(session, run, "refused", NOT_ASKED_FOR, utc_now(), shard=shard)
        return None
    query = (
        select(RunHost.id.label("host_id"), RunHost.position, *reach.COLUMNS)
        .join(ConfigurationItem, ConfigurationItem.id == RunHost.asset_id)
        .where(RunHost.run_id == run.id, RunHost.shard == shard, RunHost.outcome.is_(None))
        .order_by(RunHost.position)
    )
    rows, now = list(session.execute(query)), utc_now()
    shut = keyring.for_run(session, run, [(row.host_id, row) for row in rows], now)
    rows = [row for row in rows if row.host_id not in shut]
    refused = _refusals(session, run, rows, now)
    values = keyring.values_in_use(session, run)
    certificates = RunCertificates(
        keys.vault,
        run.client_id or 0,
        run.actor,
        run.id,
        longest_step=reaching.longest_step(ready),
        force_command=reaching.only_command(ready, dry_run=run.dry_run),
    )
    once, pins = reaching.Once(keys), inventory.all_pinned(session, [row.id for row in rows])
    targets: dict[int, Target] = {}  # by position
    for row in rows:
        try:
            targets[row.position] = target_of(
                session, once, row, which=values.get(row.id, CURRENT), certificates=certificates, pins=pins
            )
        except MspError as error:  # one host's secret that does not open keeps no other host waiting
            kind = "not_started" if error.retry else "refused" if isinstance(error, Refused) else "auth_failed"
            host = session.get_one(RunHost, row.host_id)
            host.state, host.outcome, host.detail, host.finished_at = "finished", kind, error.what, now
    return Work(
        run_id=run.id,
        client_id=run.client_id,
        actor=run.actor,
        plan=ready,
        targets=tuple(targets.values()),
        positions=tuple(targets),
        parallel=run.parallel,
        max_fail=run.max_fail,
        dry_run=run.dry_run,
        looked_at=now,
        refused=refused,
    )


def _planned(session: Session, run: Run, own: str, secret: Callable[[str], Secret]) -> plan.Plan | None:
    """Return the plan of a run, or None if what was read for it is not what was decided upon."""
    try:
        ready = catalogue.planned(run.document, run.parameters, own, secret=secret)
    except MspError:
        if approving.altered(session, run, run.approval_digest, own):
            return None
        raise
    return None if approving.differs(session, run, run.approval_digest, ready.digest) else ready


async def _run(settings: Settings, work: Work) -> bool:
    """Drive the hosts; return whether some were interrupted because this worker is stopping."""
    redactor, spool = Redactor(_credentials(work)), None
    if settings.spool_mb > 0:
        spool = Spool(settings.data / "spool" / f"run-{work.run_id}", settings.spool_mb * MEGABYTE, redactor)
        spool.open()
    runner = Runner(
        work.plan,
        work.targets,
        SqlLedger(work.run_id, settings.worker_name),
        WIRES.transport,
        parallel=work.parallel,
        dry_run=work.dry_run,
        redactor=redactor,
        should_stop=perform.draining,
        window=_window_of(work),
        positions=work.positions,
        max_fail=work.max_fail,
        run={"id": work.run_id, "actor": work.actor},
        spool=spool,
    )
    watch = asyncio.create_task(_watch_for_cancel(runner, work.run_id))
    try:
        report = await runner.run()
    finally:
        watch.cancel()
    return bool(report.interrupted)


def _credentials(work: Work) -> list[str]:
    values = [target.credential.password or target.credential.private_key for target in work.targets]
    return [value.value for value in values if value]


async def _watch_for_cancel(runner: Runner, run_id: int) -> None:
    """Cancel the runner once somebody has cancelled the run."""
    while True:
        if await asyncio.to_thread(_state, run_id) == "cancelling":
            runner.cancel("Cancelled by a person.")
        await asyncio.sleep(0.5)


def _state(run_id: int) -> str | None:
    with db.read() as session:
        return session.scalar(select(Run.state).where(Run.id == run_id))


def _window_of(work: Work) -> Callable[[Target], str | None]:
    """Return a function that says why nothing may be done to a host now, or None; it looks at most every 5 s.

    It looks for all hosts at once: asking the database before every step of every host would cost more than the step.
    """
    looked_at, refused = work.looked_at, work.refused

    def why_not(target: Target) -> str | None:
        nonlocal looked_at, refused
        now = utc_now()
        if now - looked_at > LOOK_AGAIN:
            with db.read() as session:
                refused = _look_again(session, work, now)
            looked_at = now
        return refused.get(target.name)

    return why_not


def _look_again(session: Session, work: Work, now: datetime) -> dict[str, str]:
    """Return why nothing may be done now, by name of the hosts that are refused."""
    run = session.get_one(Run, work.run_id)
    ids = [target.asset_id for target in work.targets if target.asset_id is not None]
    query = select(ConfigurationItem).where(ConfigurationItem.id.in_(ids))
    items = list(
        session.scalars(query.options(defer(ConfigurationItem.facts), defer(ConfigurationItem.old_algorithms)))
    )
    shut = keyring.forbidden(session, run, items, now)
    found = {item.name: shut[item.id] for item in items if item.id in shut}
    return found | _refusals(session, run, [item for item in items if item.id not in shut], now)


def _refusals(session: Session, run: Run, items: Sequence[Reachable], now: datetime) -> dict[str, str]:
    """Return what the contract, or the run's own last moment, has against acting on items now, by their names."""
    if run.not_after is not None and now > run.not_after:
        return dict.fromkeys(
            (item.name for item in items), f"The run had to be done by {run.not_after:%Y-%m-%d %H:%M} UTC."
        )
    glass = run.decision.get("break_glass")
    broken = BreakGlass(glass["approver"], glass["reason"]) if glass else None
    asked = deciding.Deciding(session, now)
    found = {}
    for item in items:
        said = asked.decide(item, run.action_class, actor=run.actor, break_glass=broken, prepaid=False).decision
        if said.effect != ALLOW and not (said.effect == ASK and run.decision["effect"] == ASK):
            found[item.name] = said.text
    return found


def gave_up(session: Session, payload: dict[str, Any], what: str) -> None:
    """End what is left of a shard whose job has failed for good: hosts not begun are not started, others unknown.

    Hosts of other shards may be at work in another worker; the run ends when the last shard has.
    """
    run = session.scalar(db.locked(select(Run).where(Run.id == int(payload["run_id"]))))
    if run is None or run.finished_at is not None:
        return
    shard = int(payload["shard"])
    if _late(session, run, shard, payload.get("segment", "1")):
        return
    now = utc_now()
    after_run.end_rest(session, run, "lost", what, now, shard=shard)
    after_run.finish(session, run.id, now=now)


def cancel(session: Session, run_id: int, *, by: str) -> Run:
    """Cancel a run. One that waits ends at once; one at work is told to stop, and says what it could not take back.

    Raises NotFound, or Conflict for a run that has ended or is being cancelled.
    """
    run = session.scalar(db.locked(select(Run).where(Run.id == run_id)))
    if run is None:
        raise NotFound(f"There is no run {run_id}.", advice="Look it up in the list.")
    if run.state in ("awaiting_approval", "queued"):
        run.state, run.finished_at = "cancelled", utc_now()
        after_run.end_rest(session, run, "cancelled", "Cancelled by a person.", utc_now())
        if run.ticket_id is not None:
            ticket, text = tickets.get(session, run.ticket_id, lock=True), f"{run.playbook}: cancelled by {by}."
            data = {"run": run.id, "state": run.state}
            tickets.append(session, ticket, "run", by=by, public=True, text=text, data=data)
    elif run.state == "running":
        run.state = "cancelling"
    else:
        raise Conflict(f"Run {run_id} is {run.state} already.", advice="Look at the run.")
    evidence.record(session, "run.cancelled", actor=by, subject=("run", run.id), client_id=run.client_id)
    events.record(session, f"run:{run.id}", "run.changed", client_id=run.client_id, data={"state": run.state})
    return run
