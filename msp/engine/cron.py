"""When a schedule fires next. Pure: no database, no wall clock.

Fields follow crontab(5) (weekday 0 and 7 are Sunday). A schedule that runs in every hour of the day counts real
hours, so its fires are named in UTC. Every other schedule means wall-clock times: it is named by its local time
without offset, fires once on the day a local time comes twice, and on the day it is skipped fires as many
minutes after the jump as it lay in the gap (02:30 becomes 03:30).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msp.errors import Misconfigured

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")  # crontab(5); the library counts from Monday
EVERY_HOUR = frozenset({"*", "*/1", "0-23"})
JUMP = timedelta(hours=3)  # no clock has ever jumped by more, save across the date line
NAME = "%Y-%m-%dT%H:%M"


@dataclass(frozen=True, slots=True)
class Fire:
    """One fire. nominal: its name, the same however late it runs. at: aware UTC instant, without jitter."""

    nominal: str
    at: datetime


@dataclass(frozen=True)
class Cron:
    """A parsed cron line in a time zone; made by `parse`."""

    zone: ZoneInfo
    rolling: bool  # runs in every hour: real hours, UTC names
    trigger: Any  # CronTrigger over wall-clock times, told that they are UTC

    def _wall_clock(self, since: datetime) -> Iterator[datetime]:
        """Yield naive local times from `since` (naive), in order."""
        moment = since.replace(tzinfo=UTC)
        while (found := self.trigger.get_next_fire_time(None, moment)) is not None:
            yield found.replace(tzinfo=None)
            moment = found + timedelta(minutes=1)

    def _instants(self, local: datetime) -> list[datetime]:
        """Return the UTC instants at which a clock on the wall shows `local`: none, one or two."""
        both = {local.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
        return sorted(instant for instant in both if instant.astimezone(self.zone).replace(tzinfo=None) == local)

    def _fires(self, local: datetime) -> list[Fire]:
        if self.rolling:
            return [Fire(f"{instant:{NAME}}Z", instant) for instant in self._instants(local)]
        return [Fire(f"{local:{NAME}}", local.replace(tzinfo=self.zone).astimezone(UTC))]

    def after(self, moment: datetime) -> Fire | None:
        """Return the first fire later than `moment` (aware), or None if there is none within the calendar."""
        start = moment - (JUMP if self._jumps_near(moment) else timedelta())
        best: Fire | None = None
        for local in self._wall_clock(start.astimezone(self.zone).replace(tzinfo=None, second=0, microsecond=0)):
            if best is not None and local > best.at.astimezone(self.zone).replace(tzinfo=None) + JUMP:
                break
            for fire in self._fires(local):
                if fire.at > moment and (best is None or fire.at < best.at):
                    best = fire
            if best is not None and not self._jumps_near(best.at):
                break
        return best

    def _jumps_near(self, moment: datetime) -> bool:
        """Whether local times around `moment` may be out of order, twice there or missing."""
        before, later = ((moment + shift).astimezone(self.zone).utcoffset() for shift in (-JUMP, JUMP))
        return before != later

    def at(self, nominal: str) -> datetime:
        """Return the UTC instant of a fire by its name."""
        if nominal.endswith("Z"):
            return datetime.strptime(nominal, NAME + "Z").replace(tzinfo=UTC)
        return datetime.fromisoformat(nominal).replace(tzinfo=self.zone).astimezone(UTC)


@lru_cache(maxsize=1024)
def parse(expression: str, time_zone: str) -> Cron:
    """Return the schedule of five crontab fields (or @daily and the like) in an IANA time zone.

    Raises Misconfigured with the reason. A line that restricts both day of month and weekday is refused: cron
    reads it as "either", most people as "both".
    """
    from apscheduler.triggers.cron import CronTrigger

    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Misconfigured(f"There is no time zone {time_zone!r}.", advice="Name one like Europe/Berlin.") from error
    fields = ALIASES.get(expression.strip().lower(), expression).split()
    if len(fields) != 5:
        raise Misconfigured(
            f"Schedule {expression!r} has {len(fields)} fields instead of 5.",
            advice="Write minute, hour, day of month, month, weekday: 30 2 * * *.",
        )
    minute, hour, day, month, weekday = fields
    if not day.startswith("*") and not weekday.startswith("*"):
        raise Misconfigured(
            f"Schedule {expression!r} names both a day of month and a weekday.",
            advice="Use two schedules, or leave one of the two fields *.",
        )
    try:
        trigger = CronTrigger(
            minute=minute, hour=hour, day=day, month=month, day_of_week=_weekdays(weekday), second=0, timezone=UTC
        )
    except (ValueError, KeyError, IndexError) as error:
        raise Misconfigured(
            f"Schedule {expression!r} is not valid: {error}.", advice="Write it like 30 2 * * *."
        ) from error
    return Cron(zone, hour in EVERY_HOUR, trigger)


def _weekdays(field: str) -> str:
    """Return a crontab weekday field for a library that counts from Monday: every day by its name."""
    if field == "*":
        return field
    days: set[str] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin = 0 if first == "*" else _weekday(first)
        end = 6 if first == "*" else _weekday(last) if last else (6 if step else begin)
        if end < begin and end == 0:
            end = 7  # fri-sun
        if end < begin or (step and not step.isdecimal()) or step == "0":
            raise ValueError(f"weekday {part!r} is not a range")
        days |= {WEEKDAYS[number] for number in range(begin, end + 1, int(step or 1))}
    return ",".join(sorted(days))


def _weekday(text: str) -> int:
    if text.isdecimal() and int(text) <= 7:
        return int(text)
    if text[:3] in WEEKDAYS and text:
        return WEEKDAYS.index(text[:3])
    raise ValueError(f"{text!r} is not a weekday")


def jitter_of(key: str, jitter: timedelta) -> timedelta:
    """Return this schedule's own delay within `jitter`: always the same, and spread over all schedules."""
    width = int(jitter.total_seconds())
    if width <= 0:
        return timedelta()
    return timedelta(seconds=int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % width)
