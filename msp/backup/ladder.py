"""Which rungs of the ladder a plan climbs, and when. Pure.

A plan with no ladder of its own climbs every rung that applies at each fire of its cron line. With one, each step
names its rungs and a cron line, or "after backup": then it is climbed when the job says that it has written.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from msp.errors import Misconfigured

AFTER_BACKUP = "after backup"
#: What is cheap is done often: the defaults of a plan that asks for them.
DAILY_SAMPLE, DAILY_FULL, WEEKLY_FULL = "20 5 * * *", "30 3 * * *", "30 3 * * 6"
MONTHLY_FULL, MONTHLY_BOOT = "30 3 1 * *", "30 1 15 * *"
IO_CLASSES = ("best-effort", "idle")


@dataclass(frozen=True, slots=True)
class LadderStep:
    """Some rungs and when they are climbed: a cron line in the plan's zone, or `AFTER_BACKUP`."""

    rungs: tuple[int, ...]
    when: str

    @property
    def key(self) -> str:
        """Return what names the step within its plan: 3, or 4-5."""
        return "-".join(map(str, self.rungs))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a test may take from the machine it runs on, and when."""

    nice: int = 5
    io: str = "best-effort"
    jitter: timedelta = timedelta()
    opens: time | None = None  # local; a scheduled test outside the window waits for it
    closes: time | None = None


def defaults(*, critical: bool, boots: bool, proof_every: timedelta | None = None) -> tuple[LadderStep, ...]:
    """Return the usual ladder: rungs 1 and 2 after every backup, 3 daily, 4 and 5 weekly or monthly, 6 monthly.

    proof_every: how old a proof may grow; where a month or a week would be too long, 4 and 5 come more often.
    """
    full = WEEKLY_FULL if critical or (proof_every and proof_every < timedelta(days=31)) else MONTHLY_FULL
    full = DAILY_FULL if proof_every and proof_every < timedelta(days=7) else full
    steps = [LadderStep((1, 2), AFTER_BACKUP), LadderStep((3,), DAILY_SAMPLE), LadderStep((4, 5), full)]
    return (*steps, LadderStep((4, 6), MONTHLY_BOOT)) if boots else tuple(steps)


def read(document: Iterable[Any]) -> tuple[LadderStep, ...]:
    """Return the steps of a stored or typed ladder; raises Misconfigured for one that means nothing."""
    steps = []
    for item in document:
        if not isinstance(item, Mapping) or set(item) != {"rungs", "when"}:
            raise Misconfigured("A step of a ladder has `rungs` and `when`.", advice='{"rungs": [3], "when": "@daily"}')
        rungs = item["rungs"]
        whole = isinstance(rungs, list | tuple) and rungs and all(type(one) is int and 1 <= one <= 6 for one in rungs)
        if not whole or not isinstance(item["when"], str) or not item["when"].strip():
            raise Misconfigured("A step's rungs are the numbers 1 to 6.", advice="Or leave the step out.")
        steps.append(LadderStep(tuple(sorted(set(rungs))), item["when"].strip()))
    if len({step.key for step in steps}) != len(steps):
        raise Misconfigured("Two steps of the ladder climb the same rungs.", advice="Give them one time.")
    return tuple(steps)


def typed(words: str) -> LadderStep:
    """Return the step in `3=20 5 * * *` or `1,2=after backup`, as a command line or a form gives it."""
    rungs, _, when = words.partition("=")
    try:
        numbers = [int(one) for one in rungs.split(",")]
    except ValueError as error:
        raise Misconfigured(f"{words!r} is no step of a ladder.", advice="Write 4,5=30 3 * * 6.") from error
    return read([{"rungs": numbers, "when": when}])[0]


def plain(steps: Iterable[LadderStep]) -> list[dict[str, Any]]:
    """Return steps as they are stored."""
    return [{"rungs": list(step.rungs), "when": step.when} for step in steps]


def read_limits(document: Mapping[str, Any]) -> Limits:
    """Return the limits of a plan: nice (0 to 19), io, jitter_s, window like 22:00-06:00. Raises Misconfigured."""
    unknown = set(document) - {"nice", "io", "jitter_s", "window"}
    nice, io, jitter = document.get("nice", 5), document.get("io", "best-effort"), document.get("jitter_s", 0)
    if unknown:
        raise Misconfigured(f"There is no limit {min(unknown)!r}.", advice="Known: nice, io, jitter_s, window.")
    if type(nice) is not int or not 0 <= nice <= 19:
        raise Misconfigured(f"nice is 0 to 19, not {nice!r}.", advice="19 yields to everything.")
    if io not in IO_CLASSES:
        raise Misconfigured(f"io is {' or '.join(IO_CLASSES)}, not {io!r}.", advice="idle reads when nobody else does.")
    if isinstance(jitter, bool) or not isinstance(jitter, int | float) or not 0 <= jitter <= 86400:
        raise Misconfigured(f"jitter_s is 0 to 86400 seconds, not {jitter!r}.")
    opens = closes = None
    if window := document.get("window"):
        try:
            begin, _, end = str(window).partition("-")
            opens, closes = time.fromisoformat(begin.strip()), time.fromisoformat(end.strip())
        except ValueError as error:
            raise Misconfigured(f"{window!r} is no window.", advice="Write 22:00-06:00.") from error
        if opens == closes or opens.tzinfo or closes.tzinfo:
            raise Misconfigured(f"{window!r} is no window.", advice="Write 22:00-06:00, in the plan's zone.")
    return Limits(nice, io, timedelta(seconds=jitter), opens, closes)


def opens_at(limits: Limits, zone: ZoneInfo, now: datetime) -> datetime:
    """Return when a test may begin: `now` inside the window or without one, else when the window opens next."""
    if limits.opens is None or limits.closes is None:
        return now
    local = now.astimezone(zone)
    clock = local.time().replace(tzinfo=None)
    over_midnight = limits.opens > limits.closes
    inside = limits.opens <= clock < limits.closes
    if over_midnight:
        inside = clock >= limits.opens or clock < limits.closes
    if inside:
        return now
    day = local.date() if clock < limits.opens else local.date() + timedelta(days=1)
    return datetime.combine(day, limits.opens, zone).astimezone(now.tzinfo)
