"""Arguments and results of this package's functions, for both implementations."""

from __future__ import annotations

from typing import Final, NamedTuple

#: bytes; seconds, microseconds, captured length, original length: u32 each.
HEADER_SIZE: Final = 16
#: microseconds in a second; a record's microseconds are below it.
MICROS: Final = 1_000_000
#: bytes; no record may claim more, so that the length of a pcapng block around
#: it always fits the block's 32 bits.
CAPTURED_MAX: Final = 0x7FFF_FFFF
#: microseconds; times are moved by no more: two clocks that are set at all differ by less than that.
SHIFT_MAX: Final = 1 << 52


class Checked(NamedTuple):
    """The content of a peer's batch after its lengths were checked."""

    packets: int
    #: bytes, without the record headers.
    captured_bytes: int
    #: microseconds since the epoch; the smallest timestamp, not the first one.
    earliest_us: int
    #: microseconds since the epoch; the largest timestamp, not the last one.
    latest_us: int


class Busy(NamedTuple):
    """A TCP connection that has a large part of a batch.

    Attributes:
        key: Both ends, the lower one first, each an IP address and a port in network order.
        size: bytes of its packets.
        last_us: microseconds since the epoch; its largest timestamp.
    """

    key: bytes
    packets: int
    size: int
    last_us: int
