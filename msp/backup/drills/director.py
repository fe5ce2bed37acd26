"""A private Bacula on loopback: director, storage and file daemon, a catalogue in SQLite, gone afterwards.

Directives stand one to a line, because Bacula reads a second one on a line as part of the first one's value. The
passwords are made anew each time: other accounts of this machine reach its loopback too.
"""

import contextlib
import secrets
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from msp.backup.process import Runner, end
from msp.errors import Misconfigured, StepFailed

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
DAEMONS = ("bacula-dir", "bacula-sd", "bacula-fd")
TABLES = Path("/usr/share/bacula-director/make_sqlite3_tables")
CLIENT = "client-srv01-fd"
START = 60  # seconds until the daemons must listen
JOB = 300  # seconds for one backup of a small tree

DIRECTOR = """
Director {{
  Name = drill-dir
  DirPort = {ports[0]}
  DirAddress = 127.0.0.1
  QueryFile = "/dev/null"
  WorkingDirectory = "{work}"
  PidDirectory = "{work}"
  Maximum Concurrent Jobs = 4
  Password = "{console}"
  Messages = Standard
}}
Catalog {{
  Name = MyCatalog
  dbname = "bacula"
  dbuser = ""
  dbpassword = ""
}}
Messages {{
  Name = Standard
  append = "{work}/messages" = all, !skipped
  catalog = all, !skipped
}}
Storage {{
  Name = File
  Address = 127.0.0.1
  SDPort = {ports[1]}
  Password = "{storage}"
  Device = FileStorage
  Media Type = File
  Maximum Concurrent Jobs = 4
}}
Pool {{
  Name = Default
  Pool Type = Backup
  Label Format = "Vol-"
  Recycle = no
  AutoPrune = no
}}
Client {{
  Name = {host}
  Address = 127.0.0.1
  FDPort = {ports[2]}
  Catalog = MyCatalog
  Password = "{client}"
}}
FileSet {{
  Name = Data
  Include {{
    Options {{
      signature = SHA1
      xattrsupport = yes
      aclsupport = yes
      sparse = yes
    }}
    File = "{source}"
  }}
}}
JobDefs {{
  Name = Common
  Client = {host}
  FileSet = Data
  Storage = File
  Pool = Default
  Messages = Standard
}}
Job {{
  Name = BackupData
  Type = Backup
  Level = Full
  JobDefs = Common
}}
Job {{
  Name = RestoreFiles
  Type = Restore
  JobDefs = Common
  Where = "{work}/nowhere"
}}
Job {{
  Name = VerifyVolume
  Type = Verify
  Level = VolumeToCatalog
  Verify Job = BackupData
  JobDefs = Common
}}
Job {{
  Name = VerifyDisk
  Type = Verify
  Level = DiskToCatalog
  Verify Job = BackupData
  JobDefs = Common
}}
Job {{
  Name = VerifyData
  Type = Verify
  Level = Data
  Verify Job = BackupData
  JobDefs = Common
}}
"""
STORAGE = """
Storage {{
  Name = drill-sd
  SDPort = {ports[1]}
  SDAddress = 127.0.0.1
  WorkingDirectory = "{work}"
  Pid Directory = "{work}"
  Maximum Concurrent Jobs = 4
}}
Director {{
  Name = drill-dir
  Password = "{storage}"
}}
Device {{
  Name = FileStorage
  Media Type = File
  Archive Device = "{volumes}"
  LabelMedia = yes
  Random Access = yes
  AutomaticMount = yes
  RemovableMedia = no
  AlwaysOpen = no
}}
Messages {{
  Name = Standard
  director = drill-dir = all
}}
"""
FILE = """
FileDaemon {{
  Name = {host}
  FDPort = {ports[2]}
  FDAddress = 127.0.0.1
  WorkingDirectory = "{work}"
  Pid Directory = "{work}"
  Maximum Concurrent Jobs = 4
}}
Director {{
  Name = drill-dir
  Password = "{client}"
}}
Messages {{
  Name = Standard
  director = drill-dir = all
}}
"""
CONSOLE = """
Director {{
  Name = drill-dir
  DirPort = {ports[0]}
  Address = 127.0.0.1
  Password = "{console}"
}}
"""


def missing() -> str:
    """Return why it cannot be started here, or nothing."""
    lost = [name for name in (*DAEMONS, "bconsole") if shutil.which(name, path=PATH) is None]
    lost += [] if TABLES.exists() else ["bacula-director-sqlite3"]
    return f"Bacula is not installed here: {', '.join(lost)} missing." if lost else ""


@dataclass(frozen=True)
class Bacula:
    """A running set of daemons. `console` is the bconsole.conf, `volumes` the folder with the backup's data."""

    runner: Runner
    console: Path
    source: Path
    volumes: Path
    work: Path
    pids: tuple[int, ...]

    def says(self, *commands: str) -> str:
        """Return what the director answers to console commands; raises StepFailed if it cannot be asked."""
        with tempfile.TemporaryFile() as script:
            words = ("@output /dev/null", "autodisplay off", "@output", *commands, "quit")
            script.write("".join(f"{word}\n" for word in words).encode())
            script.seek(0)
            argv = ["bconsole", "-n", "-c", str(self.console)]
            done = self.runner.run(argv, stdin=script, deadline=JOB, noted=False)
        if done.status:
            raise StepFailed(f"The private Bacula cannot be asked: {done.says}.")
        return done.stdout.decode("utf-8", "replace")

    def back_up(self, level: str = "Full") -> str:
        """Back the source up and return what the director said."""
        return self.says(f"run job=BackupData level={level} yes", "wait", "messages")

    def catalogue(self) -> sqlite3.Connection:
        """Open the catalogue; change it only while nothing runs."""
        return sqlite3.connect(self.work / "bacula.db", timeout=30)


def _ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _make_catalogue(file: Path) -> None:
    script = TABLES.read_text().partition("<<END-OF-DATA\n")[2].partition("END-OF-DATA")[0]
    connection = sqlite3.connect(file)
    connection.executescript(script)
    connection.close()


@contextmanager
def running(folder: Path, source: Path, runner: Runner | None = None) -> Iterator[Bacula]:
    """Start the three daemons in `folder` to back up `source`; they die with this process.

    Raises Misconfigured if one of them is not installed, and StepFailed with their own words if one does not start.
    """
    if lost := missing():
        raise Misconfigured(lost, advice="Install Bacula's director (with SQLite), storage and file daemon.")
    runner, work, volumes = runner or Runner(niceness=0), folder / "work", folder / "volumes"
    for path in (work, volumes):
        path.mkdir(parents=True)
    ports = _ports(3)
    _make_catalogue(work / "bacula.db")
    words = {name: secrets.token_hex(16) for name in ("console", "storage", "client")}
    with contextlib.ExitStack() as stack:
        daemons: list[subprocess.Popen[bytes]] = []
        for name, text in zip((*DAEMONS, "bconsole"), (DIRECTOR, STORAGE, FILE, CONSOLE), strict=True):
            config = folder / f"{name}.conf"
            config.touch(mode=0o600)
            config.write_text(text.format(ports=ports, work=work, volumes=volumes, source=source, host=CLIENT, **words))
            if name == "bconsole":
                continue
            program = shutil.which(name, path=PATH) or name
            with (folder / f"{name}.log").open("wb") as log:
                daemon = runner.start([program, "-f", "-c", str(config)], stdout=log, stderr=log, cwd=work)
            stack.callback(end, daemon)
            stack.callback(daemon.terminate)
            daemons.append(daemon)
        bacula = Bacula(
            runner, folder / "bconsole.conf", source, volumes, work, tuple(daemon.pid for daemon in daemons)
        )
        _await(daemons, ports, folder)
        yield bacula


def _await(daemons: list["subprocess.Popen[bytes]"], ports: list[int], folder: Path) -> None:
    ends = time.monotonic() + START
    for port in ports:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if any(daemon.poll() is not None for daemon in daemons) or time.monotonic() > ends:
                said = " ".join(path.read_text("utf-8", "replace") for path in sorted(folder.glob("*.log")))
                raise StepFailed(f"The private Bacula does not start: {said.strip()[-300:]}.")
            time.sleep(0.05)
