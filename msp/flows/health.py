"""The health of an installation, as `msp doctor` and the admin page show it: what, how it is, what to do."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import func, select

from msp import db, evidence, migrations
from msp.clock import utc_now
from msp.engine import claims, leases
from msp.errors import MspError
from msp.people.models import User
from msp.remote import catalogue
from msp.remote.models import Run
from msp.settings import Settings
from msp.vault import Vault

Level = Literal["good", "warn", "bad"]
TIGHT = 1 << 30  # bytes free below which a restore test is at risk


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing examined."""

    what: str
    level: Level
    found: str
    advice: str = ""

    @property
    def mark(self) -> str:
        return {"good": "ok", "warn": "!", "bad": "BAD"}[self.level]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(settings: Settings, *, whole_chain: bool = True) -> list[Finding]:
    """Return every finding, in the order in which to mend. `whole_chain`: read all evidence, not only count it."""
    findings = [*_database(settings)]
    if findings[0].level != "bad":  # it answers; a mode that is wrong keeps nobody from looking further
        findings += [_clock(), *_work(settings), _evidence(whole_chain)]
    return [*findings, _key(settings), _disk(settings), *_tools(), *_playbooks(settings)]


def _database(settings: Settings) -> Iterator[Finding]:
    shown = db.without_password(settings.database_url)
    try:
        database = migrations.require_current(db.use(settings.database_url))
        with database.read() as session:
            users = session.scalar(select(func.count()).select_from(User)) or 0
    except MspError as error:
        yield Finding("database", "bad", f"{shown}: {error.what}", error.advice)
        return
    yield Finding("database", "good", f"{shown}, revision {migrations.head()}, {users} users")
    if database.path is not None:
        mode = database.path.stat().st_mode & 0o777
        if mode & 0o077:
            yield Finding(
                "database file", "bad", f"mode {mode:o}: others can read it", f"Run chmod 600 {database.path}."
            )


def _clock() -> Finding:
    if db.current().is_sqlite:
        return Finding("clock", "good", f"database and program share this machine's clock, {utc_now():%H:%M:%S} UTC")
    with db.read() as session:
        theirs = session.execute(select(func.now())).scalar_one()
    off = abs((utc_now() - theirs).total_seconds())
    level: Level = "good" if off < 2 else "bad"
    return Finding(
        "clock", level, f"{off:.1f} s between database and program", "" if off < 2 else "Set up NTP on both."
    )


def _work(settings: Settings) -> Iterator[Finding]:
    now = utc_now()
    with db.read() as session:
        workers = leases.live(session, now, timedelta(seconds=settings.lease_seconds))
        waiting = session.scalar(select(func.count()).select_from(Run).where(Run.state == "queued")) or 0
        doubts = len(claims.in_doubt(session))
    if workers:
        names = ", ".join(worker.name for worker in workers)
        yield Finding("workers", "good", f"{len(workers)} at work: {names}; {waiting} runs queued")
    else:
        yield Finding(
            "workers", "warn", f"none at work; {waiting} runs queued", "Start msp worker, or serve --with-worker."
        )
    if doubts:
        yield Finding(
            "in doubt", "warn", f"{doubts} effects wait for a decision", "Open their runs and say what happened."
        )


def _evidence(whole: bool) -> Finding:
    with db.read() as session:
        if not whole:
            count = session.scalar(select(func.count()).select_from(evidence.Evidence)) or 0
            return Finding("evidence", "good", f"{count} records; msp evidence verify reads them all")
        started = time.monotonic()
        count, breaks = evidence.verify(session)
    if breaks:
        first = breaks[0]
        return Finding(
            "evidence",
            "bad",
            f"chain {first.chain}, record {first.seq}: {first.what}",
            "Compare with your last backup.",
        )
    return Finding("evidence", "good", f"{count} records, the chain is whole ({time.monotonic() - started:.1f} s)")


def _key(settings: Settings) -> Finding:
    try:
        Vault.from_file(settings.key_path)
    except MspError as error:
        return Finding("key file", "bad", error.what, error.advice)
    return Finding("key file", "good", f"{settings.key_path}, readable by its owner alone")


def _disk(settings: Settings) -> Finding:
    folder = settings.scratch_path if settings.scratch_path.exists() else settings.data
    free = shutil.disk_usage(folder if folder.exists() else Path()).free
    level: Level = "good" if free > TIGHT else "warn"
    return Finding(
        "disk", level, f"{free / 1e9:.1f} GB free for restore tests", "" if level == "good" else "Free some."
    )


def _tools() -> Iterator[Finding]:
    for program, what in (("restic", "restic backups"), ("borg", "borg backups"), ("pg_restore", "PostgreSQL dumps")):
        place = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/lib/postgresql/15/bin")
        if place:
            yield Finding(program, "good", place)
        else:
            yield Finding(program, "warn", "not found", f"Install it on the worker to test {what}.")


def _playbooks(settings: Settings) -> Iterator[Finding]:
    good, faults = 0, []
    for _, path in catalogue.files(settings.playbooks):
        try:
            catalogue.find(str(path), settings.playbooks)
            good += 1
        except MspError as error:
            faults.append((path.name, error.what))
    yield Finding("playbooks", "good", f"{good} ready")
    for name, what in faults:
        yield Finding(name, "warn", what, "Correct it; msp playbook check shows the same.")
