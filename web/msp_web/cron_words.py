"""Cron lines as people say them, and as the choices of a form. What is not simple stays a cron line."""

import re
from dataclasses import dataclass
from datetime import time

from babel.dates import format_time
from flask_babel import get_locale, gettext
from flask_babel import lazy_gettext as _

from msp.backup.ladder import AFTER_BACKUP

SIMPLE = re.compile(r"(\d{1,2}) (\d{1,2}) (\*|1|15) \* (\*|[0-7])")
WEEKLY = {
    "1": _("on Mondays"),
    "2": _("on Tuesdays"),
    "3": _("on Wednesdays"),
    "4": _("on Thursdays"),
    "5": _("on Fridays"),
    "6": _("on Saturdays"),
    "0": _("on Sundays"),
}
MONTHLY = {"1": _("on the 1st of each month"), "15": _("on the 15th of each month")}


@dataclass(frozen=True, slots=True)
class When:
    """One time of a form. often: never, after, daily, week-0 to week-6 (Sunday is 0), month-1, month-15, cron."""

    often: str = "never"
    at: str = "03:30"
    line: str = ""


def split(cron: str) -> When:
    """Return the choices that make a cron line."""
    if cron == AFTER_BACKUP:
        return When("after")
    match = SIMPLE.fullmatch(" ".join(cron.split()))
    if match is None or int(match[1]) > 59 or int(match[2]) > 23 or (match[3] != "*" and match[4] != "*"):
        return When("cron", line=cron)
    at = f"{int(match[2]):02}:{int(match[1]):02}"
    if match[4] != "*":
        return When(f"week-{int(match[4]) % 7}", at)
    return When("daily" if match[3] == "*" else f"month-{match[3]}", at)


def join(when: When) -> str | None:
    """Return the cron line of choices; None for never, or for a time that is none."""
    if when.often == "after":
        return AFTER_BACKUP
    if when.often == "cron":
        return when.line.strip() or None
    try:
        at = time.fromisoformat(when.at)
    except ValueError:
        return None
    kind, _, which = when.often.partition("-")
    if kind == "daily":
        return f"{at.minute} {at.hour} * * *"
    if kind == "week" and which in WEEKLY:
        return f"{at.minute} {at.hour} * * {which}"
    return f"{at.minute} {at.hour} {which} * *" if kind == "month" and which in MONTHLY else None


def said(cron: str) -> str:
    """Return a cron line in words: "on Saturdays at 03:30"."""
    when = split(cron)
    if when.often == "after":
        return str(gettext("after every backup"))
    if when.often == "cron":
        return cron
    kind, _, which = when.often.partition("-")
    days = gettext("every day") if kind == "daily" else str((WEEKLY if kind == "week" else MONTHLY)[which])
    clock = format_time(time.fromisoformat(when.at), "HH:mm", locale=get_locale())
    return str(gettext("%(days)s at %(time)s", days=days, time=clock))


def options() -> list[tuple[str, str]]:
    """Return what a form offers as (value, words)."""
    weekly = [(f"week-{day}", str(words)) for day, words in WEEKLY.items()]
    monthly = [(f"month-{day}", str(words)) for day, words in MONTHLY.items()]
    first = [("never", gettext("never")), ("after", gettext("after every backup")), ("daily", gettext("every day"))]
    return [*first, *weekly, *monthly, ("cron", gettext("by a cron line"))]
