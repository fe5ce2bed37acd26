"""Prepaid hours: work that would go beyond them is asked for first, and only then."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from world import World

from msp.clock import utc_now
from msp.contracts import agreements
from msp.contracts.models import ContractVersion, HourBlock

CHANGE = """\
name: own
version: "1"
action_class: {kind}
steps:
  - name: touch
    do: echo done >> effects
    check: test -e effects
"""


def on_block(world: World, minutes: int) -> None:
    """Let alfa's first line be prepaid, with so many minutes left of a block of 600."""
    with world.database.begin() as session:
        contract = agreements.contract_by_reference(session, "C-alfa")
        version = session.query(ContractVersion).filter_by(contract_id=contract.id).one()
        terms: dict[str, Any] = {**version.terms, "lines": [dict(line) for line in version.terms["lines"]]}
        terms["lines"][0] |= {"kind": "block_hours", "overage_rate": "95.00", "increment": 15}
        of_alfa = ContractVersion.contract_id == contract.id  # past the guard: a version never changes
        session.execute(update(ContractVersion).where(of_alfa).values(terms=terms))
        today = (utc_now() - timedelta(days=1)).date()
        session.add(HourBlock(contract_id=contract.id, purchased_on=today, minutes=600, balance_minutes=minutes))


@pytest.mark.parametrize(("left", "state"), [(15, "queued"), (14, "awaiting_approval"), (0, "awaiting_approval")])
def test_a_change_beyond_the_block_waits_for_the_client(world: World, left: int, state: str) -> None:
    on_block(world, left)
    run = world.request(world.playbook(CHANGE.format(kind="change")), ticket_id=world.ticket())
    assert run.state == state
    if state == "awaiting_approval":
        assert run.decision["rule"] == "prepaid"
        assert "95.00 EUR an hour" in run.decision["text"]


def test_reading_costs_nothing_and_is_never_asked_for(world: World) -> None:
    on_block(world, 0)
    assert world.request(world.playbook(CHANGE.format(kind="read")), ticket_id=world.ticket()).state == "queued"


def test_work_that_has_begun_is_not_stopped_for_money(world: World) -> None:
    on_block(world, 15)
    run = world.request(world.playbook(CHANGE.format(kind="change")), ticket_id=world.ticket())
    with world.database.begin() as session:
        session.execute(update(HourBlock).values(balance_minutes=0))
    assert world.drive(run.id).state == "succeeded"
