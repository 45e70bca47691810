"""merge: batches of many sources as part of a file, in time order."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.errors import RecordError
from pcapd.merge import Merged
from pcapd.savefile.form import Form
from tests.kit.implementations import implementations
from tests.kit.record_samples import UNLIMITED, block, record


def merge(merging: ModuleType, sources: Any, until: int = UNLIMITED, last: int = 0, **limits: int) -> Merged:
    """Merge to pcap, where the output is the records themselves."""
    merged = merging.merge(
        sources, until, last, Form.PCAP, limits.get("packets", UNLIMITED), limits.get("size", UNLIMITED)
    )
    assert isinstance(merged, Merged)
    return merged


def test_time_order_across_sources(merging: ModuleType) -> None:
    """Records of all sources and batches come out by their timestamps."""
    a1, a4, a6 = (record(us, b"a") for us in (1, 4, 6))
    b2, b3, b5 = (record(us, b"b") for us in (2, 3, 5))
    merged = merge(merging, [(0, [a1, a4 + a6]), (1, [b2 + b3, b5])])
    assert merged == Merged(a1 + b2 + b3 + a4 + b5 + a6, (3, 3), (0, 0), [b"", b""], 6, False, (0, 0), (0, 0))


def test_equal_times_keep_their_order(merging: ModuleType) -> None:
    """Equal timestamps stay in the order of the sources, then of arrival."""
    names = [record(7, name) for name in (b"a1", b"a2", b"b1", b"b2", b"c1")]
    merged = merge(merging, [(0, [names[0], names[1]]), (1, [names[2] + names[3]]), (2, [names[4]])])
    assert merged.data == b"".join(names)


def test_disorder_within_a_source_is_repaired(merging: ModuleType) -> None:
    """A source that is not quite in order (several CPUs) comes out sorted."""
    times = [5, 1, 4, 4, 2, 9, 8, 7]
    merged = merge(merging, [(0, [b"".join(record(us, b"") for us in times)])])
    assert merged.data == b"".join(record(us, b"") for us in sorted(times))


def test_packet_blocks_carry_their_interface(merging: ModuleType) -> None:
    """In pcapng each packet names the interface of its source."""
    merged = merging.merge(
        [(3, [record(2, b"xy", original=60)]), (9, [record(1, b"z")])], 5, 0, Form.PCAPNG, 9, 999
    )
    assert merged.data == block(9, 1, b"z") + block(3, 2, b"xy", original=60)


def test_later_records_stay(merging: ModuleType) -> None:
    """Records after until_us are left in their order of arrival; the one at until_us is written."""
    early, at, later, latest = (record(us, b"x") for us in (1, 5, 6, 9))
    merged = merge(merging, [(0, [latest + early, later, at])], until=5)
    assert merged.data == early + at
    assert merged.rests == [latest + later]
    assert (merged.last_us, merged.full) == (5, False)


def test_late_records_are_counted_where_they_come_from(merging: ModuleType) -> None:
    """A record before what an earlier call wrote is late; one of the same microsecond is not."""
    merged = merge(merging, [(0, [record(9, b"")]), (1, [record(8, b"") + record(10, b"")])], last=9)
    assert merged.packets == (1, 2)
    assert merged.late == (0, 1)
    assert merged.last_us == 10


def test_last_us_never_goes_back(merging: ModuleType) -> None:
    """last_us stays when only late records, or none, are written."""
    assert merge(merging, [(0, [record(3, b"")])], last=9).last_us == 9
    assert merge(merging, [(0, [])], last=9) == Merged(b"", (0,), (0,), [b""], 9, False, (0,), (0,))
    assert merge(merging, [], last=9) == Merged(b"", (), (), [], 9, False, (), ())


def test_full_by_packets(merging: ModuleType) -> None:
    """The packet limit stops within equal timestamps, and what was due stays in its source."""
    a1, a2, b1 = (record(7, name) for name in (b"a1", b"a2", b"b1"))
    merged = merge(merging, [(0, [a1, a2]), (1, [b1])], packets=1)
    assert merged == Merged(a1, (1, 0), (0, 0), [a2, b1], 7, True, (0, 0), (0, 0))


def test_full_by_bytes(merging: ModuleType) -> None:
    """The byte limit is not exceeded, and smaller records behind it do not jump the queue."""
    small, large, tiny = record(1, b"1"), record(2, bytes(50)), record(3, b"")
    merged = merge(merging, [(0, [small + large + tiny])], size=len(small) + len(large) - 1)
    assert merged == Merged(small, (1,), (0,), [large + tiny], 1, True, (0,), (0,))


def test_exactly_full_is_not_full(merging: ModuleType) -> None:
    """Limits that are reached without holding anything back do not set `full`."""
    batch = record(1, b"ab") + record(2, b"cd")
    assert merge(merging, [(0, [batch])], packets=2, size=len(batch)).full is False
    assert merge(merging, [(0, [batch + record(9, b"")])], until=2, packets=2).full is False


def test_the_same_batch_twice(merging: ModuleType) -> None:
    """A batch object that appears more than once counts every time."""
    twin = record(7, b"twin")
    merged = merge(merging, [(0, [twin, twin]), (1, [twin])], packets=1)
    assert merged.rests == [twin, twin]


@pytest.mark.parametrize(
    ("before", "until"), [(True, None), (False, 0)], ids=["behind a good one", "not yet due"]
)
def test_a_lie_is_not_followed(merging: ModuleType, before: bool, until: Optional[int]) -> None:
    """A malformed batch is refused rather than read beyond its end, or handed back for later."""
    good = record(1, b"good")
    lie = good + good[:-1]
    batches = [(0, [good]), (1, [lie])] if before else [(0, [lie])]
    options = {} if until is None else {"until": until}
    with pytest.raises(RecordError, match=f"record at byte {len(good)}: captured length 4 runs beyond"):
        merge(merging, batches, **options)


timed = st.lists(st.tuples(st.integers(0, 20), st.binary(max_size=5)), max_size=15)


@given(
    content=st.lists(st.lists(timed, max_size=3), max_size=4),
    until=st.integers(0, 21),
    packets=st.integers(1, 9),
)
def test_calling_until_done_writes_everything_once(content: Any, until: int, packets: int) -> None:
    """Feeding the rests back until nothing is full writes each due record once, sorted and stable."""
    for records in implementations("merge"):
        write_everything(records, content, until, packets)


def write_everything(merging: ModuleType, content: Any, until: int, packets: int) -> None:
    sources = [
        (number, [b"".join(record(us, data) for us, data in chunk) for chunk in chunks])
        for number, chunks in enumerate(content)
    ]
    arrived = [(us, record(us, data)) for chunks in content for chunk in chunks for us, data in chunk]
    due = sorted((pair for pair in arrived if pair[0] <= until), key=lambda pair: pair[0])

    output, last, full, late = b"", 0, True, 0
    while full:
        merged = merge(merging, sources, until, last, packets=packets)
        output += merged.data
        last, full, late = merged.last_us, merged.full, late + sum(merged.late)
        sources = [(number, [rest]) for (number, _), rest in zip(sources, merged.rests)]
    assert output == b"".join(data for _, data in due)
    assert late == 0
    left = [data for us, data in arrived if us > until]
    assert b"".join(rest for _, chunks in sources for rest in chunks) == b"".join(left)
