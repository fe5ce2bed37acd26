"""A Russian reader meets no English sentence but in what people wrote themselves and in what machines put out."""

import html
import re
from collections.abc import Callable
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
import seed
from clicking import Browser

from msp import db
from msp.backup.models import RestoreTest
from msp.clock import utc_now
from msp.contracts.models import BillingEntry
from msp.desk import roster
from msp.dispatch import visits
from msp.dispatch.models import Shift, Technician
from msp.flows import placing
from msp.people import users
from msp.people.models import User
from msp.remote.models import RunHost, StepResult
from msp.sentences import said

Ids = dict[str, dict[str, int]]

#: What people of the seed wrote, and names of things.
OWN = ("Replace disk 2", "Looking at servers", "Changes are made at night", "Nothing that interrupts", "files nightly")
#: Not ours to translate: output of machines, code, identifiers, and playbooks, which are written by people.
SILENT = re.compile(r"<(script|style|pre|textarea|code|svg)\b.*?</\1>|<(\w+)[^>]*\bmono\b[^>]*>.*?</\2>", re.DOTALL)
PLAYBOOKS = re.compile(r"^/runs/(new|\d+)|^/portal/approvals|^/static|^/log-out|^/live|^/api|\.(csv|xlsx|pdf|zip|json)")
WORDS = re.compile(r"\b(the|is|was|were|are|has|have|to|and|no|not|with|by|did|does|its|for|an|be|could|cannot)\b")
MOST = 3  # pages of one kind


def sentences(page: str) -> list[str]:
    """Return the English phrases of a page: text and labels, each as it reads."""
    plain = SILENT.sub(" ", page)
    labels = re.findall(r'\s(?:title|aria-label|placeholder|alt)="([^"]*)"', plain)
    text = re.sub(r"</?(?:b|strong|em|i|a|span|time|u)\b[^>]*>", "", plain)
    found = [re.sub(r"\s+", " ", html.unescape(one)).strip() for one in [*re.split(r"<[^>]*>", text), *labels]]
    return [one for one in found if WORDS.search(one) and not any(own in one for own in OWN)]


@pytest.fixture
def told(ids: Ids) -> None:
    """Store, once, a sentence of each kind that rooms store: findings, details, refusals, notices, reasons."""
    alfa = ids["alfa"]
    with db.begin() as session:
        if session.query(User).filter_by(email="ru@provider.example").first():
            return
        for email, roles, client in (
            ("ru@provider.example", ["admin", "technician", "dispatcher", "account manager"], None),
            ("ru@alfa.example", ["client user", "client approver"], alfa["client_id"]),
        ):
            users.add(
                session, email=email, name="Ольга", password=seed.PASSWORD, roles=roles, by="t", client_id=client,
                language="ru",
            )  # fmt: skip
        session.get_one(RestoreTest, alfa["test_id"]).result = {
            "findings": [
                {"reason": "application", "weight": "fail", "what": "The database app.sqlite was not restored.",
                 "where": "", "advice": "Restore an older snapshot of it."}
            ]
        }  # fmt: skip
        text = "Step 1 (df): It was done, but its check does not hold. The command ended with exit status 1."
        session.get_one(RunHost, alfa["run_host_id"]).detail = f"{text} Step 1 (df) undone."
        session.get_one(StepResult, alfa["step_id"]).detail = "There is no sudo on the host, so nothing ran as root."
        session.get_one(BillingEntry, alfa["entry_id"]).reason = "Servers: 20 min rounded up to 30"
        staff = session.query(User).filter_by(email="ru@provider.example").one()
        roster.tell(
            session, alfa["ticket_id"], staff.email, 0, "It is late. Nobody is on the roster for L1.", utc_now()
        )


@pytest.mark.slow
@pytest.mark.parametrize(("email", "starts"), [("ru@provider.example", ["/"]), ("ru@alfa.example", ["/portal/"])])
def test_no_page_speaks_english_to_a_russian_reader(
    log_in: Callable[[str], Browser], told: None, email: str, starts: list[str]
) -> None:
    browser = log_in(email)
    waiting, seen, kinds, faults = [*starts], set[str](), dict[str, int](), list[str]()
    while waiting:
        path = waiting.pop(0).partition("#")[0]
        kind = re.sub(r"\d+", "N", path.partition("?")[0])
        if path in seen or PLAYBOOKS.search(path) or kinds.get(kind, 0) >= MOST:
            continue
        seen.add(path)
        kinds[kind] = kinds.get(kind, 0) + 1
        answer = browser.get(path)
        if answer.status_code in (301, 302, 303, 308):
            waiting.append(answer.location)
        elif answer.mimetype == "text/html":
            waiting += [html.unescape(one) for one in re.findall(r'href="(/[^"]*)"', answer.text)]
            faults += [f"{path}: {one}" for one in sentences(answer.text)]
    assert len(kinds) > 8, kinds
    assert not faults, "\n".join(faults)


def test_stored_sentences_read_in_russian_where_they_are_shown(
    log_in: Callable[[str], Browser], told: None, ids: Ids
) -> None:
    browser, alfa = log_in("ru@provider.example"), ids["alfa"]
    assert "База данных app.sqlite не восстановлена." in browser.get(f"/backups/tests/{alfa['test_id']}").text
    run = browser.get(f"/runs/{alfa['run_id']}?host={alfa['host_id']}").text
    assert "Шаг 1 (df): Сделано, но проверка этого не подтверждает. Команда закончилась с состоянием 1." in run
    missing = browser.get("/tickets/999999")
    assert "Такого нет, или это не вам видеть." in missing.text
    assert "Вернитесь к списку." in missing.text
    program = browser.get("/tickets/999999", headers={"Accept": "application/json"})
    assert program.json["title"] == "There is no such thing, or it is not yours to see."


def test_work_that_the_product_named_reads_in_russian_on_the_board_the_map_and_the_phone(
    log_in: Callable[[str], Browser], told: None, ids: Ids
) -> None:
    named, why = "There is no sudo on the host, so nothing ran as root.", "It is late. Nobody is on the roster for L1."
    alfa, now = ids["alfa"], utc_now().replace(second=0, microsecond=0)
    begins = now + timedelta(hours=1)
    with db.begin() as session:
        user = session.query(User).filter_by(email="ru@provider.example").one()
        day = begins.astimezone(ZoneInfo(user.time_zone)).date()
        who = Technician(name="Олег", skills={"russian": 1}, latitude=52.5, longitude=13.4, user_id=user.id)
        session.add(who)
        session.flush()
        session.add(Shift(technician_id=who.id, starts_at=now, ends_at=now + timedelta(hours=9)))
        session.flush()
        order = visits.propose(
            session, client_id=alfa["client_id"], site_id=alfa["site_id"], summary=named, reason=why, now=now,
            duration=timedelta(hours=1), skills={"russian": 1},
        )  # fmt: skip
        placing.place(session, order.id, who.id, begins, by="test", now=now)
    browser = log_in("ru@provider.example")
    for path in (f"/dispatch/?day={day}", f"/dispatch/map?day={day}"):
        page = html.unescape(html.unescape(browser.get(path).text))
        assert said(named, "ru") in page, path
        assert named not in page, path
    visit = next(one for one in browser.get("/field/today.json").json["visits"] if one["order"] == order.id)
    assert (visit["summary"], visit["reason"]) == (said(named, "ru"), said(why, "ru"))
    assert "It is late" not in visit["reason"]
