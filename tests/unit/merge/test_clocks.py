"""Clocks that are compared by the packets that two places saw."""

from __future__ import annotations

import random

import pytest

from pcapd.merge.clocks import align, fit

START = 1_700_000_000_000_000


def packets(
    offset: float, drift: float, seed: int, way: tuple[int, int] = (80, 80)
) -> tuple[list[tuple[int, int]], ...]:
    """A minute of packets each way, whose delays are what queues make of the least one."""
    random_ = random.Random(seed)
    there, back = [], []
    for us in range(START, START + 60_000_000, 60_000):
        apart = offset + drift * (us - START)
        there.append((us, round(apart + way[0] + random_.expovariate(1 / 400))))
        back.append((us, round(apart - way[1] - random_.expovariate(1 / 400))))
    return there, back


@pytest.mark.parametrize("offset", [0, 200, -200, 40_000, 5_000_000])
@pytest.mark.parametrize("drift", [0, 50e-6, -50e-6])
def test_the_error_that_remains(offset: int, drift: float) -> None:
    """The remaining clock error is below 100 µs at every time, and no packet arrives before it was sent."""
    there, back = packets(offset, drift, 7)
    clock = fit(there, back)
    assert clock is not None and clock.error_us < 150
    for us, delta in there:
        assert abs(clock.offset(us) - offset - drift * (us - START)) < 100
        assert delta - clock.offset(us) >= -1
    assert all(delta - clock.offset(us) <= 1 for us, delta in back)


def test_ways_that_differ() -> None:
    """For ways that differ, the clock's error is half of the difference, and reported."""
    clock = fit(*packets(1000, 0, 3, way=(2080, 80)))
    assert clock is not None and 900 < abs(clock.offset(START) - 1000) < clock.error_us + 50


def test_what_says_nothing() -> None:
    """Packets one way only; and packets that contradict each other."""
    there, back = packets(0, 0, 1)
    assert fit(there, []) is None and fit([], back) is None
    assert fit(back, there) is None


def test_places_in_a_row() -> None:
    """Each place in a row is compared with the first, by the way of least error; an unrelated one is left alone."""
    near, far = packets(1000, 0, 1), packets(-300, 0, 2)
    direct = packets(700, 0, 3, way=(9000, 9000))
    found = align(4, [(0, 1, *near), (1, 2, *far), (0, 2, *direct)])
    assert found[0] is not None and found[0].offset(START) == 0 and found[3] is None
    assert found[1] is not None and abs(found[1].offset(START) - 1000) < 100
    assert found[2] is not None and abs(found[2].offset(START) - 700) < 200 and found[2].error_us < 1000
