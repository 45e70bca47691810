"""Accounts for one source's packets: written, left out or lost.

Every packet that the kernel's filter accepted is in exactly one of these::

    received = written + duplicates + unwanted        in the file, or left out on purpose
             + kernel + agent + api + client          lost, by place

The interface loses packets before the filter, so its drops are not part of these.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from pcapd.merge._types import Gap
from pcapd.wire import Source, Stats

__all__ = ["Account", "Drops", "Known"]


#: microseconds; before the time of any packet.
_EVER = -1


class Known(NamedTuple):
    """Like `Drops`, with the least known numbers."""

    interface: int
    kernel: int
    agent: int
    api: int
    client: int


class Drops(NamedTuple):
    """Packets of one source that were lost, by place.  None: unknown.

    Attributes:
        interface: By the network interface, before the filter; not among those received.
        kernel: Because the ring was full.
        agent: In the ring or the agent at a forced end, or between agent and api.
        api: Reached the api, but not this program.
        client: Reached this program, but not the file, although they were wanted.
    """

    interface: int
    kernel: int
    agent: Optional[int]
    api: Optional[int]
    client: Optional[int]


class Account:
    """The account of one source's packets.

    Args:
        source: The source.
        interface: Its number in the file.
        opened_us: Microseconds since the epoch when it was opened.
        shift_us: Microseconds to add to its times, so that they are by the api's clock.

    Attributes:
        source: The source.
        interface: Its number in the file.
        received: Packets that arrived here.
        bytes: Bytes of their records.
        written: Packets in the file.
        late: Of these, written after a newer one.
        duplicates: Left out, because another source saw them before.
        unwanted: Left out, because they came after the limit of packets or bytes.
        unwritten: Arrived and wanted, but not in the file; None if only known for several
            sources together.
        over: Whether nothing more will come.
        newest_us: The latest time of a packet that arrived here.
        reported: Drops of interface and kernel that packets in the file have as epb_dropcount.
    """

    def __init__(self, source: Source, interface: int, opened_us: int, shift_us: int = 0) -> None:
        self.source = source
        self.shift_us = shift_us
        self.interface = interface
        self._stats = Stats(0, 0, 0, 0, 0)
        self._missing = 0
        self.received = 0
        self.bytes = 0
        self.written = 0
        self.late = 0
        self.duplicates = 0
        self.unwanted = 0
        self.unwritten: Optional[int] = 0
        self.over = False
        self.reported = 0
        self._noticed = 0
        self._counted_us = _EVER
        self.opened_us = opened_us
        self.last_us = opened_us
        self.newest_us = _EVER

    @property
    def name(self) -> str:
        """The name in the file: instance and interface."""
        return f"{self.source.instance}:{self.source.interface}"

    @property
    def stats(self) -> Stats:
        """The agent's last counters."""
        return self._stats

    @stats.setter
    def stats(self, stats: Stats) -> None:
        self._stats = stats
        # Packets and counters come in their order, so this is exact now, and not later.
        self._missing = self._api()

    def notice(self) -> Optional[Gap]:
        """The packets lost between the last two counters, to be reported with the next packet.

        The next packet is the first one later than all that came before these counters, and
        later than the counters before: the loss came after those were read, so an earlier
        packet, such as one that was still in the ring, cannot be the next one.
        """
        lost = self._stats.dropped_interface + self._stats.dropped_kernel
        at_us = self._stats.at_us
        gap = None
        if lost > self._noticed:
            newest_us = _EVER if at_us is None else min(self.newest_us, at_us)
            gap = (max(self._counted_us, newest_us), lost - self._noticed)
            self._noticed = lost
        self._counted_us = _EVER if at_us is None else at_us
        return gap

    @property
    def lost_after_last(self) -> int:
        """Drops of interface and kernel that no packet's epb_dropcount contains."""
        return self._noticed - self.reported

    @property
    def at_least(self) -> Stats:
        """The least known counters: the agent's last ones, raised to what arrived here.

        They are final and complete if `exact` is true.
        """
        return self._stats.seen(self.received)

    @property
    def exact(self) -> bool:
        """Whether the counters are complete: the agent sent its final ones, or is still there."""
        return self._stats.exact and (self._stats.final or not self.over)

    @property
    def lost_in_transit(self) -> Optional[int]:
        """Packets that the agent sent and that did not arrive here; None if unknown."""
        stats = self._stats
        return max(0, stats.delivered - self.received) if stats.final and stats.exact else None

    @property
    def known(self) -> Known:
        """The least known losses, by place: there may be more where `drops` has None."""
        stats = self._stats
        forwarded = stats.delivered if stats.forwarded is None else stats.forwarded
        return Known(
            stats.dropped_interface,
            stats.dropped_kernel,
            stats.dropped_agent + max(0, stats.delivered - forwarded),
            self._api() if stats.final else self._missing,
            self.unwritten or 0,
        )

    @property
    def drops(self) -> Drops:
        """The lost packets, by place."""
        known, stats = self.known, self._stats
        current = stats.final or not self.over
        counted = stats.exact or stats.forwarded is not None
        return Drops(
            interface=known.interface,
            kernel=known.kernel,
            agent=known.agent if self.exact else None,
            api=known.api if current and counted else None,
            client=self.unwritten,
        )

    @property
    def traced(self) -> bool:
        """Whether the place of every loss is known."""
        return self.drops.agent is not None and self.drops.api is not None

    @property
    def remarks(self) -> str:
        """A readable text of the counts that a statistics block has no counters for."""
        drops = self.drops._asdict()
        lost = "api" if self._stats.exact else "agent"
        remarks = [] if self.exact else [f"the {lost} was lost: at least this was received and dropped"]
        for place in ("agent", "api", "client"):
            count = drops[place]
            if count != 0:
                remarks.append(f"{'unknown' if count is None else count} lost by the {place}")
        for count, why in (
            (self.duplicates, "left out as duplicates"),
            (self.unwanted, "came after the limit"),
            (self._stats.excluded, "excluded as traffic of captures"),
        ):
            if count:
                remarks.append(f"{count} {why}")
        return "; ".join(remarks)

    def settle(self, *, full: bool) -> None:
        """Account for the packets that are held back, because nothing more will be written.

        Args:
            full: Whether a limit of packets or bytes was reached.
        """
        self.over = True
        if full:
            self.unwanted += self.rest
        elif self.unwritten is not None:
            self.unwritten += self.rest

    def forgive(self) -> None:
        """Count unwritten packets as unwanted."""
        self.unwanted += self.unwritten or 0
        self.unwritten = 0

    @property
    def rest(self) -> int:
        """Packets that arrived and are not accounted for, because they are held back."""
        return self.received - self.written - self.duplicates - self.unwanted - (self.unwritten or 0)

    def _api(self) -> int:
        stats = self._stats
        sent = stats.delivered if stats.forwarded is None else stats.forwarded
        return max(0, sent - self.received)
