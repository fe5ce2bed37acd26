"""Shipped playbooks for Windows against a host that is played: every answer below was written by hand.

No Windows was available. What holds: the scripts are PowerShell by an independent grammar, values and secrets arrive,
the way over WinRM is real, and each answer leads to the right end. What does not: that Windows answers so.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import powershell_oracle
import pytest
from playing import Played, planned, play
from winrm_places import Places
from winrm_stand_in import Answer

from msp.remote import catalogue
from msp.remote.acts import Acts

FOLDER = Path(__file__).resolve().parents[2] / "playbooks" / "windows"
FILES = sorted(FOLDER.glob("*.yml"))


class Windows:
    """Plays a host: answers script by script in the order written down, and keeps what it was asked."""

    def __init__(self, peers: Places) -> None:
        self.server = peers.server()
        self.target = peers.reaching(self.server)
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def answers(self, name: str, parameters: dict[str, Any], *script: tuple[str, Answer]) -> Played:
        """Play a playbook. script: for each script that is to come, a word in it, and the answer."""
        left = list(script)
        self.asked = []

        def played(text: str, values: dict[str, str]) -> Answer:
            self.asked.append((text, values))
            word, answer = left.pop(0)
            assert word in text, f"{word!r} is not in: {text}"
            return answer

        self.server.peer.played = played
        found = await play(FOLDER / f"{name}.yml", [self.target], parameters)
        assert left == [], f"never asked: {left}"
        return found


@pytest.fixture
def windows(peers: Places) -> Windows:
    return Windows(peers)


def rendered(path: Path, parameters: dict[str, Any]) -> Iterator[tuple[str, str]]:
    host = {"name": "w", "address": "w", "port": 1, "platform": "windows", "kind": "server", "facts": {}}
    for step in planned(path, parameters).steps:
        acts = Acts(
            {"host": host, "run": {}, **step.scope},
            secrets=step.secrets,
            timeout=step.timeout,
            folder=None,
            what=step.what,
        )
        for phase in ("probe", "do", "check", "undo"):
            if (act := acts.of(step.step, phase)) is not None:
                yield phase, act.text  # type: ignore[union-attr]


GIVEN: dict[str, dict[str, Any]] = {
    "windows-service-restart": {"service": "W3SVC"},
    "windows-user-add": {"user": "anna", "password": "env:FIRST", "full_name": "Anna O'Neil", "group": "Remote Users"},
    "windows-user-disable": {"user": "anna"},
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_script_is_powershell_whatever_the_parameters(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST", "hunter2")
    book = catalogue.find(str(path)).playbook
    switches = {name: not one.default for name, one in book.parameters.items() if one.type == "bool"}
    for parameters in (GIVEN.get(path.stem, {}), GIVEN.get(path.stem, {}) | switches):
        for _, text in rendered(path, parameters):
            head, _, body = text.partition("\n")
            assert head in ("#!powershell", "#!cmd")
            if head == "#!powershell":
                powershell_oracle.parsed(body)


def test_at_least_eight_are_shipped_for_windows_only() -> None:
    assert len(FILES) >= 8
    assert {catalogue.find(str(path)).playbook.applies_to.platform for path in FILES} == {("windows",)}


async def test_spooler_is_restarted_and_its_queue_removed(windows: Windows) -> None:
    played = await windows.answers(
        "printer-spooler",
        {"clear_queue": True},
        ("Get-Service -Name Spooler", Answer(out="the spooler is Running\n")),
        ("Stop-Service -Name Spooler -Force", Answer(out="3 files of the queue removed\n")),
        ("WaitForStatus('Running'", Answer(out="the spooler runs\n")),
    )
    assert played.phases() == ["1 probe ok", "1 do ok", "1 check ok"]
    assert played.of(1, "do").out.data == b"3 files of the queue removed\n"
    assert "Remove-Item -Force" in windows.asked[1][0]
    left = await windows.answers("printer-spooler", {"only_if_down": True}, ("exit 1", Answer(1, "Running")))
    assert left.phases() == ["1 probe skipped"]


async def test_spooler_that_does_not_start_asks_for_a_visit(windows: Windows) -> None:
    played = await windows.answers(
        "printer-spooler",
        {},
        ("Get-Service", Answer()),
        ("Stop-Service", Answer()),
        ("WaitForStatus", Answer(1, err="Time out has expired and the operation has not been completed.")),
        ("Start-Service", Answer()),
    )
    assert str(played.outcome) == "failed(1)"
    assert played.report.ends[0].visit
    assert played.of(1, "check").err.data == b"Time out has expired and the operation has not been completed.\n"
    assert "Remove-Item" not in windows.asked[1][0]


async def test_dns_cache_is_flushed_by_cmd_and_proven_by_powershell(windows: Windows) -> None:
    asked = {"name": "intranet.corp"}
    flushed = ("ipconfig /flushdns", Answer(out="Successfully flushed"))
    good = await windows.answers("windows-dns-flush", asked, flushed, ("GetHostAddresses", Answer(out="10.0.0.1\n")))
    assert good.phases() == ["1 do ok", "1 check ok"]
    assert windows.asked[1][1] == {"msp_1": "intranet.corp"}
    bad = await windows.answers(
        "windows-dns-flush", asked, flushed, ("GetHostAddresses", Answer(1, err="No such host"))
    )
    assert "check does not hold" in bad.outcome.detail


async def test_update_status_reads_only_and_fails_on_too_many(windows: Windows) -> None:
    said = "missing=4\nrestart_due=True\nupdate=Something (KB5)\n"
    good = await windows.answers("windows-update-status", {}, ("Microsoft.Update.Session", Answer(out=said)))
    assert good.phases() == ["1 do ok"]
    bad = await windows.answers(
        "windows-update-status", {"most_missing": 3, "restart_is_fault": True}, ("-gt 3", Answer(1, said, "too many"))
    )
    assert str(bad.outcome) == "failed(1)"
    assert "a restart is due" in windows.asked[0][0]


async def test_remote_desktop_is_taken_back_when_it_does_not_listen(windows: Windows) -> None:
    admitted = await windows.answers("rdp-enable", {}, ("fDenyTSConnections", Answer(1, "it is admitted already\n")))
    assert admitted.phases() == ["1 probe skipped"]
    played = await windows.answers(
        "rdp-enable",
        {"port": 3390},
        ("fDenyTSConnections", Answer(out="denied=1 network_level=0\n")),
        ("Enable-NetFirewallRule", Answer()),
        ("-LocalPort 3390", Answer(1, err="remote desktop does not listen")),
        ("fDenyTSConnections -Value 1", Answer()),
    )
    assert str(played.outcome) == "failed(1)"
    assert "undone" in played.outcome.detail


async def test_antivirus_that_is_off_is_a_failure(windows: Windows) -> None:
    on = "enabled=True\nreal_time=True\nsignature_age_days=0\n"
    assert (await windows.answers("antivirus-status", {}, ("Get-MpComputerStatus", Answer(out=on)))).outcome.ok
    off = await windows.answers("antivirus-status", {"max_age_days": 1}, ("-gt 1)", Answer(1, err="it is off")))
    assert str(off.outcome) == "failed(1)"


async def test_full_drive_is_cleaned_and_a_drive_with_room_left_alone(windows: Windows) -> None:
    played = await windows.answers(
        "windows-disk-cleanup",
        {"drive": "D", "older_than_days": 30, "empty_recycle_bin": False},
        ("-lt 85", Answer(out="97 percent in use\n")),
        ("AddDays(-30)", Answer(out="4000 MB freed\n")),
        ("-ge 85", Answer(out="70 percent in use\n")),
    )
    assert played.outcome.ok
    assert all(values and set(values.values()) == {"D"} for _, values in windows.asked)
    assert "Clear-RecycleBin" not in windows.asked[1][0]
    room = await windows.answers("windows-disk-cleanup", {}, ("-lt 85", Answer(1, "40 percent in use\n")))
    assert room.phases() == ["1 probe skipped"]


async def test_service_is_restarted_with_those_that_need_it(windows: Windows) -> None:
    played = await windows.answers(
        "windows-service-restart",
        {"service": "MSSQL$ONE", "wait_seconds": 90},
        ("Get-Service", Answer(out="it is Stopped\n")),
        ("Restart-Service", Answer(out="started again: SQLAgent$ONE\n")),
        ("FromSeconds(90)", Answer(out="it runs\n")),
    )
    assert played.outcome.ok
    assert {value for _, values in windows.asked for value in values.values()} == {"MSSQL$ONE"}


async def test_account_is_made_with_a_password_that_stands_nowhere(
    windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = "It's \u2019$(secret)\u201d; `n"
    monkeypatch.setenv("FIRST", password)
    played = await windows.answers(
        "windows-user-add",
        GIVEN["windows-user-add"],
        ("Get-LocalUser", Answer()),
        ("New-LocalUser", Answer()),
        ("Enabled", Answer(out="the account exists and is enabled\n")),
        ("Get-LocalGroupMember", Answer()),
        ("Add-LocalGroupMember", Answer()),
        ("-notcontains", Answer(out="member")),
    )
    assert played.outcome.ok
    script, values = windows.asked[1]
    assert password in values.values()
    assert "Anna O'Neil" in values.values()
    assert password not in script
    everything = " ".join([*(record.rendered for record in played.ledger.records), *windows.server.peer.lines])
    assert password not in everything
    assert re.search(r"msp_s1", everything)


async def test_account_is_taken_back_when_its_group_is_not_there(
    windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRST", "hunter2-hunter2")
    played = await windows.answers(
        "windows-user-add",
        GIVEN["windows-user-add"],
        ("Get-LocalUser", Answer()),
        ("New-LocalUser", Answer()),
        ("Enabled", Answer()),
        ("Get-LocalGroupMember", Answer(0)),
        ("Add-LocalGroupMember", Answer(1, err="Group Remote Users was not found.")),
        ("Remove-LocalGroupMember", Answer(1, err="Group Remote Users was not found.")),
        ("Remove-LocalUser", Answer()),
    )
    assert str(played.outcome) == "failed(1)"
    assert "Step 1 (create the account) undone" in played.outcome.detail


async def test_account_is_disabled_and_what_it_runs_is_ended(windows: Windows) -> None:
    played = await windows.answers(
        "windows-user-disable",
        {"user": "anna"},
        ("Enabled", Answer()),
        ("Disable-LocalUser", Answer()),
        ("Enabled", Answer(out="it is disabled\n")),
        ("Stop-Process", Answer(out="2 processes ended\n")),
        ("go on", Answer()),
    )
    assert played.outcome.ok


async def test_event_log_brings_errors_and_asks_for_warnings_only_when_told(windows: Windows) -> None:
    said = "entries=1\n2026-01-02T03:04:05Z Error disk 7 bad block\n"
    asked = {"log": "Microsoft-Windows-PrintService/Admin", "hours": 5, "most": 10, "warnings": True}
    played = await windows.answers("event-log-collect", asked, ("Level = 1, 2, 3", Answer(out=said)))
    assert played.of(1, "do").out.data == said.encode()
    assert "AddHours(-5)" in windows.asked[0][0]
    missing = await windows.answers("event-log-collect", {}, ("Level = 1, 2 }", Answer(1, err="There is not a log")))
    assert str(missing.outcome) == "failed(1)"


async def test_clock_is_set_by_cmd_and_compared_by_powershell(windows: Windows) -> None:
    set_it = ("w32tm /resync /force", Answer(out="The command completed successfully."))
    good = await windows.answers("windows-time-sync", {}, set_it, ("/stripchart", Answer(out="12:00:00, +00.01s\n")))
    assert good.outcome.ok
    assert "/computer:${msp_1}" in windows.asked[1][0]
    off = await windows.answers(
        "windows-time-sync", {}, set_it, ("/stripchart", Answer(1, err="the clock is 90 s off"))
    )
    assert "check does not hold" in off.outcome.detail


async def test_inventory_facts_are_lines(windows: Windows) -> None:
    said = "name=WS-1\nsystem=Windows\nmemory_mb=8192\n"
    played = await windows.answers("windows-inventory-facts", {}, ("Win32_OperatingSystem", Answer(out=said)))
    assert played.of(1, "do").out.data == said.encode()
