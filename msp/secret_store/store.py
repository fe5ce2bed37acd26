"""What is asked of a place that keeps secrets. Implement `SecretStore` to add one; its conformance suite is a test."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from msp.secret import Secret
from msp.secret_store.reference import Reference


@dataclass(frozen=True, slots=True)
class Kept:
    """A secret as it was given out. `changed_at` None: the store does not tell."""

    value: Secret
    changed_at: datetime | None


class SecretStore(Protocol):
    """Keeps secrets by reference, and up to two more values of each while it is rotated.

    Every method raises NotFound for what is not there, Refused where the store lets us not, Unreachable (may be
    retried) when it does not answer or is sealed, Misconfigured for settings that cannot be.
    """

    def get(self, reference: Reference) -> Kept:
        """Return the value that the reference names: in force, next or previous."""

    def put(self, reference: Reference, value: Secret) -> None:
        """Put a value in force at once; the one before is gone, with everything staged."""

    def stage(self, reference: Reference, value: Secret) -> None:
        """Keep a value as `next`, not yet in force. Raises Conflict if there is one already."""

    def promote(self, reference: Reference) -> None:
        """Put `next` in force, in one step; what was in force is kept as `previous`."""

    def drop(self, reference: Reference) -> None:
        """Forget the next or previous value; it may be gone already."""

    def delete(self, reference: Reference) -> None:
        """Forget the secret with all its values."""
