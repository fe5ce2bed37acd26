"""Writing a plan on pages: each step keeps what was said, nothing is half-written; pausing, removing, putting back."""

import io
import json
import re
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from clicking import Browser
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from msp import db, evidence
from msp.backup import case_fields, drafts, engines
from msp.backup.case import LOCATED_BY, parse
from msp.backup.ladder import AFTER_BACKUP
from msp.backup.models import BackupDraft, BackupPlan
from msp.backup.plan_parts import PlanParts
from msp.clock import utc_now
from msp.engine.models import Job, Schedule
from msp.evidence import Evidence
from msp.flows import backup_plans
from msp.settings import Settings
from msp_web import cron_words, words_of_backups

LogIn = Callable[[str], Browser]
Ids = dict[str, dict[str, int]]
TECH, MANAGER, DISPATCHER = (f"{name}@provider.example" for name in ("tech", "manager", "dispatch"))
LADDER = {
    "row-0-rungs": "1,2",
    "row-0-often": "after",
    "row-2-rungs": "4,5",
    "row-2-often": "week-6",
    "row-2-at": "03:30",
    "single-often": "daily",
    "single-at": "03:30",
    "proof_days": "7",
    "job_hours": "24",
    "time_zone": "Europe/Berlin",
    "opens": "22:00",
    "closes": "06:00",
    "nice": "10",
    "jitter_minutes": "5",
}

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def browser(log_in: LogIn) -> Browser:
    return log_in(TECH)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup with a database of 500 orders."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "data").mkdir()
    with sqlite3.connect(folder / "data/shop.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, created INTEGER)")
        newest = int(utc_now().timestamp())
        database.executemany("INSERT INTO orders VALUES (?, ?)", ((n, newest - n) for n in range(500)))
    database.close()
    with tarfile.open(folder / "shop.tar", "w") as file:
        file.add(folder / "data", "data")
    return folder / "shop.tar"


def begun(browser: Browser, asset: int) -> int:
    browser.get("/backups/drafts/new")
    answer = browser.send("/backups/drafts/new", of=f"item:{asset}")
    assert answer.status_code == 303, answer.text
    found = re.search(r"/drafts/(\d+)/asset", answer.location)
    assert found
    return int(found[1])


@pytest.fixture
def draft(browser: Browser, ids: Ids, request: pytest.FixtureRequest) -> Iterator[int]:
    """A new draft of the client alfa, with a name of its own."""
    number = begun(browser, ids["alfa"]["asset_id"])
    browser.send(f"/backups/drafts/{number}/asset", name=f"alfa {request.node.name}", item=ids["alfa"]["asset_id"])
    yield number
    with db.begin() as session:
        if left := session.get(BackupDraft, number):
            session.delete(left)


def stored(number: int) -> dict[str, Any]:
    with db.read() as session:
        return dict(session.get_one(BackupDraft, number).answers)


def asked_of(number: int) -> int:
    """The number of the first restore that a draft asked for last."""
    with db.read() as session:
        return session.get_one(BackupDraft, number).trial_number


def plans_named(name: str) -> list[BackupPlan]:
    with db.read() as session:
        return list(session.scalars(select(BackupPlan).where(BackupPlan.name == name)))


def test_a_plan_is_written_step_by_step_and_only_at_the_end(
    browser: Browser, draft: int, settings: Settings, archive: Path
) -> None:
    name, base = stored(draft)["name"], f"/backups/drafts/{draft}"
    answer = browser.send(f"{base}/engine", engine="tar", file=str(archive), root="data")
    assert answer.location.endswith("/trial"), answer.text
    assert browser.send(f"{base}/trial").status_code == 303
    assert "waiting for the worker" in browser.get(f"{base}/trial").text
    assert browser.send(f"{base}/trial").status_code == 409  # one at a time
    backup_plans.perform_trial(settings, draft, asked_of(draft))
    assert "1 file came back" in browser.get(f"{base}/trial").text
    page = browser.get(f"{base}/found").text
    assert "500 rows in orders" in page
    assert "It must hold at least 450 rows." in page
    assert "It must never be older than 2 d." in page
    keys = [one for one in re.findall(r'name="assert" value="([^"]+)"', page) if "count" in one]
    assert browser.send(f"{base}/found", **{"assert": [key.replace("&#34;", '"') for key in keys]}).status_code == 303
    assert browser.send(f"{base}/ladder", **LADDER).location.endswith("/summary")
    summary = browser.get(f"{base}/summary").text
    assert "on Saturdays at 03:30" in summary
    assert plans_named(name) == []
    number = int(browser.send(f"{base}/save").location.rsplit("/", 1)[1])
    (plan,) = plans_named(name)
    assert (plan.id, plan.engine, plan.proof_every, plan.every) == (number, "tar", timedelta(days=7), timedelta(days=1))
    assert plan.case["expect"] == {
        "sqlite": [{"path": "shop.db", "query": 'select count(*) from "orders"', "min": 450}]
    }
    assert plan.ladder == [{"rungs": [1, 2], "when": AFTER_BACKUP}, {"rungs": [4, 5], "when": "30 3 * * 6"}]
    assert plan.limits == {"nice": 10, "io": "best-effort", "jitter_s": 300, "window": "22:00-06:00"}
    with db.read() as session:
        assert session.get(BackupDraft, draft) is None
        keys = list(session.scalars(select(Schedule.key).where(Schedule.key.startswith(f"restore-{number}"))))
        assert keys == [f"restore-{number}-4-5"]


def test_a_step_that_is_wrong_keeps_what_was_typed_and_stores_nothing(browser: Browser, draft: int) -> None:
    answer = browser.send(
        f"/backups/drafts/{draft}/engine", **{"engine": "restic", "root": "srv", "expect.rto_s": "soon"}
    )
    assert answer.status_code == 422
    assert answer.text.count("This is needed.") == 2  # the repository and its password
    assert "A number above zero is needed." in answer.text
    assert 'value="soon"' in answer.text
    assert "engine" not in stored(draft)
    wrong = {**LADDER, "row-2-often": "cron", "row-2-line": "99 3 * * *", "opens": "25:00", "proof_days": "-1"}
    answer = browser.send(f"/backups/drafts/{draft}/ladder", **wrong)
    assert answer.status_code == 422
    assert answer.text.count('class="field-error"') == 3
    assert "ladder" not in stored(draft)


def test_a_password_is_chosen_by_name_and_never_typed(browser: Browser, draft: int, ids: Ids) -> None:
    page = browser.get(f"/backups/drafts/{draft}/engine?engine=restic").text
    assert ">spare</option>" in page
    assert 'type="password"' not in page
    good = {"engine": "restic", "repo": "/srv/alfa-restic", "secret_name": "spare"}
    assert browser.send(f"/backups/drafts/{draft}/engine", **{**good, "secret_name": "of-another"}).status_code == 422
    assert browser.send(f"/backups/drafts/{draft}/engine", **good, secret="opensesame").status_code == 303
    assert stored(draft)["secret_name"] == "spare"
    assert "opensesame" not in json.dumps(stored(draft))


def test_nobody_points_a_plan_at_another_client_or_at_ourselves(
    browser: Browser, draft: int, ids: Ids, settings: Settings
) -> None:
    with db.begin() as session:
        session.get_one(BackupPlan, ids["bravo"]["plan_id"]).case = {"engine": "tree", "file": "/srv/bravo/files"}
    for place in ("/srv/bravo/files", "/srv/bravo", "/srv/alfa/../bravo/files/x", str(settings.key_path)):
        answer = browser.send(f"/backups/drafts/{draft}/engine", engine="tree", file=place)
        assert answer.status_code == 422, place
        said = re.findall(r"field-error.*?<span>(.*?)</span>", answer.text)
        assert "belongs to this installation" in said[0] or "of another client" in said[0], said
    assert browser.send(f"/backups/drafts/{draft}/engine", engine="tree", file="/srv/alfa").status_code == 303


def test_a_restore_that_fails_says_why_and_may_be_tried_again(
    browser: Browser, draft: int, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "cut.tar").write_bytes(b"\0" * 300)
    browser.send(f"/backups/drafts/{draft}/engine", engine="tar", file=str(tmp_path / "cut.tar"))
    browser.send(f"/backups/drafts/{draft}/trial")
    backup_plans.perform_trial(settings, draft, first := asked_of(draft))
    page = browser.get(f"/backups/drafts/{draft}/trial").text
    assert "The first restore did not succeed." in page
    assert browser.send(f"/backups/drafts/{draft}/trial").status_code == 303
    backup_plans.perform_trial(settings, draft, first)  # an old job that comes late changes nothing
    with db.read() as session:
        assert session.get_one(BackupDraft, draft).trial_state == "queued"
        job = session.get_one(Job, f"try:{draft}:{first + 1}")
        backup_plans.gave_up(session, job.payload, "The worker died.")
        assert session.get_one(BackupDraft, draft).trial["what"] == "The worker died."
        session.rollback()


def test_a_plan_is_changed_whole_and_its_other_assertions_stay(browser: Browser, ids: Ids, archive: Path) -> None:
    query = {"path": "shop.db", "query": "select 1", "equals": 1}
    case = {
        "engine": "tar", "file": str(archive), "x-note": "ours", "rungs": [1, 2, 4, 5],
        "expect": {"rto_s": 600, "max_rss_mb": 300, "sqlite": [query], "postgres": {"tables": {"a": {"rows_min": 1}}}},
    }  # fmt: skip
    from msp.backup import plans

    with db.begin() as session:
        made = plans.create(
            session,
            PlanParts(
                name="to be changed",
                case=case,
                cron="0 3 * * *",
                time_zone="Europe/Berlin",
                proof_every=timedelta(days=30),
            ),
            client_id=ids["alfa"]["client_id"],
            by="seed",
        ).id
    location = browser.send(f"/backups/drafts/of-plan/{made}").location
    base = location.rsplit("/", 1)[0]
    assert "select 1" in browser.get(f"{base}/found").text
    assert browser.send(f"/backups/drafts/of-plan/{made}").location == location  # goes on, not a second one
    browser.send(f"{base}/asset", name="changed")
    browser.send(f"{base}/engine", **{"engine": "tar", "file": str(archive), "expect.rto_s": "2"})
    assert plans_named("changed") == []
    assert browser.send(f"{base}/save").status_code == 303
    (plan,) = plans_named("changed")
    assert plan.case == {**case, "case": "changed", "expect": {**case["expect"], "rto_s": 7200}}  # type: ignore[dict-item]
    with db.read() as session:
        told = session.scalars(select(Evidence).where(Evidence.kind == "backup_plan.changed")).all()[-1]
        assert set(told.data["changed"]) == {"name", "case"}
        assert evidence.verify(session)[1] == []


def test_two_people_do_not_overwrite_each_other(browser: Browser, log_in: LogIn, ids: Ids) -> None:
    plan = ids["alfa"]["plan_id"]
    with db.begin() as session:
        session.get_one(BackupPlan, plan).case = {"engine": "restic", "repo": "/srv/alfa"}
        session.get_one(BackupPlan, plan).secret_name = "spare"
    mine = browser.send(f"/backups/drafts/of-plan/{plan}").location.rsplit("/", 1)[0]
    other = log_in(MANAGER)
    theirs = other.send(f"/backups/drafts/of-plan/{plan}").location.rsplit("/", 1)[0]
    assert mine != theirs
    other.send(f"{theirs}/ladder", **LADDER)
    assert other.send(f"{theirs}/save").status_code == 303
    assert browser.send(f"{mine}/save").status_code == 409
    assert browser.send(f"{mine}/discard").status_code == 303


def test_a_removed_plan_is_put_back_as_it_was(browser: Browser, ids: Ids) -> None:
    plan = ids["alfa"]["plan_id"]
    assert browser.send(f"/backups/{plan}/switch", to="off").status_code == 303
    assert "This plan is paused" in browser.get(f"/backups/{plan}").text
    assert browser.send(f"/backups/{plan}/remove").status_code == 303
    page = browser.get(f"/backups/{plan}").text
    assert "This plan was removed" in page
    assert "alfa files nightly" not in browser.get("/backups/").text
    assert browser.send(f"/backups/{plan}/switch", to="on").status_code == 409
    assert browser.send(f"/backups/{plan}/tests").status_code == 404
    assert browser.send(f"/backups/{plan}/put-back").status_code == 303
    assert "This plan is paused" in browser.get(f"/backups/{plan}").text
    assert browser.send(f"/backups/{plan}/switch", to="on").status_code == 303
    assert "alfa files nightly" in browser.get("/backups/").text


def test_only_who_may_edit_sees_the_buttons_and_uses_them(log_in: LogIn, ids: Ids) -> None:
    plan = ids["alfa"]["plan_id"]
    reader = log_in(DISPATCHER)
    assert f"/backups/{plan}/remove" not in reader.get(f"/backups/{plan}").text
    for path in (f"/backups/{plan}/remove", f"/backups/{plan}/token", f"/backups/drafts/of-plan/{plan}"):
        assert reader.send(path).status_code == 403


def test_the_job_says_over_http_that_it_has_written_and_once_is_enough(app: Flask, browser: Browser, ids: Ids) -> None:
    plan = ids["alfa"]["plan_id"]
    with db.begin() as session:
        session.get_one(BackupPlan, plan).ladder = [{"rungs": [1, 2], "when": AFTER_BACKUP}]
    browser.send(f"/backups/{plan}/token")
    part = browser.get(f"/backups/{plan}", headers={"HX-Request": "true"})  # news in another tab do not take it
    assert 'class="token"' not in part.text
    page = browser.get(f"/backups/{plan}").text
    found = re.search(r'<code class="token">([^<]+)</code>', page)
    assert found
    assert 'hx-trigger="live' not in page
    assert found[1] not in browser.get(f"/backups/{plan}").text  # shown once
    job, address = app.test_client(), f"/api/v1/backups/{plan}/written"
    held = {"Authorization": f"Bearer {found[1]}"}
    first = job.post(address, json={"backup": "4f1c22"}, headers=held)
    again = job.post(address, json={"backup": "4f1c22"}, headers=held)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json == {"plan_id": plan, "job": again.json["job"], "rungs": [1, 2], "new": True}  # type: ignore[index]
    assert again.json["new"] is False  # type: ignore[index]
    assert job.post(address, json={"backup": "5a"}, headers=held).json["new"] is True  # type: ignore[index]
    assert job.post(address, headers=held).status_code == 202  # without a name or a body
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}  # a body that does not tell its size
    named = job.post(
        address, input_stream=io.BytesIO(b'{"backup": "in chunks"}'), content_type="application/json", headers=held,
        environ_overrides=chunked,
    )  # fmt: skip
    assert (named.status_code, named.json["new"]) == (202, True)  # type: ignore[index]
    for path, headers, wanted in (
        (address, {}, 401),
        (address, {"Authorization": "Bearer wrong"}, 401),
        (address, {"Authorization": "Basic eDp5"}, 401),
        (f"/api/v1/backups/{ids['bravo']['plan_id']}/written", held, 401),  # of another client
        ("/api/v1/backups/99999999999999999999/written", held, 401),
    ):
        answer = job.post(path, json={"backup": "x"}, headers=headers)
        assert answer.status_code == wanted, path
        assert answer.mimetype == "application/problem+json"
    answer = job.post(address, json={"backups": "x"}, headers=held)
    assert (answer.status_code, answer.json["code"]) == (422, "misconfigured")  # type: ignore[index]
    assert browser.send(address).status_code == 401  # a cookie opens nothing here
    browser.send(f"/backups/{plan}/token", do="withdraw")
    assert job.post(address, json={"backup": "4f1c22"}, headers=held).status_code == 401


def test_every_field_of_every_engine_has_words_and_is_known_to_the_case() -> None:
    for engine in engines.names():
        fields = case_fields.of(engine)
        assert any(one.required and one.name in LOCATED_BY[engine] for one in fields), engine
        texts = {one.name: {"choice": (one.choices or ("",))[0]}.get(one.kind, "5") for one in fields}
        texts = {name: "a" * 64 if name == "sha256" else text for name, text in texts.items()}
        texts |= {name: "64" for name in texts if name.endswith("memory_mb")}
        case, faults = case_fields.read(engine, texts)
        assert faults == {}
        parse(case, now=utc_now())
        assert case_fields.shown(case, engine) == texts, engine
        for one in fields:
            assert one.name in words_of_backups.FIELDS or f"{engine}:{one.name}" in words_of_backups.FIELDS, one.name
        assert engine in words_of_backups.WORDS["engine"]
    assert set(drafts.engine_names()) == set(engines.names())


times = st.builds("{1} {0}".format, st.integers(0, 23), st.integers(0, 59))


@given(times, st.sampled_from(["* * *", "1 * *", "15 * *", "* * 0", "* * 6"]))
def test_a_cron_line_survives_the_form(at: str, days: str) -> None:
    line = f"{at} {days}"
    when = cron_words.split(line)
    assert when.often != "cron"
    assert cron_words.join(when) == line


@pytest.mark.parametrize("line", ["*/5 * * * *", "0 3 1 * 1", "99 3 * * *", "30 3 2 * *", "@daily"])
def test_a_line_that_is_not_simple_stays_as_it_is(line: str) -> None:
    assert cron_words.join(cron_words.split(line)) == line


@given(st.integers(1, 10**7))
def test_a_duration_survives_the_form_to_the_second(seconds: int) -> None:
    case = {"engine": "tar", "file": "/x", "expect": {"rto_s": seconds}}
    assert case_fields.read("tar", case_fields.shown(case, "tar")) == (case, {})


@pytest.mark.parametrize(("typed", "kept"), [("0:10", 600), ("1:30", 5400), ("1,5", 5400), ("4", 14400)])
def test_hours_are_typed_as_people_do(typed: str, kept: int) -> None:
    case, faults = case_fields.read("tar", {"file": "/x", "expect.rto_s": typed})
    assert (case["expect"]["rto_s"], faults) == (kept, {})


@pytest.mark.parametrize("typed", ["0", "-1", "1:75", "soon", "nan", "1e400"])
def test_hours_that_are_none_are_told(typed: str) -> None:
    assert case_fields.read("tar", {"file": "/x", "expect.rto_s": typed})[1] == {"expect.rto_s": "number"}
