"""The open sources of one capture, numbered in the order of opening, and their counters."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from pcapd.api.capture.agentlink import AgentLink
from pcapd.api.metrics import Metrics
from pcapd.limits import INTERFACES_MAX, SOURCES_MAX
from pcapd.wire import Counters, Source, Stats

__all__ = ["OpenSource", "Sources"]


@dataclasses.dataclass
class OpenSource:
    """One source, and the counters of its packets.

    Attributes:
        number: The number of the source in this capture, from 1 on.
        stats: The last counters that its agent sent.
        packets: Number of packets that the api received.
        dropped: Number of these that were not forwarded.
    """

    number: int
    link: AgentLink
    source: Source
    stats: Stats
    packets: int = 0
    dropped: int = 0

    def counters(self) -> Counters:
        """The counters of this source for END."""
        return dataclasses.replace(self.stats, forwarded=self.packets).counters(self.number)

    def record(self) -> dict[str, Any]:
        """The fields of this source for the audit record."""
        stats = self.stats
        return {
            "source": f"{self.source.instance}:{self.source.interface}",
            "received": stats.received,
            "dropped_kernel": stats.dropped_kernel,
            "dropped_interface": stats.dropped_interface,
            "dropped_agent": stats.dropped_agent,
            "dropped_api": self.dropped,
            "delivered": stats.delivered,
            "forwarded": self.packets,
            "exact": stats.exact and stats.final,
        }


class Sources:
    """See the module.

    Args:
        metrics: The counters for Prometheus, which are increased too.
        seconds: The reactor's clock; the capture begins now.

    Attributes:
        bytes: Total size of the records that the api received.
    """

    def __init__(self, metrics: Metrics, seconds: Callable[[], float]) -> None:
        self._metrics = metrics
        self._seconds = seconds
        self._began = seconds()
        self._found: dict[tuple[AgentLink, int], OpenSource] = {}
        self._opened_by: Counter[AgentLink] = Counter()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[OpenSource]:
        return iter(self._found.values())

    def __getitem__(self, key: tuple[AgentLink, int]) -> OpenSource:
        return self._found[key]

    def of(self, link: AgentLink) -> list[OpenSource]:
        """The sources of one agent."""
        return [opened for opened in self if opened.link is link]

    def full(self, link: AgentLink) -> bool:
        """Whether one agent, or all agents together, have the largest allowed number of sources."""
        return self._opened_by[link] >= INTERFACES_MAX or len(self) >= SOURCES_MAX

    @property
    def room(self) -> bool:
        """Whether there is room for the sources of one more agent."""
        return len(self) + INTERFACES_MAX <= SOURCES_MAX

    def open(self, link: AgentLink, number: int, source: Source) -> OpenSource:
        """Add a source.

        Args:
            number: The number that the agent gave to the source.
            source: The description that is sent to the client.
        """
        opened = OpenSource(len(self) + 1, link, source, Stats(0, 0, 0, 0, 0))
        self._opened_by[link] += 1
        self._found[link, number] = opened
        return opened

    def received(self, opened: OpenSource, packets: int, size: int) -> None:
        """Count received packets, and the bytes of their records."""
        if not self.bytes:
            self._metrics.first_packet.observe(self._seconds() - self._began)
        opened.packets += packets
        self.bytes += size
        self._metrics.packets.inc(packets)
        self._metrics.bytes.inc(size)

    def lost(self, opened: OpenSource, packets: int) -> None:
        """Count received packets that are not forwarded."""
        opened.dropped += packets
        self._metrics.dropped.labels("api").inc(packets)

    def report(self, opened: OpenSource, stats: Stats) -> Stats:
        """Store an agent's counters, and return them with the number of forwarded packets."""
        before = opened.stats
        for place, now, then in (
            ("interface", stats.dropped_interface, before.dropped_interface),
            ("kernel", stats.dropped_kernel, before.dropped_kernel),
            ("agent", stats.dropped_agent, before.dropped_agent),
        ):
            self._metrics.dropped.labels(place).inc(max(0, now - then))
        # From this number the client computes how many packets the api lost.
        opened.stats = dataclasses.replace(stats, forwarded=opened.packets)
        return opened.stats

    def end(self, link: AgentLink) -> Iterator[OpenSource]:
        """End and yield the sources of a lost agent that did not send their final counters."""
        for opened in self.of(link):
            if not opened.stats.final:
                # Final, so that a merge in time order does not wait for this source.
                opened.stats = dataclasses.replace(
                    opened.stats.seen(opened.packets), final=True, exact=False, forwarded=opened.packets
                )
                yield opened

    def close(self) -> None:
        """Raise each source's counter of captured packets to at least those received by the api."""
        for opened in self:
            opened.stats = opened.stats.seen(opened.packets)
