"""Log in to a device: netmiko over paramiko, with pinned host keys and exactly the credential given.

Runs in the worker process only.
"""

import io
import logging
import socket
import time
from collections.abc import Callable
from typing import Any, Self

import netmiko
import paramiko
from netmiko.cisco.cisco_ios import CiscoIosBase
from netmiko.exceptions import NetmikoAuthenticationException, NetmikoTimeoutException, ReadException, ReadTimeout

from msp.remote.network.dialogue import Dialogue, Listener
from msp.remote.network.platforms import PLATFORMS, Platform

KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512",
             "rsa-sha2-256")  # fmt: skip
_SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


class CannotLogIn(Exception):
    """Nothing was sent but the log-in. The fields are those of an Outcome."""

    def __init__(self, kind: str, detail: str, *, reason: str = "", advice: str = "") -> None:
        super().__init__(detail)
        self.kind, self.detail, self.reason, self.advice = kind, detail, reason, advice


class _Pinned(paramiko.SSHClient, paramiko.MissingHostKeyPolicy):
    """Knows the pinned keys of one host and nothing else; asks for keys of their types first."""

    def __init__(self, pins: list[str], where: str) -> None:
        super().__init__()
        self._pins = {tuple(pin.split()[:2]) for pin in pins}
        self._where = where
        self.set_missing_host_key_policy(self)

    def connect(self, *given: Any, **options: Any) -> None:
        """The pinned types of keys are asked for first, so that another type is "changed", not "no match"."""
        super().connect(*given, **{**options, "transport_factory": self._transport_of})

    def _transport_of(self, sock: Any, **options: Any) -> paramiko.Transport:
        transport = paramiko.Transport(sock, **options)
        first = [name for kind, _ in sorted(self._pins) for name in _SIGNATURES.get(kind, (kind,))]
        known = transport.get_security_options().key_types
        wanted = [name for name in dict.fromkeys([*first, *KEY_TYPES]) if name in known]
        transport.get_security_options().key_types = tuple(wanted)
        return transport

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Compare the key that answers with the pins."""
        if (key.get_name(), key.get_base64()) in self._pins:
            return
        shown = key.fingerprint
        if self._pins:
            raise CannotLogIn(
                "host_key_changed",
                f"The host key of {self._where} is not the pinned one: it shows {shown}.",
                advice="Somebody may stand between. Ask the client; pin the new key only once it is confirmed.",
            )
        raise CannotLogIn(
            "host_key_unknown",
            f"No host key of {self._where} is pinned; it shows {shown}.",
            advice="Compare it with the client and pin it.",
        )


class _Frr(CiscoIosBase):
    """FRR's vtysh, for which netmiko has no driver: speaks as IOS does, and knows no terminal width."""

    def session_preparation(self) -> None:
        self._test_channel_read(pattern=r"[>#] ?$")
        self.set_base_prompt()
        self.disable_paging(command="terminal length 0")


class Device:
    """One open command line in privileged mode, where the platform has one."""

    def __init__(self, connection: Any, platform: Platform, prompt: str) -> None:
        self._connection, self.platform, self.prompt = connection, platform, prompt

    @classmethod
    def open(cls, wanted: dict[str, Any], connect: Callable[[float], socket.socket]) -> Self:
        """Log in to what `wanted` describes. connect: gives a socket within so many seconds. Raises CannotLogIn."""
        for name in ("paramiko", "netmiko"):  # what they say is in the outcome; their logs could hold passwords
            logging.getLogger(name).addHandler(logging.NullHandler())
            logging.getLogger(name).propagate = False
        where, platform = wanted["where"], PLATFORMS[wanted["platform"]]
        deadline = time.monotonic() + wanted["seconds"]
        sock = connect(wanted["seconds"])
        try:
            connection = _logged_in(wanted, platform, sock, deadline)
            prompt = connection.set_base_prompt()
        except CannotLogIn:
            raise
        except NetmikoAuthenticationException as error:
            raise _refused(wanted, str(error).strip().rpartition("\n")[2]) from error
        except (NetmikoTimeoutException, ReadTimeout, ReadException) as error:
            raise _silent(where, error) from error
        except (ValueError, OSError, EOFError, paramiko.SSHException) as error:
            raise _silent(where, error) from error
        connection.clear_buffer()
        return cls(connection, platform, str(prompt))

    def privileged(self, secret: str) -> bool:
        """Enter the privileged mode, if the platform has one and we are not in it; whether we are then."""
        if self.platform.candidate or not self.platform.configurable or self.platform.driver == "mikrotik_routeros":
            return True
        connection = self._connection
        if connection.check_enable_mode():
            return True
        if secret:
            connection.secret = secret
        try:
            connection.enable()
        except (ValueError, NetmikoTimeoutException, ReadTimeout):
            return False
        return bool(connection.check_enable_mode())

    def dialogue(self, log: Listener, idle: Callable[[], None]) -> Dialogue:
        """Return the open command line; see Dialogue."""
        return Dialogue(self._connection.remote_conn, self.platform, self.prompt, log, idle)

    def close(self) -> None:
        """Hang up without a word: an `exit` could be taken for an answer."""
        self._connection.paramiko_cleanup()


def _logged_in(wanted: dict[str, Any], platform: Platform, sock: socket.socket, deadline: float) -> Any:
    left = max(deadline - time.monotonic(), 0.5)
    driver = _Frr if platform.driver == "frr" else netmiko.ssh_dispatcher(platform.driver)
    pins, where = wanted["host_keys"], wanted["where"]

    class Pinned(driver):  # type: ignore[misc, valid-type]
        """The platform's driver, with our own idea of who may answer."""

        def _build_ssh_client(self) -> paramiko.SSHClient:
            return _Pinned(pins, where)

    password = wanted["password"] or ""
    key = _key(wanted)
    return Pinned(
        host=wanted["address"],
        port=wanted["port"],
        username=wanted["user"],
        password=password or None,
        secret=password,
        device_type="generic" if platform.driver == "frr" else platform.driver,
        use_keys=False,
        pkey=key,
        allow_agent=False,
        ssh_strict=True,
        sock=sock,
        conn_timeout=left,
        banner_timeout=left,
        auth_timeout=left,
        keepalive=15,
    )


def _key(wanted: dict[str, Any]) -> paramiko.PKey | None:
    text = wanted["private_key"]
    if not text:
        return None
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            key: paramiko.PKey = kind.from_private_key(io.StringIO(text))
        except (paramiko.SSHException, ValueError, IndexError):
            continue
        if wanted["certificate"]:
            key.load_certificate(wanted["certificate"])
        return key
    raise _refused(wanted, "our private key cannot be read")


def _refused(wanted: dict[str, Any], why: str) -> CannotLogIn:
    detail = f"{wanted['where']} did not admit {wanted['user']}: {why.rstrip('.') or 'authentication failed'}."
    return CannotLogIn("auth_failed", detail, advice="Check the user, the password or key, and its rights.")


def _silent(where: str, error: BaseException) -> CannotLogIn:
    """Sort what went wrong below the log-in."""
    below = error.__context__ if isinstance(error, NetmikoTimeoutException) else error
    said = str(below or error).strip()
    if isinstance(below, paramiko.ssh_exception.IncompatiblePeer):
        detail = f"{where} and we share no way to talk safely: {said}."
        advice = "Old gear needs other algorithms than are offered here; renew its keys or its system."
        return CannotLogIn("unreachable", detail, reason="banner", advice=advice)
    if isinstance(error, (ReadTimeout, ReadException, ValueError)):
        detail = f"{where} let us in and showed no prompt that its platform has."
        return CannotLogIn("unreachable", detail, reason="banner", advice="Is its platform the right one?")
    first = said.splitlines()[0] if said else "it hung up"
    detail = f"{where} took the connection and then did not speak SSH as we expect: {first}."
    return CannotLogIn("unreachable", detail, reason="banner")
