"""Why here, why not earlier, why not somebody else: in sentences that name the hour, the visit and the cost."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from msp.contracts.models import Client, Site
from msp.db import Database
from msp.dispatch import feedback, reasons, visits
from msp.dispatch.models import Appointment, Shift, Technician, WorkOrder

NOW = datetime(2026, 3, 2, 6, tzinfo=UTC)
HOUR = timedelta(hours=1)
BERLIN = ZoneInfo("Europe/Berlin")  # one hour ahead


def furnish(session: Session) -> tuple[WorkOrder, dict[str, Technician]]:
    client = Client(key="acme", name="Acme", time_zone="Europe/Berlin")
    session.add(client)
    session.flush()
    site = Site(client_id=client.id, name="Main", latitude=52.5, longitude=13.4)
    session.add(site)
    people = {}
    for name, latitude, skills in (("Near", 52.52, 2), ("Far", 52.9, 2), ("Novice", 52.5, 1), ("Away", 52.5, 3)):
        people[name] = Technician(name=name, latitude=latitude, longitude=13.4, skills={"linux": skills})
        session.add(people[name])
    session.flush()
    for one in people.values():
        session.add(Shift(technician_id=one.id, starts_at=NOW + HOUR, ends_at=NOW + 10 * HOUR))
    session.add(Shift(technician_id=people["Away"].id, starts_at=NOW, ends_at=NOW + 20 * HOUR, kind="absence"))
    session.flush()
    order = visits.propose(
        session, client_id=client.id, site_id=site.id, summary="Replace the disk", duration=HOUR, now=NOW,
        skills={"linux": 2}, due_at=NOW + 9 * HOUR,
    )  # fmt: skip
    return order, people


def told(found: reasons.Reasons) -> dict[str, str]:
    return {one.technician.name: one.reason for one in found.others}


def test_a_confirmed_visit_says_why_here_and_what_others_would_cost(database: Database) -> None:
    with database.begin() as session:
        order, people = furnish(session)
        at = NOW + 3 * HOUR
        visits.assign(session, order.id, people["Near"].id, at, by="dora", now=NOW, promised=(at, at + HOUR))
        found = reasons.why(session, order, NOW, BERLIN)
        assert found.here == (
            "Has the skills: linux 2.", "4 minutes away.", "Done 5 h 0 min before it is due.",
            "The client was told 10:00 to 11:00.", "Nobody else who could go at that time costs less.",
        )  # fmt: skip
        assert found.earlier == (
            "The client was told not before 10:00.", "Near could begin at 08:04: move it if the client agrees.",
        )  # fmt: skip
        assert [one.technician.name for one in found.others] == ["Far", "Away", "Novice"]
        others = told(found)
        assert others["Far"].startswith("Could go, and costs ")
        assert others["Far"].endswith(" more.")
        assert others["Novice"] == "Does not have linux at level 2."
        assert others["Away"] == "Has no opening within 14 days: no shift is known, or it is full."


def test_who_would_be_cheaper_is_named(database: Database) -> None:
    with database.begin() as session:
        order, people = furnish(session)
        visits.assign(session, order.id, people["Far"].id, NOW + 3 * HOUR, by="dora", now=NOW)
        found = reasons.why(session, order, NOW, BERLIN)
        assert found.here[-1].startswith("Near would cost ")
        assert told(found)["Near"].endswith(" less.")


def test_what_stands_in_the_way_of_an_earlier_hour_is_named(database: Database) -> None:
    with database.begin() as session:
        order, people = furnish(session)
        near = people["Near"]
        first = WorkOrder(client_id=order.client_id, site_id=order.site_id, summary="Swap the switch", duration=HOUR,
                          created_at=NOW)  # fmt: skip
        session.add(first)
        session.flush()
        visits.assign(session, first.id, near.id, NOW + HOUR + timedelta(minutes=4), by="dora", now=NOW)
        visits.assign(session, order.id, near.id, NOW + 2 * HOUR + timedelta(minutes=4), by="dora", now=NOW)
        found = reasons.why(session, order, NOW, BERLIN)
        assert found.earlier == (
            "Near is at another visit until 09:04 (Swap the switch) and drives 0 minutes from there.",
        )
        of_first = reasons.why(session, first, NOW, BERLIN)
        assert of_first.earlier == ("The shift of Near begins at 08:00, and the way takes 4 minutes.",)
        at_once = reasons.why(session, first, NOW + HOUR, BERLIN)
        assert at_once.earlier == ("Near can leave now and drives 4 minutes.",)


def test_the_work_of_another_client_is_not_named_to_who_may_not_know_it(database: Database) -> None:
    with database.begin() as session:
        order, people = furnish(session)
        near, other = people["Near"], Client(key="other", name="Other")
        session.add(other)
        session.flush()
        fields = {"client_id": other.id, "site_id": order.site_id, "duration": HOUR, "created_at": NOW}
        first, later = (WorkOrder(summary=f"Secret {number}", **fields) for number in range(2))
        session.add_all([first, later])
        session.flush()
        begins, at = NOW + HOUR + timedelta(minutes=4), NOW + 2 * HOUR + timedelta(minutes=4)
        visits.assign(session, first.id, near.id, begins, by="dora", now=NOW)
        session.add(Appointment(work_order_id=later.id, technician_id=near.id, starts_at=NOW + 5 * HOUR,
                                ends_at=NOW + 6 * HOUR, travel=timedelta(), state="proposed"))  # fmt: skip
        visits.assign(session, order.id, near.id, at, by="dora", now=NOW)
        mine = [order.client_id]
        assert reasons.why(session, order, NOW, BERLIN, mine).earlier == (
            "Near is at another visit until 09:04 and drives 0 minutes from there.",
        )
        assert "(Secret 0)" in reasons.why(session, order, NOW, BERLIN, [*mine, other.id]).earlier[0]
        assert feedback.judge(session, order, near, begins, NOW, mine).breaks == ("Near is at another visit then.",)
        gives_way = feedback.judge(session, order, near, NOW + 5 * HOUR, NOW, mine)
        assert gives_way.touched == ("A proposal for another client gives way.",)
        assert feedback.judge(session, order, near, NOW + 5 * HOUR, NOW).touched == (
            "The proposal 'Secret 1' gives way.",
        )


def test_waiting_work_says_who_could_go_or_what_keeps_everybody_away(database: Database) -> None:
    with database.begin() as session:
        order, _ = furnish(session)
        found = reasons.why(session, order, NOW, BERLIN)
        assert found.here[:2] == ("Nobody is confirmed yet.", "Near could go at 08:04.")
        order.parts = {"disk": 2}
        assert (
            "No van together with the depot has 2 x disk: order it, or free one."
            in reasons.why(session, order, NOW, BERLIN).here
        )
        order.skills = {"linux": 9}
        assert reasons.why(session, order, NOW, BERLIN).here[1] == "Nobody has linux at level 9."


def test_what_has_begun_has_no_earlier(database: Database) -> None:
    with database.begin() as session:
        order, people = furnish(session)
        visit = visits.assign(session, order.id, people["Near"].id, NOW + 3 * HOUR, by="dora", now=NOW)
        visits.advance(session, visit.id, "on_the_way", by="near", now=NOW, expected_version=visit.version)
        assert reasons.why(session, order, NOW + 3 * HOUR, BERLIN).earlier == ()


def test_lateness_is_a_warning_and_told_in_hours(database: Database) -> None:
    with database.begin() as session:
        order, people = furnish(session)
        at = NOW + 5 * HOUR
        best = visits.candidates(session, order, NOW)[0]
        order.due_at = best.starts_at + HOUR - timedelta(minutes=45)
        best = visits.candidates(session, order, NOW)[0]
        assert best.warns == ("Done 45 min late.",)
        assert not any("late" in one for one in best.reasons)
        proposed = reasons.why(session, order, NOW, BERLIN)
        assert (proposed.warns, any("late" in one for one in proposed.here)) == (best.warns, False)
        order.due_at = at + HOUR - timedelta(minutes=190)
        assert "Done 3 h 10 min late." in feedback.judge(session, order, people["Near"], at, NOW).warns
        visits.assign(session, order.id, people["Near"].id, at, by="dora", now=NOW, expected_version=1)
        found = reasons.why(session, order, NOW, BERLIN)
        assert found.warns == ("Done 3 h 10 min late.",)
        assert not any("late" in one for one in found.here)
