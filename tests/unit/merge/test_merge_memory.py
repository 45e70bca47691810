"""The compiled part of pcapd.merge keeps its memory tidy."""

from __future__ import annotations

import sys
import tracemalloc
from contextlib import suppress

import pytest

from pcapd.errors import RecordError
from tests.fuzz.race import CHANGES, race
from tests.kit.packets import ethernet, ipv4, udp
from tests.kit.record_samples import UNLIMITED, record

native = pytest.importorskip("pcapd.merge._native", reason="the compiled module is not built")


@pytest.mark.parametrize("what", CHANGES)
def test_a_batch_that_another_thread_changes(what: str) -> None:
    """merge lets others run in between, and refuses what is not what it was before."""
    assert race(native, what) > 0


def test_no_memory_stays_behind() -> None:
    """Thousands of calls, failing ones among them, leave neither memory nor references."""
    late, early = record(9, ethernet(ipv4(udp(b"late")))), record(5, b"early")
    broken = early + late[:-1]

    def everything() -> None:
        matcher = native.Matcher(1, 2_000_000, 5)
        for place in (0, 1, 64, 65, 66):
            sources = [(0, [late, early], (), 1, place), (1, [late], (), 1, place + 1)]
            native.merge(sources, 99, 0, 1, UNLIMITED, UNLIMITED, matcher, True)
        native.merge([(0, [late, early]), (1, [late])], 8, 0, 1, UNLIMITED, UNLIMITED)
        native.merge([(0, [late]), (1, [late, early])], 99, 0, 0, 1, UNLIMITED)
        for call in (
            lambda: native.merge([(0, [late]), (1, [early, broken])], 99, 0, 1, 9, 999),
            lambda: native.merge([(0, [late]), (1, [early, None])], 99, 0, 1, 9, 999),
            lambda: native.merge([(0, [late]), (-1, [early])], 99, 0, 1, 9, 999),
            lambda: native.Matcher(1, 1, 0),
            lambda: matcher.number(bytes(105)),
            lambda: matcher.see(1, 2, "3"),
        ):
            with suppress(RecordError, ValueError, TypeError):
                call()

    everything()
    references = sys.getrefcount(late)
    tracemalloc.start()
    try:
        everything()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(500):
            everything()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 10_000
    assert sys.getrefcount(late) == references
