"""A TCP relay that can be cut or frozen in the middle, and listeners that never speak or speak nonsense."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Relay:
    """Passes one port of loopback on to another until `cut` or `freeze`; drive it as a context."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._peer: dict[socket.socket, socket.socket] = {}
        self._frozen = False
        self._over = False
        self._spoils = False
        self.on_input: Callable[[bytes], None] = lambda _: None  # sees what goes to the server before it goes
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Relay":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join(5)
        self._listener.close()

    def cut(self) -> None:
        """End every connection now."""
        for sock in list(self._peer):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Pass nothing on from here on, and keep the connections."""
        self._frozen = True

    def spoil(self) -> None:
        """Change one bit of what comes from the server next."""
        self._spoils = True

    def _run(self) -> None:
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not self._over:
            if self._frozen:
                threading.Event().wait(0.02)
                continue
            for ready, _ in self._selector.select(0.05):
                self._serve(ready.fileobj)  # type: ignore[arg-type]
        for sock in self._peer:
            sock.close()

    def _serve(self, sock: socket.socket) -> None:
        if sock is not self._listener and sock not in self._peer:
            return  # its other end has gone in the same turn
        if sock is self._listener:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._to))
            self._peer |= {client: server, server: client}
            for one in (client, server):
                self._selector.register(one, selectors.EVENT_READ)
            return
        try:
            data = sock.recv(65536)
            if data and sock.getpeername()[1] != self._to:
                self.on_input(data)
                if self._frozen:
                    return
            elif data and self._spoils:
                self._spoils, data = False, data[:-1] + bytes((data[-1] ^ 1,))
            if data:
                self._peer[sock].sendall(data)
                return
        except OSError:
            pass
        for one in (sock, self._peer.get(sock, sock)):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(one)
            self._peer.pop(one, None)
            one.close()


@contextmanager
def listener(greeting: bytes | None) -> Iterator[int]:
    """Yield a port that takes connections and says `greeting`, then hangs up; None: it never says a word."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    over = threading.Event()
    held: list[socket.socket] = []

    def serve() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                sock, _ = server.accept()
                if greeting is None:
                    held.append(sock)
                    continue
                sock.sendall(greeting)
                sock.settimeout(2)
                with contextlib.suppress(OSError):
                    sock.recv(4096)
                sock.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        over.set()
        thread.join(5)
        server.close()
        for sock in held:
            sock.close()
