"""Arguments and results of this package's compiled functions, for both implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Sequence, Tuple

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Gap", "Merged", "Source"]

#: Packets that a source lost: `drops` of them after `after_us`, microseconds since the epoch.
#: They are reported (epb_dropcount) with its first written record that is later than that.
Gap = Tuple[int, int]


class Source(NamedTuple):
    """One source of a merge.

    Attributes:
        interface: Number of its interface block (pcapng).
        batches: Batches in order of arrival.
        gaps: Its lost packets, in order of time; classic pcap has no place for them.
        link_type: LINKTYPE of its packets, for the matcher; -1 if unknown.
        place: The place that saw its packets, for the matcher.
    """

    interface: int
    batches: Sequence[Buffer]
    gaps: Sequence[Gap] = ()
    link_type: int = -1
    place: int = 0


class Merged(NamedTuple):
    """Output bytes in time order, and the records left, per source."""

    data: bytes
    #: written now, per source.
    packets: tuple[int, ...]
    #: of those, how many are older than a packet of an earlier call.
    late: tuple[int, ...]
    #: records not written, per source, in their order of arrival.
    rests: list[bytes]
    #: microseconds since the epoch; the largest timestamp written so far.
    last_us: int
    #: a limit held back records that could have been written.
    full: bool
    #: gaps that were reported with the packets written now, per source.
    reported: tuple[int, ...]
    #: duplicates that were left out, per source.
    left_out: tuple[int, ...]
