"""One planted database of each kind a session; each test gets a copy, and hosts that really run."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from world import Copies, Planted, World, plant, settings_of

from msp.demo.hosts import DemoHosts


@pytest.fixture(scope="session")
def sqlite_copies(tmp_path_factory: pytest.TempPathFactory) -> Copies:
    """Copies of a planted SQLite file."""
    folder = tmp_path_factory.mktemp("planted")
    file = folder / "planted.db"
    settings, _ = settings_of(folder, f"sqlite:///{file}")
    planted = plant(settings)

    def copy(to: Path) -> tuple[str, Planted]:
        shutil.copy2(file, to / "msp.db")
        return f"sqlite:///{to / 'msp.db'}", planted

    return copy


@pytest.fixture(scope="session")
def postgres_copies(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copies]:
    """Copies of a planted PostgreSQL database."""
    server = make_url(postgres_server)
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    made: list[str] = []

    def create(template: str) -> str:
        name = f"msp_loop_{uuid.uuid4().hex[:12]}"
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        made.append(name)
        return server.set(database=name).render_as_string(hide_password=False)

    settings, _ = settings_of(tmp_path_factory.mktemp("planted"), create("template0"))
    planted = plant(settings)
    origin = made[0]
    yield lambda _: (create(origin), planted)
    with admin.connect() as connection:
        for name in made:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoHosts]:
    """Hosts for the assets `one` and `two`; each test finds them empty."""
    with DemoHosts(tmp_path_factory.mktemp("hosts"), ["one", "two"]) as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def world(request: pytest.FixtureRequest, tmp_path: Path, hosts: DemoHosts) -> Iterator[World]:
    """A provider of this test's own."""
    copies: Copies = request.getfixturevalue(f"{request.param}_copies")
    for host in hosts.hosts:
        shutil.rmtree(host.root)
        host.root.mkdir()
    url, planted = copies(tmp_path)
    settings, config = settings_of(tmp_path, url)
    made = World(settings, config, planted, hosts)
    made.connect()
    yield made
    made.close()
