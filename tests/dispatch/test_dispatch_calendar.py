"""A subscribed calendar follows what becomes of visits; icalendar reads what we write, as a subscriber would."""

from datetime import UTC, datetime, timedelta

import pytest
from icalendar import Calendar
from sqlalchemy import select
from sqlalchemy.orm import Session
from test_dispatch_visits import HOUR, NOW, furnish, technician

from msp.contracts.models import Site
from msp.db import Database
from msp.dispatch import calendar_feed, feeds, visits
from msp.dispatch.models import CalendarFeed
from msp.errors import Conflict, NotFound
from msp.people.access import Actor

Events = dict[str, tuple[str, int]]
DISPATCHER = Actor("d", frozenset({"dispatcher"}))


def read(session: Session, feed: CalendarFeed, maker: Actor = DISPATCHER) -> Events:
    """Return {summary: (status, sequence)}."""

    def written() -> str:
        shown = feeds.entries(session, feed, NOW, base="https://msp.example", maker=maker)
        return calendar_feed.written("x", shown)

    text = written()
    assert text == written()
    events = Calendar.from_ical(text).walk("VEVENT")
    uids = [str(event["uid"]) for event in events]
    assert len(set(uids)) == len(uids)
    return {str(event["summary"]): (str(event["status"]), int(event["sequence"])) for event in events}


def test_who_no_longer_goes_sees_the_visit_cancelled_and_the_other_gets_it(database: Database) -> None:
    with database.begin() as session:
        order = furnish(session)
        anna, bert = technician(session, "Anna"), technician(session, "Bert")
        hers, _ = feeds.make(session, by="d", now=NOW, technician=anna)
        his, _ = feeds.make(session, by="d", now=NOW, technician=bert)
        site = session.scalars(select(Site)).one()
        theirs, _ = feeds.make(session, by="c", now=NOW, site=site)
        assert read(session, hers) == {}, "a proposal is nobody's appointment"
        found = {one.technician.name: one.starts_at for one in visits.candidates(session, order, NOW)}
        first = visits.assign(session, order.id, anna.id, found["Anna"], by="d", now=NOW)
        assert read(session, hers) == {"Acme: Replace the disk": ("CONFIRMED", 2)}
        assert read(session, theirs) == {"Anna: Replace the disk": ("CONFIRMED", 2)}
        visits.assign(session, order.id, bert.id, found["Bert"], by="d", now=NOW, expected_version=first.version)
        assert read(session, hers) == {"Replace the disk": ("CANCELLED", 3)}
        assert read(session, his) == {"Acme: Replace the disk": ("CONFIRMED", 3)}
        elsewhere = Actor("e", frozenset({"dispatcher"}), granted=frozenset({order.client_id + 1}))
        assert [read(session, feed, elsewhere) for feed in (hers, his, theirs)] == [{}, {}, {}]
        visits.advance(session, first.id, "cancelled", by="d", now=NOW, expected_version=3)
        assert read(session, his) == {"Acme: Replace the disk": ("CANCELLED", 4)}
        assert read(session, theirs) == {"Bert: Replace the disk": ("CANCELLED", 4)}


def test_a_site_reads_the_promised_window_and_nothing_of_the_technicians_notes(database: Database) -> None:
    with database.begin() as session:
        order = furnish(session)
        order.reason = "The client's own fault."
        anna = technician(session, "Anna")
        starts = visits.candidates(session, order, NOW)[0].starts_at
        window = (starts, starts + 2 * HOUR)
        visits.assign(session, order.id, anna.id, starts, by="d", now=NOW, promised=window)
        feed, _ = feeds.make(session, by="c", now=NOW, site=session.scalars(select(Site)).one())
        (event,) = feeds.entries(session, feed, NOW, base="", maker=DISPATCHER)
        assert (event.starts_at, event.ends_at, event.note, event.coordinates) == (*window, "", None)


def test_a_word_opens_its_calendar_until_it_is_withdrawn(database: Database) -> None:
    with database.begin() as session:
        furnish(session)
        feed, word = feeds.make(session, by="d", now=NOW, technician=technician(session, "Anna"))
        assert word not in feed.token_sha256
        assert feeds.by_word(session, word) is feed
        for wrong in ("", word[:-1], word + "x", "\ud800"):
            with pytest.raises(NotFound):
                feeds.by_word(session, wrong)
        feeds.withdraw(session, feed, by="d", now=NOW)
        with pytest.raises(NotFound):
            feeds.by_word(session, word)
        with pytest.raises(Conflict):
            feeds.withdraw(session, feed, by="d", now=NOW)


def test_text_cannot_break_out_of_its_line() -> None:
    title = "A;b,c\r\nSTATUS:CANCELLED\nEND:VEVENT\\ Привет " + "x" * 200
    at = datetime(2026, 3, 2, 8, tzinfo=UTC)
    entry = calendar_feed.Entry("u", 1, at, at + timedelta(hours=1), title, at, place="1;2", note="a\nb")
    (event,) = Calendar.from_ical(calendar_feed.written("n", [entry])).walk("VEVENT")
    assert str(event["summary"]).replace("\r\n", "\n") == title.replace("\r\n", "\n")
    assert str(event["status"]) == "CONFIRMED"
