"""DBOS in this process: its settings, its tables, its start and its end. It lives in our own database.

DBOS is imported inside functions: a web page or a command that enqueues nothing must not pay for it.
"""

import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from msp import db
from msp.engine import working
from msp.errors import Misconfigured
from msp.settings import Settings

if TYPE_CHECKING:
    from dbos import DBOSClient, DBOSConfig

APPLICATION = "msp-toolkit"
#: Pinned: DBOS would take a hash of our source, and every edit would strand the work that waits.
VERSION = "1"
QUIET_SECONDS = 10.0

_clients: list[tuple[Engine, "DBOSClient"]] = []
_own_engine: list[Engine] = []  # the SQLite engine that a launched DBOS works with


class Rarely(logging.Filter):
    """Let one line in ten seconds pass from each place in the code: an outage would write hundreds."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        place, now = (record.pathname, record.lineno), time.monotonic()
        if now - self.last.get(place, -QUIET_SECONDS) < QUIET_SECONDS:
            return False
        self.last[place] = now
        return True


def _quiet() -> None:
    """Send DBOS's log through ours: it adds a handler of its own only where there is none."""
    logger = logging.getLogger("dbos")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
        logger.addFilter(Rarely())
    logger.propagate = True
    logger.setLevel(logging.WARNING)


def client(session: Session) -> "DBOSClient":
    """Return the client that enqueues through the session's own database."""
    bind = session.get_bind()
    engine = bind if isinstance(bind, Engine) else bind.engine
    for known, found in _clients:
        if known is engine:
            return found
    from dbos import DBOSClient

    _quiet()
    made = DBOSClient(system_database_engine=engine, application_name=APPLICATION, lazy=True)
    _clients[:] = [(engine, made)]
    return made


def prepare(url: str) -> None:
    """Create or bring up to date DBOS's own tables in the database at `url`. May be repeated.

    Called by msp init and msp upgrade; a worker only checks, so that it needs no right to change the schema.
    Raises Misconfigured if the database does not answer or its role may not create the schema `dbos`.
    """
    from dbos import DBOS

    _quiet()
    database = db.Database(url)
    try:
        with database.engine.connect():
            pass  # makes the file, with our journal mode and file mode, or says why not
        DBOS.migrate(url)
    except OperationalError as error:
        raise db.explain(error) from error
    except ProgrammingError as error:
        raise Misconfigured(
            f"The durable engine's tables cannot be made: {str(error.orig).strip().splitlines()[0]}.",
            advice="Let the database's owner run msp upgrade, or grant CREATE on the database.",
        ) from error
    finally:
        database.dispose()


def _configuration(settings: Settings) -> "DBOSConfig":
    url = settings.database_url
    configuration: DBOSConfig = {
        "name": APPLICATION,
        "system_database_url": url,
        "application_version": VERSION,
        "executor_id": settings.worker_name,
        "run_migrations": False,
        "use_listen_notify": False,  # queues are polled; a pooler in transaction mode would break LISTEN
        "sys_db_pool_size": 5,
        "log_level": "WARNING",
        "scheduler_polling_interval_sec": 3600.0,  # our schedules are our own table
    }
    if url.startswith("sqlite"):
        # Its default engine opens the transaction at the first write, so count-and-claim broke a queue's limit.
        _own_engine.append(db.sqlite_engine(url))
        configuration["system_database_engine"] = _own_engine[-1]
    return configuration


def launch(settings: Settings) -> None:
    """Start taking work in this process, as the executor `settings.worker_name`.

    The caller holds that slot's lease and has given back what its predecessor left. Raises Misconfigured if
    DBOS's tables are missing or of another version.
    """
    from dbos import DBOS, DBOSClient

    from msp.engine import perform, queues

    _quiet()
    perform.set_draining(False)
    DBOS.workflow(name=working.WORKFLOW)(perform.perform)
    url = settings.database_url
    logger = logging.getLogger("dbos")
    logger.setLevel(logging.CRITICAL)  # a failing launch is told once, by us
    try:
        engine: dict[str, Any] = {"system_database_engine": db.sqlite_engine(url)} if url.startswith("sqlite") else {}
        registrar = DBOSClient(
            **(engine or {"system_database_url": url}), application_name=APPLICATION, retry_connection_errors=False
        )
        try:
            for name, limits in queues.limits(settings, embedded=bool(engine)).items():
                registrar.register_queue(name, on_conflict="always_update", **limits)
        finally:
            registrar.destroy()
            for made in engine.values():
                made.dispose()
        DBOS(config=_configuration(settings))
        DBOS.launch()
    except Exception as error:
        _destroy(0)
        raise Misconfigured(
            f"The durable engine cannot start: {str(error).strip().splitlines()[0] or type(error).__name__}.",
            advice="Run msp upgrade, and msp doctor if that does not help.",
        ) from error
    finally:
        logger.setLevel(logging.WARNING)


def shutdown(drain: timedelta) -> list[str]:
    """Stop taking work, wait up to `drain` for what is in hand, and return the jobs still running.

    New work waits for another worker. Jobs still running belong to a process that must now end.
    """
    from msp.engine import perform

    perform.set_draining(True)
    _destroy(int(drain.total_seconds()))
    return perform.active()


def _destroy(seconds: int) -> None:
    from dbos import DBOS

    DBOS.destroy(workflow_completion_timeout_sec=seconds)
    while _own_engine:
        _own_engine.pop().dispose()
