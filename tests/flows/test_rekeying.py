"""A new master key: killed at any instant the vault opens, and begun again it is finished."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from world import ROOT, World

from msp import master_key
from msp.errors import Conflict, Misconfigured
from msp.flows import rekeying
from msp.settings import Settings
from msp.vault import Vault


def value(settings: Settings, world: World) -> str:
    with world.database.begin() as session:
        return Vault.from_file(settings.key_path).get(session, "token", client_id=world.alfa).value


@pytest.fixture
def kept(world: World) -> World:
    """A world with a secret of which one value is in force and another is next."""
    vault = Vault.from_file(world.settings.key_path)
    with world.database.begin() as session:
        vault.put(session, "token", "planted-token-1", by="test", client_id=world.alfa)
        vault.stage(session, "token", "planted-token-2", by="test", client_id=world.alfa)
    return world


def command(world: World, *words: str, crash_at: str = "") -> "subprocess.CompletedProcess[bytes]":
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MSP_")}
    if crash_at:
        environment["MSP_TEST_CRASH_AT"] = crash_at
    line = [sys.executable, "-m", "msp", "--config", str(world.config), "vault", "rekey", *words]
    return subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["rekey.begun", "rekey.wrapped"])
def test_killed_at_any_instant_the_vault_opens_and_the_change_can_be_finished(kept: World, point: str) -> None:
    path = kept.settings.key_path
    before = path.read_text()
    assert command(kept, crash_at=point).returncode == -signal.SIGKILL
    assert master_key.fresh_path(path).exists()
    assert value(kept.settings, kept) == "planted-token-1"
    done = command(kept)
    assert done.returncode == 0, done.stderr
    assert not master_key.fresh_path(path).exists()
    assert path.read_text() != before
    assert path.stat().st_mode & 0o777 == 0o600
    assert value(kept.settings, kept) == "planted-token-1"
    old = Vault(bytes.fromhex(before.strip()))
    with pytest.raises(Misconfigured, match="does not open"), kept.database.begin() as session:
        old.get(session, "token", client_id=kept.alfa)
    assert b"planted" not in done.stdout + done.stderr


def test_every_secret_and_version_is_sealed_anew_under_new_data_keys(kept: World) -> None:
    done = rekeying.rekey(kept.settings, by="test", data_keys=True)
    assert done.secrets >= 3
    assert done.kept.stat().st_mode & 0o777 == 0o600
    vault = Vault.from_file(kept.settings.key_path)
    with kept.database.begin() as session:
        assert vault.get(session, "token", client_id=kept.alfa, which="next").value == "planted-token-2"
        vault.promote(session, "token", by="test", client_id=kept.alfa)
        assert vault.get(session, "token", client_id=kept.alfa).value == "planted-token-2"
        assert vault.get(session, "token", client_id=kept.alfa, which="previous").value == "planted-token-1"


def test_a_vault_that_was_opened_before_goes_on_after_the_change(kept: World) -> None:
    opened = Vault.from_file(kept.settings.key_path)
    rekeying.rekey(kept.settings, by="test")
    with kept.database.begin() as session:
        assert opened.get(session, "token", client_id=kept.alfa).value == "planted-token-1"


def test_two_changes_at_once_are_one(kept: World) -> None:
    lock: Path = kept.settings.key_path.with_name("vault.key.lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="already"):
            rekeying.rekey(kept.settings, by="test")
