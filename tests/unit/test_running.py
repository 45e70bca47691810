"""Time that passes only while one runs."""

from __future__ import annotations

import pytest

from pcapd.running import RunningTime


@pytest.mark.parametrize(
    ("looks", "ran"),
    [
        ([7.0], 0.0),
        ([7.0, 7.25, 7.75], 0.75),
        ([7.0, 7.5, 3600.0], 1.0),
        ([7.0, 3600.0, 3600.25], 0.75),
        ([7.0, 6.0, 6.25], 0.25),
    ],
    ids=["the first look", "turns", "a pause", "after a pause", "a clock that goes back"],
)
def test_no_pause_counts(looks: list[float], ran: float) -> None:
    """The time between two looks counts as one turn at most, and never as less than 0."""
    time = RunningTime(0.5)
    assert [time.at(look) for look in looks][-1] == ran
