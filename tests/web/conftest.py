"""One seeded installation for all page tests, and browsers of every role that are already logged in."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

sys.path.insert(0, str(Path(__file__).parent))

import seed
from clicking import Browser

from msp import db
from msp.settings import Settings
from msp_web.app import create_app


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return seed.prepare(tmp_path_factory.mktemp("web"), rate_limit="1000 per minute")


@pytest.fixture(scope="session")
def ids(settings: Settings) -> dict[str, dict[str, int]]:
    db.use(settings.database_url)
    with db.begin() as session:
        return seed.fill(session)


@pytest.fixture(scope="session")
def engine(settings: Settings, ids: dict[str, dict[str, int]]) -> None:
    """The tables of the durable engine, into which a run or a test is queued."""
    from msp.engine import runtime

    runtime.prepare(settings.database_url)


@pytest.fixture(scope="session")
def application(settings: Settings, ids: dict[str, dict[str, int]]) -> Flask:
    app = create_app(settings)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.test_client_class = Browser
    return app


@pytest.fixture
def app(application: Flask, settings: Settings) -> Flask:
    db.use(settings.database_url)  # another test may have put its own database in use
    return application


@pytest.fixture
def log_in(app: Flask, known: dict[str, str]) -> Callable[[str], Browser]:
    """Return a browser that is logged in; each person logs in once and is remembered by the session cookie."""

    def logged_in(email: str) -> Browser:
        browser = app.test_client()
        if email not in known:
            browser.get("/log-in")
            answer = browser.send("/log-in", email=email, password=seed.PASSWORD)
            assert answer.status_code == 302, answer.text
            cookie = browser.get_cookie("msp_session")
            assert cookie is not None
            known[email] = cookie.value
        browser.set_cookie("msp_session", known[email])
        return browser  # type: ignore[return-value]

    return logged_in


@pytest.fixture(scope="session")
def known() -> dict[str, str]:
    return {}
