"""A capture's events become the bytes of its file.

What pcapctl writes to disk and what the api sends to ``curl`` is made here, by
the same code: interfaces, packets in time order (or as they come), statistics.
Only whole blocks come out, so whoever writes them can stop anywhere.
"""

from __future__ import annotations

import ipaddress
from enum import Enum, auto
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import pcapd
from pcapd.errors import MixedLinkTypes
from pcapd.records import Checked, Form, check, render
from pcapd.records.ordering import Ordering, Released
from pcapd.savefile import linktypes, pcap, pcapng
from pcapd.savefile.account import Account
from pcapd.savefile.matching import PacketIds
from pcapd.wire import Source, Stats
from pcapd.wire.frames import Bytes

__all__ = ["UNLIMITED", "Account", "Assembly", "Budget", "Kind", "Piece"]

UNLIMITED = 2**62


class Kind(Enum):
    """What a piece of a file is."""

    HEADER = auto()  #: of the file, of an interface, names: every part of a capture begins with all of them
    PACKETS = auto()
    STATISTICS = auto()


class Piece(NamedTuple):
    """Whole blocks of a file.

    Attributes:
        packets: How many are in it.
        stream: The instance whose file it belongs to; empty where there is one file for all.
    """

    kind: Kind
    data: bytes
    packets: int = 0
    stream: str = ""


class Budget:
    """What may still be written; several assemblies can share one.

    Args:
        packets: At most.
        bytes: At most, closing statistics aside.

    Attributes:
        full: A limit is reached: nothing more will be written.
    """

    def __init__(self, packets: int = UNLIMITED, bytes: int = UNLIMITED) -> None:
        self.packets = packets
        self.bytes = bytes
        self.full = False


class Assembly:
    """Makes a file.

    Args:
        form: Of which kind.
        snaplen: The one snaplen of the file, bytes.
        ordered: In time order, with bounded hold-back.
        max_packets: Packets in the file at most.
        max_bytes: Bytes of the file at most, the closing statistics aside.
        comment: About the file, for people.
        budget: Counts instead of `max_packets` and `max_bytes`, where it is given.
        stream: The instance whose file it is, where each has its own.
        packet_ids: Tells which packets are the same (pcapng only).
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
    ) -> None:
        self._form = form
        self._snaplen = snaplen
        self._ordering = Ordering(form) if ordered else None
        self._budget = budget or Budget(max_packets, max_bytes)
        self._comment = comment
        self._stream = stream
        #: As given.
        self.packet_ids = packet_ids
        self._out: List[Piece] = []
        self._accounts: Dict[int, Account] = {}
        self._link_types: List[int] = []  # by interface

    @property
    def full(self) -> bool:
        """A limit is reached: nothing more will be written."""
        return self._budget.full

    @property
    def accounts(self) -> Dict[int, Account]:
        """By source id."""
        return self._accounts

    @property
    def waiting(self) -> bool:
        """Whether packets are held back, so that `take` should be called again soon."""
        return self.pending > 0

    @property
    def pending(self) -> int:
        """Bytes that are held back."""
        return self._ordering.pending if self._ordering is not None else 0

    def bound(self, hold_bytes: int) -> None:
        """From now on hold back so many bytes at most."""
        if self._ordering is not None:
            self._ordering.bound(hold_bytes)

    # --- events -------------------------------------------------------------

    def source(self, number: int, source: Source, now_us: int) -> None:
        """A source is open; `now_us` is in microseconds since the epoch.

        Raises:
            MixedLinkTypes: A classic pcap file has one link type, and this is another.
        """
        account = Account(source, len(self._accounts), now_us)
        if self._form is Form.PCAPNG:
            self._describe(account)
        else:
            self._classic_header(source)
        self._accounts[number] = account
        self._link_types.append(source.link_type)
        if self._ordering is not None:
            self._ordering.open(number, account.interface, account.gaps)
        self.await_instances(source.awaited)

    def await_instances(self, count: Optional[int]) -> None:
        """So many instances have neither opened a source nor failed; None when it is not known.

        Packets of those that opened first wait for the others, within the bounds of
        the hold-back.
        """
        if self._ordering is not None and count is not None:
            self._ordering.expect(count > 0)

    def packets(self, number: int, records: Bytes, now: float) -> Checked:
        """A batch arrived; `now` is in seconds of a steady clock.

        Raises:
            RecordError: It is not what its lengths say, or longer than the snaplen.
        """
        account = self._accounts[number]
        checked = check(records, account.source.snaplen)
        account.received += checked.packets
        account.bytes += len(records)
        account.last_us = max(account.last_us, checked.latest_us)
        account.newest_us = max(account.newest_us, checked.latest_us)
        if self.full:
            pass  # counted, but not wanted any more
        elif self._ordering is not None:
            self._ordering.add(number, records, checked, now)
        else:
            self._render(account, records)
        return checked

    def stats(self, number: int, stats: Stats) -> None:
        """Counters and watermark of a source."""
        account = self._accounts[number]
        account.stats = stats
        if self._form is Form.PCAPNG:
            account.notice()
        if self._ordering is not None:
            self._ordering.watermark(number, stats.captured_up_to_us)
            if stats.final:
                self._ordering.close(number)

    # --- bytes --------------------------------------------------------------

    def take(self, now: float) -> List[bytes]:
        """Whole blocks that can be written by now."""
        return _data(self.take_pieces(now))

    def take_pieces(self, now: float) -> List[Piece]:
        """As `take`, with what they are."""
        if self._ordering is not None and not self.full:
            while self._add(self._ordering.release(now, self._budget.packets, self._room)):
                pass
        return self._taken()

    def statistics(self, now_us: int) -> List[bytes]:
        """Blocks with every source's counters, if they still fit; may be written again and again."""
        return _data(self.statistics_pieces(now_us))

    def statistics_pieces(self, now_us: int) -> List[Piece]:
        """As `statistics`, with what they are."""
        blocks = self.closing(now_us)
        size = sum(len(block) for block in blocks)
        if size <= self._budget.bytes:
            self._out += self._as_statistics(blocks)
            self._budget.bytes -= size
        return self._taken()

    def finish(self, now_us: int) -> List[bytes]:
        """Everything that is held back, and the closing statistics."""
        return _data(self.finish_pieces(now_us))

    def finish_pieces(self, now_us: int) -> List[Piece]:
        """As `finish`, with what they are."""
        if self._ordering is not None and not self.full:
            while self._add(self._ordering.flush(self._budget.packets, self._room)):
                pass
        self.settle()
        return self._taken() + self._as_statistics(self.closing(now_us))

    def settle(self) -> None:
        """Nothing more will be given out; each account says then what became of its packets."""
        for account in self._accounts.values():
            account.settle(full=self.full)

    def closing(self, now_us: int, stream: str = "") -> List[bytes]:
        """The statistics that end a file: one block per interface, in their order.

        Args:
            stream: Of the file; there is but one here.
        """
        if self._form is not Form.PCAPNG:
            return []
        return [self._statistics(account, now_us) for account in self._accounts.values()]

    def _as_statistics(self, blocks: List[bytes]) -> List[Piece]:
        return [Piece(Kind.STATISTICS, block, 0, self._stream) for block in blocks]

    def _taken(self) -> List[Piece]:
        out, self._out = self._out, []
        return out

    def _add(self, pieces: Iterator[Released]) -> bool:
        """Take what may go; returns whether there is more room than the limits for it knew."""
        more = False
        for released in pieces:
            self._wrote(released.data, sum(released.packets.values()))
            for number, count in released.packets.items():
                self._accounts[number].written += count
            for number, count in released.late.items():
                self._accounts[number].late += count
            if released.full and released.data and self.packet_ids is not None and self._budget.packets > 0:
                more = True  # numbers and duplicates were reckoned at their worst
            else:
                self._budget.full |= released.full
        return more

    def _render(self, account: Account, records: Bytes) -> None:
        budget = self._budget
        checked_before = account.written + account.duplicates
        rendered = render(records, account.interface, self._form, budget.packets, self._room, account.gaps)
        del account.gaps[: rendered.told]
        account.written += rendered.packets
        self._wrote(rendered.data, rendered.packets)
        budget.full |= checked_before + rendered.packets < account.received

    @property
    def _room(self) -> int:
        """Bytes that packets may have; numbers make a block longer by half of it at most."""
        return self._budget.bytes if self.packet_ids is None else self._budget.bytes * 2 // 3

    def _wrote(self, data: bytes, packets: int) -> None:
        if self.packet_ids is not None:
            data, left_out, untold = self.packet_ids.rewrite(self._stream, data, self._link_types)
            accounts = list(self._accounts.values()) if left_out else []
            for interface, lost in untold.items():
                accounts[interface].tell_again(lost)
            for interface, count in left_out.items():
                accounts[interface].written -= count
                accounts[interface].duplicates += count
                packets -= count
        if data:
            self._out.append(Piece(Kind.PACKETS, data, packets, self._stream))
        self._budget.packets -= packets
        self._budget.bytes -= len(data)
        self._budget.full |= self._budget.packets <= 0

    # --- headers ------------------------------------------------------------

    def _describe(self, account: Account) -> None:
        if not self._accounts:
            self._header(pcapng.section_header(f"pcapd {pcapd.__version__}", self._comment))
        source = account.source
        self._header(
            pcapng.interface_description(
                account.name,
                source.link_type,
                self._snaplen,
                describe(source),
                source.filter,
                source.addresses,
            )
        )
        self._header(pcapng.name_resolution(_names(source)))

    def _classic_header(self, source: Source) -> None:
        if not self._accounts:
            self._header(pcap.file_header(source.link_type, self._snaplen))
            return
        first = next(iter(self._accounts.values())).source
        if first.link_type != source.link_type:
            raise MixedLinkTypes(
                f"{source.instance}:{source.interface} has link type {linktypes.name(source.link_type)}, "
                f"{first.instance}:{first.interface} has {linktypes.name(first.link_type)}, "
                "and a classic pcap file has one",
                "ask for pcapng, or for one of them",
            )

    def _header(self, block: bytes) -> None:
        if block:
            self._out.append(Piece(Kind.HEADER, block, 0, self._stream))
            self._budget.bytes = max(0, self._budget.bytes - len(block))

    def _statistics(self, account: Account, now_us: int) -> bytes:
        stats = account.at_least
        return pcapng.interface_statistics(
            account.interface,
            now_us,
            account.opened_us,
            max(account.last_us, stats.captured_up_to_us),
            stats.received,
            stats.dropped_interface,
            stats.dropped_kernel,
            account.written,
            account.remarks,
        )


def _data(pieces: List[Piece]) -> List[bytes]:
    return [piece.data for piece in pieces]


def describe(source: Source) -> str:
    """Where a source's packets come from, in words for people."""
    words = f"agent {source.agent}" if source.agent else "an agent"
    if source.agent_address:
        words += f" at {source.agent_address}"
    if source.headers_only:
        words += ", headers only"
    if source.clock_offset_us is not None:
        words += f", clock offset {source.clock_offset_us / 1000:+.1f} ms"
    return words


def _names(source: Source) -> List[Tuple[str, str]]:
    """The instance's name for its addresses, loopback ones aside: those are everybody's."""
    names = []
    for text in source.addresses:
        address = ipaddress.ip_interface(text).ip
        if not address.is_loopback and not address.is_link_local:
            names.append((str(address), source.instance))
    return names
