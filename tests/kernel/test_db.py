"""The database: zones survive, writers wait their turn, readers cannot write."""

import threading
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.dialects.sqlite import DATETIME
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from msp.db import Database, Model, without_password
from msp.errors import Misconfigured


class Own(DeclarativeBase):
    """A schema apart from the product's: its tables must not be looked for in an installation."""

    type_annotation_map = Model.type_annotation_map


class Sample(Own):
    """A row of every own type."""

    __tablename__ = "test_sample"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    lasts: Mapped[timedelta]
    price: Mapped[Decimal]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path}/sample.db")
    Own.metadata.create_all(database.engine)
    return database


def test_an_instant_keeps_its_meaning_and_money_its_cents(database: Database) -> None:
    at = datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=5)))
    with database.begin() as session:
        session.add(Sample(at=at, lasts=timedelta(hours=26), price=Decimal("0.10")))
    with database.read() as session:
        row = session.query(Sample).one()
        assert (row.at, row.at.tzinfo, row.lasts, row.price) == (at, UTC, timedelta(hours=26), Decimal("0.10"))


def test_an_instant_is_stored_as_sqlalchemy_stores_it_and_sorts_as_text(database: Database) -> None:
    instants = [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 0, 7, tzinfo=UTC)]
    with database.begin() as session:
        session.add_all(Sample(at=at, lasts=timedelta(), price=Decimal(0)) for at in instants)
    with database.read() as session:
        stored = list(session.scalars(text("SELECT at FROM test_sample ORDER BY at")))
        theirs = DATETIME().bind_processor(session.get_bind().dialect)
        assert theirs is not None
        assert stored == [theirs(at.replace(tzinfo=None)) for at in instants]
        assert list(session.scalars(select(Sample.at).where(Sample.at > instants[0]))) == instants[1:]


@pytest.mark.parametrize("wrong", [{"at": datetime(2026, 1, 1)}, {"price": 0.1}])  # noqa: DTZ001
def test_a_naive_instant_and_a_float_price_are_refused(database: Database, wrong: dict[str, object]) -> None:
    values = {"at": datetime.now(UTC), "lasts": timedelta(), "price": Decimal(1), **wrong}
    with pytest.raises(Exception, match=r"time zone|float"), database.begin() as session:
        session.add(Sample(**values))  # the block's commit writes it


def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(DBAPIError, match="readonly"), database.read() as session:
        session.execute(text("DELETE FROM test_sample"))


def test_writers_that_read_first_never_meet_a_lock(database: Database) -> None:
    with database.begin() as session:
        session.add(Sample(at=datetime.now(UTC), lasts=timedelta(), price=Decimal(0)))
    failures: list[Exception] = []

    def count() -> None:
        for _ in range(25):
            try:
                with database.begin() as session:
                    row = session.query(Sample).one()
                    row.price += 1
            except DBAPIError as error:
                failures.append(error)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert (failures, session.query(Sample).one().price) == ([], Decimal(100))


def test_the_file_belongs_to_its_owner_alone(database: Database) -> None:
    assert database.path is not None
    assert database.path.stat().st_mode & 0o077 == 0


def test_a_password_in_a_url_is_not_shown() -> None:
    assert without_password("postgresql+psycopg://msp:s3cret@db/msp") == "postgresql+psycopg://msp:***@db/msp"


@pytest.mark.parametrize("url", ["nonsense", "mysqlx://host/db"])
def test_an_unknown_url_is_explained(url: str) -> None:
    with pytest.raises(Misconfigured, match="cannot be used"):
        _ = Database(url).engine
