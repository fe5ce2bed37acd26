"""Every shipped playbook passes check and does what it says on a real host (SSH on loopback)."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playing import Played, play
from standing import no_secret

from msp.demo.hosts import DemoHost, DemoHosts
from msp.remote import cases, catalogue
from msp.remote.inventory import read_hosts
from msp.remote.target import Target

FOLDER = Path(__file__).resolve().parents[2] / "playbooks"
FILES = sorted(path for path in FOLDER.rglob("*.yml") if not path.name.endswith(catalogue.CASES))
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJh0qR0WmVv1dY1Q5rVn7VbL6bq3u7Vq0E0mY0000000 it's me"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoHosts]:
    with DemoHosts(tmp_path_factory.mktemp("hosts"), ["one"]) as running:
        yield running


@pytest.fixture
def host(hosts: DemoHosts) -> DemoHost:
    shutil.rmtree(hosts["one"].root)
    hosts["one"].root.mkdir()
    return hosts["one"]


async def on(host: DemoHost, name: str, tmp_path: Path, **options: Any) -> Played:
    (tmp_path / "hosts").write_text(host.line)
    target: Target = read_hosts(tmp_path / "hosts", secret=no_secret)[0]
    parameters = options.pop("parameters", {})
    return await play(FOLDER / "linux" / f"{name}.yml", [target], parameters, **options)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_passes_check_and_says_what_it_does_in_both_languages(path: Path) -> None:
    book = catalogue.find(str(path)).playbook
    assert book.name == path.stem
    assert book.summary.endswith(".")
    assert book.summary_ru.endswith(".")
    assert all(one.summary and one.summary_ru for one in book.parameters.values())
    assert book.limits.model_fields_set >= {"connect", "step"}


def test_more_than_thirty_are_shipped_and_each_is_tried_here_or_by_cases_beside_it() -> None:
    assert len(FILES) > 30
    text = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert [path.stem for path in FILES if f'"{path.stem}"' not in text and not cases.beside(path).exists()] == []


async def test_free_disk_space_cleans_a_full_folder_and_leaves_what_is_young(host: DemoHost, tmp_path: Path) -> None:
    spool = host.root / "spool"
    spool.mkdir()
    for name in ("a.tmp", "b.log.1", "keep.dat", "young.tmp"):
        (spool / name).write_bytes(b"x" * 300_000)
        if name != "young.tmp":
            os.utime(spool / name, (time.time() - 90_000,) * 2)
    asked = {"path": str(spool), "limit_kb": 1000, "threshold": 80}
    played = await on(host, "free-disk-space", tmp_path, parameters=asked, dry_run=True)
    assert played.phases() == ["1 probe ok", "1 do skipped"]
    assert len(list(spool.iterdir())) == 4
    played = await on(host, "free-disk-space", tmp_path, parameters=asked)
    assert played.phases() == ["1 probe ok", "1 do ok", "1 check ok"]
    assert b"KB freed" in played.of(1, "do").out.data
    assert sorted(path.name for path in spool.iterdir()) == ["keep.dat", "young.tmp"]
    again = await on(host, "free-disk-space", tmp_path, parameters=asked)
    assert again.phases() == ["1 probe skipped"]
    (spool / "keep2.dat").write_bytes(b"x" * 400_000)
    stuck = await on(host, "free-disk-space", tmp_path, parameters=asked)
    assert str(stuck.outcome) == "failed(1)"
    assert stuck.report.ends[0].visit


DAEMON = """#!/bin/sh
cd "$(dirname "$0")"
case "$1" in
  start) [ -e broken ] && exit 1; nohup sleep 300 >/dev/null 2>&1 & echo $! > pid;;
  stop) kill "$(cat pid)" && rm pid;;
  status) kill -0 "$(cat pid 2>/dev/null)" 2>/dev/null;;
esac
"""


@pytest.fixture
def daemon(host: DemoHost) -> Iterator[Path]:
    script = host.root / "daemon"
    script.write_text(DAEMON)
    script.chmod(0o755)
    yield script
    subprocess.run([script, "stop"], capture_output=True, check=False)


async def test_restart_service_acts_on_a_plain_daemon_script(host: DemoHost, daemon: Path, tmp_path: Path) -> None:
    asked = {"service": "daemon", "wait_seconds": 2} | {
        f"{act}_command": f"'{daemon}' {act}" for act in ("status", "start", "stop")
    }
    played = await on(host, "restart-service", tmp_path, parameters=asked)
    assert played.outcome.ok, played.phases()
    first = (host.root / "pid").read_text()
    assert (await on(host, "restart-service", tmp_path, parameters=asked)).outcome.ok
    assert (host.root / "pid").read_text() != first
    only = await on(host, "restart-service", tmp_path, parameters=asked | {"only_if_down": True})
    assert only.phases() == ["1 probe skipped"]
    (host.root / "broken").touch()
    failed = await on(host, "restart-service", tmp_path, parameters=asked)
    assert str(failed.outcome) == "failed(1)"
    assert failed.report.ends[0].visit
    assert any("undo" in phase for phase in failed.phases())


async def test_stop_process_ends_it_and_says_nothing_is_needed_then(
    host: DemoHost, daemon: Path, tmp_path: Path
) -> None:
    subprocess.run([daemon, "start"], check=True)  # noqa: ASYNC221
    asked = {"pid_file": str(host.root / "pid"), "wait_seconds": 3}
    assert (await on(host, "stop-process", tmp_path, parameters=asked)).outcome.ok
    assert (await on(host, "stop-process", tmp_path, parameters=asked)).phases() == ["1 probe skipped"]


@pytest.fixture
def chroot(tmp_path: Path) -> Path:
    """A system's account files in a folder, so that no account of this machine is touched."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "home").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/gshadow").write_text("root:*::\n")
    return root


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("useradd"), reason="needs root and useradd")
async def test_user_is_added_with_a_key_and_disabled_again(host: DemoHost, chroot: Path, tmp_path: Path) -> None:
    asked = {"user": "anna", "full_name": "Anna O'Neil; $(id)", "public_key": KEY, "root": str(chroot)}
    played = await on(host, "user-add", tmp_path, parameters=asked)
    assert played.outcome.ok, [(record.key, record.err.data) for record in played.ledger.records]
    assert "anna:x:" in (chroot / "etc/passwd").read_text()
    assert "Anna O'Neil; $(id)" in (chroot / "etc/passwd").read_text()
    assert KEY in (chroot / "home/anna/.ssh/authorized_keys").read_text()
    assert (await on(host, "user-add", tmp_path, parameters=asked)).phases() == ["1 probe skipped", "2 probe skipped"]
    disabled = await on(host, "user-disable", tmp_path, parameters={"user": "anna", "root": str(chroot)})
    assert disabled.outcome.ok, [(record.key, record.err.data) for record in disabled.ledger.records]
    again = await on(host, "user-disable", tmp_path, parameters={"user": "anna", "root": str(chroot)})
    assert again.phases() == ["1 probe skipped"]


async def test_key_is_admitted_once_and_withdrawn(host: DemoHost, tmp_path: Path) -> None:
    keys = host.root / ".ssh/authorized_keys"
    for _ in range(2):
        assert (await on(host, "ssh-key-admit", tmp_path, parameters={"public_key": KEY})).outcome.ok
    assert keys.read_text() == KEY + "\n"
    keys.write_text(f"other\n{KEY}\n")
    assert (await on(host, "ssh-key-withdraw", tmp_path, parameters={"public_key": KEY})).outcome.ok
    assert keys.read_text() == "other\n"


async def test_config_line_is_set_and_put_back_when_the_verification_fails(host: DemoHost, tmp_path: Path) -> None:
    file = host.root / "app.conf"
    file.write_text("# a\nPort 22\nX y\n")
    asked = {"file": str(file), "line": "Port 2222 # $(id) 'q'", "replaces": "Port "}
    bad = await on(host, "config-line", tmp_path, parameters=asked | {"verify_command": "false"})
    assert str(bad.outcome) == "failed(1)"
    assert file.read_text() == "# a\nPort 22\nX y\n"
    good = await on(host, "config-line", tmp_path, parameters=asked | {"verify_command": f"test -s '{file}'"})
    assert good.outcome.ok, good.phases()
    assert file.read_text() == "# a\nPort 2222 # $(id) 'q'\nX y\n"


async def test_time_sync_check_accepts_our_own_clock(host: DemoHost, tmp_path: Path) -> None:
    assert (await on(host, "time-sync-check", tmp_path)).outcome.ok


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
async def test_certificate_expiry_tells_a_short_one_from_a_long_one(host: DemoHost, tmp_path: Path) -> None:
    for days in (10, 40):
        subprocess.run(  # noqa: ASYNC221
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
             os.devnull, "-out", str(host.root / f"{days}.pem"), "-days", str(days), "-subj", "/CN=a"],
            check=True, capture_output=True,
        )  # fmt: skip
    name = "certificate-expiry"
    long = await on(host, name, tmp_path, parameters={"file": str(host.root / "40.pem")})
    short = await on(host, name, tmp_path, parameters={"file": str(host.root / "10.pem")})
    assert long.outcome.ok
    assert str(short.outcome) == "failed(1)"
    assert b"notAfter" in short.of(2, "do").out.data
    nothing = await on(host, name, tmp_path)
    assert "Give file or server" in nothing.outcome.detail


async def test_collect_logs_brings_lines_with_the_word(host: DemoHost, tmp_path: Path) -> None:
    (host.root / "app.log").write_text("one\ntwo error\nthree\nfour error\n")
    asked = {"files": str(host.root / "app.log"), "word": "error", "lines": 1}
    played = await on(host, "collect-logs", tmp_path, parameters=asked)
    assert played.of(2, "do").out.data.endswith(b"four error\n")
    assert b"two" not in played.of(2, "do").out.data


async def test_inventory_facts_and_disk_usage_tell_what_is_there(host: DemoHost, tmp_path: Path) -> None:
    facts = (await on(host, "inventory-facts", tmp_path)).of(1, "do").out.data.decode()
    assert f"kernel={os.uname().sysname} {os.uname().release}" in facts
    (host.root / "big").write_bytes(b"x" * 500_000)
    usage = await on(host, "disk-usage-report", tmp_path, parameters={"path": str(host.root)})
    assert f"500000\t{host.root}/big".encode() in usage.of(1, "do").out.data


async def test_dns_flush_proves_that_a_name_resolves(host: DemoHost, tmp_path: Path) -> None:
    asked = {"command": "echo flushed", "name": "localhost"}
    assert (await on(host, "dns-flush", tmp_path, parameters=asked)).phases() == ["1 do ok", "1 check ok"]
    wrong = await on(host, "dns-flush", tmp_path, parameters=asked | {"name": "no-such-name.invalid"})
    assert "check does not hold" in wrong.outcome.detail


@pytest.mark.skipif(not shutil.which("apt-get"), reason="needs a Debian system")
async def test_package_update_knows_what_is_not_needed(host: DemoHost, tmp_path: Path) -> None:
    played = await on(host, "package-update", tmp_path, parameters={"package": "no-such-package"}, dry_run=True)
    assert played.phases() == ["1 probe skipped"]


def test_reference_names_every_key_of_the_language_and_its_example_passes_check() -> None:
    from msp.remote import playbook
    from msp.remote.parameters import Parameter
    from msp.remote.playbook_steps import ACTION_KINDS, Step

    text = (FOLDER / "README.md").read_text()
    playbook.load(text.split("```yaml\n")[1].split("```")[0])
    keys = {field.alias or name for name, field in Step.model_fields.items()}
    keys |= {*playbook.Playbook.model_fields, *Parameter.model_fields, *playbook.Limits.model_fields, *ACTION_KINDS}
    assert {key for key in keys if f"{key}" not in text} == set()
