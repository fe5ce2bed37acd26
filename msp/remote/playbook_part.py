"""What every part of a playbook is made of: strict models, and durations as people write them."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Protocol, runtime_checkable

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, WithJsonSchema

from msp.remote.beside import Folder
from msp.remote.transport import Work

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(given: Any) -> timedelta:
    """Return 30, "30s", "5m", "2h" or "500ms" as a duration; a bare number is seconds."""
    if isinstance(given, timedelta):
        return given
    found = None if isinstance(given, bool) else _DURATION.fullmatch(str(given).strip())
    if not found:
        raise ValueError("must be a duration such as 30s, 5m or 2h")
    seconds = float(found[1]) * _UNITS[found[2] or "s"]
    if not 0 < seconds <= 7 * 86400:
        raise ValueError("must be more than zero and at most 7 days")
    return timedelta(seconds=seconds)


Duration = Annotated[
    timedelta,
    BeforeValidator(duration),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|h|d)?$"}]}),
]


Account = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?$")]


class Part(BaseModel):
    """Base of every part of a playbook: an unknown key is an error, and nothing changes once it is read."""

    # Deferred: only what is read is built, and only when it is read.
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)

    @property
    def only_looks(self) -> bool:
        """As an act: changes nothing, so it may be a probe or a check, and may be done again."""
        return False

    @property
    def proves_itself(self) -> bool:
        """As an act: fails unless what it did is so, and needs no `check`."""
        return False


@runtime_checkable
class Special(Protocol):
    """A part that is done by other means than a script, and knows itself how to be filled in."""

    def work(self, fill: Callable[[str], Any], folder: Folder | None, what: str) -> Work:
        """Return what to perform. fill: a template's text, or a Secret if a secret stands in it.

        folder: of the playbook, for files beside it. what: the step, for sentences. Raises Misconfigured.
        """
