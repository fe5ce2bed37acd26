"""Stores of secrets against real ones: our vault on each database, and an OpenBao server with TLS."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bao
import pytest
from secret_store_conformance import SecretStoreConformance, at

from msp import db
from msp.errors import Conflict, Misconfigured, NotFound, Refused, Unreachable
from msp.secret import Secret
from msp.secret_store import openbao, reference
from msp.secret_store.openbao import Account, BaoStore
from msp.secret_store.own import OwnStore
from msp.secret_store.reference import Reference
from msp.settings import Settings
from msp.vault import Vault


class TestOurVault(SecretStoreConformance):
    @pytest.fixture
    def store(self, database: db.Database) -> Iterator[OwnStore]:
        with database.begin() as session:
            yield OwnStore(Vault(b"\1" * 32), session, 3, "anna")

    @pytest.fixture
    def reference(self) -> Reference:
        return reference.parse("vault:root password")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bao.Bao]:
    if bao.missing():
        pytest.skip(bao.missing())
    with bao.running(tmp_path_factory.mktemp("bao")) as running:
        yield running


def private(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text + "\n")
    return str(path)


@pytest.fixture
def account(server: bao.Bao, tmp_path: Path) -> Account:
    token = private(tmp_path / "token", server.token("msp"))
    return Account(server.address, ca_file=str(server.ca_file), token_file=token, timeout=5)


@pytest.fixture
def anew() -> Reference:
    """A secret of its own for every test."""
    return reference.parse(f"bao:kv/alfa/{uuid.uuid4().hex}#password")


@pytest.mark.server
class TestOpenBao(SecretStoreConformance):
    @pytest.fixture
    def store(self, account: Account) -> BaoStore:
        return BaoStore(account)

    @pytest.fixture
    def reference(self, anew: Reference) -> Reference:
        return anew

    def test_other_fields_of_the_secret_stay(self, server: bao.Bao, store: BaoStore, anew: Reference) -> None:
        path = f"{anew.mount}/data/{anew.path}"
        server.ask("POST", path, {"data": {"user": "root", "password": "first-1234"}})
        store.stage(anew, Secret("second-1234"))
        store.promote(anew)
        store.drop(at(anew, "previous"))
        assert server.ask("GET", path)["data"]["data"] == {"user": "root", "password": "second-1234"}
        store.delete(anew)
        assert server.ask("GET", path)["data"]["data"] == {"user": "root"}

    def test_what_another_writer_did_meanwhile_is_not_undone(
        self, server: bao.Bao, store: BaoStore, anew: Reference
    ) -> None:
        store.put(anew, Secret("first-1234"))

        def meanwhile(fields: dict[str, Any]) -> None:
            server.ask("POST", f"{anew.mount}/data/{anew.path}", {"data": {"password": "theirs-1234"}})
            fields["password"] = "ours-1234"

        with pytest.raises(Conflict, match="somebody else"):
            store._change(anew, meanwhile)
        assert store.get(anew).value.value == "theirs-1234"

    def test_a_deleted_version_is_told_from_one_that_never_was(
        self, server: bao.Bao, store: BaoStore, anew: Reference
    ) -> None:
        with pytest.raises(NotFound, match="has no"):
            store.get(anew)
        store.put(anew, Secret("first-1234"))
        with pytest.raises(NotFound, match="no field user"):
            store.get(replace(anew, field="user"))
        server.ask("DELETE", f"{anew.mount}/data/{anew.path}")
        with pytest.raises(NotFound, match="was deleted"):
            store.get(anew)

    def test_a_value_that_is_no_text_is_refused(self, server: bao.Bao, store: BaoStore, anew: Reference) -> None:
        server.ask("POST", f"{anew.mount}/data/{anew.path}", {"data": {"password": {"nested": 1}}})
        with pytest.raises(Misconfigured, match="no text"):
            store.get(anew)

    def test_an_unknown_mount_is_said_to_be_missing_or_closed(self, server: bao.Bao, account: Account) -> None:
        private(Path(account.token_file), server.root)
        with pytest.raises((NotFound, Misconfigured), match="nowhere"):
            BaoStore(account).get(reference.parse("bao:nowhere/alfa/x#password"))


@pytest.mark.server
class TestAdmission:
    """Who we are to the store, and how each way of not getting in reads."""

    def test_a_policy_that_does_not_reach_is_told_from_a_token_that_is_void(
        self, server: bao.Bao, account: Account, anew: Reference
    ) -> None:
        BaoStore(account).put(anew, Secret("first-1234"))
        private(Path(account.token_file), server.token("reader"))
        assert BaoStore(account).get(anew).value.value == "first-1234"
        with pytest.raises(Refused, match="does not let us reach"):
            BaoStore(account).put(anew, Secret("second-1234"))
        with pytest.raises(Refused, match="does not let us reach"):
            BaoStore(account).get(reference.parse("bao:kv/bravo/x#password"))
        private(Path(account.token_file), "s.nonsense")
        with pytest.raises(Refused, match="does not know our token"):
            BaoStore(account).get(anew)

    @pytest.fixture
    def approle(self, server: bao.Bao, account: Account, tmp_path: Path) -> Account:
        if "approle/" not in server.ask("GET", "sys/auth")["data"]:
            server.ask("POST", "sys/auth/approle", {"type": "approle"})
        server.ask("POST", "auth/approle/role/msp", {"token_policies": "msp", "token_ttl": "1h"})
        role_id = server.ask("GET", "auth/approle/role/msp/role-id")["data"]["role_id"]
        secret_id = server.ask("POST", "auth/approle/role/msp/secret-id", {})["data"]["secret_id"]
        file = private(tmp_path / "secret-id", secret_id)
        return replace(account, token_file="", role_id=role_id, secret_id_file=file)

    def test_an_approle_logs_in_once_and_again_when_its_token_is_revoked(
        self, server: bao.Bao, approle: Account, anew: Reference
    ) -> None:
        store = BaoStore(approle)
        store.put(anew, Secret("first-1234"))
        first = store._token
        assert store.get(anew).value.value == "first-1234"
        assert store._token == first
        server.ask("POST", "auth/token/revoke", {"token": first})
        assert store.get(anew).value.value == "first-1234"
        assert store._token != first

    def test_a_void_secret_id_is_refused(self, approle: Account, anew: Reference) -> None:
        private(Path(approle.secret_id_file), str(uuid.uuid4()))
        with pytest.raises(Refused, match="does not admit our AppRole"):
            BaoStore(approle).get(anew)

    def test_a_namespace_is_asked_for_its_own_secrets(self, server: bao.Bao, account: Account) -> None:
        server.ask("POST", "sys/namespaces/east", {})
        server.ask("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}}, namespace="east")
        time.sleep(1)  # the new engine upgrades itself first
        server.ask("POST", "kv/data/alfa/root", {"data": {"password": "eastern-1234"}}, namespace="east")
        private(Path(account.token_file), server.root)
        there = reference.parse("bao:kv/alfa/root#password")
        assert BaoStore(replace(account, namespace="east")).get(there).value.value == "eastern-1234"
        with pytest.raises(NotFound):
            BaoStore(account).get(there)

    def test_a_certificate_of_another_is_refused_before_the_token_is_sent(
        self, account: Account, tmp_path: Path, anew: Reference
    ) -> None:
        other, _ = bao.certificate(tmp_path)
        with pytest.raises(Refused, match="certificate"):
            BaoStore(replace(account, ca_file=str(other))).get(anew)

    def test_a_sealed_server_is_told_from_one_that_is_away_or_silent(
        self, account: Account, anew: Reference, tmp_path: Path
    ) -> None:
        with bao.running(tmp_path / "own") as own:
            mine = replace(account, address=own.address, ca_file=str(own.ca_file))
            private(Path(account.token_file), own.token("msp"))
            BaoStore(mine).put(anew, Secret("first-1234"))
            own.seal()
            with pytest.raises(Unreachable, match="is sealed"):
                BaoStore(mine).get(anew)
            own.unseal()
            assert BaoStore(mine).get(anew).value.value == "first-1234"
        with pytest.raises(Unreachable, match="cannot be reached"):
            BaoStore(mine).get(anew)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]  # the kernel takes the connection, and nobody ever says a word
            begun = time.monotonic()
            with pytest.raises(Unreachable, match="did not answer in 1 s"):
                BaoStore(replace(mine, address=f"https://127.0.0.1:{port}", timeout=1)).get(anew)
            assert time.monotonic() - begun < 5
        with _answering(200, b"{}") as plain, pytest.raises(Unreachable, match="does not speak TLS"):
            BaoStore(replace(mine, address=plain.replace("http:", "https:"))).get(anew)

    def test_a_server_that_was_never_initialised_says_so(self, account: Account, anew: Reference) -> None:
        with _answering(501, b'{"errors": ["not initialized"]}') as address, pytest.raises(Misconfigured, match="init"):
            BaoStore(replace(account, address=address)).get(anew)

    def test_a_server_that_sends_elsewhere_is_not_followed(self, account: Account, anew: Reference) -> None:
        with (
            _answering(307, b"", "Location: http://127.0.0.1:9/stolen") as address,
            pytest.raises(Unreachable, match="elsewhere"),
        ):
            BaoStore(replace(account, address=address)).get(anew)


def _answering(status: int, body: bytes, *headers: str) -> Any:
    """A peer on loopback that answers every request with one status: for answers that a healthy server never gives."""
    from contextlib import contextmanager
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Always(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for header in headers:
                name, _, value = header.partition(": ")
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    @contextmanager
    def serving() -> Iterator[str]:
        with ThreadingHTTPServer(("127.0.0.1", 0), Always) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_address[1]}"
            server.shutdown()

    return serving()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bao_address": ""}, "No OpenBao is set up"),
        ({"bao_address": "ftp://store"}, "is no address"),
        ({"bao_address": "http://store.example:8200"}, "in the clear"),
        ({"bao_token_file": ""}, "a token or an AppRole"),
        ({"bao_role_id": "r"}, "a token or an AppRole"),
        ({"bao_token_file": "", "bao_role_id": "r"}, "no secret id"),
        ({"bao_timeout": 0}, "less than a second"),
        ({"bao_ca_file": "/nowhere.pem"}, "is not there"),
    ],
)
def test_settings_that_cannot_be_are_explained(changes: dict[str, Any], sentence: str) -> None:
    given = {"bao_address": "https://store:8200", "bao_token_file": "/t"} | changes
    with pytest.raises(Misconfigured, match=sentence):
        Account.of(Settings(**given))


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s.token")
    file.chmod(0o644)
    with pytest.raises(Misconfigured, match="readable by others"):
        BaoStore(Account("https://127.0.0.1:1", token_file=str(file))).get(reference.parse("bao:kv/a/b#c"))
    file.chmod(0o600)
    os.truncate(file, 0)
    with pytest.raises(Misconfigured, match="is empty"):
        openbao._from_file(str(file), "token")


@pytest.mark.parametrize(
    "text", ["bao:kv#f", "bao:kv/p", "bao:kv/../p#f", "bao:kv/a/..#f", "bao:k v/p#f", "vault:", "", "a\nb"]
)
def test_what_names_no_secret_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="does not name a secret"):
        reference.parse(text)


def test_a_plain_name_is_one_of_our_vault() -> None:
    assert str(reference.parse("ssh-key")) == "vault:ssh-key"
    assert reference.parse("vault:ssh-key@next") == Reference("vault", "ssh-key", "next")
    assert reference.parse("bao:kv/alfa/root#password@previous").at("next") == "bao:kv/alfa/root#password@next"


@pytest.mark.parametrize("path", ["bravo/root", "alfa", "alfabeta/root", "x/alfa/root"])
def test_no_client_reaches_the_secrets_of_another(path: str) -> None:
    with pytest.raises(Refused, match="does not lie under alfa/"):
        reference.check_place(reference.parse(f"bao:kv/{path}#password"), "{client}/", "alfa")
    reference.check_place(reference.parse("bao:kv/alfa/root#password"), "{client}/", "alfa")
