"""What is to be done on a screen, ready for the wire. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ScreenWork:
    """Acts with their values filled in. `text` may be stored and shown; `acts` may hold secrets and must not."""

    text: str
    acts: tuple[Mapping[str, Any], ...] = field(repr=False)
    sends: bool  # types, presses or clicks
