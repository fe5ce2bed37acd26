"""A secret in memory. Apart from the vault, because what only carries secrets needs no database."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A value that does not show itself: its text, repr and format are `***`."""

    value: str

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"
