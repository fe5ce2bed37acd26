"""Log-in: the password, the second factor, recovery codes that work once, and what slows guessing down."""

import html
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import seed
from clicking import Browser
from flask import Flask

from msp import db, evidence
from msp.people import users
from msp.settings import Settings
from msp_web.app import create_app

LogIn = Callable[[str], Browser]


def person(app: Flask, email: str) -> None:
    with db.begin() as session:
        users.add(session, email=email, name="Test", password=seed.PASSWORD, roles=["technician"], by="test")


def enter(app: Flask, email: str, password: str = seed.PASSWORD) -> tuple[Browser, int, str]:
    browser: Browser = app.test_client()  # type: ignore[assignment]
    browser.get("/log-in")
    answer = browser.send("/log-in", email=email, password=password)
    return browser, answer.status_code, answer.text


def totp(secret: str, at: float) -> str:
    """The code of an authenticator app (RFC 6238), written anew so that it does not agree by sharing code."""
    import base64
    import hashlib
    import hmac
    import struct

    padded = secret.upper() + "=" * (-len(secret) % 8)
    digest = hmac.new(base64.b32decode(padded), struct.pack(">Q", int(at) // 30), hashlib.sha1).digest()
    start = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[start : start + 4])[0] & 0x7FFFFFFF) % 1_000_000:06d}"


def test_a_wrong_password_and_an_unknown_address_read_the_same(app: Flask) -> None:
    _, status, wrong = enter(app, "tech@provider.example", "not the password")
    _, other, unknown = enter(app, "nobody@provider.example", "not the password")
    assert (status, other) == (200, 200)
    said = [re.findall(r"(?:invalid-feedback|notice tone-red)[^>]*>(?:<span>)?([^<]+)", t) for t in (wrong, unknown)]
    assert said[0]
    assert said[0] == said[1]


def test_a_log_in_is_evidence_and_leads_back_to_the_page_that_was_asked_for(app: Flask) -> None:
    browser: Browser = app.test_client()  # type: ignore[assignment]
    browser.get("/log-in?next=/contracts/")
    answer = browser.send("/log-in?next=/contracts/", email="tech@provider.example", password=seed.PASSWORD)
    assert answer.location.endswith("/contracts/")
    with db.read() as session:
        told = [e for e in session.query(evidence.Evidence) if e.kind == "user.logged_in"]
        assert told[-1].actor == "tech@provider.example"


@pytest.mark.parametrize("evil", ["https://evil.example/", "//evil.example", "/\\evil.example"])
def test_nobody_is_sent_elsewhere_after_log_in_or_a_change_of_language(app: Flask, evil: str) -> None:
    browser: Browser = app.test_client()  # type: ignore[assignment]
    browser.get("/log-in")
    answer = browser.send(f"/log-in?next={evil}", email="tech@provider.example", password=seed.PASSWORD, next=evil)
    assert answer.location is None or re.match(r"/(?![/\\])", answer.location), answer.location
    browser.get("/account")
    assert browser.send("/language", language="en", next=evil).location == "/"


def test_second_factor_is_asked_for_and_a_recovery_code_works_once(app: Flask) -> None:
    person(app, "careful@provider.example")
    browser, status, _ = enter(app, "careful@provider.example")
    assert status == 302
    page = browser.send("/account/second-factor", setup="authenticator").text
    secret = re.sub(r"[^A-Z2-7]", "", re.search(r'<p class="mono">([^<]+)</p>', page)[1])  # type: ignore[index]
    assert "<svg" in page
    assert "data:image" not in page
    action = html.unescape(re.search(r'action="([^"]*second-factor/[^"]+)"', page)[1])  # type: ignore[index]
    assert browser.send(action, code=totp(secret, time.time())).status_code == 302
    codes = re.findall(r"<li>([^<]+)</li>", browser.send("/account/recovery-codes", generate_new_codes="1").text)
    assert len(codes) == 8
    with db.read() as session:
        stored = users.by_email(session, "careful@provider.example")
        assert secret not in str(stored.tf_totp_secret), "the secret is stored in the clear"
        assert codes[0] not in str(stored.mf_recovery_codes), "recovery codes are stored in the clear"

    second, status, _ = enter(app, "careful@provider.example")
    assert status == 302
    assert second.get("/account").status_code == 302, "the password alone opened the account"
    second.get("/log-in/code")
    assert second.send("/log-in/code", code="000000").status_code == 200
    assert second.send("/log-in/code", code=totp(secret, time.time())).status_code == 302
    assert second.get("/account").status_code == 200

    for attempt, works in ((1, True), (2, False)):
        third, _, _ = enter(app, "careful@provider.example")
        third.get("/log-in/recovery-code")
        third.send("/log-in/recovery-code", code=codes[0])
        assert (third.get("/account").status_code == 200) is works, f"use {attempt} of a recovery code"


def test_a_new_password_ends_other_sessions_and_keeps_this_one(app: Flask) -> None:
    person(app, "mover@provider.example")
    here, _, _ = enter(app, "mover@provider.example")
    there, _, _ = enter(app, "mover@provider.example")
    here.get("/account")
    wrong = here.send("/account/password", current="wrong", new="another long one", again="another long one")
    assert wrong.status_code == 422
    done = here.send("/account/password", current=seed.PASSWORD, new="another long one", again="another long one")
    assert done.status_code == 302
    assert here.get("/account").status_code == 200
    assert there.get("/account").status_code == 302
    assert enter(app, "mover@provider.example", "another long one")[1] == 302


def test_a_person_locked_out_is_out_at_once(app: Flask) -> None:
    person(app, "leaver@provider.example")
    browser, _, _ = enter(app, "leaver@provider.example")
    assert browser.get("/account").status_code == 200
    with db.begin() as session:
        users.by_email(session, "leaver@provider.example").active = False
    assert browser.get("/account").status_code == 302
    assert enter(app, "leaver@provider.example")[1] == 200


def test_an_administrator_manages_people_but_does_not_lock_out_the_last_self(app: Flask, log_in: LogIn) -> None:
    browser = log_in("admin@provider.example")
    browser.get("/admin/users/new")
    made = browser.send(
        "/admin/users/new", email="new@provider.example", name="New", password=seed.PASSWORD, role="technician"
    )
    assert made.status_code == 302
    changed = browser.send(made.location, role="dispatcher", active="1", grant="1")
    assert changed.status_code == 302
    with db.read() as session:
        added = users.by_email(session, "new@provider.example")
        assert users.actor_of(session, added).granted == {1}
        assert {role.name for role in added.roles} == {"dispatcher"}
        me = users.by_email(session, "admin@provider.example").id
    assert browser.send(f"/admin/users/{me}", role="technician", active="1").status_code == 403
    assert browser.send(made.location, role="client user", active="1").status_code == 422


def test_an_administrator_of_some_clients_makes_no_colleague_who_sees_all(app: Flask, log_in: LogIn) -> None:
    browser = log_in("limited@provider.example")
    browser.get("/admin/users/new")
    form = {"name": "New", "password": seed.PASSWORD}
    sly = browser.send("/admin/users/new", email="sly@provider.example", role="admin", **form)
    assert sly.status_code == 403
    foreign = browser.send("/admin/users/new", email="sly@bravo.example", role="client user", client_id="2", **form)
    assert foreign.status_code == 404
    own = browser.send("/admin/users/new", email="new@alfa.example", role="client user", client_id="1", **form)
    assert own.status_code == 302


def test_guessing_is_slowed_down_by_address_and_by_account(tmp_path: Path) -> None:
    settings = seed.prepare(tmp_path, rate_limit="15 per minute", secure_cookies=True)
    with db.begin() as session:
        users.add(session, email="a@b.example", name="A", password=seed.PASSWORD, roles=["admin"], by="test")
    app = create_app(settings)
    app.test_client_class = Browser
    browser: Browser = app.test_client()  # type: ignore[assignment]
    base = "https://localhost"
    page = browser.get("/log-in", base_url=base)
    assert page.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    cookie = page.headers["Set-Cookie"]
    assert "Secure" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie

    def attempt(email: str) -> int:
        form = {"csrf_token": browser.token, "email": email, "password": "wrong wrong wrong"}
        headers = {"Referer": f"{base}/log-in"}
        return browser.post("/log-in", data=form, base_url=base, headers=headers).status_code

    by_account = [attempt("a@b.example") for _ in range(11)]
    assert by_account == [200] * 10 + [429]
    by_address = [attempt(f"{n}@b.example") for n in range(6)]
    assert by_address[-1] == 429
    assert by_address[0] == 200


def test_json_leads_nobody_past_the_limits_of_guessing(app: Flask) -> None:
    browser: Browser = app.test_client()  # type: ignore[assignment]
    browser.get("/log-in")
    headers, wrong = {"X-CSRFToken": browser.token}, {"email": "json@provider.example", "password": "wrong wrong wrong"}
    for kind in ("application/json", "application/x+json", "Application/JSON; charset=utf-8"):
        answer = browser.post("/log-in", data=json.dumps(wrong), content_type=kind, headers=headers)
        assert answer.status_code == 415
    person(app, "json@provider.example")
    asked = headers | {"Accept": "application/json"}
    right = [browser.post("/log-in", data=wrong, headers=asked).status_code for _ in range(11)]
    assert right == [400] * 10 + [429]
    nobody = [browser.post("/log-in", data={"password": "x"}, headers=headers).status_code for _ in range(11)]
    assert nobody == [200] * 10 + [429]


def test_a_log_in_that_is_answered_in_json_is_not_counted_as_failed(app: Flask) -> None:
    person(app, "program@provider.example")
    for _ in range(12):
        browser: Browser = app.test_client()  # type: ignore[assignment]
        browser.get("/log-in")
        headers = {"X-CSRFToken": browser.token, "Accept": "application/json"}
        form = {"email": "program@provider.example", "password": seed.PASSWORD}
        assert browser.post("/log-in", data=form, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/account/password", "/log-in/again"])
def test_who_is_logged_in_guesses_the_own_password_no_faster(app: Flask, path: str) -> None:
    email = f"guess{len(path)}@provider.example"
    person(app, email)
    browser, _, _ = enter(app, email)
    browser.get("/account")
    form = {"current": "wrong", "new": "new password", "again": "new password", "password": "wrong"}
    answers = [browser.send(path, **form).status_code for _ in range(11)]
    assert len(set(answers[:10])) == 1
    assert answers[0] in (200, 422)
    assert answers[10] == 429
    other, _, _ = enter(app, "tech@provider.example")
    assert other.send(path, **form).status_code == answers[0]


def test_settings_without_a_key_file_are_refused(tmp_path: Path) -> None:
    from msp.errors import Misconfigured

    with pytest.raises(Misconfigured, match="key file"):
        create_app(Settings(data=tmp_path))


@pytest.mark.parametrize(
    "elsewhere",
    [
        "//evil.example/x",
        "/\\evil.example",
        "/\t/evil.example/x",
        "/\n/evil.example",
        "/\r/evil.example",
        "\t//evil.example",
        "https://evil.example",
        "/\x0b/evil.example",
        "/\x85/evil.example",
        "/\u200b/evil.example",
        "/\u2028/evil.example",
    ],
)
def test_choosing_a_language_leads_nobody_elsewhere(app: Flask, elsewhere: str) -> None:
    browser: Browser = app.test_client()  # type: ignore[assignment]
    browser.get("/log-in")
    assert browser.send("/language", language="en", next=elsewhere).location == "/"
    assert (
        browser.send("/language", language="en", next="/reports/?month=2026-01").location == "/reports/?month=2026-01"
    )
