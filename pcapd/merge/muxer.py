"""Makes the bytes of a file from a capture's events.

The same code makes the files that pcapctl writes and the output that the api sends to ``curl``:
interfaces, packets (in order of time or of arrival) and statistics.
The output always consists of whole blocks, so it can end after any piece.
"""

from __future__ import annotations

import dataclasses
from enum import Enum, auto
from typing import Dict, Final, Iterator, List, NamedTuple, Optional

import pcapd
from pcapd.errors import MixedLinkTypes
from pcapd.limits import SSH_HOLD_BACK_TIME
from pcapd.merge.account import Account
from pcapd.merge.description import describe, names
from pcapd.merge.matching import PacketIds
from pcapd.merge.reorder import Released, ReorderBuffer
from pcapd.packet import linktypes
from pcapd.records import SHIFT_MAX, Checked, check, shift
from pcapd.savefile import blocks, pcap
from pcapd.savefile.form import Form
from pcapd.wire import Source, Stats
from pcapd.wire.frames import Bytes

__all__ = ["HEADERS", "UNLIMITED", "Account", "Budget", "Kind", "Muxer", "Piece"]

UNLIMITED = 2**62


class Kind(Enum):
    """The kind of a piece of a file."""

    HEADER = auto()  #: of the file
    INTERFACE = auto()
    NAMES = auto()
    PACKETS = auto()
    STATISTICS = auto()


#: If a capture is written as several files, each begins with all pieces of these kinds, names last.
HEADERS: Final = (Kind.HEADER, Kind.INTERFACE, Kind.NAMES)


class Piece(NamedTuple):
    """Whole blocks of a file.

    Attributes:
        packets: The number of packets in the piece.
        stream: The instance to whose file it belongs; empty if there is one file for all.
    """

    kind: Kind
    data: bytes
    packets: int = 0
    stream: str = ""


class Budget:
    """The packets and bytes that may still be written; several muxers can share it.

    Args:
        packets: The limit of packets.
        bytes: The limit of bytes, without closing statistics.

    Attributes:
        full: Whether a limit is reached or `close` was called, so that nothing more will be written.
        broken: Whether further packets count as lost, because the output has failed.
        most: The limits of packets and bytes, as passed to the constructor.
    """

    def __init__(self, packets: int = UNLIMITED, bytes: int = UNLIMITED) -> None:
        self.most = packets, bytes
        self.packets = packets
        self.bytes = bytes
        self.full = False
        self.broken = False

    def close(self, *, broken: bool) -> None:
        """Write nothing more, because the output has failed (`broken`) or no more packets are wanted."""
        self.full, self.broken = True, broken


class Muxer:
    """Makes a file.

    Args:
        form: The form of the file.
        snaplen: The snaplen of all interfaces of the file, bytes.
        ordered: Whether packets are written in time order (`pcapd.merge.reorder`).
        max_packets: The limit of packets in the file.
        max_bytes: The limit of bytes of the file, without the closing statistics.
        comment: A comment in the file, for readers.
        budget: If given, used instead of `max_packets` and `max_bytes`.
        stream: The instance of the file, if each instance has its own.
        packet_ids: Object that assigns packet numbers (pcapng only); None for no numbers.
        align: Whether times are corrected by the clock offset of each source.
    """

    #: Whether each instance has a file of its own.
    split = False

    def __init__(
        self,
        form: Form,
        snaplen: int,
        *,
        ordered: bool = True,
        max_packets: int = UNLIMITED,
        max_bytes: int = UNLIMITED,
        comment: str = "",
        budget: Optional[Budget] = None,
        stream: str = "",
        packet_ids: Optional[PacketIds] = None,
        align: bool = False,
    ) -> None:
        self._form = form
        self._align = align
        self._snaplen = snaplen
        self._ordered = ordered
        self._buffer = ReorderBuffer(form, ordered=ordered, packet_ids=packet_ids)
        self.budget = budget or Budget(max_packets, max_bytes)
        self._comment = comment
        self._stream = stream
        #: The argument `packet_ids`.
        self.packet_ids = packet_ids
        self._out: List[Piece] = []
        self._names: List[Piece] = []  # held back until the first interfaces are written
        self._accounts: Dict[int, Account] = {}

    @property
    def full(self) -> bool:
        """Whether a limit is reached: nothing more will be written."""
        return self.budget.full

    @property
    def accounts(self) -> Dict[int, Account]:
        """The accounts by source id."""
        return self._accounts

    @property
    def waiting(self) -> bool:
        """Whether packets are held back, so that `take` should be called again soon."""
        return self.pending > 0

    @property
    def pending(self) -> int:
        """Bytes that are held back."""
        return self._buffer.pending

    def bound(self, hold_bytes: int) -> None:
        """Set the limit of bytes that are held back."""
        self._buffer.bound(hold_bytes)

    # --- events -------------------------------------------------------------

    def source(self, number: int, source: Source, now_us: int) -> None:
        """Add an open source; `now_us` is in microseconds since the epoch.

        Raises:
            MixedLinkTypes: A classic pcap file has one link type, and this is a different one.
        """
        account = Account(source, len(self._accounts), now_us, self._shift_us(source))
        if self._form is Form.PCAPNG:
            self._describe(account)
        else:
            self._classic_header(source)
        self._accounts[number] = account
        place = self.packet_ids.place(self._stream, account.interface) if self.packet_ids is not None else 0
        hold_time = SSH_HOLD_BACK_TIME if account.over_ssh else 0.0
        self._buffer.open(number, account.interface, source.link_type, place, hold_time)
        self.await_instances(source.awaited)

    def await_instances(self, count: Optional[int]) -> None:
        """Set the number of instances that have neither opened a source nor failed; None if unknown.

        Packets of the other instances wait for them (`ReorderBuffer.expect`).
        """
        if count is not None:
            self._buffer.expect(count > 0)

    def packets(self, number: int, records: Bytes, now: float) -> Checked:
        """Add a received batch; `now` is in seconds of a monotonic clock.

        Raises:
            RecordError: A length in the batch is wrong, or above the snaplen.
        """
        account = self._accounts[number]
        if account.shift_us:
            records = shift(records, account.shift_us)
        checked = check(records, account.source.snaplen)
        account.received += checked.packets
        account.bytes += len(records)
        account.last_us = max(account.last_us, checked.latest_us)
        account.newest_us = max(account.newest_us, checked.latest_us)
        if not self.full:  # otherwise the packets are counted, but not written
            self._buffer.add(number, records, checked, now)
            if not self._ordered:  # at once, to keep the order of arrival
                self._release(now)
        return checked

    def stats(self, number: int, stats: Stats) -> None:
        """Record the counters and the watermark of a source."""
        account = self._accounts[number]
        if account.shift_us:
            stats = _shifted(stats, account.shift_us)
        account.stats = stats
        gap = account.notice() if self._form is Form.PCAPNG else None
        if gap is not None:
            self._buffer.lost(number, gap)
        self._buffer.watermark(number, stats.captured_up_to_us)
        if stats.final:
            self._buffer.close(number)

    # --- bytes --------------------------------------------------------------

    def take(self, now: float) -> List[bytes]:
        """Return the whole blocks that can be written now, and forget them."""
        return _data(self.take_pieces(now))

    def take_pieces(self, now: float) -> List[Piece]:
        """Like `take`, but return pieces."""
        self._release(now)
        return self._taken()

    def statistics(self, now_us: int) -> List[bytes]:
        """Return blocks with every source's counters, if they fit in the budget; may be called repeatedly."""
        return _data(self.statistics_pieces(now_us))

    def statistics_pieces(self, now_us: int) -> List[Piece]:
        """Like `statistics`, but return pieces."""
        blocks = self.closing(now_us)
        size = sum(len(block) for block in blocks)
        if size <= self.budget.bytes:
            self._out += self._as_statistics(blocks)
            self.budget.bytes -= size
        return self._taken()

    def finish(self, now_us: int) -> List[bytes]:
        """Return everything that is held back, and the closing statistics."""
        return _data(self.finish_pieces(now_us))

    def finish_pieces(self, now_us: int) -> List[Piece]:
        """Like `finish`, but return pieces."""
        if not self.full:
            self._add(self._buffer.flush(self.budget.packets, self.budget.bytes))
        self.settle()
        self._out += self._as_statistics(self.closing(now_us))
        return self._taken()

    def settle(self) -> None:
        """Complete each account.  Called when no more packets will be written."""
        for account in self._accounts.values():
            account.settle(full=self.full and not self.budget.broken)

    def closing(self, now_us: int, stream: str = "") -> List[bytes]:
        """The statistics that end a file: one block per interface, in the order of the interfaces.

        Args:
            stream: Not used, because a muxer makes one file (see `pcapd.merge.split.Split.closing`).
        """
        if self._form is not Form.PCAPNG:
            return []
        return [self._statistics(account, now_us) for account in self._accounts.values()]

    def _as_statistics(self, blocks: List[bytes]) -> List[Piece]:
        return [Piece(Kind.STATISTICS, block, 0, self._stream) for block in blocks]

    def _taken(self) -> List[Piece]:
        out, self._out = self._out, []
        if self._names and any(piece.kind not in HEADERS for piece in out):
            # Insert the names after the interfaces: some readers need the interfaces together.
            place = next(index for index, piece in enumerate(out) if piece.kind not in HEADERS)
            out[place:place] = self._names
            self._names = []
        return out

    def _release(self, now: float) -> None:
        if not self.full:
            self._add(self._buffer.release(now, self.budget.packets, self.budget.bytes))

    def _add(self, pieces: Iterator[Released]) -> None:
        """Append released packets to the output."""
        for released in pieces:
            self.budget.full |= released.full
            self._wrote(released)

    def _wrote(self, released: Released) -> None:
        packets = sum(released.packets.values())
        for number, count in released.packets.items():
            account = self._accounts[number]
            account.written += count
            account.late += released.late[number]
            account.duplicates += released.left_out[number]
            account.reported += released.drops[number]
        if released.data:
            self._out.append(Piece(Kind.PACKETS, released.data, packets, self._stream))
        self.budget.packets -= packets
        self.budget.bytes -= len(released.data)
        self.budget.full |= self.budget.packets <= 0

    # --- headers ------------------------------------------------------------

    def _describe(self, account: Account) -> None:
        if not self._accounts:
            self._header(Kind.HEADER, blocks.section_header(f"pcapd {pcapd.__version__}", self._comment))
        source = account.source
        self._header(
            Kind.INTERFACE,
            blocks.interface_description(
                account.name,
                source.link_type,
                self._snaplen,
                self._description(source),
                source.filter,
                source.addresses,
            ),
        )
        self._header(Kind.NAMES, blocks.name_resolution(names(source)))

    def _shift_us(self, source: Source) -> int:
        offset = source.clock_offset_us or 0
        return -offset if self._align and abs(offset) <= SHIFT_MAX else 0

    def _description(self, source: Source) -> str:
        once = self.packet_ids is not None and self.packet_ids.dedupe
        return describe(source, aligned=self._align) + (f", {blocks.DEDUPED}" if once else "")

    def _classic_header(self, source: Source) -> None:
        if not self._accounts:
            self._header(Kind.HEADER, pcap.file_header(source.link_type, self._snaplen))
            return
        first = next(iter(self._accounts.values())).source
        if first.link_type != source.link_type:
            raise MixedLinkTypes(
                f"{source.instance}:{source.interface} has link type {linktypes.name(source.link_type)}, "
                f"{first.instance}:{first.interface} has {linktypes.name(first.link_type)}, "
                "but a classic pcap file has only one",
                "use pcapng, or capture one of them",
            )

    def _header(self, kind: Kind, block: bytes) -> None:
        if block:
            pieces = self._names if kind is Kind.NAMES else self._out
            pieces.append(Piece(kind, block, 0, self._stream))
            self.budget.bytes = max(0, self.budget.bytes - len(block))

    def _statistics(self, account: Account, now_us: int) -> bytes:
        stats = account.at_least
        return blocks.interface_statistics(
            account.interface,
            now_us,
            account.opened_us,
            max(account.last_us, stats.captured_up_to_us),
            stats.received if stats.counted else None,
            stats.dropped_interface if stats.counted else None,
            stats.dropped_kernel if stats.counted else None,
            account.written,
            account.remarks,
        )


def _data(pieces: List[Piece]) -> List[bytes]:
    return [piece.data for piece in pieces]


def _shifted(stats: Stats, us: int) -> Stats:
    """The statistics of a source with times converted to the api's clock."""
    at_us = None if stats.at_us is None else max(0, stats.at_us + us)
    return dataclasses.replace(stats, captured_up_to_us=max(0, stats.captured_up_to_us + us), at_us=at_us)
