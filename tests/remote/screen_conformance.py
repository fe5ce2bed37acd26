"""What every transport with a screen must do, whatever server shows it. Subclass it with a `place` fixture."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import vnc
from PIL import Image
from tcp_faults import Relay

from msp.errors import Unreachable
from msp.remote.screen.part import Screen
from msp.remote.screen.work import ScreenWork
from msp.remote.target import Target
from msp.remote.transport import CannotOpen, NotAdmitted, Output, Performer, Picture, Shell, Transport
from msp.secret import Secret

LONG = timedelta(seconds=30)


@dataclass
class ScreenPlace:
    """A transport, a screen that it reaches with what runs on it, and screens that it must not reach."""

    transport: Transport
    target: Target
    server: vnc.Screen
    folder: Path  # for images beside the playbook
    stranger: Target
    refusing: Target
    silent: Target
    nameless: Target


def acts(*given: Any, folder: Path | None = None, secrets: Sequence[str] = ()) -> ScreenWork:
    """The work of a screen step; a text that is one of `secrets` is a secret."""
    screen = Screen.model_validate(list(given))
    return screen.work(lambda text: Secret(text) if text in secrets else text, folder, "Step 1")


async def perform(place: ScreenPlace, work: ScreenWork, timeout: timedelta = LONG) -> Output:
    async with place.transport.open(place.target, timeout=LONG) as opened:
        assert isinstance(opened, Performer)
        return await opened.perform(work, timeout=timeout)


def image(picture: Picture) -> Image.Image:
    return Image.open(BytesIO(picture.png)).convert("RGB")


def named(output: Output, name: str) -> Image.Image:
    return next(image(picture) for picture in output.pictures if picture.name == name)


def processes() -> set[int]:
    """Our own children that are alive."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"msp.remote.screen.child" in entry.read_bytes():
                found.add(int(entry.parent.name))
    return {pid for pid in found if Path(f"/proc/{pid}/stat").read_text().split()[3] == str(os.getpid())}


class ScreenConformance:
    """Subclass it, and supply the fixture `place`: a real server on loopback."""

    @pytest.fixture(autouse=True)
    def _clear(self, place: ScreenPlace) -> Iterator[None]:
        yield
        place.server.clear()
        assert processes() == set()

    async def test_is_a_performer_and_no_shell(self, place: ScreenPlace) -> None:
        async with place.transport.open(place.target, timeout=LONG) as opened:
            assert isinstance(opened, Performer)
            assert not isinstance(opened, Shell)

    async def test_capture_is_a_picture_of_the_whole_screen_or_a_part(self, place: ScreenPlace) -> None:
        region = {"x": 10, "y": 20, "width": 100, "height": 50}
        output = await perform(place, acts("capture", {"capture": {"name": "part", "region": region}}))
        assert output.outcome.ok
        assert [(one.name, image(one).size) for one in output.pictures] == [("screen", (800, 600)), ("part", (100, 50))]
        assert all(one.png.startswith(b"\x89PNG") and len(one.png) < 400 * 1024 for one in output.pictures)

    async def test_what_is_typed_arrives_and_is_seen_before_and_after(self, place: ScreenPlace) -> None:
        place.server.terminal("echo READY TO GO; head -n 1 > typed; sleep 60")
        output = await perform(place, acts({"expect_text": "READY TO GO"}, {"type": 'it\'s $HOME `x` \\ "Aa" ~\n'}))
        assert output.outcome.ok
        assert vnc.wait_for(place.server.folder / "typed").decode() == 'it\'s $HOME `x` \\ "Aa" ~\n'
        assert [one.name for one in output.pictures] == ["before", "after"]
        assert named(output, "before") != named(output, "after")
        (place.server.folder / "typed").unlink()

    async def test_combination_of_keys_arrives(self, place: ScreenPlace) -> None:
        place.server.terminal("trap 'echo INTERRUPTED' INT; echo READY TO GO; while :; do sleep 0.2; done")
        work = acts({"expect_text": "READY TO GO"}, {"press": "ctrl-c"}, {"expect_text": "INTERRUPTED"})
        assert (await perform(place, work)).outcome.ok

    async def test_clicks_at_a_place_on_a_text_and_on_an_image(self, place: ScreenPlace) -> None:
        box = place.server.message("Disk is full", "-buttons", "Carry on,Cancel", "-center")
        assert (await perform(place, acts({"click": {"text": "Cancel"}}))).outcome.ok
        assert box.wait(10) == 102
        box = place.server.message("Disk is full", "-buttons", "Carry on,Cancel", "-center")
        seen = await perform(place, acts({"expect_text": "Disk is full"}, {"capture": "dialog"}))
        whole = named(seen, "dialog")
        frame = self._dialog(whole)
        whole.crop(frame).save(place.folder / "dialog.png")
        work = acts(
            {"expect_image": {"image": "dialog.png", "within": "5s"}},
            {"click": {"x": frame[0] + 40, "y": frame[3] - 18}},
            {"expect_image": {"image": "dialog.png", "absent": True}},
            folder=place.folder,
        )
        assert (await perform(place, work)).outcome.ok
        assert box.wait(10) == 101
        box = place.server.message("Disk is full", "-buttons", "Carry on", "-center")
        assert (await perform(place, acts({"expect_text": "Disk is full"}))).outcome.ok
        again = self._dialog(named(await perform(place, acts("capture")), "screen"))
        shot = named(await perform(place, acts("capture")), "screen")
        shot.crop((again[0] + 4, again[3] - 34, again[0] + 110, again[3] - 4)).save(place.folder / "button.png")
        assert (await perform(place, acts({"click": {"image": "button.png"}}, folder=place.folder))).outcome.ok
        assert box.wait(10) == 101

    def _dialog(self, whole: Image.Image) -> tuple[int, int, int, int]:
        """The box of the only thing on an empty screen."""
        background = Image.new("RGB", whole.size, whole.getpixel((1, 1)))  # type: ignore[arg-type]
        from PIL import ImageChops

        found = ImageChops.difference(whole, background).getbbox()
        assert found is not None
        return found

    async def test_mirrored_image_is_not_taken_for_the_screen(self, place: ScreenPlace) -> None:
        place.server.message("Disk is full", "-buttons", "Carry on,Cancel", "-center")
        seen = named(await perform(place, acts({"expect_text": "Disk is full"}, "capture")), "screen")
        cut = seen.crop(self._dialog(seen))
        cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(place.folder / "mirrored.png")
        cut.save(place.folder / "right.png")
        work = acts({"expect_image": {"image": "mirrored.png", "within": "1s"}}, folder=place.folder)
        output = await perform(place, work)
        assert str(output.outcome) == "failed(1)"
        assert "mirrored.png was not seen" in output.outcome.detail
        assert [one.name for one in output.pictures] == ["not seen"]
        assert (await perform(place, acts({"expect_image": "right.png"}, folder=place.folder))).outcome.ok

    async def test_text_that_does_not_come_is_failed_and_not_in_doubt(self, place: ScreenPlace) -> None:
        output = await perform(place, acts({"expect_text": {"text": "No such words", "within": "1s"}}))
        assert (str(output.outcome), output.outcome.in_doubt) == ("failed(1)", False)
        assert (await perform(place, acts({"expect_text": {"text": "No such words", "absent": True}}))).outcome.ok

    async def test_what_cannot_be_done_is_failed_and_says_why(self, place: ScreenPlace) -> None:
        outside = await perform(place, acts({"click": {"x": 5000, "y": 1}}))
        assert (str(outside.outcome), "outside of the screen" in outside.outcome.detail) == ("failed", True)
        Image.new("RGB", (20, 20), "red").save(place.folder / "plain.png")
        blank = await perform(place, acts({"expect_image": "plain.png"}, folder=place.folder))
        assert (str(blank.outcome), "one colour only" in blank.outcome.detail) == ("failed", True)
        language = await perform(place, acts({"expect_text": {"text": "x", "language": "xxx"}}))
        assert (str(language.outcome), "tesseract-ocr-xxx" in language.outcome.detail) == ("failed", True)

    async def test_secret_is_typed_and_covered_in_every_picture(self, place: ScreenPlace) -> None:
        place.server.terminal("printf 'Password: '; head -n 1 > typed; echo again; seq 5; sleep 60")
        async with place.transport.open(place.target, timeout=LONG) as opened:
            assert isinstance(opened, Performer)
            first = acts({"expect_text": "Password:"}, {"type": "hunter2-Zebra"}, secrets=["hunter2-Zebra"])
            typed = await opened.perform(first, timeout=LONG)
            later = await opened.perform(acts({"press": "Return"}, {"wait": "1s"}, "capture"), timeout=LONG)
            readable = await opened.perform(
                acts({"expect_text": {"text": "hunter2-Zebra", "within": "3s"}}), timeout=LONG
            )
        assert readable.outcome.ok  # it does stand there, in clear
        assert vnc.wait_for(place.server.folder / "typed") == b"hunter2-Zebra\n"
        assert "hunter2" not in first.text + repr(first) + repr(typed)
        for output in (typed, later, readable):
            for picture in output.pictures:
                assert not self._read(image(picture), "hunter2-Zebra"), picture.name
        assert self._read(named(later, "screen"), "Password:")
        (place.server.folder / "typed").unlink()

    def _read(self, picture: Image.Image, text: str) -> bool:
        from msp.remote.screen import ocr

        return any(ocr.find(text, words) for words in ocr.readings(picture, "eng"))

    async def test_wrong_credential_is_told(self, place: ScreenPlace) -> None:
        with pytest.raises(NotAdmitted) as caught:
            async with place.transport.open(place.stranger, timeout=LONG):
                pass
        assert caught.value.outcome.kind == "auth_failed"
        nobody = replace(place.target, credential=replace(place.target.credential, password=None))
        with pytest.raises(NotAdmitted, match="none is kept"):
            async with place.transport.open(nobody, timeout=LONG):
                pass

    @pytest.mark.parametrize("reason", ["refused", "banner", "dns"])
    async def test_unreachable_tells_why_and_in_time(self, place: ScreenPlace, reason: str) -> None:
        target = {"refused": place.refusing, "banner": place.silent, "dns": place.nameless}[reason]
        began = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            async with place.transport.open(target, timeout=timedelta(seconds=2)):
                pass
        assert isinstance(caught.value, CannotOpen)
        assert str(caught.value.outcome) == f"unreachable({reason})"
        assert time.monotonic() - began < 6

    async def test_bare_network_is_refused_unless_the_asset_says_plain(self, place: ScreenPlace) -> None:
        far = replace(place.target, address="192.0.2.1")
        with pytest.raises(NotAdmitted, match="unencrypted") as caught:
            async with place.transport.open(far, timeout=timedelta(seconds=2)):
                pass
        assert caught.value.outcome.kind == "refused"
        with pytest.raises(CannotOpen):  # it is tried, and nobody is there
            async with place.transport.open(
                replace(far, plain="a console switch in our own rack"), timeout=timedelta(seconds=1)
            ):
                pass

    async def test_connection_lost_while_looking_is_not_in_doubt(self, place: ScreenPlace) -> None:
        with Relay(place.target.port) as relay:
            async with place.transport.open(replace(place.target, port=relay.port), timeout=LONG) as opened:
                assert isinstance(opened, Performer)
                asyncio.get_running_loop().call_later(1, relay.cut)
                output = await opened.perform(acts({"wait": "20s"}, "capture"), timeout=LONG)
        assert str(output.outcome) == "unreachable(connect)"
        assert "nothing had been typed" in output.outcome.detail

    async def test_connection_lost_after_a_key_was_sent_is_in_doubt(self, place: ScreenPlace) -> None:
        with Relay(place.target.port) as relay:
            there = replace(place, target=replace(place.target, port=relay.port))
            relay.on_input = lambda data: relay.cut() if data[:2] == b"\x04\x01" else None
            output = await perform(there, acts({"press": "Return"}, {"wait": "5s"}))
        assert (output.outcome.kind, output.outcome.in_doubt, output.status) == ("lost", True, None)
        assert "unknown" in output.outcome.detail

    async def test_hanging_server_meets_the_deadline_and_the_next_act_connects_anew(self, place: ScreenPlace) -> None:
        for begin, expected in (({"press": "Return"}, "timeout"), ({"wait": "100ms"}, "unreachable(connect)")):
            with Relay(place.target.port) as relay:
                target = replace(place.target, port=relay.port)
                async with place.transport.open(target, timeout=LONG) as opened:
                    assert isinstance(opened, Performer)
                    if expected == "timeout":
                        relay.on_input = lambda data, one=relay: one.freeze() if data[:2] == b"\x04\x01" else None
                    else:
                        relay.freeze()
                    began = time.monotonic()
                    work = acts(begin, {"expect_text": {"text": "never comes", "within": "60s"}})
                    output = await opened.perform(work, timeout=timedelta(seconds=2))
                    assert time.monotonic() - began < 5
                    assert str(output.outcome) == expected
                    assert output.outcome.in_doubt == (expected == "timeout")
                    assert processes() == set()
                    relay.on_input = lambda _: None
                    relay._frozen = False
                    assert (await opened.perform(acts("capture"), timeout=LONG)).outcome.ok

    async def test_cancelling_ends_the_process(self, place: ScreenPlace) -> None:
        async with place.transport.open(place.target, timeout=LONG) as opened:
            assert isinstance(opened, Performer)
            task = asyncio.create_task(
                opened.perform(acts({"expect_text": {"text": "never comes", "within": "60s"}}), timeout=LONG)
            )
            await asyncio.sleep(0.7)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert processes() == set()
            assert (await opened.perform(acts("capture"), timeout=LONG)).outcome.ok

    async def test_death_of_the_process_is_lost_only_if_something_was_sent(self, place: ScreenPlace) -> None:
        loop = asyncio.get_running_loop()
        for begin, expected in (({"press": "Return"}, "lost"), ("capture", "unreachable(connect)")):
            with Relay(place.target.port) as relay:
                sent = asyncio.Event()
                async with place.transport.open(replace(place.target, port=relay.port), timeout=LONG) as opened:
                    assert isinstance(opened, Performer)
                    wanted = b"\x04" if expected == "lost" else b"\x03"  # a key, or only a question for the screen
                    relay.on_input = lambda data, kind=wanted, event=sent: (
                        loop.call_soon_threadsafe(event.set) if kind in data[:1] else None
                    )
                    task = asyncio.create_task(opened.perform(acts(begin, {"wait": "30s"}), timeout=LONG))
                    await sent.wait()
                    for pid in processes():
                        os.kill(pid, signal.SIGKILL)
                    assert str((await task).outcome) == expected

    async def test_log_ins_to_one_server_go_one_after_the_other(self, place: ScreenPlace) -> None:
        outputs = await asyncio.gather(*(perform(place, acts("capture"), LONG) for _ in range(4)))
        assert [output.outcome.kind for output in outputs] == ["ok"] * 4
