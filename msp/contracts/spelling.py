"""Refusing misspelt keys: a holiday list that is silently ignored makes every due time wrong. Pure."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from msp.errors import Misconfigured


def refuse_misspelt(value: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raise Misconfigured for a key that looks like a known one; other keys are notes and are left alone."""
    for key in value:
        if key not in known and (close := get_close_matches(str(key).lower(), known, n=1, cutoff=0.75)):
            raise Misconfigured(f"{where}: the key {key!r} is unknown.", advice=f"Did you mean {close[0]!r}?")
