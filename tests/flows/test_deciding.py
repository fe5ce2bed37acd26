"""Many assets put before a contract at once hear what each of them would hear alone."""

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from msp import db
from msp.assets import inventory
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.contracts import agreements
from msp.contracts.clauses import BreakGlass
from msp.contracts.models import Site
from msp.flows.deciding import Deciding

ALWAYS = {day: [["00:00", "24:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
NAMES, KINDS, SITES = [f"h{number}" for number in range(12)], ("server", "database"), ("Yard", "Quay")
GLASS = BreakGlass("olga", "The shop stands still.")


def terms(dice: random.Random) -> dict[str, Any]:
    """Return terms some of whose clauses and lines name assets, kinds or sites."""

    def some(words: Any, chance: float) -> list[str]:
        return dice.sample(list(words), dice.randint(1, 2)) if dice.random() < chance else []

    def covers() -> dict[str, Any]:
        return {"assets": some(NAMES, 0.4), "asset_classes": some(KINDS, 0.3), "sites": some(SITES, 0.3)}

    target = {"first_response": 30, "resolution": 240}
    line: dict[str, Any] = {"id": "1", "kind": "t_and_m", "name": "Servers", "rate": "60.00", "increment": 1,
                            "calendar": "always", "targets": {"P1": target}}  # fmt: skip
    if dice.random() < 0.3:
        line["excludes"] = covers()
    clauses = []
    for number in range(dice.randint(1, 4)):
        clause = {"id": f"1.{number}", "text": f"Word {number}.", "effect": dice.choice(("allow", "ask", "refuse"))}
        clauses.append({**clause, **covers()})
    return {"currency": "EUR", "zone": "UTC", "calendars": {"always": {"tz": "UTC", "week": ALWAYS}},
            "lines": [line], "clauses": clauses}  # fmt: skip


@pytest.mark.parametrize("glass", [None, GLASS], ids=["whole", "broken"])
def test_word_for_each_of_many_assets_is_the_word_for_it_alone(database_url: str, glass: BreakGlass | None) -> None:
    db.use(database_url)
    dice, now, heard = random.Random(7), utc_now(), Counter[tuple[str, str]]()
    for number in range(25):
        with db.begin() as session:
            client = agreements.add_client(session, key=f"c{number}", name=f"Client {number}")
            sites = [
                Site(client_id=client.id, name=name, address="A 1", latitude=52.5, longitude=13.4) for name in SITES
            ]
            session.add_all(sites)
            session.flush()
            begins = now - timedelta(days=30)
            contract = agreements.add_contract(
                session, client, reference=f"C-{number}", kind="t_and_m", currency="EUR", starts_on=begins.date(),
                ends_on=(now + timedelta(days=300)).date(),
            )  # fmt: skip
            agreements.add_version(session, contract, terms(dice), begins, "anna")
            items: list[ConfigurationItem] = []
            for name in NAMES:
                site = dice.choice([None, *sites])
                given = {"kind": dice.choice(KINDS), "site_id": site.id if site else None}
                items.append(inventory.add(session, client_id=client.id, name=name, by="anna", **given))
            together = Deciding(session, now)
            for item in items:
                said = together.decide(item, "change", actor="anna", break_glass=glass)
                alone = Deciding(session, now).decide(item, "change", actor="anna", break_glass=glass)
                assert said == alone
                heard[said.decision.effect, said.decision.rule] += 1
    assert {effect for effect, _ in heard} == {"allow", "ask", "refuse"}
    assert (("allow", "break_glass") in heard) == (glass is not None)
    assert min(heard.values()) >= 5, heard
