"""The kit: nothing is counted twice, nothing promised is taken away, and what to order adds up."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp.contracts.models import Client
from msp.db import Database
from msp.dispatch import kit, visits
from msp.dispatch.models import Part, Stock, Technician
from msp.errors import Conflict, Misconfigured, NotFound

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)


def furnish(session: Session) -> tuple[Part, Technician]:
    anna = Technician(name="Anna", skills={})
    session.add(anna)
    session.flush()
    return kit.add(session, sku="SSD-1", name="Disk", minimum=3, by="d"), anna


def level(session: Session) -> kit.Level:
    (found,) = kit.levels(session)
    return found


def test_what_to_order_is_what_visits_wait_for_and_the_minimum_again(database: Database) -> None:
    with database.begin() as session:
        disk, anna = furnish(session)
        assert level(session).order == 3
        kit.receive(session, disk, 4, by="d")
        kit.move(session, disk, 1, by="d", source=None, target=anna)
        assert (level(session).depot, level(session).vans, level(session).order) == (3, {"Anna": 1}, 0)
        client = Client(key="a", name="A")
        session.add(client)
        session.flush()
        visits.propose(
            session, client_id=client.id, summary="x", duration=timedelta(hours=1), now=NOW, parts={"SSD-1": 2}
        )
        assert (level(session).wanted, level(session).order) == (2, 1)
        kit.write_off(session, disk, 1, "broken", by="d", technician=anna)
        assert (level(session).vans, level(session).order) == ({}, 2)


def test_what_is_promised_stays_and_wrong_numbers_change_nothing(database: Database) -> None:
    with database.begin() as session:
        disk, anna = furnish(session)
        kit.receive(session, disk, 2, by="d", technician=anna)
        session.scalars(select(Stock)).one().reserved = 1
        session.flush()
        with pytest.raises(Conflict, match="are not free in Anna's van"):
            kit.move(session, disk, 2, by="d", source=anna, target=None)
        for wrong in (0, -1, kit.MOST + 1):
            with pytest.raises(Misconfigured):
                kit.receive(session, disk, wrong, by="d")
        with pytest.raises(Misconfigured, match="reason"):
            kit.write_off(session, disk, 1, " ", by="d", technician=anna)
        with pytest.raises(Misconfigured):
            kit.move(session, disk, 1, by="d", source=anna, target=anna)
        with pytest.raises(Conflict, match="taken"):
            kit.add(session, sku="ssd-1", name="Other", minimum=0, by="d")
        with pytest.raises(NotFound):
            kit.by_sku(session, "none")
        assert level(session).total == 2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["in", "out", "there", "back"]), st.integers(1, 5)), max_size=20))
def test_parts_are_neither_made_nor_lost_on_the_way(database: Database, acts: list[tuple[str, int]]) -> None:
    with database.begin() as session:
        disk, anna = furnish(session)
        expected = {"depot": 0, "van": 0}  # the oracle
        for act, count in acts:
            try:
                if act == "in":
                    kit.receive(session, disk, count, by="d")
                    expected["depot"] += count
                elif act == "out":
                    kit.write_off(session, disk, count, "x", by="d")
                    expected["depot"] -= count
                else:
                    source, target = (None, anna) if act == "there" else (anna, None)
                    kit.move(session, disk, count, by="d", source=source, target=target)
                    sign = 1 if act == "there" else -1
                    expected["van"] += sign * count
                    expected["depot"] -= sign * count
            except Conflict:
                here = expected["van"] if act == "back" else expected["depot"]
                assert here < count
        assert (level(session).depot, sum(level(session).vans.values())) == (expected["depot"], expected["van"])
        session.rollback()
