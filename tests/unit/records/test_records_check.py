"""check: a peer's batch is what its lengths say, or it is refused."""

from __future__ import annotations

import struct
from types import ModuleType

import pytest

from pcapd.errors import RecordError, RemoteProtocolError
from pcapd.records import Checked
from tests.kit.record_samples import record

GOOD = record(5_000_001, b"abc", original=1500)
HUGE = 2**32 - 1


def test_what_is_counted(records: ModuleType) -> None:
    """check counts packets and captured bytes, and finds the earliest and latest time in any order."""
    batch = record(7, b"ab") + record(2**32 * 1_000_000 - 1, b"") + GOOD
    assert records.check(batch, 3) == Checked(3, 5, 7, 2**32 * 1_000_000 - 1)


def test_the_largest_packet_allowed(records: ModuleType) -> None:
    """A packet of exactly the maximum passes, one byte more does not."""
    assert records.check(record(1, bytes(100)), 100).captured_bytes == 100
    with pytest.raises(RecordError, match="record at byte 0: captured length 100 is above the limit of 99"):
        records.check(record(1, bytes(100)), 99)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (GOOD[:15], "15 bytes are too few for its header"),
        (GOOD[:1], "1 bytes are too few for its header"),
        (GOOD[:-1], "captured length 3 runs beyond the end"),
        (struct.pack("<4I", 1, 1_000_000, 0, 0), "1000000 microseconds are a second or more"),
        (struct.pack("<4I", 1, 0, 2, 1) + b"ab", "captured length 2 is above the original length 1"),
        (
            struct.pack("<4I", 1, 0, 2**32 - 1, 2**32 - 1),
            "captured length 4294967295 is above the limit of 65535",
        ),
        (struct.pack("<4I", 1, 0, 65535, 65535), "captured length 65535 runs beyond the end"),
    ],
)
def test_lies(records: ModuleType, bad: bytes, words: str) -> None:
    """A record that lies is refused as the peer's fault, with the byte where it begins."""
    with pytest.raises(RecordError) as raised:
        records.check(GOOD + bad, 65535)
    assert str(raised.value) == f"record at byte {len(GOOD)}: {words}"
    assert isinstance(raised.value, RemoteProtocolError)
    assert raised.value.message == str(raised.value)


def test_an_empty_batch(records: ModuleType) -> None:
    """A batch without records is refused, because nobody has a reason to send it."""
    with pytest.raises(RecordError, match="record at byte 0: there is none"):
        records.check(b"", 65535)


@pytest.mark.parametrize("number", [-1, 2**31, 2**64])
def test_a_maximum_out_of_range(records: ModuleType, number: int) -> None:
    """A maximum that no packet could have is the caller's error."""
    with pytest.raises(ValueError, match="max_captured must be within 0 and 2147483647"):
        records.check(GOOD, number)
