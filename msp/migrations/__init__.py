"""The schema's history. `upgrade` brings a database to this version; it copies an SQLite file first."""

import importlib
import os
import re
import shutil
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError, OperationalError

from msp.clock import utc_now
from msp.db import Database, explain, use
from msp.errors import Conflict, Misconfigured

#: Every module that declares tables. A test compares this list with the modules found.
MODEL_MODULES = (
    "msp.evidence",
    "msp.events",
    "msp.vault",
    "msp.people.models",
    "msp.people.credential_grants",
    "msp.contracts.models",
    "msp.assets.models",
    "msp.engine.models",
    "msp.desk.models",
    "msp.desk.roster",
    "msp.remote.models",
    "msp.remote.ca",
    "msp.remote.rotations",
    "msp.remote.consoles.models",
    "msp.dispatch.models",
    "msp.backup.models",
)


def import_models() -> None:
    """Import every module that declares tables, so that the metadata is whole."""
    for name in MODEL_MODULES:
        importlib.import_module(name)


@dataclass(frozen=True)
class Upgraded:
    """What an upgrade did. `copy`: the file kept from before, None where there was nothing to copy."""

    before: str | None
    after: str
    copy: Path | None


#: Where the steps of the history are.
FOLDERS: list[Path] = [Path(__file__).parent / "versions"]
_STEP = re.compile(r"^revision = \"(\w+)\"$.*?^down_revision = (?:None|\"(\w+)\")$", re.MULTILINE | re.DOTALL)


def configuration() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", os.pathsep.join(map(str, FOLDERS)).replace("%", "%%"))
    return config


def _history() -> dict[str, str]:
    """Return every step and the one before it, read without Alembic: commands that only check must start quickly."""
    files = (path for folder in FOLDERS for path in folder.glob("*.py"))
    found = (_STEP.search(path.read_text("utf-8")) for path in files)
    return {step[1]: step[2] or "" for step in found if step}


def head() -> str:
    """Return the revision that this version of the product needs."""
    history = _history()
    (last,) = set(history) - set(history.values())
    return last


def revision_of(connection: Connection) -> str | None:
    """Return the revision of a database, None if it holds no schema of ours."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _revision(database: Database) -> str | None:
    if database.path is not None and not database.path.exists():
        return None
    try:
        with database.engine.execution_options(msp_read_only=True).connect() as connection:
            return revision_of(connection)
    except DatabaseError as error:  # also a file that is none of SQLite's
        raise explain(error) from error


def require_current(database: Database) -> Database:
    """Return `database` if its schema is of this version; else raise Misconfigured saying what to run."""
    revision = _revision(database)
    if revision is None:
        raise Misconfigured("The database holds no data of msp-toolkit yet.", advice="Run msp init.")
    if revision not in _history():
        raise Conflict(
            f"The database is from a newer version (revision {revision}).",
            advice="Install that version, or go back to the copy that msp upgrade made.",
        )
    if revision != head():
        raise Conflict("The database is from an older version.", advice="Run msp upgrade; it makes a copy first.")
    return database


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a live SQLite file consistently (the backup API sees the write-ahead log too)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
        old.backup(new)
    new.close()
    old.close()
    target.chmod(0o600)


def upgrade(url: str, *, copies: Path, now: datetime | None = None) -> Upgraded:
    """Bring the database at `url` to this version. An SQLite file with data is copied into `copies` first.

    A failing migration leaves SQLite as it was: the copy is put back. Raises Conflict for a newer database.
    """
    from alembic import command

    database = use(url)
    before = _revision(database)
    if before is not None and before not in _history():
        require_current(database)
    if before == head():
        return Upgraded(before, before, None)
    copy: Path | None = None
    if before is not None and database.path is not None:
        copy = copies / f"msp-{before}-{(now or utc_now()):%Y%m%dT%H%M%SZ}.db"
        copy_sqlite(database.path, copy)
    config = configuration()
    config.attributes["database"] = database
    try:
        command.upgrade(config, "head")
    except OperationalError as error:
        _put_back(database, copy)
        raise explain(error) from error
    except Exception:
        _put_back(database, copy)
        raise
    return Upgraded(before, head(), copy)


def _put_back(database: Database, copy: Path | None) -> None:
    if copy is None or database.path is None:
        return
    database.dispose()
    for suffix in ("-wal", "-shm"):
        database.path.with_name(database.path.name + suffix).unlink(missing_ok=True)
    shutil.copy2(copy, database.path)
