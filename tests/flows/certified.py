"""A host that trusts the authority of the client "alfa", whose key stands in the vault of the world."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sshd
from world import World

from msp.remote import ca
from msp.vault import Vault


@contextmanager
def host(world: World, folder: Path, *options: str) -> Iterator[sshd.Sshd]:
    """Make the authority and run a server that lets its certificates in; options: further lines for the server."""
    folder.mkdir()
    with world.database.begin() as session:
        vault = Vault.from_file(world.settings.key_path)
        authority = ca.create(session, vault, client_id=world.planted.clients["alfa"], by="test")
        (folder / "ca.pub").write_text(authority.public_key + "\n")
    lines = (f"TrustedUserCAKeys {folder}/ca.pub", "LogLevel INFO", *options)
    with sshd.running(folder, options="\n".join(lines)) as running:
        yield running
