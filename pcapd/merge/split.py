"""One file per instance: a muxer for each, with common limits.

What `pcapd.merge.muxer.Muxer` does for one file, with the same methods.
Each file is in time order by itself and has its own interfaces, numbered from 0.
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
    """Makes a file per instance.

    Args:
        form: Of which kind.
        snaplen: The one snaplen of the files, bytes.
        ordered: In time order, with bounded hold-back.
        max_packets: Packets in all files at most.
        max_bytes: Bytes of all files at most, the closing statistics aside.
        comment: About the files, for people.
        packet_ids: Tells which packets are the same (pcapng only).
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
    ) -> None:
        self._form = form
        self._snaplen = snaplen
        self._ordered = ordered
        self._comment = comment
        #: As given.
        self.packet_ids = packet_ids
        self.budget = Budget(max_packets, max_bytes)
        self._awaited: Optional[int] = None
        self._parts: Dict[str, Muxer] = {}
        self._part_of: Dict[int, Muxer] = {}
        #: By source id, in the order in which they were opened.
        self.accounts: Dict[int, Account] = {}

    @property
    def full(self) -> bool:
        """A limit is reached: nothing more will be written."""
        return self.budget.full

    @property
    def waiting(self) -> bool:
        """Whether packets are held back, so that `take_pieces` should be called again soon."""
        return any(part.waiting for part in self._parts.values())

    def source(self, number: int, source: Source, now_us: int) -> None:
        """A source is open; `now_us` is in microseconds since the epoch.

        Raises:
            MixedLinkTypes: A classic pcap file has one link type, and this is another.
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
            )
            part.await_instances(self._awaited)
        part.source(number, source, now_us)
        self._part_of[number] = part
        self.accounts[number] = part.accounts[number]
        self.await_instances(source.awaited)

    def await_instances(self, count: Optional[int]) -> None:
        """So many instances have neither opened a source nor failed; None when it is not known."""
        if count is not None:
            self._awaited = count
            for part in self._parts.values():
                part.await_instances(count)

    def packets(self, number: int, records: Bytes, now: float) -> Checked:
        """A batch arrived; `now` is in seconds of a steady clock.

        Raises:
            RecordError: It is not what its lengths say, or longer than the snaplen.
        """
        return self._part_of[number].packets(number, records, now)

    def stats(self, number: int, stats: Stats) -> None:
        """Counters and watermark of a source."""
        self._part_of[number].stats(number, stats)

    def take_pieces(self, now: float) -> List[Piece]:
        """Whole blocks that can be written by now."""
        # All of them together hold back what one file would; until then nobody has to let go.
        pending = sum(part.pending for part in self._parts.values())
        share = HOLD_BACK_BYTES // len(self._parts) if pending > HOLD_BACK_BYTES else pending
        for part in self._parts.values():
            part.bound(share)
        return [piece for part in self._parts.values() for piece in part.take_pieces(now)]

    def statistics_pieces(self, now_us: int) -> List[Piece]:
        """Blocks with every source's counters, if they still fit; may be written again and again."""
        return [piece for part in self._parts.values() for piece in part.statistics_pieces(now_us)]

    def finish_pieces(self, now_us: int) -> List[Piece]:
        """Everything that is held back, and the closing statistics."""
        return [piece for part in self._parts.values() for piece in part.finish_pieces(now_us)]

    def settle(self) -> None:
        """Nothing more will be given out; each account says then what became of its packets."""
        for part in self._parts.values():
            part.settle()

    def closing(self, now_us: int, stream: str = "") -> List[bytes]:
        """The statistics that end an instance's file: one block per interface, in their order."""
        return self._parts[stream].closing(now_us)
