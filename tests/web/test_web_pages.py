"""Every page that a person can open: renders in both languages, runs no inline code, can be used without a mouse."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from clicking import Browser
from flask import Flask
from test_web_walk import PLAIN, address, routes

import msp_web

Ids = dict[str, dict[str, int]]
LogIn = Callable[[str], Browser]
STATIC = Path(msp_web.__file__).parent / "static"


class Page(HTMLParser):
    """What matters of a page: controls and their labels, ids, headings, and code where none may be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.labels: set[str] = set()
        self.controls: list[tuple[str, bool]] = []
        self.references: set[str] = set()
        self.icons: set[str] = set()
        self.headings = 0
        self._in_label = 0
        self._button: list[bool] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.ids.append(found["id"])
        for name, value in found.items():
            if name.startswith("on") or name == "style" or value.strip().lower().startswith("javascript:"):
                self.faults.append(f"<{tag} {name}={value}>")
        if tag == "style" or (tag == "script" and "src" not in found):
            self.faults.append(f"<{tag}> inside the page")
        for name in ("src", "href", "action", "formaction"):
            if found.get(name, "").startswith(("http:", "https:", "//")):
                self.faults.append(f"<{tag}> asks another server: {found[name]}")
        for name in ("aria-describedby", "aria-labelledby"):
            self.references |= set(found.get(name, "").split())
        self._in_label += tag == "label"
        if tag == "label" and "for" in found:
            self.labels.add(found["for"])
        named = bool(self._in_label or found.get("aria-label") or found.get("aria-labelledby"))
        if tag in ("select", "textarea") or (
            tag == "input" and found.get("type") not in ("hidden", "submit", "button")
        ):
            self.controls.append((found.get("id", f"<{tag} {found.get('name')}>"), named))
        if tag == "img" and "alt" not in found:
            self.faults.append("<img> without alt")
        if tag == "use" and "#" in found.get("href", ""):
            self.icons.add(found["href"].split("#")[1])
        self.headings += tag == "h1"

    def handle_endtag(self, tag: str) -> None:
        self._in_label -= tag == "label"


def pages(app: Flask, ids: Ids, browser: Browser, who: str) -> list[tuple[str, str]]:
    """Return (address, text) of every page of the person's side that answers with HTML."""
    found = []
    for rule, mark in routes(app, "GET"):
        ours = mark is not None and mark.who in (who, "signed in")
        if not (ours or rule.endpoint in ("security.two_factor_setup", "security.mf_recovery_codes")):
            continue
        answer = browser.get(address(rule, ids["alfa"]))
        if answer.mimetype == "text/html" and answer.status_code == 200:
            found.append((rule.rule, answer.text))
    return found


@pytest.fixture(params=["en", "ru"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("email", "who"), [("admin@provider.example", "staff"), ("boss@alfa.example", "portal")], ids=["staff", "portal"]
)
def test_pages_render_in_both_languages_and_keep_the_house_rules(
    app: Flask, ids: Ids, log_in: LogIn, email: str, who: str, language: str
) -> None:
    browser = log_in(email)
    assert browser.send("/language", language=language).status_code == 302
    sprite = set(re.findall(r'<symbol id="([^"]+)"', (STATIC / "vendor/tabler/icons.svg").read_text("utf-8")))
    try:
        seen = pages(app, ids, browser, who)
    finally:
        browser.send("/language", language="en")
    assert len(seen) >= (14 if who == "staff" else 4)
    for path, text in seen:
        page = Page(text)
        assert not page.faults, (path, page.faults)
        if "<!doctype html>" in text:  # else a part that a page loads into itself
            assert f'<html lang="{language}">' in text, path
            assert page.headings == 1, (path, "headings", page.headings)
        doubled = {one for one in page.ids if page.ids.count(one) > 1}
        assert not doubled, (path, doubled)
        unnamed = [name for name, named in page.controls if not named and name not in page.labels]
        assert not unnamed, (path, "controls without a label", unnamed)
        assert page.references <= set(page.ids), (path, page.references - set(page.ids))
        assert page.icons <= sprite, (path, "icons that are not vendored", page.icons - sprite)


def test_every_answer_forbids_inline_code_and_foreign_hosts(app: Flask, ids: Ids, log_in: LogIn) -> None:
    browser = log_in("admin@provider.example")
    for rule, _mark in routes(app, "GET"):
        answer = browser.get(address(rule, ids["alfa"]))
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'"), rule.rule
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
    for missing in ("/nope", "/static/nope.css"):
        assert "default-src 'none'" in browser.get(missing).headers["Content-Security-Policy"]


def test_vendored_files_ask_no_other_server() -> None:
    for file in (STATIC / "vendor").rglob("*.css"):
        text = file.read_text("utf-8")
        assert "@import" not in text, file
        for address_ in re.findall(r"url\((.*?)\)", text):
            path = address_.strip("\"'")
            assert not path.startswith(("http", "//", "data:")), (file, path)
            assert path.startswith("#") or (file.parent / path).exists(), (file, path)


def test_scripts_and_styles_keep_their_address_until_they_change_and_travel_compressed(app: Flask) -> None:
    text = app.test_client().get("/log-in").text
    found = re.findall(r'(?:href|src)="(/static/[^"]+)"', text)
    assert len(found) >= 5
    for path in found:
        assert re.search(r"\?v=[0-9a-f]{10}(#|$)", path), path
    answer = app.test_client().get(found[-1], headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "max-age=31536000" in answer.headers["Cache-Control"]


def test_parameters_of_no_client_are_named_on_purpose() -> None:
    assert not {name for name in PLAIN if name.endswith("_id")}
