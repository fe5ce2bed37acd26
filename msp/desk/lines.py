"""Support lines L0-L4: what each is for, its time box, and when a ticket should move on. Pure: no database."""

from dataclasses import dataclass
from datetime import timedelta

from msp.errors import Misconfigured

#: name -> what the line is for (ITIL 4 calls moving along it functional escalation).
LINES: dict[str, str] = {
    "L0": "self-service and automation",
    "L1": "first contact: takes, solves what is known",
    "L2": "specialists",
    "L3": "experts and makers",
    "L4": "suppliers and field service",
}

L1_TIME_BOX = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class TimeBox:
    """How much covered time a line has used of what it may use. `limit` None: no box."""

    line: str
    used: timedelta
    limit: timedelta | None

    @property
    def is_over(self) -> bool:
        return self.limit is not None and self.used > self.limit

    @property
    def advice(self) -> str | None:
        """The line to hand over to when the box is used up, else None."""
        return following(self.line) if self.is_over else None


def following(line: str) -> str | None:
    """Return the next line up; None above the last."""
    names = list(LINES)
    at = names.index(require(line)) + 1
    return names[at] if at < len(names) else None


def require(line: str) -> str:
    """Return `line`, or raise Misconfigured if there is no such line."""
    if line not in LINES:
        raise Misconfigured(f"There is no support line {line!r}.", advice=f"Known: {', '.join(LINES)}.")
    return line
