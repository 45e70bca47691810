"""Batches and metadata, honest ones and others, for the tests of pcapd.records and pcapd.merge."""

from __future__ import annotations

import struct
from typing import Optional

from hypothesis import strategies as st

UNLIMITED = 2**62
#: Field values at which a careless comparison or sum would go wrong.
EDGES = (0, 1, 15, 16, 17, 999_999, 1_000_000, 2**31 - 1, 2**31, 2**32 - 36, 2**32 - 16, 2**32 - 1)


def record(us: int, data: bytes, original: Optional[int] = None) -> bytes:
    """One record at ``us`` microseconds since the epoch."""
    length = len(data) if original is None else original
    return struct.pack("<4I", us // 1_000_000, us % 1_000_000, len(data), length) + data


def meta(*entries: tuple[int, int, int, int]) -> bytes:
    """What pcapy-ng's next_batch returns beside the packets."""
    return b"".join(struct.pack("=4I", *entry) for entry in entries)


def block(interface: int, us: int, data: bytes, original: Optional[int] = None, drops: int = 0) -> bytes:
    """An enhanced packet block, written out by the book; with epb_dropcount where something was lost."""
    padded = data + b"\x00" * (-len(data) % 4)
    if drops:
        padded += struct.pack("<HHQHH", 4, 8, drops, 0, 0)
    total = 32 + len(padded)
    length = len(data) if original is None else original
    return (
        struct.pack("<7I", 6, total, interface, us >> 32, us & 0xFFFFFFFF, len(data), length)
        + padded
        + struct.pack("<I", total)
    )


def u32() -> st.SearchStrategy[int]:
    return st.sampled_from(EDGES) | st.integers(0, 2**32 - 1)


#: Few different timestamps, so that equal ones and wrong order are common.
timestamps = st.integers(1_000_000, 1_000_012) | st.integers(0, 2**32 * 1_000_000 - 1)
honest_records = st.builds(
    lambda us, data, cut: record(us, data, len(data) + cut),
    timestamps,
    st.binary(max_size=9),
    st.sampled_from([0, 0, 1, 2**31]),
)
honest_batches = st.lists(honest_records, max_size=12).map(b"".join)


@st.composite
def hostile_batches(draw: st.DrawFn) -> bytes:
    """An honest batch in which fields were overwritten, and whose end may be gone."""
    batch = bytearray(draw(honest_batches))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, max(0, len(batch) - 4)))
        batch[at : at + 4] = struct.pack("<I", draw(u32()))
    return bytes(batch[: draw(st.integers(0, len(batch)))])


batches = honest_batches | hostile_batches() | st.binary(max_size=80)
#: Mostly usable, with a few that are out of range or of the wrong type.
limits = st.integers(0, 300) | st.sampled_from([UNLIMITED, 2**63 - 1, 2**63, -1, 2**200])
forms = st.sampled_from([0, 1, 1, 0, 2, -1])
interfaces = st.integers(0, 3) | st.sampled_from([2**32 - 1, 2**32, -1])
moments = st.integers(999_999, 1_000_013) | st.sampled_from([0, -1, -(2**63), 2**63 - 1, 2**63])
