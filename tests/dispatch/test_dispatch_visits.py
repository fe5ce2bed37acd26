from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from msp import evidence
from msp.contracts.models import Client, Site
from msp.db import Database
from msp.dispatch import openings, visits
from msp.dispatch.models import Appointment, Part, Shift, Stock, Technician, WorkOrder
from msp.errors import Conflict, NotFound, Refused

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


def furnish(session: Session) -> WorkOrder:
    """One client in Berlin, two technicians with a Monday shift, a disk in Anna's van and one in the depot."""
    client = Client(key="acme", name="Acme")
    disk = Part(sku="disk", name="Disk")
    anna = Technician(name="Anna", latitude=52.5, longitude=13.4, skills={"linux": 2})
    bert = Technician(name="Bert", latitude=52.6, longitude=13.4, skills={"linux": 1})
    session.add_all([client, disk, anna, bert])
    session.flush()
    site = Site(client_id=client.id, name="Main", latitude=52.52, longitude=13.4)
    session.add(site)
    session.add_all(Shift(technician_id=who.id, starts_at=NOW, ends_at=NOW + 8 * HOUR) for who in (anna, bert))
    session.add_all([Stock(part_id=disk.id, technician_id=anna.id, quantity=1), Stock(part_id=disk.id, quantity=1)])
    session.flush()
    return ask(session, client.id, site.id)


def ask(session: Session, client_id: int, site_id: int, **more: object) -> WorkOrder:
    values: dict[str, object] = {
        "client_id": client_id, "site_id": site_id, "summary": "Replace the disk", "skills": {"linux": 1},
        "parts": {"disk": 1}, "duration": HOUR, "due_at": NOW + 6 * HOUR, "now": NOW,
    }  # fmt: skip
    return visits.propose(session, **{**values, **more})  # type: ignore[arg-type]


def technician(session: Session, name: str) -> Technician:
    return session.scalars(select(Technician).where(Technician.name == name)).one()


def free_disks(session: Session) -> int:
    return session.scalar(select(func.sum(Stock.quantity - Stock.reserved))) or 0


def test_proposal_names_the_nearest_with_the_part_and_the_last_instant_to_leave(database: Database) -> None:
    with database.begin() as session:
        order = furnish(session)
        found = visits.candidates(session, order, NOW)
        proposed = visits.appointment_of(session, order.id)
        assert [one.technician.name for one in found] == ["Anna", "Bert"]
        assert any("Fetches 1 x disk" in reason for reason in found[1].reasons)
        assert proposed is not None
        assert proposed.technician_id == technician(session, "Anna").id
        road = openings.road((52.5, 13.4), (52.52, 13.4))
        assert proposed.starts_at == NOW + road
        assert order.latest_dispatch_at == NOW + 5 * HOUR - road
        assert session.scalar(select(func.count()).select_from(evidence.Evidence)) == 1


def test_a_failed_run_proposes_exactly_one(database: Database) -> None:
    from msp.remote.models import Run

    with database.begin() as session:
        order = furnish(session)
        columns = {
            column.name: NOW if column.name.endswith("_at") else "x" if column.type.python_type is str else 0
            for column in Run.__table__.columns
            if not column.nullable and column.default is None and not column.primary_key and not column.foreign_keys
        }
        run = Run(**{**columns, "client_id": order.client_id})
        session.add(run)
        session.flush()
        first = ask(session, order.client_id, order.site_id or 0, run_id=run.id)
        assert ask(session, order.client_id, order.site_id or 0, run_id=run.id) is first


def test_confirming_reserves_the_part_and_the_second_dispatcher_is_told_who_was_first(database: Database) -> None:
    with database.begin() as session:
        order_id = furnish(session).id
        anna, bert = technician(session, "Anna").id, technician(session, "Bert").id
    with database.begin() as session:
        visits.assign(session, order_id, anna, NOW + HOUR, by="one", now=NOW, expected_version=1)
        assert free_disks(session) == 1
    with database.begin() as session, pytest.raises(Conflict, match="Anna is confirmed"):
        visits.assign(session, order_id, bert, NOW + HOUR, by="two", now=NOW, expected_version=1)
    with database.begin() as session:  # with the version now seen, it moves, and the part moves with it
        moved = visits.assign(session, order_id, bert, NOW + HOUR, by="two", now=NOW, expected_version=2)
        assert (moved.version, moved.technician_id, free_disks(session)) == (3, bert, 1)


def test_every_missing_thing_is_named(database: Database) -> None:
    with database.begin() as session:
        order = furnish(session)
        other = ask(session, order.client_id, order.site_id or 0, skills={"linux": 2, "cabling": 1}, parts={"disk": 3})
        bert = technician(session, "Bert").id
    with database.begin() as session, pytest.raises(Refused) as caught:
        visits.assign(session, other.id, bert, NOW + 9 * HOUR, by="one", now=NOW, expected_version=None)
    for words in ("cabling at level 1", "linux at level 2", "2 x disk", "no opening at 2026-03-02 17:00"):
        assert words in caught.value.what


def test_a_technician_cannot_be_in_two_places(database: Database) -> None:
    with database.begin() as session:
        order = furnish(session)
        other = ask(session, order.client_id, order.site_id or 0, parts={})
        anna = technician(session, "Anna").id
        visits.assign(session, order.id, anna, NOW + HOUR, by="one", now=NOW, expected_version=1)
    with database.begin() as session, pytest.raises(Refused, match="no opening"):
        visits.assign(session, other.id, anna, NOW + HOUR + HOUR / 2, by="two", now=NOW, expected_version=1)


def test_of_two_dispatchers_at_once_exactly_one_gets_the_last_part(database: Database) -> None:
    with database.begin() as session:
        order = furnish(session)
        other = ask(session, order.client_id, order.site_id or 0)
        van = session.scalars(select(Stock).where(Stock.technician_id.is_not(None))).one()
        van.quantity = 0
        pairs = [(order.id, technician(session, "Anna").id), (other.id, technician(session, "Bert").id)]

    def press(pair: tuple[int, int]) -> bool:
        try:
            with database.begin() as session:
                visits.assign(session, pair[0], pair[1], NOW + 2 * HOUR, by="x", now=NOW, expected_version=1)
        except (Conflict, Refused):
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(press, pairs)) == [False, True]
    with database.read() as session:
        assert free_disks(session) == 0


def test_cancelling_gives_the_part_back_and_finishing_uses_it_up(database: Database) -> None:
    with database.begin() as session:
        order = furnish(session)
        anna = technician(session, "Anna").id
        held = visits.assign(session, order.id, anna, NOW + HOUR, by="one", now=NOW, expected_version=1)
        visits.advance(session, held.id, "cancelled", by="one", now=NOW, expected_version=2)
        assert (free_disks(session), order.state) == (2, "proposed")
        again = visits.assign(session, order.id, anna, NOW + HOUR, by="one", now=NOW)
        for version, state in enumerate(("on_the_way", "working", "done"), again.version):
            visits.advance(session, again.id, state, by="anna", now=NOW + HOUR, expected_version=version)
        assert (free_disks(session), order.state) == (1, "done")
        assert session.scalar(select(func.sum(Stock.quantity))) == 1
        with pytest.raises(Conflict, match="cannot become"):
            visits.advance(session, again.id, "working", by="anna", now=NOW, expected_version=again.version)


def test_absence_leaves_no_opening_and_the_point_of_no_return_is_now(database: Database) -> None:
    with database.begin() as session:
        order = furnish(session)
        for name in ("Anna", "Bert"):
            away = technician(session, name).id
            session.add(Shift(technician_id=away, starts_at=NOW - HOUR, ends_at=NOW + 9 * HOUR, kind="absence"))
        session.flush()
        assert visits.candidates(session, order, NOW) == []
        assert visits.latest_dispatch(session, order, NOW) == NOW


def test_board_shows_shifts_visits_and_what_waits(database: Database) -> None:
    with database.begin() as session:
        order = furnish(session)
        visits.assign(
            session, order.id, technician(session, "Bert").id, NOW + HOUR, by="x", now=NOW, expected_version=1
        )
        waiting = ask(session, order.client_id, order.site_id or 0, skills={"cabling": 9})
        found = visits.board(session, NOW - HOUR, NOW + 24 * HOUR)
        assert [(row.technician.name, len(row.shifts), len(row.visits)) for row in found.rows] == [
            ("Anna", 1, 0),
            ("Bert", 1, 1),
        ]
        assert found.rows[1].visits[0].client == "Acme"
        assert [one.id for one in found.waiting] == [waiting.id]
        assert not visits.board(session, NOW, NOW + HOUR, client_ids=[]).waiting


def test_nothing_is_assigned_to_nobody(database: Database) -> None:
    with database.begin() as session, pytest.raises(NotFound):
        visits.assign(session, 99, 1, NOW, by="x", now=NOW)


def test_openings_agree_with_trying_every_minute() -> None:
    home, site, other = (52.5, 13.4), (52.6, 13.4), (52.4, 13.5)
    spans = openings.working_spans([(NOW, NOW + 8 * HOUR)], [(NOW + 3 * HOUR, NOW + 4 * HOUR)])
    busy = [openings.Busy(NOW + HOUR, NOW + 2 * HOUR, other)]
    free = openings.gaps(spans, busy, home)
    first = openings.earliest(free, site, HOUR, NOW)
    minutes = (NOW + timedelta(minutes=m) for m in range(8 * 60))
    works = [start for start in minutes if openings.at(free, site, HOUR, start, NOW)]
    assert first is not None
    assert works[0] == first.starts_at
    due = NOW + 7 * HOUR
    last = max(start for start in works if start + HOUR <= due)
    leaves = openings.latest_departure(free, site, HOUR, due)
    assert leaves == last - openings.road(home, site)


def test_appointment_model_refuses_to_end_before_it_begins(database: Database) -> None:
    from sqlalchemy.exc import IntegrityError

    with database.begin() as session:
        order = furnish(session)
        who = technician(session, "Anna").id
        session.add(Appointment(work_order_id=order.id, technician_id=who, starts_at=NOW, ends_at=NOW))
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()


def test_of_two_who_saw_the_same_visit_one_carries_it_on(database: Database) -> None:
    with database.begin() as session:
        order_id, anna = furnish(session).id, technician(session, "Anna").id
    with database.begin() as session:
        made = visits.assign(session, order_id, anna, NOW + HOUR, by="one", now=NOW, expected_version=1)
    barrier = Barrier(2)

    def carry(state: str) -> str:
        try:
            with database.begin() as session:
                seen = session.get_one(Appointment, made.id)  # and kept, as the pages do
                if not database.is_sqlite:  # there the second waits before it reads anything
                    barrier.wait(30)
                visits.advance(session, made.id, state, by=state, now=NOW, expected_version=made.version)
                assert seen.state == state
        except Conflict:
            return ""
        return state

    with ThreadPoolExecutor(2) as pool:
        done = [one for one in pool.map(carry, ("on_the_way", "cancelled")) if one]
    assert len(done) == 1
    with database.read() as session:
        stored = session.get_one(Appointment, made.id)
        assert (stored.state, stored.version) == (done[0], made.version + 1)
        assert free_disks(session) == (2 if done[0] == "cancelled" else 1)


def test_who_was_taken_off_the_list_meanwhile_gets_no_visit(database: Database) -> None:
    with database.begin() as session:
        order_id, anna = furnish(session).id, technician(session, "Anna").id
    if database.is_sqlite:
        pytest.skip("the second waits before it reads anything")
    with database.begin() as late:
        seen = late.get_one(Technician, anna)
        assert seen.active
        with database.begin() as session:
            session.get_one(Technician, anna).active = False
        with pytest.raises(Refused, match="Anna is not active"):
            visits.assign(late, order_id, anna, NOW + HOUR, by="one", now=NOW, expected_version=1)
