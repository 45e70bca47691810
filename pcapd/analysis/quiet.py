"""Recognises conversations without findings quickly, from a few of their packed fields.

Most conversations are healthy, and there may be a hundred thousand of them.
"""

from __future__ import annotations

import struct
from typing import Final, Sequence, Tuple

from pcapd.analysis._facts import BETWEEN, HALF, SIGHTING, Between, Half

__all__ = ["quiet_bytes"]

#: microseconds; a SYN is usually answered within this time.
_LATE_US: Final = 100_000
_TCP: Final = 6
#: Position of the protocol in a packed key.
_PROTOCOL_AT: Final = 13


def _some(layout: struct.Struct, names: Sequence[str], wanted: Sequence[str]) -> struct.Struct:
    """A layout with some fields of another layout, in its order."""
    wide = layout.size - 4 * len(names) >> 2  # number of eight-byte fields, which come first
    parts = []
    for index, name in enumerate(names):
        size, code = (8, "q") if index < wide else (4, "I")
        parts.append(code if name in wanted else f"{size}x")
    return struct.Struct("=" + "".join(parts))


_HALF: Final = _some(
    HALF,
    Half._fields,
    (
        "bytes",
        "syn_us",
        "rst_us",
        "syn_count",
        "retransmitted",
        "late",
        "unseen",
        "zero_count",
    ),
)
_BETWEEN: Final = _some(BETWEEN, Between._fields, ("lost_first_us", "again_each"))
_IDLE_COUNT_AT: Final = 28


def quiet_bytes(key: bytes, seen: Sequence[bytes], pairs: Sequence[Tuple[int, int, bytes]]) -> int:
    """The bytes of a conversation without findings; -1 if it must be judged in detail.

    Args:
        key, seen, pairs: See `pcapd.analysis._facts`.
    """
    for _, _, both in pairs:
        if any(_BETWEEN.unpack_from(both)) or any(_BETWEEN.unpack_from(both, BETWEEN.size)):
            return -1
    total, tcp = 0, key[_PROTOCOL_AT] == _TCP
    for one in seen:
        size, syn, *first = _HALF.unpack_from(one, SIGHTING.size)
        peer_size, peer_syn, *second = _HALF.unpack_from(one, SIGHTING.size + HALF.size)
        total = max(total, size + peer_size)
        if tcp and (
            one[_IDLE_COUNT_AT : _IDLE_COUNT_AT + 4] != b"\0\0\0\0" or not _quiet(first) or not _quiet(second)
        ):
            return -1
        if (tcp and (not syn) != (not peer_syn)) or abs(peer_syn - syn) > _LATE_US:
            return -1
    return total


def _quiet(fields: Sequence[int]) -> bool:
    rst_us, syn_count, *others = fields
    return not rst_us and syn_count < 2 and not any(others)
