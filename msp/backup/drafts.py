"""Plans that are still being written, step by step. Nothing of a draft is tested on schedule or counts for a proof.

Each step is stored by itself, so the writer may leave and go on later; the plan is written once, at the end, by
`msp.flows.backup_plans.save`. Functions take a session and never commit.
"""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.backup import case as cases
from msp.backup import case_fields, engines, places, proposals
from msp.backup import ladder as ladders
from msp.backup.case import Case
from msp.backup.ladder import AFTER_BACKUP
from msp.backup.models import BackupDraft, BackupPlan
from msp.backup.proposals import Question
from msp.backup.verdict import PROOF_RUNG
from msp.engine import cron
from msp.errors import Conflict, Misconfigured, NotFound, Refused

STEPS = ("asset", "engine", "trial", "found", "ladder", "summary")
TRIAL_STATES = ("queued", "running", "done", "failed")
DEFAULT_CRON = "30 3 * * *"


@dataclass(frozen=True, slots=True)
class Choice:
    """One question of the first restore, or an assertion of the plan that stands, and whether it is ticked."""

    question: Question
    ticked: bool


def begin(
    session: Session,
    now: datetime,
    *,
    client_id: int,
    by: str,
    time_zone: str,
    asset_id: int | None = None,
    asset_name: str = "",
    proof_every: timedelta | None = None,
) -> BackupDraft:
    """Begin a new plan. proof_every: the contract's clause, as the first offer."""
    answers = {
        "name": f"{asset_name} backup".strip() if asset_name else "",
        "time_zone": time_zone,
        "proof_every_s": int((proof_every or timedelta(days=7)).total_seconds()),
    }
    draft = BackupDraft(
        client_id=client_id, asset_id=asset_id, by=by, created_at=now, changed_at=now, answers=answers, trial={},
        trial_number=_before_the_first(),
    )  # fmt: skip
    session.add(draft)
    session.flush()
    return draft


def _before_the_first() -> int:
    """Return what a draft counts its first restores from: a row's number is given again once a draft is gone, and
    what was asked for the one before must not be taken for this one's."""
    return secrets.randbelow(1 << 30)


def begin_change(session: Session, plan: BackupPlan, now: datetime, *, by: str) -> BackupDraft:
    """Begin to change a plan, or go on where this person left off. Until it is saved the plan stays as it is."""
    if plan.removed_at is not None:
        raise Conflict(f"The backup plan {plan.name} was removed.", advice="Put it back first.")
    known = session.scalar(select(BackupDraft).where(BackupDraft.plan_id == plan.id, BackupDraft.by == by))
    if known is not None:
        return known
    case, rest, kept = taken_apart(plan.case, plan.engine)
    answers = {
        "name": plan.name,
        "engine": plan.engine,
        "case": case,
        "rest": rest,
        "kept": [question.plain() for question in kept],
        "secret_name": plan.secret_name,
        "proof_every_s": int(plan.proof_every.total_seconds()),
        "every_s": int(plan.every.total_seconds()) if plan.every else None,
        "cron": plan.cron,
        "time_zone": plan.time_zone,
        "ladder": list(plan.ladder),
        "limits": dict(plan.limits),
        "seen": fingerprint(plan),
    }
    draft = BackupDraft(
        client_id=plan.client_id, asset_id=plan.asset_id, plan_id=plan.id, by=by, created_at=now, changed_at=now,
        answers=answers, trial={}, trial_number=_before_the_first(),
    )  # fmt: skip
    session.add(draft)
    session.flush()
    return draft


def taken_apart(document: Mapping[str, Any], engine: str) -> tuple[dict[str, Any], dict[str, Any], list[Question]]:
    """Return a stored case in three: what a form shows, what it cannot say, and what is asserted. Pure.

    Nothing that a test would read is in none of them.
    """
    case, rest = case_fields.apart(document, engine)
    rest = {name: value for name, value in rest.items() if name not in ("case", "secret")}
    expect = rest.pop("expect", None) or {}
    told = {one.name.split(".")[1] for one in case_fields.of(engine) if one.name.startswith("expect.")}
    told -= {"postgres", "mariadb"}
    kept = proposals.standing(expect, told)
    unsaid = {name: value for name, value in expect.items() if name in told and value is not None}
    for name in ("postgres", "mariadb"):
        if isinstance(expect.get(name), Mapping):
            chosen = {"database": one} if (one := expect[name].get("database")) is not None else {}
            if chosen or not any(name in question.expect for question in kept):
                unsaid[name] = chosen
    return case, {**rest, "expect": unsaid} if unsaid else rest, kept


def fingerprint(plan: BackupPlan) -> str:
    """Return what tells whether a plan was changed meanwhile."""
    parts: list[Any] = [
        plan.name,
        plan.engine,
        plan.case,
        plan.secret_name,
        plan.cron,
        plan.time_zone,
        plan.ladder,
        plan.limits,
    ]
    parts += [plan.asset_id, plan.proof_every.total_seconds(), plan.every.total_seconds() if plan.every else None]
    return json.dumps(parts, sort_keys=True, ensure_ascii=False)


def answer(draft: BackupDraft, now: datetime, **values: Any) -> None:
    """Store answers. What was tried is forgotten when where the backup lies or how it is opened has changed."""
    tried = _tried(draft.answers)
    draft.answers = {**draft.answers, **values}
    draft.changed_at = now
    if _tried(draft.answers) != tried:
        forget_trial(draft)
        draft.answers = {**draft.answers, "judged": False}


def forget_trial(draft: BackupDraft) -> None:
    """Let go of the first restore; one that is still at work ends by itself, and what it finds is dropped."""
    draft.trial_state, draft.trial = None, {}


def _tried(answers: Mapping[str, Any]) -> list[Any]:
    return [answers.get(name) for name in ("engine", "case", "rest", "secret_name")]


def choices(draft: BackupDraft) -> list[Choice]:
    """Return everything that may be asserted, what the plan asserted before among it.

    What was never judged is ticked, unless it asserts nothing.
    """
    found = {one.key: one for one in map(proposals.read_question, draft.answers.get("kept") or ())}
    found |= {one.key: one for one in map(proposals.read_question, draft.trial.get("questions") or ())}
    said: Mapping[str, bool] = draft.answers.get("ticked") or {}
    return [Choice(one, bool(one.expect) and said.get(key, True)) for key, one in found.items()]


def tick(draft: BackupDraft, keys: Iterable[str], now: datetime) -> None:
    """Keep which of the questions on offer were answered with yes."""
    yes = set(keys)
    said = {one.question.key: one.question.key in yes for one in choices(draft) if one.question.expect}
    answer(draft, now, ticked={**(draft.answers.get("ticked") or {}), **said}, judged=True)


def document(draft: BackupDraft, *, asserted: bool = True) -> dict[str, Any]:
    """Return the case that the draft makes; without what is asserted for the first restore."""
    answers = draft.answers
    case = {**(answers.get("rest") or {}), **(answers.get("case") or {}), "engine": answers.get("engine")}
    parts = [one.get("expect") or {} for one in (answers.get("rest") or {}, answers.get("case") or {})]
    parts += [one.question.expect for one in choices(draft) if one.ticked] if asserted else []
    expect = proposals.merged(parts)
    if "marker" not in expect.get("boot", ("marker",)):  # the form asks for no start any more
        del expect["boot"]
    case = {**case, "case": answers.get("name") or "draft"}
    return {**case, "expect": expect} if expect else {name: one for name, one in case.items() if name != "expect"}


def parsed(draft: BackupDraft, *, secret: str | None, now: datetime) -> Case:
    """Return the case of the first restore; `secret` comes from the vault just before."""
    whole = document(draft, asserted=False)
    return cases.parse(whole if secret is None else {**whole, "secret": secret}, now=now, where="the draft")


def missing(draft: BackupDraft) -> list[str]:
    """Return the steps that are not answered yet, in order; a plan may be saved when there is none."""
    answers = draft.answers
    lacks = []
    if not answers.get("name"):
        lacks.append("asset")
    if not answers.get("engine") or (case_fields.needs_secret(answers["engine"]) and not answers.get("secret_name")):
        lacks.append("engine")
    if not answers.get("scheduled") and draft.plan_id is None:
        lacks.append("ladder")
    return lacks


def next_step(draft: BackupDraft) -> str:
    """Return where the writer goes on: the first step that is not answered, or the first restore, or the end."""
    lacks = missing(draft)
    if lacks and lacks[0] in ("asset", "engine"):
        return lacks[0]
    if draft.trial_state != "done" and draft.plan_id is None and not draft.answers.get("judged"):
        return "trial"
    if draft.trial_state == "done" and not draft.answers.get("judged"):
        return "found"
    return lacks[0] if lacks else "summary"


def steps_of(draft: BackupDraft) -> tuple[tuple[ladders.LadderStep, ...], ladders.Limits]:
    """Return the draft's ladder and limits; raises Misconfigured for those that mean nothing."""
    return ladders.read(draft.answers.get("ladder") or ()), ladders.read_limits(draft.answers.get("limits") or {})


def longest_gap(steps: Sequence[ladders.LadderStep], line: str, time_zone: str, now: datetime) -> timedelta | None:
    """Return the longest time between two tests that can be proofs, by the schedules of a year; None: there are none.

    line: what drives every rung of a plan without steps. Pure.
    """
    lines = [one.when for one in steps if max(one.rungs) >= PROOF_RUNG] if steps else [line]
    if AFTER_BACKUP in lines:
        return timedelta()  # as often as the job writes; nobody knows how often
    fires = []
    for one in lines:
        schedule, at = cron.parse(one, time_zone), now
        for _ in range(400):
            fire = schedule.after(at)
            if fire is None or fire.at > now + timedelta(days=400):
                break
            at = fire.at
            fires.append(at)
    fires.sort()
    return max((later - earlier for earlier, later in pairwise(fires)), default=None)


def by_id(session: Session, draft_id: int) -> BackupDraft:
    """Return a draft or raise NotFound."""
    draft = session.get(BackupDraft, draft_id)
    if draft is None:
        raise NotFound(f"There is no draft {draft_id}.", advice="It was saved or thrown away; see the proof board.")
    return draft


def open_ones(session: Session, client_ids: Sequence[int] | None, by: str) -> list[BackupDraft]:
    """Return what a person is still writing, the newest first."""
    query = select(BackupDraft).where(BackupDraft.by == by).order_by(BackupDraft.changed_at.desc(), BackupDraft.id)
    if client_ids is not None:
        query = query.where(BackupDraft.client_id.in_(client_ids))
    return list(session.scalars(query))


def refuse_foreign(
    session: Session, client_id: int, case: Mapping[str, Any], closed: Iterable[str] = (), *, stored: bool = False
) -> None:
    """Raise Refused where a case points at what is not this client's: another client's backup, or our own folders.

    closed: places of this installation. Whoever writes a plan learns what is in the backup. Symbolic links on this
    machine are followed; those of other plans' places are not, or a link of theirs could stop this client's tests.
    stored: the case of a plan that stands. What it names was judged when it was written, perhaps by an administrator
    who keeps two clients in one repository; asked is only where links lead by now.
    Raises also what `places.named` raises.
    """
    named, followed = places.named(case), places.followed(case)
    own = [*named, *followed]
    on = case.get("on")  # the host whose paths they are; None: the worker's
    for place in own:
        if not on and any(places.overlap(place.plain, one) for one in closed):
            raise Refused(f"{place.said} belongs to this installation.", advice="Name the folder of the backup.")
    if case.get("engine") == "bacula":  # one director serves all clients; whose job it is, its client says
        return
    query = select(BackupPlan.case, BackupPlan.engine)
    query = query.where(BackupPlan.client_id != client_id, BackupPlan.removed_at.is_(None))
    if stored:
        own = [place for place in followed if place not in named]
    for other, engine in session.execute(query):
        if (other.get("on") or None) != (on or None):
            continue
        theirs = places.known({**other, "engine": engine})
        for place in own:
            if any(places.overlap(place.plain, one) for one in theirs):
                advice = "Look at the path; ask who keeps that plan."
                raise Refused(f"{place.said} is a backup of another client.", advice=advice)


def engine_names() -> list[str]:
    """Return the engines on offer, those that most people use first."""
    usual = ["restic", "borg", "bacula", "pg_dump", "mariadb_dump", "tar", "tree", "qcow2"]
    return usual + [name for name in engines.names() if name not in usual]


def need_engine(name: str) -> str:
    """Return an engine's name as it is stored; raises Misconfigured for one that is not known."""
    name = cases.ALIASES.get(name, name)
    if name not in engines.names():
        raise Misconfigured(f"There is no engine {name!r}.", advice=f"Known: {', '.join(engines.names())}.")
    return name
