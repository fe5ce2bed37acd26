"""The rule of host keys, the same on pages and on the command line: the first one alone, another one by two people."""

import pytest
from click.testing import CliRunner
from sqlalchemy import select
from sqlalchemy.orm import Session

from msp import db
from msp.assets import host_keys, inventory
from msp.assets.models import ConfigurationItem, HostKey, HostKeyChange
from msp.contracts.models import Client
from msp.db import Database
from msp.errors import Conflict, Misconfigured, MspError, Refused
from msp.evidence import Evidence

OLD, NEW, OTHER = ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + letter * 43 for letter in "ABC")
WHY = "read at the console by Anna"


@pytest.fixture
def item(database: Database) -> int:
    """A host whose key nobody has pinned yet."""
    with db.begin() as session:
        client = Client(key="alfa", name="Alfa")
        session.add(client)
        session.flush()
        return inventory.add(session, client_id=client.id, name="srv", kind="server", by="test").id


def pinned(session: Session, item: int) -> list[str]:
    return [key.public_key for key in inventory.pinned(session, item)]


def asked(item: int, key: str, **how: object) -> HostKey | HostKeyChange:
    with db.begin() as session:
        return host_keys.pin(session, session.get_one(ConfigurationItem, item), key, **{"by": "anna"} | how)  # type: ignore[arg-type]


def test_first_key_counts_at_once_and_again_changes_nothing(item: int) -> None:
    first, again = asked(item, OLD), asked(item, OLD + " comment")
    assert isinstance(first, HostKey)
    assert isinstance(again, HostKey)
    assert first.id == again.id


def test_another_key_waits_for_a_second_person(item: int) -> None:
    asked(item, OLD)
    with pytest.raises(Misconfigured, match="reason"):
        asked(item, NEW, reason="ok")
    change = asked(item, NEW, reason=WHY)
    assert isinstance(change, HostKeyChange)
    for wrong, error in (({"by": "anna"}, Refused), ({"by": "boris", "key": OTHER}, Conflict)):
        with pytest.raises(error):
            asked(item, **{"key": NEW, "change_id": change.id} | wrong)  # type: ignore[arg-type]
    with db.read() as session:
        assert pinned(session, item) == [OLD]
    for _ in range(2):  # a command that is repeated says the same
        asked(item, NEW, change_id=change.id, by="boris")
    with db.read() as session:
        assert pinned(session, item) == [NEW]


@pytest.mark.parametrize("waits", [False, True])
def test_broken_glass_counts_at_once_and_is_told_apart(item: int, *, waits: bool) -> None:
    asked(item, OLD)
    other = asked(item, OTHER, reason=WHY)
    if waits:
        asked(item, NEW, reason=WHY, by="boris")
    with pytest.raises(Misconfigured, match="reason"):
        asked(item, NEW, break_glass="now")
    asked(item, NEW, break_glass="the host was reinstalled at night")
    with db.read() as session:
        assert pinned(session, item) == [NEW]
        forced, *_ = host_keys.history(session, item)
        assert (forced.state, forced.decided_by) == ("forced", "anna")
        assert "at night" in forced.reason + forced.note
        assert session.get_one(HostKeyChange, other.id).state == "outdated"
        proof = session.scalars(select(Evidence).where(Evidence.kind == "host_key.break_glass")).one()
        assert "at night" in proof.data["reason"] + proof.data["note"]


def test_command_honours_the_rule(item: int, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from msp import console
    from msp.cli.assets import asset

    monkeypatch.setattr(console, "use_database", lambda: None)  # the test's own is open

    def said(*words: str) -> str:
        done = CliRunner().invoke(asset, ["pin", "--client", "alfa", "srv", *words])
        if isinstance(done.exception, MspError):
            return done.exception.what
        assert done.exit_code == 0, done.output
        return done.output

    assert "Pinned SHA256:" in said(OLD)
    assert "reason is missing" in said(NEW)
    assert "as change 1; the old pin counts" in said(NEW, "--reason", WHY)
    assert "yourself" in said(NEW, "--approval", "1")
    assert "exclude each other" in said(NEW, "--approval", "1", "--reason", WHY)
    with db.read() as session:
        assert pinned(session, item) == [OLD]
    assert "Pinned" in said(NEW, "--break-glass", "the host was reinstalled at night")
    assert asked(item, OTHER, reason=WHY)
    assert "Pinned" in said(OTHER, "--approval", "2")
    with db.read() as session:
        assert pinned(session, item) == [OTHER]
        assert inventory.pinned(session, item)[0].pinned_by == "anna, cli"
