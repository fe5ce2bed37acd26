"""The shipped playbooks for routers and switches: on a real FRR router, and on recorded sessions."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import frr
import pytest
from playing import Played, play
from replay import Replay

from msp.remote.target import Credential, Target
from msp.secret import Secret

FOLDER = Path(__file__).resolve().parents[2] / "playbooks" / "network"


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Replay]:
    monkeypatch.setitem(os.environ, "ENABLE", "enable-Passw0rd")
    with Replay("cisco_ios") as device:
        yield device


async def on(target: Target, name: str, /, **parameters: Any) -> Played:
    return await play(FOLDER / f"{name}.yml", [target], parameters)


async def on_switch(device: Replay, name: str, /, **parameters: Any) -> Played:
    credential = Credential(device.recording["user"], password=Secret(device.recording["password"]))
    target = Target("sw1", "127.0.0.1", device.port, credential, (device.host_key,), transport="network",
                    platform="cisco_ios", kind="network")  # fmt: skip
    return await on(target, name, enable="env:ENABLE", **parameters)


@pytest.mark.server
class TestRouter:
    async def test_backup_is_kept_without_secrets(self, rtr1: Target) -> None:
        played = await on(rtr1, "frr-config-backup")
        assert played.phases() == ["1 do ok", "2 do ok"]
        kept = played.of(2, "do").configuration
        assert kept is not None
        assert "router bgp 64512\n" in kept.text
        assert "planted-bgp-secret" not in kept.text

    async def test_backup_of_another_platform_is_refused(self, rtr1: Target) -> None:
        assert (await on(rtr1, "ios-config-backup")).outcome.kind == "refused"

    async def test_interface_is_bounced_and_one_not_there_left_alone(self, rtr1: Target, router: frr.Frr) -> None:
        played = await on(rtr1, "interface-bounce", interface="uplink0")
        assert played.phases() == ["1 do ok", "2 do ok"], played.ledger.records
        assert "new log-in" in played.of(2, "do").outcome.detail
        log = played.of(2, "do").err.data
        assert log.index(b" shutdown") < log.index(b" no shutdown")
        assert "is up" in router.vtysh("show interface uplink0")
        assert (await on(rtr1, "interface-bounce", interface="nowhere9")).phases() == ["1 do failed(2)"]

    async def test_description_is_set_and_saved(self, rtr1: Target, router: frr.Frr) -> None:
        asked = {"interface": "uplink0", "description": "Büro: $(reboot); 'a' (2nd)"}
        played = await on(rtr1, "interface-description", **asked)
        assert played.phases() == ["1 do ok", "2 do ok"], played.ledger.records
        assert "\n description Büro: $(reboot); 'a' (2nd)\n" in router.stored
        assert b"- description to the provider" in played.of(1, "do").out.data
        assert (await on(rtr1, "interface-description", **{**asked, "description": "to the provider"})).outcome.ok

    async def test_route_is_found_with_its_way_and_a_missing_one_fails(self, rtr1: Target) -> None:
        assert (await on(rtr1, "route-check", prefix="192.0.2.0/24", via="uplink0")).outcome.ok
        assert str((await on(rtr1, "route-check", prefix="192.0.2.0/24", via="uplink1")).outcome) == "failed(1)"
        assert str((await on(rtr1, "route-check", prefix="203.0.113.0/24")).outcome) == "failed(1)"

    async def test_neighbour_state_is_told(self, rtr1: Target) -> None:
        down = await on(rtr1, "bgp-neighbour-status", neighbour="192.0.2.9")
        assert str(down.outcome) == "failed(1)"
        assert b"BGP state = " in down.of(2, "do").out.data
        states = ("Active", "Connect", "Idle")
        assert any(
            [(await on(rtr1, "bgp-neighbour-status", neighbour="192.0.2.9", state=s)).outcome.ok for s in states]
        )

    async def test_static_route_is_added_once_saved_and_proven(self, rtr1: Target, router: frr.Frr) -> None:
        asked = {"prefix": "203.0.113.0/24", "via": "192.0.2.9"}
        played = await on(rtr1, "static-route", **asked)
        assert played.phases() == ["1 probe ok", "1 do ok", "2 do ok"], played.ledger.records
        assert "ip route 203.0.113.0/24 192.0.2.9\n" in router.stored
        assert (await on(rtr1, "static-route", **asked)).phases() == ["1 probe skipped", "2 do ok"]
        nowhere = await on(rtr1, "static-route", prefix="203.0.114.0/24", via="198.18.0.1")
        assert nowhere.outcome.kind == "failed"
        assert "203.0.114.0" not in router.vtysh("show running-config")

    async def test_configuration_is_saved(self, rtr1: Target, router: frr.Frr) -> None:
        router.configure("ip route 203.0.115.0/24 Null0")
        assert (await on(rtr1, "save-configuration")).outcome.ok
        assert "203.0.115.0/24" in router.stored


class TestSwitch:
    async def test_backup_is_kept_without_secrets(self, switch: Replay) -> None:
        played = await on_switch(switch, "ios-config-backup")
        assert played.phases() == ["1 do ok", "2 do ok"], played.ledger.records
        kept = played.of(2, "do").configuration
        assert kept is not None
        assert "hostname SW-ACC-01" in kept.text
        assert "planted" not in kept.text + str(played.ledger.records)

    async def test_vlan_is_added_saved_and_not_added_again(self, switch: Replay) -> None:
        played = await on_switch(switch, "vlan-add", vlan=30, name="VOICE")
        assert played.phases() == ["1 probe ok", "1 do ok"], played.ledger.records
        assert switch.state == "vlan-saved"
        switch.state = "vlan"
        assert (await on_switch(switch, "vlan-add", vlan=30, name="VOICE")).phases() == ["1 probe skipped"]
