"""The place in a list sorted by time left at which the next page begins, as an address carries it."""

from datetime import UTC, datetime

Place = tuple[datetime | None, int]


def write(due: datetime | None, number: int) -> str:
    """Return the key after a row: its instant and its number."""
    return f"{due.isoformat() if due else ''}~{number}"


def read(text: str) -> Place | None:
    """Return the place that `write` wrote; None for the start of the list, and for nonsense."""
    due, _, ident = text.rpartition("~")
    if not (ident.isdecimal() and ident.isascii() and len(ident) < 16):
        return None
    try:
        instant = datetime.fromisoformat(due) if due else None
        return (instant.astimezone(UTC) if instant else None), int(ident)
    except (ValueError, OverflowError):
        return None
