"""After a run: again where it failed, and what is in doubt is settled by a word or by a look."""

from collections.abc import Callable

import pytest
from clicking import Browser
from sqlalchemy import select

from msp import db
from msp.clock import utc_now
from msp.engine.models import EffectClaim
from msp.remote.models import Run, RunHost

LogIn = Callable[[str], Browser]
Ids = dict[str, dict[str, int]]

pytestmark = pytest.mark.usefixtures("engine")


def ended(ids: Ids, outcomes: dict[str, str]) -> tuple[int, dict[str, int]]:
    """Store a dry run that ended so on some items: (run, host by item's name)."""
    alfa, now = ids["alfa"], utc_now()
    with db.begin() as session:
        run = Run(
            client_id=alfa["client_id"], ticket_id=alfa["ticket_id"], playbook="free-disk-space",
            playbook_version="1.0", digest="ab" * 32, document="{}", action_class="change", dry_run=True,
            actor="tech@provider.example", state="failed", requested_at=now, started_at=now, finished_at=now,
            decision={"effect": "allow"}, parallel=50,
        )  # fmt: skip
        session.add(run)
        session.flush()
        hosts = {}
        for position, (name, outcome) in enumerate(outcomes.items()):
            host = RunHost(
                run_id=run.id, asset_id=alfa["asset_id"] + position, name=name, position=position, state="finished",
                outcome=outcome,
            )  # fmt: skip
            session.add(host)
            session.flush()
            hosts[name] = host.id
            if outcome == "lost":
                claim = EffectClaim(
                    run_id=run.id, host_id=host.id, step=1, phase="do", state="in_doubt", worker="w", claimed_at=now
                )
                session.add(claim)
                run.state = "in_doubt"
        return run.id, hosts


def assets_of(run_id: int) -> list[int | None]:
    with db.read() as session:
        return list(session.scalars(select(RunHost.asset_id).where(RunHost.run_id == run_id)))


def test_it_runs_again_only_where_it_failed(log_in: LogIn, ids: Ids) -> None:
    browser = log_in("tech@provider.example")
    run_id, _ = ended(ids, {"bad": "failed", "good": "ok"})
    assert "Run again on 1 host" in browser.get(f"/runs/{run_id}").text
    answer = browser.send(f"/runs/{run_id}/again")
    assert answer.status_code == 303
    assert assets_of(int(answer.location.rpartition("/")[2])) == [ids["alfa"]["asset_id"]]


def test_nothing_to_run_again_is_said_on_the_page(log_in: LogIn, ids: Ids) -> None:
    browser = log_in("tech@provider.example")
    run_id, _ = ended(ids, {"good": "ok"})
    answer = browser.send(f"/runs/{run_id}/again")
    assert answer.status_code == 422
    assert "No host of this run can be run again." in answer.text


def test_doubt_offers_both_answers_and_a_look_that_changes_nothing(log_in: LogIn, ids: Ids) -> None:
    browser = log_in("tech@provider.example")
    run_id, hosts = ended(ids, {"lost": "lost"})
    page = browser.get(f"/runs/{run_id}/hosts/{hosts['lost']}").text
    assert all(words in page for words in ("It ran", "It did not run", "Probe now"))
    answer = browser.send(f"/runs/{run_id}/hosts/{hosts['lost']}/look")
    assert answer.status_code == 303
    with db.read() as session:
        looking = session.get_one(Run, int(answer.location.rpartition("/")[2]))
        assert looking.dry_run
        claim = session.scalars(select(EffectClaim).where(EffectClaim.run_id == run_id)).one()
        assert claim.state == "in_doubt", "a look settles nothing by itself"
    address = f"/runs/{run_id}/hosts/{hosts['lost']}/resolve"
    assert browser.send(address, step="1", phase="do", said="not_ran", note="seen").status_code == 303
    with db.read() as session:
        claim = session.scalars(select(EffectClaim).where(EffectClaim.run_id == run_id)).one()
        assert (claim.state, claim.resolution) == ("resolved", "not_ran")


def test_a_box_that_was_unticked_stays_so_beside_an_error(log_in: LogIn, ids: Ids) -> None:
    browser = log_in("tech@provider.example")
    form = {"asset": ids["alfa"]["asset_id"], "filled": "1", "p-service": "not valid;", "p-wait_seconds": "7"}
    answer = browser.send("/runs/new/restart-service", **form)
    assert answer.status_code == 422
    assert 'name="p-wait_seconds" type="number" value="7"' in answer.text
    boxes = [part.partition(">")[0] for part in answer.text.split('type="checkbox" name="p-')[1:]]
    assert boxes
    assert not any("checked" in box for box in boxes)
