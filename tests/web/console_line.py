"""A served installation with a machine in it, and a line to its console as a page has it. Fixtures and their words."""

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import console_stage
import pytest
import sshd
from console_stage import TECH, Person, Stage
from sqlalchemy import update
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from msp import db
from msp.clock import utc_now
from msp.remote.consoles.models import ConsoleSession

ADDRESSES = itertools.count()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    with sshd.running(tmp_path_factory.mktemp("web-console-sshd"), options="ForceCommand /bin/sh") as server:
        yield server


def prepared(folder: Path, machine: sshd.Sshd, **changes: Any) -> Stage:
    stage = console_stage.prepare(folder, **changes)
    stage.ids["box"] = console_stage.add_terminal(
        stage, "box", port=machine.port, user=machine.user, key=machine.key_file.read_text(), host_key=machine.host_key
    )
    return stage


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, machine: sshd.Sshd) -> Iterator[Stage]:
    with console_stage.served(prepared(tmp_path_factory.mktemp("consoles"), machine)) as stage:
        yield stage


@pytest.fixture
def stage(served: Stage) -> Stage:
    db.use(served.settings.database_url)
    with db.begin() as session:  # so that tests do not count against one person's minute
        session.execute(update(ConsoleSession).values(requested_at=utc_now() - timedelta(hours=1)))
    return served


@pytest.fixture(scope="module")
def people() -> dict[str, Person]:
    return {}


@pytest.fixture
def tech(stage: Stage, people: dict[str, Person]) -> Person:
    return people.setdefault(TECH, Person(stage, TECH)) if TECH not in people else people[TECH]


@contextmanager
def line(person: Person, console_id: int, ticket: str, *, port: int = 0, **headers: str) -> Iterator[ClientConnection]:
    """Connect as a page of that person would, from an address of its own, so that nobody's rate counts for another."""
    stage = person.stage
    address = f"ws://127.0.0.1:{port or stage.port}/consoles/{console_id}/socket?ticket={ticket}"
    sent = {"Cookie": person.cookie, "Origin": stage.base} | headers
    given = {name: value for name, value in sent.items() if value}
    source = (f"127.0.1.{next(ADDRESSES) % 250 + 1}", 0)
    with connect(address, additional_headers=given, source_address=source, close_timeout=1) as opened:
        opened.send(json.dumps({"resize": [90, 24]}))
        yield opened


def refused(person: Person, console_id: int, ticket: str, **headers: str) -> tuple[int, str]:
    """Return the status and the body with which a connection is denied."""
    with pytest.raises(InvalidStatus) as denied, line(person, console_id, ticket, **headers):
        pass
    response = denied.value.response
    return response.status_code, bytes(response.body or b"").decode()


def until(opened: ClientConnection, words: bytes, seconds: float = 10) -> bytes:
    """Return what the terminal printed until `words`."""
    shown, end = b"", time.monotonic() + seconds
    while words not in shown and time.monotonic() < end:
        try:
            said = opened.recv(timeout=0.2)
        except TimeoutError:
            continue
        if isinstance(said, bytes):
            shown += said
            opened.send(json.dumps({"shown": len(said)}))
    assert words in shown, shown
    return shown


def last_words(opened: ClientConnection, seconds: float = 10) -> tuple[dict[str, str], float]:
    """Return the message with which the server ends a console, and after how many seconds it came."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        try:
            said = opened.recv(timeout=0.2)
        except TimeoutError:
            continue
        if isinstance(said, str) and "ended" in (message := json.loads(said)):
            took = time.monotonic() - begun
            with pytest.raises(ConnectionClosed) as closed:
                opened.recv(timeout=2)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4000
            return message, took
    raise AssertionError("it did not end")


@contextmanager
def terminal(person: Person, **form: str) -> Iterator[tuple[int, ClientConnection]]:
    """Open a terminal that is ready to be typed into."""
    console_id = person.request(person.stage.ids["box"], **form)
    with line(person, console_id, person.ticket(console_id)) as opened:
        opened.send(b"stty -echo; echo ready-$((1+1))\n")
        until(opened, b"ready-2")
        yield console_id, opened


def row(console_id: int, state: str = "ended") -> ConsoleSession:
    """Return a console once it is in that state."""
    for _ in range(100):
        with db.read() as session:
            found = session.get_one(ConsoleSession, console_id)
        if found.state == state:
            return found
        time.sleep(0.05)
    raise AssertionError(f"console {console_id} is {found.state}, not {state}")
