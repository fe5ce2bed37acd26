"""The demo's stage: real SSH hosts in this process, a worker and a web server in processes of their own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Self

from msp import db
from msp.demo import seed
from msp.demo.hosts import DemoHosts
from msp.errors import Misconfigured, StepFailed
from msp.settings import Settings, load

PATIENCE = 90.0  # seconds that anything on the stage may take


class Stage:
    """Everything that runs while the demo is played. Use it as a context manager."""

    def __init__(self, folder: Path, more: Mapping[str, str] | None = None) -> None:
        """more: further settings of the demo's own installation."""
        self.folder = folder.resolve()
        self.hosts = DemoHosts(self.folder / "hosts", [name for names in seed.HOSTS.values() for name in names])
        self.settings: Settings = self._settings(more or {})
        self.is_new = not (self.folder / "demo.json").exists()
        self.notes: dict[str, object] = {}
        self._worker: subprocess.Popen[bytes] | None = None
        self._web: subprocess.Popen[bytes] | None = None

    def _settings(self, more: Mapping[str, str]) -> Settings:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self.folder / "msp.toml"
        if not file.exists():
            playbooks = Path(__file__).parent / "playbooks"
            lines = ['data = "."', f"port = {_free_port(8440)}", f'playbooks = "{playbooks}"', "lease_seconds = 10"]
            file.write_text("\n".join([*lines, *(f'{name} = "{value}"' for name, value in more.items())]) + "\n")
        return load(file, {})

    def __enter__(self) -> Self:
        self.hosts.__enter__()
        try:
            self._set_up()
        except BaseException:
            self.__exit__()  # nothing of a stage that did not stand may stay behind
            raise
        return self

    def _set_up(self) -> None:
        if self.is_new:
            planted = seed.plant(self.settings)
            self.notes = {
                "password": planted.password,
                "clients": planted.clients,
                "assets": planted.assets,
                "done": [],
            }
            self.remember()
        else:
            self.notes = json.loads((self.folder / "demo.json").read_text())
            from msp.flows import install

            install.upgrade(self.settings)
        db.use(self.settings.database_url)
        listening = {host.name: (host.port, host.host_key) for host in self.hosts.hosts}
        seed.put_hosts(self.settings, listening, self.hosts.key_file.read_text())
        self.start_worker()
        self.start_web()

    def __exit__(self, *_: object) -> None:
        for process in (self._web, self._worker):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in (self._web, self._worker):
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()
        db.use(self.settings.database_url).dispose()
        self.hosts.__exit__()

    @property
    def address(self) -> str:
        return f"http://{self.settings.address}:{self.settings.port}"

    @property
    def password(self) -> str:
        return str(self.notes["password"])

    def asset(self, name: str) -> int:
        """Return the number of a demo asset."""
        return int(self.notes["assets"][name])  # type: ignore[index]

    def client(self, key: str) -> int:
        """Return the number of a demo client."""
        return int(self.notes["clients"][key])  # type: ignore[index]

    def remember(self) -> None:
        """Write the demo's own notes beside the database, readable by their owner alone."""
        path = self.folder / "demo.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(self.notes, ensure_ascii=False, indent=1))

    def start_worker(self) -> None:
        """Start a worker and wait until it takes work."""
        log = (self.folder / "worker.log").open("ab")
        self._worker = self._start(["worker"], log.fileno())
        log.close()
        self.wait("the worker to take work", self._worker_works)

    def _worker_works(self) -> bool:
        from msp.clock import utc_now
        from msp.engine import leases

        if self._worker is not None and self._worker.poll() is not None:
            raise StepFailed("The worker ended at once.", advice=f"Its last words are in {self.folder / 'worker.log'}.")
        with db.read() as session:
            live = leases.live(session, utc_now(), timedelta(seconds=self.settings.lease_seconds))
        return any(self._worker is not None and worker.pid == self._worker.pid for worker in live)

    def kill_worker(self) -> None:
        """SIGKILL: no chance to write anything down."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait()

    def start_web(self) -> None:
        """Start the web server and wait until it answers."""
        log = (self.folder / "web.log").open("ab")
        self._web = self._start(["serve"], log.fileno())
        log.close()
        self.wait("the pages to answer", self._answers)

    def _answers(self) -> bool:
        if self._web is not None and self._web.poll() is not None:
            raise StepFailed(
                "The web server ended at once.", advice=f"Its last words are in {self.folder / 'web.log'}."
            )
        try:
            with urllib.request.urlopen(f"{self.address}/healthz", timeout=5) as answer:  # noqa: S310  our own loopback
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _start(self, words: list[str], log: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "msp", "--config", str(self.folder / "msp.toml"), *words]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MSP_")}
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self.folder)

    def wait(self, what: str, reached: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Look five times a second until `reached`; raises StepFailed when patience ends."""
        end = time.monotonic() + patience
        while not reached():
            if time.monotonic() > end:
                raise StepFailed(f"Waited {patience:.0f} s for {what}.", advice=f"Look into {self.folder}.")
            time.sleep(0.2)

    def serve_on(self) -> None:
        """Leave everything running until somebody interrupts or a process ends."""
        while True:
            for name, process in (("worker", self._worker), ("web server", self._web)):
                if process is None or process.poll() is not None:
                    raise Misconfigured(f"The {name} has ended.", advice=f"Look into {self.folder}.")
            time.sleep(1)


def _free_port(wanted: int) -> int:
    """Return `wanted`, or any free port if it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Misconfigured("There is no free port on this machine.")
