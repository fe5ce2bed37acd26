"""A playbook on many items: each row says its clause before anything is queued, each client gets a run of its own."""

import re
from collections.abc import Callable, Iterator

import pytest
from clicking import Browser
from sqlalchemy import func, select

from msp import db
from msp.assets.models import ConfigurationItem
from msp.remote.models import Run, RunHost

LogIn = Callable[[str], Browser]
Ids = dict[str, dict[str, int]]

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def browser(log_in: LogIn) -> Browser:
    return log_in("tech@provider.example")


@pytest.fixture
def switch(ids: Ids) -> Iterator[int]:
    """An item of the first client for which no playbook of Linux is meant."""
    query = select(ConfigurationItem).where(ConfigurationItem.client_id == ids["alfa"]["client_id"])
    query = query.where(ConfigurationItem.kind == "network").order_by(ConfigurationItem.id).limit(1)  # others add some
    with db.begin() as session:
        item = session.scalars(query).one()
        before, item.platform = item.platform, "ios"
    yield item.id
    with db.begin() as session:
        session.get_one(ConfigurationItem, item.id).platform = before


def servers(client: int | None = None) -> list[int]:
    with db.read() as session:
        query = select(ConfigurationItem.id).where(ConfigurationItem.kind == "server").order_by(ConfigurationItem.id)
        return list(session.scalars(query if client is None else query.where(ConfigurationItem.client_id == client)))


def runs() -> int:
    with db.read() as session:
        return session.scalar(select(func.count()).select_from(Run)) or 0


def listed(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))


def answers(page: str) -> dict[int, str]:
    """Return what each row of a preview says, by asset."""
    found = re.findall(r'data-asset="(\d+)" data-effect="(\w+)"', page)
    return {int(asset): effect for asset, effect in found}


def test_items_of_a_filter_are_ticked_or_taken_all(browser: Browser, ids: Ids, switch: int) -> None:
    client = ids["alfa"]["client_id"]
    page = browser.get(f"/runs/bulk/?client={client}&kind=server").text
    offered = {int(number) for number in re.findall(r'name="asset" value="(\d+)"', page)}
    assert offered == set(servers(client))
    every = browser.get(f"/runs/bulk/?client={client}&kind=server&every=1").text
    sent = re.search(r'name="assets" value="([0-9,]+)"', every)
    assert sent is not None
    assert {int(number) for number in sent[1].split(",")} == set(servers(client))
    some = browser.get(f"/runs/bulk/?asset={servers(client)[0]}&book=disk").text
    assert "/runs/bulk/free-disk-space" in some
    assert "restart-service" not in some
    mixed = browser.get(f"/runs/bulk/?client={client}&every=1&book=disk").text
    assert "/runs/bulk/free-disk-space" not in mixed, "it is meant for Linux, and a switch is among them"


def test_each_row_says_its_clause_and_nothing_is_queued(browser: Browser, ids: Ids) -> None:
    before = runs()
    both = servers()
    dry = browser.send("/runs/bulk/restart-service", assets=listed(both))
    assert dry.status_code == 200
    assert answers(dry.text) == dict.fromkeys(both, "allow")
    assert "clause 4.1" in dry.text
    real = browser.send("/runs/bulk/restart-service", assets=listed(both), dry_run="0")
    assert answers(real.text) == dict.fromkeys(both, "refuse")
    assert real.text.count("clause 4.3") == len(both)
    assert runs() == before


def test_each_client_gets_a_run_and_a_dry_run_leads_to_the_real_one(browser: Browser, ids: Ids) -> None:
    both = servers()
    form = {"assets": listed(both), "p-service": "nginx"}
    answer = browser.send("/runs/bulk/restart-service/ask", **form, dry_run="1")
    assert answer.status_code == 303
    page = browser.get(answer.location).text
    numbers = [int(number) for number in re.findall(r"run=(\d+)", answer.location)]
    with db.read() as session:
        made = list(session.scalars(select(Run).where(Run.id.in_(numbers))))
        assert sorted(run.client_id or 0 for run in made) == sorted(ids[key]["client_id"] for key in ("alfa", "bravo"))
        assert all(run.dry_run and run.state == "queued" and run.ticket_id for run in made)
        hosts = session.scalars(select(RunHost.asset_id).where(RunHost.run_id.in_(numbers)))
        assert sorted(number for number in hosts if number) == both
    assert "Go on to the real run" in page
    assert 'name="p-service" value="nginx"' in page
    refused = browser.send("/runs/bulk/restart-service/ask", **form, dry_run="0")
    numbers = [int(number) for number in re.findall(r"run=(\d+)", refused.location)]
    with db.read() as session:
        assert set(session.scalars(select(Run.state).where(Run.id.in_(numbers)))) == {"refused"}


def test_a_foreign_clients_item_among_others_is_not_there(log_in: LogIn, ids: Ids) -> None:
    before = runs()
    limited = log_in("limited@provider.example")
    both = listed(servers())
    for path in ("/runs/bulk/free-disk-space", "/runs/bulk/free-disk-space/ask"):
        answer = limited.send(path, assets=both, dry_run="1")
        assert answer.status_code == 404
        assert "bravo" not in answer.text.lower()
    asset = ids["bravo"]["asset_id"]
    assert limited.get(f"/runs/bulk/?asset={asset}").status_code == 404
    page = limited.get("/runs/bulk/?every=1&kind=server").text
    assert "alfa-srv-fs1" in page
    assert "bravo" not in page.lower()
    assert limited.get(f"/runs/bulk/asked?run={ids['bravo']['run_id']}").status_code == 404
    assert runs() == before


def test_a_wrong_parameter_queues_nothing_and_keeps_what_was_typed(browser: Browser) -> None:
    before = runs()
    form = {"assets": listed(servers()), "p-service": "kept; rm -rf", "dry_run": "1", "filled": "1"}
    answer = browser.send("/runs/bulk/restart-service/ask", **form)
    assert answer.status_code == 422
    assert "kept; rm -rf" in answer.text
    assert len(answers(answer.text)) == len(servers())
    assert runs() == before


@pytest.mark.parametrize("assets", ["", "x", "0", "9" * 30, "1,,2;3"])
def test_a_choice_that_names_nothing_is_told(browser: Browser, assets: str) -> None:
    answer = browser.send("/runs/bulk/free-disk-space", assets=assets)
    assert answer.status_code in (404, 422)


def test_items_that_a_playbook_is_not_meant_for_are_left_out(browser: Browser, ids: Ids, switch: int) -> None:
    server = ids["alfa"]["asset_id"]
    form = {"assets": f"{server},{switch}", "dry_run": "1"}
    answer = browser.send("/runs/bulk/free-disk-space/ask", **form)
    assert answer.status_code == 303
    number = int(answer.location.rpartition("=")[2])
    with db.read() as session:
        assert list(session.scalars(select(RunHost.asset_id).where(RunHost.run_id == number))) == [server]
    assert browser.send("/runs/bulk/free-disk-space/ask", assets=f"{switch}", dry_run="1").status_code == 422
    assert browser.send("/runs/bulk/free-disk-space/ask", assets=f"{switch}", dry_run="1", unfit="1").status_code == 303
