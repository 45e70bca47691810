"""Makes one file per instance: a muxer for each, with common limits.

It does what `pcapd.merge.muxer.Muxer` does for one file, with the same methods.
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
        snaplen: The one snaplen of the files, bytes.
        ordered: Whether packets are in time order, with bounded hold-back.
        max_packets: The limit of packets in all files.
        max_bytes: The limit of bytes of all files, without the closing statistics.
        comment: A comment in the files, for readers.
        packet_ids: Numbers the packets (pcapng only).
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
        #: As given.
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
            RecordError: A length in it is wrong, or above the snaplen.
        """
        return self._part_of[number].packets(number, records, now)

    def stats(self, number: int, stats: Stats) -> None:
        """Take the counters and watermark of a source."""
        self._part_of[number].stats(number, stats)

    def take_pieces(self, now: float) -> List[Piece]:
        """Take the whole blocks that can be written by now."""
        # The files share one hold-back budget; no file's share is capped until the total reaches it.
        pending = sum(part.pending for part in self._parts.values())
        share = HOLD_BACK_BYTES // len(self._parts) if pending > HOLD_BACK_BYTES else pending
        for part in self._parts.values():
            part.bound(share)
        return [piece for part in self._parts.values() for piece in part.take_pieces(now)]

    def statistics_pieces(self, now_us: int) -> List[Piece]:
        """Take blocks with every source's counters, if they still fit; may be called repeatedly."""
        return [piece for part in self._parts.values() for piece in part.statistics_pieces(now_us)]

    def finish_pieces(self, now_us: int) -> List[Piece]:
        """Take everything that is held back, and the closing statistics."""
        return [piece for part in self._parts.values() for piece in part.finish_pieces(now_us)]

    def settle(self) -> None:
        """Complete each account, because nothing more will be taken."""
        for part in self._parts.values():
            part.settle()

    def closing(self, now_us: int, stream: str = "") -> List[bytes]:
        """The statistics that end an instance's file: one block per interface, in their order."""
        return self._parts[stream].closing(now_us)
