"""pack: from the capture library's batch to batches of records."""

from __future__ import annotations

import struct
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.implementations import implementations
from tests.kit.record_samples import UNLIMITED, meta, record

PACKETS = b"onetwothree"
META = meta((1, 1, 0, 3), (1, 2, 3, 3), (2, 0, 6, 5))
RECORDS = [record(1_000_001, b"one"), record(1_000_002, b"two"), record(2_000_000, b"three")]


def test_known_bytes(records: ModuleType) -> None:
    """A record is four little-endian numbers and then the packet's bytes."""
    packed = records.pack(b"\xaa\xbb", meta((0x01020304, 5, 0, 2)), 9, 99)
    assert packed == [bytes.fromhex("04030201 05000000 02000000 02000000 aabb")]


def test_one_batch_when_all_fit(records: ModuleType) -> None:
    """Packets that fit the limit travel in one batch, in their order."""
    assert records.pack(PACKETS, META, 100, sum(map(len, RECORDS))) == [b"".join(RECORDS)]


def test_batches_are_split_between_packets(records: ModuleType) -> None:
    """A limit of one byte less than all makes two batches, each of whole records."""
    limit = sum(map(len, RECORDS)) - 1
    assert records.pack(PACKETS, META, 100, limit) == [RECORDS[0] + RECORDS[1], RECORDS[2]]


def test_a_long_record_goes_alone(records: ModuleType) -> None:
    """A record above the limit is sent, but nothing travels with it."""
    assert records.pack(PACKETS, META, 100, 19) == RECORDS
    assert records.pack(PACKETS, META, 100, 0) == RECORDS


def test_snaplen_cuts_and_keeps_the_original_length(records: ModuleType) -> None:
    """A packet above snaplen loses its end, not its original length."""
    assert records.pack(PACKETS, META[32:], 2, 99) == [record(2_000_000, b"th", original=5)]


def test_snaplen_counts_for_the_limit(records: ModuleType) -> None:
    """Bytes cut away by snaplen take no room in a batch."""
    assert len(records.pack(PACKETS, META, 0, 48)) == 1


def test_no_packets_no_batches(records: ModuleType) -> None:
    """A wake-up without packets yields no batch, since an empty one is an error."""
    assert records.pack(b"", b"", 100, 100) == []


@pytest.mark.parametrize("entry", [(1, 1, 0, 12), (1, 1, 12, 0), (1, 1, 2**32 - 1, 2), (1, 1, 2, 2**32 - 1)])
def test_metadata_outside_the_packets(records: ModuleType, entry: tuple[int, int, int, int]) -> None:
    """Metadata that points outside the packets is refused, with the entry's number."""
    with pytest.raises(ValueError, match="meta entry 1: "):
        records.pack(PACKETS, meta((1, 1, 0, 3), entry), 100, 100)


def test_metadata_cut_short(records: ModuleType) -> None:
    """Metadata that is no whole number of entries is refused."""
    with pytest.raises(ValueError, match="not a multiple of 16"):
        records.pack(PACKETS, META[:-1], 100, 100)


@given(
    packets=st.lists(st.binary(max_size=30), max_size=20),
    snaplen=st.integers(0, 40),
    limit=st.integers(0, 200),
)
def test_nothing_is_lost(packets: list[bytes], snaplen: int, limit: int) -> None:
    """Batches hold every packet once, in order, within the limit, however they are split."""
    for records in implementations("records"):
        split_and_join(records, packets, snaplen, limit)


def split_and_join(records: ModuleType, packets: list[bytes], snaplen: int, limit: int) -> None:
    content, entries = b"", []
    for number, packet in enumerate(packets):
        entries.append((number, number, len(content), len(packet)))
        content += packet
    batches = records.pack(content, meta(*entries), snaplen, limit)
    assert b"".join(batches) == b"".join(
        struct.pack("<4I", n, n, len(packet[:snaplen]), len(packet)) + packet[:snaplen]
        for n, packet in enumerate(packets)
    )
    for batch in batches:
        assert len(batch) <= limit or records.check(batch, UNLIMITED >> 32).packets == 1
