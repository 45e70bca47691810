"""The delays and losses of each flow between the places that saw its packets.

A file written with ``--packet-ids`` identifies the sightings of one packet; in other
files they are found here, in the same way.  Memory is bounded however long the files
are: flows, packets that wait for their next sighting, and delays have limits.
"""

from __future__ import annotations

import os
import statistics
from array import array
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from pcapd.limits import FLOW_DELAYS, FLOW_PAIRS_MAX, FLOWS_MAX, MATCH_WINDOW
from pcapd.merge import REMEMBERED
from pcapd.merge.matching import new_matcher
from pcapd.packet.flow import FlowKey
from pcapd.savefile.blocks import FileInterface

try:
    if os.environ.get("PCAPD_PURE"):
        raise ImportError("PCAPD_PURE asks for the reference")
    from pcapd.analysis._native import FlowTable, merge_rows
except ImportError:
    from pcapd.analysis._reference import FlowTable, merge_rows  # type: ignore[assignment]

__all__ = ["Flows", "Hop", "merge_rows"]

#: First of our packet numbers, above those that pcapctl writes into files.
_FIRST_NUMBER = 1 << 62


class Hop(NamedTuple):
    """A flow between one place and another.

    Attributes:
        flow: One direction of a conversation.
        a: The first place: the one with the source's address, else the earlier one.
        b: The next place; empty if there is none.
        seen_a: Packets seen at a.
        seen_b: Packets seen at b.
        both: Packets seen at both.
        delays_us: Minimum, median and maximum delay; None without b.
            Negative if the clock of b is behind that of a.
    """

    flow: FlowKey
    a: str
    b: str
    seen_a: int
    seen_b: int
    both: int
    delays_us: Optional[Tuple[int, int, int]]

    @property
    def lost(self) -> Optional[int]:
        """Packets seen only at a; None without b."""
        return self.seen_a - self.both if self.b else None


class _Delays(NamedTuple):
    """The delays between two places; see `pcapd.analysis._reference.Flow`."""

    both: int
    least: int
    greatest: int
    sample: bytes

    def ordered(self, *, turned: bool) -> Tuple[int, int, int]:
        """Minimum, median and maximum; `turned` reverses the direction."""
        sample = array("q")
        sample.frombytes(self.sample)
        delays = (self.least, int(statistics.median(sample)), self.greatest)
        return (-delays[2], -delays[1], -delays[0]) if turned else delays


class Flows:
    """Counts the packets of files, which are approximately in time order."""

    def __init__(self) -> None:
        self._table = FlowTable(
            FLOWS_MAX, FLOW_PAIRS_MAX, FLOW_DELAYS, REMEMBERED, int(MATCH_WINDOW * 1_000_000)
        )
        self._matcher = new_matcher(_FIRST_NUMBER)
        self._places: Dict[str, int] = {}
        self._names: List[str] = []  # by place
        self._addresses: List[Tuple[bytes, ...]] = []

    @property
    def packets(self) -> int:
        """Number of all packets."""
        return self._table.packets

    @property
    def others(self) -> int:
        """Number of packets that are not IP."""
        return self._table.others

    @property
    def beyond(self) -> int:
        """Number of packets of flows beyond the limit."""
        return self._table.beyond

    @property
    def forgotten(self) -> int:
        """Number of packets that were forgotten early, because the memory was full."""
        return self._table.forgotten

    def place(self, interface: FileInterface) -> int:
        """The number of the place for an interface."""
        place = self._places.setdefault(interface.name, len(self._places))
        if place == len(self._names):
            self._names.append(interface.name)
            self._addresses.append(interface.addresses)
        return place

    def add(self, rows: bytes) -> None:
        """Count packets; see `pcapd.packet.row`."""
        self._table.add(self._matcher.number(rows))

    def read(self, files: Sequence[Iterator[bytes]]) -> None:
        """Count the packets of several files as one capture.

        Args:
            files: Rows of each file, in its order, with the numbers of `place` as ``interface``.
        """
        for rows in _in_order(list(files)):
            self.add(rows)

    def hops(self) -> Iterator[Hop]:
        """Every flow between any two places that saw the same packets, the largest flows first.

        A place whose packets were seen nowhere else has a hop without b.
        """
        names = self._names
        for flow in sorted(self._table.flows(), key=lambda flow: -sum(flow[4].values())):
            key, seen, delays = FlowKey(*flow[:4]), flow[4], flow[5]
            shared = {place for pair in delays for place in pair}
            for place, count in seen.items():
                if place not in shared:
                    yield Hop(key, names[place], "", count, 0, 0, None)
            for (first, second), between in sorted(delays.items()):
                yield self._hop(key, seen, first, second, _Delays(*between))

    def _hop(self, key: FlowKey, seen: Dict[int, int], first: int, second: int, delays: _Delays) -> Hop:
        if key.source in self._addresses[first] or key.source in self._addresses[second]:
            turned = key.source not in self._addresses[first]
        else:
            turned = delays.ordered(turned=False)[1] < 0
        a, b = (second, first) if turned else (first, second)
        names = self._names
        between = delays.ordered(turned=turned)
        return Hop(key, names[a], names[b], seen[a], seen[b], delays.both, between)


def _in_order(files: List[Iterator[bytes]]) -> Iterator[bytes]:
    """The rows of all files in time order; a single file keeps its order."""
    if len(files) == 1:
        yield from files[0]
        return
    parts = [b""] * len(files)
    while True:
        for index, part in enumerate(parts):
            if not part:
                parts[index] = next(files[index], b"")
        if not any(parts):
            return
        merged, used = merge_rows(parts)
        parts = [part[end:] for part, end in zip(parts, used)]
        yield merged
