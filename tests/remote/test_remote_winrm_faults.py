"""What goes wrong between us and a Windows host is told truly: what was sent, what was not, what is unknown."""

import asyncio
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import winrm_peer
import winrm_realm
from conformance import elsewhere
from winrm_places import Places

from msp.remote.inventory import read_hosts
from msp.remote.outcome import OK
from msp.remote.target import Credential, Target
from msp.remote.transport import CannotOpen, NotAdmitted
from msp.remote.winrm import clixml
from msp.remote.winrm.access import access, pin
from msp.remote.winrm.shell import of_windows_exit
from msp.remote.winrm.transport import WinRmTransport
from msp.secret import Secret

SHORT = timedelta(seconds=8)


@pytest.fixture
def fresh(peers: Places) -> winrm_peer.Server:
    """A peer that no other test has used."""
    return peers.fresh()


async def refusal(target: Target) -> NotAdmitted | CannotOpen:
    with pytest.raises((NotAdmitted, CannotOpen)) as caught:
        async with WinRmTransport().open(target, timeout=timedelta(seconds=4)):
            pass
    assert isinstance(caught.value, (NotAdmitted, CannotOpen))
    return caught.value


async def test_shells_are_given_back_whatever_happens(peers: Places, fresh: winrm_peer.Server) -> None:
    target = peers.reaching(fresh)
    async with WinRmTransport().open(target) as shell:
        assert [one.codepage for one in fresh.peer.shells.values()] == ["65001"]
        assert (await shell.run("#!cmd\nexit 4", timeout=SHORT)).status == 4
        await shell.run("#!cmd\nsleep 30", timeout=timedelta(seconds=0.6))
        await asyncio.sleep(0.1)
        assert fresh.peer.at_work == []  # the one that hung was told to stop, and its process is gone
        assert next(iter(fresh.peer.shells.values())).commands == {}
    assert fresh.peer.shells == {}
    with pytest.raises(RuntimeError):
        async with WinRmTransport().open(target):
            raise RuntimeError
    assert fresh.peer.shells == {}


async def test_cancelling_ends_the_process_on_the_host(peers: Places, fresh: winrm_peer.Server) -> None:
    async with WinRmTransport().open(peers.reaching(fresh)) as shell:
        task = asyncio.create_task(shell.run("#!cmd\nsleep 30", timeout=timedelta(seconds=40)))
        await asyncio.sleep(0.5)
        assert len(fresh.peer.at_work) == 1
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 3
        assert fresh.peer.at_work == []
        assert (await shell.run("#!cmd\necho after", timeout=SHORT)).stdout == b"after\n"


async def test_full_quota_is_unreachable_with_the_reason(peers: Places) -> None:
    target = peers.reaching(peers.fresh(most_shells=0))
    found = await refusal(target)
    assert str(found.outcome) == "unreachable(banner)"
    assert "maximum number of concurrent shells" in found.what


async def test_no_right_to_a_shell_is_told_from_a_wrong_password(peers: Places) -> None:
    found = await refusal(peers.target(fault="deny"))
    assert found.outcome.kind == "auth_failed"
    assert "Remote Management Users" in found.advice


@pytest.mark.parametrize(
    "what", ["basic without TLS", "pin without TLS", "key", "unknown way", "ssh pin", "bastion", "colon"]
)
async def test_what_must_not_be_is_refused_before_anything_is_dialled(peers: Places, what: str) -> None:
    plain, secured = peers.target(), peers.target(tls=True)
    target, words = {
        "basic without TLS": (elsewhere(plain, facts={**plain.facts, "winrm_auth": "basic"}), "whole network"),
        "pin without TLS": (elsewhere(plain, host_keys=(peers.certificate.pin,)), "shows none"),
        "key": (elsewhere(secured, credential=Credential("x", private_key=Secret("k"))), "needs a user and a password"),
        "unknown way": (elsewhere(plain, facts={"winrm_auth": "credssp"}), "credssp"),
        "ssh pin": (elsewhere(secured, host_keys=("ssh-ed25519 AAAA",)), "none of a certificate"),
        "colon": (
            elsewhere(peers.target("basic", tls=True), credential=Credential("a:b", password=Secret("x"))),
            "colon",
        ),
        "bastion": (elsewhere(secured, via=(plain,)), "behind a bastion"),
    }[what]
    before = peers.server().peer.connections, peers.server(tls=True).peer.connections
    found = await refusal(target)
    assert isinstance(found, NotAdmitted)
    assert words in found.what
    assert before == (peers.server().peer.connections, peers.server(tls=True).peer.connections)


@pytest.mark.parametrize("auth", ["ntlm", "basic"])
async def test_nothing_is_sent_to_a_host_with_another_certificate(peers: Places, auth: str) -> None:
    peer = peers.server(tls=True).peer
    opened = peer.opened
    for keys in ((peers.other.pin,), ()):
        found = await refusal(elsewhere(peers.target(auth, tls=True), host_keys=keys))
        assert found.outcome.kind == ("host_key_changed" if keys else "host_key_unknown")
        assert f"SHA256:{peers.certificate.pin[7:]}" in found.what
    assert peer.opened == opened


async def test_ntlm_over_tls_is_bound_to_the_certificate(peers: Places) -> None:
    peer = peers.server(tls=True).peer
    before = peer.bindings_checked
    async with WinRmTransport().open(peers.target("ntlm", tls=True)) as shell:
        assert (await shell.run("#!cmd\necho bound", timeout=SHORT)).stdout == b"bound\n"
    assert peer.bindings_checked > before


async def test_authority_may_vouch_instead_of_a_pin(peers: Places) -> None:
    target = elsewhere(peers.target("basic", tls=True), host_keys=())
    vouched = elsewhere(target, facts={**target.facts, "winrm_ca": str(peers.certificate.file)})
    async with WinRmTransport().open(vouched) as shell:
        assert (await shell.run("#!cmd\necho known", timeout=SHORT)).stdout == b"known\n"
    for facts, words in (
        ({"winrm_ca": str(peers.other.file)}, "does not hold"),
        ({"winrm_ca": str(peers.certificate.file), "winrm_host": "other.example"}, "does not hold"),
        ({"winrm_ca": "/no/such/file"}, "cannot be read"),
    ):
        found = await refusal(elsewhere(target, facts={**target.facts, **facts}))
        assert found.outcome.kind == "host_key_unknown"
        assert words in found.what


async def test_proxy_of_the_environment_is_not_asked(peers: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    for target in (peers.target(), peers.target("basic", tls=True)):
        async with WinRmTransport().open(target) as shell:
            assert (await shell.run("#!cmd\necho direct", timeout=SHORT)).stdout == b"direct\n"


async def test_altered_answer_is_noticed_and_in_doubt_or_not_opened(peers: Places) -> None:
    found = await refusal(peers.target(fault="garble"))
    assert "altered on the way" in found.what
    server = peers.fresh()
    async with WinRmTransport().open(peers.reaching(server)) as shell:
        server.peer.fault = "garble"
        output = await shell.run("#!cmd\necho x", timeout=SHORT)
    assert (output.outcome.kind, output.outcome.in_doubt) == ("lost", True)


async def test_connection_cut_on_the_command_is_in_doubt(peers: Places) -> None:
    async with WinRmTransport().open(peers.target(fault="cut_command")) as shell:
        output = await shell.run("#!cmd\necho x", timeout=SHORT)
    assert (output.outcome.kind, output.outcome.in_doubt) == ("lost", True)
    assert "unknown" in output.outcome.detail


async def test_host_that_answers_no_receive_ends_at_the_deadline(peers: Places) -> None:
    async with WinRmTransport().open(peers.target(fault="mute")) as shell:
        began = time.monotonic()
        output = await shell.run("#!cmd\necho x", timeout=timedelta(seconds=1))
    assert (output.outcome.kind, output.outcome.in_doubt) == ("timeout", True)
    assert time.monotonic() - began < 6


async def test_connection_that_was_idle_too_long_is_made_anew_for_the_same_shell(
    peers: Places, fresh: winrm_peer.Server
) -> None:
    async with WinRmTransport().open(peers.reaching(fresh)) as shell:
        await shell.run("#!cmd\necho one", timeout=SHORT)
        fresh.cut()  # as http.sys does after two minutes of silence
        await asyncio.sleep(0.05)
        assert (await shell.run("#!cmd\necho two", timeout=SHORT)).stdout == b"two\n"
        assert fresh.peer.opened == 1
        fresh.peer.shells.clear()  # as the service does after fifteen
        assert (await shell.run("#!cmd\necho three", timeout=SHORT)).stdout == b"three\n"
        assert fresh.peer.opened == 2
    assert fresh.peer.lines.count(fresh.peer.lines[0]) == 3  # each ran once


async def test_connection_that_cannot_be_made_anew_sends_nothing(peers: Places) -> None:
    server = peers.fresh()
    async with WinRmTransport().open(peers.reaching(server)) as shell:
        server.shutdown()
        server.socket.close()
        server.cut()
        await asyncio.sleep(0.05)
        output = await shell.run("#!cmd\necho x", timeout=SHORT)
    assert str(output.outcome) == "unreachable(refused)"


async def test_other_scripts_are_refused_by_name(peers: Places) -> None:
    async with WinRmTransport().open(peers.target()) as shell:
        output = await shell.run("echo x", timeout=SHORT)
    assert output.outcome.kind == "failed"
    assert "#!powershell or #!cmd" in output.outcome.detail


async def test_each_shell_keeps_to_one_thread(peers: Places, fresh: winrm_peer.Server) -> None:
    async def one(number: int) -> bytes:
        async with WinRmTransport().open(peers.reaching(fresh)) as shell:
            return b"".join([(await shell.run(f"#!cmd\necho {number}", timeout=SHORT)).stdout for _ in range(3)])

    assert await asyncio.gather(*map(one, range(12))) == [b"%d\n" % number * 3 for number in range(12)]
    await asyncio.sleep(0.3)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("winrm")] == []


@pytest.mark.server
@pytest.mark.skipif(bool(winrm_realm.missing()), reason=winrm_realm.missing())
async def test_kerberos_works_over_tls_and_tells_a_missing_realm(
    peers: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = Credential(f"{winrm_peer.USER}@{winrm_realm.REALM}", password=Secret(winrm_peer.PASSWORD))
    target = elsewhere(peers.target("kerberos", tls=True), credential=credential)
    with winrm_realm.running(tmp_path, winrm_peer.USER, winrm_peer.PASSWORD) as realm:
        for name, value in realm.environment.items():
            monkeypatch.setenv(name, value)
        async with WinRmTransport().open(target) as shell:
            assert (await shell.run("#!cmd\necho known", timeout=SHORT)).stdout == b"known\n"
        stranger = await refusal(elsewhere(target, facts={**target.facts, "winrm_host": "other.example"}))
        assert stranger.outcome.kind == "auth_failed"
    gone = await refusal(target)
    assert str(gone.outcome) == "unreachable(connect)"
    assert "Kerberos server" in gone.what


def test_exit_codes_of_windows() -> None:
    assert of_windows_exit(0) is OK
    assert str(of_windows_exit(259)) == "failed(259)"
    assert str(of_windows_exit(-1073741819)) == "killed(0xC0000005)"
    assert "access violation" in of_windows_exit(0xC0000005).detail
    assert str(of_windows_exit(0xFFFFFFFF)) == "failed(-1)"
    assert str(of_windows_exit(0x80070005)) == "failed(-2147024891)"
    assert str(of_windows_exit(0xE0434352)) == "killed(0xE0434352)"


@pytest.mark.parametrize(
    "address", ["", "a b", "x" * 300, "x" * 70, "[", "a/b", "me@host", "\u00fc.invalid", "a..b", "1.2.3"]
)
async def test_whatever_stands_for_an_address_ends_in_a_sentence(peers: Places, address: str) -> None:
    found = await refusal(elsewhere(peers.target(), address=address))
    assert found.outcome.kind == "unreachable"
    assert found.what.endswith(".")


def test_pins_are_read_as_programs_show_them() -> None:
    digits = "ab" * 32
    assert pin(f"SHA256:{':'.join(['AB'] * 32)}") == f"sha256:{digits}"
    assert pin("sha256:abc") is None
    assert pin("ssh-ed25519 AAAA") is None


def test_list_of_hosts_names_windows_hosts(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(
        f"win-1 10.0.0.5 transport=winrm user='CORP\\tech' password=vault:win hostkey=sha256:{'AB:' * 31}AB\n"
        "win-2 10.0.0.6 5985 tech transport=winrm auth=kerberos scheme=http host=win-2.corp password=vault:win\n"
    )
    one, two = read_hosts(tmp_path / "hosts", secret=Secret)
    assert (one.port, one.platform, one.host_keys) == (5986, "windows", ("sha256:" + "ab" * 32,))
    first, second = access(one), access(two)
    assert (first.scheme, first.auth, first.user, first.password) == ("https", "ntlm", "CORP\\tech", "vault:win")
    assert (second.endpoint, second.auth, second.host) == ("http://10.0.0.6:5985/wsman", "kerberos", "win-2.corp")
    assert "vault:win" not in repr(first)
    assert access(replace(two, address="::1")).endpoint == "http://[::1]:5985/wsman"


ERROR = (
    b'#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
    b'<Obj S="progress" RefId="0"><TN RefId="0"><T>System.Object</T></TN><MS><I64 N="SourceId">1</I64></MS></Obj>'
    b"<S S=\"Error\">Get-Item : Cannot find path 'C:\\n\xc3\xa4' &lt;x&gt;_x000D__x000A_</S>"
    b'<S S="Error">_x0020__x005F_x000A_ smile _xD83D__xDE00__x000D__x000A_</S><S S="warning">no</S>'
    b'<S S="Warning">take care</S></Objs>'
)
SAID = "Get-Item : Cannot find path 'C:\\nä' <x>\n _x000A_ smile \U0001f600\nWARNING: take care\n".encode()


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_clixml_becomes_the_lines_it_stands_for(size: int) -> None:
    reader = clixml.Reader()
    stream = b"native #< says\n" + ERROR + b"tail"
    pieces = [reader.feed(stream[begin : begin + size]) for begin in range(0, len(stream), size)]
    assert b"".join(pieces) + reader.end() == b"native #< says\n" + SAID + b"tail"


@pytest.mark.parametrize("stream", [b"", b"plain\n", b"#< CLI", b"#< CLIXML\r\n<Objs><S S=", b"\xff\xfe"])
def test_what_is_no_clixml_passes_unchanged(stream: bytes) -> None:
    reader = clixml.Reader()
    assert (reader.feed(stream) + reader.end()).replace(b"#< CLIXML\r\n", b"") == stream.replace(b"#< CLIXML\r\n", b"")


def test_clixml_that_is_too_large_or_hostile_is_passed_on_as_it_is() -> None:
    reader = clixml.Reader()
    large = clixml.MARK + b"x" * (clixml.LARGEST + 1)
    assert reader.feed(large) + reader.feed(b"more") + reader.end() == large + b"more"
    with pytest.raises(ET.ParseError):
        clixml.lines(b'<!DOCTYPE a [<!ENTITY b "c">]><Objs><S S="Error">&b;</S></Objs>')
