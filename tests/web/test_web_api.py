"""The API: the same gate as the pages, answers as its own document says, errors as problem documents."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from clicking import Browser
from flask import Flask
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from msp import db
from msp.clock import utc_now
from msp.desk import tickets
from msp_web import access, openapi

Ids = dict[str, dict[str, int]]
LogIn = Callable[[str], Browser]
STAFF, LIMITED, BOSS, USER = (
    "tech@provider.example",
    "limited@provider.example",
    "boss@alfa.example",
    "user@alfa.example",
)
PEOPLE = [STAFF, LIMITED, BOSS, USER]


@pytest.fixture
def spec(app: Flask) -> dict[str, Any]:
    answer = app.test_client().get("/api/v1/openapi.json")
    assert answer.status_code == 200
    assert answer.json is not None
    return dict(answer.json)


def token(browser: Browser) -> dict[str, str]:
    answer = browser.get("/api/v1/me")
    assert answer.json is not None
    return {"X-CSRFToken": answer.json["csrf_token"]}


# --- the document


def test_every_route_of_the_api_is_in_the_document_and_nothing_else(app: Flask, spec: dict[str, Any]) -> None:
    routes = {
        (re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(path, method.upper()) for path, item in spec["paths"].items() for method in item}
    assert described == routes
    assert len(described) >= 8


def test_the_document_is_an_openapi_document_that_hangs_together(app: Flask, spec: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", spec["openapi"])
    assert {"title", "version"} <= set(spec["info"])
    names = set()
    for path, item in spec["paths"].items():
        for method, one in item.items():
            assert one["summary"], path
            assert one["operationId"] not in names
            names.add(one["operationId"])
            in_path = {given["name"] for given in one["parameters"] if given["in"] == "path"}
            assert in_path == set(re.findall(r"{(\w+)}", path))
            assert any(status.startswith("2") for status in one["responses"])
            assert ("requestBody" in one) == (method == "post")
            for requirement in one["security"]:
                assert set(requirement) <= set(spec["components"]["securitySchemes"])
                assert ("csrf" in requirement) == (method != "get" and "token" not in requirement)
    for reference in references(spec):
        assert reference.startswith("#/components/schemas/")
        assert reference.rsplit("/", 1)[1] in spec["components"]["schemas"], reference
    unused = set(spec["components"]["schemas"]) - {one.rsplit("/", 1)[1] for one in references(spec)}
    assert not unused


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def test_a_route_that_does_not_say_what_it_gives_is_named(app: Flask) -> None:
    bare = Flask("bare")
    bare.add_url_rule("/api/v1/forgotten", "forgotten", lambda: "{}")
    with pytest.raises(RuntimeError, match="forgotten"):
        openapi.routes(bare)


def test_the_mark_of_a_view_is_its_security_in_the_document(app: Flask, spec: dict[str, Any]) -> None:
    for rule, view in openapi.routes(app):
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            described = spec["paths"][re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)][method.lower()]
            assert bool(described["security"]) == (view.access != access.Mark("public")), rule.rule


# --- answers are what the document says: checked by a reader of JSON Schema that shares nothing with the models


def faults(value: Any, schema: dict[str, Any], spec: dict[str, Any], where: str = "answer") -> list[str]:
    """Return where a value differs from a schema; knows the words that the document uses and no others."""
    known = {"$ref", "anyOf", "type", "properties", "required", "additionalProperties", "items", "format", "title"}
    assert not set(schema) - known - {"description", "default", "const", "enum"}, schema
    if "$ref" in schema:
        return faults(value, spec["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], spec, where)
    if "anyOf" in schema:
        return [] if any(not faults(value, one, spec, where) for one in schema["anyOf"]) else [f"{where}: none fits"]
    kinds = {
        "string": str, "integer": int, "boolean": bool, "object": dict, "array": list, "null": type(None),
    }  # fmt: skip
    kind = kinds[schema["type"]]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return [f"{where}: {value!r} is no {schema['type']}"]
    found = []
    if schema.get("format") == "date-time":
        assert datetime.fromisoformat(value).tzinfo is not None, where
    if kind is dict and "properties" in schema:
        found += [f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value]
        found += [f"{where}.{name} is unknown" for name in value if name not in schema["properties"]]
        for name, one in schema["properties"].items():
            if name in value:
                found += faults(value[name], one, spec, f"{where}.{name}")
    if kind is list:
        for number, one in enumerate(value):
            found += faults(one, schema["items"], spec, f"{where}[{number}]")
    return found


@pytest.mark.parametrize("email", PEOPLE)
def test_every_answer_is_as_described(log_in: LogIn, ids: Ids, spec: dict[str, Any], email: str) -> None:
    browser, seen = log_in(email), 0
    for path, item in spec["paths"].items():
        if "get" not in item:
            continue
        answer = browser.get(path.format(**ids["alfa"]))
        schema = item["get"]["responses"][str(answer.status_code)]["content"][answer.mimetype]["schema"]
        assert answer.status_code == 200, path
        assert not faults(answer.json, schema, spec), path
        seen += 1
    assert seen >= 7


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/tickets/999999", 404),
        ("/api/v1/tickets?limit=0", 422),
        ("/api/v1/tickets?limit=many", 422),
        ("/api/v1/tickets?colour=red", 422),
        ("/api/v1/tickets?after=nonsense", 422),
        ("/api/v1/runs?after=-1", 422),
        ("/api/v1/runs/999999", 404),
        (f"/api/v1/runs/{10**30}", 404),
        ("/api/v1/nothing", 404),
    ],
)
def test_errors_are_problem_documents(log_in: LogIn, spec: dict[str, Any], path: str, status: int) -> None:
    answer = log_in(USER).get(path)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert not faults(answer.json, {"$ref": "#/components/schemas/Problem"}, spec)
    assert answer.json is not None
    assert answer.json["status"] == status
    assert answer.json["title"]


def test_nobody_gets_a_problem_and_no_page(app: Flask) -> None:
    answer = app.test_client().get("/api/v1/tickets")
    assert (answer.status_code, answer.mimetype) == (401, "application/problem+json")


def test_a_role_without_the_right_is_refused(log_in: LogIn) -> None:
    browser = log_in("dispatch@provider.example")
    assert browser.get("/api/v1/tickets").status_code == 200
    manager = log_in("manager@provider.example")
    answer = manager.post("/api/v1/tickets", json={"subject": "x", "client_id": 1}, headers=token(manager))
    assert answer.status_code == 403, "an account manager does not work tickets"


# --- tickets


@pytest.fixture
def opened(app: Flask, ids: Ids) -> int:
    with db.begin() as session:
        opening = tickets.Opening(client_id=ids["alfa"]["client_id"], subject="By API", priority="P2")
        number = tickets.open_ticket(session, opening, by=USER, now=utc_now() - timedelta(hours=1)).id
        tickets.note(session, number, "Not for the client.", by=STAFF)
        tickets.reply(session, number, "For everybody.", by=STAFF)
    return number


def test_a_client_reads_the_public_log_and_staff_reads_all(log_in: LogIn, opened: int) -> None:
    client = log_in(USER).get(f"/api/v1/tickets/{opened}").json
    staff = log_in(STAFF).get(f"/api/v1/tickets/{opened}").json
    assert client is not None
    assert staff is not None
    assert {entry["text"] for entry in staff["log"]} >= {"Not for the client.", "For everybody."}
    assert "Not for the client." not in str(client)
    assert STAFF not in str(client)
    assert [one["name"] for one in client["clocks"]] == ["first_response", "resolution"]
    assert client["clocks"][1]["target_s"] == 8 * 3600


def test_tickets_come_by_time_left_page_by_page(log_in: LogIn, ids: Ids) -> None:
    with db.begin() as session:
        for number in range(25):
            opening = tickets.Opening(client_id=ids["alfa"]["client_id"], subject=f"Page {number}", priority="P3")
            tickets.open_ticket(session, opening, by=USER, now=utc_now() - timedelta(minutes=number))
    browser, rows, after = log_in(USER), list[dict[str, Any]](), ""
    while True:
        page = browser.get("/api/v1/tickets", query_string={"limit": 7, **({"after": after} if after else {})}).json
        assert page is not None
        rows += page["items"]
        if page["next"] is None:
            break
        assert len(page["items"]) == 7
        after = page["next"]
    assert len({row["id"] for row in rows}) == len(rows) >= 25
    dues = [row["next_due_at"] for row in rows if row["next_due_at"]]
    assert [datetime.fromisoformat(due) for due in dues] == sorted(datetime.fromisoformat(due) for due in dues)
    assert all(row["next_due_at"] is None for row in rows[len(dues) :])
    assert {row["client_id"] for row in rows} == {ids["alfa"]["client_id"]}


def test_opening_a_ticket_answers_with_it_and_where_it_is(log_in: LogIn, ids: Ids, spec: dict[str, Any]) -> None:
    browser = log_in(USER)
    told = {"subject": " Fax  is\ndead ", "text": "Yes.", "priority": "P2", "asset_id": ids["alfa"]["asset_id"]}
    answer = browser.post("/api/v1/tickets", json=told, headers=token(browser))
    assert answer.status_code == 201
    assert not faults(answer.json, {"$ref": "#/components/schemas/TicketWhole"}, spec)
    assert answer.json is not None
    assert (answer.json["subject"], answer.json["asset"]) == ("Fax is dead", "alfa-srv-fs1")
    again = browser.get(answer.location)
    assert again.json is not None
    assert again.json["id"] == answer.json["id"]
    assert again.json["resolution_due_at"] is not None


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"subject": ""}, 422),
        ({"subject": " "}, 422),
        ({"subject": "\ud800"}, 422),
        ({"text": "a\x00b"}, 422),
        ({"priority": "P1"}, 422),
        ({"kind": "change"}, 422),
        ({"colour": "red"}, 422),
        ({"asset_id": -1}, 422),
        ({"asset_id": 2**63}, 422),
        ({"asset_id": 2**63 - 1}, 404),
        ({"asset_id": "bravo"}, 404),
        ({"client_id": "bravo"}, 404),
    ],
)
def test_what_cannot_be_opened_is_told_why(log_in: LogIn, ids: Ids, change: dict[str, Any], status: int) -> None:
    browser = log_in(USER)
    change = {name: ids["bravo"][name] if value == "bravo" else value for name, value in change.items()}
    answer = browser.post("/api/v1/tickets", json={"subject": "x", **change}, headers=token(browser))
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json"), answer.text
    assert "bravo" not in answer.text.lower()


def test_staff_says_for_whom_and_stays_within_its_grants(log_in: LogIn, ids: Ids) -> None:
    browser = log_in(LIMITED)
    headers = token(browser)
    for client_id, status in ((None, 422), (ids["bravo"]["client_id"], 404), (ids["alfa"]["client_id"], 201)):
        told = {"subject": "From staff", "priority": "P1", "client_id": client_id}
        assert browser.post("/api/v1/tickets", json=told, headers=headers).status_code == status


def test_writing_needs_the_token_and_json(log_in: LogIn) -> None:
    browser = log_in(USER)
    forged = browser.post("/api/v1/tickets", json={"subject": "x"})
    assert (forged.status_code, forged.mimetype) == (400, "application/problem+json")
    form = browser.post("/api/v1/tickets", data={"subject": "x"}, headers=token(browser))
    assert form.status_code == 415
    broken = browser.post("/api/v1/tickets", data="{", headers={**token(browser), "Content-Type": "application/json"})
    assert broken.status_code == 422


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
bodies = json_values | st.fixed_dictionaries(
    {"subject": json_values},
    optional=dict.fromkeys(("text", "priority", "kind", "asset_id", "client_id"), json_values),
)


@how(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies)
def test_no_body_breaks_it(log_in: LogIn, body: object) -> None:
    browser = log_in(USER)
    headers = {**token(browser), "Content-Type": "application/json"}
    answer = browser.post("/api/v1/tickets", data=json.dumps(body), headers=headers)
    assert answer.status_code in (201, 404, 422), (body, answer.text)


# --- runs and backups


def test_a_run_tells_its_hosts_and_no_secret(log_in: LogIn, ids: Ids) -> None:
    from msp.remote.models import Run

    with db.begin() as session:
        session.get_one(Run, ids["alfa"]["run_id"]).parameters = {"password": "vault:db-root", "path": "/srv"}
    for email in (USER, STAFF):
        answer = log_in(email).get(f"/api/v1/runs/{ids['alfa']['run_id']}")
        assert answer.json is not None
        assert [host["name"] for host in answer.json["hosts"]] == ["alfa-srv-fs1"]
        assert answer.json["parameters"]["path"] == "/srv"
        assert "db-root" not in answer.text
        assert answer.json["approval"]["rule"] == "client_approver"


def test_backups_say_proven_or_not(log_in: LogIn, ids: Ids) -> None:
    answer = log_in(USER).get("/api/v1/backups").json
    assert answer is not None
    states = {plan["name"]: plan["state"] for plan in answer["items"]}
    assert states["alfa files nightly"] == "proven"
    assert states["alfa ERP database"] == "unproven"
    first = log_in(USER).get("/api/v1/backups?limit=1").json
    assert first is not None
    rest = log_in(USER).get(f"/api/v1/backups?after={first['next']}").json
    assert rest is not None
    assert first["items"] + rest["items"] == answer["items"]
