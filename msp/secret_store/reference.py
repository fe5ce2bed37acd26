"""How a secret is named wherever one is asked for: never by itself, always by where it is kept. Pure.

`vault:NAME` is in our own vault, under the client that the asset or run belongs to. `bao:MOUNT/PATH#FIELD` is a field
of a secret in OpenBao or HashiCorp Vault (engine KV, version 2). A plain NAME means `vault:NAME`. `@next` and
`@previous` at the end name the values of a rotation that is under way.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from msp.errors import Misconfigured, Refused

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@ -]{0,199}")
BAO = re.compile(r"(?P<mount>[A-Za-z0-9_-]+)/(?P<path>[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*)#(?P<field>[A-Za-z0-9._-]+)")
VERSIONS = ("current", "next", "previous")
_ADVICE = "Write vault:NAME, or bao:MOUNT/PATH#FIELD."


@dataclass(frozen=True, slots=True)
class Reference:
    """Where one secret is kept. `name`: in our vault, or as a whole (`bao:...`) for another store."""

    store: str  # vault, bao
    name: str
    which: str = "current"
    mount: str = ""
    path: str = ""
    field: str = ""

    def __str__(self) -> str:
        """The reference of the value in force, as it is stored and shown."""
        return f"vault:{self.name}" if self.store == "vault" else self.name

    def at(self, which: str) -> str:
        """Return the reference of another of its values."""
        return str(self) if which == "current" else f"{self}@{which}"


@lru_cache(maxsize=1024)
def parse(text: str) -> Reference:
    """Return a reference. Raises Misconfigured for what is none."""
    which = "current"
    for word in VERSIONS[1:]:
        if text.endswith(f"@{word}"):
            text, which = text.removesuffix(f"@{word}"), word
    if text.startswith("bao:"):
        found = BAO.fullmatch(text[4:])
        if found is None or ".." in found["path"].split("/"):
            raise Misconfigured(f"{text!r} does not name a secret in OpenBao.", advice=_ADVICE)
        return Reference("bao", text, which, found["mount"], found["path"], found["field"])
    name = text.removeprefix("vault:")
    if not NAME.fullmatch(name):
        raise Misconfigured(f"{text!r} does not name a secret.", advice=_ADVICE)
    return Reference("vault", name, which)


def check_place(reference: Reference, template: str, client_key: str) -> None:
    """Raise Refused unless a secret of another store lies where this client's secrets must lie.

    template: the setting `bao_path`; without it one client's asset could name another client's secret.
    """
    if reference.store != "bao":
        return
    place = template.replace("{client}", client_key)
    if not reference.path.startswith(place):
        raise Refused(
            f"{reference} does not lie under {place}, where the secrets of {client_key} are kept.",
            advice="Name one of this client's own secrets; the setting bao_path says where they lie.",
        )
