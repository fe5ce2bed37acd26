"""Fixtures of every room: a fresh database a test, on SQLite always and on PostgreSQL where a server is named.

MSP_TEST_POSTGRES holds the URL of a superuser, or "start" to start a private cluster for the session.
"""

import importlib.util
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from msp.db import Database, Model, use
from msp.migrations import MODEL_MODULES

sys.path.insert(0, str(Path(__file__).parent / "servers"))
pytest_plugins = ("standing",)


@pytest.fixture(scope="session")
def all_models() -> None:
    """Import every module that declares tables and exists."""
    for name in MODEL_MODULES:
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a superuser on a PostgreSQL server, or a skip that says why not."""
    named = os.environ.get("MSP_TEST_POSTGRES", "")
    if not named:
        pytest.skip("MSP_TEST_POSTGRES names no server; set it to start for a private one")
    if named != "start":
        yield named
        return
    import postgres

    if postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres.cluster() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'msp.db'}"
        return
    server = make_url(request.getfixturevalue("postgres_server"))
    name = f"msp_test_{uuid.uuid4().hex[:12]}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with ExitStack() as stack:
        stack.callback(admin.dispose)
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
        yield server.set(database=name).render_as_string(hide_password=False)
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def database_url(empty_database_url: str, all_models: None) -> Iterator[str]:
    """The URL of a fresh database with all our tables, in use by this process (`msp.db.begin`)."""
    database = use(empty_database_url)
    Model.metadata.create_all(database.engine)
    yield empty_database_url
    database.dispose()


@pytest.fixture
def database(database_url: str) -> Database:
    """The same as `database_url`, opened."""
    return use(database_url)


FAMILY = 6  # long tests that one module has; of more, an even spread is run unless MSP_TEST_MANY=1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a spread of every large family of long tests, so that a whole run ends within half an hour on two cores.

    The spread is the same every time. A module that is named on the command line is run whole.
    """
    named = any("::" in word or word.endswith(".py") for word in config.args)
    if os.environ.get("MSP_TEST_MANY") or named:
        return
    families: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("slow"):
            families.setdefault(item.path, []).append(item)
    left_out = set()
    for family in families.values():
        ordered = sorted(family, key=lambda item: item.nodeid)
        kept = {ordered[len(ordered) * at // FAMILY].nodeid for at in range(FAMILY)}
        left_out |= {item.nodeid for item in ordered if len(ordered) > FAMILY and item.nodeid not in kept}
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
        items[:] = [item for item in items if item.nodeid not in left_out]


#: Words in the reason of a skip that mean a program was not there. Where all of them are promised, that is a failure.
NOT_THERE = ("not installed", "missing", "names no server", "needs root and useradd")
_not_there: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note tests that were left out because a program was not there."""
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    if any(words in reason for words in NOT_THERE):
        _not_there.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that promised every server (MSP_TEST_ALL_SERVERS) and left some out."""
    if _not_there and os.environ.get("MSP_TEST_ALL_SERVERS"):
        print("\nLeft out although every program should be here:\n" + "\n".join(sorted(set(_not_there))))
        session.exitstatus = 1
