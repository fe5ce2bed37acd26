"""A served installation whose machines are really there: sshd for terminals, VNC for screens, and a contract."""

import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import seed
from sqlalchemy import select

from msp import db
from msp.assets import inventory
from msp.clock import utc_now
from msp.contracts import terms
from msp.contracts.models import Client, Contract, ContractVersion
from msp.evidence import Evidence
from msp.people.models import User
from msp.remote.consoles.models import ConsoleSession
from msp.remote.target import Target
from msp.settings import Settings
from msp.vault import Vault

ROOT = Path(__file__).resolve().parents[2]
TECH, ADMIN, BRAVO = "tech@provider.example", "admin@provider.example", "bravo-tech@provider.example"
PLANTED = "planted-Secret-4711!"  # in the client's vault
CLAUSE = {
    "id": "4.4",
    "text": "Technicians may work at the machines.",
    "text_ru": "Инженеры могут работать за машинами.",
    "action_classes": ["access"],
    "effect": "allow",
}
SERVE = """
import sys
from pathlib import Path
from msp.settings import load
from msp_web.server import run
run(load(Path(sys.argv[1])), lambda url: print(url, flush=True))
"""
SERVE_CONSOLES = (
    SERVE.replace("flush=True))", "flush=True), consoles_only=True)")
    .replace("load(Path(sys.argv[1]))", "replace(load(Path(sys.argv[1])), port=0)")
    .replace("import sys", "import sys\nfrom dataclasses import replace")
)


@dataclass
class Stage:
    """One installation; `port` once it is served."""

    settings: Settings
    ids: dict[str, int]
    port: int = 0
    process: "subprocess.Popen[str]" = field(init=False)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def amend(self, *clauses: dict[str, Any], client: str = "alfa") -> None:
        """Put clauses before those of the client's contract, from now on."""
        with db.begin() as session:
            contract = session.scalars(
                select(Contract).join(Client, Client.id == Contract.client_id).where(Client.key == client)
            ).one()
            versions = select(ContractVersion).where(ContractVersion.contract_id == contract.id)
            latest = session.scalars(versions.order_by(ContractVersion.number.desc())).first()
            assert latest is not None
            kept = [one for one in latest.terms["clauses"] if not one["id"].startswith("9.")]
            document = {**latest.terms, "clauses": [*clauses, *kept]}
            session.add(
                ContractVersion(
                    contract_id=contract.id,
                    number=latest.number + 1,
                    effective_at=max(utc_now(), latest.effective_at + timedelta(microseconds=1)),
                    terms=document,
                    digest=terms.digest(document),
                    created_by="test",
                )
            )

    def newest(self) -> ConsoleSession:
        """Return the console asked for last."""
        with db.read() as session:
            found = session.scalars(select(ConsoleSession).order_by(ConsoleSession.id.desc())).first()
            assert found is not None
            return found

    def evidence(self, console_id: int) -> list[Evidence]:
        """Return what was proven about a console, in order."""
        query = select(Evidence).where(Evidence.subject_kind == "console", Evidence.subject_id == str(console_id))
        with db.read() as session:
            return list(session.scalars(query.order_by(Evidence.id)))


def prepare(folder: Path, **changes: Any) -> Stage:
    """Return an installation whose contracts let technicians work at every machine of client alfa."""
    settings = seed.prepare(folder, rate_limit="1000 per minute", **changes)
    with db.begin() as session:
        ids = seed.fill(session)["alfa"]
        seed.users.add(session, email=BRAVO, name="Bravo only", password=seed.PASSWORD, roles=["technician"], by="test")
        session.flush()
        foreign = session.scalars(select(User).where(User.email == BRAVO)).one()
        bravo = session.scalars(select(Client).where(Client.key == "bravo")).one()
        session.add(seed.Grant(user_id=foreign.id, client_id=bravo.id))
        Vault.from_file(settings.key_path).put(session, "planted", PLANTED, by="test", client_id=ids["client_id"])
    stage = Stage(settings, ids)
    stage.amend(CLAUSE)
    return stage


def add_terminal(stage: Stage, name: str, *, port: int, user: str, key: str, host_key: str) -> int:
    """Record a machine with SSH and return its id."""
    with db.begin() as session:
        vault = Vault.from_file(stage.settings.key_path)
        vault.put(session, f"{name} key", key, by="test", client_id=stage.ids["client_id"])
        item = inventory.add(
            session, client_id=stage.ids["client_id"], name=name, kind="server", by="test", address="127.0.0.1",
            port=port, username=user, secret_name=f"{name} key", facts={},
        )  # fmt: skip
        inventory.pin(session, item, host_key, by="test")
        return item.id


def add_windows(stage: Stage, name: str, target: Target) -> int:
    """Record a Windows host as a target describes it and return its id."""
    with db.begin() as session:
        vault, password = Vault.from_file(stage.settings.key_path), target.credential.password
        assert password is not None
        vault.put(session, f"{name} password", password.value, by="test", client_id=stage.ids["client_id"])
        item = inventory.add(
            session, client_id=stage.ids["client_id"], name=name, kind="server", by="test", transport="winrm",
            platform="windows", address=target.address, port=target.port, username=target.credential.user,
            secret_name=f"{name} password", facts=dict(target.facts),
        )  # fmt: skip
        inventory.pin(session, item, target.host_keys[0], by="test")
        return item.id


def add_screen(stage: Stage, name: str, *, port: int, password: str) -> int:
    """Record a machine with VNC on this machine and return its id."""
    with db.begin() as session:
        vault = Vault.from_file(stage.settings.key_path)
        vault.put(session, f"{name} vnc", password, by="test", client_id=stage.ids["client_id"])
        item = inventory.add(
            session, client_id=stage.ids["client_id"], name=name, kind="workstation", by="test", transport="vnc",
            address="127.0.0.1", port=port, secret_name=f"{name} vnc", facts={},
        )  # fmt: skip
        return item.id


@contextmanager
def served(stage: Stage) -> Iterator[Stage]:
    """Serve the installation in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        stage.port = free.getsockname()[1]
    written = stage.settings.data / "msp.toml"
    values = {"data": str(stage.settings.data), "port": stage.port, "log_level": "ERROR"}
    for name in ("recordings_quota_mb", "recording_limit_mb", "console_idle_minutes", "console_limit_minutes"):
        values[name] = getattr(stage.settings, name)
    written.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'web'}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", SERVE, str(written)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        stage.process = process
        try:
            assert process.stdout.readline().startswith("http")
            yield stage
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


class Person:
    """Somebody at the pages of a served installation, without a browser."""

    def __init__(self, stage: Stage, email: str) -> None:
        self.stage, self.email, self.cookie, self.token = stage, email, "", ""
        page = self.ask("/log-in")
        answer = self.ask("/log-in", email=email, password=seed.PASSWORD, csrf_token=self.token)
        assert (page.status, answer.status) == (200, 302)
        self.ask("/account")

    def ask(self, path: str, **form: str) -> http.client.HTTPResponse:
        """Get a page, or send a form; the answer's body is in `.text`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.stage.port, timeout=20)
        headers = {"Cookie": self.cookie, "Accept": "text/html"}
        body = None
        if form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode({"csrf_token": self.token, **form})
        connection.request("POST" if form else "GET", path, body, headers)
        answer = connection.getresponse()
        answer.text = answer.read().decode("utf-8", "replace")  # type: ignore[attr-defined]
        connection.close()
        for given in answer.headers.get_all("Set-Cookie") or ():
            self.cookie = given.split(";")[0]
        if found := re.search(r'csrf-token" content="([^"]+)"', answer.text):  # type: ignore[attr-defined]
            self.token = found[1]
        return answer

    def request(self, asset: int, kind: str = "terminal", **form: str) -> int:
        """Ask for a console and return its number."""
        answer = self.ask(
            "/consoles/open", asset=str(asset), kind=kind, **({"ticket": str(self.stage.ids["ticket_id"])} | form)
        )
        assert answer.status == 303, answer.text  # type: ignore[attr-defined]
        return int(str(answer.getheader("Location")).rpartition("/")[2])

    def ticket(self, console_id: int) -> str:
        """Fetch the one-use ticket of a console."""
        answer = self.ask(f"/consoles/{console_id}/ticket", x="1")
        assert answer.status == 200, answer.text  # type: ignore[attr-defined]
        return str(json.loads(answer.text)["ticket"])  # type: ignore[attr-defined]
