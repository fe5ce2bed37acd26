"""The process in which one device is spoken with: `python -m msp.remote.network.worker`, started by transport.py.

Apart from everything else, because netmiko's drivers change paramiko for a whole process, and so that a deadline can
end it whatever it is doing. Orders come on standard input and answers go to standard output, each a length and JSON.
"""

import json
import os
import queue
import socket
import struct
import sys
import threading
from typing import Any, BinaryIO

_LENGTH = struct.Struct(">I")


def write(stream: BinaryIO, message: dict[str, Any]) -> None:
    """Send one message; text that is not UTF-8 travels as surrogates."""
    data = json.dumps(message).encode()
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """Return the next message, or None at the end."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    size: int = _LENGTH.unpack(head)[0]
    data = stream.read(size)
    return dict(json.loads(data)) if len(data) == size else None


def _listen(orders: "queue.Queue[dict[str, Any]]") -> None:
    """Take orders in; when whoever gave them is gone, so are we: nobody could hear how it ended."""
    while (order := read(sys.stdin.buffer)) is not None:
        orders.put(order)
    os._exit(0)


def main() -> None:
    """Open the device that the first order names, then do what the others say."""
    orders: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not break into the messages

    from msp.remote.network.device import CannotLogIn, Device
    from msp.remote.network.performing import Performing

    def say(**message: Any) -> None:
        write(out, message)

    sockets = socket.socket(fileno=int(sys.argv[1]))

    def connect(seconds: float) -> socket.socket:
        """Ask the parent, who knows the way through bastions, for a connected socket."""
        say(want="socket", seconds=seconds)
        data, found, _, _ = socket.recv_fds(sockets, 65536, 1)
        if not found:
            refused = json.loads(data)
            raise CannotLogIn(refused["kind"], refused["detail"], reason=refused["reason"])
        return socket.socket(fileno=found[0])

    wanted = orders.get()
    try:
        device = Device.open(wanted, connect)
    except CannotLogIn as error:
        say(kind=error.kind, reason=error.reason, detail=error.detail, advice=error.advice)
        return
    say(kind="open", prompt=device.prompt)
    performing = Performing(device, wanted, connect, say)
    while True:
        say(done=performing.perform(orders.get()))


if __name__ == "__main__":
    main()
