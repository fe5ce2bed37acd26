"""Every route, walked: nobody gets in without log-in, and a foreign client's things are not there."""

import re
from collections.abc import Callable, Iterator

import pytest
from clicking import Browser
from flask import Flask
from werkzeug.routing import Rule

from msp.people.access import RIGHTS
from msp_web import access

Ids = dict[str, dict[str, int]]
LogIn = Callable[[str], Browser]

#: Parameters that name no client's thing: parameter -> a value for which the page may exist.
PLAIN = {
    "token": "no-token",
    "filename": "app.css",
    "name": "free-disk-space",
    "playbook": "free-disk-space",
    "line": "1",
    "number": "1",
    "step": "1",
    "part": "1",
    "form": "json",
    "month": "2026-01",
}


def address(rule: Rule, things: dict[str, int]) -> str:
    """Return an address of the rule with the ids of one client's things."""
    values: dict[str, object] = {}
    for name in rule.arguments:
        if name == "topic":
            values[name] = f"ticket:{things['ticket_id']}"
        elif name in things:
            values[name] = things[name]
        elif name in PLAIN:
            values[name] = PLAIN[name]
        else:
            pytest.fail(f"{rule.endpoint} has the parameter {name!r}: add it to tests/web/seed.py or to PLAIN here.")
    with_slots = rule.build(values, append_unknown=False)
    assert with_slots is not None, rule.rule
    return str(with_slots[1])


def routes(app: Flask, method: str) -> Iterator[tuple[Rule, access.Mark | None]]:
    for rule in app.url_map.iter_rules():
        if method in (rule.methods or ()) and rule.endpoint != "static":
            yield rule, getattr(app.view_functions[rule.endpoint], "access", None)


def test_every_view_says_who_may_open_it_by_a_right_that_exists(app: Flask) -> None:
    rights = set().union(*RIGHTS.values())
    for rule, mark in routes(app, "GET"):
        if rule.endpoint in access.LIBRARY_ENDPOINTS:
            continue
        assert isinstance(mark, access.Mark), rule.endpoint
        if mark.who in ("staff", "portal"):
            # what no role is given by name only an administrator has
            assert mark.right in rights or mark.right in ("admin.see", "asset.edit"), (rule.endpoint, mark.right)
            assert (mark.who == "portal") == str(mark.right).startswith("portal."), rule.endpoint


def test_a_view_without_a_mark_does_not_start() -> None:
    bare = Flask("bare")
    bare.add_url_rule("/forgotten", "forgotten", lambda: "open to everybody")
    with pytest.raises(RuntimeError, match="forgotten"):
        access.check_marks(bare)


def test_anonymous_visitors_get_log_in_and_nothing_else(app: Flask, ids: Ids) -> None:
    for method in ("GET", "POST"):
        for rule, mark in routes(app, method):
            if mark is not None and mark.who == "public":
                continue
            browser = app.test_client()
            browser.get("/log-in")
            path = address(rule, ids["bravo"])
            if rule.endpoint in ("security.login", "security.logout"):
                continue
            answer = browser.get(path) if method == "GET" else browser.send(path)
            if rule.endpoint in access.LIBRARY_ENDPOINTS:
                assert answer.status_code in (302, 400, 401, 403, 404), (method, path, answer.status_code)
            elif path.startswith(("/api/", "/live/")):
                assert answer.status_code == 401, (method, path, answer.status_code)
            else:
                assert answer.status_code == 302, (method, path, answer.status_code)
                assert answer.location.startswith("/log-in"), (method, path, answer.location)
            assert "Bravo" not in answer.text


@pytest.mark.parametrize("email", ["limited@provider.example", "boss@alfa.example", "user@alfa.example"])
def test_things_of_a_foreign_client_are_not_there(app: Flask, ids: Ids, log_in: LogIn, email: str) -> None:
    browser = log_in(email)
    walked = 0
    for method in ("GET", "POST"):
        for rule, mark in routes(app, method):
            if mark is None or mark.who in ("public", "token") or not set(rule.arguments) - set(PLAIN):
                continue
            path = address(rule, ids["bravo"])
            answer = browser.get(path) if method == "GET" else browser.send(path)
            assert answer.status_code in (403, 404), (email, method, path, answer.status_code)
            assert "bravo" not in answer.text.lower(), (email, method, path)
            walked += 1
    assert walked > 10


@pytest.mark.parametrize("email", ["limited@provider.example", "boss@alfa.example", "user@alfa.example"])
def test_lists_show_nothing_of_a_foreign_client(app: Flask, log_in: LogIn, email: str) -> None:
    browser = log_in(email)
    for rule, mark in routes(app, "GET"):
        if mark is None or rule.arguments:
            continue
        answer = browser.get(rule.rule)
        assert answer.status_code < 500 or rule.rule == "/readyz", (rule.rule, answer.status_code)
        assert "bravo" not in answer.text.lower(), (email, rule.rule)


def test_own_things_are_there_for_staff_granted_the_client(app: Flask, ids: Ids, log_in: LogIn) -> None:
    browser = log_in("limited@provider.example")
    for rule, mark in routes(app, "GET"):
        if mark is None or mark.who != "staff" or not rule.arguments or set(rule.arguments) & set(PLAIN):
            continue
        path = address(rule, ids["alfa"])
        answer = browser.get(path)
        # 404 only where a page wants more in its address (two versions to compare); never "not yours"
        assert answer.status_code in (200, 302, 404), (path, answer.status_code)
        if answer.status_code == 404:
            assert "not yours to see" not in answer.text, path


def test_a_clients_person_opens_no_staff_page_and_staff_no_portal_page(app: Flask, ids: Ids, log_in: LogIn) -> None:
    client, staff = log_in("boss@alfa.example"), log_in("admin@provider.example")
    for method in ("GET", "POST"):
        for rule, mark in routes(app, method):
            if mark is None or mark.who not in ("staff", "portal"):
                continue
            path = address(rule, ids["alfa"])
            wrong = client if mark.who == "staff" else staff
            answer = wrong.get(path) if method == "GET" else wrong.send(path)
            assert answer.status_code == 403, (mark, method, path, answer.status_code)


def test_a_technician_reaches_only_pages_of_the_role(app: Flask, ids: Ids, log_in: LogIn) -> None:
    browser = log_in("tech@provider.example")
    for rule, mark in routes(app, "GET"):
        if mark is None or mark.who != "staff":
            continue
        answer = browser.get(address(rule, ids["alfa"]))
        held = mark.right in RIGHTS["technician"]
        assert (answer.status_code == 403) != held, (rule.rule, mark.right, answer.status_code)


def test_every_form_needs_the_token_of_its_page(app: Flask, ids: Ids, log_in: LogIn) -> None:
    browser = log_in("admin@provider.example")
    for rule, mark in routes(app, "POST"):
        if mark == access.Mark("token"):  # a cookie opens nothing there
            continue
        answer = browser.post(address(rule, ids["alfa"]), data={"language": "ru"})
        assert answer.status_code == 400, (rule.rule, answer.status_code)
    assert browser.get("/account").status_code == 200, "the log-out form worked without a token"


def test_no_answer_to_a_person_leaks_the_inside(app: Flask, log_in: LogIn) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.view_functions["health.healthz"], kept = _boom, app.view_functions["health.healthz"]
    try:
        page = app.test_client().get("/healthz")
        document = app.test_client().get("/healthz", headers={"Accept": "application/json"})
    finally:
        app.view_functions["health.healthz"] = kept
        app.config["PROPAGATE_EXCEPTIONS"] = True
    assert (page.status_code, document.status_code) == (500, 500)
    assert document.mimetype == "application/problem+json"
    assert document.json is not None
    assert document.json["retry"] is True
    for text in (page.text, document.text):
        assert not re.search(r"Traceback|ZeroDivision|secret inside|\.py", text)


def _boom() -> str:
    raise ZeroDivisionError("secret inside")


_boom.access = access.Mark("public")  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_number_that_no_database_holds_is_no_error_of_ours(app: Flask, ids: Ids, log_in: LogIn, method: str) -> None:
    """No thing has such a number, so the answer is one of 4xx, or of a page that reads the number as a filter."""
    admin = log_in("admin@provider.example")
    for rule, _ in routes(app, method):
        if "<int:" not in rule.rule:
            continue
        path = address(rule, ids["alfa"])
        huge = re.sub(r"(?<=/)\d+", "99999999999999999999", path)
        answer = admin.get(huge) if method == "GET" else admin.send(huge)
        assert answer.status_code < 500, (method, huge)
