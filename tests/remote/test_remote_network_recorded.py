"""Platforms that cannot run here, by recorded sessions: what is asked and said, in order. See sessions/README.md."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from replay import Replay

from msp.remote.network.transport import NetworkTransport
from msp.remote.network.work import Line, Look, NetworkWork
from msp.remote.target import Credential, Target
from msp.remote.transport import Output
from msp.secret import Secret

pytestmark = pytest.mark.slow  # a process and a log-in each
LONG = timedelta(seconds=30)
DESCRIBE = ("interface GigabitEthernet1/0/7", " description Printer, 2nd floor")
ENABLE = Secret("enable-Passw0rd")
THERE = Look(("show vlan brief",), "OFFICE")
NOT_THERE = Look(("show vlan brief",), "VOICE")


def lines(*texts: str) -> tuple[Line, ...]:
    return tuple(Line(text, text) for text in texts)


@pytest.fixture
async def transport() -> AsyncIterator[NetworkTransport]:
    opened = NetworkTransport()
    yield opened
    await opened.close()


@pytest.fixture
def ios() -> Iterator[Replay]:
    with Replay("cisco_ios") as device:
        yield device


@pytest.fixture
def junos() -> Iterator[Replay]:
    with Replay("juniper_junos") as device:
        yield device


def target(device: Replay) -> Target:
    recording = device.recording
    credential = Credential(recording["user"], password=Secret(recording["password"]))
    return Target("sw1", "127.0.0.1", device.port, credential, (device.host_key,), transport="network",
                  platform=recording["platform"], kind="network")  # fmt: skip


async def done(transport: NetworkTransport, device: Replay, work: NetworkWork) -> Output:
    if device.recording["platform"] == "cisco_ios" and work.enable is None:
        work = replace(work, enable=ENABLE)
    async with transport.open(target(device)) as opened:
        return await opened.perform(work, timeout=LONG)


async def test_ios_enable_secret_of_its_own_is_given_and_a_wrong_one_is_told(
    transport: NetworkTransport, ios: Replay
) -> None:
    assert (await done(transport, ios, NetworkWork("1", show=("show version",)))).outcome.ok
    wrong = await done(transport, ios, NetworkWork("1", show=("show version",), enable=Secret("wrong-Passw0rd")))
    assert wrong.outcome.kind == "failed"
    assert "privileged mode" in wrong.outcome.detail
    assert b"Passw0rd" not in wrong.stdout + wrong.stderr


async def test_ios_backup_holds_the_configuration_without_secrets_and_without_what_changes_by_itself(
    transport: NetworkTransport, ios: Replay
) -> None:
    output = await done(transport, ios, NetworkWork("1", backup=True))
    assert output.outcome.ok, output.outcome
    assert output.configuration is not None
    text = output.configuration.text
    assert "hostname SW-ACC-01\n" in text
    assert "service password-encryption\n" in text
    assert " description Reception\n" in text
    for secret in ("hx5rVt7rPNoS4wqbXKX7m0", "planted", "0822455D0A16", "Last configuration", "clock-period"):
        assert secret not in text, secret
    assert "snmp-server community <removed> RO\n" in text
    assert "enable secret 5 <removed>\n" in text


async def test_ios_change_is_saved_and_what_is_stored_is_compared(transport: NetworkTransport, ios: Replay) -> None:
    output = await done(transport, ios, NetworkWork("1", config=lines(*DESCRIBE), save=True))
    assert output.outcome.ok, output.outcome
    assert "- description Reception\n+ description Printer, 2nd floor\n" in output.stdout.decode()
    assert output.stdout.count(b"\n-") == output.stdout.count(b"\n+ ") == 1  # and none that change by themselves
    assert "what is stored is what is in effect" in output.outcome.detail
    assert ios.state == "after-saved"
    assert "SW-ACC-01(config-if)# description Printer, 2nd floor" in output.stderr.decode()


async def test_ios_save_that_is_not_confirmed_is_failed(transport: NetworkTransport, ios: Replay) -> None:
    ios.state = "full"
    output = await done(transport, ios, NetworkWork("1", save=True))
    assert output.outcome.kind == "failed"
    assert "nv_done: unable to open" in output.outcome.detail


async def test_ios_rejected_line_is_named_and_what_came_before_is_taken_back(
    transport: NetworkTransport, ios: Replay
) -> None:
    work = NetworkWork("1", config=lines(*DESCRIBE, " switchport access vlan 999"))
    output = await done(transport, ios, work)
    assert str(output.outcome) == "failed(2)"
    assert "rejected line 3, `switchport access vlan 999`: % Access VLAN does not exist" in output.outcome.detail
    assert "Everything was taken back." in output.outcome.detail
    assert ios.state == "before"


async def test_ios_question_that_nobody_can_answer_ends_the_change(transport: NetworkTransport, ios: Replay) -> None:
    output = await done(transport, ios, NetworkWork("1", config=lines("no username netops")))
    assert str(output.outcome) == "failed(2)"
    assert "it asked `This operation will remove" in output.outcome.detail
    assert "Nothing was changed." in output.outcome.detail
    show = await done(transport, ios, NetworkWork("1", show=("clear counters",)))
    assert "nothing answers it" in show.outcome.detail


async def test_ios_deadman_is_set_before_the_change_and_called_off_after_the_proof(
    transport: NetworkTransport, ios: Replay
) -> None:
    work = NetworkWork("1", config=lines(*DESCRIBE), looks=(THERE,), deadman=timedelta(minutes=5), save=True)
    output = await done(transport, ios, work)
    assert output.outcome.ok, output.outcome
    asked = ios.asked
    order = ("reload in 5", "configure terminal", "show vlan brief", "reload cancel", "write memory")
    assert sorted(asked.index(word) for word in order) == [asked.index(word) for word in order]
    assert asked.count("enable") == 2  # proven from a second log-in
    assert ios.timer is False


async def test_ios_deadman_brings_back_what_is_not_proven_and_calls_the_reload_off(
    transport: NetworkTransport, ios: Replay
) -> None:
    work = NetworkWork("1", config=lines(*DESCRIBE), looks=(NOT_THERE,), deadman=timedelta(minutes=5))
    output = await done(transport, ios, work)
    assert str(output.outcome) == "failed(1)"
    assert "Everything was taken back." in output.outcome.detail
    assert (ios.state, ios.timer) == ("before", False)


async def test_ios_deadman_stays_set_when_the_device_cannot_be_reached_again(
    transport: NetworkTransport, ios: Replay
) -> None:
    ios.cut_after = "description Printer, 2nd floor"
    work = NetworkWork("1", config=lines(*DESCRIBE), looks=(THERE,), deadman=timedelta(minutes=5))
    async with transport.open(target(ios)) as opened:
        ios.locked_out = True
        output = await opened.perform(replace(work, enable=ENABLE), timeout=LONG)
    assert output.outcome.kind == "lost"
    assert "reloads with its stored configuration" in output.outcome.detail
    assert ios.timer is True


async def test_ios_deadman_is_refused_while_unsaved_changes_would_be_lost(
    transport: NetworkTransport, ios: Replay
) -> None:
    ios.state = "after"
    work = NetworkWork("1", config=lines("interface GigabitEthernet1/0/7", " description Reception"), looks=(THERE,),
                       deadman=timedelta(minutes=5))  # fmt: skip
    output = await done(transport, ios, work)
    assert "never saved" in output.outcome.detail
    assert "configure terminal" not in ios.asked
    assert ios.timer is None


SET = "set interfaces ge-0/0/3 description office"


async def test_junos_commits_what_was_set_and_can_turn_it_round(transport: NetworkTransport, junos: Replay) -> None:
    output = await done(transport, junos, NetworkWork("Step 1", config=lines(SET)))
    assert output.outcome.ok, output.outcome
    assert '-set interfaces ge-0/0/3 description "to the lab"\n+set interfaces' in output.stdout.decode()
    assert "planted" not in str(output.stdout + output.stderr) + str(output.configuration)
    assert junos.state == "after"
    undone = await done(transport, junos, NetworkWork("Step 1", revert=True))
    assert undone.outcome.ok, undone.outcome
    assert junos.state == "before"


async def test_junos_rejected_line_drops_the_candidate(transport: NetworkTransport, junos: Replay) -> None:
    output = await done(transport, junos, NetworkWork("1", config=lines(SET, "delete interfaces ge-0/0/9")))
    assert "rejected line 2, `delete interfaces ge-0/0/9`: warning: statement not found" in output.outcome.detail
    assert "Nothing was changed." in output.outcome.detail
    assert "rollback 0" in junos.asked
    assert "commit" not in junos.asked


@pytest.mark.parametrize(("look", "kind"), [("up    up", "ok"), ("nothing", "failed")])
async def test_junos_deadman_is_a_confirmed_commit(
    transport: NetworkTransport, junos: Replay, look: str, kind: str
) -> None:
    seen = Look(("show interfaces terse",), look)
    work = NetworkWork("1", config=lines(SET), looks=(seen,), deadman=timedelta(minutes=2))
    output = await done(transport, junos, work)
    assert output.outcome.kind == kind, output.outcome
    assert junos.asked.index("commit confirmed 2") < junos.asked.index("commit")
    assert (junos.state, junos.timer) == ("after" if kind == "ok" else "before", False)


def test_recordings_are_played_as_they_are_described() -> None:
    from replay import SESSIONS

    text = (SESSIONS / "README.md").read_text()
    for path in SESSIONS.glob("*.yml"):
        recording: dict[str, Any] = Replay(path.stem).recording
        keys = {*recording, *(key for one in recording["exchanges"] for key in one)} - {"platform"}
        assert {key for key in keys if f"`{key}" not in text} == set()
