"""The vault: sealed at rest, bound to client and name, closed to a wrong key."""

import io
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from msp import db, log
from msp.errors import Conflict, Misconfigured, NotFound
from msp.vault import Secret, Vault, VaultKey, create_key_file

PLAIN = "korrekt-pferd-batterie"


@pytest.fixture
def vault(database_url: str, tmp_path: Path) -> Vault:
    db.use(database_url)
    create_key_file(tmp_path / "vault.key")
    vault = Vault.from_file(tmp_path / "vault.key")
    with db.begin() as session:
        vault.put(session, "root", PLAIN, by="anna", client_id=3)
    return vault


def test_a_secret_comes_back_and_is_nowhere_in_the_database(vault: Vault, database_url: str) -> None:
    with db.begin() as session:
        assert vault.get(session, "root", client_id=3).value == PLAIN
        sealed = session.execute(text("SELECT sealed FROM vault_secret")).scalar_one()
        assert PLAIN.encode() not in bytes(sealed)


def test_another_client_has_no_such_secret(vault: Vault) -> None:
    with pytest.raises(NotFound), db.begin() as session:
        vault.get(session, "root", client_id=4)


def test_a_row_moved_to_another_client_does_not_open(vault: Vault) -> None:
    with db.begin() as session:
        vault.put(session, "other", "x" * 12, by="anna", client_id=4)
        session.execute(text("UPDATE vault_secret SET client_id = 4 WHERE name = 'root'"))
    with pytest.raises(Misconfigured, match="does not open"), db.begin() as session:
        vault.get(session, "root", client_id=4)


def test_a_wrong_key_opens_nothing(vault: Vault) -> None:
    with pytest.raises(Misconfigured, match="does not open"), db.begin() as session:
        Vault(b"\1" * 32).get(session, "root", client_id=3)


def test_a_new_master_key_opens_and_the_old_one_does_not(vault: Vault) -> None:
    with db.begin() as session:
        assert vault.rewrap(session, b"\2" * 32) == 1
    with db.begin() as session:
        assert Vault(b"\2" * 32).get(session, "root", client_id=3).value == PLAIN


@pytest.mark.parametrize("shown", [repr(Secret(PLAIN)), str(Secret(PLAIN)), f"{Secret(PLAIN)}", f"{Secret(PLAIN):>40}"])
def test_a_secret_does_not_show_itself(shown: str) -> None:
    assert PLAIN not in shown


def test_a_secret_in_use_is_masked_in_the_log(vault: Vault) -> None:
    stream = io.StringIO()
    handlers = logging.getLogger().handlers[:]
    log.configure("INFO", stream)
    try:
        with db.begin() as session:
            value = vault.get(session, "root", client_id=3).value
        with log.about(run=5):
            logging.getLogger("test").warning("connecting with %s", value)
    finally:
        logging.getLogger().handlers[:] = handlers
    assert PLAIN not in stream.getvalue()
    assert '"run": 5' in stream.getvalue()


def test_the_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    create_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict):
        create_key_file(path)
    path.chmod(0o644)
    with pytest.raises(Misconfigured, match="readable by others"):
        Vault.from_file(path)


@pytest.mark.parametrize(("text_in_file", "sentence"), [("zz", "cannot be read"), ("ab" * 8, "32 bytes")])
def test_a_broken_key_file_is_explained(tmp_path: Path, text_in_file: str, sentence: str) -> None:
    path = tmp_path / "vault.key"
    path.write_text(text_in_file)
    path.chmod(0o600)
    with pytest.raises(Misconfigured, match=sentence):
        Vault.from_file(path)
    with pytest.raises(Misconfigured, match="missing"):
        Vault.from_file(tmp_path / "none")


@pytest.mark.parametrize("keys_first", [True, False])
def test_what_is_sealed_while_the_keys_are_replaced_opens(vault: Vault, keys_first: bool) -> None:
    with db.begin() as session:
        vault.put(session, "other", "x" * 12, by="anna", client_id=3)

    def reseal(session: Session) -> None:
        vault.reseal(session)

    def seal(session: Session) -> None:
        vault.stage(session, "other", PLAIN, by="anna", client_id=3)
        vault.put(session, "fresh", PLAIN, by="anna", client_id=3)

    def alone(act: Callable[[Session], None]) -> None:
        with db.begin() as session:
            act(session)

    first, second = (reseal, seal) if keys_first else (seal, reseal)
    with ThreadPoolExecutor(1) as pool:
        with db.begin() as session:
            first(session)
            running = pool.submit(alone, second)
            wait([running], timeout=0.4)
        running.result(30)
    with db.begin() as session:
        assert vault.get(session, "fresh", client_id=3).value == PLAIN
        assert vault.get(session, "other", client_id=3, which="next").value == PLAIN
        assert vault.get(session, "root", client_id=3).value == PLAIN


def test_a_key_that_was_read_before_it_was_replaced_seals_nothing(vault: Vault) -> None:
    if db.current().is_sqlite:
        pytest.skip("nobody else writes while we do")
    with db.begin() as session:
        seen = list(session.scalars(select(VaultKey)))
        with db.begin() as other:
            vault.reseal(other)
        vault.put(session, "fresh", PLAIN, by="anna", client_id=3)
        del seen
    with db.begin() as session:
        assert vault.get(session, "fresh", client_id=3).value == PLAIN
