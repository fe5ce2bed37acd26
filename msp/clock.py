"""The only reader of the wall clock, so that every rule can be given its `now`."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the present instant: aware, UTC, whole microseconds."""
    return datetime.now(UTC)
