"""Minutes in a sentence: hours once there are any, and never days."""

import pytest

from msp.contracts import minutes


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 min"), (59, "59 min"), (60, "1 h 0 min"), (61, "1 h 1 min"), (610, "10 h 10 min"), (1500, "25 h 0 min")],
)
def test_an_hour_and_more_is_told_as_hours_and_minutes(count: int, words: str) -> None:
    assert minutes.words(count) == words
