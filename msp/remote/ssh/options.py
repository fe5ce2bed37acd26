"""How we talk SSH: ciphers, key exchanges and the options of a connection, built once per credential."""

import copy
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

import asyncssh

from msp.remote.credentials import key_pairs
from msp.remote.outcome import Outcome
from msp.remote.target import Credential, Target
from msp.remote.transport import NotAdmitted

KEEPALIVE = 30  # seconds between keepalives; three unanswered ones end the connection
KEPT = 512  # credentials whose options are kept ready
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr")
KEX = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "diffie-hellman-group16-sha512",
       "diffie-hellman-group14-sha256")  # fmt: skip
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512",
             "rsa-sha2-256")  # fmt: skip


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
    return key is not None and any(pinned(line) == key for line in target.host_keys)


class OptionsBook:
    """Makes connection options; those of one credential are built once, because that costs as much as a step."""

    def __init__(self) -> None:
        self._bases: OrderedDict[tuple[object, ...], asyncssh.SSHClientConnectionOptions] = OrderedDict()

    def of(self, target: Target, credential: Credential) -> asyncssh.SSHClientConnectionOptions:
        """Return options for one log-in. Raises NotAdmitted for a key or a credential that cannot be used."""
        known = (credential, _changed(credential.key_file))
        base = self._bases.get(known)
        if base is None:
            base = self._bases[known] = _base(credential)
            if len(self._bases) > KEPT:
                self._bases.popitem(last=False)
        options = copy.copy(base)
        keys = [pinned(line) for line in target.host_keys]
        options.host, options.port = target.address, target.port
        options.known_hosts = (keys, [], [], [], [], [], [])
        first = [name for key in keys for name in (alg.decode() for alg in key.sig_algorithms) if name in KEY_TYPES]
        # every type is offered, pinned types first: a host that shows another key is "changed", not "no match"
        options.server_host_key_algs = list(dict.fromkeys([*first, *KEY_TYPES]))
        return options


def _changed(path: Path | None) -> int:
    """When a key file was changed, so that a renewed key is used at once; its absence is told when it is read."""
    try:
        return path.stat().st_mtime_ns if path else 0
    except OSError:
        return 0


def _base(credential: Credential) -> asyncssh.SSHClientConnectionOptions:
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
        encryption_algs=list(CIPHERS),
        kex_algs=list(KEX),
        known_hosts=([], [], []),
        keepalive_interval=KEEPALIVE,
        connect_timeout=None,
        login_timeout=None,
    )
