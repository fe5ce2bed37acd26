"""The command line around an installation: made, examined, upgraded, refused; and never a traceback."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from msp import db
from msp.contracts import agreements
from msp.desk import tickets
from msp.desk.models import Ticket

pytestmark = pytest.mark.slow  # every test starts the command, some many times
ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery"
Done = subprocess.CompletedProcess[str]


def around(**settings: str) -> dict[str, str]:
    """Return an environment with these settings and none of the caller's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MSP_")}
    return (
        kept | {"PYTHONPATH": f"{ROOT}:{ROOT / 'web'}"} | {f"MSP_{key.upper()}": text for key, text in settings.items()}
    )


def msp(folder: Path, *words: str, **settings: str) -> Done:
    """Run `msp` in a folder and return how it ended; whatever it was asked, it never shows a traceback."""
    command = [sys.executable, "-m", "msp", *words]
    done = subprocess.run(
        command, cwd=folder, env=around(**settings), capture_output=True, text=True, check=False, timeout=120
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installation in `var`, an administrator, two clients and three tickets."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "msp.toml").write_text('data = "var"\nport = 0\n')
    done = msp(folder, "init", "--admin", "Anna@Provider.example", test_password=PASSWORD)
    assert done.returncode == 0, done.stderr
    assert "Next: msp serve --with-worker" in done.stdout
    database = db.Database(f"sqlite:///{folder / 'var' / 'msp.db'}")
    with database.begin() as session:
        for key in ("alfa", "beta"):
            client = agreements.add_client(session, key=key, name=key.capitalize())
            for subject in ("late", "soon", "no clock"):
                opening = tickets.Opening(client_id=client.id, subject=f"{key} {subject}", channel="email")
                tickets.open_ticket(session, opening, by="mail")
        for ticket in session.query(Ticket):
            hours = {"late": -1, "soon": 1}.get(ticket.subject.split()[1])
            ticket.next_due_at = tickets.utc_now() + tickets.timedelta(hours=hours) if hours else None
    database.dispose()
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy of that installation to break."""
    (tmp_path / "var").mkdir()
    with sqlite3.connect(made / "var/msp.db") as old, sqlite3.connect(tmp_path / "var/msp.db") as new:
        old.backup(new)
    old.close()
    new.close()
    (tmp_path / "var/msp.db").chmod(0o600)
    (tmp_path / "var/vault.key").write_bytes((made / "var/vault.key").read_bytes())
    (tmp_path / "var/vault.key").chmod(0o600)
    (tmp_path / "msp.toml").write_bytes((made / "msp.toml").read_bytes())
    return tmp_path


def test_init_makes_files_for_their_owner_alone_and_does_nothing_the_second_time(made: Path) -> None:
    for name in ("msp.db", "vault.key"):
        assert (made / "var" / name).stat().st_mode & 0o777 == 0o600
    key = (made / "var/vault.key").read_text()
    done = msp(made, "init")
    assert (done.returncode, done.stdout.count("already there")) == (0, 2)
    assert (made / "var/vault.key").read_text() == key


def test_init_with_a_short_password_writes_nothing(tmp_path: Path) -> None:
    done = msp(tmp_path, "init", "--admin", "anna@provider.example", test_password="short")
    assert done.returncode == 2
    assert "shorter than 10 characters" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_twice_for_one_administrator_is_told(made: Path) -> None:
    done = msp(made, "init", "--admin", "anna@provider.example", test_password=PASSWORD)
    assert done.returncode == 1
    assert "already a user anna@provider.example" in done.stderr


def test_upgrade_of_a_present_database_says_so(made: Path) -> None:
    done = msp(made, "upgrade")
    assert (done.returncode, done.stdout) == (0, "The database is of this version already.\n")


def test_doctor_finds_a_new_installation_in_order(made: Path) -> None:
    done = msp(made, "doctor", "--json")
    findings = {row["what"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stdout
    assert findings["database"]["level"] == findings["evidence"]["level"] == findings["key file"]["level"] == "good"
    assert findings["workers"]["level"] == "warn"
    assert msp(made, "doctor").returncode == 0


def test_doctor_names_what_is_wrong_and_what_to_do(copy: Path, tmp_path: Path) -> None:
    (copy / "var/vault.key").chmod(0o644)
    (copy / "var/msp.db").chmod(0o644)
    with sqlite3.connect(copy / "var/msp.db") as damaged:
        damaged.execute("UPDATE evidence SET actor = 'nobody' WHERE id = 2")
    damaged.close()
    done = msp(copy, "doctor", "--json")
    findings = {row["what"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1
    assert {what for what, row in findings.items() if row["level"] == "bad"} == {"key file", "database file"} | {
        "evidence"
    }
    assert all(row["advice"] for row in findings.values() if row["level"] == "bad")
    assert msp(copy, "evidence", "verify").returncode == 1


def test_doctor_without_an_installation_says_msp_init(tmp_path: Path) -> None:
    done = msp(tmp_path, "doctor")
    assert done.returncode == 1
    assert "Run msp init" in done.stdout


def test_settings_check(made: Path) -> None:
    done = msp(made, "settings", "check")
    assert (done.returncode, done.stdout) == (0, "Settings are in order.\n")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("prot = 8440", "Unknown setting prot in msp.toml"),
        ('port = "many"', "not a whole number"),
        ("port = true", "not a whole number"),
        ("secure_cookies = 1", "not true or false"),
        ("language = 7", "not text"),
        ("port = = 1", "not valid TOML"),
        ('port = 1\n"\\ud800" = 1', "not valid TOML"),
    ],
)
def test_setting_that_cannot_be_meant_is_named(tmp_path: Path, line: str, what: str) -> None:
    (tmp_path / "msp.toml").write_text(line + "\n")
    done = msp(tmp_path, "settings", "check")
    assert done.returncode == 2
    assert what in done.stderr


def test_unknown_variable_is_named_with_what_was_meant(made: Path) -> None:
    done = msp(made, "ticket", "list", prot="1")
    assert (done.returncode, "MSP_PROT" in done.stderr, "Did you mean port?" in done.stderr) == (2, True, True)


def test_ticket_list_is_in_order_of_time_left_with_no_clock_last(made: Path) -> None:
    done = msp(made, "ticket", "list", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    left = [row["seconds_left"] for row in rows]
    clocks = [seconds for seconds in left if seconds is not None]
    assert clocks == sorted(clocks)
    assert left == [*clocks, None, None]
    assert [seconds < 0 for seconds in clocks] == [True, True, False, False]
    only = msp(made, "ticket", "list", "--json", "--client", "beta", "--limit", "2")
    assert [json.loads(line)["subject"] for line in only.stdout.splitlines()] == ["beta late", "beta soon"]
    plain = msp(made, "ticket", "list").stdout.splitlines()
    assert plain[0].split("\t")[0] == "#"
    assert len(plain) == 7


def test_without_a_command_it_says_what_needs_attention(made: Path) -> None:
    done = msp(made)
    assert done.returncode == 0
    assert "6 open tickets have nobody." in done.stdout


BAD = [
    (["--config", "/nope/msp.toml", "doctor"], 2),
    (["--config", ".", "doctor"], 2),
    (["ticket", "move", "4711", "resolved"], 1),
    (["ticket", "move", "1", "gone"], 2),
    (["ticket", "move", "one", "resolved"], 2),
    (["ticket", "move", "99999999999999999999999", "resolved"], 1),
    (["ticket", "reply", "1", "  "], 2),
    (["ticket", "open", "  ", "--client", "alfa"], 2),
    (["ticket", "open", "Slow", "--client", "nobody"], 1),
    (["ticket", "open", "Slow", "--client", "alfa", "--asset", "nothing"], 1),
    (["ticket", "list", "--limit", "0"], 2),
    (["ticket", "list", "--client", "../etc"], 1),
    (["evidence", "verify", "/nope.jsonl"], 1),
    (["evidence", "verify", "."], 1),
    (["evidence", "export", "--client", "nobody", "-o", "out.jsonl"], 1),
    (["evidence", "export", "--client", "alfa", "-o", "no/such/folder/out.jsonl"], 1),
    (["serve", "--port", "70000"], 2),
    (["serve", "--address", "203.0.113.1", "--port", "0"], 2),
    (["nonsense"], 2),
    (["run", "/nope.yml", "--hosts", "/nope"], 2),
]


@pytest.mark.parametrize(("words", "status"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_input_is_a_sentence_and_a_status(made: Path, words: list[str], status: int) -> None:
    done = msp(made, *words)
    assert done.returncode == status, done.stderr
    assert done.stderr.strip()


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("nonsense", 2),
        ("mysql://root@localhost/msp", 2),
        ("sqlite:////proc/nowhere/msp.db", 2),
        ("sqlite:///msp.toml", 2),
        ("postgresql+psycopg://nobody@127.0.0.1:1/msp", 2),
    ],
)
def test_database_that_cannot_be_used_is_a_sentence(tmp_path: Path, url: str, status: int) -> None:
    (tmp_path / "msp.toml").write_text('data = "var"\n' + "# no database at all\n" * 100)
    for words in (["ticket", "list"], ["worker"], ["init"], ["upgrade"]):
        done = msp(tmp_path, *words, database=url)
        assert done.returncode == status, (words, done.stderr)
        assert done.stderr.strip()


def test_data_folder_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    assert msp(tmp_path, "init").returncode == 2


def test_newer_database_is_refused_by_every_command(copy: Path) -> None:
    with sqlite3.connect(copy / "var/msp.db") as newer:
        newer.execute("UPDATE alembic_version SET version_num = '9999'")
    newer.close()
    for words in (["ticket", "list"], ["worker"], ["serve"], ["upgrade"], ["init"], ["settings", "check"]):
        done = msp(copy, *words)
        assert (done.returncode, "newer version (revision 9999)" in done.stderr) == (1, True), words
    assert "newer version" in msp(copy, "doctor").stdout


def test_port_in_use_is_a_sentence(made: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = msp(made, "serve", "--port", str(port))
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken" in done.stderr


@pytest.fixture
def worker(copy: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that works on the copy."""
    with (copy / "worker.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "msp", "worker"], cwd=copy, env=around(), stderr=log)
    end = time.monotonic() + 60
    while "takes work" not in (copy / "worker.log").read_text():
        assert time.monotonic() < end, (copy / "worker.log").read_text()
        assert process.poll() is None, (copy / "worker.log").read_text()
        time.sleep(0.1)
    yield process
    process.kill()
    process.wait()


def test_second_worker_on_sqlite_is_refused_and_the_first_stops_when_asked(
    copy: Path, worker: "subprocess.Popen[bytes]"
) -> None:
    for name in ("worker-01", "worker-02"):
        done = msp(copy, "worker", worker_name=name)
        assert done.returncode == 1
        assert f"A worker already runs on this SQLite database (process {worker.pid})." in done.stderr
        assert "PostgreSQL" in done.stderr
    assert "1 at work: worker-01" in msp(copy, "doctor").stdout
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
