"""What the functions of this package take and return, whichever implementation runs."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple, Tuple

#: bytes; seconds, microseconds, captured length, original length: u32 each.
HEADER_SIZE: Final = 16
#: microseconds in a second; a record's microseconds are below it.
MICROS: Final = 1_000_000
#: bytes; no record may claim more, so that the length of a pcapng block around
#: it always fits the block's 32 bits.
CAPTURED_MAX: Final = 0x7FFF_FFFF


#: Packets that a source lost: `drops` of them after `after_us`, microseconds since the epoch.
#: They are told (epb_dropcount) with its first record that is written and is later than that.
Gap = Tuple[int, int]


class Form(IntEnum):
    """How records are written to a file."""

    #: Savefile records, as they are.
    PCAP = 0
    #: Enhanced packet blocks.
    PCAPNG = 1


class Checked(NamedTuple):
    """What a peer's batch holds, once every length in it proved true."""

    packets: int
    #: bytes, without the record headers.
    captured_bytes: int
    #: microseconds since the epoch; the smallest timestamp, not the first one.
    earliest_us: int
    #: microseconds since the epoch; the largest timestamp, not the last one.
    latest_us: int


class Rendered(NamedTuple):
    """Output bytes, and how many packets they hold."""

    data: bytes
    packets: int
    #: gaps that were told with them.
    told: int = 0


class Merged(NamedTuple):
    """Output bytes in time order, and what was left behind, per source."""

    data: bytes
    #: written now, per source.
    packets: tuple[int, ...]
    #: of those, how many belong before something that an earlier call wrote.
    late: tuple[int, ...]
    #: records not written, per source, in their order of arrival.
    rests: list[bytes]
    #: microseconds since the epoch; the largest timestamp written so far.
    last_us: int
    #: a limit kept back records whose time had come.
    full: bool
    #: gaps that were told with the packets written now, per source.
    told: tuple[int, ...] = ()


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
