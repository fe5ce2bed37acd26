"""What a worker does: every durable job and every tick by its name. Importing this module registers them."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from msp.desk import clock
from msp.engine import queues, ticks
from msp.flows import (
    adrift,
    approving,
    backup_gaps,
    backup_plans,
    consoles,
    credential_grants,
    drills,
    driving,
    escalations,
    proving,
    renewals,
    replans,
    restores,
    roads,
    rotating,
    runs,
)
from msp.settings import Settings, load

_settings: list[Settings] = []


def configure(settings: Settings) -> None:
    """Give the handlers of this process their settings; without it they read msp.toml and MSP_*."""
    _settings[:] = [settings]


def close() -> None:
    """Let go of what this process keeps open for its handlers: connections to hosts."""
    driving.WIRES.close()


def settings() -> Settings:
    """Return the settings of this process."""
    if not _settings:
        configure(load())
    return _settings[0]


@queues.register(runs.HANDLER, failed=driving.gave_up)
def drive(payload: dict[str, Any]) -> None:
    """Drive one shard of a run."""
    driving.drive(settings(), int(payload["run_id"]), int(payload["shard"]), payload.get("segment", "1"))


@queues.register(restores.HANDLER, failed=restores.gave_up)
def restore_test(payload: dict[str, Any]) -> None:
    """Do one restore test of a plan."""
    asked_at = datetime.fromisoformat(payload["asked_at"]) if "asked_at" in payload else None
    restores.perform(settings(), int(payload["plan_id"]), payload.get("nominal"), asked_at, payload.get("rungs", ()))


@queues.register(backup_plans.HANDLER, failed=backup_plans.gave_up)
def first_restore(payload: dict[str, Any]) -> None:
    """Do the first restore of a plan that is being written."""
    backup_plans.perform_trial(settings(), int(payload["draft_id"]), int(payload["number"]))


@queues.register(escalations.HANDLER, tries=4, failed=escalations.gave_up)
def notice(payload: dict[str, Any]) -> None:
    """Send one notice of an escalation."""
    escalations.send(settings(), int(payload["notice_id"]))


@queues.register(roads.HANDLER, tries=4)
def travel_times(_payload: dict[str, Any]) -> None:
    """Ask the map service for drives that are not known."""
    roads.fetch(settings())


@queues.register(replans.HANDLER, tries=2, failed=replans.gave_up)
def replan(payload: dict[str, Any]) -> None:
    """Look for a better plan of the dispatch board."""
    replans.compute(int(payload["replan_id"]))


@ticks.on_tick("roads", 300.0)
def roads_tick(session: Session, now: datetime) -> int:
    """Have travel times fetched before a dispatcher needs them."""
    roads.ask(session, now, settings())
    return 0


@ticks.on_tick("traffic", 86400.0)
def traffic(session: Session, now: datetime) -> int:
    """Learn from finished visits how long drives really take."""
    roads.learn(session, now, settings())
    return 0


@ticks.on_tick("escalation", 5.0)
def escalation(session: Session, now: datetime) -> int:
    """Tell whoever is on duty what is at risk."""
    return escalations.tick(session, now, settings())


@ticks.on_tick("clocks", 1.0)
def clocks(session: Session, now: datetime) -> int:
    """Record warnings and breaches when they happen."""
    return clock.wake(session, now)


@ticks.on_tick("approvals", 15.0)
def approvals(session: Session, now: datetime) -> int:
    """End what nobody approved in time."""
    return approving.expire(session, now)


@ticks.on_tick("adrift", 15.0)
def adrift_tick(session: Session, now: datetime) -> int:
    """End the runs whose own command has died."""
    return adrift.end_adrift(session, now)


@queues.register(rotating.HANDLER, tries=5, pause=timedelta(seconds=10), failed=proving.gave_up)
def prove_rotation(payload: dict[str, Any]) -> None:
    """Find out by logging in which value of a secret holds, and let its rotation go on."""
    proving.prove(settings(), int(payload["rotation_id"]), payload["state"])


@ticks.on_tick("credentials", 10.0)
def credentials(session: Session, now: datetime) -> int:
    """End the use of credentials that is over, what nobody answered in time, and stray rotations."""
    return credential_grants.expire(session, now) + rotating.catch_up(session, now)


@ticks.on_tick("consoles", 5.0)
def consoles_tick(session: Session, now: datetime) -> int:
    """End consoles whose process died, and void admissions that nobody used."""
    return consoles.reap(session, now)


@ticks.on_tick("proofs", 60.0)
def proofs(session: Session, now: datetime) -> int:
    """Open a ticket for every backup plan whose proof is overdue."""
    return restores.tell_overdue(session, now)


@queues.register(drills.HANDLER)
def backup_drill(payload: dict[str, Any]) -> None:
    """Plant faults for one backup engine and see whether the tester finds them."""
    drills.perform(settings(), payload["engine"])


@ticks.on_tick("drills", 3600.0)
def drills_tick(session: Session, now: datetime) -> int:
    """Have each engine in use drilled once a month."""
    drills.ask(session, now)
    return 0


@ticks.on_tick("backup gaps", 86400.0)
def backup_gaps_tick(session: Session, now: datetime) -> int:
    """Look once a day for machines without a backup plan, and for jobs that stopped writing."""
    backup_gaps.tell(session, now)
    backup_gaps.look(session, now)
    return 0


@ticks.on_tick("renewals", 3600.0)
def renewals_tick(session: Session, now: datetime) -> int:
    """Open a ticket about each contract and block that ends soon; once each, so an hourly look does no harm."""
    renewals.tell(session, now)
    return 0
