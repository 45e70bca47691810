"""The compiled part of `pcapd.analysis` in plain Python; ``_native.c`` is faster."""

from __future__ import annotations

import heapq
import itertools
from array import array
from collections import deque
from typing import TYPE_CHECKING, Deque, Dict, Final, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from pcapd.packet.row import FLOWS, ROW_SIZE, Has, flow_of, rows_of
from pcapd.records._reference import as_bytes, number

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["FlowTable", "merge_rows"]

_I32: Final = 0x7FFF_FFFF
_U32: Final = 0xFFFF_FFFF
_I64: Final = 0x7FFF_FFFF_FFFF_FFFF
_US_MAX: Final = _I64 // 4
_IP, _PORTS, _NUMBER = int(Has.IP), int(Has.PORTS), int(Has.NUMBER)


class Flow(NamedTuple):
    """One direction of a conversation, and where it was seen.

    Attributes:
        source, destination, protocol, ports: See `pcapd.packet.flow.FlowKey`.
        seen: Number of packets by place.
        delays: For two places, the lower number first: the number of packets seen at both, the
            minimum and maximum of the time at the second minus that at the first, and a sample
            of these differences (i64 each), all in microseconds.
    """

    source: bytes
    destination: bytes
    protocol: int
    ports: Optional[Tuple[int, int]]
    seen: Dict[int, int]
    delays: Dict[Tuple[int, int], Tuple[int, int, int, bytes]]


class _Delays:
    """The delays between two places: the second's time minus the first's."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = 0
        self.least = self.greatest = 0
        self.sample = array("q")
        self._stride = 1

    def add(self, us: int) -> None:
        self.least = min(self.least, us) if self.count else us
        self.greatest = max(self.greatest, us) if self.count else us
        if self.count % self._stride == 0:
            if len(self.sample) == self._most:
                self.sample = self.sample[::2]
                self._stride *= 2
            if self.count % self._stride == 0:
                self.sample.append(us)
        self.count += 1


class _Flow:
    __slots__ = ("delays", "seen")

    def __init__(self) -> None:
        self.seen: Dict[int, int] = {}
        self.delays: Dict[Tuple[int, int], _Delays] = {}


class _Waiting:
    """The sightings of a packet so far."""

    __slots__ = ("flow", "number", "seen", "us")

    def __init__(self, number: int, flow: _Flow, us: int) -> None:
        self.number = number
        self.flow = flow
        self.us = us
        self.seen: List[Tuple[int, int]] = []


class FlowTable:
    """Counts packets, which arrive approximately in time order.

    Args:
        flows: Limit of separate flows.
        pairs: Limit of pairs of places, of all flows together.
        delays: Limit of delays kept for a flow between two places; beyond it, a sample.
        waiting: Limit of packets that are remembered until they are seen elsewhere.
        window_us: Microseconds for which they are remembered.

    Attributes:
        packets: Number of all packets.
        others: Number of packets that are not IP.
        beyond: Number of packets of flows and pairs beyond the limits.
        forgotten: Number of packets that were forgotten early, because the memory was full.
    """

    def __init__(self, flows: int, pairs: int, delays: int, waiting: int, window_us: int) -> None:
        self._flows_max = number("flows", flows, 1, _I32)
        self._pairs_max = number("pairs", pairs, 1, _I32)
        self._delays_max = number("delays", delays, 1, _I32)
        self._waiting_max = number("waiting", waiting, 1, _U32)
        self._window_us = number("window_us", window_us, 0, _US_MAX)
        self._flows: Dict[Tuple[bytes, int], _Flow] = {}
        self._waiting: Dict[int, _Waiting] = {}
        self._ages: Deque[_Waiting] = deque()
        self._newest_us = self._pairs = 0
        self.packets = self.others = self.beyond = self.forgotten = 0

    def add(self, rows: Buffer) -> None:
        """Count packets, each as seen at the place ``interface``.

        Args:
            rows: See `pcapd.packet.row`.  The same packet has the same number at all places.

        Raises:
            ValueError: The bytes are not whole rows, or a time is out of range.
        """
        content = as_bytes(rows)
        if len(content) % ROW_SIZE:
            raise ValueError(f"{len(content)} bytes are not whole rows")
        for us, place, has, fields, packet_number in FLOWS.iter_unpack(content):
            if not -_US_MAX <= us <= _US_MAX:
                raise ValueError("a row's time is out of range")
            self.packets += 1
            flow = self._flow(fields, has) if has & _IP else None
            if flow is not None:
                flow.seen[place] = flow.seen.get(place, 0) + 1
                if has & _NUMBER:
                    self._see(packet_number, flow, place, us)
            elif not has & _IP:
                self.others += 1

    def flows(self) -> List[Flow]:
        """All flows, in the order in which they were first seen."""
        return [
            Flow(
                *flow_of(*key),
                flow.seen,
                {
                    pair: (delays.count, delays.least, delays.greatest, delays.sample.tobytes())
                    for pair, delays in flow.delays.items()
                },
            )
            for key, flow in self._flows.items()
        ]

    def _flow(self, fields: bytes, has: int) -> Optional[_Flow]:
        """The flow of a row; None if there are too many."""
        key = fields, has & _PORTS
        flow = self._flows.get(key)
        if flow is None:
            if len(self._flows) >= self._flows_max:
                self.beyond += 1
                return None
            flow = self._flows[key] = _Flow()
        return flow

    def _see(self, number: int, flow: _Flow, place: int, us: int) -> None:
        self._newest_us = max(self._newest_us, us)
        if self._ages:
            self._forget()
        waiting = self._waiting.get(number)
        if waiting is None:
            waiting = self._waiting[number] = _Waiting(number, flow, us)
            self._ages.append(waiting)
        elif waiting.flow is not flow or abs(us - waiting.us) > self._window_us:
            return  # the file has one number for several packets
        for other, _ in waiting.seen:
            if other == place:
                return
        for other, before in waiting.seen:
            pair, delay = ((other, place), us - before) if other < place else ((place, other), before - us)
            delays = flow.delays.get(pair)
            if delays is None:
                if self._pairs >= self._pairs_max:
                    self.beyond += 1
                    continue
                self._pairs += 1
                delays = flow.delays[pair] = _Delays(self._delays_max)
            delays.add(delay)
        waiting.seen.append((place, us))

    def _forget(self) -> None:
        oldest = self._newest_us - self._window_us
        while self._ages and (self._ages[0].us < oldest or len(self._ages) >= self._waiting_max):
            gone = self._ages.popleft()
            self.forgotten += gone.us >= oldest and len(gone.seen) == 1
            del self._waiting[gone.number]


def merge_rows(chunks: Sequence[Buffer]) -> Tuple[bytes, List[int]]:
    """Merge the rows of several files by time.

    Args:
        chunks: The next rows of each file, in its order; empty at the end of a file.

    Returns:
        The rows up to a time that all these files have reached, and the number of bytes
        used from each chunk.
    """
    times = [[row.us for row in rows_of(_whole(as_bytes(chunk)))] for chunk in chunks]
    until = min((max(own) for own in times if own), default=0)
    fronts = [
        [(us, chunk[ROW_SIZE * index : ROW_SIZE * (index + 1)]) for index, us in _front(own, until)]
        for own, chunk in zip(times, map(as_bytes, chunks))
    ]
    merged = heapq.merge(*fronts, key=lambda pair: pair[0])
    return b"".join(piece for _, piece in merged), [ROW_SIZE * len(front) for front in fronts]


def _whole(rows: bytes) -> bytes:
    return rows[: len(rows) - len(rows) % ROW_SIZE]


def _front(times: List[int], until: int) -> Iterator[Tuple[int, int]]:
    """Yield times and indices up to the first later time."""
    return itertools.takewhile(lambda pair: pair[1] <= until, enumerate(times))
