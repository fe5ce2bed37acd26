"""A draft is signed once, also by two who press at the same moment."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import select, update

from msp.contracts import agreements
from msp.contracts.models import Contract
from msp.db import Database
from msp.errors import Conflict
from msp.evidence import Evidence
from msp.flows import signing

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TERMS: dict[str, Any] = {
    "currency": "EUR",
    "calendars": {},
    "lines": [{"id": "1", "kind": "t_and_m", "name": "Servers", "rate": "60.00"}],
    "clauses": [],
}


def test_draft_that_was_signed_after_it_was_read_is_not_signed_again(database: Database) -> None:
    with database.begin() as session:
        client = agreements.add_client(session, key="alfa", name="Alfa")
        draft = agreements.add_contract(
            session, client, reference="Q-1", kind="t_and_m", currency="EUR", starts_on=date(2026, 4, 1), draft=True
        )
        agreements.add_version(session, draft, TERMS, datetime(2026, 4, 1, tzinfo=UTC), "anna", now=NOON)
        number = draft.id
    with database.begin() as session:
        seen = session.get_one(Contract, number)
        assert seen.draft
        # what a colleague's transaction commits while ours waits for the lock: the session does not see it by itself
        session.connection().execute(update(Contract.__table__).where(Contract.id == number).values(draft=False))  # type: ignore[arg-type]
        with pytest.raises(Conflict, match="Q-1 is signed already"):
            signing.sign(session, seen, by="olga", now=NOON)
        assert session.scalars(select(Evidence).where(Evidence.kind == "contract.signed")).all() == []
