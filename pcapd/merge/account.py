"""Accounts for one source's packets: written, left out or lost.

Every packet that the kernel's filter accepted is counted in exactly one of these::

    received = written + duplicates + unwanted        in the file, or left out on purpose
             + kernel + agent + api + client          lost, by place

The interface drops packets before they reach the filter, so its drops are not part of these.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

from pcapd.merge._types import Gap
from pcapd.wire import Source, Stats

__all__ = ["Account", "Drops", "Known"]


#: microseconds since the epoch; earlier than the time of any packet.
_EVER = -1


class Known(NamedTuple):
    """Like `Drops`, with lower bounds instead of unknown numbers."""

    interface: int
    kernel: int
    agent: int
    api: int
    client: int


class Drops(NamedTuple):
    """Numbers of lost packets of one source, by the place of the loss.  None: unknown.

    Attributes:
        interface: Dropped by the network interface before the filter; not included in `received`.
        kernel: Dropped by the kernel because its ring buffer was full.
        agent: Left in the ring or the agent when the capture was forced to end, or lost
            between agent and api.
        api: Reached the api, but not this program.
        client: Reached this program and were wanted, but were not written to the file.
    """

    interface: Optional[int]
    kernel: Optional[int]
    agent: Optional[int]
    api: Optional[int]
    client: Optional[int]


class Account:
    """The account of one source's packets.

    Args:
        source: The source.
        interface: Number of the source's interface in the file.
        opened_us: Microseconds since the epoch when the source was opened.
        shift_us: Microseconds to add to the source's timestamps to convert them to the api's clock.

    Attributes:
        source: The source.
        interface: Number of the source's interface in the file.
        received: Number of packets that arrived at this program.
        bytes: Size of their records in bytes.
        written: Number of packets in the file.
        late: How many of these were written after a newer one.
        duplicates: Number of packets left out because another source captured them before.
        unwanted: Number of packets left out because the limit of packets or bytes was reached.
        unwritten: Number of packets that arrived and were wanted, but are not in the file; None
            if it is known only as a total of several sources.
        over: Whether no more packets or counters will arrive.
        newest_us: The latest timestamp of a packet that arrived at this program.
        noted: What a statistics block says about the source besides its counters.
        reported: Number of drops by interface and kernel that packets in the file report as
            epb_dropcount.
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
        self.noted = ""
        self._noticed = 0
        self._counted_us = _EVER
        self.opened_us = opened_us
        self.last_us = opened_us
        self.newest_us = _EVER

    @property
    def name(self) -> str:
        """The source's name in the file: instance and interface."""
        return f"{self.source.instance}:{self.source.interface}"

    @property
    def over_ssh(self) -> bool:
        """Whether the source was captured over ssh, without agent and api."""
        return not self.source.agent

    @property
    def stats(self) -> Stats:
        """The agent's last counters."""
        return self._stats

    @stats.setter
    def stats(self, stats: Stats) -> None:
        self._stats = stats
        # Packets and counters arrive in the order in which they were sent.  So the number of
        # missing packets is exact now, but no longer when further packets have arrived.
        self._missing = self._api()

    def notice(self) -> Optional[Gap]:
        """The gap between the last two reports of counters; None if no packets were lost.

        The next packet after the gap reports it.  This is the first packet that is later than
        all packets that arrived before the last counters, and later than the previous counters.
        The packets were lost after the previous counters were read, so a packet with an earlier
        timestamp, such as one that was still in the ring, precedes the gap.
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
        """Number of drops by interface and kernel that no packet's epb_dropcount contains."""
        return self._noticed - self.reported

    @property
    def at_least(self) -> Stats:
        """Lower bounds of the counters: the agent's last ones, raised to what arrived here.

        If `exact` is true, they are complete.
        """
        return self._stats.seen(self.received)

    @property
    def exact(self) -> bool:
        """Whether the counters are complete: they are the agent's final ones, or more will follow."""
        return self._stats.exact and (self._stats.final or not self.over)

    @property
    def lost_in_transit(self) -> Optional[int]:
        """Number of packets that the agent sent and that did not arrive here; None if unknown."""
        stats = self._stats
        return max(0, stats.delivered - self.received) if stats.final and stats.exact else None

    @property
    def known(self) -> Known:
        """Lower bounds of the losses, by place: there may be more where `drops` has None."""
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
        """The numbers of lost packets, by place."""
        known, stats = self.known, self._stats
        current = stats.final or not self.over
        counted = stats.exact or stats.forwarded is not None
        return Drops(
            interface=known.interface if stats.counted else None,
            kernel=known.kernel if stats.counted else None,
            agent=known.agent if self.exact else None,
            api=known.api if current and counted else None,
            client=self.unwritten,
        )

    @property
    def traced(self) -> bool:
        """Whether the place of every loss is known."""
        drops = self.drops
        return None not in (drops.interface, drops.kernel, drops.agent, drops.api)

    @property
    def losses(self) -> List[Tuple[Optional[int], str]]:
        """The numbers of packets lost after the kernel, with the place as text; None if unknown."""
        _, _, agent, api, client = self.drops
        way = [(_sum(agent, api), "on the way")]
        places = way if self.over_ssh else [(agent, "by the agent"), (api, "by the api")]
        return [*places, (client, "by the client")]

    @property
    def remarks(self) -> str:
        """A readable text with the counts for which a statistics block has no option."""
        lost = "the api" if self._stats.exact else "the agent"
        lost = "the connection" if self.over_ssh else lost
        remarks = [self.noted] if self.noted else []
        remarks += [] if self.exact else [f"{lost} was lost: at least this was received and dropped"]
        remarks += [] if self._stats.counted else ["what was dropped was not counted"]
        remarks += [f"{_known(count)} lost {where}" for count, where in self.losses if count != 0]
        for count, why in (
            (self.duplicates, "left out as duplicates"),
            (self.unwanted, "came after the limit"),
            (self._stats.excluded, "excluded as traffic of captures"),
        ):
            if count:
                remarks.append(f"{count} {why}")
        return "; ".join(remarks)

    def settle(self, *, full: bool) -> None:
        """Account for the packets that are still held back.  Called when no more will be written.

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
        """Number of packets that arrived and are not yet accounted for, because they are held back."""
        return self.received - self.written - self.duplicates - self.unwanted - (self.unwritten or 0)

    def _api(self) -> int:
        stats = self._stats
        sent = stats.delivered if stats.forwarded is None else stats.forwarded
        return max(0, sent - self.received)


def _known(count: Optional[int]) -> str:
    return "unknown" if count is None else str(count)


def _sum(first: Optional[int], second: Optional[int]) -> Optional[int]:
    return None if first is None or second is None else first + second
