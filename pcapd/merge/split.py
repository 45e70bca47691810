"""Makes one file per instance: each has its own muxer, and all share the same limits.

`Split` has the same methods as `pcapd.merge.muxer.Muxer`, which makes one file.
Each file has its own time order and its own interfaces, numbered from 0.
"""

from __future__ import annotations

from typing import Dict, List, Optional

from pcapd.limits import HOLD_BACK_BYTES
from pcapd.merge.matching import PacketIds
from pcapd.merge.muxer import UNLIMITED, Account, Budget, Muxer, Piece
from pcapd.records import Checked
from pcapd.savefile.form import Form
from pcapd.wire import Source, Stats
from pcapd.wire.frames import Bytes

__all__ = ["Split"]


class Split:
    """Makes a file for each instance.

    Args:
        form: The form of the files.
        snaplen: The snaplen of all interfaces of the files, bytes.
        ordered: Whether packets are written in time order (`pcapd.merge.reorder`).
        max_packets: The limit of packets in all files.
        max_bytes: The limit of bytes of all files, without the closing statistics.
        comment: A comment in the files, for readers.
        packet_ids: Object that assigns packet numbers (pcapng only); None for no numbers.
        align: Whether times are corrected by the clock offset of each source.
    """

    #: Whether each instance has a file of its own.
    split = True

    def __init__(
        self,
        form: Form,
        snaplen: int,
        *,
        ordered: bool = True,
        max_packets: int = UNLIMITED,
        max_bytes: int = UNLIMITED,
        comment: str = "",
        packet_ids: Optional[PacketIds] = None,
        align: bool = False,
    ) -> None:
        self._form = form
        self._align = align
        self._snaplen = snaplen
        self._ordered = ordered
        self._comment = comment
        #: The argument `packet_ids`.
        self.packet_ids = packet_ids
        self.budget = Budget(max_packets, max_bytes)
        self._awaited: Optional[int] = None
        self._parts: Dict[str, Muxer] = {}
        self._part_of: Dict[int, Muxer] = {}
        #: The accounts by source id, in the order in which the sources were opened.
        self.accounts: Dict[int, Account] = {}

    @property
    def full(self) -> bool:
        """Whether a limit is reached: nothing more will be written."""
        return self.budget.full

    @property
    def waiting(self) -> bool:
        """Whether packets are held back, so that `take_pieces` should be called again soon."""
        return any(part.waiting for part in self._parts.values())

    def source(self, number: int, source: Source, now_us: int) -> None:
        """Add an open source; `now_us` is in microseconds since the epoch.

        Raises:
            MixedLinkTypes: A classic pcap file has one link type, and this is a different one.
        """
        part = self._parts.get(source.instance)
        if part is None:
            part = self._parts[source.instance] = Muxer(
                self._form,
                self._snaplen,
                ordered=self._ordered,
                comment=self._comment,
                budget=self.budget,
                stream=source.instance,
                packet_ids=self.packet_ids,
                align=self._align,
            )
            part.await_instances(self._awaited)
        part.source(number, source, now_us)
        self._part_of[number] = part
        self.accounts[number] = part.accounts[number]
        self.await_instances(source.awaited)

    def await_instances(self, count: Optional[int]) -> None:
        """Set the number of instances that have neither opened a source nor failed; None if unknown."""
        if count is not None:
            self._awaited = count
            for part in self._parts.values():
                part.await_instances(count)

    def packets(self, number: int, records: Bytes, now: float) -> Checked:
        """Add a received batch; `now` is in seconds of a monotonic clock.

        Raises:
            RecordError: A length in the batch is wrong, or above the snaplen.
        """
        return self._part_of[number].packets(number, records, now)

    def stats(self, number: int, stats: Stats) -> None:
        """Record the counters and the watermark of a source."""
        self._part_of[number].stats(number, stats)

    def take_pieces(self, now: float) -> List[Piece]:
        """Return the whole blocks that can be written now, and forget them."""
        # HOLD_BACK_BYTES limits the waiting bytes of all files together.  When the total exceeds
        # it, each file may hold back an equal share.
        pending = sum(part.pending for part in self._parts.values())
        share = HOLD_BACK_BYTES // len(self._parts) if pending > HOLD_BACK_BYTES else pending
        for part in self._parts.values():
            part.bound(share)
        return [piece for part in self._parts.values() for piece in part.take_pieces(now)]

    def statistics_pieces(self, now_us: int) -> List[Piece]:
        """Return blocks with every source's counters, if they fit in the budget; may be called repeatedly."""
        return [piece for part in self._parts.values() for piece in part.statistics_pieces(now_us)]

    def finish_pieces(self, now_us: int) -> List[Piece]:
        """Return everything that is held back, and the closing statistics."""
        return [piece for part in self._parts.values() for piece in part.finish_pieces(now_us)]

    def settle(self) -> None:
        """Complete each account.  Called when no more packets will be written."""
        for part in self._parts.values():
            part.settle()

    def closing(self, now_us: int, stream: str = "") -> List[bytes]:
        """The statistics that end the file of an instance: one block per interface, in their order."""
        return self._parts[stream].closing(now_us)
