"""What every transport with a shell must do, whatever it is built on. Subclass it with a `place` fixture."""

import asyncio
import hashlib
import time
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from msp.errors import Refused, Unreachable
from msp.remote.output import HEAD, TAIL
from msp.remote.target import Target
from msp.remote.transport import CannotOpen, NotAdmitted, Transport

SHORT = timedelta(seconds=10)


@dataclass
class Place:
    """A transport, a host that it reaches, and hosts that it must not: None where that cannot be."""

    transport: Transport
    target: Target
    impostor: Target | None = None  # shows another key than the pinned one
    unknown: Target | None = None  # no key of it is pinned
    stranger: Target | None = None  # does not admit our credential
    refusing: Target | None = None  # nobody listens
    silent: Target | None = None  # listens and says nothing
    nameless: Target | None = None  # not in DNS
    dropping: Target | None = None  # cuts the connection in the middle of a command
    runs_scripts: bool = True
    ended_by: str = "TERM"  # how it is told that SIGTERM ended a command


class TransportConformance:
    """Subclass it, and supply the fixture `place`: a real server on loopback."""

    async def test_reports_status_and_both_streams(self, place: Place) -> None:
        async with place.transport.open(place.target) as shell:
            output = await shell.run("echo out; echo err >&2; exit 3", timeout=SHORT)
        assert (output.status, output.stdout, output.stderr) == (3, b"out\n", b"err\n")
        assert str(output.outcome) == "failed(3)"

    async def test_success_is_ok_and_stdin_arrives(self, place: Place) -> None:
        async with place.transport.open(place.target) as shell:
            output = await shell.run("cat", timeout=SHORT, stdin=b"a\0b\xff\n" * 5000)
        assert output.outcome.ok
        assert output.stdout == b"a\0b\xff\n" * 5000

    async def test_empty_stdin_is_at_its_end(self, place: Place) -> None:
        async with place.transport.open(place.target) as shell:
            assert (await shell.run("cat; echo end", timeout=SHORT)).stdout == b"end\n"

    async def test_many_commands_over_one_connection(self, place: Place) -> None:
        async with place.transport.open(place.target) as shell:
            outputs = await asyncio.gather(*(shell.run(f"echo {n}", timeout=SHORT) for n in range(8)))
        assert [output.stdout for output in outputs] == [b"%d\n" % n for n in range(8)]

    async def test_signal_is_told_from_an_exit_status(self, place: Place) -> None:
        async with place.transport.open(place.target) as shell:
            output = await shell.run("kill -TERM $$", timeout=SHORT)
        assert (output.outcome.kind, output.outcome.signal, output.status) == ("killed", place.ended_by, None)

    async def test_invalid_utf8_and_escapes_arrive_as_bytes_and_the_connection_lives_on(self, place: Place) -> None:
        async with place.transport.open(place.target) as shell:
            output = await shell.run(r"printf 'a\377\376\033[31mb'", timeout=SHORT)
            assert (output.status, output.stdout) == (0, b"a\xff\xfe\x1b[31mb")
            assert (await shell.run("echo still here", timeout=SHORT)).stdout == b"still here\n"

    async def test_fifty_megabytes_are_counted_and_hashed_and_both_ends_kept(self, place: Place) -> None:
        async with place.transport.open(place.target) as shell:
            script = "printf BEGIN; head -c 50000000 /dev/zero | tr '\\0' x; printf END"
            output = await shell.run(script, timeout=timedelta(seconds=60))
        assert output.outcome.ok
        assert output.out.size == 50_000_008
        assert output.out.sha256 == hashlib.sha256(b"BEGIN" + b"x" * 50_000_000 + b"END").hexdigest()
        assert output.out.head[:6] == b"BEGINx"
        assert output.out.tail[-4:] == b"xEND"
        assert len(output.out.head) + len(output.out.tail) < 2 * (HEAD + TAIL)

    async def test_deadline_ends_a_hanging_command_and_keeps_what_it_printed(self, place: Place) -> None:
        began = time.monotonic()
        async with place.transport.open(place.target) as shell:
            output = await shell.run("echo before; sleep 30", timeout=timedelta(seconds=0.7))
        assert (output.outcome.kind, output.outcome.in_doubt, output.stdout) == ("timeout", True, b"before\n")
        assert "may live on" in output.outcome.detail
        assert time.monotonic() - began < 6

    async def test_silence_ends_a_command_before_its_deadline(self, place: Place) -> None:
        began = time.monotonic()
        async with place.transport.open(place.target) as shell:
            output = await shell.run("echo a; sleep 30", timeout=timedelta(seconds=20), idle=timedelta(seconds=0.5))
        assert output.outcome.kind == "timeout"
        assert time.monotonic() - began < 6

    async def test_cancelling_signals_the_command(self, place: Place) -> None:
        async with place.transport.open(place.target) as shell:
            task = asyncio.create_task(shell.run("sleep 30", timeout=timedelta(seconds=40)))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await shell.run("echo after", timeout=SHORT)).stdout == b"after\n"

    async def test_background_process_does_not_hold_the_step(self, place: Place) -> None:
        began = time.monotonic()
        async with place.transport.open(place.target) as shell:
            output = await shell.run("sleep 8 & echo started", timeout=timedelta(seconds=6))
        assert (output.outcome.kind, output.stdout) == ("ok", b"started\n")
        assert time.monotonic() - began < 5

    async def test_script_names_its_interpreter(self, place: Place) -> None:
        async with place.transport.open(place.target) as shell:
            output = await shell.run('#!/bin/bash\n[[ "a b" == a* ]] && echo "$BASH" | grep -c bash', timeout=SHORT)
        assert output.stdout == b"1\n"

    async def test_script_with_every_kind_of_quotes_arrives(self, place: Place) -> None:
        async with place.transport.open(place.target) as shell:
            output = await shell.run("printf '%s|' 'it'\"'\"'s' \"\\$x\" 'a\nb' \"ü\"; ! false", timeout=SHORT)
        assert output.stdout == "it's|$x|a\nb|ü|".encode()

    async def test_changed_host_key_is_refused(self, place: Place) -> None:
        if place.impostor is None:
            pytest.skip("this way in has no host key")
        with pytest.raises(Refused, match="host key") as caught:
            async with place.transport.open(place.impostor):
                pass
        assert isinstance(caught.value, NotAdmitted)
        assert caught.value.outcome.kind == "host_key_changed"

    async def test_unknown_host_key_is_refused(self, place: Place) -> None:
        if place.unknown is None:
            pytest.skip("this way in has no host key")
        with pytest.raises(NotAdmitted) as caught:
            async with place.transport.open(place.unknown):
                pass
        assert caught.value.outcome.kind == "host_key_unknown"
        assert "SHA256:" in caught.value.what  # what to compare with the client

    async def test_wrong_credential_is_told(self, place: Place) -> None:
        if place.stranger is None:
            pytest.skip("this way in asks for no credential")
        with pytest.raises(NotAdmitted) as caught:
            async with place.transport.open(place.stranger):
                pass
        assert caught.value.outcome.kind == "auth_failed"

    @pytest.mark.parametrize("reason", ["refused", "banner", "dns"])
    async def test_unreachable_tells_why_and_in_time(self, place: Place, reason: str) -> None:
        target = {"refused": place.refusing, "banner": place.silent, "dns": place.nameless}[reason]
        if target is None:
            pytest.skip("this way in cannot fail so")
        began = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            async with place.transport.open(target, timeout=timedelta(seconds=1.5)):
                pass
        assert isinstance(caught.value, CannotOpen)
        assert str(caught.value.outcome) == f"unreachable({reason})"
        assert time.monotonic() - began < 5

    async def test_lost_connection_is_in_doubt_and_keeps_partial_output(self, place: Place) -> None:
        if place.dropping is None:
            pytest.skip("this way in has no connection to lose")
        async with place.transport.open(place.dropping) as shell:
            output = await shell.run("echo anything", timeout=SHORT)
        assert (output.outcome.kind, output.outcome.in_doubt, output.status) == ("lost", True, None)
        assert output.stdout == b"fx-1\npartial"


def elsewhere(target: Target, **changes: object) -> Target:
    """The same host with something else about it."""
    return replace(target, **changes)  # type: ignore[arg-type]
