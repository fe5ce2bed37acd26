"""How one Windows host is to be reached: what its facts say, checked before anything is dialled. Pure.

Facts of an asset, or words of a list of hosts: `winrm_auth` (ntlm, kerberos or basic), `winrm_scheme` (https or http),
`winrm_ca` (a file of authorities that may sign its certificate), `winrm_host` (its name in the certificate and in
Kerberos, where the address is a number).
"""

import re
from dataclasses import dataclass, field
from typing import Final

from msp.remote.outcome import Outcome
from msp.remote.target import Target
from msp.remote.transport import CannotOpen, NotAdmitted

WAYS: Final = ("ntlm", "kerberos", "basic")
SCHEMES: Final = ("https", "http")
_ADDRESS = re.compile(r"[\w.:%-]{1,253}")
_PIN = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Access:
    """Everything that a connection needs. `pins` are SHA-256 of certificates, 64 hexadecimal digits each."""

    where: str  # for sentences
    address: str
    port: int
    scheme: str
    auth: str
    user: str
    password: str = field(repr=False)
    host: str  # name in the certificate and in Kerberos
    pins: frozenset[str] = frozenset()
    ca: str = ""

    @property
    def endpoint(self) -> str:
        name = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{name}:{self.port}/wsman"


def pin(text: str) -> str | None:
    """Return a pin as it is stored (sha256:<64 hexadecimal digits>), or None if it is none; colons are allowed."""
    kind, _, digits = text.strip().lower().partition(":")
    found = _PIN.fullmatch(f"{kind}:{digits.replace(':', '')}")
    return found[0] if found else None


def access(target: Target) -> Access:
    """Return how to reach a host; raises NotAdmitted for what must not be, and CannotOpen for no address."""
    facts, credential = target.facts, target.credential
    auth, scheme = str(facts.get("winrm_auth") or "ntlm"), str(facts.get("winrm_scheme") or "https")
    if auth not in WAYS or scheme not in SCHEMES:
        what = f"{target.where}: winrm_auth is {auth!r} and winrm_scheme {scheme!r}."
        raise _refused("auth_failed", what, f"Known: {', '.join(WAYS)} over {', '.join(SCHEMES)}.")
    if target.via:
        what = f"{target.where} is recorded behind a bastion, and WinRM goes through none."
        raise _refused("auth_failed", what, "Reach it directly, or by a worker in its network.")
    if not credential.user or credential.password is None:
        what = f"WinRM needs a user and a password for {target.where}; keys are for SSH."
        raise _refused("auth_failed", what, "Name a secret that holds the password.")
    if auth == "basic" and ":" in credential.user:
        raise _refused("auth_failed", f"Basic cannot carry the colon in {credential.user!r}.", "Use ntlm or kerberos.")
    if not _ADDRESS.fullmatch(target.address):
        what = f"{target.address!r} is no address of {target.name}."
        raise CannotOpen(Outcome("unreachable", reason="dns", detail=what), advice="Give a name or a number.")
    pins = {found[1] for key in target.host_keys if (found := _PIN.fullmatch(pin(key) or ""))}
    if target.host_keys and not pins:
        what = f"The pinned host key of {target.where} is none of a certificate."
        raise _refused("host_key_unknown", what, "Pin it as sha256: and the fingerprint of its certificate.")
    if scheme == "http":
        if auth == "basic":
            what = f"{target.where}: Basic would show the password to the whole network without TLS."
            raise _refused("auth_failed", what, "Use https, or ntlm or kerberos, which seal every message.")
        if pins:
            what = f"A certificate of {target.where} is pinned, but winrm_scheme is http, which shows none."
            raise _refused("host_key_unknown", what, "Use https, or withdraw the pin.")
    return Access(
        where=target.where,
        address=target.address,
        port=target.port,
        scheme=scheme,
        auth=auth,
        user=credential.user,
        password=credential.password.value,
        host=str(facts.get("winrm_host") or target.address),
        pins=frozenset(pins),
        ca=str(facts.get("winrm_ca") or ""),
    )


def _refused(kind: str, what: str, advice: str) -> NotAdmitted:
    return NotAdmitted(Outcome(kind, detail=what), advice=advice)  # type: ignore[arg-type]
