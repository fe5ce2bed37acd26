"""The units and the compose file say what the product understands."""

import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from msp.console import COMMANDS
from msp.settings import Settings, load

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
HARDENED = {
    "NoNewPrivileges": "true", "ProtectSystem": "strict", "ProtectHome": "true", "PrivateTmp": "true",
    "CapabilityBoundingSet": "", "RestrictSUIDSGID": "true", "ProtectKernelModules": "true", "User": "msp",
}  # fmt: skip


def unit(path: Path) -> dict[str, list[str]]:
    """Return the keys of [Service], each with all its values."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_there_are_a_web_and_a_worker_unit() -> None:
    assert [path.name for path in UNITS] == ["msp-web.service", "msp-worker@.service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_unit_starts_a_command_that_exists_as_an_account_without_rights(path: Path) -> None:
    service = unit(path)
    (start,) = service["ExecStart"]
    assert start.split()[1] in COMMANDS
    assert {name: service[name][0] for name in HARDENED} == HARDENED
    given = dict(line.split("=", 1) for line in service["Environment"])
    assert set(given) - {"MSP_CONFIG"} <= {f"MSP_{item.name.upper()}" for item in fields(Settings)}
    assert int(service["TimeoutStopSec"][0]) > 0


def test_worker_unit_waits_longer_than_a_worker_drains_and_gives_each_a_slot_of_its_own() -> None:
    service = unit(DEPLOY / "systemd" / "msp-worker@.service")
    assert int(service["TimeoutStopSec"][0]) > Settings().drain_seconds
    assert "MSP_WORKER_NAME=worker-%i" in service["Environment"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_understands_every_line(path: Path, tmp_path: Path) -> None:
    program = tmp_path / "msp"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / path.name.replace("@.", "@01.")
    copy.write_text(path.read_text().replace("/opt/msp/bin/msp", str(program)).replace("User=msp", "User=nobody"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if copy.name in line]
    assert [line for line in ours if re.search(r"Unknown|Failed to parse|Invalid|not executable", line)] == []


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yml").read_text()))


def test_compose_runs_a_database_a_web_and_three_workers_with_slots_of_their_own() -> None:
    services = compose()["services"]
    workers = {name: one for name, one in services.items() if one.get("command") == ["msp", "worker"]}
    assert set(services) == {"database", "web", *workers}
    assert len({one["environment"]["MSP_WORKER_NAME"] for one in workers.values()}) == 3
    for one in (services["web"], *workers.values()):
        assert one["depends_on"] == {"database": {"condition": "service_healthy"}}
        assert one["command"][1] in COMMANDS
        environment = {name: str(value) for name, value in one["environment"].items()}
        assert load(None, environment).database.startswith("postgresql+psycopg://")
        assert "POSTGRES_PASSWORD:?" in environment["MSP_DATABASE"]  # no password of ours
        assert (one["read_only"], one["cap_drop"]) == (True, ["ALL"])
    named = {volume.split(":")[0] for one in services.values() for volume in one["volumes"]}
    assert named == set(compose()["volumes"])


def test_compose_builds_the_image_from_files_that_exist() -> None:
    build = compose()["services"]["web"]["build"]
    folder = (DEPLOY / build["context"]).resolve()
    assert (folder / build["dockerfile"]).is_file()
    wanted = re.search(r"/src\[([a-z,]+)\]", (DEPLOY / "Dockerfile").read_text())
    assert wanted is not None
    text = (folder / "pyproject.toml").read_text()
    for extra in wanted[1].split(","):
        assert re.search(rf"^{extra} = \[", text, re.MULTILINE)
