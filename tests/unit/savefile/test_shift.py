"""A file is written again with corrected times: nothing else of it changes."""

from __future__ import annotations

import io
import struct
from functools import partial

import pytest

from pcapd.savefile.reader import BadFile, raw_blocks, read_file
from pcapd.savefile.shift import Clock, shifted
from tests.kit.files import block, interface, obsolete, section, simple

KEPT = Clock(lambda us: 0, "unchanged")


def by(us: int) -> Clock:
    """A clock that is so many microseconds ahead."""
    return Clock(lambda _: us, f"moved by {-us}")


def description(order: str, text: bytes) -> bytes:
    """The option for an interface's description."""
    return struct.pack(f"{order}HH", 3, len(text)) + text + bytes(-len(text) % 4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("ticks", "resolution"), [(1_000_000, 6), (1_000_000_000, 9)])
def test_packets_move_with_the_clock_of_their_interface(order: str, ticks: int, resolution: int) -> None:
    """The interfaces are merged by the new times; data and the order within an interface stay."""
    option = struct.pack(f"{order}HHBxxx", 9, 1, resolution)
    unit = ticks // 1_000_000
    data = section(order) + interface(order, b"one", option) + interface(order, b"two", option)
    data += block(order, 0, 100 * unit, b"a") + block(order, 1, 150 * unit, b"b")
    data += obsolete(order, 0, 0, 160 * unit, b"c") + block(order, 1, 170 * unit, b"d")
    moved = b"".join(shifted(partial(io.BytesIO, data), [KEPT, by(60)]))
    assert [(found.us, found.interface.name, found.data) for found in read_file(io.BytesIO(moved))] == [
        (90, "two", b"b"), (100, "one", b"a"), (110, "two", b"d"), (160, "one", b"c")
    ]  # fmt: skip


def test_what_was_changed_stands_in_the_file() -> None:
    """Each interface has a comment; an offset that was known is not an offset of the new file."""
    known = description("<", b"agent a, clock offset +1.5 ms")
    data = section() + interface("<", b"one", known) + block("<", 0, 2000, b"a")
    (found,) = read_file(io.BytesIO(data))
    assert found.interface.clock_offset == (1500, None)
    moved = b"".join(shifted(partial(io.BytesIO, data), [by(1500)]))
    (found,) = read_file(io.BytesIO(moved))
    assert found.us == 500 and found.interface.clock_offset is None
    assert b"moved by -1500" in moved and b"corrected clock error +1.5 ms" in moved


def test_counters_move_too_and_only_the_last_of_an_interface_stay() -> None:
    """The times in a statistics block are by the same clock as the packets."""
    option = struct.pack("<HHII", 3, 8, 0, 900)
    counters = struct.pack("<5I", 5, 36, 0, 0, 1000) + option + struct.pack("<I", 36)
    data = section() + interface("<", b"one") + counters + block("<", 0, 950, b"a") + counters
    moved = b"".join(shifted(partial(io.BytesIO, data), [by(100)]))
    last = [one for _, one in raw_blocks(io.BytesIO(moved))][-1]
    assert moved.count(struct.pack("<II", 5, 36)) == 1
    assert struct.unpack_from("<II", last, 12) == (0, 900) and struct.unpack_from("<II", last, 24) == (0, 800)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (section() + interface("<", b"one") + section(), "several sections"),
        (section() + interface("<", b"one") + simple("<", b"a"), "without a time"),
        (b"not a pcapng file", "not a pcapng file"),
    ],
)
def test_files_that_cannot_be_aligned(data: bytes, why: str) -> None:
    """Nothing is guessed: the file is refused."""
    with pytest.raises(BadFile, match=why):
        list(shifted(partial(io.BytesIO, data), [KEPT]))
