"""The database: column types that cannot lose a zone, and transactions that cannot deadlock SQLite.

SQLite runs in WAL mode and every writer begins with BEGIN IMMEDIATE; a deferred transaction that turns
writer halfway cannot wait for its turn and fails with "database is locked". PostgreSQL is the same code by URL.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import JSON, BigInteger, DateTime, Engine, Integer, MetaData, Select, Text, create_engine, event
from sqlalchemy.engine import Connection, Dialect, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator

from msp.errors import Misconfigured

Q = TypeVar("Q", bound="Select[*tuple[Any, ...]]")

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


_NAIVE = len("2026-01-31 12:00:00.000000")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware instant, stored as UTC. A naive value is an error: it lost its zone somewhere."""

    impl, cache_ok = DateTime, True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(DateTime(timezone=dialect.name != "sqlite"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone.")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def bind_processor(self, dialect: Dialect) -> Any:
        """Return what makes a parameter; SQLAlchemy's own text for SQLite, at a third of its cost."""
        if dialect.name != "sqlite":
            return super().bind_processor(dialect)

        def text(value: datetime | None) -> str | None:
            if value is not None and value.tzinfo is UTC:  # as nearly all are
                return value.isoformat(" ", "microseconds")[:_NAIVE]
            plain = self.process_bind_param(value, dialect)
            return None if plain is None else plain.isoformat(" ", "microseconds")

        return text

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Seconds(TypeDecorator[timedelta]):
    """A duration in whole seconds, stored as an integer that people can read in a dump."""

    impl, cache_ok = BigInteger, True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value.total_seconds())

    def process_result_value(self, value: int | None, dialect: Dialect) -> timedelta | None:
        return None if value is None else timedelta(seconds=value)


class Money(TypeDecorator[Decimal]):
    """An exact decimal amount, stored as text; the currency stands in the column beside it."""

    impl, cache_ok = Text, True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        if isinstance(value, float):
            raise TypeError(f"{value!r} is a float; money is Decimal.")
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


class Model(DeclarativeBase):
    """Base of every stored class. No ON DELETE CASCADE anywhere: evidence is never deleted."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads a plain class attribute
        datetime: UtcDateTime,
        timedelta: Seconds,
        Decimal: Money,
        str: Text,
        int: BigInteger().with_variant(Integer, "sqlite"),
        dict[str, Any]: JSON,
        list[Any]: JSON,
        list[str]: JSON,
    }


def locked(query: Q) -> Q:
    """Return a query whose rows are locked until we commit, as they are then: also those that were read before.

    A plain FOR UPDATE waits for whoever is first, and then leaves what the session holds as it was before the wait.
    """
    return query.with_for_update().execution_options(populate_existing=True)


@dataclass(frozen=True)
class Database:
    """One database by its URL, with its pool of connections."""

    url: str

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    @property
    def path(self) -> Path | None:
        """The file of an SQLite database, else None."""
        name = make_url(self.url).database if self.is_sqlite else None
        return Path(name) if name else None

    @cached_property
    def engine(self) -> Engine:
        """Created on first use; raises Misconfigured for a URL that names no known database."""
        try:
            if self.is_sqlite:
                return sqlite_engine(self.url)
            return create_engine(self.url, pool_size=5, max_overflow=5, pool_pre_ping=True)
        except (ArgumentError, ModuleNotFoundError) as error:
            raise Misconfigured(
                f"The database URL cannot be used: {error}.",
                advice="Use sqlite:////path/msp.db or postgresql+psycopg://user@host/name.",
            ) from error

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """Open a writing transaction: committed when the block ends, rolled back when it raises."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            session.connection()  # BEGIN IMMEDIATE now: wait for our turn before reading anything
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a read-only snapshot; it never waits for writers and refuses to write."""
        with Session(self.engine.execution_options(msp_read_only=True), expire_on_commit=False) as session:
            yield session

    def dispose(self) -> None:
        """Close every pooled connection (before a fork, or at the end)."""
        if "engine" in self.__dict__:
            self.engine.dispose()


def sqlite_engine(url: str) -> Engine:
    """Return an engine whose transactions begin IMMEDIATE, or read-only when so marked."""
    path = make_url(url).database
    if path and path != ":memory:":
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            if not Path(path).exists():
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise Misconfigured(
                f"The database file {path} cannot be made: {error.strerror}.", advice="Name another one."
            ) from error
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("msp_read_only", False)
        if connection.info.get("read_only") is not read_only:
            connection.exec_driver_sql(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
            connection.info["read_only"] = read_only
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


_current: list[Database] = []


def use(url: str) -> Database:
    """Make `url` the database of `begin()` and `read()` in this process and return it."""
    if not _current or _current[0].url != url:
        for old in _current:
            old.dispose()
        _current[:] = [Database(url)]
    return _current[0]


def current() -> Database:
    """Return the database in use; raises Misconfigured before `use`."""
    if not _current:
        raise Misconfigured("No database is in use.", advice="Run msp init, or set MSP_DATABASE.")
    return _current[0]


@contextmanager
def begin() -> Iterator[Session]:
    """Open a writing transaction on the database in use; commits once, at the end of the block."""
    with current().begin() as session:
        yield session


@contextmanager
def read() -> Iterator[Session]:
    """Open a read-only snapshot of the database in use."""
    with current().read() as session:
        yield session


def inserting(dialect: str) -> Any:
    """Return the `insert` that knows ON CONFLICT and RETURNING of "sqlite" or "postgresql".

    Only that one is read: PostgreSQL's alone costs a command as much as a fifth of its start.
    """
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert
    from sqlalchemy.dialects import postgresql

    return postgresql.insert


def without_password(url: str) -> str:
    """Return the URL as it may be shown."""
    return re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", url)


def explain(error: DatabaseError) -> Misconfigured:
    """Turn a driver's error at connect time into our sentence."""
    return Misconfigured(
        f"The database does not answer: {str(error.orig).strip().splitlines()[0]}.",
        advice="Check MSP_DATABASE, that the server runs, and `msp doctor`.",
    )
