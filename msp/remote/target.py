"""Where a run goes: an address, a log-in, and the host key that must answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

from msp.clock import utc_now
from msp.secret import Secret


class CredentialSource(Protocol):
    """Makes a credential for a log-in that is about to happen."""

    async def credential(self, user: str, *, forwards: bool) -> "Credential":
        """Return one for an account. forwards: connections to further hosts go through it. Raises MspError."""


@dataclass(frozen=True, slots=True)
class Credential:
    """How to log in. Exactly what is given is used: no agent, no default keys, no prompts."""

    user: str = ""
    key_file: Path | None = None  # a private key in a file, with KEY-cert.pub beside it if there is one
    private_key: Secret | None = None  # a private key in OpenSSH form, from the vault
    certificate: str = ""  # an OpenSSH certificate for `private_key`
    password: Secret | None = None
    become_password: Secret | None = None  # what sudo asks for, if it is not `password`
    valid_until: datetime | None = None  # end of the certificate's time; sessions opened with it end then

    source: CredentialSource | None = field(default=None, repr=False)  # makes what is given above, for each log-in

    @property
    def typed(self) -> tuple[str, ...]:
        """The passwords in it: what a host could echo."""
        return tuple(secret.value for secret in (self.password, self.become_password) if secret)

    def seconds_left(self) -> float:
        """How long it can still be used; endless without a `valid_until`."""
        return float("inf") if self.valid_until is None else (self.valid_until - utc_now()).total_seconds()


PORTS: Final = {"vnc": 5900, "winrm": 5986}  # where a way in is found unless something else is said; 22 for every other


@dataclass(frozen=True, slots=True)
class Target:
    """One host of a run. `host_keys` are public keys as in authorized_keys ("ssh-ed25519 AAAA..."), or for WinRM the
    fingerprints of certificates ("sha256:" and 64 hexadecimal digits).
    """

    name: str
    address: str = ""
    port: int = 22
    credential: Credential = Credential()
    host_keys: tuple[str, ...] = ()
    transport: str = "ssh"
    platform: str = "linux"
    kind: str = "server"  # class of the configuration item
    asset_id: int | None = None
    via: tuple["Target", ...] = ()  # bastions on the way, the nearest to us first; their own `via` does not count
    plain: str = ""  # why what is not encrypted (VNC) may cross the network to it all the same
    old_algorithms: tuple[str, ...] = ()  # of SSH, that it may still be spoken with
    old_algorithms_until: datetime | None = None
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def way(self) -> tuple["Target", ...]:
        """The bastions before it and itself: the `via` of what is reached through it."""
        return (*self.via, self)

    @property
    def where(self) -> str:
        """The address for sentences: `srv-1 (10.0.0.5:22)`."""
        return f"{self.name} ({self.address}:{self.port})" if self.address else self.name
