"""Covered time by index: sorted open spans with running sums, so that every question is two binary searches. Pure.

All instants are whole UTC seconds since 1970 (spans.to_second), all durations whole seconds. What is open without a gap
is one span, whether it was written as one interval or as two that touch at midnight.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from msp.contracts.calendar import FIRST_YEAR, LAST_YEAR, Calendar
from msp.contracts.spans import Span, merged, printed
from msp.errors import Misconfigured

if TYPE_CHECKING:
    import numpy

#: What is asked must lie within the calendar's years; two days of margin for zones and night shifts.
FIRST = int(datetime(FIRST_YEAR, 1, 3, tzinfo=UTC).timestamp())
LAST = int(datetime(LAST_YEAR, 12, 29, tzinfo=UTC).timestamp())


class Table(NamedTuple):
    """The index over some years. Right for every second from `first` to `last`, both included."""

    starts: list[int]
    ends: list[int]
    before: list[int]  # open seconds before each span
    through: list[int]  # open seconds up to the end of each span
    first: int
    last: int


class CoveredTime:
    """The open time of one calendar. Grows by itself over the years asked for; safe to share between threads."""

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self._lock = Lock()
        self._by_year: dict[int, list[Span]] = {}
        self._table = Table([], [], [], [], LAST + 1, FIRST - 1)

    def deadline(self, start: int, seconds: int, pauses: Iterable[Span] = ()) -> int:
        """Return the earliest second by which `seconds` (more than 0) are open since `start` outside `pauses`.

        pauses: in any order, may overlap. The answer may equal a closing time or the start of a pause.
        Raises Misconfigured if so much is never open.
        """
        if pauses:
            return self._deadline_around(merged(pauses), start, seconds)
        starts, ends, before, through, first, last = self._table
        if first <= start <= last and seconds > 0:
            count = len(starts)
            at = bisect_right(ends, start)  # the current or next span
            if at < count:
                begin = starts[at]
                goal = before[at] + seconds
                if start > begin:
                    goal += start - begin
                at = bisect_left(through, goal, at)
                if at < count:
                    due = starts[at] + goal - before[at]
                    if due <= last:
                        return due
        return self._deadline_beyond(start, seconds)

    def deadline_backward(self, end: int, seconds: int) -> int:
        """Return the latest second from which `seconds` (more than 0) are open until `end`."""
        _require_positive(seconds)
        for table in self._tables(end, end, backward=True):
            goal = _open_before(table, end) - seconds
            at = bisect_right(table.through, goal)
            if goal >= 0 and (found := table.starts[at] + goal - table.before[at]) >= table.first:
                return found
        raise _never(f"{seconds} s before {printed(end)}")

    def elapsed(self, start: int, end: int, pauses: Iterable[Span] = ()) -> int:
        """Return the open seconds from `start` to `end` outside `pauses`; 0 if `end` is not after `start`."""
        if end <= start:
            return 0
        table = self._covering(start, end)
        total = _open_before(table, end) - _open_before(table, start)
        if pauses:
            clipped = merged((max(a, start), min(b, end)) for a, b in pauses)
            total -= sum(_open_before(table, b) - _open_before(table, a) for a, b in clipped)
        return total

    def is_open(self, at: int) -> bool:
        table = self._covering(at, at)
        place = bisect_right(table.starts, at) - 1
        return place >= 0 and at < table.ends[place]

    def next_open(self, at: int) -> int:
        """Return the first open second that is not before `at`."""
        return next(self.spans(at))[0]

    def next_close(self, at: int) -> int | None:
        """Return the end of the current or next open span; None if it never ends."""
        return next(self.spans(at))[1]

    def periods(self, start: int, count: int) -> list[tuple[int, int | None]]:
        """Return the next `count` open spans, the current one from `start` on.

        Fewer if the calendar opens no more, or if the last one never ends: its end is None.
        """
        found: list[tuple[int, int | None]] = []
        try:
            for span in self.spans(start):
                if len(found) == count:
                    break
                found.append(span)
        except Misconfigured:
            if not found:
                raise
        return found

    def spans(self, start: int) -> Iterator[tuple[int, int | None]]:
        """Yield the open spans from `start` on, in order; the end of one that never ends is None."""
        while True:
            for table in self._tables(start, start):
                at = bisect_right(table.ends, start)
                while at < len(table.starts) and table.ends[at] < table.last:
                    yield max(table.starts[at], start), table.ends[at]
                    start = table.ends[at]
                    at += 1
                quiet = self.calendar.endless_after_year
                if at < len(table.starts) and quiet is not None and _year(table.last) > quiet + 1:
                    yield max(table.starts[at], start), None
                    return
            raise _never(f"anything after {printed(start)}")

    def between(self, start: int, end: int) -> list[Span]:
        """Return the open spans from `start` to `end`, in order."""
        if end <= start:
            return []
        table = self._covering(start, end)
        rows = range(bisect_right(table.ends, start), bisect_left(table.starts, end))
        return [(max(table.starts[at], start), min(table.ends[at], end)) for at in rows]

    def warn_before(self, start: int, seconds: int, warn: int) -> int:
        """Return when to warn `warn` open seconds before the deadline; `start` if there is no such time."""
        _require_positive(seconds)
        return self.deadline(start, seconds - warn) if warn < seconds else start

    def deadlines(self, starts: "numpy.typing.ArrayLike", seconds: "numpy.typing.ArrayLike") -> Any:
        """Return the deadlines of many starts at once, as an int64 array. Needs the extra `fast`."""
        import numpy as np

        since = np.asarray(starts, dtype=np.int64)
        wanted = np.asarray(seconds, dtype=np.int64)
        if not since.size:
            return since.copy()
        if wanted.min() <= 0:
            _require_positive(int(wanted.min()))
        for table in self._tables(int(since.min()), int(since.max())):
            begin, end, before, through = (np.asarray(column, dtype=np.int64) for column in table[:4])
            at = np.searchsorted(end, since, side="right")
            if at.max() >= len(begin):
                continue
            goal = before[at] + wanted + np.maximum(since - begin[at], 0)
            at = np.searchsorted(through, goal, side="left")
            if at.max() >= len(begin):
                continue
            due = begin[at] + goal - before[at]
            if due.max() <= table.last:
                return due
        raise _never(f"{int(wanted.max())} s after {printed(int(since.min()))}")

    def _deadline_beyond(self, start: int, seconds: int) -> int:
        _require_positive(seconds)
        for table in self._tables(start, start):
            if table.through and table.through[-1] - _open_before(table, start) >= seconds:
                goal = _open_before(table, start) + seconds
                at = bisect_left(table.through, goal)
                due = table.starts[at] + goal - table.before[at]
                if due <= table.last:
                    return due
        raise _never(f"{seconds} s after {printed(start)}")

    def _deadline_around(self, pauses: list[Span], start: int, seconds: int) -> int:
        left = seconds
        for pause_start, pause_end in pauses:
            if pause_end <= start:
                continue
            if pause_start > start:
                due = self.deadline(start, left)
                if due <= pause_start:
                    return due
                left -= self.elapsed(start, pause_start)
            start = pause_end
        return self.deadline(start, left)

    def _tables(self, start: int, end: int, *, backward: bool = False) -> Iterator[Table]:
        """Yield the table that covers start..end, then ever larger ones in one direction, until nothing can follow."""
        table = self._covering(start, end)
        yield table
        step = 1
        while table.first > FIRST if backward else table.last < LAST:
            over = not self.calendar.opens_weekly and _year(table.last) > self.calendar.last_override_year + 1
            if over and not backward:
                return  # the last override is past: it will not open again
            if backward:
                table = self._covering(max(FIRST, table.first - step * 366 * 86400), table.last)
            else:
                table = self._covering(table.first, min(LAST, table.last + step * 366 * 86400))
            yield table
            step *= 2

    def _covering(self, start: int, end: int) -> Table:
        """Return a table that is right from `start` to `end`."""
        table = self._table
        if table.first <= start and end <= table.last:
            return table
        if start < FIRST or end > LAST:
            raise Misconfigured(
                f"{printed_or_far(start if start < FIRST else end)} lies outside the years "
                f"{FIRST_YEAR + 1} to {LAST_YEAR - 1}."
            )
        with self._lock:
            low, high = _year(start - 3 * 86400), _year(end + 3 * 86400)
            if self._by_year:
                low, high = min(low, min(self._by_year)), max(high, max(self._by_year))
            low, high = max(low, FIRST_YEAR), min(high, LAST_YEAR)
            for year in range(low, high + 1):
                if year not in self._by_year:
                    self._by_year[year] = self._spans_in(year)
            union = merged(span for year in range(low, high + 1) for span in self._by_year[year])
            starts, ends = [span[0] for span in union], [span[1] for span in union]
            through = list(accumulate(stop - begin for begin, stop in union))
            self._table = Table(
                starts,
                ends,
                [0, *through[:-1]] if through else [],
                through,
                max(FIRST, int(datetime(low, 1, 3, tzinfo=UTC).timestamp())),  # whole from here: night shifts before
                min(LAST, int(datetime(high, 12, 30, tzinfo=UTC).timestamp())),
            )
            return self._table

    def _spans_in(self, year: int) -> list[Span]:
        days = (date(year, 1, 1) + timedelta(days=n) for n in range(366))
        return [span for day in days if day.year == year for span in self.calendar.spans_of(day)]


def _open_before(table: Table, at: int) -> int:
    place = bisect_right(table.starts, at) - 1
    if place < 0:
        return 0
    return table.before[place] + min(at, table.ends[place]) - table.starts[place]


def printed_or_far(second: int) -> str:
    """Return the instant as printed, or as a count of seconds where no date can say it."""
    try:
        return printed(second)
    except (OverflowError, ValueError, OSError):
        return f"Second {second}"


def _year(second: int) -> int:
    return datetime.fromtimestamp(second, UTC).year


def _require_positive(seconds: int) -> None:
    if seconds <= 0:
        raise Misconfigured(f"The target must be more than 0 seconds, not {seconds}.")


def _never(what: str) -> Misconfigured:
    return Misconfigured(f"The calendar never covers {what}.", advice="Give it more opening hours, or ask for less.")
