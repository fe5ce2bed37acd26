"""A better plan for the board: what it changes, taken in whole or in part in one transaction, told, undone."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from test_runs_prepaid import on_block
from world import World

from msp.clock import utc_now
from msp.contracts.models import Site
from msp.desk import tickets
from msp.dispatch import board_problem, visits
from msp.dispatch.calm import calmed
from msp.dispatch.changes import changes, figures
from msp.dispatch.checker import check
from msp.dispatch.models import Appointment, Part, Replan, Shift, Stock, Technician, WorkOrder
from msp.dispatch.solve import solve
from msp.errors import Conflict, Misconfigured, MspError, Refused
from msp.flows import placing, prepaid, replans

NORTH, SOUTH = (52.9, 13.4), (52.1, 13.4)  # about 90 km apart
HOUR = timedelta(hours=1)


@dataclass
class Board:
    """Tomorrow with Nora in the north and Sven in the south, each booked for work where the other lives."""

    world: World
    day: datetime
    people: dict[str, int]
    orders: dict[str, int]
    ticket: int

    def pose(self) -> board_problem.BoardProblem:
        with self.world.database.read() as session:
            found = board_problem.pose(session, self.day, self.day + timedelta(days=1), utc_now())
            session.expunge_all()
            return found

    def ask(self) -> int:
        now = utc_now()
        with self.world.database.begin() as session:
            until = self.day + timedelta(days=1)
            found = replans.ask(session, self.day, until, seconds=5, client_ids=None, by="dora", now=now)
            return found.id

    def planned(self) -> int:
        """Ask, and compute with a fixed number of iterations instead of five seconds."""
        replan = self.ask()
        problem = self.pose()
        found = calmed(problem.raw, solve(problem.raw, iterations=300, accelerator="none").plan)
        with self.world.database.begin() as session:
            asked = session.get_one(Replan, replan)
            asked.state, asked.changes = "ready", changes(problem, found)
            asked.figures = {"before": figures(problem, problem.raw["incumbent"]), "after": figures(problem, found)}
        return replan

    def standing(self) -> dict[str, tuple[str, datetime] | None]:
        with self.world.database.read() as session:
            names = {ident: name for name, ident in self.people.items()}
            found: dict[str, tuple[str, datetime] | None] = {}
            for name, order in self.orders.items():
                visit = visits.standing(session, order)
                sure = visit is not None and visit.state == "confirmed"
                found[name] = (names[visit.technician_id], visit.starts_at) if visit and sure else None
            return found


def work(session: Session, world: World, summary: str, site: int | None, **fields: object) -> WorkOrder:
    found = WorkOrder(
        client_id=world.alfa, site_id=site, summary=summary, duration=HOUR, created_at=utc_now(), **fields
    )
    session.add(found)
    session.flush()
    return found


@pytest.fixture
def board(world: World) -> Board:
    now = utc_now()
    day = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    ticket = world.ticket()
    with world.database.begin() as session:
        places = {}
        for name, (latitude, longitude) in (("north", NORTH), ("south", SOUTH)):
            site = Site(client_id=world.alfa, name=name, latitude=latitude, longitude=longitude, time_zone="UTC")
            session.add(site)
            session.flush()
            places[name] = site.id
        people = {}
        for name, (latitude, longitude) in (("Nora", NORTH), ("Sven", SOUTH)):
            one = Technician(name=name, skills={"linux": 2}, latitude=latitude, longitude=longitude)
            session.add(one)
            session.flush()
            session.add(Shift(technician_id=one.id, starts_at=day + 8 * HOUR, ends_at=day + 18 * HOUR))
            people[name] = one.id
        session.flush()
        north = work(session, world, "north", places["north"], ticket_id=ticket)
        south = work(session, world, "south", places["south"])
        waiting = work(session, world, "waiting", places["north"], skills={"linux": 2}, due_at=day + 16 * HOUR)
        orders = {"north": north.id, "south": south.id, "waiting": waiting.id}
        at = day + 12 * HOUR
        window = (at, at + HOUR)
        placing.place(session, north.id, people["Sven"], at, by="dora", now=now, promised=window)
        placing.place(session, south.id, people["Nora"], at, by="dora", now=now)
    return Board(world, day, people, orders, ticket)


def test_the_plan_sends_each_to_the_work_nearby_and_keeps_what_was_promised(board: Board) -> None:
    problem = board.pose()
    assert check(problem.raw, problem.raw["incumbent"]).feasible
    with board.world.database.read() as session:
        asked = session.get_one(Replan, board.planned())
        by_order = {one["order"]: one for one in asked.changes}
        before, after = asked.figures["before"], asked.figures["after"]
    north, south, waiting = (by_order[board.orders[name]] for name in ("north", "south", "waiting"))
    assert (north["kind"], north["technician"], north["promise"]) == ("move", board.people["Nora"], "kept")
    assert north["starts_at"] == north["was"]["starts_at"]  # the hour stays where only hands change
    assert (south["technician"], south["promise"]) == (board.people["Sven"], "none")
    assert (waiting["kind"], waiting["technician"]) == ("new", board.people["Nora"])
    assert (before["waiting"], after["waiting"]) == (1, 0)
    assert after["road"] < before["road"] / 3


def test_all_is_accepted_at_once_though_two_visits_change_places_and_undone_at_once(board: Board) -> None:
    was = board.standing()
    replan = board.planned()
    with board.world.database.begin() as session:
        replans.accept(session, replan, list(board.orders.values()), by="dora", now=utc_now())
    now = board.standing()
    assert {name: one[0] for name, one in now.items() if one} == {"north": "Nora", "south": "Sven", "waiting": "Nora"}
    with board.world.database.read() as session:
        texts = [entry.text for entry in tickets.log_of(session, board.ticket)]
    assert any("Nora comes" in str(text) for text in texts)
    with board.world.database.begin() as session:
        replans.take_back(session, replan, by="dora", now=utc_now())
    assert board.standing() == was
    with board.world.database.begin() as session, pytest.raises(Conflict, match="undone already"):
        replans.take_back(session, replan, by="dora", now=utc_now())


def test_a_change_that_needs_another_is_refused_alone_and_changes_nothing(board: Board) -> None:
    was = board.standing()
    with board.world.database.begin() as session:  # nobody has room for a second visit but by the exchange
        for shift in session.scalars(select(Shift)):
            shift.starts_at, shift.ends_at = board.day + 10 * HOUR, board.day + 15 * HOUR
    with board.world.database.begin() as session:
        found = Replan(
            asked_by="dora", asked_at=utc_now(), begins_at=board.day, ends_at=board.day + 24 * HOUR, seconds=5
        )
        visit = visits.standing(session, board.orders["north"])
        assert visit is not None
        change = {
            "order": board.orders["north"], "appointment": visit.id, "version": visit.version, "promise": "kept",
            "technician": board.people["Nora"], "starts_at": visit.starts_at.isoformat(), "kind": "move",
        }  # fmt: skip
        gives_way = {"technician": board.people["Nora"], "starts_at": visit.starts_at.isoformat()}
        found.state, found.changes = "ready", [change, {**change, "order": board.orders["south"], "was": gives_way}]
        session.add(found)
        session.flush()
        replan = found.id
    with pytest.raises(Refused, match="Nora has no opening") as refused, board.world.database.begin() as session:
        replans.accept(session, replan, [board.orders["north"]], by="dora", now=utc_now())
    assert refused.value.advice == "Take these changes too, which make room for it: south."
    assert board.standing() == was


def test_a_plan_promises_nothing_beyond_the_prepaid_hours_unasked(board: Board) -> None:
    on_block(board.world, 0)
    waiting = board.orders["waiting"]
    with board.world.database.begin() as session:
        session.get_one(WorkOrder, waiting).ticket_id = board.ticket
    was, replan = board.standing(), board.planned()
    with (
        pytest.raises(Refused, match=r"waiting: The visit .*95\.00 EUR") as refused,
        board.world.database.begin() as session,
    ):
        replans.accept(session, replan, list(board.orders.values()), by="dora", now=utc_now())
    assert "approver agrees in the portal" in refused.value.advice
    assert board.standing() == was
    with board.world.database.begin() as session:
        order = session.get_one(WorkOrder, waiting)
        prepaid.agree(session, order, prepaid.Given(board.world.olga, "95.00"), now=utc_now())
    with board.world.database.begin() as session:
        replans.accept(session, replan, list(board.orders.values()), by="dora", now=utc_now())
    assert board.standing()["waiting"] is not None


def test_whoever_is_second_is_told(board: Board) -> None:
    replan = board.planned()
    visit = board.standing()["south"]
    assert visit is not None
    with board.world.database.begin() as session:  # somebody moves a visit by hand meanwhile
        standing = visits.standing(session, board.orders["south"])
        assert standing is not None
        at = standing.starts_at + HOUR
        placing.place(session, board.orders["south"], board.people["Nora"], at, by="emil", now=utc_now(),
                      expected_version=standing.version)  # fmt: skip
    with pytest.raises(Conflict, match="south has changed"), board.world.database.begin() as session:
        replans.accept(session, replan, list(board.orders.values()), by="dora", now=utc_now())
    with board.world.database.begin() as session:
        replans.accept(session, replan, [board.orders["waiting"]], by="emil", now=utc_now())
    with pytest.raises(Conflict, match="emil was first"), board.world.database.begin() as session:
        replans.accept(session, replan, [board.orders["waiting"]], by="dora", now=utc_now())
    with pytest.raises(Conflict, match="emil has accepted"), board.world.database.begin() as session:
        replans.discard(session, replan, by="dora", now=utc_now())


def test_a_broken_promise_is_not_moved_unless_the_client_agreed(board: Board) -> None:
    with board.world.database.begin() as session:
        session.add(Shift(technician_id=board.people["Sven"], starts_at=board.day + 11 * HOUR,
                          ends_at=board.day + 14 * HOUR, kind="absence"))  # fmt: skip
        session.add(Shift(technician_id=board.people["Nora"], starts_at=board.day + 11 * HOUR,
                          ends_at=board.day + 14 * HOUR, kind="absence"))  # fmt: skip
    replan = board.planned()
    order = board.orders["north"]
    with board.world.database.read() as session:
        change = next(one for one in session.get_one(Replan, replan).changes if one["order"] == order)
    assert (change["kind"], change["promise"]) == ("move", "broken")
    with pytest.raises(Conflict, match="told another window"), board.world.database.begin() as session:
        replans.accept(session, replan, [order], by="dora", now=utc_now())
    with board.world.database.begin() as session:
        replans.accept(session, replan, [order], agreed=[order], by="dora", now=utc_now())
    with board.world.database.read() as session:
        visit = visits.standing(session, order)
        assert visit is not None
        assert visit.promised_from == visit.starts_at == datetime.fromisoformat(change["starts_at"])
    given = board.standing()
    with pytest.raises(Conflict, match="north: the client was told"), board.world.database.begin() as session:
        replans.take_back(session, replan, by="dora", now=utc_now())
    assert board.standing() == given
    with board.world.database.begin() as session:
        for shift in session.scalars(select(Shift).where(Shift.kind == "absence")):
            session.delete(shift)
    with board.world.database.begin() as session:
        replans.take_back(session, replan, agreed=[order], by="dora", now=utc_now())
    with board.world.database.read() as session:
        visit = visits.standing(session, order)
        assert visit is not None
        noon = board.day + 12 * HOUR
        assert (visit.starts_at, visit.promised_from, visit.promised_until) == (noon, noon, noon + HOUR)


def test_only_changes_that_break_a_promise_are_carried_out_as_agreed(board: Board) -> None:
    replan, order = board.planned(), board.orders["north"]
    with board.world.database.begin() as session:  # the plan says that it keeps what it would break
        asked = session.get_one(Replan, replan)
        later = (board.day + 16 * HOUR).isoformat()
        asked.changes = [{**one, "starts_at": later} for one in asked.changes if one["order"] == order]
        assert [one["promise"] for one in asked.changes] == ["kept"]
    with pytest.raises(Conflict, match="told another window"), board.world.database.begin() as session:
        replans.accept(session, replan, [order], by="dora", now=utc_now())


def test_who_cannot_be_replaced_is_taken_off_with_the_reason_and_waits_again(board: Board) -> None:
    with board.world.database.begin() as session:
        for name in board.people.values():
            session.add(Shift(technician_id=name, starts_at=board.day, ends_at=board.day + 24 * HOUR, kind="absence"))
    replan = board.planned()
    with board.world.database.read() as session:
        asked = session.get_one(Replan, replan)
        off = {one["order"]: one for one in asked.changes}
        assert {one["kind"] for one in off.values()} == {"off"}
        assert all(one["reason"] for one in off.values())
        assert asked.figures["before"]["impossible"] == 2
    with board.world.database.begin() as session:
        replans.accept(session, replan, [board.orders["south"]], by="dora", now=utc_now())
    with board.world.database.read() as session:
        assert session.get_one(WorkOrder, board.orders["south"]).state == "proposed"


def test_what_is_under_way_or_another_clients_stands_still(board: Board) -> None:
    with board.world.database.begin() as session:
        visit = visits.standing(session, board.orders["north"])
        assert visit is not None
        visit.state = "on_the_way"
    problem = board.pose()
    assert str(board.orders["north"]) not in problem.movable
    with board.world.database.read() as session:
        until = board.day + timedelta(days=1)
        assert board_problem.pose(session, board.day, until, utc_now(), client_ids=[]).movable == {}


def test_parts_are_held_by_one_of_two_visits_only(board: Board) -> None:
    with board.world.database.begin() as session:
        part = Part(sku="psu", name="Power supply")
        session.add(part)
        session.flush()
        session.add(Stock(part_id=part.id, technician_id=None, quantity=1))
        for name in ("waiting", "south"):
            session.get_one(WorkOrder, board.orders[name]).parts = {"psu": 1}
    problem = board.pose()
    found = calmed(problem.raw, solve(problem.raw, iterations=200, accelerator="none").plan)
    assert check(problem.raw, found).feasible
    taken = [stop for route in found["routes"] for stop in route["stops"] if stop["kind"] == "depot"]
    assert len(taken) == 1


def test_days_that_are_over_or_too_many_are_refused(board: Board) -> None:
    with board.world.database.begin() as session:
        for begins, ends in (
            (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)),
            (board.day, board.day + timedelta(days=40)),
        ):
            with pytest.raises(Misconfigured):
                replans.ask(session, begins, ends, seconds=5, client_ids=None, by="dora", now=utc_now())
        with pytest.raises(Misconfigured, match="that long"):
            replans.ask(session, board.day, board.day + HOUR, seconds=7, client_ids=None, by="dora", now=utc_now())


@pytest.mark.slow
def test_the_worker_computes_it_shows_how_far_it_is_and_stops_when_told(board: Board) -> None:
    replan = board.ask()
    with board.world.database.begin() as session:
        replans.enough(session, replan, by="dora", now=utc_now())
        assert session.get_one(Replan, replan).state == "discarded"
    replan = board.ask()
    with board.world.database.begin() as session:
        asked = session.get_one(Replan, replan)
        asked.state, asked.seconds, asked.stopping = "working", 60, True
    begun = utc_now()
    replans.compute(replan)
    assert utc_now() - begun < timedelta(seconds=15)
    with board.world.database.read() as session:
        asked = session.get_one(Replan, replan)
        assert (asked.state, len(asked.changes)) == ("ready", 3)


def test_whatever_is_found_for_a_random_board_can_be_accepted(board: Board) -> None:
    from random import Random

    rng = Random(5)
    with board.world.database.begin() as session:
        sites = []
        for number in range(6):
            site = Site(client_id=board.world.alfa, name=f"s{number}", latitude=52 + rng.random(),
                        longitude=13 + rng.random(), time_zone="UTC")  # fmt: skip
            session.add(site)
            session.flush()
            sites.append(site.id)
        for number in range(12):
            site_id = rng.choice([*sites, None])
            due = board.day + rng.randint(10, 40) * HOUR if rng.random() < 0.6 else None
            order = work(session, board.world, f"w{number}", site_id, due_at=due)
            board.orders[f"w{number}"] = order.id
            if number % 2:
                try:
                    with session.begin_nested():
                        at = board.day + timedelta(hours=9, minutes=rng.randrange(0, 420))
                        who = rng.choice(list(board.people.values()))
                        placing.place(session, order.id, who, at, by="dora", now=utc_now())
                except MspError:
                    pass
    replan = board.planned()
    with board.world.database.begin() as session:
        asked = session.get_one(Replan, replan)
        every = [one["order"] for one in asked.changes]
        assert len(every) >= 4
        broken = [one["order"] for one in asked.changes if one["promise"] == "broken"]
        replans.accept(session, replan, every, agreed=broken, by="dora", now=utc_now())
        held = session.scalars(select(Appointment).where(Appointment.state == "confirmed")).all()
        for one in held:
            for other in held:
                apart = one.id == other.id or one.technician_id != other.technician_id
                assert apart or one.ends_at <= other.starts_at or other.ends_at <= one.starts_at


def test_of_two_who_accept_at_the_same_moment_one_is_first(board: Board) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    plans, barrier = [board.planned(), board.planned()], Barrier(2)

    def accept(replan: int, by: str) -> str:
        barrier.wait()
        try:
            with board.world.database.begin() as session:
                replans.accept(session, replan, list(board.orders.values()), by=by, now=utc_now())
        except Conflict as error:
            return error.what
        return ""

    with ThreadPoolExecutor(2) as pool:
        told = sorted(pool.map(accept, plans, ("dora", "emil")))
    assert told[0] == ""
    assert "has changed since the plan was made" in told[1]
    assert {name: one[0] for name, one in board.standing().items() if one} == {
        "north": "Nora", "south": "Sven", "waiting": "Nora",
    }  # fmt: skip


def test_of_two_who_saw_a_plan_at_once_one_accepts_or_one_discards(board: Board) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    replan, barrier = board.planned(), Barrier(2)

    def decide(what: str) -> str:
        try:
            with board.world.database.begin() as session:
                seen = session.get_one(Replan, replan)  # and kept, as the pages do
                if not board.world.database.is_sqlite:  # there the second waits before it reads anything
                    barrier.wait(30)
                if what == "accepted":
                    replans.accept(session, replan, list(board.orders.values()), by=what, now=utc_now())
                else:
                    replans.discard(session, replan, by=what, now=utc_now())
                assert seen.state == what
        except Conflict:
            return ""
        return what

    with ThreadPoolExecutor(2) as pool:
        done = [one for one in pool.map(decide, ("accepted", "discarded")) if one]
    assert len(done) == 1
    with board.world.database.read() as session:
        plan = session.get_one(Replan, replan)
        assert (plan.state, plan.decided_by, bool(plan.undo)) == (done[0], done[0], done[0] == "accepted")
    waiting = board.standing()["waiting"]
    assert (waiting is not None) == (done[0] == "accepted")
