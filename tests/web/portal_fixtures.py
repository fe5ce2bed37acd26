"""An installation of its own for the portal's tests: they decide and close things. Import these into a test module."""

import portal_seed
import pytest
import seed
from clicking import Browser
from flask import Flask

from msp import db
from msp.settings import Settings
from msp_web.app import create_app


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return seed.prepare(tmp_path_factory.mktemp("portal"), rate_limit="1000 per minute")


@pytest.fixture(scope="module")
def ids(settings: Settings) -> dict[str, dict[str, int]]:
    db.use(settings.database_url)
    return portal_seed.prepare(settings)


@pytest.fixture(scope="module")
def application(settings: Settings, ids: dict[str, dict[str, int]]) -> Flask:
    app = create_app(settings)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.test_client_class = Browser
    return app


@pytest.fixture(scope="module")
def known() -> dict[str, str]:
    return {}


@pytest.fixture
def things(ids: dict[str, dict[str, int]]) -> dict[str, int]:
    return ids["alfa"]
