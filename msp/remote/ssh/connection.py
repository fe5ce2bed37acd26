"""A connection of asyncssh with less work for each packet: what a fleet pays for at every step of every host.

Only packets in AES-GCM, of channels that run a command, are read and sealed here; all others, key exchanges and every
other cipher go asyncssh's own way, packet by packet. What is refused is refused there too. See decision 0026.
"""
# ruff: noqa: SLF001  asyncssh offers no other way to its counters and buffers; its version is pinned for that

import os
import time
from typing import Any

import asyncssh
from asyncssh.constants import MSG_CHANNEL_FAILURE, MSG_CHANNEL_OPEN, MSG_CHANNEL_OPEN_CONFIRMATION, MSG_IGNORE
from asyncssh.encryption import GCMEncryption
from asyncssh.logging import SSHLogger
from asyncssh.packet import PacketDecodeError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from msp.remote.ssh.channel import ExecChannel

_TAG = 16  # bytes of the seal behind each packet (RFC 5647)
_BLOCK = 16
_TICK = 0.01  # seconds by which a timer may ring early
_LEAST = 6  # bytes of such a packet: padding, kind, channel
_FIRST, _LAST = MSG_CHANNEL_OPEN_CONFIRMATION, MSG_CHANNEL_FAILURE  # what is said to a channel of ours


class _Quiet(SSHLogger):
    """Drops what is never shown (see msp.log: asyncssh speaks from warnings on) before it is put into words."""

    def _nothing(self, *_: Any, **__: Any) -> None:
        pass

    info = debug = debug1 = debug2 = packet = _nothing


_QUIET = _Quiet()


class _Sealer:
    """The cipher of one direction. Its key is prepared once; its counter is asyncssh's, which may count it too."""

    def __init__(self, encryption: GCMEncryption) -> None:
        self.encryption = encryption
        self.cipher = encryption._cipher
        self.aead = AESGCM(self.cipher._key)
        self._nonce = b""  # as counted here
        self._fixed, self._number = b"", 0  # its two parts (RFC 5647, section 7.1)

    def seal(self, head: bytes, packet: bytes) -> bytes:
        """Return a packet sealed, and count it."""
        sealed = self.aead.encrypt(self.cipher._iv, packet, head)
        self.count()
        return sealed

    def count(self) -> None:
        nonce = self.cipher._iv
        if nonce is not self._nonce:  # asyncssh has counted
            self._fixed, self._number = nonce[:4], int.from_bytes(nonce[4:], "big")
        self._number = (self._number + 1) & 0xFFFFFFFFFFFFFFFF
        self._nonce = self.cipher._iv = self._fixed + self._number.to_bytes(8, "big")


class Connection(asyncssh.SSHClientConnection):
    """A connection whose ciphers need no empty packet before each one: half as many to encrypt, send and receive.

    asyncssh puts it there against an attack on CBC (RFC 4253, 9.3.1), which only old algorithms bring back.
    """

    _opener: _Sealer | None = None
    _closer: _Sealer | None = None
    _held: list[bytes] | None = None  # what is said while packets are read goes out in one write
    _commands = 0  # channels of ours that are open
    _heard = 0.0  # when something came last, by the loop's clock

    @property
    def logger(self) -> SSHLogger:
        return _QUIET

    def _reset_keepalive_timer(self) -> None:
        """Note that the host was heard; the timer itself is moved when it rings, not at every packet."""
        self._heard = self._loop.time()
        if self._keepalive_timer is None:
            super()._reset_keepalive_timer()

    def _keepalive_timer_callback(self) -> None:
        left = self._heard + self._keepalive_interval - self._loop.time()
        if left > _TICK:
            self._keepalive_timer = self._loop.call_later(left, self._keepalive_timer_callback)
        else:
            super()._keepalive_timer_callback()

    def log_sent_packet(self, *_: Any, **__: Any) -> None:
        """Packets are not logged."""

    log_received_packet = log_sent_packet

    def add_channel(self, chan: Any) -> int:
        number = super().add_channel(chan)
        self._commands += isinstance(chan, ExecChannel)
        return number

    def remove_channel(self, recv_chan: int) -> None:
        self._commands -= isinstance(self._channels.get(recv_chan), ExecChannel)
        super().remove_channel(recv_chan)

    def _recv_pkthdr(self) -> bool:
        """Take the packets of commands that have arrived whole; leave the first other one to asyncssh."""
        encryption = self._recv_encryption
        if not self._commands or not isinstance(encryption, GCMEncryption) or self._decompressor:
            return super()._recv_pkthdr()
        opener = self._opener
        if opener is None or opener.encryption is not encryption:
            opener = self._opener = _Sealer(encryption)
        self._held = []
        try:
            at, other = self._hand_over(opener, self._inpbuf)
        except PacketDecodeError as error:
            raise asyncssh.ProtocolError(str(error)) from None
        finally:
            held, self._held = self._held, None
            if held:
                self._send(b"".join(held))
        self._inpbuf = self._inpbuf[at:]
        return other and super()._recv_pkthdr()

    def _hand_over(self, opener: _Sealer, arrived: bytes) -> tuple[int, bool]:
        """Hand the packets of commands to their channels, up to the first other one.

        Return how many bytes they were, and whether what follows is for asyncssh; else it has not arrived whole.
        """
        at, there, most = 0, len(arrived), self._max_recv_pktlen
        channels, cipher, opened = self._channels, opener.cipher, opener.aead.decrypt
        while at + 4 <= there:
            head = arrived[at : at + 4]
            size = int.from_bytes(head, "big")
            end = at + 4 + size + _TAG
            if size > most:
                return at, True
            if end > there:
                return at, False
            try:
                packet = opened(cipher._iv, arrived[at + 4 : end], head)
            except InvalidTag:
                return at, True
            if len(packet) < _LEAST or not _FIRST <= packet[1] <= _LAST:
                return at, True
            channel: Any = channels.get(int.from_bytes(packet[2:6], "big"))
            if not isinstance(channel, ExecChannel):
                return at, True
            opener.count()
            self._recv_seq = (self._recv_seq + 1) & 0xFFFFFFFF
            at = end
            channel.take(packet[1], packet[6 : -packet[0]])
        return at, False

    def _send(self, data: bytes) -> None:
        if self._held is None:
            super()._send(data)
        else:
            self._held.append(data)

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        if pkttype == MSG_IGNORE:
            return
        encryption = self._send_encryption
        if (
            pkttype < MSG_CHANNEL_OPEN
            or not (self._kex_complete and self._auth_complete)
            or self._compressor
            or self._rekey_bytes_sent >= self._rekey_bytes
            or (self._rekey_seconds and time.monotonic() >= self._rekey_time)
            or not isinstance(encryption, GCMEncryption)
        ):
            super().send_packet(pkttype, *args, handler=handler)
            return
        closer = self._closer
        if closer is None or closer.encryption is not encryption:
            closer = self._closer = _Sealer(encryption)
        payload = bytes((pkttype,)) + b"".join(args)
        padding = -(1 + len(payload)) % _BLOCK
        if padding < 4:
            padding += _BLOCK
        packet = bytes((padding,)) + payload + os.urandom(padding)
        head = len(packet).to_bytes(4, "big")
        self._send(head + closer.seal(head, packet))
        self._send_seq = (self._send_seq + 1) & 0xFFFFFFFF
        self._rekey_bytes_sent += len(packet)
