"""One VNC connection in a process of its own: `python -m msp.remote.screen.child FD FAMILY`, started by vnc.py.

FD is a connected socket. Standard input carries requests, standard output events, each a line of JSON. The process
ends with its parent's end of the pipe; the parent enforces every deadline by killing it.
"""

import json
import os
import sys
import threading
from typing import Any, BinaryIO


class Line:
    """Events for the parent. Written at once, so that `sending` is told before a key goes out."""

    def __init__(self) -> None:
        self._out = os.dup(1)
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123  nobody else may write into the line
            os.dup2(nothing.fileno(), 1)

    def tell(self, event: str, **data: Any) -> None:
        """Write one event, whole."""
        left = memoryview((json.dumps({"event": event, **data}) + "\n").encode())
        while left:
            left = left[os.write(self._out, left) :]


def main(fd: int, family: int) -> None:
    """Log in, then perform requests until the parent closes the line or the connection ends."""
    line = Line()
    absent: dict[str, Any] = sys.modules  # Twisted looks for TLS at 0.2 s of CPU and more libraries; RFB here has none
    absent["OpenSSL"] = None
    first = json.loads(sys.stdin.buffer.readline() or b"{}")
    from twisted.internet import reactor
    from twisted.logger import globalLogBeginner

    from msp.remote.screen.client import Factory

    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    os.set_blocking(fd, False)
    transport_of: Any = reactor
    factory = Factory(first.get("password"))
    clients: list[Any] = []
    build = factory.buildProtocol

    def remember(address: object) -> Any:
        clients.append(build(address))
        return clients[-1]

    factory.buildProtocol = remember
    transport_of.adoptStreamConnection(fd, family, factory)
    os.close(fd)
    session = _Session(clients[0], line, blind=bool(first.get("blind")))
    threading.Thread(target=session.listen, args=(sys.stdin.buffer,), daemon=True).start()
    transport_of.run(installSignalHandlers=False)


class _Session:
    """Requests of the parent, one at a time."""

    def __init__(self, client: Any, line: Line, *, blind: bool) -> None:
        from msp.remote.screen.picture import Veil

        self._client, self._line, self._veil = client, line, Veil(blind=blind)
        client.ready.addCallbacks(self._ready, self._failed)

    def _ready(self, _: object) -> None:
        client = self._client
        self._line.tell("ready", width=client.width, height=client.height)

    def _failed(self, failure: Any) -> None:
        from twisted.internet import reactor

        self._line.tell("gone", kind=failure.value.kind, detail=failure.value.detail)
        ending: Any = reactor
        ending.callLater(0, ending.stop)

    def listen(self, source: BinaryIO) -> None:
        """Read requests in a thread and hand them to the reactor; the end of the line ends the process."""
        from twisted.internet import reactor

        loop: Any = reactor
        for written in source:
            loop.callFromThread(self._begin, json.loads(written))
        loop.callFromThread(loop.stop)

    def _begin(self, request: dict[str, Any]) -> None:
        from twisted.internet.defer import ensureDeferred

        ensureDeferred(self._perform(request))

    async def _perform(self, request: dict[str, Any]) -> None:
        from msp.remote.screen.client import Gone
        from msp.remote.screen.performing import CannotTell, NotSeen, Performing

        performing = Performing(self._client, self._veil, lambda: self._line.tell("sending"), request["seconds"])
        end: dict[str, Any] = {"kind": "ok", "detail": ""}
        try:
            await performing.run(request["acts"])
        except NotSeen as error:
            end = {"kind": "not_seen", "detail": str(error)}
        except CannotTell as error:
            end = {"kind": "cannot_tell", "detail": str(error)}
        except Gone as gone:
            end = {"kind": gone.kind, "detail": gone.detail}
        except Exception as error:  # noqa: BLE001  told to the parent, whose outcome it becomes
            end = {"kind": "fault", "detail": f"{type(error).__name__}: {error}"}
        self._line.tell("end", **end, pictures=[shot.wire() for shot in performing.pictures])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
