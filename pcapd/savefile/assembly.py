"""A capture's events become the bytes of its file.

What pcapctl writes to disk and what the api sends to ``curl`` is made here, by
the same code: interfaces, packets in time order (or as they come), statistics.
Only whole blocks come out, so whoever writes them can stop anywhere.
"""

from __future__ import annotations

import ipaddress
from typing import Dict, Iterator, List, Optional, Tuple

import pcapd
from pcapd.errors import MixedLinkTypes
from pcapd.limits import SNAPLEN_MAX
from pcapd.records import Checked, Form, check, render
from pcapd.records.ordering import Ordering, Released
from pcapd.savefile import linktypes, pcap, pcapng
from pcapd.wire import Source, Stats
from pcapd.wire.frames import Bytes

__all__ = ["UNLIMITED", "Account", "Assembly"]

UNLIMITED = 2**62


class Account:
    """What became of one source's packets.

    Args:
        source: What it is.
        interface: Its number in the file.
        opened_us: Microseconds since the epoch when it was opened.

    Attributes:
        source: What it is.
        interface: Its number in the file.
        stats: The agent's last counters.
        received: Packets that came here.
        bytes: Bytes of their records.
        written: Packets in the file.
        late: Of these, written after a newer one.
    """

    def __init__(self, source: Source, interface: int, opened_us: int) -> None:
        self.source = source
        self.interface = interface
        self.stats = Stats(0, 0, 0, 0, 0)
        self.received = 0
        self.bytes = 0
        self.written = 0
        self.late = 0
        self.opened_us = opened_us
        self.last_us = opened_us

    @property
    def name(self) -> str:
        """As in the file: instance and interface."""
        return f"{self.source.instance}:{self.source.interface}"

    @property
    def lost_in_transit(self) -> Optional[int]:
        """Packets that the agent sent and that did not come here; None while or where nobody knows."""
        stats = self.stats
        return max(0, stats.delivered - self.received) if stats.final and stats.exact else None


class Assembly:
    """Makes a file.

    Args:
        form: Of which kind.
        snaplen: The one snaplen of the file, bytes.
        ordered: In time order, with bounded hold-back.
        max_packets: Packets in the file at most.
        max_bytes: Bytes of the file at most, the closing statistics aside.
        comment: About the file, for people.
    """

    def __init__(
        self,
        form: Form,
        snaplen: int,
        *,
        ordered: bool = True,
        max_packets: int = UNLIMITED,
        max_bytes: int = UNLIMITED,
        comment: str = "",
    ) -> None:
        self._form = form
        self._snaplen = snaplen
        self._ordering = Ordering(form) if ordered else None
        self._packets_left = max_packets
        self._bytes_left = max_bytes
        self._comment = comment
        self._out: List[bytes] = []
        self._accounts: Dict[int, Account] = {}
        #: A limit is reached: nothing more will be written.
        self.full = False

    @property
    def accounts(self) -> Dict[int, Account]:
        """By source id."""
        return self._accounts

    @property
    def waiting(self) -> bool:
        """Whether packets are held back, so that `take` should be called again soon."""
        return self._ordering is not None and self._ordering.pending > 0

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
        if self._ordering is not None:
            self._ordering.open(number, account.interface)
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
        checked = check(records, min(SNAPLEN_MAX, account.source.snaplen))
        account.received += checked.packets
        account.bytes += len(records)
        account.last_us = max(account.last_us, checked.latest_us)
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
        if self._ordering is not None:
            self._ordering.watermark(number, stats.captured_up_to_us)
            if stats.final:
                self._ordering.close(number)

    # --- bytes --------------------------------------------------------------

    def take(self, now: float) -> List[bytes]:
        """Whole blocks that can be written by now."""
        if self._ordering is not None and not self.full:
            self._add(self._ordering.release(now, self._packets_left, self._bytes_left))
        return self._taken()

    def statistics(self, now_us: int) -> List[bytes]:
        """Blocks with every source's counters, if they still fit; may be written again and again."""
        blocks = self._all_statistics(now_us)
        size = sum(len(block) for block in blocks)
        if size <= self._bytes_left:
            self._out += blocks
            self._bytes_left -= size
        return self._taken()

    def finish(self, now_us: int) -> List[bytes]:
        """Everything that is held back, and the closing statistics."""
        if self._ordering is not None and not self.full:
            self._add(self._ordering.flush(self._packets_left, self._bytes_left))
        return self._taken() + self._all_statistics(now_us)

    def _taken(self) -> List[bytes]:
        out, self._out = self._out, []
        return out

    def _add(self, pieces: Iterator[Released]) -> None:
        for released in pieces:
            self._wrote(released.data, sum(released.packets.values()))
            for number, count in released.packets.items():
                self._accounts[number].written += count
            for number, count in released.late.items():
                self._accounts[number].late += count
            self.full = self.full or released.full

    def _render(self, account: Account, records: Bytes) -> None:
        rendered = render(records, account.interface, self._form, self._packets_left, self._bytes_left)
        account.written += rendered.packets
        self._wrote(rendered.data, rendered.packets)
        self.full = self.full or account.written < account.received

    def _wrote(self, data: bytes, packets: int) -> None:
        self._out.append(data)
        self._packets_left -= packets
        self._bytes_left -= len(data)
        if self._packets_left <= 0:
            self.full = True

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
        self._out.append(block)
        self._bytes_left = max(0, self._bytes_left - len(block))

    def _all_statistics(self, now_us: int) -> List[bytes]:
        if self._form is not Form.PCAPNG:
            return []
        return [self._statistics(account, now_us) for account in self._accounts.values()]

    def _statistics(self, account: Account, now_us: int) -> bytes:
        stats = account.stats
        return pcapng.interface_statistics(
            account.interface,
            now_us,
            account.opened_us,
            max(account.last_us, stats.captured_up_to_us),
            stats.received,
            stats.dropped_interface,
            stats.dropped_kernel,
            account.written,
            "" if stats.exact else "the agent was lost; these are the last counters it sent",
        )


def describe(source: Source) -> str:
    """Where a source's packets come from, in words for people."""
    words = f"agent {source.agent}" if source.agent else "an agent"
    if source.agent_address:
        words += f" at {source.agent_address}"
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
