"""The proof board: the worst first, age against the clause, restore times against the promise."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from clicking import Browser
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from msp import db
from msp.backup.models import BackupPlan, RestoreTest
from msp.clock import utc_now
from msp.engine.models import Job
from msp_web.sparkline import EDGE, HEIGHT, WIDTH, spark

LogIn = Callable[[str], Browser]
Ids = dict[str, dict[str, int]]

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def browser(log_in: LogIn) -> Browser:
    return log_in("tech@provider.example")


def test_the_worst_stands_first_and_the_filter_shows_it_alone(browser: Browser) -> None:
    page = browser.get("/backups/").text
    assert page.index("ERP database") < page.index("files nightly")
    alone = browser.get("/backups/?show=unproven").text
    assert "ERP database" in alone
    assert "files nightly" not in alone


def test_the_board_says_rung_age_and_promise(browser: Browser) -> None:
    page = browser.get("/backups/?show=proven").text
    assert "application works" in page
    assert "of 7 d allowed" in page
    assert "promised 1 h" in page  # the second version of the contract


def test_a_failed_test_says_what_it_found_in_words(app: Flask, browser: Browser, ids: Ids) -> None:
    now = utc_now()
    finding = {"reason": "content", "what": "3 files <b>differ</b>.", "where": "a/b", "advice": "", "weight": "fail"}
    rung = {"rung": 4, "name": "full", "verdict": "fail", "seconds": 1.5, "figures": {"files": 3}, "commands": []}
    with db.begin() as session:
        test = RestoreTest(
            plan_id=ids["bravo"]["plan_id"], started_at=now, finished_at=now, verdict="fail", reasons=["content"],
            rungs=[rung], result={"findings": [finding]}, highest_rung=3,
        )  # fmt: skip
        session.add(test)
        session.flush()
        number = test.id
    page = browser.get(f"/backups/tests/{number}").text
    assert "It would not bring the business back as promised." in page
    assert "content differs" in page
    assert "3 files &lt;b&gt;differ&lt;/b&gt;." in page
    assert "unproven" in browser.get(f"/backups/{ids['bravo']['plan_id']}").text


def test_a_test_is_queued_by_who_may_and_by_nobody_else(browser: Browser, log_in: LogIn, ids: Ids) -> None:
    address = f"/backups/{ids['alfa']['plan_id']}/tests"
    assert log_in("manager@provider.example").send(address).status_code == 403
    assert browser.send(address).status_code == 303
    with db.read() as session:
        assert [job for job in session.query(Job) if job.id.startswith(f"restore:{ids['alfa']['plan_id']}:")]


def test_the_export_is_the_board(browser: Browser) -> None:
    lines = browser.get("/backups/list.csv?show=unproven").text.splitlines()
    assert len(lines) >= 3
    assert all("proven" not in line or "unproven" in line or "overdue" in line for line in lines[1:])


durations = st.integers(0, 10**6).map(lambda seconds: timedelta(seconds=seconds))


@given(st.lists(durations, min_size=1, max_size=12), st.none() | durations)
def test_the_drawing_stays_inside_and_marks_exactly_what_is_late(
    measured: list[timedelta], promised: timedelta | None
) -> None:
    drawn = spark(measured, promised)
    assert drawn is not None
    assert len(drawn.points) == len(measured)
    assert drawn.points[-1][0] == WIDTH - EDGE
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y, _ in drawn.points)
    assert [late for *_, late in drawn.points] == [promised is not None and value > promised for value in measured]


def test_nothing_measured_draws_nothing() -> None:
    assert spark([], timedelta(hours=1)) is None


def test_the_trend_is_drawn_and_said_for_staff_and_client(browser: Browser, log_in: LogIn, ids: Ids) -> None:
    plan, now = ids["alfa"]["plan_id"], utc_now()
    with db.begin() as session:
        for days, minutes, verdict in ((40, 20, "pass"), (30, 30, "pass"), (25, 5, "fail"), (20, 90, "pass")):
            at = now - timedelta(days=days)
            session.add(RestoreTest(plan_id=plan, started_at=at, finished_at=at, verdict=verdict, highest_rung=5,
                                    rto=timedelta(minutes=minutes)))  # fmt: skip
    for page in (browser.get(f"/backups/{plan}").text, log_in("boss@alfa.example").get(f"/portal/backups/{plan}").text):
        assert page.count('<figure class="trend') == 1  # nothing is known of the age of the data
        assert "the worst of 5 tests was" in page
        assert "3 of 5 kept the promise." in page
        assert "1 failed: that keeps no promise, however fast it was." in page
        assert 'class="failed"' in page
        assert page.count('class="late"') >= 1


def test_the_board_names_what_is_paused_and_whose_tests_nobody_drills(browser: Browser, ids: Ids) -> None:
    with db.begin() as session:
        paused = session.get_one(BackupPlan, ids["bravo"]["plan_id"])
        paused.enabled, paused.engine = False, "tape"
    try:
        page = browser.get("/backups/").text
        assert 'id="paused"' in page
        assert "Nobody drills" not in page  # what is paused is not used
        with db.begin() as session:
            session.get_one(BackupPlan, ids["bravo"]["plan_id"]).enabled = True
        assert "Nobody drills the tester for tape" in browser.get("/backups/").text
    finally:
        with db.begin() as session:
            back = session.get_one(BackupPlan, ids["bravo"]["plan_id"])
            back.enabled, back.engine = True, "restic"


def test_the_client_reads_what_of_its_machines_is_not_tested(log_in: LogIn) -> None:
    page = log_in("boss@alfa.example").get("/portal/backups").text
    assert "alfa-srv-db1" in page
    assert "bravo" not in page
