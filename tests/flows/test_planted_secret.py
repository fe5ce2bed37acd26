"""A planted secret is nowhere to be found afterwards: not in the database, the log, the events, pages or exports."""

import asyncio
import base64
import re
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import asyncssh
import postgres
import pytest
from sqlalchemy import make_url, select
from world import World

from msp import db, evidence
from msp.assets import inventory
from msp.assets.models import ConfigurationItem
from msp.people import users
from msp.remote.models import StepResult
from msp.vault import Vault, VaultSecret
from msp_web.app import create_app

pytestmark = pytest.mark.slow

TOKEN = "S3cr3t/Tok+en=7f3a'Ünïq\"ue &x"  # every character that some encoding changes
PASSWORD = "pa55-word-of-the-host-91c4"
ANSWER = "correct horse battery"

LEAKS = """\
name: leaks
version: "1"
action_class: change
parameters:
  token: secret
steps:
  - name: says it
    register: said
    do: |
      umask 077
      printf '%s\\n' {{ token }} > got
      cat got; cat got >&2
      base64 -w0 got; echo; printf 'x%s' {{ token }} | base64 -w0; echo; printf 'xy%s' {{ token }} | base64 -w0; echo
      od -An -v -tx1 got | tr -d ' \\n'; echo
      python3 -c 'import sys,urllib.parse as u; t = sys.argv[1]; print(u.quote(t, ""), u.quote_plus(t))' {{ token }}
      python3 -c 'import sys, json; print(json.dumps({"t": sys.argv[1]}, ensure_ascii=False))' {{ token }}
      if [ -e id ]; then cat id; base64 -w0 id; fi
    check: test -s got
  - name: repeats what it heard
    do: printf '%s' {{ said.stdout }} > heard
    check: test -s heard
  - name: writes a file
    file:
      path: "{{ host.name }}.conf"
      content: "password = {{ token }}"
  - name: fails and complains
    do: |
      echo "cannot log in with $(cat got)" >&2; exit 3
    check: "true"
    undo: cat got
"""


def forms(secret: str) -> Iterator[tuple[str, bytes]]:
    """Yield every form in which a secret could leak; written down here, independently of what masks it."""
    raw = secret.encode()
    yield "raw", raw
    yield "URL-encoded", quote(raw, safe="").encode()
    yield "form-encoded", quote_plus(raw).encode()
    yield "hexadecimal", raw.hex().encode()
    yield "HEXADECIMAL", raw.hex().upper().encode()
    for before in range(3):  # the part of its base64 that does not depend on what stands around it
        encoded = base64.b64encode(b"x" * before + raw + b"yy")
        yield f"base64 after {before} bytes", encoded[(4 if before else 0) : len(encoded) - 8]


def every_form(secrets: list[str]) -> list[tuple[str, bytes]]:
    """Return the forms of all, and each as a dump writes a blob."""
    found = [(f"{secret[:6]}... {name}", form) for secret in secrets for name, form in forms(secret)]
    blobs = [(f"{name} in a blob", form.hex().encode()) for name, form in found]
    return [*found, *blobs, *((f"{name} (upper)", form.upper()) for name, form in blobs)]


def hits(data: bytes, wanted: list[tuple[str, bytes]]) -> list[str]:
    return [f"{name}: ...{data[max(data.index(form) - 80, 0) :][:200]!r}" for name, form in wanted if form in data]


class _PasswordHost(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == PASSWORD


@contextmanager
def password_host() -> Iterator[tuple[int, str]]:
    """A host that admits by password and prints it; yields its port and public host key."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    key = asyncssh.generate_private_key("ssh-ed25519")

    async def answer(process: Any) -> None:
        process.stdout.write(f"hello, {PASSWORD}\n")
        process.exit(0)

    async def start() -> asyncssh.SSHAcceptor:
        return await asyncssh.create_server(
            _PasswordHost, "127.0.0.1", 0, server_host_keys=[key], process_factory=answer, config=[], gss_host=None
        )

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    try:
        yield server.get_port(), key.export_public_key("openssh").decode()
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def dump(world: World) -> bytes:
    """Return everything that the database holds, as text and as the bytes on disk."""
    database = world.database
    if database.path is not None:
        with sqlite3.connect(database.path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            text = "\n".join(connection.iterdump()).encode("utf-8", "surrogatepass")
        connection.close()
        beside = [path.read_bytes() for path in database.path.parent.glob("msp.db*")]
        return b"\n".join([text, *beside])
    url = make_url(database.url)
    folder = postgres.programs()
    assert folder is not None
    command = [folder / "pg_dump", "-h", url.host, "-p", str(url.port), "-U", url.username, "--inserts", url.database]
    return subprocess.run([str(word) for word in command], check=True, capture_output=True).stdout


def pages(world: World, run_ids: list[int], ticket_ids: list[int | None]) -> dict[str, bytes]:
    """Return every page and file that shows something of the runs."""
    with world.database.begin() as session:
        users.add(session, email="admin@provider.example", name="Admin", password=ANSWER, roles=["admin"], by="test")
        users.add(
            session,
            email="olga@alfa.example",
            name="Olga",
            password=ANSWER,
            roles=["client user", "client approver"],
            client_id=world.alfa,
            by="test",
        )
        steps = list(session.scalars(select(StepResult.id)))
        kept = list(session.scalars(select(VaultSecret.id)))
        hosts = list(session.execute(select(StepResult.run_id, StepResult.run_host_id, StepResult.step)))
    app = create_app(world.settings)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    wanted = {
        "admin@provider.example": [
            "/runs/",
            "/tickets/",
            "/tickets/list.csv",
            "/assets/list.csv",
            "/credentials/",
            "/credentials/list.csv",
            *(f"/credentials/{number}" for number in kept),
            *(f"/credentials/{number}/reveal" for number in kept),
            *(f"/assets/{number}" for number in world.planted.assets.values()),
            "/evidence/",
            f"/evidence/{world.alfa}/export",
            *(f"/runs/{run_id}" for run_id in run_ids),
            *(f"/runs/{run_id}/hosts/{host}?step={step}" for run_id, host, step in hosts),
            *(
                f"/runs/{run_id}/output/{step}?stream={stream}"
                for run_id in run_ids
                for step in steps
                for stream in ("stdout", "stderr")
            ),
            *(f"/tickets/{ticket_id}" for ticket_id in ticket_ids),
        ],
        "olga@alfa.example": ["/portal/", "/portal/credentials/", "/portal/evidence", "/portal/evidence.jsonl"]
        + [f"/portal/tickets/{ticket_id}" for ticket_id in ticket_ids],
    }
    found: dict[str, bytes] = {}
    for email, paths in wanted.items():
        browser = app.test_client()
        page = browser.get("/log-in").get_data(as_text=True)
        token = re.search(r'name="csrf-token" content="([^"]+)"|name="csrf_token"[^>]*value="([^"]+)"', page)
        assert token is not None
        form = {"email": email, "password": ANSWER, "csrf_token": token[1] or token[2]}
        assert browser.post("/log-in", data=form).status_code == 302
        for path in paths:
            answer = browser.get(path)
            if answer.status_code == 200:
                found[f"{email} {path}"] = answer.get_data()
    return found


def test_planted_secrets_are_nowhere_to_be_found(world: World, tmp_path: Path) -> None:
    private_key = world.hosts.key_file.read_text()
    (world.host().root / "id").write_text(private_key)
    world.config.write_text(world.config.read_text() + 'log_level = "DEBUG"\n')
    vault = Vault.from_file(world.settings.key_path)
    with password_host() as (port, host_key):
        with world.database.begin() as session:
            vault.put(session, "token", TOKEN, by="test", client_id=world.alfa)
            vault.put(session, "root-password", PASSWORD, by="test", client_id=world.alfa)
            item = session.get_one(ConfigurationItem, world.asset("data"))
            item.port, item.secret_name = port, "root-password"
            inventory.pin(session, item, host_key, by="test")
        leaking = world.request(world.playbook(LEAKS, "leaks"), parameters={"token": "vault:token"})
        echo = 'name: echo\nversion: "1"\naction_class: read\nsteps:\n  - do: id\n    changes: false\n'
        greeted = world.request(world.playbook(echo, "echo"), "data")
        world.start_worker()
        for run in (leaking, greeted):
            world.wait(lambda run=run: world.run(run.id).finished_at)  # type: ignore[misc]
    assert world.ends(leaking.id) == {"one": "failed"}
    assert world.ends(greeted.id) == {"data": "ok"}
    got = (world.host().root / "got").read_text()
    assert got == TOKEN + "\n", "the host was given the secret itself"
    with world.database.read() as session:
        output = b"".join(row.stdout_head + row.stderr_head for row in session.scalars(select(StepResult)))
        assert evidence.verify(session)[1] == []
        evidence.export(session, world.alfa, tmp_path / "alfa.jsonl")
    assert output.count(b"***") >= 10
    assert b"hello, ***" in output
    key_lines = [line for line in private_key.splitlines() if len(line) > 20 and "PRIVATE" not in line]
    wanted = every_form([TOKEN, PASSWORD, *key_lines])
    assert hits(got.encode(), wanted), "the search itself finds what is there"
    assert hits(dump(world), wanted) == []
    assert hits(world.worker_log().encode(), wanted) == []
    assert hits((tmp_path / "alfa.jsonl").read_bytes(), wanted) == []
    shown = pages(world, [leaking.id, greeted.id], [leaking.ticket_id, greeted.ticket_id])
    told = ("output", "list.csv", "/portal/", "export", "/credentials/1", "/portal/credentials/", "/assets/1")
    for word in (f"/runs/{leaking.id}", f"/tickets/{leaking.ticket_id}", *told):
        assert any(word in path for path in shown), word
    assert {path: found for path, data in shown.items() if (found := hits(data, wanted))} == {}
    db.use(world.settings.database_url)
