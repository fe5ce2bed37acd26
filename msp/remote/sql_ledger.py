"""The ledger of a stored run: claims, results, ends, evidence and events of one batch in one transaction."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from msp import db, events, evidence
from msp.clock import utc_now
from msp.engine import claims, crashpoints
from msp.engine.claims import ClaimKey
from msp.engine.models import EffectClaim
from msp.errors import Conflict
from msp.remote import pictures
from msp.remote.ledger import History, HostEnd, Key, StepRecord, Verdict
from msp.remote.models import Run, RunHost, StepResult
from msp.remote.network import versions as device_versions
from msp.remote.outcome import Outcome
from msp.remote.output import Captured

ONE_OF_A_KIND = ("run_host_id", "step", "phase", "attempt")
_HOSTS: Any = RunHost.__table__
_HOST = _HOSTS.c.id == bindparam("host")
_STATE = select(Run.state).where(Run.id == bindparam("run"))
_BEGIN = (
    update(_HOSTS)
    .where(_HOSTS.c.id.in_(bindparam("hosts", expanding=True)), _HOSTS.c.started_at.is_(None))
    .values(state="running", started_at=bindparam("now"))
)
#: Another worker may have been first; then its word stands.
_END = (
    update(_HOSTS)
    .where(_HOST, _HOSTS.c.outcome.is_(None))
    .values(
        state="finished",
        outcome=bindparam("kind"),
        status=bindparam("exit_status"),
        detail=bindparam("said"),
        finished_at=bindparam("now"),
        started_at=func.coalesce(_HOSTS.c.started_at, bindparam("began")),
    )
)


@cache
def _store(dialect: str) -> Any:
    """Return the statement that inserts a result; one told again after an interruption replaces what was known."""
    table: Any = StepResult.__table__
    statement = db.inserting(dialect)(table)
    kept = ("id", "run_id", *ONE_OF_A_KIND)
    fresh = {column.name: statement.excluded[column.name] for column in table.c if column.name not in kept}
    return statement.on_conflict_do_update(index_elements=ONE_OF_A_KIND, set_=fresh)


class SqlLedger:
    """Remembers one run. Its methods block, each for one transaction; call them from a thread."""

    blocking = True

    def __init__(self, run_id: int, worker: str) -> None:
        """worker: the slot name that claims are written under, for people."""
        self._run_id, self._worker = run_id, worker
        with db.read() as session:
            of_run = select(Run.client_id, Run.requested_at, Run.digest).where(Run.id == run_id)
            run = session.execute(of_run).one()
            self._client_id = run.client_id
            # a host may be looked after from two installations, each with a run of this number
            self._mark = hashlib.sha256(f"{run.requested_at.isoformat()} {run.digest}".encode()).hexdigest()[:8]
            rows = session.execute(select(RunHost.position, RunHost.id).where(RunHost.run_id == run_id))
            self._ids: dict[int, int] = {row[0]: row[1] for row in rows}
        self._positions = {host_id: position for position, host_id in self._ids.items()}
        self._begun: set[int] = set()  # hosts that we have marked as running
        self._granted: set[ClaimKey] = set()  # by us, so that we know of what was never sent

    def history(self) -> History:
        """Return results and doubts that an earlier execution left behind."""
        with db.read() as session:
            stored = session.scalars(select(StepResult).where(StepResult.run_id == self._run_id))
            records = {record.key: record for record in map(self._record, stored)}
            claimed = list(session.scalars(select(EffectClaim).where(EffectClaim.run_id == self._run_id)))
            doubts = frozenset(
                self._key_of(claim)
                for claim in claimed
                if claim.state in ("claimed", "in_doubt") or self._untold(claim, records)
            )
            ran = frozenset(
                self._key_of(claim)
                for claim in claimed
                if claim.state == "finished" or (claim.state == "resolved" and claim.resolution in claims.RAN)
            )
        return History(records, doubts, ran)

    def _untold(self, claim: EffectClaim, records: Mapping[Key, StepRecord]) -> bool:
        """Whether an effect was found to have happened, and no result says so yet: it still counts for undoing."""
        known = records.get(self._key_of(claim))
        return claim.resolution in claims.RAN and (known is None or known.outcome.in_doubt)

    def write(
        self, records: Sequence[StepRecord], ends: Sequence[HostEnd], claims_asked: Sequence[Key]
    ) -> Mapping[Key, Verdict]:
        """Store results and ends and claim effects; all or nothing. Raises Conflict if the run was taken over."""
        crashpoints.at("ledger.before")
        with db.begin() as session:
            verdicts = self._write(session, records, ends, claims_asked)
            crashpoints.at("ledger.written")
        crashpoints.at("ledger.claimed" if claims_asked else "ledger.told")
        return verdicts

    def _write(
        self, session: Session, records: Sequence[StepRecord], ends: Sequence[HostEnd], asked: Sequence[Key]
    ) -> Mapping[Key, Verdict]:
        now = utc_now()
        if asked:
            self._still_ours(session)
        touched = {self._ids[key.host] for key in (*(record.key for record in records), *asked)} - self._begun
        if touched:
            session.connection().execute(_BEGIN, {"hosts": sorted(touched), "now": now})
            self._begun |= touched
        if records:
            self._results(session, records)
            if any(record.pictures for record in records):
                pictures.store(session, self._run_id, self._ids, records)
            if any(record.configuration for record in records):
                device_versions.store(session, self._run_id, self._ids, records)
            self._settle_claims(session, records, now)
        if ends:
            session.connection().execute(_END, [self._end(end) for end in ends])
        verdicts = claims.claim_many(session, [self._claim(key) for key in asked], self._worker, now) if asked else []
        self._granted |= {result.key for result in verdicts if result.verdict == "granted"}
        if records or ends:
            self._tell(session, records, ends)
        return {key: result.verdict for key, result in zip(asked, verdicts, strict=True)}

    def _still_ours(self, session: Session) -> None:
        """Raise Conflict when the run was ended meanwhile by somebody who took us for dead: no effect may follow."""
        state = session.connection().scalar(_STATE, {"run": self._run_id})
        if state not in ("running", "cancelling", "queued"):
            raise Conflict(f"Run {self._run_id} is {state} already.", advice="Look at the run before anything else.")

    def resolve(self, key: Key, *, ran: bool) -> None:
        """Settle an effect in doubt by what a read-only probe found; one that was settled so before stays so."""
        with db.begin() as session:
            if ran and claims.claim_many(session, [self._claim(key)], self._worker, utc_now())[0].verdict == "finished":
                return
            word = "probe_ran" if ran else "probe_not_ran"
            claims.resolve(session, self._claim(key), word, self._worker, "The step's own probe told.")
            evidence.record(
                session,
                "run.doubt_resolved",
                actor=self._worker,
                subject=("run", self._run_id),
                client_id=self._client_id,
                data={"position": key.host, "step": key.step, "phase": key.phase, "resolution": word},
            )
        crashpoints.at("ledger.resolved")

    def token(self, key: Key) -> str:
        """Return the word by which the effect's process can be found again on the host."""
        return f"msp-{self._mark}-{self._run_id}-{key.host}-{key.step}-{key.phase}-{key.attempt}"

    def _claim(self, key: Key) -> ClaimKey:
        return ClaimKey(self._run_id, self._ids[key.host], key.step, key.phase, key.attempt)

    def _key_of(self, claim: EffectClaim) -> Key:
        return Key(self._positions[claim.host_id], claim.step, claim.phase, claim.attempt)  # type: ignore[arg-type]

    def _results(self, session: Session, records: Sequence[StepRecord]) -> None:
        """Store results, the last of those told twice."""
        last = {record.key: record for record in records}
        session.connection().execute(_store(session.get_bind().dialect.name), list(map(self._row, last.values())))

    def _settle_claims(self, session: Session, records: Sequence[StepRecord], now: datetime) -> None:
        """Finish the claims of what is known; what is in doubt stays so until somebody knows."""
        known: list[ClaimKey] = []
        doubted: list[ClaimKey] = []
        for record in records:
            if record.key.phase == "connect":
                self._never_sent(session, self._ids[record.key.host], record.key.step)
            elif record.key.phase in ("do", "undo") and (claim := self._claim(record.key)) in self._granted:
                (doubted if record.outcome.in_doubt else known).append(claim)
        claims.end_many(session, known, "finished", now)
        claims.end_many(session, doubted, "in_doubt", now)

    def _never_sent(self, session: Session, host_id: int, step: int) -> None:
        """Release what we claimed for a step to which no connection could be opened again; a predecessor's stays."""
        for key in sorted(key for key in self._granted if (key.host_id, key.step) == (host_id, step)):
            held = select(EffectClaim).where(
                EffectClaim.run_id == key.run_id,
                EffectClaim.host_id == key.host_id,
                EffectClaim.step == key.step,
                EffectClaim.phase == key.phase,
                EffectClaim.attempt == key.attempt,
                EffectClaim.state == "claimed",
            )
            claim = session.scalar(held.with_for_update())
            if claim is not None:
                claim.state = "in_doubt"
                session.flush()
                claims.resolve(session, key, "probe_not_ran", self._worker, "No connection could be opened for it.")

    def _end(self, end: HostEnd) -> dict[str, Any]:
        return {
            "host": self._ids[end.position],
            "kind": end.outcome.kind,
            "exit_status": end.outcome.status,
            "said": end.outcome.detail,
            "began": end.started_at,
            "now": end.finished_at,
        }

    def _tell(self, session: Session, records: Sequence[StepRecord], ends: Sequence[HostEnd]) -> None:
        said = {"steps": [_said(record) for record in records], "hosts": [_over(end) for end in ends]}
        events.record(session, f"run:{self._run_id}", "run.steps", client_id=self._client_id, data=said)
        evidence.record(
            session,
            "run.steps",
            actor=self._worker,
            subject=("run", self._run_id),
            client_id=self._client_id,
            data={"steps": [_proof(record) for record in records], "hosts": [_ended(end) for end in ends]},
        )

    def _row(self, record: StepRecord) -> dict[str, Any]:
        key, outcome, out, err = record.key, record.outcome, record.out, record.err
        return {
            "run_id": self._run_id,
            "run_host_id": self._ids[key.host],
            "step": key.step,
            "phase": key.phase,
            "attempt": key.attempt,
            "name": record.name,
            "outcome": outcome.kind,
            "status": outcome.status,
            "detail": outcome.detail,
            "rendered": record.rendered.replace("\0", ""),
            "stdout_head": out.head,
            "stdout_tail": out.tail,
            "stdout_bytes": out.size,
            "stdout_sha256": out.sha256,
            "stderr_head": err.head,
            "stderr_tail": err.tail,
            "stderr_bytes": err.size,
            "stderr_sha256": err.sha256,
            "started_at": record.started_at,
            "finished_at": record.finished_at,
        }

    def _record(self, row: StepResult) -> StepRecord:
        return StepRecord(
            key=Key(self._positions[row.run_host_id], row.step, row.phase, row.attempt),  # type: ignore[arg-type]
            host="",
            name=row.name,
            outcome=Outcome(row.outcome, status=row.status, detail=row.detail),  # type: ignore[arg-type]
            rendered=row.rendered,
            started_at=row.started_at,
            finished_at=row.finished_at,
            out=_captured(row.stdout_head, row.stdout_tail, row.stdout_bytes, row.stdout_sha256),
            err=_captured(row.stderr_head, row.stderr_tail, row.stderr_bytes, row.stderr_sha256),
        )


def _captured(head: bytes, tail: bytes, size: int, sha256: str) -> Captured:
    return Captured(head, tail, size, sha256, max(size - len(head) - len(tail), 0))


def _said(record: StepRecord) -> dict[str, Any]:
    """Return what an open page shows of a result; output is fetched when somebody looks."""
    key, outcome = record.key, record.outcome
    said = {"host": record.host, "step": key.step, "phase": key.phase, "name": record.name, "outcome": outcome.kind}
    return said | {"detail": outcome.detail} if outcome.detail else said


def _over(end: HostEnd) -> dict[str, Any]:
    """Return what an open page shows of a host's end."""
    return {"host": end.host, "outcome": end.outcome.kind, "detail": end.outcome.detail}


def _proof(record: StepRecord) -> dict[str, Any]:
    return {
        "host": record.host,
        "step": record.key.step,
        "phase": record.key.phase,
        "attempt": record.key.attempt,
        "name": record.name,
        "outcome": str(record.outcome),
        "started_at": record.started_at.isoformat(),
        "finished_at": record.finished_at.isoformat(),
        "stdout": {"bytes": record.out.size, "sha256": record.out.sha256},
        "stderr": {"bytes": record.err.size, "sha256": record.err.sha256},
        **({"pictures": [pictures.proof(shot) for shot in record.pictures]} if record.pictures else {}),
        **({"configuration": device_versions.proof(record.configuration)} if record.configuration else {}),
    }


def _stream(captured: Captured) -> dict[str, Any]:
    told: dict[str, Any] = {"bytes": captured.size, "sha256": captured.sha256}
    if captured.kept is not None:
        told |= {"file": captured.kept.file, "file_bytes": captured.kept.size, "file_whole": not captured.kept.why}
    return told


def _ended(end: HostEnd) -> dict[str, Any]:
    return {"host": end.host, "outcome": str(end.outcome), "detail": end.outcome.detail}
