"""`msp run` as people and programs call it: a process of its own, against servers that behave and that do not."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ssh_faults import GARBAGE, FaultFleet

from msp.demo.hosts import DemoHosts

MSP = [sys.executable, "-c", "from msp.console import main; main()"]
ECHO = """name: echo
version: 1
summary: Say fx-1.
action_class: read
limits: {connect: 3s, step: 3s}
steps:
  - {name: say, do: {shell: echo fx-1}}
"""
EXPECTED = {
    "healthy": "ok",
    "refuse": "unreachable",
    "silent": "unreachable",
    "slam": "unreachable",
    "hang": "timeout",
    "drop": "lost",
    "garbage": "ok",
    "changed_key": "host_key_changed",
    "reject": "auth_failed",
}


def msp(folder: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MSP_")}
    return subprocess.run(
        [*MSP, *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=kept | environment
    )


def lines(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def ends(done: "subprocess.CompletedProcess[str]") -> dict[str, dict[str, Any]]:
    return {line["host"]: line for line in lines(done) if line["phase"] == "host"}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoHosts]:
    folder = tmp_path_factory.mktemp("run")
    with DemoHosts(folder / "hosts", ["one", "two"]) as running:
        running.write_list(folder / "list")
        (folder / "echo.yml").write_text(ECHO)
        yield running


def write(hosts: DemoHosts, name: str, text: str) -> str:
    (hosts.folder.parent / name).write_text(text)
    return name


def test_fleet_with_every_fault_ends_in_time_with_one_right_outcome_for_each(tmp_path: Path) -> None:
    counts = {"refuse": 3, "silent": 3, "slam": 1, "hang": 2, "drop": 2, "garbage": 1, "changed_key": 1, "reject": 1}
    kinds = [kind for kind, number in counts.items() for _ in range(number)] + ["healthy"] * 12
    (tmp_path / "echo.yml").write_text(ECHO)
    with FaultFleet(tmp_path / "fleet", kinds) as fleet:
        fleet.write_list(tmp_path / "list")
        began = time.monotonic()
        done = msp(tmp_path, "run", "echo.yml", "--hosts", "list", "--json")
        took = time.monotonic() - began
    assert took < 3 + 3 + 5
    found = ends(done)
    assert {name: end["outcome"] for name, end in found.items()} == {
        name: EXPECTED[kind] for name, kind in fleet.kind_of.items()
    }
    assert Counter(line["host"] for line in lines(done) if line["phase"] == "host") == Counter(list(fleet.kind_of))
    reasons = {fleet.kind_of[name]: end.get("reason") for name, end in found.items()}
    assert reasons["refuse"] == "refused"
    assert reasons["silent"] == "banner"
    assert done.returncode == 3  # unknown outranks failed
    steps = {line["host"]: line for line in lines(done) if line["phase"] == "do"}
    for name, kind in fleet.kind_of.items():
        if kind in ("hang", "drop"):
            assert steps[name]["stdout"] == "fx-1\npartial"
            assert found[name]["unknown"] is True
            assert len(fleet.asked[name]) == 1  # never sent again
        if kind == "garbage":
            assert steps[name]["stdout"] == GARBAGE.decode("utf-8", "backslashreplace")
        if kind in ("changed_key", "reject"):
            assert fleet.asked[name] == []
    assert "\x1b" not in done.stdout
    assert "\x9b" not in done.stdout


def test_exit_statuses_and_both_forms_of_output(hosts: DemoHosts) -> None:
    folder = hosts.folder.parent
    done = msp(folder, "run", "echo.yml", "--hosts", "list")
    assert (done.returncode, "2 hosts: 2 ok" in done.stdout) == (0, True)
    bad = write(hosts, "bad.yml", ECHO.replace("echo fx-1", "echo $DEMO_HOST; test $DEMO_HOST = one"))
    done = msp(folder, "run", bad, "--hosts", "list", "--json")
    assert done.returncode == 1
    assert {name: (end["outcome"], end["status"]) for name, end in ends(done).items()} == {
        "one": ("ok", 0),
        "two": ("failed", 1),
    }
    shown = msp(folder, "run", bad, "--hosts", "list")
    assert "two: failed(1)" in shown.stdout
    assert "1 ok, 1 failed" in shown.stdout


def test_parameters_reach_the_host_verbatim(hosts: DemoHosts) -> None:
    text = ECHO.replace("steps:", "parameters: {v: string}\nsteps:").replace("echo fx-1", "\"printf '%s' {{ v }}\"")
    name = write(hosts, "param.yml", text)
    value = "a'b\"c $(touch pwned) `id` \n\\n ü"
    done = msp(hosts.folder.parent, "run", name, "--hosts", "list", "--json", "--limit", "one", "--param", f"v={value}")
    assert [line["stdout"] for line in lines(done) if line["phase"] == "do"] == [value]
    assert not (hosts["one"].root / "pwned").exists()


def test_break_glass_and_dry_run_are_accepted_without_an_installation(hosts: DemoHosts) -> None:
    name = write(
        hosts,
        "touch.yml",
        ECHO.replace("read", "change").replace("do: {shell: echo fx-1}", "do: touch t, check: test -e t"),
    )
    folder = hosts.folder.parent
    done = msp(folder, "run", name, "--hosts", "list", "--dry-run", "--json", "--rendered")
    assert done.returncode == 0
    assert [line["rendered"] for line in lines(done) if line["phase"] == "do"] == ["touch t"] * 2
    assert not (hosts["one"].root / "t").exists()
    assert msp(folder, "run", name, "--hosts", "list", "--break-glass", "server down").returncode == 0
    assert (hosts["one"].root / "t").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "echo.yml"], "No list of hosts"),
        (["run", "nothing.yml", "--hosts", "list"], "no playbook nothing.yml"),
        (["run", "echo.yml", "--hosts", "nothing"], "cannot be read"),
        (["run", "echo.yml", "--hosts", "list", "--param", "x=1"], "no parameter x"),
        (["run", "echo.yml", "--hosts", "list", "--param", "x"], "not name=value"),
        (["run", "echo.yml", "--hosts", "list", "--ticket", "4"], "no installation"),
        (["run", "echo.yml", "--hosts", "list", "--break-glass", " "], "needs a reason"),
        (["run", "echo.yml", "--hosts", "broken"], "broken:2: port 'x' is not a port number"),
        (["run", "echo.yml", "--hosts", "list", "--limit", "three"], "no host three"),
        (["run", "faulty.yml", "--hosts", "list"], "faulty.yml:2:1: Unknown key 'vresion'"),
    ],
)
def test_bad_requests_are_sentences_and_exit_2(hosts: DemoHosts, words: list[str], said: str) -> None:
    write(hosts, "broken", "a 127.0.0.1\nb 127.0.0.1 x\n")
    write(hosts, "faulty.yml", ECHO.replace("version", "vresion"))
    done = msp(hosts.folder.parent, *words)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_inventories_of_ansible_and_openssh_reach_the_same_hosts(hosts: DemoHosts) -> None:
    folder, one = hosts.folder.parent, hosts["one"]
    write(hosts, "known", f"[127.0.0.1]:{one.port} {one.host_key}\n")
    ini = f'[web]\none ansible_host=127.0.0.1 ansible_port={one.port} msp_host_key="{one.host_key}"\n\n'
    write(hosts, "inv.ini", f"{ini}[web:vars]\nansible_user=demo\nansible_ssh_private_key_file={one.key_file}\n")
    write(
        hosts,
        "inv.yml",
        "all:\n  children:\n    web:\n      hosts:\n"
        f"        one: {{ansible_host: 127.0.0.1, ansible_port: {one.port}}}\n"
        f"      vars: {{ansible_user: demo, ansible_ssh_private_key_file: {one.key_file}}}\n",
    )
    write(
        hosts,
        "config",
        f"Host one\n  HostName 127.0.0.1\n  Port {one.port}\n  UserKnownHostsFile {folder / 'known'}\n"
        f"Host *\n  User demo\n  IdentityFile {one.key_file}\n",
    )
    for name, more in (("inv.ini", []), ("inv.yml", ["--known-hosts", "known"]), ("config", [])):
        done = msp(folder, "run", "echo.yml", "--inventory", name, "--json", *more)
        assert done.returncode == 0, (name, done.stdout, done.stderr)
