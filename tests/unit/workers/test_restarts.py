"""When a worker that has ended is started again."""

from __future__ import annotations

import pytest

from pcapd.limits import WORKER_STEADY
from pcapd.workers.supervisor import pause_before


@pytest.mark.parametrize(
    ("last", "ran", "pause"),
    [
        (0.0, 0.1, 1.0),
        (1.0, 0.1, 2.0),
        (16.0, 5.0, 30.0),
        (30.0, 5.0, 30.0),
        (30.0, WORKER_STEADY, 1.0),
    ],
)
def test_the_pause(last: float, ran: float, pause: float) -> None:
    """The pause doubles from 1 s to 30 s, and begins anew after a worker has run for a minute."""
    assert pause_before(last, ran) == pause
