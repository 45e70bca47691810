"""What became of one source's packets: where each of them went.

Every packet that the kernel's filter let through is in exactly one of these::

    received = written + duplicates + unwanted        in the file, or left out on purpose
             + kernel + agent + api + client          lost, by place

The interface loses packets before the filter, so its drops come on top.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from pcapd.merge._types import Gap
from pcapd.wire import Source, Stats

__all__ = ["Account", "Drops", "Known"]


#: microseconds; before the time of any packet.
_EVER = -1


class Known(NamedTuple):
    """As `Drops`, but what is known of them."""

    interface: int
    kernel: int
    agent: int
    api: int
    client: int


class Drops(NamedTuple):
    """Packets of one source that were lost, by place.  None: nobody knows.

    Attributes:
        interface: By the network interface, before the filter; not among those received.
        kernel: Because the ring was full.
        agent: In the ring or the agent when it had to end, or between agent and api.
        api: Came to the api and not here.
        client: Came here and are not in the file, although they were to be.
    """

    interface: int
    kernel: int
    agent: Optional[int]
    api: Optional[int]
    client: Optional[int]


class Account:
    """What became of one source's packets.

    Args:
        source: What it is.
        interface: Its number in the file.
        opened_us: Microseconds since the epoch when it was opened.

    Attributes:
        source: What it is.
        interface: Its number in the file.
        received: Packets that came here.
        bytes: Bytes of their records.
        written: Packets in the file.
        late: Of these, written after a newer one.
        duplicates: Left out, because another source saw them before.
        unwanted: Left out, because they came after the limit of packets or bytes.
        unwritten: Came here and were to be in the file, and are not; None: it is only
            known for several sources together.
        over: Nothing more will come.
        newest_us: The latest time of a packet that came here.
        told: Drops of interface and kernel that packets in the file tell (epb_dropcount).
    """

    def __init__(self, source: Source, interface: int, opened_us: int) -> None:
        self.source = source
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
        self.told = 0
        self._noticed = 0
        self._counted_us = _EVER
        self.opened_us = opened_us
        self.last_us = opened_us
        self.newest_us = _EVER

    @property
    def name(self) -> str:
        """As in the file: instance and interface."""
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
        """What the last counters say was lost since the ones before, to tell it with the next packet.

        That is the first one later than all that came before these counters.  It was lost
        after the counters before were read, so a packet of an earlier time, such as one
        that was still in the ring, is not the next one either.
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
        """Of the drops of interface and kernel those that no packet's epb_dropcount tells."""
        return self._noticed - self.told

    @property
    def at_least(self) -> Stats:
        """What is known of the counters: the agent's last ones, or more where more came here.

        They are final and complete where `exact` is true.
        """
        return self._stats.seen(self.received)

    @property
    def exact(self) -> bool:
        """The counters tell all of it: the agent has said its last word, or still speaks."""
        return self._stats.exact and (self._stats.final or not self.over)

    @property
    def lost_in_transit(self) -> Optional[int]:
        """Packets that the agent sent and that did not come here; None while or where nobody knows."""
        stats = self._stats
        return max(0, stats.delivered - self.received) if stats.final and stats.exact else None

    @property
    def known(self) -> Known:
        """What is known to be lost, by place: there may be more where `drops` has None."""
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
        """What was lost, by place."""
        known, stats = self.known, self._stats
        told = stats.final or not self.over
        counted = stats.exact or stats.forwarded is not None
        return Drops(
            interface=known.interface,
            kernel=known.kernel,
            agent=known.agent if self.exact else None,
            api=known.api if told and counted else None,
            client=self.unwritten,
        )

    @property
    def traced(self) -> bool:
        """It is known where each packet went that did not come here."""
        return self.drops.agent is not None and self.drops.api is not None

    @property
    def remarks(self) -> str:
        """What the counters of a statistics block have no place for, in words for people."""
        drops = self.drops._asdict()
        lost = "api" if self._stats.exact else "agent"
        words = [] if self.exact else [f"the {lost} was lost: what was received and dropped is at least this"]
        for place in ("agent", "api", "client"):
            count = drops[place]
            if count != 0:
                words.append(f"{'unknown' if count is None else count} lost by the {place}")
        for count, why in (
            (self.duplicates, "left out as duplicates"),
            (self.unwanted, "came after the limit"),
            (self._stats.excluded, "excluded as traffic of captures"),
        ):
            if count:
                words.append(f"{count} {why}")
        return "; ".join(words)

    def settle(self, *, full: bool) -> None:
        """Nothing more will be written: what came and is not in the file has its reason now.

        Args:
            full: A limit of packets or bytes was reached.
        """
        self.over = True
        if full:
            self.unwanted += self.rest
        elif self.unwritten is not None:
            self.unwritten += self.rest

    def forgive(self) -> None:
        """Nobody wants what is not written."""
        self.unwanted += self.unwritten or 0
        self.unwritten = 0

    @property
    def rest(self) -> int:
        """Packets that came here and are not accounted for, because they are held back."""
        return self.received - self.written - self.duplicates - self.unwanted - (self.unwritten or 0)

    def _api(self) -> int:
        stats = self._stats
        sent = stats.delivered if stats.forwarded is None else stats.forwarded
        return max(0, sent - self.received)
