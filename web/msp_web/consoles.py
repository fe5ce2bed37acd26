"""Consoles of the web process: WebSockets between browsers and machines, served natively beside the pages.

The gate is a page like any other: `/consoles/<id>/socket` says whether the ticket opens, to whom, and uses it up.
Nothing is shown before it is recorded, and what the records withdraw ends within two seconds.
"""

import asyncio
import io
import json
import logging
import re
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from a2wsgi.wsgi import build_environ
from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from msp import db, log, sentences
from msp.clock import utc_now
from msp.errors import MspError
from msp.flows import console_opening
from msp.flows import consoles as flows
from msp.flows.console_opening import Opening
from msp.remote.consoles import rules, serving
from msp.remote.consoles.recordings import Recorded
from msp.remote.consoles.rules import End, Limits
from msp.settings import Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

ADDRESS = re.compile(r"/consoles/[0-9]{1,15}/socket")
LOOK = 0.5  # seconds between two looks at the records, while a console is open
ASK_AGAIN = 5.0  # seconds between two questions to the contract
SEEN = 10.0  # seconds between two notes that we are alive
ATTEMPTS, PER = 30, 60.0  # connections that one address may ask for, and in how many seconds
OPEN_PER_PERSON = 8
GATE_HEADERS = frozenset({b"host", b"cookie", b"user-agent", b"accept-language"})  # what the gate hears of a request
LAST_WORDS = 5.0  # seconds that a stopping server gives its consoles
ENDED = 4000  # close code: the message before it says why (RFC 6455, 7.4.2: for private use)


@dataclass
class Live:
    """One console that is open in this process."""

    console_id: int
    user_id: int
    limits: Limits
    must_end: "asyncio.Future[End]"
    wire: "Socket"
    last_typed: datetime = field(default_factory=utc_now)
    watchers: tuple[str, ...] = ()

    def typed(self) -> None:
        """Somebody typed or moved the mouse."""
        self.last_typed = utc_now()


class Socket:
    """A WebSocket as a Wire. `language`: in which its person reads."""

    def __init__(self, receive: Receive, send: Send, language: str) -> None:
        self._receive, self._send, self.language = receive, send, language
        self.stopping = False  # the server hung up, not the browser

    async def send(self, data: bytes) -> None:
        """See Wire.send."""
        await self._send({"type": "websocket.send", "bytes": data})

    async def say(self, message: Mapping[str, Any]) -> None:
        """See Wire.say."""
        await self._send({"type": "websocket.send", "text": json.dumps(message)})

    async def receive(self) -> bytes | Mapping[str, Any] | None:
        """See Wire.receive. What is no message of ours is an empty one."""
        heard = await self._receive()
        if heard["type"] != "websocket.receive":
            self.stopping = heard.get("code") == 1012
            return None
        if (data := heard.get("bytes")) is not None:
            return bytes(data)
        try:
            said = json.loads(heard.get("text") or "{}")
        except ValueError:
            said = {}
        return said if isinstance(said, dict) else {}


class Rate:
    """Counts attempts by address in a sliding window."""

    def __init__(self, most: int, per: float) -> None:
        self._most, self._per = most, per
        self._times: dict[str, deque[float]] = defaultdict(deque)

    def admits(self, who: str, now: float) -> bool:
        """Count one attempt and return whether it is within the limit."""
        for name in [name for name, times in self._times.items() if times and times[-1] < now - self._per]:
            del self._times[name]
        times = self._times[who]
        while times and times[0] < now - self._per:
            times.popleft()
        if len(times) >= self._most:
            return False
        times.append(now)
        return True


class Consoles:
    """The ASGI application of console sockets. Lives in one event loop."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._settings: Settings = app.config["MSP_SETTINGS"]
        self._live: dict[int, Live] = {}
        self._pool = ThreadPoolExecutor(4, "consoles")
        self._rate = Rate(ATTEMPTS, PER)
        self._watcher: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.stopping = False

    def stop(self) -> None:
        """End every console, each with its recording closed and its evidence written."""
        self.stopping = True
        for live in self._live.values():
            _settle(live, End("stopped", "The server was stopped."))

    async def ended(self) -> None:
        """Wait until every console has told its browser and the records that it is over; not for ever."""
        if self._serving:
            await asyncio.wait(self._serving, timeout=LAST_WORDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket from its first request to its end."""
        await receive()  # websocket.connect
        headers = {name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]}
        if not ADDRESS.fullmatch(scope["path"]):
            await _deny(receive, send, 404, b"There is no such socket.\n")
        elif not same_origin(headers, self._settings):
            await _deny(receive, send, 403, b"This page is not ours.\n")
        elif not self._rate.admits(str((scope.get("client") or ("?",))[0]), time.monotonic()):
            await _deny(receive, send, 429, b"Too many consoles were asked for.\n")
        elif self.stopping:
            await _deny(receive, send, 503, b"The server is stopping.\n")
        else:
            status, body = await self._run(self._redeem, scope)
            if status != 200:
                await _deny(receive, send, status, body)
                return
            subprotocol = "binary" if "binary" in scope.get("subprotocols", ()) else None
            await send({"type": "websocket.accept", "subprotocol": subprotocol})
            claim = json.loads(body)
            wire = Socket(receive, send, str(claim["language"]))
            task = asyncio.create_task(self._serve(int(claim["console"]), int(claim["user"]), wire, send))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
            await asyncio.shield(task)  # a server in a hurry ends us; the recording is closed all the same

    async def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(*arguments))

    def _redeem(self, scope: Scope) -> tuple[int, bytes]:
        """Ask the page that knows the gate; it uses the ticket up."""
        headers = [pair for pair in scope["headers"] if pair[0] in GATE_HEADERS] + [(b"accept", b"application/json")]
        scheme = "https" if scope["scheme"] == "wss" else "http"
        asked = {**scope, "type": "http", "method": "GET", "scheme": scheme, "headers": headers}
        environ = build_environ(cast("Any", asked), cast("Any", io.BytesIO()))
        cast("dict[str, Any]", environ)["msp.socket"] = True
        with self._app.request_context(cast("Any", environ)):
            response = self._app.full_dispatch_request()
            return response.status_code, response.get_data()

    async def _serve(self, console_id: int, user_id: int, wire: Socket, send: Send) -> None:
        loop = asyncio.get_running_loop()
        live = Live(console_id, user_id, Limits(timedelta(), utc_now()), loop.create_future(), wire)
        recorded: Recorded | None = None
        end = End("failed", "It did not open.")
        with log.about(console=console_id):
            try:
                opening: Opening = await self._run(console_opening.load, self._settings, console_id)
                live.limits = opening.limits
                if sum(one.user_id == user_id for one in self._live.values()) >= OPEN_PER_PERSON:
                    end = End("failed", f"One person has at most {OPEN_PER_PERSON} consoles open at once.")
                else:
                    self._live[console_id] = live
                    if self._watcher is None or self._watcher.done():
                        self._watcher = asyncio.create_task(self._watch())
                    end, recorded = await self._converse(opening, live, wire)
                    if end.how == "gone" and (wire.stopping or self.stopping):
                        end = End("stopped", "The server was stopped.")
            except MspError as error:
                end = End("failed", f"{error.what} {error.advice}".strip())
            except Exception:
                logging.getLogger(__name__).exception("A console failed.")
                end = End("failed", "It failed inside our own server.")
            finally:
                self._live.pop(console_id, None)
                await asyncio.shield(self._finish(console_id, end, recorded))
        try:
            await wire.say({"ended": end.how, "detail": sentences.said(end.detail, wire.language)})
            await send({"type": "websocket.close", "code": ENDED, "reason": end.how})
        except (OSError, RuntimeError):
            pass  # the browser is gone

    async def _converse(self, opening: Opening, live: Live, wire: Socket) -> tuple[End, Recorded | None]:
        """Serve a console until it ends by itself or must; return how, and its recording."""
        async with AsyncExitStack() as stack:
            console = serving.Console(
                console_id=opening.console_id,
                kind=opening.kind,
                mode=opening.mode,
                title=opening.title,
                began=opening.opened_at,
                target=opening.target,
                secrets=opening.secrets,
                folder=self._settings.recordings_path,
                most_bytes=self._settings.recording_limit_mb * 1024 * 1024,
            )
            task = asyncio.create_task(serving.serve(console, wire, live.typed))
            stack.push_async_callback(_stop, task)
            await asyncio.wait({task, live.must_end}, return_when=asyncio.FIRST_COMPLETED)
            if live.must_end.done():
                await _stop(task)
                return live.must_end.result(), console.recorded
            return task.result(), console.recorded

    async def _finish(self, console_id: int, end: End, recorded: Recorded | None) -> None:
        for pause in (0.0, 1.0, 5.0):
            await asyncio.sleep(pause)
            try:
                await self._run(_ended, console_id, end, recorded)
            except SQLAlchemyError:
                logging.getLogger(__name__).exception("The end of a console could not be written.")
            except MspError:
                return  # the reaper was first
            else:
                return

    async def _watch(self) -> None:
        """Look at the records while a console is open here; end what they no longer carry."""
        asked = noted = 0.0
        while self._live:
            await asyncio.sleep(LOOK)
            ids, now = tuple(self._live), time.monotonic()
            if not ids:
                break
            thorough, note = now - asked >= ASK_AGAIN, now - noted >= SEEN
            try:
                found: dict[int, rules.Standing] = await self._run(_standing, ids, thorough)
                if note:
                    await self._run(_seen, ids)
            except SQLAlchemyError:
                found = {}  # the database is away; limits still hold
            else:
                asked, noted = now if thorough else asked, now if note else noted
            for console_id in ids:
                if (live := self._live.get(console_id)) is not None:
                    standing = found.get(console_id, rules.Standing())
                    _settle(live, rules.must_end(standing, live.limits, utc_now(), live.last_typed))
                    await _tell_watchers(live, standing.watchers)


def _settle(live: Live, end: End | None) -> None:
    if end is not None and not live.must_end.done():
        live.must_end.set_result(end)


async def _tell_watchers(live: Live, watchers: tuple[str, ...]) -> None:
    """Tell the person at a console who looks, when that has changed."""
    if watchers != live.watchers:
        live.watchers = watchers
        with suppress(OSError, RuntimeError, TimeoutError):  # the line is gone, or full: the next look tells
            async with asyncio.timeout(LOOK):
                await live.wire.say({"watchers": list(watchers)})


async def _stop(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _standing(ids: tuple[int, ...], thorough: bool) -> dict[int, rules.Standing]:
    with db.read() as session:
        return flows.standing(session, ids, now=utc_now(), thorough=thorough)


def _seen(ids: tuple[int, ...]) -> None:
    with db.begin() as session:
        flows.seen(session, ids, utc_now())


def _ended(console_id: int, end: End, recorded: Recorded | None) -> None:
    with db.begin() as session:
        flows.ended(session, console_id, end, recorded)


def same_origin(headers: Mapping[str, str], settings: Settings) -> bool:
    """Return whether a page of ours asks: browsers say whose page opens a socket, and nothing else stops a foreign one.

    With `console_url` the pages are on another port of the same name.
    """
    origin, host = urlsplit(headers.get("origin", "")), headers.get("host", "")
    if origin.scheme not in ("http", "https") or not origin.netloc:
        return False
    if settings.public_url:
        known = urlsplit(settings.public_url)
        if (origin.scheme, origin.netloc) == (known.scheme, known.netloc):
            return True
    if settings.console_url:
        return origin.hostname == urlsplit(f"//{host}").hostname
    return origin.netloc == host


async def _deny(receive: Receive, send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
    with suppress(TimeoutError):
        async with asyncio.timeout(1):  # until the line is closed: who returns before is taken for one that forgot it
            while True:
                await receive()
