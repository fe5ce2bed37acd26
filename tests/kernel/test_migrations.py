"""The schema's history on both databases: from nothing, again, from a newer version, and with a step that fails."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, select, text

from msp import db, migrations
from msp.contracts import agreements
from msp.contracts.models import Client, Site
from msp.db import Database, Model
from msp.errors import Conflict, Misconfigured

ROOT = Path(__file__).resolve().parents[2]
CHECK = [sys.executable, str(ROOT / "tools" / "check_migrations.py")]
PLANTED = '''\
"""A step that a test planted."""
import sqlalchemy as sa
from alembic import op
revision = "9001"
down_revision = "{head}"
branch_labels = None
depends_on = None
def upgrade():
{body}
def downgrade():
    raise NotImplementedError
'''


@pytest.fixture
def url(empty_database_url: str, all_models: None) -> Iterator[str]:
    yield empty_database_url
    db.use(empty_database_url).dispose()


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return a function that adds a last step to the history."""

    def planted(*lines: str) -> None:
        folder, before = tmp_path / "versions", migrations.head()
        folder.mkdir()
        body = "\n".join(f"    {line}" for line in lines)
        (folder / "9001_planted.py").write_text(PLANTED.format(head=before, body=body))
        monkeypatch.setattr(migrations, "FOLDERS", [*migrations.FOLDERS, folder])

    return planted


def upgrade(url: str, tmp_path: Path) -> migrations.Upgraded:
    return migrations.upgrade(url, copies=tmp_path / "copies", now=datetime(2026, 3, 4, tzinfo=UTC))


def fill(url: str) -> None:
    """Store a client with two children."""
    with db.use(url).begin() as session:
        client = agreements.add_client(session, key="alfa", name="Alfa")
        session.add_all(Site(client_id=client.id, name=name, address="Yard 1") for name in ("north", "south"))


def held(url: str) -> tuple[list[str], list[str]]:
    with db.use(url).read() as session:
        return list(session.scalars(select(Client.key))), sorted(session.scalars(select(Site.name)))


def contents(url: str) -> list[str] | tuple[Any, ...]:
    """Return everything in the database, in a form that can be compared."""
    database = db.use(url)
    if database.path is None:
        with database.engine.connect() as connection:
            tables = sorted(inspect(connection).get_table_names())
            return (tables, connection.execute(text("SELECT version_num FROM alembic_version")).scalar(), held(url))
    database.dispose()
    with sqlite3.connect(database.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return list(connection.iterdump())


def test_from_nothing_to_every_table_and_again_without_doing_anything(url: str, tmp_path: Path) -> None:
    done = upgrade(url, tmp_path)
    assert (done.before, done.after, done.copy) == (None, migrations.head(), None)
    with db.use(url).engine.connect() as connection:
        assert set(Model.metadata.tables) <= set(inspect(connection).get_table_names())
    assert migrations.require_current(Database(url)).url == url
    fill(url)
    before = contents(url)
    done = upgrade(url, tmp_path)
    assert (done.before, done.after, done.copy) == (migrations.head(), migrations.head(), None)
    assert contents(url) == before
    assert not (tmp_path / "copies").exists()


def test_database_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    upgrade(f"sqlite:///{tmp_path / 'new.db'}", tmp_path)
    assert (tmp_path / "new.db").stat().st_mode & 0o777 == 0o600
    db.current().dispose()


def test_empty_database_says_msp_init(url: str) -> None:
    with pytest.raises(Misconfigured, match="holds no data of msp-toolkit yet") as caught:
        migrations.require_current(Database(url))
    assert caught.value.advice == "Run msp init."


def test_newer_database_is_neither_used_nor_upgraded(url: str, tmp_path: Path) -> None:
    upgrade(url, tmp_path)
    with db.use(url).begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    before = contents(url)
    for attempt in (lambda: migrations.require_current(Database(url)), lambda: upgrade(url, tmp_path)):
        with pytest.raises(Conflict, match=r"newer version \(revision 9999\)"):
            attempt()
    assert contents(url) == before


def test_older_database_is_refused_until_msp_upgrade_and_the_copy_is_the_old_one(
    url: str, tmp_path: Path, plant: Any
) -> None:
    upgrade(url, tmp_path)
    fill(url)
    old = migrations.head()
    before = contents(url)
    plant("op.add_column('site', sa.Column('colour', sa.Text()))")
    with pytest.raises(Conflict, match="older version") as caught:
        migrations.require_current(Database(url))
    assert "Run msp upgrade" in caught.value.advice
    done = upgrade(url, tmp_path)
    assert (done.before, done.after) == (old, "9001")
    migrations.require_current(Database(url))
    if db.use(url).path is None:
        assert done.copy is None
        return
    assert done.copy is not None
    assert done.copy.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(done.copy) as copy:
        assert list(copy.iterdump()) == before
    copy.close()


FAILURES = {
    "a fault of ours": "raise RuntimeError('planted')",
    "a fault of the database": "op.execute('UPDATE no_such_table SET x = 1')",
    "a row twice": 'op.execute("INSERT INTO client (id, key) SELECT id, key FROM client")',
}


@pytest.mark.parametrize("failure", FAILURES)
def test_step_that_fails_leaves_everything_as_it_was(url: str, tmp_path: Path, plant: Any, failure: str) -> None:
    upgrade(url, tmp_path)
    fill(url)
    before = contents(url)
    plant(
        "op.create_table('half_done', sa.Column('id', sa.Integer(), primary_key=True))",
        "op.execute(\"UPDATE client SET name = 'Half'\")",
        FAILURES[failure],
    )
    with pytest.raises(Exception, match=r"planted|no_such_table|client"):
        upgrade(url, tmp_path)
    assert contents(url) == before
    assert held(url) == (["alfa"], ["north", "south"])
    with db.use(url).begin() as session:  # and it can be worked with at once
        session.add(Site(client_id=session.scalars(select(Client.id)).one(), name="west", address="Yard 2"))
    assert held(url)[1] == ["north", "south", "west"]


def test_rebuilding_a_parent_table_keeps_its_children(url: str, tmp_path: Path, plant: Any) -> None:
    upgrade(url, tmp_path)
    fill(url)
    plant(
        "with op.batch_alter_table('client', recreate='always' if op.get_bind().dialect.name == 'sqlite' else 'auto') "
        "as batch:",
        "    batch.add_column(sa.Column('colour', sa.Text()))",
    )
    upgrade(url, tmp_path)
    assert held(url) == (["alfa"], ["north", "south"])
    database = db.use(url)
    if database.path is not None:
        with database.engine.connect() as connection:
            assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
    with pytest.raises(Exception, match=r"(?i)foreign key"), database.begin() as session:
        session.add(Site(client_id=4711, name="nowhere", address=""))


def test_step_that_would_orphan_rows_is_refused_and_nothing_is_changed(url: str, tmp_path: Path, plant: Any) -> None:
    upgrade(url, tmp_path)
    fill(url)
    before = contents(url)
    plant("op.execute('DELETE FROM client')")
    with pytest.raises(Exception, match=r"2 rows without their parent|foreign key"):
        upgrade(url, tmp_path)
    assert contents(url) == before


def test_copy_of_a_live_database_holds_what_is_only_in_its_log_yet(tmp_path: Path, all_models: None) -> None:
    url = f"sqlite:///{tmp_path / 'live.db'}"
    upgrade(url, tmp_path)
    fill(url)
    assert (tmp_path / "live.db-wal").stat().st_size > 0  # a connection is open, so nothing was written back
    migrations.copy_sqlite(tmp_path / "live.db", tmp_path / "safe" / "copy.db")
    with sqlite3.connect(tmp_path / "safe" / "copy.db") as copy:
        assert copy.execute("SELECT count(*) FROM site").fetchone() == (2,)
    copy.close()
    db.current().dispose()


def test_models_and_migrations_say_the_same(url: str) -> None:
    around = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*CHECK, url], capture_output=True, text=True, check=False, env=around)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_that_declares_tables_is_known(all_models: None) -> None:
    declaring = {mapper.class_.__module__ for mapper in Model.registry.mappers}
    assert {name for name in declaring if name.startswith("msp.")} == set(migrations.MODEL_MODULES)
