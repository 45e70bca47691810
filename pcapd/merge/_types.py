"""Types of the arguments and results of `merge`, for the implementations in C and in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Sequence, Tuple

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Gap", "Merged", "Source"]

#: `after_us`, `drops`: a source lost `drops` packets after `after_us`, microseconds since the epoch.
#: They are reported (epb_dropcount) with the source's first written record that is later than `after_us`.
Gap = Tuple[int, int]


class Source(NamedTuple):
    """One source of a merge.

    Attributes:
        interface: Number of the source's interface block (pcapng).
        batches: Batches of records in order of arrival.
        gaps: The source's lost packets, in order of time; classic pcap has no field for them.
        link_type: LINKTYPE of the source's packets, for the matcher; -1 if unknown.
        place: Number under which the matcher knows the interface that captured the packets.
    """

    interface: int
    batches: Sequence[Buffer]
    gaps: Sequence[Gap] = ()
    link_type: int = -1
    place: int = 0


class Merged(NamedTuple):
    """Output bytes in time order, and the remaining records of each source."""

    data: bytes
    #: number of packets in `data`, per source.
    packets: tuple[int, ...]
    #: how many of these packets are older than a packet that an earlier call wrote, per source.
    late: tuple[int, ...]
    #: records not written, per source, in their order of arrival.
    rests: list[bytes]
    #: microseconds since the epoch; the largest timestamp written so far.
    last_us: int
    #: whether records that were due were not written because a limit was reached.
    full: bool
    #: number of gaps that the packets in `data` report, per source.
    reported: tuple[int, ...]
    #: number of duplicates that were left out, per source.
    left_out: tuple[int, ...]
