"""Pictures of screens: beside the phase that took them, large on a page of their own, with what proves them."""

from collections.abc import Callable

import pytest
from clicking import Browser
from seed import PICTURE

from msp import db
from msp.remote.models import RunPicture

LogIn = Callable[[str], Browser]
Ids = dict[str, dict[str, int]]


@pytest.fixture
def browser(log_in: LogIn) -> Browser:
    return log_in("tech@provider.example")


@pytest.fixture
def place(ids: Ids) -> str:
    return f"/runs/{ids['alfa']['run_id']}/pictures/{ids['alfa']['picture_id']}"


def test_run_shows_thumbnails_that_lead_to_the_large_picture(browser: Browser, ids: Ids, place: str) -> None:
    cell = browser.get(f"/runs/{ids['alfa']['run_id']}/hosts/{ids['alfa']['run_host_id']}?step=1").text
    assert f'href="{place}"' in cell
    assert f'src="{place}.png"' in cell
    page = browser.get(place).text
    assert f'src="{place}.png"' in page
    with db.read() as session:
        picture = session.get_one(RunPicture, ids["alfa"]["picture_id"])
        assert picture.sha256 in page


def test_picture_is_given_away_byte_by_byte_and_nowhere_but_in_its_run(browser: Browser, ids: Ids, place: str) -> None:
    answer = browser.get(f"{place}.png")
    assert (answer.data, answer.mimetype) == (PICTURE, "image/png")
    assert "private" in answer.headers["Cache-Control"]
    other = f"/runs/{ids['bravo']['run_id']}/pictures/{ids['alfa']['picture_id']}"
    assert [browser.get(address).status_code for address in (other, f"{other}.png")] == [404, 404]


def test_client_does_not_see_pictures(log_in: LogIn, place: str) -> None:
    contact = log_in("user@alfa.example")
    assert contact.get(f"{place}.png").status_code in (302, 403, 404)
