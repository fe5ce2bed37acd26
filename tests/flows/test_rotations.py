"""A secret is replaced on real SSH servers: proven by fresh log-ins, else put back, never lost in between."""

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

import bao
import pytest
import sshd
from sqlalchemy import select
from test_planted_secret import dump, every_form, hits, pages
from world import ANNA, Doorbell, World

from msp import evidence
from msp.assets import inventory
from msp.assets.models import ConfigurationItem
from msp.clock import utc_now
from msp.desk.models import Ticket
from msp.errors import Conflict, Misconfigured, NotFound
from msp.evidence import Evidence
from msp.flows import approving, proving, rotating
from msp.people.access import Actor
from msp.remote.models import Run
from msp.remote.rotations import ENDED, OPEN, RotationHost, SecretRotation
from msp.secret_store import openbao
from msp.secret_store import reference as references
from msp.vault import NEXT, PREVIOUS, Vault, row_of, version_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing() or "there"),
]
needs_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("useradd"), reason="needs root and useradd")

ALLOWED = [{"id": "9.1", "text": "Keys are changed at any time.", "effect": "allow", "action_classes": ["access"]}]
ASKED = [
    {"id": "9.2", "text": "Keys are changed when the client agrees.", "effect": "ask", "action_classes": ["access"]}
]
REFUSED = [{"id": "9.3", "text": "Keys stay as they are.", "effect": "refuse", "action_classes": ["access"]}]


@dataclass
class Fleet:
    """Two real servers, `one` and `two`, that admit the key in the vault of alfa."""

    world: World
    homes: dict[str, Path]

    def admitted(self, name: str) -> list[str]:
        """Return the keys that a server admits."""
        return (self.homes[name] / ".ssh/authorized_keys").read_text().split("\n")[:-1]

    def rotate(self, secret: str = "rotated") -> int:
        return rotating.rotate(self.world.settings, client_id=self.world.alfa, secret=secret, actor=ANNA)

    def rotation(self, number: int) -> SecretRotation:
        with self.world.database.read() as session:
            return session.get_one(SecretRotation, number)

    def value(self, which: str = "current", name: str = "rotated") -> str:
        vault = Vault.from_file(self.world.settings.key_path)
        with self.world.database.begin() as session:
            return vault.get(session, name, client_id=self.world.alfa, which=which).value

    def versions(self, name: str = "rotated") -> set[str]:
        with self.world.database.read() as session:
            row = row_of(session, name, self.world.alfa)
            return {which for which in (NEXT, PREVIOUS) if version_of(session, row, which)}

    def step(self, number: int) -> str:
        """Do in this process what a worker would do next for a rotation, and return its state then."""
        rotation = self.rotation(number)
        if rotation.state in ("applying", "withdrawing", "backing"):
            assert rotation.run_id is not None
            self.world.drive(rotation.run_id)
        else:
            proving.prove(self.world.settings, number, rotation.state)
        return self.rotation(number).state

    def to_the_end(self, number: int) -> SecretRotation:
        for _ in range(8):
            if self.rotation(number).state not in OPEN:
                break
            self.step(number)
        proving.prove(self.world.settings, number, rotating.TIDY)
        return self.rotation(number)

    def kinds(self) -> list[str]:
        """Return the kinds of evidence of the rotations, in order."""
        with self.world.database.read() as session:
            query = select(Evidence.kind).where(Evidence.kind.startswith("rotation.")).order_by(Evidence.seq)
            assert evidence.verify(session)[1] == []
            return list(session.scalars(query))


@contextmanager
def server(folder: Path, name: str, options: str = "") -> Iterator[tuple[sshd.Sshd, Path]]:
    home = folder / f"home-{name}"
    (home / ".ssh").mkdir(parents=True)
    keys = home / ".ssh/authorized_keys"
    given = f"AuthorizedKeysFile {keys}\nSetEnv HOME={home}\n{options}"
    with sshd.running(folder / name, options=given) as running:
        yield running, home


@pytest.fixture
def fleet(world: World, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        homes: dict[str, Path] = {}
        world.change_terms(clauses=ALLOWED)
        key = tmp_path / "old"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "old", "-f", str(key)], check=True)
        with world.database.begin() as session:
            Vault.from_file(world.settings.key_path).put(
                session, "rotated", key.read_text(), by="test", client_id=world.alfa
            )
        for name in ("one", "two"):
            running, homes[name] = stack.enter_context(server(tmp_path, name))
            (homes[name] / ".ssh/authorized_keys").write_text(key.with_suffix(".pub").read_text())
            point(world, name, running, secret="rotated")
        yield Fleet(world, homes)


def point(world: World, name: str, running: sshd.Sshd, *, secret: str, user: str = "") -> None:
    with world.database.begin() as session:
        item = session.get_one(ConfigurationItem, world.asset(name))
        item.port, item.secret_name, item.username = running.port, secret, user or getpass.getuser()
        inventory.pin(session, item, running.host_key, by="test")


def test_a_key_is_replaced_on_every_host_and_the_old_one_withdrawn(fleet: Fleet) -> None:
    old = fleet.value()
    number = fleet.rotate()
    assert fleet.value() == old, "nothing is in force before it is proven"
    assert fleet.versions() == {NEXT}
    assert fleet.step(number) == "proving"
    assert [len(fleet.admitted(name)) for name in ("one", "two")] == [2, 2], "both keys are valid meanwhile"
    assert fleet.step(number) == "withdrawing"
    assert fleet.value() != old
    assert fleet.versions() == {PREVIOUS}
    ended = fleet.to_the_end(number)
    assert (ended.state, ended.in_force) == ("done", True)
    assert fleet.versions() == set()
    for name in ("one", "two"):
        (line,) = fleet.admitted(name)
        assert line == ended.new_key
    assert fleet.kinds() == ["rotation.begun", "rotation.proven"]
    with fleet.world.database.read() as session:
        assert row_of(session, "rotated", fleet.world.alfa).rotated_at is not None
    echo = 'name: echo\nversion: "1"\naction_class: access\nsteps:\n  - do: id\n    changes: false\n'
    run = fleet.world.request(fleet.world.playbook(echo, "echo"), "one", "two")
    fleet.world.drive(run.id)
    assert fleet.world.ends(run.id) == {"one": "ok", "two": "ok"}


def test_what_one_host_does_not_take_is_put_back_on_all(fleet: Fleet) -> None:
    old = fleet.value()
    before = fleet.admitted("one")
    locked = fleet.homes["two"] / ".ssh"
    number = fleet.rotate()
    keys = locked / "authorized_keys"
    text = keys.read_text()
    keys.unlink()
    keys.mkdir()  # the file cannot be replaced: the step fails on this host, and nobody is admitted meanwhile
    assert fleet.step(number) == "proving"
    keys.rmdir()
    keys.write_text(text)
    ended = fleet.to_the_end(number)
    assert (ended.state, ended.in_force) == ("rolled_back", False)
    assert fleet.value() == old
    assert fleet.versions() == set()
    assert fleet.admitted("one") == before
    assert fleet.kinds() == ["rotation.begun", "rotation.rolled_back"]


def test_a_host_that_is_away_keeps_both_values_and_is_asked_about(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = fleet.value()
    number = fleet.rotate()
    with fleet.world.database.read() as session:
        port = session.get_one(ConfigurationItem, fleet.world.asset("two")).port
    assert fleet.step(number) == "proving"
    fleet.world.point("two", 1)
    for _ in range(proving.TRIES - 1):
        assert fleet.step(number) == "proving", "it is asked again, later"
    assert fleet.step(number) == "stuck"
    assert fleet.value() == old
    assert fleet.versions() == {NEXT}, "the host may know either"
    with fleet.world.database.read() as session:
        assert "two" in fleet.rotation(number).found
        told = session.scalars(select(Ticket.subject).where(Ticket.symptom == "rotation_stuck")).all()
    assert told == ["The rotation of vault:rotated is stuck"]
    with pytest.raises(Conflict, match="is stuck"):
        fleet.rotate()
    assert port is not None
    fleet.world.point("two", port)
    with fleet.world.database.begin() as session:
        rotating.again(session, number, actor=ANNA)
    assert fleet.to_the_end(number).state == "done"
    assert fleet.versions() == set()


def test_the_word_for_the_first_run_covers_the_ones_that_follow(fleet: Fleet) -> None:
    fleet.world.change_terms(clauses=ASKED)
    number = fleet.rotate()
    first = fleet.rotation(number).run_id
    assert first is not None
    assert fleet.world.run(first).state == "awaiting_approval"
    with fleet.world.database.begin() as session:
        approving.approve(session, first, actor=fleet.world.olga)
    assert fleet.to_the_end(number).state == "done"
    with fleet.world.database.read() as session:
        states = session.scalars(select(Run.state).where(Run.playbook == "rotate-ssh-key")).all()
    assert states == ["succeeded", "succeeded"]


@pytest.mark.parametrize("ends", ["refused", "declined"])
def test_without_the_contracts_leave_nothing_is_touched(fleet: Fleet, ends: str) -> None:
    fleet.world.change_terms(clauses=REFUSED if ends == "refused" else ASKED)
    number = fleet.rotate()
    if ends == "declined":
        with fleet.world.database.begin() as session:
            approving.decline(session, fleet.rotation(number).run_id or 0, actor=fleet.world.olga, reason="not now")
            rotating.catch_up(session, utc_now())
    ended = fleet.to_the_end(number)
    assert ended.state == "rolled_back"
    assert fleet.versions() == set()
    assert [len(fleet.admitted(name)) for name in ("one", "two")] == [1, 1]


def test_only_one_rotation_of_a_secret_at_a_time_and_only_of_what_can_be(fleet: Fleet) -> None:
    number = fleet.rotate()
    with pytest.raises(Conflict, match=f"Rotation {number}"):
        fleet.rotate()
    with pytest.raises(NotFound):
        fleet.rotate("unknown")
    with pytest.raises(NotFound):
        rotating.rotate(fleet.world.settings, client_id=fleet.world.alfa, secret="rotated", actor=fleet.world.olga)
    foreign = Actor("far@provider.example", frozenset({"technician"}), granted=frozenset({99}))
    with pytest.raises(NotFound):
        rotating.rotate(fleet.world.settings, client_id=fleet.world.alfa, secret="rotated", actor=foreign)
    with fleet.world.database.begin() as session:
        Vault.from_file(fleet.world.settings.key_path).put(
            session, "idle", "nobody-uses-it", by="test", client_id=fleet.world.alfa
        )
    with pytest.raises(Misconfigured, match="No asset"):
        fleet.rotate("idle")


POINTS = [("run.driven", 2), ("rotation.logged_in", 1), ("rotation.concluded", 1)]
if os.environ.get("MSP_TEST_MANY"):
    POINTS = [(point, nth) for point, _ in POINTS for nth in (1, 2)]


@pytest.mark.parametrize(("point", "nth"), POINTS)
def test_killed_between_two_steps_it_goes_on_and_ends_with_one_valid_key(fleet: Fleet, point: str, nth: int) -> None:
    world = fleet.world
    number = fleet.rotate()
    world.killed(world.start_worker(crash_at=f"{point}:{nth}"))
    held = {fleet.value(which) for which in ("current", *fleet.versions())}
    assert len(held) == 2, "both values are kept until one is proven"
    world.start_worker()
    world.wait(lambda: fleet.rotation(number).state in ENDED, 90)
    assert fleet.rotation(number).state == "done", fleet.rotation(number).found
    world.wait(lambda: fleet.versions() == set())
    for name in ("one", "two"):
        assert fleet.admitted(name) == [fleet.rotation(number).new_key]


@needs_root
def test_a_password_is_changed_by_its_own_user_and_proven(world: World, tmp_path: Path) -> None:
    user, first = f"msp{token_hex(4)}", "Start-pass-4711"
    subprocess.run(["useradd", "-m", "-d", str(tmp_path / "home"), "-s", "/bin/sh", user], check=True)
    try:
        subprocess.run(["chpasswd"], input=f"{user}:{first}\n".encode(), check=True)
        world.change_terms(clauses=ALLOWED)
        with world.database.begin() as session:
            Vault.from_file(world.settings.key_path).put(session, "pass", first, by="test", client_id=world.alfa)
        with sshd.running(tmp_path / "sshd", options="PasswordAuthentication yes") as running:
            point(world, "one", running, secret="pass", user=user)
            fleet = Fleet(world, {})
            number = fleet.rotate("pass")
            assert fleet.step(number) == "proving"
            ended = fleet.to_the_end(number)
            assert (ended.state, ended.found) == ("done", "A fresh log-in has proven the new value on every host.")
            assert fleet.value(name="pass") != first
            assert fleet.versions("pass") == set()
            with world.database.read() as session:
                (host,) = session.scalars(select(RotationHost).where(RotationHost.rotation_id == number))
                assert (host.old_works, host.new_works) == (False, True)
            wanted = every_form([first, fleet.value(name="pass")])
            assert hits(dump(world), wanted) == [], "neither value stands anywhere but sealed"
            shown = pages(world, [ended.run_id or 0], [ended.ticket_id])
            assert {path: found for path, data in shown.items() if (found := hits(data, wanted))} == {}
    finally:
        subprocess.run(["userdel", "-f", user], check=False, capture_output=True)


@needs_root
def test_a_password_that_a_second_host_did_not_take_is_put_back_on_the_first(world: World, tmp_path: Path) -> None:
    users, first = [f"msp{name}{token_hex(4)}" for name in "ab"], "Start-pass-4711"
    for user in users:
        subprocess.run(["useradd", "-m", "-d", str(tmp_path / user), "-s", "/bin/sh", user], check=True)
    try:
        given = "".join(f"{user}:{first}\n" for user in users)
        subprocess.run(["chpasswd"], input=given.encode(), check=True)
        subprocess.run(["passwd", "-n", "90", users[1]], check=True, capture_output=True)  # too young to be changed
        world.change_terms(clauses=ALLOWED)
        with world.database.begin() as session:
            Vault.from_file(world.settings.key_path).put(session, "pass", first, by="test", client_id=world.alfa)
        with sshd.running(tmp_path / "sshd", options="PasswordAuthentication yes") as running:
            for name, user in zip(("one", "two"), users, strict=True):
                point(world, name, running, secret="pass", user=user)
            fleet = Fleet(world, {})
            number = fleet.rotate("pass")
            assert fleet.step(number) == "proving"
            assert fleet.step(number) == "backing"
            ended = fleet.to_the_end(number)
            assert ended.state == "rolled_back", ended.found
            assert fleet.value(name="pass") == first
            assert fleet.versions("pass") == set()
    finally:
        for user in users:
            subprocess.run(["userdel", "-f", user], check=False, capture_output=True)


@pytest.mark.parametrize("told", [False, True])
def test_a_key_kept_in_openbao_is_replaced_there(fleet: Fleet, tmp_path: Path, told: bool) -> None:
    """`told`: the store had put the new key in force already when we died before writing that down."""
    if bao.missing():
        pytest.skip(bao.missing())
    with bao.running(tmp_path / "bao") as server:
        token = tmp_path / "token"
        token.touch(mode=0o600)
        token.write_text(server.token("msp"))
        fleet.world.settings = replace(
            fleet.world.settings,
            bao_address=server.address,
            bao_ca_file=str(server.ca_file),
            bao_token_file=str(token),
        )
        old, reference = fleet.value(), "bao:kv/alfa/fleet#key"
        server.ask("POST", "kv/data/alfa/fleet", {"data": {"key": old, "note": "stays"}})
        with fleet.world.database.begin() as session:
            for name in ("one", "two"):
                session.get_one(ConfigurationItem, fleet.world.asset(name)).secret_name = reference
        echo = 'name: echo\nversion: "1"\naction_class: access\nsteps:\n  - do: id\n    changes: false\n'
        book = fleet.world.playbook(echo, "echo")
        run = fleet.world.request(book, "one", "two")
        fleet.world.drive(run.id)
        assert fleet.world.ends(run.id) == {"one": "ok", "two": "ok"}, "a run opens what another store keeps"
        with fleet.world.database.read() as session:
            row = row_of(session, reference, fleet.world.alfa)
            assert (row.kind, row.sealed, row.used_by) == ("ssh_key", None, ANNA.name)
            assert row.changed_at is not None
        number = fleet.rotate(reference)
        assert fleet.step(number) == "proving"
        kept = server.ask("GET", "kv/data/alfa/fleet")["data"]["data"]
        assert set(kept) == {"key", "key.next", "note"}
        if told:
            account = openbao.Account.of(fleet.world.settings)
            openbao.BaoStore(account).promote(references.parse(reference))
        assert fleet.step(number) == "withdrawing"
        ended = fleet.to_the_end(number)
        assert (ended.state, ended.in_force) == ("done", True)
        found = server.ask("GET", "kv/data/alfa/fleet")["data"]["data"]
        assert set(found) == {"key", "note"}
        assert found["key"] != old
        assert [fleet.admitted(name) for name in ("one", "two")] == [[ended.new_key]] * 2
        server.seal()
        sealed = fleet.world.request(book, "one")
        fleet.world.drive(sealed.id)
        assert fleet.world.ends(sealed.id) == {"one": "not_started"}
        assert "is sealed" in fleet.world.run_host(sealed.id).detail
    away = fleet.world.request(book, "one")
    fleet.world.drive(away.id)
    assert "cannot be reached" in fleet.world.run_host(away.id).detail


def test_an_asset_that_names_another_clients_secret_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("never sent")
    with Doorbell() as bell:
        fleet.world.settings = replace(
            fleet.world.settings, bao_address=f"http://127.0.0.1:{bell.port}", bao_token_file=str(token)
        )
        with fleet.world.database.begin() as session:
            session.get_one(ConfigurationItem, fleet.world.asset("one")).secret_name = "bao:kv/beta/fleet#key"
        echo = 'name: echo\nversion: "1"\naction_class: access\nsteps:\n  - do: id\n    changes: false\n'
        run = fleet.world.request(fleet.world.playbook(echo, "echo"), "one", "two")
        fleet.world.drive(run.id)
        assert fleet.world.ends(run.id) == {"one": "refused", "two": "ok"}, "and no other host waits for it"
        assert "does not lie under alfa/" in fleet.world.run_host(run.id).detail
        assert bell.rung == 0
