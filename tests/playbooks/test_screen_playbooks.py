"""The shipped playbooks for screens, each against a real TigerVNC server with something on it."""

from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import vnc
from PIL import Image
from playing import Played, play

from msp.remote.target import Credential, Target
from msp.secret import Secret

FOLDER = Path(__file__).resolve().parents[2] / "playbooks" / "screen"
pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(bool(vnc.missing(vnc.READER)), reason=vnc.missing(vnc.READER)),
]
# a page that is well, breaks, and is well again after F5 (which a terminal sends as ESC [15~)
KIOSK = """page() { clear; echo; echo "  $1"; }
page "Welcome to the town hall"; sleep 1; page "502 Bad Gateway"
stty -icanon -echo; head -c 5 > pressed; page "Welcome to the town hall"; sleep 60"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vnc.Screen]:
    with vnc.tigervnc(tmp_path_factory.mktemp("vnc")) as running:
        yield running


@pytest.fixture
def screen(server: vnc.Screen) -> Iterator[vnc.Screen]:
    yield server
    server.clear()


async def on(screen: vnc.Screen, name: str, parameters: dict[str, Any] | None = None, **options: Any) -> Played:
    target = Target(
        "till-1", "127.0.0.1", screen.port, Credential(password=Secret(vnc.PASSWORD)), transport="vnc", kind="kiosk"
    )
    return await play(FOLDER / f"{name}.yml", [target], parameters or {}, **options)


async def test_login_screen_check_sees_the_prompt_or_says_that_it_is_not_there(screen: vnc.Screen) -> None:
    screen.terminal("printf 'Debian GNU/Linux 12 till-1 tty1\\n\\ntill-1 login: '; sleep 60")
    played = await on(screen, "login-screen-check")
    assert played.phases() == ["1 do ok", "2 do ok"]
    (shot,) = played.of(1, "do").pictures
    assert Image.open(BytesIO(shot.png)).size == (800, 600)
    screen.clear()
    screen.terminal("echo grub rescue; sleep 60")
    missing = await on(screen, "login-screen-check", {"text": "another prompt"}, step_timeout=timedelta(seconds=8))
    assert str(missing.outcome) == "failed(1)"
    assert [shot.name for shot in missing.of(2, "do").pictures] == ["not seen"]


async def test_screen_capture_keeps_two_pictures(screen: vnc.Screen) -> None:
    screen.terminal("while :; do date +%N; sleep 0.3; done")
    played = await on(screen, "screen-capture")
    first, second = played.of(1, "do").pictures
    assert (first.name, second.name) == ("now", "3 seconds later")
    assert first.png != second.png
    assert (second.taken_at - first.taken_at).total_seconds() >= 3


async def test_screen_fault_check_names_the_words_that_it_sees(screen: vnc.Screen) -> None:
    screen.terminal("echo all is well here; sleep 60")
    words = {"words": "Kernel panic|Out of memory"}
    assert (await on(screen, "screen-fault-check", words)).phases() == ["1 do ok", "2 do ok", "3 do ok"]
    screen.clear()
    screen.terminal("echo 'Kernel panic - not syncing'; sleep 60")
    vnc.settle(1.5)
    played = await on(screen, "screen-fault-check", words)
    assert str(played.outcome) == "failed(1)"
    assert "'Kernel panic' was still seen" in played.outcome.detail


async def test_dismiss_dialog_presses_the_button_once_and_nothing_when_there_is_none(screen: vnc.Screen) -> None:
    box = screen.message("The printer is out of paper", "-buttons", "Cancel,Carry on", "-center")
    asked = {"text": "out of paper", "button": "Carry on"}
    dry = await on(screen, "dismiss-dialog", asked, dry_run=True)
    assert dry.phases() == ["1 probe ok", "1 do skipped"]
    assert box.poll() is None
    played = await on(screen, "dismiss-dialog", asked)
    assert played.phases() == ["1 probe ok", "1 do ok", "1 check ok"]
    assert [shot.name for shot in played.of(1, "do").pictures] == ["before", "after"]
    assert box.wait(10) == 102
    assert (await on(screen, "dismiss-dialog", asked)).phases() == ["1 probe skipped"]


async def test_kiosk_reload_presses_its_key_until_the_page_is_there(screen: vnc.Screen) -> None:
    screen.terminal(KIOSK)
    vnc.settle(2.5)
    asked = {"text": "Welcome to the town hall"}
    played = await on(screen, "kiosk-reload", asked)
    assert played.phases() == ["1 probe ok", "1 do ok"]
    assert vnc.wait_for(screen.folder / "pressed") == b"\x1b[15~"
    assert (await on(screen, "kiosk-reload", asked)).phases() == ["1 probe skipped"]
