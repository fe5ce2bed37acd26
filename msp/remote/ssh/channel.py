"""One command on an SSH connection: its channel, from the opening to the close. Source: RFC 4254, sections 5 and 6.

asyncssh's own channels also serve terminals, subsystems and tunnels, and wait for the answer to one request before
they send the next; a fleet pays for that at every step. This one runs a command and nothing else, on any connection
of asyncssh, and sends the command with its input at once, as OpenSSH's client does.
"""

from typing import Any, Final

import asyncssh
from asyncssh.constants import (
    EXTENDED_DATA_STDERR,
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from asyncssh.packet import SSHPacket, String, UInt32

WINDOW = 2 * 1024 * 1024  # bytes that a host may send before we say that we take more
PACKET = 32 * 1024  # bytes of data in one packet, at most
HIGH, LOW = 64 * 1024, 16 * 1024  # bytes of input that wait: above, its source pauses; below, it goes on

_OPEN: Final = String("session")
_ROOM: Final = UInt32(WINDOW) + UInt32(PACKET)
_EXEC: Final = String("exec") + b"\1"  # with an answer: a host may say no to this one command
_SIGNAL: Final = String("signal") + b"\0"
_STDERR: Final = UInt32(EXTENDED_DATA_STDERR)


class ExecChannel:
    """Opens a channel and runs `line` on it. Subclass it to hear what comes; every hook is called in the loop.

    Raises asyncssh.ChannelOpenError when the connection has gone already.
    """

    def __init__(self, connection: asyncssh.SSHClientConnection, line: str) -> None:
        self._connection = connection
        self._request = _EXEC + String(line)
        self._theirs: bytes | None = None  # the number that the host gave the channel; None before and after its life
        self.unopened = False  # the host gave no channel
        self._said_eof = self._eof_asked = self._closing = False
        self._may_send = self._largest = 0
        self._may_come = WINDOW
        self._waiting = bytearray()  # input that the host has no room for yet
        self._paused = False
        self._number = connection.add_channel(self)  # type: ignore[arg-type]  # it asks for no more than what is here
        self._say(MSG_CHANNEL_OPEN, _OPEN + UInt32(self._number) + _ROOM)

    # What a subclass hears.

    def opened(self) -> None:
        """The host gave a channel and the command is on its way; input may follow."""

    def refused(self, why: str) -> None:
        """The host would not open the channel, or not start the command. Nothing ran."""

    def heard(self, data: bytes) -> None:
        """The command wrote to its standard output."""

    def heard_error(self, data: bytes) -> None:
        """The command wrote to its standard error."""

    def exited(self, status: int | None, signal: str) -> None:
        """The command ended, with a status or by a signal."""

    def pause(self) -> None:
        """The host takes no more input for now."""

    def resume(self) -> None:
        """The host takes input again."""

    def closed(self) -> None:
        """The channel is over, or its connection went."""

    # What a subclass does.

    def write(self, data: bytes) -> None:
        """Send input; what the host has no room for waits. After the end of the input it is dropped."""
        if not self._eof_asked and not self._closing:
            self._waiting += data
            self._push()

    def write_eof(self) -> None:
        """Send the end of the input, after what waits."""
        self._eof_asked = True
        self._push()

    def kill(self) -> None:
        """Signal the command and close the channel; whether the host obeys is not known."""
        if self._theirs is not None and not self._closing:
            self._say(MSG_CHANNEL_REQUEST, self._theirs + _SIGNAL + String("TERM"))
            self._say(MSG_CHANNEL_REQUEST, self._theirs + _SIGNAL + String("KILL"))
        self.close()

    def close(self) -> None:
        """Close the channel; one that is not open yet is closed as soon as it is, before anything runs on it."""
        if not self._closing:
            self._closing = True
            self._waiting.clear()
            if self._theirs is not None:
                self._say(MSG_CHANNEL_CLOSE, self._theirs)

    # What the connection tells.

    def take(self, kind: int, data: bytes) -> bool:
        """Take one packet: its kind and what follows the number of the channel. Return whether it is known here.

        Raises asyncssh.ProtocolError for what the protocol does not allow.
        """
        if kind == MSG_CHANNEL_OPEN_CONFIRMATION:
            if len(data) < 12:
                raise _broken("it opened a channel in half a packet")
            self._confirmed(data[:4], int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big"))
        elif kind == MSG_CHANNEL_OPEN_FAILURE:
            packet = SSHPacket(data)
            self.process_open_failure(packet.get_uint32(), packet.get_string().decode("utf-8", "backslashreplace"), "")
        elif self._theirs is None:
            raise _broken("it spoke on a channel that is not open")
        elif kind == MSG_CHANNEL_DATA:
            self._came(data, 0)
        elif kind == MSG_CHANNEL_EXTENDED_DATA:
            if data[:4] != _STDERR:
                raise _broken("it sent data of an unknown kind")
            self._came(data, 4)
        elif kind == MSG_CHANNEL_REQUEST:
            self._asked(SSHPacket(data))
        elif kind == MSG_CHANNEL_WINDOW_ADJUST:
            self._may_send += int.from_bytes(data[:4], "big")
            self._push()
        elif kind == MSG_CHANNEL_CLOSE:
            self.close()
            self._over()
        elif kind == MSG_CHANNEL_FAILURE:
            self.close()
            self.refused("Session request failed")
        else:  # of an end of output and of a yes nothing follows: the exit status and the close tell more
            return kind in (MSG_CHANNEL_EOF, MSG_CHANNEL_SUCCESS)
        return True

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool:
        """Take a packet that asyncssh has read."""
        return self.take(pkttype, packet.get_remaining_payload())

    def process_open_confirmation(self, send_chan: int, send_window: int, send_pktsize: int, packet: SSHPacket) -> None:
        """The host opened the channel: send the command."""
        self._confirmed(UInt32(send_chan), send_window, send_pktsize)

    def _confirmed(self, number: bytes, room: int, largest: int) -> None:
        if self._theirs is not None:
            raise _broken("it opened a channel twice")
        self._theirs, self._may_send, self._largest = number, room, min(largest, PACKET)
        if self._largest <= 0:
            raise _broken("it takes no packet of any size")
        if self._closing:  # given up meanwhile
            self._say(MSG_CHANNEL_CLOSE, self._theirs)
            return
        self._say(MSG_CHANNEL_REQUEST, self._theirs + self._request)
        self.opened()

    def process_open_failure(self, code: int, reason: str, lang: str) -> None:
        """The host would not open the channel."""
        self._closing = self.unopened = True
        self.refused(reason)
        self._over()

    def process_connection_close(self, exc: Exception | None) -> None:
        """The connection went."""
        self._closing = True
        self._over()

    def log_received_packet(self, *_: Any, **__: Any) -> None:
        """Packets are not logged."""

    log_sent_packet = log_received_packet

    def _say(self, kind: int, data: bytes) -> None:
        self._connection.send_packet(kind, data, handler=self)  # type: ignore[arg-type]

    def _push(self) -> None:
        """Send of the input what the host has room for, and its end when there is no more."""
        if self._theirs is None or self._closing:
            return
        while self._waiting and self._may_send:
            size = min(len(self._waiting), self._may_send, self._largest)
            self._may_send -= size
            self._say(MSG_CHANNEL_DATA, self._theirs + String(bytes(self._waiting[:size])))
            del self._waiting[:size]
        if self._eof_asked and not self._waiting and not self._said_eof:
            self._said_eof = True
            self._say(MSG_CHANNEL_EOF, self._theirs)
        if self._paused and len(self._waiting) <= LOW:
            self._paused = False
            self.resume()
        elif not self._paused and len(self._waiting) > HIGH:
            self._paused = True
            self.pause()

    def _came(self, data: bytes, start: int) -> None:
        """Pass on what the command wrote: a string that begins at `start`."""
        text = data[start + 4 :]
        size = len(text)
        if data[start : start + 4] != UInt32(size):
            raise _broken("its data is not as long as it says")
        if size > self._may_come:
            raise _broken("it sent more than it may")
        self._may_come -= size
        if self._closing or not size:
            return
        if self._may_come < WINDOW // 2:
            self._say(MSG_CHANNEL_WINDOW_ADJUST, self._theirs + UInt32(WINDOW - self._may_come))  # type: ignore[operator]
            self._may_come = WINDOW
        if start:
            self.heard_error(text)
        else:
            self.heard(text)

    def _asked(self, packet: SSHPacket) -> None:
        """Hear how the command ended; to whatever else a host asks, the answer is no."""
        request, wants_answer, answer = packet.get_string(), packet.get_boolean(), MSG_CHANNEL_SUCCESS
        if request == b"exit-status":
            self.exited(packet.get_uint32() & 0xFF, "")
        elif request == b"exit-signal":
            self.exited(None, packet.get_string().decode("ascii", "backslashreplace"))
        else:
            answer = MSG_CHANNEL_FAILURE
        if wants_answer and not self._closing:
            self._say(answer, self._theirs or b"")

    def _over(self) -> None:
        self._theirs = None
        self._connection.remove_channel(self._number)
        self.closed()


def _broken(what: str) -> asyncssh.ProtocolError:
    """Return what ends the connection with a host that does not keep to the protocol."""
    return asyncssh.ProtocolError("protocol broken: " + what)
