"""Whole minutes as a sentence tells them. Pure."""


def words(minutes: int) -> str:
    """Return minutes in words: `45 min`, `10 h 10 min`. Hours are not turned into days, as bills count hours."""
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{left} min"
