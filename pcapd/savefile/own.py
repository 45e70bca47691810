"""Reads blocks that pcapd wrote, many at a time: little endian, times in microseconds."""

from __future__ import annotations

import os
from typing import List, NamedTuple

try:
    if os.environ.get("PCAPD_PURE"):
        raise ImportError("PCAPD_PURE asks for the reference")
    from pcapd.savefile._native import between
    from pcapd.savefile._native import survey as _survey
except ImportError:
    from pcapd.savefile._reference import between
    from pcapd.savefile._reference import survey as _survey

__all__ = ["Survey", "between", "survey"]


class Survey(NamedTuple):
    """The whole blocks at the beginning of some bytes.

    Attributes:
        end: Their bytes.
        packets: The number of packets in them.
        first_us: Time of the first packet, microseconds since the epoch; 0 without packets.
        latest_us: The latest time; 0 without packets.
        latest: Positions of the last packets of that time.
    """

    end: int
    packets: int
    first_us: int
    latest_us: int
    latest: List[int]


def survey(data: bytes, most: int) -> Survey:
    """Find the whole blocks at the beginning of some bytes, and the latest packets in them.

    Args:
        data: Blocks; the last one may be incomplete.
        most: The largest number of positions to return.

    Raises:
        ValueError: These are not blocks that pcapd wrote.
    """
    return Survey(*_survey(data, most))
