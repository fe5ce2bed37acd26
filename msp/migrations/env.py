"""Alembic's entry. On SQLite the foreign keys are off while tables are rebuilt, and checked at the end:
a batch migration of a parent table with the pragma on would delete or refuse its children."""

from alembic import context
from sqlalchemy import Connection, text

from msp.db import Database, Model, current
from msp.errors import Conflict
from msp.migrations import import_models

import_models()


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Model.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        compare_server_default=True,
        include_name=lambda name, kind, _: kind != "schema" or name is None,
        include_object=ours,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


def ours(_object: object, name: str | None, kind: str, reflected: bool, compare_to: object | None) -> bool:
    """Leave the durable engine's own tables alone."""
    return not (kind == "table" and reflected and compare_to is None and name not in Model.metadata.tables)


def online(database: Database) -> None:
    if not database.is_sqlite:
        with database.engine.begin() as connection:
            migrate(connection)
        return
    with database.engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None  # noqa: S101  a connection that is open has one
        raw.execute("PRAGMA foreign_keys=OFF")  # has no effect inside a transaction, so it comes first
        try:
            with connection.begin():
                migrate(connection)
                broken = connection.execute(text("PRAGMA foreign_key_check")).all()
                if broken:
                    raise Conflict(
                        f"The migration would leave {len(broken)} rows without their parent, first in {broken[0][0]}.",
                        advice="Nothing was changed. Report it with the output of msp doctor.",
                    )
        finally:
            raw.execute("PRAGMA foreign_keys=ON")


online(context.config.attributes.get("database") or current())
