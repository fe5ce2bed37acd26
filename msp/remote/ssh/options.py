"""How we talk SSH: ciphers, key exchanges and the options of a connection, built once per credential."""

import copy
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

import asyncssh

from msp.clock import utc_now
from msp.remote.credentials import key_pairs
from msp.remote.outcome import Outcome
from msp.remote.target import Credential, Target
from msp.remote.transport import NotAdmitted

KEEPALIVE = 30  # seconds between keepalives; three unanswered ones end the connection
OLD_KEY_TYPES = ("ssh-rsa", "ssh-dss")
OLD_KEX = ("diffie-hellman-group14-sha1", "diffie-hellman-group-exchange-sha1", "diffie-hellman-group1-sha1")
OLD_CIPHERS = ("aes128-cbc", "aes256-cbc", "3des-cbc")
OLD_MACS = ("hmac-sha1",)
KEPT = 512  # credentials whose options are kept ready
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr")
KEX = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "diffie-hellman-group16-sha512",
       "diffie-hellman-group14-sha256")  # fmt: skip
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512",
             "rsa-sha2-256")  # fmt: skip


MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")


def check_leave(target: Target) -> None:
    """Raise NotAdmitted if the leave to speak old algorithms with a host is over."""
    until = target.old_algorithms_until
    if target.old_algorithms and (until is None or until <= utc_now()):
        ended = f"ended on {until:%Y-%m-%d %H:%M} UTC" if until else "has no end, so it does not count"
        detail = f"{target.where} is spoken with in old algorithms ({', '.join(target.old_algorithms)}), and the leave "
        raise NotAdmitted(
            Outcome("refused", detail=detail + f"for them {ended}."),
            advice="Renew the device's software; or decide anew with msp asset old-algorithms.",
        )


@lru_cache(maxsize=4096)
def pinned(line: str) -> asyncssh.SSHKey:
    """Return a public key from its authorized_keys form; raises NotAdmitted if it cannot be read."""
    try:
        return asyncssh.import_public_key(line)
    except asyncssh.KeyImportError as error:
        raise NotAdmitted(
            Outcome("host_key_unknown", detail=f"The pinned host key cannot be read: {error}."),
            advice="Pin it again as it stands in the host's /etc/ssh/ssh_host_ed25519_key.pub.",
        ) from error


def is_pinned(key: asyncssh.SSHKey | None, target: Target) -> bool:
    """Whether the key that a host showed is one of those pinned for it now."""
    return key is not None and key in map(pinned, target.host_keys)


class OptionsBook:
    """Makes connection options; those of one credential are built once, because that costs as much as a step."""

    def __init__(self) -> None:
        self._bases: OrderedDict[tuple[object, ...], asyncssh.SSHClientConnectionOptions] = OrderedDict()

    def of(self, target: Target, credential: Credential) -> asyncssh.SSHClientConnectionOptions:
        """Return options for one log-in. Raises NotAdmitted for a key or a credential that cannot be used."""
        check_leave(target)
        old = target.old_algorithms
        known = (credential, _changed(credential.key_file), old)
        base = self._bases.get(known)
        if base is None:
            base = self._bases[known] = _base(credential, old)
            if len(self._bases) > KEPT:
                self._bases.popitem(last=False)
        options = copy.copy(base)
        keys = [pinned(line) for line in target.host_keys]
        options.host, options.port = target.address, target.port
        options.known_hosts = (keys, [], [], [], [], [], [])
        spoken = (*KEY_TYPES, *_of(old, OLD_KEY_TYPES))
        first = [name for key in keys for name in (alg.decode() for alg in key.sig_algorithms) if name in spoken]
        # every type is offered, pinned types first: a host that shows another key is "changed", not "no match"
        options.server_host_key_algs = list(dict.fromkeys([*first, *spoken]))
        return options


def _changed(path: Path | None) -> int:
    """When a key file was changed, so that a renewed key is used at once; its absence is told when it is read."""
    try:
        return path.stat().st_mtime_ns if path else 0
    except OSError:
        return 0


def _of(old: tuple[str, ...], known: tuple[str, ...]) -> list[str]:
    return [name for name in old if name in known]


def _base(credential: Credential, old: tuple[str, ...]) -> asyncssh.SSHClientConnectionOptions:
    has_key = bool(credential.key_file or credential.private_key)
    methods = [name for name, given in (("publickey", not credential.password or has_key),
                                        ("password", credential.password),
                                        ("keyboard-interactive", credential.password)) if given]  # fmt: skip
    return asyncssh.SSHClientConnectionOptions(
        config=None,
        username=credential.user or "root",
        client_keys=key_pairs(credential) or None,
        password=credential.password.value if credential.password else None,
        preferred_auth=methods,
        agent_path=None,
        agent_forwarding=False,
        gss_host=None,
        gss_kex=False,
        gss_auth=False,
        host_based_auth=False,
        x509_trusted_certs=None,
        compression_algs=None,
        encryption_algs=[*CIPHERS, *_of(old, OLD_CIPHERS)],
        kex_algs=[*KEX, *_of(old, OLD_KEX)],
        mac_algs=[*MACS, *_of(old, OLD_MACS)],
        signature_algs=[*KEY_TYPES, *_of(old, OLD_KEY_TYPES)],
        known_hosts=([], [], []),
        keepalive_interval=KEEPALIVE,
        connect_timeout=None,
        login_timeout=None,
    )
