"""What nobody would notice: machines under contract without a plan or a proof, and jobs that stopped writing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import evidence
from msp.assets.models import ConfigurationItem
from msp.backup import plans, watch
from msp.backup.models import BackupPlan, BackupWatch, RestoreTest
from msp.contracts import agreements
from msp.contracts.covers import Asset, asset_covered
from msp.contracts.models import Client, Site
from msp.desk import tickets
from msp.desk.models import Ticket
from msp.evidence import Evidence

KINDS = ("server", "database", "storage")  # what loses data when it is lost
SEEN = "backup_gaps.seen"  # the kind of evidence
BAD = ("late", "missed", "failed", "size")


@dataclass(frozen=True, slots=True)
class Gap:
    """One machine that its contract wants restorable. `why`: plan (it has none) or proof (none of them holds)."""

    item: ConfigurationItem
    why: str
    plan: BackupPlan | None = None


def gaps(session: Session, now: datetime, *, client_ids: Sequence[int] | None = None) -> list[Gap]:
    """Return the gaps of the clients (None: all) whose contract in force promises a restore, by client and name."""
    query = select(Client).order_by(Client.name)
    if client_ids is not None:
        query = query.where(Client.id.in_(client_ids))
    return [gap for client in session.scalars(query) for gap in _of(session, client, now)]


def _of(session: Session, client: Client, now: datetime) -> list[Gap]:
    version = agreements.version_in_force(session, client.id, now)
    terms = agreements.terms_of(version) if version else None
    if terms is None or terms.restore is None:
        return []
    planned: dict[int, list[BackupPlan]] = {}
    query = select(BackupPlan).where(BackupPlan.client_id == client.id, BackupPlan.enabled)
    for plan in session.scalars(query):
        if plan.asset_id is not None:
            planned.setdefault(plan.asset_id, []).append(plan)
    items = (
        select(ConfigurationItem, Site.name)
        .outerjoin(Site, Site.id == ConfigurationItem.site_id)
        .where(
            ConfigurationItem.client_id == client.id,
            ConfigurationItem.status == "live",
            ConfigurationItem.kind.in_(KINDS),
        )
        .order_by(ConfigurationItem.name)
    )
    found = []
    for item, site in session.execute(items):
        if not asset_covered(Asset(item.name, item.kind, site), [(line.covers, line.excludes) for line in terms.lines]):
            continue
        own = planned.get(item.id, [])
        if not own:
            found.append(Gap(item, "plan"))
        elif not any(plans.proof(session, plan, now).state == "proven" for plan in own):
            found.append(Gap(item, "proof", own[0]))
    return found


def plain(found: Sequence[Gap]) -> list[dict[str, str | None]]:
    """Return gaps as JSON values: machine, lacks (plan or proof), plan."""
    return [{"machine": gap.item.name, "lacks": gap.why, "plan": gap.plan.name if gap.plan else None} for gap in found]


def seen_until(session: Session, client: Client, until: datetime, now: datetime) -> list[dict[str, str | None]] | None:
    """Return a client's gaps as they stood at the end of a span: now as they are, later as evidence has kept them.

    None: nobody looked before that. What evidence has kept is the same whenever it is asked for.
    """
    if until >= now:
        return plain(gaps(session, now, client_ids=[client.id]))
    query = select(Evidence.data).where(Evidence.chain == client.id, Evidence.kind == SEEN, Evidence.at < until)
    data = session.scalar(query.order_by(Evidence.id.desc()).limit(1))
    return None if data is None else list(data["gaps"])


def note(session: Session, found: Sequence[Gap], now: datetime) -> int:
    """Write the gaps of each client into its evidence where they have changed; return for how many they have."""
    changed = 0
    for client in session.scalars(select(Client).order_by(Client.id)):
        mine = plain([gap for gap in found if gap.item.client_id == client.id])
        known = seen_until(session, client, now - timedelta(microseconds=1), now)
        if mine != (known or []) or (known is None and _promised(session, client, now)):
            evidence.record(
                session, SEEN, actor="worker", subject=("client", client.id), client_id=client.id,
                data={"gaps": mine}, at=now,
            )  # fmt: skip
            changed += 1
    return changed


def _promised(session: Session, client: Client, now: datetime) -> bool:
    version = agreements.version_in_force(session, client.id, now)
    return version is not None and agreements.terms_of(version).restore is not None


def tell(session: Session, now: datetime) -> int:
    """Open one ticket for each machine without a plan, and end it when there is one; return how many were opened.

    A machine whose plan is not proven has the plan's own ticket. What lacks is kept as evidence when it changes.
    """
    found = gaps(session, now)
    note(session, found, now)
    missing = {gap.item.id: gap for gap in found if gap.why == "plan"}
    standing = {
        ticket.asset_id: ticket
        for ticket in session.scalars(select(Ticket).where(Ticket.symptom == "backup_missing", Ticket.is_open))
    }
    for asset_id, gap in missing.items():
        if asset_id not in standing:
            _open(session, gap.item, f"No backup of {gap.item.name} is watched", "backup_missing", f"gap:{asset_id}",
                  "Its contract promises a restore, and no backup plan names it. Add a plan, or say why none is due.",
                  now)  # fmt: skip
    for told_of, ticket in standing.items():
        if told_of not in missing:
            tickets.move(session, ticket.id, "resolved", by="worker", text="A backup plan names it now.", now=now)
    return len(set(missing) - set(standing))


def _open(
    session: Session, item: ConfigurationItem, subject: str, symptom: str, dedup: str, text: str, now: datetime
) -> None:
    opening = tickets.Opening(
        client_id=item.client_id, subject=subject, priority="P3", channel="backup", text=text, asset_id=item.id,
        symptom=symptom, dedup_key=dedup, at=now, nearest=True,
    )  # fmt: skip
    tickets.open_ticket(session, opening, by="worker", now=now)


def look(session: Session, now: datetime) -> int:
    """Judge every watched job by what its tests saw, and tell of those that are late, missed, failed or odd in size.

    Returns how many are not fine. One ticket a job, under the plan's own key, so a failed test continues it.
    """
    bad = 0
    for plan in session.scalars(select(BackupPlan).where(BackupPlan.enabled, BackupPlan.every.is_not(None))):
        assert plan.every is not None  # noqa: S101  asked for above
        looks = [seen for test in reversed(plans.recent(session, plan.id, 15)) if (seen := seen_by(test))]
        state = watch.judge(looks, plan.every, now)
        row = session.get(BackupWatch, plan.id)
        before = row.state if row else None
        if row is None:
            row = BackupWatch(plan_id=plan.id, looked_at=now, state=state.state, words=state.words)
            session.add(row)
        row.looked_at, row.state, row.words = now, state.state, state.words
        row.snapshot_at = looks[-1].snapshot_at if looks else None
        bad += state.state in BAD
        if state.state in BAD and before != state.state:
            _tell_of_job(session, plan, state, now)
    session.flush()
    return bad


def seen_by(test: RestoreTest) -> watch.Seen | None:
    """Return what a finished test saw of the job; None if it did not come to look, or could not be carried out."""
    if test.finished_at is None or test.verdict == "error":
        return None
    rung = next((one for one in test.rungs if one.get("rung") == 2), None)
    if rung is None:
        return watch.Seen(test.finished_at, None, readable=False) if test.verdict == "fail" else None
    figures = rung.get("figures") or {}
    when = figures.get("time")
    size = figures.get("bytes") or (test.result.get("restored_bytes") if test.highest_rung >= 4 else None)
    return watch.Seen(test.finished_at, datetime.fromisoformat(when) if when else None, size or None)


def _tell_of_job(session: Session, plan: BackupPlan, state: watch.Watched, now: datetime) -> None:
    key = f"backup-job:{plan.id}"
    known = session.scalar(
        select(Ticket).where(Ticket.client_id == plan.client_id, Ticket.dedup_key == key, Ticket.is_open)
    )
    if known is not None:
        tickets.append(session, known, "proof", by="worker", public=True, text=state.words, data={"plan": plan.id},
                       now=now)  # fmt: skip
        return
    opening = tickets.Opening(
        client_id=plan.client_id, subject=f"Backup job {plan.name}: {state.state}", priority="P3", channel="backup",
        text=state.words, asset_id=plan.asset_id, symptom="backup_job", dedup_key=key, at=now, nearest=True,
    )  # fmt: skip
    tickets.open_ticket(session, opening, by="worker", now=now)
