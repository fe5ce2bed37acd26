"""Runs: the contract's word before anything runs, the gravest host first, output that cannot steer a page."""

from collections.abc import Callable

import pytest
from clicking import Browser
from flask import Flask
from sqlalchemy import select

from msp import db, events
from msp.clock import utc_now
from msp.engine.models import EffectClaim
from msp.remote.models import Run, RunHost, StepResult
from msp_web import matrix, playbooks

LogIn = Callable[[str], Browser]
Ids = dict[str, dict[str, int]]
NASTY = b"\x1b[31mred\x1b[0m <script>alert(1)</script> \xff\n"

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def browser(log_in: LogIn) -> Browser:
    return log_in("tech@provider.example")


@pytest.fixture
def run_id(app: Flask, ids: Ids) -> int:
    """A run on three hosts: one ok, one failed, one in doubt, in this order."""
    alfa, now = ids["alfa"], utc_now()
    with db.begin() as session:
        run = Run(
            client_id=alfa["client_id"], ticket_id=alfa["ticket_id"], playbook="Restart a service",
            playbook_version="1",
            digest="ab" * 32, document="{}", action_class="disruptive", actor="tech@provider.example",
            state="in_doubt", requested_at=now, started_at=now, finished_at=now, decision={"effect": "allow"},
            parallel=50,
        )  # fmt: skip
        session.add(run)
        session.flush()
        for position, outcome in enumerate(("ok", "failed", "lost")):
            host = RunHost(
                run_id=run.id, asset_id=alfa["asset_id"], name=f"host-{outcome}", position=position,
                state="finished", outcome=outcome,
            )  # fmt: skip
            session.add(host)
            session.flush()
            session.add(
                StepResult(
                    run_id=run.id,
                    run_host_id=host.id,
                    step=1,
                    phase="do",
                    name="restart",
                    outcome=outcome,
                    stdout_head=NASTY,
                    stdout_bytes=len(NASTY),
                    stdout_sha256="cd" * 32,
                    started_at=now,
                    finished_at=now,
                )
            )
            if outcome == "lost":
                session.add(
                    EffectClaim(
                        run_id=run.id, host_id=host.id, step=1, phase="do", state="in_doubt", worker="w", claimed_at=now
                    )
                )
        step = {"host": "host-ok", "step": 1, "name": "restart", "phase": "do", "outcome": "ok"}
        end = {"host": "host-ok", "outcome": "ok", "detail": ""}
        told = {"steps": [step], "hosts": [end]}
        events.record(session, f"run:{run.id}", "run.steps", client_id=run.client_id, data=told)
        return run.id


def notice(page: str) -> str:
    """Return what a page says went wrong."""
    return page.partition('role="alert"')[2].partition("</div>")[0]


def host_of(run_id: int, name: str) -> int:
    with db.read() as session:
        return session.scalars(select(RunHost.id).where(RunHost.run_id == run_id, RunHost.name == name)).one()


def test_what_is_in_doubt_and_what_failed_stand_first(browser: Browser, run_id: int) -> None:
    page = browser.get(f"/runs/{run_id}/matrix").text
    places = [page.index(name) for name in ("host-lost", "host-failed", "host-ok")]
    assert places == sorted(places)


def test_output_is_shown_as_text_and_given_away_byte_by_byte(browser: Browser, run_id: int) -> None:
    host = host_of(run_id, "host-failed")
    page = browser.get(f"/runs/{run_id}?host={host}&step=1").text
    assert "\\x1b[31mred" in page
    assert "\x1b" not in page
    assert "<script>alert" not in page
    assert "\\xff" in page
    with db.read() as session:
        step = session.scalars(select(StepResult.id).where(StepResult.run_host_id == host)).one()
    answer = browser.get(f"/runs/{run_id}/output/{step}")
    assert answer.data == NASTY
    assert answer.mimetype == "application/octet-stream"
    assert "attachment" in answer.headers["Content-Disposition"]


def test_a_host_of_another_run_is_not_in_this_one(browser: Browser, run_id: int, ids: Ids) -> None:
    assert browser.get(f"/runs/{run_id}/hosts/{ids['alfa']['host_id']}").status_code == 404
    assert browser.get(f"/runs/{run_id}/output/{ids['alfa']['step_id']}").status_code == 404


def test_the_log_goes_on_from_what_the_page_shows(browser: Browser, run_id: int) -> None:
    page = browser.get(f"/runs/{run_id}").text
    after = int(page.partition('data-live-after="')[2].partition('"')[0])
    with db.begin() as session:
        step = {"host": "host-lost", "step": 2, "name": "later", "phase": "do", "outcome": "ok"}
        client_id = session.get_one(Run, run_id).client_id
        data = {"steps": [step], "hosts": []}
        entry = events.record(session, f"run:{run_id}", "run.steps", client_id=client_id, data=data)
        session.flush()
        new = entry.id
    assert new > after
    stream = browser.get(f"/live/run:{run_id}?after={after}").text
    assert "later" in stream
    assert stream.count("\nid: ") + stream.startswith("id: ") == 1


def test_the_log_shows_a_line_for_each_step_and_end_and_of_many_the_last(browser: Browser, run_id: int) -> None:
    page = browser.get(f"/runs/{run_id}").text
    log = page.partition('id="log"')[2].partition("</ol>")[0]
    assert [log.count(words) for words in ("<li", "1. restart", '"did">host is done')] == [2, 1, 1]
    with db.begin() as session:
        client_id = session.get_one(Run, run_id).client_id
        for batch in range(3):
            steps = [
                {"host": "h", "step": batch, "name": f"n{number}", "phase": "do", "outcome": "ok"}
                for number in range(150)
            ]
            told = {"steps": steps, "hosts": []}
            events.record(session, f"run:{run_id}", "run.steps", client_id=client_id, data=told)
    page = browser.get(f"/runs/{run_id}").text
    log = page.partition('id="log"')[2].partition("</ol>")[0]
    said = [line.partition("</span>")[0] for line in log.split('<span class="did">')[1:]]
    assert len(said) == 400
    assert [line.partition(" ·")[0] for line in said] == [
        f"{batch}. n{number}" for batch in range(3) for number in range(150)
    ][50:]


def test_a_person_settles_what_is_in_doubt_and_the_run_goes_on(browser: Browser, run_id: int) -> None:
    host = host_of(run_id, "host-lost")
    assert "did it run?" in browser.get(f"/runs/{run_id}/hosts/{host}").text
    address = f"/runs/{run_id}/hosts/{host}/resolve"
    assert browser.send(address, step="1", phase="do", said="perhaps", note="x").status_code == 422
    answer = browser.send(address, step="1", phase="do", said="ran", note="systemctl says active")
    assert answer.status_code == 303, notice(answer.text)
    with db.read() as session:
        claim = session.scalars(select(EffectClaim).where(EffectClaim.run_id == run_id)).one()
        assert (claim.state, claim.resolution, claim.resolved_by) == ("resolved", "ran", "tech@provider.example")
        assert session.get_one(Run, run_id).state == "queued"
    assert browser.send(address, step="1", phase="do", said="ran", note="again").status_code in (404, 409)


def test_cancelling_an_ended_run_says_so_on_its_page(browser: Browser, run_id: int) -> None:
    answer = browser.send(f"/runs/{run_id}/cancel")
    assert answer.status_code == 409
    assert f"{run_id}" in notice(answer.text)


def test_the_catalogue_offers_what_works_on_the_asset(browser: Browser, ids: Ids) -> None:
    page = browser.get(f"/runs/new?asset={ids['alfa']['asset_id']}&q=disk").text
    assert "free-disk-space" in page
    assert "restart-service" not in page


def test_the_form_says_for_each_host_what_the_contract_says(browser: Browser, ids: Ids) -> None:
    page = browser.get(f"/runs/new/restart-service?ticket={ids['alfa']['ticket_id']}").text
    assert "refused" in page
    assert "clause 4.3" in page
    assert 'name="p-service"' in page
    dry = browser.get(f"/runs/new/restart-service?ticket={ids['alfa']['ticket_id']}&dry_run=1").text
    assert "clause 4.1" in dry


def test_a_path_is_no_playbook(browser: Browser, ids: Ids) -> None:
    for name in ("..%2f..%2fetc%2fpasswd.yml", "linux%2Ffree-disk-space.yml", "secret.yml"):
        assert browser.get(f"/runs/new/{name}").status_code == 404


def test_a_refused_run_is_recorded_with_its_clause(browser: Browser, ids: Ids) -> None:
    form = {"asset": ids["alfa"]["asset_id"], "ticket": ids["alfa"]["ticket_id"], "p-service": "nginx"}
    answer = browser.send("/runs/new/restart-service", **form, dry_run="0")
    assert answer.status_code == 303, notice(answer.text)
    page = browser.get(answer.location).text
    assert "refused by the contract" in page
    assert "clause 4.3" in page


def test_a_wrong_parameter_keeps_what_was_typed(browser: Browser, ids: Ids) -> None:
    form = {"asset": ids["alfa"]["asset_id"], "p-service": "kept; rm -rf", "p-wait_seconds": "15"}
    answer = browser.send("/runs/new/restart-service", **form)
    assert answer.status_code == 422
    assert "kept; rm -rf" in answer.text


def test_a_playbook_on_a_foreign_asset_is_not_there(log_in: LogIn, ids: Ids) -> None:
    browser = log_in("limited@provider.example")
    answer = browser.send("/runs/new/free-disk-space", asset=ids["bravo"]["asset_id"])
    assert answer.status_code == 404
    assert "bravo" not in answer.text


def test_a_visit_is_proposed_with_what_the_run_tried(browser: Browser, run_id: int) -> None:
    assert browser.send(f"/runs/{run_id}/visit", reason=" ").status_code == 422
    answer = browser.send(f"/runs/{run_id}/visit", reason="The power supply is dead.")
    assert answer.status_code == 303
    page = browser.get(answer.location).text
    assert "The power supply is dead." in page
    assert "\\x1b[31mred" in page


def test_every_shipped_playbook_stands_on_the_shelf_without_a_fault(app: Flask) -> None:
    with app.app_context():
        found = list(playbooks.shelf())
    assert len(found) >= 10
    assert [one.name for one in found if one.fault] == []


def test_a_symptom_suggests_what_mends_before_what_reports(app: Flask) -> None:
    with app.app_context():
        assert playbooks.for_symptom("disk_full") == "free-disk-space"
        assert playbooks.for_symptom("no such symptom") is None


def result(phase: str, outcome: str, attempt: int = 1) -> StepResult:
    return StepResult(
        id=attempt, run_host_id=1, step=1, phase=phase, name="s", outcome=outcome, attempt=attempt, started_at=utc_now()
    )


@pytest.mark.parametrize(
    ("phases", "outcome"),
    [
        ([result("probe", "ok")], "running"),  # needed, and not yet done
        ([result("probe", "skipped")], "skipped"),
        ([result("probe", "ok"), result("do", "ok"), result("check", "ok")], "ok"),
        ([result("do", "ok"), result("check", "failed")], "failed"),
        ([result("do", "timeout"), result("check", "failed")], "timeout"),
        ([result("do", "failed", 1), result("do", "ok", 2)], "ok"),
    ],
)
def test_a_cell_is_the_gravest_of_its_last_phases(phases: list[StepResult], outcome: str) -> None:
    assert matrix.cell_of(matrix.last_attempts(phases)).outcome == outcome
