"""What a request asks, as pages get it: no text of an address or a form holds a NUL, which no database stores.

People cannot type one; it comes along when the output of a machine is pasted, and says nothing there. But secrets and
parameters of playbooks are taken to the letter: one that holds a NUL is refused, not changed.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from flask import Request
from werkzeug.datastructures import ImmutableMultiDict

LITERAL = re.compile(r"value|p-.*", re.DOTALL)  # the field of a secret, and those of parameters


class Said(ImmutableMultiDict[str, Any]):
    """The parameters of an address, or the fields of a form; files are left as they are."""

    def __init__(self, mapping: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        if mapping is not None and not isinstance(mapping, Mapping):
            mapping = [(_plain(name), value if LITERAL.fullmatch(name) else _plain(value)) for name, value in mapping]
        super().__init__(mapping)


class Asked(Request):
    """A request whose `args` and `form` hold no NUL."""

    parameter_storage_class = Said


def _plain(value: Any) -> Any:
    return value.replace("\0", "") if isinstance(value, str) else value
