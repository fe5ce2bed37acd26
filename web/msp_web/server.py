"""The web process: uvicorn serves the pages through a thread pool, and event streams natively beside them.

A stream costs a coroutine, not a thread; one reader asks the database for news, however many pages are open.
"""

import asyncio
import io
import re
import signal
import socket
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, cast

import uvicorn
from a2wsgi import WSGIMiddleware
from a2wsgi.wsgi import build_environ
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from msp import db, log
from msp.errors import Conflict, Misconfigured
from msp.events import Event
from msp.people.access import Actor
from msp.settings import Settings
from msp_web.access import current_actor
from msp_web.app import create_app
from msp_web.consoles import Consoles
from msp_web.views.live import message

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

POLL = 0.5  # seconds between two looks for news, while a page listens
HEARTBEAT = 15.0  # seconds of silence after which a comment keeps proxies from hanging up
RECHECK = 60.0  # seconds after which a stream is authorised anew: a locked-out person stops hearing
WINDOW = 200  # ids looked at again: on PostgreSQL a smaller id may be committed after a larger one
LARGEST_MESSAGE = 1024 * 1024  # bytes that a console's page may send at once: pasted text
THREADS = 10  # pages made at once


class News:
    """Reads new events once and hands them to every stream of their topic. Lives in one event loop."""

    def __init__(self) -> None:
        self._topics: dict[str, set[asyncio.Queue[Event | None]]] = {}
        self._pool = ThreadPoolExecutor(1, "news")
        self._reader: asyncio.Task[None] | None = None
        self._last = 0
        self._known: deque[int] = deque(maxlen=4 * WINDOW)
        self.stopping = False

    async def listen(self, topic: str) -> "asyncio.Queue[Event | None]":
        """Return a queue that receives every event of `topic` committed from now on; None means that we stop."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._topics.setdefault(topic, set()).add(queue)
        if self._reader is None or self._reader.done():
            loop = asyncio.get_running_loop()
            before = await loop.run_in_executor(self._pool, _newest)
            self._known.extend(before)  # news is what comes after; what came before is the page's own look back
            self._last = max(before, default=0)
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read())
        return queue

    def leave(self, topic: str, queue: "asyncio.Queue[Event | None]") -> None:
        """Stop listening."""
        listeners = self._topics.get(topic, set())
        listeners.discard(queue)
        if not listeners:
            self._topics.pop(topic, None)

    def stop(self) -> None:
        """End every stream."""
        self.stopping = True
        for listeners in self._topics.values():
            for queue in listeners:
                queue.put_nowait(None)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while self._topics and not self.stopping:
            await asyncio.sleep(POLL)
            try:
                found = await loop.run_in_executor(self._pool, _after, self._last - WINDOW)
            except SQLAlchemyError:
                continue  # the database is away; what it missed is read when it is back
            for event in found:
                if event.id in self._known or event.id <= self._last - WINDOW:
                    continue
                self._known.append(event.id)
                self._last = max(self._last, event.id)
                for queue in self._topics.get(event.topic, set()):
                    queue.put_nowait(event)


def _newest() -> list[int]:
    with db.read() as session:
        last = session.scalar(select(func.max(Event.id))) or 0
        return list(session.scalars(select(Event.id).where(Event.id > last - WINDOW)))


def _after(last: int) -> list[Event]:
    with db.read() as session:
        return list(session.scalars(select(Event).where(Event.id > last).order_by(Event.id).limit(5000)))


class Web:
    """The ASGI application: streams under /live/, the sockets of consoles; everything else is a page."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.news = News()
        self.consoles = Consoles(app)
        self._pages = WSGIMiddleware(cast("Any", app), workers=THREADS)
        self._gate = ThreadPoolExecutor(4, "gate")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith("/live/"):
            await self._stream(scope, receive, send)
        elif scope["type"] == "http":
            await self._pages(cast("Any", scope), receive, send)
        elif scope["type"] == "websocket":
            await self.consoles(scope, receive, send)

    def _authorise(self, scope: Scope) -> tuple[int, list[tuple[bytes, bytes]], bytes, Actor | None]:
        """Ask the page of that address, which knows the gate: (status, headers, what was missed, who asks)."""
        environ = build_environ(cast("Any", scope), cast("Any", io.BytesIO()))
        with self.app.request_context(cast("Any", environ)):
            response = self.app.full_dispatch_request()
            headers = [(name.lower().encode(), value.encode("latin1")) for name, value in response.headers]
            return response.status_code, headers, response.get_data(), current_actor()

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        topic = scope["path"].removeprefix("/live/")
        queue = await self.news.listen(topic)  # before the page looks back: nothing falls between the two
        gone = asyncio.create_task(_hang_up(receive))
        try:
            status, headers, body, asking = await loop.run_in_executor(self._gate, self._authorise, scope)
            headers = [(name, value) for name, value in headers if status != 200 or name != b"content-length"]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            live = status == 200 and asking is not None
            await send({"type": "http.response.body", "body": body, "more_body": live})
            if not live or asking is None:
                return
            told = {int(found) for found in re.findall(rb"^id: (\d+)$", body, re.MULTILINE)}
            await self._go_on(scope, send, queue, gone, asking, told)
        except OSError:
            pass  # the browser hung up while we were speaking
        finally:
            gone.cancel()
            self.news.leave(topic, queue)

    async def _go_on(
        self,
        scope: Scope,
        send: Send,
        queue: "asyncio.Queue[Event | None]",
        gone: "asyncio.Task[None]",
        asking: Actor,
        told: set[int],
    ) -> None:
        loop = asyncio.get_running_loop()
        check_at = loop.time() + RECHECK
        while not self.news.stopping:
            news = asyncio.create_task(queue.get())
            await asyncio.wait({news, gone}, timeout=HEARTBEAT, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                news.cancel()
                return
            if loop.time() > check_at:
                status, _, _, again = await loop.run_in_executor(self._gate, self._authorise, scope)
                if status != 200 or again is None:
                    break
                asking, check_at = again, loop.time() + RECHECK
            text: str | None = ":\n\n"
            if news.done():
                event = news.result()
                if event is None:
                    break
                text = None if event.id in told else message(event, asking)
            else:
                news.cancel()
            if text:
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Server(uvicorn.Server):
    """Ends open streams and consoles first, so that a stop waits for pages only."""

    stops: tuple[Callable[[], None], ...] = ()
    last: Callable[[], Awaitable[None]]  # what has the last word before lines are cut

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.last()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        for stop in self.stops:
            stop()
        super().handle_exit(sig, frame)


def listen_on(address: str, port: int) -> socket.socket:
    """Return a listening socket; raises Conflict for a port that is taken, Misconfigured for an address not ours."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=256)
    except PermissionError as error:
        raise Misconfigured(
            f"Port {port} may only be opened by root.", advice="Choose one above 1023, and put a proxy in front."
        ) from error
    except OSError as error:
        if error.errno == 98:  # EADDRINUSE
            raise Conflict(
                f"Port {port} on {address} is taken by another program.",
                advice=f"Stop that one, or choose another: msp serve --port {port + 1}",
            ) from error
        raise Misconfigured(
            f"{address} is no address of this machine: {error.strerror}.", advice="Set address to 127.0.0.1 or 0.0.0.0."
        ) from error


class ConsolePort:
    """The ASGI application of a process that serves consoles alone; the pages are elsewhere."""

    def __init__(self, app: Flask) -> None:
        self.consoles = Consoles(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.consoles(scope, receive, send)
        elif scope["type"] == "http":
            well = scope["path"] == "/healthz"
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
            await send({"type": "http.response.start", "status": 200 if well else 404, "headers": headers})
            await send({"type": "http.response.body", "body": b"ok\n" if well else b"The pages are elsewhere.\n"})


def run(settings: Settings, on_ready: Callable[[str], None], *, consoles_only: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; then finish the pages in hand and return. `on_ready` gets the address."""
    log.configure(settings.log_level)
    app = create_app(settings)
    web: Web | ConsolePort = ConsolePort(app) if consoles_only else Web(app)
    listening = listen_on(settings.address, settings.port)
    config = uvicorn.Config(
        web,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the application believes as many proxies as the settings say
        timeout_graceful_shutdown=10,
        ws="websockets-sansio",
        ws_max_size=LARGEST_MESSAGE,
        ws_per_message_deflate=False,  # what a console shows is small, or a picture that is compressed already
    )
    server = Server(config)
    server.last = web.consoles.ended
    server.stops = (web.consoles.stop, *([web.news.stop] if isinstance(web, Web) else []))
    host, port = listening.getsockname()[:2]
    on_ready(f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # the server hands the signal back when it has ended; we end quietly
    server.run(sockets=[listening])
