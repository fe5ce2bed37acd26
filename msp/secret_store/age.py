"""How old a secret may become, and what is said of one that is too old. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

SOON = timedelta(days=14)  # before it is too old
OVERDUE, EXPOSED, DUE_SOON, UNKNOWN, FRESH = STATES = ("overdue", "exposed", "due_soon", "unknown", "fresh")


@dataclass(frozen=True, slots=True)
class Policy:
    """Days after which a secret of each kind is to be rotated."""

    password: int = 90
    ssh_key: int = 180
    other: int = 365

    def limit(self, kind: str) -> timedelta:
        """Return how old a secret of this kind may become."""
        return timedelta(days={"password": self.password, "ssh_key": self.ssh_key}.get(kind, self.other))


@dataclass(frozen=True, slots=True)
class Age:
    """How old a secret is. `left` < 0: by how much it is too old; None where its age is not known."""

    state: str  # one of STATES
    age: timedelta | None
    limit: timedelta
    left: timedelta | None

    @property
    def days(self) -> int | None:
        return None if self.age is None else self.age.days

    @property
    def rank(self) -> tuple[int, timedelta]:
        """Sorts the worst first: seen by somebody, too old, soon too old, of unknown age, fresh."""
        order = (EXPOSED, OVERDUE, DUE_SOON, UNKNOWN, FRESH)
        return order.index(self.state), self.left if self.left is not None else timedelta.max


def age_of(kind: str, changed_at: datetime | None, exposed_at: datetime | None, policy: Policy, now: datetime) -> Age:
    """Return the age of a secret at `now`. One that somebody has seen is to be rotated however young it is."""
    limit = policy.limit(kind)
    age = None if changed_at is None else max(now - changed_at, timedelta())
    left = None if age is None else limit - age
    if exposed_at is not None:
        return Age(EXPOSED, age, limit, left)
    if left is None:
        return Age(UNKNOWN, None, limit, None)
    return Age(OVERDUE if left <= timedelta() else DUE_SOON if left <= SOON else FRESH, age, limit, left)
