"""Arguments and results of this package's functions, for both implementations."""

from __future__ import annotations

from typing import Final, NamedTuple

#: bytes; size of a record's header: seconds, microseconds, captured and original length, u32 each.
HEADER_SIZE: Final = 16
#: microseconds in a second; a record's microseconds are less than this.
MICROS: Final = 1_000_000
#: bytes; largest captured length in a record, so that the length of a pcapng block with this
#: packet always fits in the block's 32 bits.
CAPTURED_MAX: Final = 0x7FFF_FFFF
#: microseconds; the largest change of a time: clocks that are set differ by much less.
SHIFT_MAX: Final = 1 << 52


class Checked(NamedTuple):
    """Facts about a peer's batch whose lengths were checked."""

    packets: int
    #: bytes, without the record headers.
    captured_bytes: int
    #: microseconds since the epoch; the smallest timestamp, not the first one.
    earliest_us: int
    #: microseconds since the epoch; the largest timestamp, not the last one.
    latest_us: int


class Converted(NamedTuple):
    """A batch that was made of a part of a pcap savefile.

    Attributes:
        batch: The records; empty if the part has no whole record.
        consumed: bytes of the part that these packets used; the next record begins there.
        checked: What `pcapd.records.check` would find in the batch; zeros if it is empty.
    """

    batch: bytes
    consumed: int
    checked: Checked


class Busy(NamedTuple):
    """A TCP connection with a large part of the packets or bytes of a batch.

    Attributes:
        key: Both ends, the lower one first, each an IP address and a port in network order.
        size: bytes of the connection's packets.
        last_us: microseconds since the epoch; the largest timestamp of these packets.
    """

    key: bytes
    packets: int
    size: int
    last_us: int
