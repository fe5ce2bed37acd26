"""Tickets: every act appends to the log, and what the row holds is what the log says."""

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from reception import NOON, Desk
from sqlalchemy import select

from msp import evidence
from msp.desk import clock, handled, queue, tickets
from msp.desk.models import Ticket, TicketEvent
from msp.errors import Conflict, Misconfigured, MspError, NotFound
from msp.events import Event


def at(**span: float) -> datetime:
    return NOON + timedelta(**span)


def breaches(desk: Desk) -> int:
    with desk.database.read() as session:
        return len(list(session.scalars(select(evidence.Evidence).where(evidence.Evidence.kind == "ticket.breached"))))


def test_ticket_is_opened_on_the_clock_of_its_contract(desk: Desk) -> None:
    ticket = desk.ticket(desk.open(priority="P2"))
    assert (ticket.contract_line, ticket.state, ticket.is_open, ticket.line) == ("1", "open", True, "L1")
    assert ticket.first_response_due_at == ticket.next_due_at == at(minutes=30)
    assert ticket.resolution_due_at == at(hours=4)
    with desk.database.read() as session:
        opened = session.scalars(select(evidence.Evidence).where(evidence.Evidence.kind == "ticket.opened")).one()
        assert (opened.chain, opened.data["resolution_due_at"]) == (desk.client, at(hours=4).isoformat())


def test_client_without_a_contract_gets_a_ticket_without_a_clock(desk: Desk) -> None:
    ticket = desk.ticket(desk.open(client_id=desk.other, priority="P9"))
    assert (ticket.contract_version_id, ticket.resolution_due_at, ticket.priority) == (None, None, "P9")
    desk.do(tickets.move, ticket.id, "resolved")
    assert desk.ticket(ticket.id).resolved_at == NOON


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"subject": "  "}, "needs a subject"),
        ({"kind": "party"}, "Unknown kind"),
        ({"channel": "pigeon"}, "Unknown channel"),
        ({"priority": "P9"}, "no targets for priority 'P9'"),
    ],
)
def test_opening_that_cannot_mean_what_it_says_is_refused_with_a_sentence(
    desk: Desk, wrong: dict[str, Any], what: str
) -> None:
    with pytest.raises(Misconfigured, match=what):
        desk.open(**wrong)


def test_ticket_that_nobody_opens_takes_the_nearest_priority_of_the_contract(desk: Desk) -> None:
    for wanted, found in (("P0", "P1"), ("P2", "P2"), ("P2b", "P3"), ("P9", "P3")):
        assert desk.ticket(desk.open(priority=wanted, nearest=True)).priority == found


def test_asset_of_another_client_is_not_found(desk: Desk) -> None:
    with pytest.raises(NotFound):
        desk.open(asset_id=77)


def test_monitoring_ticket_starts_at_its_event_but_at_most_a_quarter_of_an_hour_ago(desk: Desk) -> None:
    for happened, starts in ((at(minutes=-5), -5), (at(hours=-3), -15), (at(hours=3), 0)):
        ticket = desk.ticket(desk.open(channel="monitoring", at=happened))
        assert ticket.opened_at == at(minutes=starts)


def test_same_dedup_key_is_one_ticket_while_it_is_open(desk: Desk) -> None:
    first = desk.open(dedup_key="disk:1")
    assert desk.open(dedup_key="disk:1", subject="Again") == first
    assert desk.open(dedup_key="disk:1", client_id=desk.other) != first
    desk.do(tickets.move, first, "resolved")
    second = desk.open(dedup_key="disk:1")
    assert second != first
    assert desk.open(dedup_key="disk:1") == second
    assert desk.ticket(first).dedup_key is None


def test_reply_meets_the_first_response_and_a_note_does_not(desk: Desk) -> None:
    number = desk.open(priority="P2")
    desk.do(tickets.note, number, "Looks like the disk.", now=at(minutes=5))
    assert desk.ticket(number).next_due_at == at(minutes=30)
    desk.do(tickets.reply, number, "We look at it.", now=at(minutes=10))
    assert desk.ticket(number).next_due_at == at(hours=4)
    desk.do(tickets.client_message, number, "Any news?", by="olga", now=at(minutes=20))
    assert desk.ticket(number).next_due_at == at(minutes=80)
    with desk.database.read() as session:
        assert [entry.public for entry in tickets.log_of(session, number)] == [True, False, True, True]
    with pytest.raises(Misconfigured, match="empty"):
        desk.do(tickets.reply, number, " \n")


def test_word_of_the_client_reopens_what_waits_for_it_or_was_resolved(desk: Desk) -> None:
    number = desk.open()
    for state in ("waiting_client", "resolved"):
        desk.do(tickets.move, number, state, now=at(minutes=1))
        desk.do(tickets.client_message, number, "Still slow.", by="olga", now=at(minutes=2))
        assert (desk.ticket(number).state, desk.ticket(number).is_open) == ("open", True)


@pytest.mark.parametrize("state", ["closed", "cancelled"])
def test_nobody_writes_on_a_ticket_that_is_over(desk: Desk, state: str) -> None:
    number = desk.open()
    desk.do(tickets.move, number, state)
    for act in (tickets.reply, tickets.note, tickets.client_message):
        with pytest.raises(Conflict, match=f"is {state}"):
            desk.do(act, number, "One more thing.")


def test_waiting_for_the_client_pauses_the_resolution_clock(desk: Desk) -> None:
    number = desk.open(priority="P2")
    desk.do(tickets.reply, number, "Which server?", now=at(minutes=10))
    desk.do(tickets.move, number, "waiting_client", now=at(minutes=10))
    assert (desk.ticket(number).paused, desk.ticket(number).next_due_at) == (True, None)
    desk.do(tickets.client_message, number, "The first.", by="olga", now=at(minutes=70))
    assert (desk.ticket(number).paused, desk.ticket(number).resolution_due_at) == (False, at(hours=5))  # closing time


def test_priority_moves_the_due_time(desk: Desk) -> None:
    number = desk.open(priority="P3")
    desk.do(tickets.set_priority, number, "P1", now=at(minutes=5))
    assert (desk.ticket(number).priority, desk.ticket(number).resolution_due_at) == ("P1", at(minutes=125))
    with pytest.raises(Conflict, match="already"):
        desk.do(tickets.set_priority, number, "P1")
    with pytest.raises(Misconfigured, match="no targets"):
        desk.do(tickets.set_priority, number, "P7")


def test_priority_that_falls_counts_from_the_creation(desk: Desk) -> None:
    number = desk.open(priority="P1")
    desk.do(tickets.set_priority, number, "P3", now=at(minutes=5))
    assert desk.ticket(number).resolution_due_at == at(hours=48)  # 5 h today, 8 h tomorrow, 3 h on Friday


def test_merged_ticket_is_over_and_the_other_takes_its_creation_and_its_first_answer(desk: Desk) -> None:
    child = desk.open(priority="P2")
    desk.do(tickets.note, child, "Not an answer.", now=at(minutes=1))
    desk.do(tickets.reply, child, "We look at it.", now=at(minutes=12))
    parent = desk.open(priority="P2", now=at(minutes=20))
    assert desk.ticket(parent).resolution_due_at == at(hours=4, minutes=20)
    desk.do(tickets.merge, child, parent, now=at(minutes=25))
    assert (desk.ticket(child).state, desk.ticket(child).is_open, desk.ticket(child).next_due_at) == (
        "merged",
        False,
        None,
    )
    assert desk.ticket(parent).resolution_due_at == desk.ticket(parent).next_due_at == at(hours=4)
    grandparent = desk.open(priority="P2", now=at(minutes=30))
    desk.do(tickets.merge, parent, grandparent, now=at(minutes=31))
    assert desk.ticket(grandparent).next_due_at == at(hours=4)  # answered, and created at noon
    with desk.database.begin() as session:
        assert clock.stale(session, at(minutes=31)) == 0
        while clock.wake(session, at(days=9)):
            pass
    assert breaches(desk) == 1
    for act, *words in ((tickets.merge, grandparent), (tickets.move, "open"), (tickets.reply, "Hello?")):
        with pytest.raises(Conflict, match="merged"):
            desk.do(act, child, *words)


def test_merging_takes_two_open_tickets_of_one_client(desk: Desk) -> None:
    mine, theirs, over = desk.open(), desk.open(client_id=desk.other), desk.open()
    desk.do(tickets.move, over, "closed")
    for child, parent, error in (
        (mine, mine, Misconfigured),
        (mine, theirs, NotFound),
        (theirs, mine, NotFound),
        (mine, 4711, NotFound),
        (mine, over, Conflict),
        (over, mine, Conflict),
    ):
        with pytest.raises(error):
            desk.do(tickets.merge, child, parent)
    assert desk.log(mine) == desk.log(theirs) == ["created"]


def test_handover_needs_a_line_a_reason_and_what_was_tried(desk: Desk) -> None:
    number = desk.open()
    with pytest.raises(Misconfigured, match="no support line"):
        desk.do(tickets.hand_over, number, "L9", reason="?", tried="?")
    for reason, tried in ((" ", "a"), ("a", "")):
        with pytest.raises(Misconfigured, match="reason and what was tried"):
            desk.do(tickets.hand_over, number, "L2", reason=reason, tried=tried)
    desk.do(tickets.hand_over, number, "L2", reason="Database", tried="Restarted it")
    assert desk.ticket(number).line == "L2"
    with pytest.raises(Conflict, match="on L2 already"):
        desk.do(tickets.hand_over, number, "L2", reason="Database", tried="Restarted it")


def test_moving_to_the_same_or_an_unknown_state_is_told(desk: Desk) -> None:
    number = desk.open()
    with pytest.raises(Conflict, match="open already"):
        desk.do(tickets.move, number, "open")
    with pytest.raises(Misconfigured, match="no ticket state"):
        desk.do(tickets.move, number, "gone")
    with pytest.raises(NotFound):
        desk.do(tickets.move, 4711, "resolved")


def test_instant_before_the_last_entry_becomes_that_of_the_last_entry(desk: Desk) -> None:
    number = desk.open()
    desk.do(tickets.reply, number, "One", now=at(minutes=10))
    desk.do(tickets.reply, number, "Two", now=at(minutes=4))  # a clock that was set back
    with desk.database.read() as session:
        assert [entry.at for entry in tickets.log_of(session, number)] == [NOON, at(minutes=10), at(minutes=10)]
        assert [entry.seq for entry in tickets.log_of(session, number)] == [1, 2, 3]


def test_each_broken_promise_becomes_evidence_exactly_once_and_the_ticket_an_event(desk: Desk) -> None:
    late, fine = desk.open(priority="P1"), desk.open(priority="P3")
    with desk.database.begin() as session:
        while clock.wake(session, at(minutes=14)):
            pass
    assert breaches(desk) == 0
    for minutes in (15, 16, 16, 59):
        with desk.database.begin() as session:
            while clock.wake(session, at(minutes=minutes)):
                pass
    assert (breaches(desk), desk.ticket(late).breached, desk.ticket(fine).breached) == (1, True, False)
    with desk.database.read() as session:
        told = session.scalars(select(Event.topic).where(Event.kind == "ticket.breached"))
        assert list(told) == [f"ticket:{late}"]
    desk.do(tickets.reply, late, "Sorry.", now=at(hours=3))
    assert breaches(desk) == 2  # the resolution was due after two hours
    with desk.database.begin() as session:
        while clock.wake(session, at(days=10)):
            pass
        assert clock.wake(session, at(days=10)) == 0
    assert breaches(desk) == 3  # the other one, which broke both promises before anybody looked
    with desk.database.read() as session:
        assert evidence.verify(session)[1] == []


ACTS = some.sampled_from(
    [
        (tickets.reply, ("Answer.",)),
        (tickets.note, ("Note.",)),
        (tickets.client_message, ("Question?",)),
        *((tickets.move, (state,)) for state in ("open", "waiting_client", "waiting_vendor", "resolved", "closed")),
        *((tickets.set_priority, (priority,)) for priority in ("P1", "P2", "P3")),
        (tickets.assign, (None,)),
    ]
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some.lists(some.tuples(ACTS, some.integers(0, 3000)), max_size=12), some.booleans())
def test_after_any_acts_the_row_holds_what_its_log_says(desk: Desk, acts: list[tuple[Any, int]], waking: bool) -> None:
    number, now = desk.open(priority="P2"), NOON
    for (act, words), minutes in acts:
        now += timedelta(minutes=minutes)
        if waking:
            with desk.database.begin() as session:
                while clock.wake(session, now):
                    pass
        try:
            desk.do(act, number, *words, now=now)
        except MspError:
            continue  # not allowed in this state; it must have changed nothing
    with desk.database.read() as session:
        ticket = session.get_one(Ticket, number)
        log = tickets.log_of(session, number)
        promise = clock.promise_of(session, ticket)
        assert promise is not None
        found = clock.clocks(promise, log, now)
        assert ticket.log_version == log[-1].seq == len(log)
        assert ticket.first_response_due_at == found.first_response_due
        assert ticket.resolution_due_at == found.resolution_due
        assert ticket.resolved_at == found.resolved_at
        assert ticket.paused == found.paused
        assert ticket.is_open == (ticket.state not in ("resolved", "closed"))
        assert clock.stale(session, now) == 0


def row(desk: Desk, number: int, due: datetime | None) -> None:
    """Give a ticket a due time of its own, whatever its log says."""
    with desk.database.begin() as session:
        session.get_one(Ticket, number).next_due_at = due


def test_pages_hold_every_ticket_once_nearest_first_and_those_without_a_clock_last(desk: Desk) -> None:
    wanted = []
    for count in range(23):
        due = None if count % 5 == 4 else at(minutes=(count * 7) % 60 // 10 * 10)  # many share an instant
        number = desk.open(subject=f"Ticket {count}", client_id=desk.other)
        row(desk, number, due)
        wanted.append((due is None, due or NOON, number))
    everything = [number for *_, number in sorted(wanted)]
    for limit in (1, 2, 7, 23, 50):
        found: list[int] = []
        after = None
        while True:
            with desk.database.read() as session:
                page = queue.rows(session, queue.Filter(), limit=limit, after=after)
            found += [one.id for one in page]
            if len(page) < limit:
                break
            after = (page[-1].next_due_at, page[-1].id)
        assert found == everything, limit


def test_filters_narrow_and_the_gate_of_clients_holds(desk: Desk) -> None:
    mine, theirs = desk.open(subject="Disk is full", priority="P1"), desk.open(client_id=desk.other, subject="50% disk")
    closed = desk.open(subject="Old disk")
    desk.do(tickets.move, closed, "closed")

    def ids(**what: Any) -> list[int]:
        with desk.database.read() as session:
            return sorted(one.id for one in queue.rows(session, queue.Filter(**what)))

    assert ids() == [mine, theirs]
    assert ids(client_ids=[desk.client]) == [mine]
    assert ids(client_ids=[]) == []
    assert ids(is_open=None) == [mine, theirs, closed]
    assert ids(is_open=False) == [closed]
    assert ids(priority="P1") == [mine]
    assert ids(words="disk FULL") == [mine]
    assert ids(words="50%") == [theirs]
    assert ids(words="_") == []
    assert ids(words=f"#{theirs}") == [theirs]
    assert ids(unassigned=True) == [mine, theirs]
    assert ids(breached=True) == []


def test_counters_count_what_the_list_shows(desk: Desk) -> None:
    for count in range(6):
        desk.open(priority="P1" if count < 2 else "P3", client_id=desk.client if count < 5 else desk.other)
    number = desk.open(priority="P3")
    desk.do(tickets.hand_over, number, "L2", reason="Hard", tried="Everything")
    desk.do(tickets.move, desk.open(), "closed")
    with desk.database.begin() as session:
        while clock.wake(session, at(minutes=20)):
            pass
        found = queue.counters(session, queue.Filter(), now=at(minutes=20))
        assert (found.open, found.breached, found.unassigned) == (7, 2, 7)
        assert found.by_line == {"L1": 6, "L2": 1}
        soon = [
            one for one in queue.rows(session, queue.Filter()) if one.next_due_at and one.next_due_at >= at(minutes=20)
        ]
        assert found.breaching_soon == sum(1 for one in soon if one.next_due_at and one.next_due_at <= at(minutes=80))
        other = queue.counters(session, queue.Filter(client_ids=[desk.other]), now=NOON)
        assert (other.open, other.breached, other.by_line) == (1, 0, {"L1": 1})


def test_two_who_write_at_once_get_two_places_in_the_log(desk: Desk) -> None:
    number = desk.open()
    threads = [
        threading.Thread(target=desk.do, args=(tickets.note, number, f"Note {count}."), kwargs={"now": at(minutes=1)})
        for count in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with desk.database.read() as session:
        entries = list(session.scalars(select(TicketEvent).where(TicketEvent.ticket_id == number)))
    assert sorted(entry.seq for entry in entries) == list(range(1, 10))


@pytest.mark.parametrize("promised", [False, True])
def test_a_ticket_is_solved_when_it_ended_whatever_is_said_of_it_later(desk: Desk, promised: bool) -> None:
    number = desk.open(client_id=desk.client if promised else desk.other)
    solved, later = at(hours=2), at(days=30)
    desk.do(tickets.move, number, "resolved", now=solved)
    desk.do(tickets.note, number, "He was glad.", now=later)
    desk.do(tickets.rate, number, 5, now=later)
    desk.do(tickets.move, number, "closed", now=later)
    assert desk.ticket(number).resolved_at == solved
    with desk.database.read() as session:
        (march,) = handled.read(session, at(days=-3), at(days=27), at(days=60))
        assert march.resolved_at == solved
        assert handled.read(session, at(days=27), at(days=57), at(days=60)) == []
    desk.do(tickets.move, number, "open", now=later)
    assert desk.ticket(number).resolved_at is None


def test_a_reply_to_a_ticket_that_somebody_closed_since_it_was_read_is_refused(desk: Desk) -> None:
    if desk.database.is_sqlite:
        pytest.skip("nobody else writes while we do")
    number = desk.open()
    with desk.database.begin() as session:
        seen = session.get_one(Ticket, number)
        desk.do(tickets.move, number, "closed")
        with pytest.raises(Conflict, match="is closed"):
            tickets.reply(session, number, "Is it well?", by="anna", now=NOON)
        assert seen.state == "closed"
