"""Values that nobody means in every parameter that a page reads from its address: an answer, no error of ours."""

import ast
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
import seed
from clicking import Browser
from flask import Flask, g, request
from sqlalchemy.exc import DataError
from test_web_walk import PLAIN, address, routes

import msp_web
from msp import db
from msp.clock import utc_now
from msp.people import users
from msp_web import api_models
from msp_web.access import storable
from msp_web.views.dispatch import day_asked

Ids = dict[str, dict[str, int]]
LogIn = Callable[[str], Browser]

VALUES = ("", "abc", "99999999999999999999", "0001-01-01", "9999-12-31", "9999-12", "a\x00b", "9" * 5000)
ROOT = Path(msp_web.__file__).parent


@cache
def trees() -> dict[str, ast.Module]:
    """Return the parsed modules of the pages by name: `views.desk`, `run_page`."""
    files = sorted(ROOT.rglob("*.py"))
    return {".".join(one.relative_to(ROOT).with_suffix("").parts): ast.parse(one.read_text()) for one in files}


def is_args(node: ast.AST) -> bool:
    """Whether an expression is `request.args`."""
    return isinstance(node, ast.Attribute) and node.attr == "args" and getattr(node.value, "id", "") == "request"


def aliases(tree: ast.Module) -> set[str]:
    """Return the names under which a module reads `request.args`: variables, and parameters that are given it."""
    found = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and is_args(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (called := functions.get(getattr(node.func, "id", ""))):
            given = zip(called.args.args, node.args, strict=False)
            found |= {name.arg for name, value in given if is_args(value) or getattr(value, "id", "") in found}
    return found


def texts(node: ast.AST, tree: ast.Module) -> Iterator[str]:
    """Yield the texts that an expression may be: literals, f-strings with 0 in the gaps, names looped over."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)
    elif isinstance(node, ast.Name):
        for loop in ast.walk(tree):
            names = {one.id for one in ast.walk(getattr(loop, "target", loop)) if isinstance(one, ast.Name)}
            if isinstance(loop, ast.For | ast.comprehension) and node.id in names:
                for one in ast.walk(loop.iter):
                    if isinstance(one, ast.Constant) and isinstance(one.value, str):
                        yield one.value


def reads(tree: ast.Module) -> Iterator[tuple[ast.AST, str | None]]:
    """Yield each name that a module reads of `request.args`, and the function around it that is given that name."""
    known = aliases(tree)
    for outer in ast.walk(tree):
        if not isinstance(outer, ast.FunctionDef):
            continue
        given = {one.arg for one in outer.args.args}
        for node in ast.walk(outer):
            name = None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                if node.func.attr in ("get", "getlist") and (
                    is_args(node.func.value) or getattr(node.func.value, "id", "") in known
                ):
                    name = node.args[0]
            elif isinstance(node, ast.Subscript) and (is_args(node.value) or getattr(node.value, "id", "") in known):
                name = node.slice
            elif isinstance(node, ast.Compare) and is_args(node.comparators[0]):
                name = node.left
            if name is not None:
                yield name, outer.name if isinstance(name, ast.Name) and name.id in given else None


@cache
def parameters() -> dict[str, frozenset[str]]:
    """Return {module: the parameters that its pages read, itself or by a module that it takes something of}."""
    readers = {reader for tree in trees().values() for _, reader in reads(tree) if reader}
    found = {
        module: {text for node, _ in reads(tree) for text in texts(node, tree)} for module, tree in trees().items()
    }
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in readers and node.args:
                found[module].update(texts(node.args[0], tree))
    for name, model in vars(api_models).items():
        if name.endswith("Query"):
            found["views.api"].update(model.model_fields)
    views = {module for module in found if module.startswith("views.")}
    for module in views:
        for node in ast.walk(trees()[module]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("msp_web"):
                taken = [(node.module or "").removeprefix("msp_web."), *(one.name for one in node.names)]
                found[module].update(*(found[one] for one in taken if one in found and one not in views))
    return {module: frozenset(found[module]) for module in views}


def test_the_parameters_of_pages_are_found() -> None:
    found = parameters()
    assert {"at", "asset", "action"} <= found["views.contracts"]
    assert {"month", "client", "kind"} <= found["views.reports"], "read through a function of another module"
    assert {"kind", "platform", "q", "after"} <= found["views.assets"], "looped over"
    assert {"start", "from0", "to0"} <= found["views.contract_clocks"], "handed on, and made of a number"
    assert {"id", "state"} <= found["views.desk"]
    assert {"outcome", "from", "host"} <= found["views.runs"], "read in a module that pages share"


@pytest.mark.slow
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value[:20]))
@pytest.mark.parametrize("email", ["admin@provider.example", "boss@alfa.example"])
def test_nasty_values_in_an_address_are_no_error_of_ours(
    app: Flask, ids: Ids, log_in: LogIn, email: str, value: str
) -> None:
    browser, failed = log_in(email), []
    side = "portal" if "alfa" in email else "staff"
    app.config["PROPAGATE_EXCEPTIONS"] = False
    try:
        for rule, mark in routes(app, "GET"):
            if mark is None or mark.who not in (side, "signed in", "token", "public"):
                continue
            module = app.view_functions[rule.endpoint].__module__.removeprefix("msp_web.")
            names = parameters().get(module, frozenset())
            base = {"asset": ids["alfa"]["asset_id"], "action": "change"}  # so that what stands beside them is read
            whole = {name: good for name, good in base.items() if name in names}
            asked = [whole | {name: value} for name in sorted(names)]
            path = address(rule, ids["alfa"])
            for query in asked:
                answer = browser.get(path, query_string=query)
                answer.close()
                if answer.status_code >= 500 and rule.rule != "/readyz":
                    failed.append((rule.rule, next(reversed(query)), answer.status_code))
    finally:
        app.config["PROPAGATE_EXCEPTIONS"] = True
    assert not failed, failed


@pytest.mark.parametrize("month", ["0001-01", "9999-12", "2026-13", "a\x00b", "9" * 5000])
def test_nasty_months_in_a_path_are_no_error_of_ours(app: Flask, ids: Ids, log_in: LogIn, month: str) -> None:
    for email, side in (("admin@provider.example", "staff"), ("boss@alfa.example", "portal")):
        for rule, mark in routes(app, "GET"):
            if "month" in rule.arguments and mark is not None and mark.who == side:
                path = address(rule, ids["alfa"]).replace(PLAIN["month"], month.replace("\x00", "%00"))
                assert log_in(email).get(path).status_code < 500, path[:100]


def test_nasty_values_in_a_form_are_no_error_of_ours(app: Flask, ids: Ids, log_in: LogIn) -> None:
    browser, alfa = log_in("admin@provider.example"), ids["alfa"]
    with db.begin() as session:
        email = "nasty@provider.example"
        made = users.add(session, email=email, name="N", password=seed.PASSWORD, roles=["technician"], by="test")
        person = made.id
    turn = {"user_id": person, "lines": "L1", "level": "0", "weeks": "5"}
    for answer in (
        browser.send("/roster/add", begins_at="9999-12-30T08:00", ends_at="9999-12-30T18:00", **turn),
        browser.send("/roster/add", begins_at="0001-01-01T00:00", ends_at="2026-01-01T18:00", **turn),
    ):
        assert answer.status_code == 422
        assert "is out of reach" in answer.text
    saved = browser.send(f"/admin/users/{person}", role="technician", active="1", grant="9" * 5000)
    assert saved.status_code == 302
    close = {"contract": alfa["contract_id"], "period": "9999-12"}
    assert browser.send("/billing/close", **close).status_code == 303
    for text in ("abc", "", "9" * 5000, "99999999999999999999", "1 OR 1=1"):
        assert browser.send("/billing/close", contract=text, period="2026-01").status_code == 404


def test_a_text_is_the_number_of_a_row_or_of_none() -> None:
    assert all(map(storable, ("1", "123456789012345678", 1, 2**62)))
    assert not any(map(storable, ("", "abc", "-1", "1.0", " 1", "٣", "²", "9" * 19, "9" * 5000, 2**63)))


def test_no_parameter_of_an_address_holds_a_nul(app: Flask, log_in: LogIn) -> None:
    with app.test_request_context("/runs/?q=a%00b&q=%00&a%00=1"):
        assert request.args.getlist("q") == ["ab", ""]
        assert request.args["a"] == "1"
    with app.test_request_context("/", method="POST", data={"value": "se\x00cret"}):
        assert request.form["value"] == "se\x00cret"  # not another one
    browser = log_in("admin@provider.example")
    for path in ("/tickets", "/assets/", "/assets/list.csv", "/runs/", "/evidence/"):
        assert browser.get(path, query_string={"q": "a\x00b", "kind": "\x00", "state": "\x00"}).status_code == 200, path


def test_days_and_times_that_people_type_are_read_in_one_place() -> None:
    stored = {
        "cron_words",
        "keyset",
        "terms_vat",
        "words_of_backups",
        "views.backup_drafts",
        "views.replans",
    }  # by ourselves
    machines = {"views.field"}  # a phone whose clock is wrong shall lose nothing
    readers = {
        module
        for module, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("fromisoformat", "strptime")
    }
    assert readers == {"dates"} | stored | machines


@pytest.mark.parametrize("day", ["0001-01-01", "1999-12-31", "2101-01-01", "9999-12-31", "soon", ""])
def test_a_day_out_of_reach_is_today_on_the_board(app: Flask, day: str) -> None:
    with app.test_request_context("/dispatch/", query_string={"day": day}):
        g.actor = None
        assert abs(day_asked() - utc_now().date()) <= timedelta(days=1)


def test_a_value_that_the_database_refuses_is_no_error_of_ours_and_is_not_logged(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    refused = DataError("INSERT", {"name": "planted"}, ValueError("text fields cannot contain NUL bytes: planted"))
    with app.test_request_context("/assets/new", method="POST"):
        answer = app.make_response(app.handle_user_exception(refused))
    assert answer.status_code == 422  # 400 would tell a phone to load its page again
    assert "planted" not in answer.get_data(as_text=True) + caplog.text
    assert "POST /assets/new held a value" in caplog.text
