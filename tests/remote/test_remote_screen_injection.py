"""Hostile values that are typed on a screen arrive in the X client as they are, or nothing is typed at all."""

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import vnc
from test_remote_injection import HOSTILE

from msp.errors import Misconfigured
from msp.remote.acts import Acts
from msp.remote.playbook_steps import Step
from msp.remote.screen.part import Screen
from msp.remote.screen.vnc import VncTransport
from msp.remote.screen.work import ScreenWork
from msp.remote.target import Credential, Target
from msp.secret import Secret

# a terminal that hands every key on, and says when a line of dots comes
READ = "stty -icanon -echo -isig -ixon -iexten; : > {0}.on; exec cat > {0}"
MINUTE = timedelta(minutes=1)
STEP = Step.model_validate({"screen": [{"type": "{{ v }}"}]})


def target_of(server: vnc.Screen) -> Target:
    credential = Credential(password=Secret(vnc.PASSWORD))
    return Target("till", "127.0.0.1", server.port, credential, transport="vnc")


def work_of(value: object) -> ScreenWork:
    secrets = frozenset({"v"}) if isinstance(value, Secret) else frozenset()
    acts = Acts({"v": value}, secrets=secrets, timeout=timedelta(seconds=9), folder=None, what="Step 1")
    work = acts.of(STEP, "do")
    assert isinstance(work, ScreenWork)
    return work


def values(count: int) -> list[str]:
    """The hostile values of shells, and random ones of every character that every keyboard has."""
    chance = random.Random(4)
    letters = [chr(code) for code in range(0x20, 0x7F)]
    letters += ["\n", "\t", *"$`'\"\\{}%;|&<>()!#*?[]~^"] * 3
    made = ["".join(chance.choices(letters, k=chance.randrange(1, 30))) for _ in range(count)]
    fixed = [value.replace("\r\n", "\n") for value in HOSTILE if value and value.isascii()]
    return [*fixed, "{{ 7 * 7 }}", "{% raw %}", "ctrl-alt-del", "</screen>", "%s%n", *made][:count]


UNTYPABLE = ["\x00", "a\x1b[2J", "a\x7f", "\x03", "a\rb", "\x9b31m", "half \ud800", "￾", "é", "Ж"]


@pytest.mark.parametrize("value", UNTYPABLE)
def test_value_without_a_key_is_refused_before_anything_is_typed(value: str) -> None:
    with pytest.raises(Misconfigured, match=r"cannot be typed: .*U\+"):
        work_of(value)
    with pytest.raises(Misconfigured, match="cannot be typed") as caught:
        work_of(Secret(value))
    assert "U+" not in caught.value.what


def test_value_is_no_template_and_no_key_name() -> None:
    assert work_of("{{ 7 * 7 }}").text == 'type "{{ 7 * 7 }}"'
    assert work_of(Secret("ctrl-c")).text == "type ***"


@pytest.fixture(scope="module", params=["tigervnc", "x11vnc"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[vnc.Screen]:
    if reason := vnc.missing(vnc.X11VNC if request.param == "x11vnc" else {}):
        pytest.skip(reason)
    with getattr(vnc, request.param)(tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.mark.server
@pytest.mark.slow
async def test_two_hundred_hostile_values_arrive_verbatim(server: vnc.Screen) -> None:
    given = values(200)
    server.terminal(READ.format("got"))
    vnc.wait_for(server.folder / "got.on")
    async with VncTransport().open(target_of(server), timeout=MINUTE) as screen:
        for begin in range(0, len(given), 50):
            acts = tuple(act for value in given[begin : begin + 50] for act in work_of(value).acts)
            output = await screen.perform(ScreenWork("", acts, sends=True), timeout=MINUTE)
            assert output.outcome.ok, output.outcome
    server.clear()
    arrived = (server.folder / "got").read_bytes().decode("utf-8", "backslashreplace")
    assert arrived == "".join(given)


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("server", ["tigervnc"], indirect=True)  # x11vnc drops what its X server's keyboard lacks
async def test_letters_of_other_keyboards_arrive_at_tigervnc_if_they_are_asked_for(server: vnc.Screen) -> None:
    server.terminal(READ.format("letters"))
    vnc.wait_for(server.folder / "letters.on")
    text = "Größe, Жук, 漢, 😀\n"
    work = Screen.model_validate([{"type": {"text": text, "any_letter": True}}]).work(lambda same: same, None, "Step 1")
    async with VncTransport().open(target_of(server), timeout=MINUTE) as screen:
        assert (await screen.perform(work, timeout=MINUTE)).outcome.ok
    server.clear()
    assert (server.folder / "letters").read_bytes().decode() == text


@pytest.mark.server
@pytest.mark.slow
async def test_secrets_arrive_verbatim_and_stand_nowhere_else(
    server: vnc.Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "pa$$ 'w0rd' \"e\" \\x"
    monkeypatch.setenv("TILL_PASSWORD", vnc.PASSWORD)  # as `password=env:TILL_PASSWORD` of a list of hosts has it
    server.terminal(READ.format("secret"))
    vnc.wait_for(server.folder / "secret.on")
    async with VncTransport().open(target_of(server), timeout=MINUTE) as screen:
        arguments = b"".join(of_children("cmdline"))
        output = await screen.perform(work_of(Secret(secret)), timeout=MINUTE)
        environments = b"".join(of_children("environ"))
    assert output.outcome.ok
    server.clear()
    assert (server.folder / "secret").read_bytes().decode() == secret
    assert arguments
    for word in (secret, vnc.PASSWORD):
        assert word.encode() not in arguments + environments
        assert word not in repr(output)


def of_children(what: str) -> Iterator[bytes]:
    """What the system tells about the processes that speak VNC."""
    for path in Path("/proc").glob(f"[0-9]*/{what}"):
        try:
            if b"msp.remote.screen.child" in path.with_name("cmdline").read_bytes():
                yield path.read_bytes()
        except OSError:  # a process of somebody else, or one that has gone
            continue
