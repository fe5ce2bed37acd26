"""Changing a plan that stands, removing it so that it can be put back, and the token of its backup job.

Functions take a session and never commit. What a plan was and what it became is evidence: a plan that was made
weaker proves less, and the auditor wants to see when and by whom.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence
from msp.backup import plans
from msp.backup.models import BackupPlan
from msp.backup.plan_parts import PlanParts
from msp.errors import Conflict


def change(session: Session, plan: BackupPlan, parts: PlanParts, *, by: str) -> dict[str, Any]:
    """Give a plan new parts, checked as `plans.create` checks them, and return those that differ: {part: [old, new]}.

    Its tests and its proof stay: they tell what was restored when. Raises what `plans.create` raises, and Conflict
    for a plan that was removed.
    """
    _stands(plan)
    parsed = plans.checked(session, plan.client_id, parts, itself=plan.id)
    differing = {}
    for column, value in parts.columns(parsed.engine).items():
        before, after = _told(getattr(plan, column)), _told(value)
        if before != after:
            differing[column] = [before, after]
        setattr(plan, column, value)
    if differing:
        _record(session, plan, "backup_plan.changed", by, {"changed": differing})
    return differing


def remove(session: Session, plan: BackupPlan, now: datetime, *, by: str) -> None:
    """Take a plan off every list and schedule. Its tests and evidence stay, and `put_back` brings it back."""
    _stands(plan)
    plan.enabled_before, plan.enabled, plan.removed_at = plan.enabled, False, now
    _record(session, plan, "backup_plan.removed", by, {})


def put_back(session: Session, plan: BackupPlan, *, by: str) -> None:
    """Bring a removed plan back as it was. Raises Conflict if another plan has taken its name."""
    if plan.removed_at is None:
        return
    same = select(BackupPlan.id).where(
        BackupPlan.client_id == plan.client_id, BackupPlan.name == plan.name, BackupPlan.removed_at.is_(None)
    )
    if session.scalar(same) is not None:
        raise Conflict(f"Another plan is named {plan.name} by now.", advice="Rename that one, then put this one back.")
    plan.enabled, plan.removed_at = plan.enabled_before, None
    _record(session, plan, "backup_plan.put_back", by, {})


def give_token(session: Session, plan: BackupPlan, *, by: str) -> str:
    """Return a new token with which the backup job says that it has written; it is shown once and stored nowhere.

    A token given before is worth nothing from then on.
    """
    _stands(plan)
    token = secrets.token_urlsafe(32)
    plan.trigger_digest = _digest(token)
    _record(session, plan, "backup_plan.token_given", by, {})
    return token


def withdraw_token(session: Session, plan: BackupPlan, *, by: str) -> None:
    """Let the job's token be worth nothing."""
    if plan.trigger_digest is not None:
        plan.trigger_digest = None
        _record(session, plan, "backup_plan.token_withdrawn", by, {})


def opens(plan: BackupPlan | None, token: str) -> bool:
    """Return whether this token is the plan's own; never for one that was removed."""
    if plan is None or plan.removed_at is not None or plan.trigger_digest is None:
        return False
    return hmac.compare_digest(plan.trigger_digest, _digest(token))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _stands(plan: BackupPlan) -> None:
    if plan.removed_at is not None:
        raise Conflict(f"The backup plan {plan.name} was removed.", advice="Put it back first.")


def _told(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _record(session: Session, plan: BackupPlan, kind: str, by: str, data: Mapping[str, Any]) -> None:
    plans.flush_named(session, plan.name)
    evidence.record(
        session,
        kind,
        actor=by,
        subject=("backup_plan", plan.id),
        client_id=plan.client_id,
        data={"name": plan.name, **data},
    )
