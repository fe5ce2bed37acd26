"""Fixtures of servers that stand for a whole module of tests: Windows hosts by WinRM, and a router. See conftest.py."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from msp.remote.target import Target
from msp.secret import Secret

if TYPE_CHECKING:
    import frr
    from winrm_places import Places


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Places]":
    """WinRM services of every kind, with an account that they admit."""
    import winrm_peer
    from winrm_places import places

    folder = tmp_path_factory.mktemp("winrm")
    with pytest.MonkeyPatch.context() as patch, places(folder) as found:
        patch.setenv("NTLM_USER_FILE", str(winrm_peer.accounts(folder)))
        yield found


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[frr.Frr]":
    """FRR behind a log-in by SSH, or a skip that says why not."""
    import frr

    if frr.missing():
        pytest.skip(frr.missing())
    with frr.running(tmp_path_factory.mktemp("frr")) as running:
        yield running


@pytest.fixture(scope="module")
def rtr1(router: "frr.Frr", tmp_path_factory: pytest.TempPathFactory) -> Target:
    """The router as a target."""
    from msp.remote.inventory import read_hosts

    path = tmp_path_factory.mktemp("list") / "hosts"
    path.write_text(router.line)
    return read_hosts(path, secret=no_secret)[0]


def no_secret(reference: str) -> Secret:
    """A list of hosts in tests names no secret."""
    raise AssertionError(reference)
