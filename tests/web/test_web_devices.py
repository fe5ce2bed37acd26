"""Configurations of a router on their page: versions, what differs, a text to take away; a foreign one is not there."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from clicking import Browser
from flask import Flask

from msp import db
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.remote.network import versions
from msp.remote.transport import Configuration

LogIn = Callable[[str], Browser]
Ids = dict[str, dict[str, int]]
OLD = "hostname rtr1\ninterface uplink0\n description <script>alert(1)</script>\nend\n"
NEW = OLD.replace("hostname rtr1", "hostname rtr2")


@pytest.fixture
def router(app: Flask, ids: Ids) -> int:
    """A router of alfa with two versions."""
    now = utc_now()
    with db.begin() as session:
        item = ConfigurationItem(
            client_id=ids["alfa"]["client_id"], name=f"rtr-{now.timestamp()}", kind="network", platform="frr",
            transport="network", address="192.0.2.1", created_at=now,
        )  # fmt: skip
        session.add(item)
        session.flush()
        for text, ago in ((OLD, 2), (NEW, 1)):
            versions.keep(session, item.id, Configuration(text, now - timedelta(days=ago)))
        return item.id


def test_latest_two_are_compared_and_any_other_two_can_be(log_in: LogIn, router: int) -> None:
    browser = log_in("tech@provider.example")
    assert f'href="/assets/{router}/configurations"' in browser.get(f"/assets/{router}").text
    page = browser.get(f"/assets/{router}/configurations").text
    assert '<span class="gone">-hostname rtr1\n</span>' in page
    assert '<span class="added">+hostname rtr2\n</span>' in page
    assert "<script>alert" not in page
    turned = browser.get(f"/assets/{router}/configurations?older=2&newer=1").text
    assert '<span class="added">+hostname rtr1\n</span>' in turned
    assert "They are the same." in browser.get(f"/assets/{router}/configurations?older=1&newer=1").text


@pytest.mark.parametrize("query", ["older=9", "newer=x", "older=1&newer=99999999999", "older=-1"])
def test_version_that_is_not_there_is_told(log_in: LogIn, router: int, query: str) -> None:
    answer = log_in("tech@provider.example").get(f"/assets/{router}/configurations?{query}")
    assert answer.status_code == 404


def test_version_is_given_away_as_text_and_not_to_a_foreign_client(log_in: LogIn, router: int, ids: Ids) -> None:
    answer = log_in("tech@provider.example").get(f"/assets/{router}/configurations/1.txt")
    assert answer.mimetype == "text/plain"
    assert answer.text == OLD
    foreign = ids["bravo"]["asset_id"]
    for path in (f"/assets/{foreign}/configurations", f"/assets/{foreign}/configurations/1.txt"):
        assert log_in("limited@provider.example").get(path).status_code == 404


def test_item_without_versions_says_how_one_is_made(log_in: LogIn, ids: Ids) -> None:
    page = log_in("tech@provider.example").get(f"/assets/{ids['alfa']['asset_id']}/configurations").text
    assert "frr-config-backup" in page
