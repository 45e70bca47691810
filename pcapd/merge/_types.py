"""What the compiled functions of this package take and return, whichever implementation runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Sequence, Tuple

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Gap", "Merged", "Source"]

#: Packets that a source lost: `drops` of them after `after_us`, microseconds since the epoch.
#: They are told (epb_dropcount) with its first record that is written and is later than that.
Gap = Tuple[int, int]


class Source(NamedTuple):
    """What one source has for a merge.

    Attributes:
        interface: Number of its interface block (pcapng).
        batches: In their order of arrival.
        gaps: What it lost, in order of time; classic pcap has no place for it.
        link_type: LINKTYPE of its packets, for the matcher; -1 when it is not known.
        place: Who saw its packets, for the matcher.
    """

    interface: int
    batches: Sequence[Buffer]
    gaps: Sequence[Gap] = ()
    link_type: int = -1
    place: int = 0


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
    told: tuple[int, ...]
    #: duplicates that were left out, per source.
    left_out: tuple[int, ...]
