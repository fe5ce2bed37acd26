"""The days on which clocks jump, in two zones: a nightly schedule fires once each day, through every tick."""

from datetime import UTC, datetime, timedelta

import pytest
from test_engine_schedules import add, jobs, tick
from test_engine_schedules import ready as ready

from msp.db import Database


@pytest.mark.parametrize(
    ("zone", "before", "nights"),
    [
        ("Europe/Berlin", datetime(2026, 3, 28, 12, tzinfo=UTC), ["2026-03-29", "2026-03-30"]),
        ("Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC), ["2026-10-25", "2026-10-26"]),
        ("America/New_York", datetime(2026, 3, 7, 18, tzinfo=UTC), ["2026-03-08", "2026-03-09"]),
        ("America/New_York", datetime(2026, 10, 31, 18, tzinfo=UTC), ["2026-11-01", "2026-11-02"]),
    ],
)
@pytest.mark.parametrize("at", ["01:30", "02:30"])
def test_a_night_on_which_clocks_jump_fires_once(
    ready: Database, zone: str, before: datetime, nights: list[str], at: str
) -> None:
    hour, minute = at.split(":")
    add(ready, cron=f"{int(minute)} {int(hour)} * * *", time_zone=zone, now=before)
    for quarter in range(4 * 40):
        tick(ready, before + timedelta(minutes=15 * quarter))
    assert jobs(ready) == [f"restore_test:7@{night}T{at}" for night in nights]
