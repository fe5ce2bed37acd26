"""The reckoning of a clock as a drawing: what counted, what did not, now and due on one line of time. Pure."""

from dataclasses import dataclass
from datetime import datetime

from flask_babel import gettext

from msp.contracts.explain import Why
from msp_web import words
from msp_web.filters import duration
from msp_web.words_of_work import seconds

WIDTH = 1000


@dataclass(frozen=True, slots=True)
class Picture:
    """Bars (x, width, kind, words) and marks (x, kind, words) on a line of WIDTH units."""

    bars: tuple[tuple[float, float, str, str], ...]
    marks: tuple[tuple[float, str, str], ...]


def picture(why: Why, now: datetime) -> Picture | None:
    """Return the drawing of one clock; None if nothing has happened on it."""
    ends = [why.due, why.met_at, *(span.until for span in why.counted), *(stop.until for stop in why.not_counted)]
    if why.met_at is None and why.stopped is None:
        ends.append(now)
    last = max((end for end in ends if end is not None), default=why.started_at)
    length = (last - why.started_at).total_seconds()
    if length <= 0:
        return None

    def x(at: datetime) -> float:
        return round(min(max((at - why.started_at).total_seconds() / length, 0), 1) * WIDTH, 1)

    bars = []
    for span in why.counted:
        said = gettext("counted: %(duration)s", duration=duration(seconds(span.seconds)))
        bars.append((x(span.since), max(x(span.until) - x(span.since), 1), "counted", said))
    for stop in why.not_counted:
        until = stop.until or now
        said = f"{words.word('clock_stop', stop.why)}: {duration(until - stop.since)}"
        bars.append((x(stop.since), max(x(until) - x(stop.since), 1), "stop", said))
    marks = [(x(why.due), "due", gettext("due"))] if why.due else []
    if why.met_at:
        marks.append((x(why.met_at), "met", gettext("kept")))
    elif why.stopped is None:
        marks.append((x(now), "now", gettext("now")))
    return Picture(tuple(bars), tuple((min(at, WIDTH - 3), kind, said) for at, kind, said in marks))
