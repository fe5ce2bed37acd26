"""Effect claims: at most one remote effect for one key, whatever dies when.

Commit the claim, act on the host, then commit the result together with the finish. Whoever finds an unfinished
claim must not act: the effect may have happened. It is in doubt until a probe or a person resolves it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import groupby, islice
from typing import Any, Literal

from sqlalchemy import ColumnElement, CursorResult, and_, bindparam, select, update
from sqlalchemy.orm import Session

from msp.clock import utc_now
from msp.db import inserting, locked
from msp.engine.models import EffectClaim
from msp.errors import Conflict, Misconfigured, NotFound

Verdict = Literal["granted", "finished", "in_doubt"]
RAN = frozenset({"ran", "probe_ran"})
NOT_RAN = frozenset({"not_ran", "probe_not_ran"})
BATCH = 1000  # hosts a statement: SQLite allows 32,766 parameters


@dataclass(frozen=True, slots=True, order=True)
class ClaimKey:
    """One effect: a phase of a step of a run on one host. `attempt` counts deliberate repetitions, from 1."""

    run_id: int
    host_id: int
    step: int
    phase: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """granted: act now. finished: it ran before, do not act. in_doubt: it may have run, do not act."""

    key: ClaimKey
    verdict: Verdict


COLUMNS = (EffectClaim.run_id, EffectClaim.host_id, EffectClaim.step, EffectClaim.phase, EffectClaim.attempt)
_CLAIMS: Any = EffectClaim.__table__
#: Built once: a ledger of many hosts ends claims some hundred times a minute.
_END = (
    update(_CLAIMS)
    .where(
        _CLAIMS.c.run_id == bindparam("of_run"),
        _CLAIMS.c.host_id.in_(bindparam("hosts", expanding=True)),
        _CLAIMS.c.step == bindparam("of_step"),
        _CLAIMS.c.phase == bindparam("of_phase"),
        _CLAIMS.c.attempt == bindparam("of_attempt"),
        _CLAIMS.c.state == "claimed",
    )
    .values(state=bindparam("ended"), finished_at=bindparam("now"))
)


def _batches(keys: Iterable[ClaimKey]) -> Iterator[list[ClaimKey]]:
    """Yield the keys in batches that differ only in the host: one short statement does each, compiled once.

    One order everywhere, so that two workers cannot deadlock.
    """
    for _, group in groupby(sorted(set(keys), key=_order), key=_effect):
        while batch := list(islice(group, BATCH)):
            yield batch


def _effect(key: ClaimKey) -> tuple[int, int, str, int]:
    return key.run_id, key.step, key.phase, key.attempt


def _order(key: ClaimKey) -> tuple[tuple[int, int, str, int], int]:
    return _effect(key), key.host_id


def _these(batch: Sequence[ClaimKey]) -> ColumnElement[bool]:
    run_id, step, phase, attempt = _effect(batch[0])
    return and_(
        EffectClaim.run_id == run_id,
        EffectClaim.host_id.in_([key.host_id for key in batch]),
        EffectClaim.step == step,
        EffectClaim.phase == phase,
        EffectClaim.attempt == attempt,
    )


@cache
def _insert(dialect: str) -> Any:
    return inserting(dialect)(_CLAIMS).on_conflict_do_nothing().returning(*COLUMNS)


def claim_many(session: Session, keys: Sequence[ClaimKey], worker: str, now: datetime) -> list[ClaimResult]:
    """Claim every key and return a verdict for each, in the order given. Commit before touching any host.

    A key that is claimed and not finished becomes in_doubt, whoever holds it: also when it was this worker
    before a restart. A key resolved as not run is granted again; one resolved as run counts as finished.
    worker: slot name, kept for people. now: aware instant.
    """
    verdicts: dict[ClaimKey, Verdict] = {}
    insert = _insert(session.get_bind().dialect.name)
    for batch in _batches(keys):
        rows = [
            {
                "run_id": key.run_id,
                "host_id": key.host_id,
                "step": key.step,
                "phase": key.phase,
                "attempt": key.attempt,
                "state": "claimed",
                "worker": worker,
                "claimed_at": now,
                "note": "",
            }
            for key in batch
        ]
        inserted = {ClaimKey(*row) for row in session.connection().execute(insert, rows)}
        verdicts |= dict.fromkeys(inserted, "granted")
        known = [key for key in batch if key not in inserted]
        if known:
            for claim in _locked(session, known):
                verdicts[_key(claim)] = _second_look(claim, worker, now)
    session.flush()
    return [ClaimResult(key, verdicts[key]) for key in keys]


def _locked(session: Session, keys: Sequence[ClaimKey]) -> list[EffectClaim]:
    query = select(EffectClaim).where(_these(keys)).order_by(EffectClaim.id)
    return list(session.scalars(locked(query)))


def _key(claim: EffectClaim) -> ClaimKey:
    return ClaimKey(claim.run_id, claim.host_id, claim.step, claim.phase, claim.attempt)


def _second_look(claim: EffectClaim, worker: str, now: datetime) -> Verdict:
    if claim.state == "finished" or (claim.state == "resolved" and claim.resolution in RAN):
        return "finished"
    if claim.state == "resolved":
        claim.note = f"{claim.note}\n{claim.resolution} by {claim.resolved_by}; claimed again".strip()
        claim.state, claim.worker, claim.claimed_at = "claimed", worker, now
        claim.resolution = claim.resolved_by = None
        return "granted"
    claim.state = "in_doubt"
    return "in_doubt"


def end_many(session: Session, keys: Iterable[ClaimKey], state: Literal["finished", "in_doubt"], now: datetime) -> int:
    """End those of the keys that are still claimed, in the transaction that stores their results, and count them.

    What is no longer claimed is left as it is: this worker was taken for dead, and somebody else has it in hand.
    """
    found = 0
    for batch in _batches(keys):
        run_id, step, phase, attempt = _effect(batch[0])
        values = {
            "of_run": run_id,
            "hosts": [key.host_id for key in batch],
            "of_step": step,
            "of_phase": phase,
            "of_attempt": attempt,
            "ended": state,
            "now": now if state == "finished" else None,
        }
        ended: CursorResult[Any] = session.connection().execute(_END, values)
        found += ended.rowcount
    return found


def resolve(session: Session, key: ClaimKey, resolution: str, by: str, note: str = "") -> None:
    """Say whether an effect in doubt ran: ran | not_ran (a person) or probe_ran | probe_not_ran (a probe).

    by: log-in name or worker. Raises NotFound for an unknown key, Conflict if it is not in doubt (somebody
    answered first), Misconfigured for another word.
    """
    if resolution not in RAN | NOT_RAN:
        raise Misconfigured(f"{resolution!r} says nothing about an effect.", advice="Say ran or not_ran.")
    found = _locked(session, [key])
    if not found:
        raise NotFound(f"No effect is claimed for step {key.step} of run {key.run_id} on host {key.host_id}.")
    claim = found[0]
    if claim.state != "in_doubt":
        raise Conflict(
            f"Step {key.step} of run {key.run_id} on host {key.host_id} is not in doubt, it is {claim.state}.",
            advice="Look at the run again.",
        )
    claim.state, claim.resolution, claim.resolved_by = "resolved", resolution, by
    claim.note = f"{claim.note}\n{note}".strip()
    claim.finished_at = utc_now() if resolution in RAN else None
    session.flush()


def in_doubt(session: Session, *, run_id: int | None = None) -> list[EffectClaim]:
    """Return the claims that wait for an answer, oldest first; of one run if `run_id` is given."""
    query = select(EffectClaim).where(EffectClaim.state == "in_doubt").order_by(EffectClaim.claimed_at, EffectClaim.id)
    return list(session.scalars(query if run_id is None else query.where(EffectClaim.run_id == run_id)))
