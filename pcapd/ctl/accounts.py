"""What happened to the packets of one source, from the kernel to the file.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from pcapd.records import Checked
from pcapd.wire import Counters, Source, Stats

__all__ = ["Account"]


@dataclass
class Account:
    """The books of one source.

    Attributes:
        interface: Number of its interface in the file.
        source: As the api described it.
        arrived: packets received here.
        arrived_bytes: bytes of these packets, without any headers of ours.
        written: packets handed to the file.
        late: of these, packets that stand behind a younger one of another source.
        final: The counters are the last ones.
    """

    interface: int
    source: Source
    arrived: int = 0
    arrived_bytes: int = 0
    written: int = 0
    late: int = 0
    first_us: Optional[int] = None
    last_us: Optional[int] = None
    final: bool = False
    stats: Stats = field(default=Stats(0, 0, 0, 0, 0))

    @property
    def name(self) -> str:
        """``instance:interface``, as in the file."""
        return f"{self.source.instance}:{self.source.interface}"

    def batch(self, checked: Checked) -> None:
        """A batch arrived."""
        self.arrived += checked.packets
        self.arrived_bytes += checked.captured_bytes
        if self.first_us is None or checked.earliest_us < self.first_us:
            self.first_us = checked.earliest_us
        if self.last_us is None or checked.latest_us > self.last_us:
            self.last_us = checked.latest_us

    def counters(self, stats: Stats) -> None:
        """The agent's counters arrived."""
        self.stats = stats
        self.final = self.final or stats.final

    def settle(self, counters: Counters) -> None:
        """END brought the final counters."""
        self.stats = Stats(
            counters.received,
            counters.dropped_kernel,
            counters.dropped_interface,
            counters.delivered,
            self.stats.captured_up_to_us,
            final=True,
        )
        self.final = True

    @property
    def dropped(self) -> int:
        """packets lost on the agent's machine."""
        return self.stats.dropped_kernel + self.stats.dropped_interface

    @property
    def lost(self) -> Optional[int]:
        """packets that the agent sent and that never came here; None while that is not known."""
        return max(0, self.stats.delivered - self.arrived) if self.final else None

    @property
    def complete(self) -> bool:
        """Every packet that the source saw came here, and that is known."""
        return self.lost == 0 and self.dropped == 0
