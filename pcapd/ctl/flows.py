"""``pcapctl flows``: per flow, where its packets were seen, how long between, and what was lost.

A file that was written with ``--packet-ids`` says which packets are the same; in
any other they are found here, in the same way.  Memory is bounded however long
the files are: flows, packets that wait for their other end, and delays have limits.
"""

from __future__ import annotations

import heapq
import ipaddress
import statistics
import sys
from array import array
from collections import deque
from pathlib import Path
from typing import Any, Deque, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from pcapd.ctl.text import escape
from pcapd.errors import PcapdError
from pcapd.limits import FLOW_DELAYS, FLOW_PAIRS_MAX, FLOWS_MAX, MATCH_PACKETS_MAX, MATCH_WINDOW
from pcapd.savefile.matching import Matcher
from pcapd.savefile.network import FlowKey, flow_key, unchanging
from pcapd.savefile.reader import BadFile, FilePacket, read_file

__all__ = ["Flows", "Hop", "as_event", "as_line", "read"]

_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}


class Hop(NamedTuple):
    """A flow's way from one place to another.

    Attributes:
        flow: One direction of a conversation.
        a: Where it was seen first: the end that has the source's address, else the earlier one.
        b: Where it was seen next; empty when nowhere else.
        seen_a: Packets.
        seen_b: Packets.
        both: Packets that were seen at both.
        delays_us: Least, median and greatest time between; None without b.
            Negative when the clock of b is behind that of a.
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
        """Packets seen at a only; None when there is no b, so that nobody knows."""
        return self.seen_a - self.both if self.b else None


class _Delays:
    """Between two places, the second's time less the first's."""

    def __init__(self) -> None:
        self.count = 0
        self._least = self._greatest = 0
        self._sample = array("q")
        self._stride = 1

    def add(self, us: int) -> None:
        self._least = min(self._least, us) if self.count else us
        self._greatest = max(self._greatest, us) if self.count else us
        if self.count % self._stride == 0:
            if len(self._sample) == FLOW_DELAYS:
                self._sample = self._sample[::2]
                self._stride *= 2
            if self.count % self._stride == 0:
                self._sample.append(us)
        self.count += 1

    def ordered(self, *, turned: bool) -> Tuple[int, int, int]:
        median = int(statistics.median(self._sample))
        return (-self._greatest, -median, -self._least) if turned else (self._least, median, self._greatest)


class _Flow:
    def __init__(self) -> None:
        self.seen: Dict[int, int] = {}
        self.delays: Dict[Tuple[int, int], _Delays] = {}


class _Waiting:
    """Where a packet was seen so far."""

    def __init__(self, number: int, flow: _Flow, us: int) -> None:
        self.number = number
        self.flow = flow
        self.us = us
        self.seen: Dict[int, int] = {}


class Flows:
    """Counts packets, which come in the order of their times, more or less."""

    def __init__(self) -> None:
        self._flows: Dict[FlowKey, _Flow] = {}
        self._places: Dict[str, int] = {}
        self._names: List[str] = []  # by place
        self._addresses: List[Tuple[bytes, ...]] = []
        self._matcher = Matcher()
        self._waiting: Dict[int, _Waiting] = {}
        self._ages: Deque[_Waiting] = deque()
        self._newest_us = self._pairs = 0
        self._window_us = int(MATCH_WINDOW * 1_000_000)
        #: Packets of all kinds; those that are no IP; those of flows beyond the limit.
        self.packets = self.others = self.beyond = 0
        #: Packets that were given up before their time and their other end, for want of room.
        self.forgotten = 0

    def add(self, packet: FilePacket) -> None:
        """Count one packet."""
        self.packets += 1
        content = unchanging(packet.interface.link_type, packet.data) or b""
        key = flow_key(content)
        if key is None:
            self.others += 1
            return
        flow = self._flows.get(key)
        if flow is None:
            if len(self._flows) >= FLOWS_MAX:
                self.beyond += 1
                return
            flow = self._flows[key] = _Flow()
        place = self._place(packet)
        flow.seen[place] = flow.seen.get(place, 0) + 1
        number = packet.packet_id
        if number is None:
            # Its own numbers are below 0, so that none of a file's is among them.
            number = -self._matcher.see(place, packet.us, content).number
        self._sighted(number, flow, place, packet.us)

    def hops(self) -> Iterator[Hop]:
        """Every flow between any two places that saw the same packets, the largest flows first.

        A place none of whose packets was seen elsewhere stands alone.
        """
        names = self._names
        order = sorted(self._flows.items(), key=lambda item: -sum(item[1].seen.values()))
        for key, flow in order:
            shared = {place for pair in flow.delays for place in pair}
            for place, count in flow.seen.items():
                if place not in shared:
                    yield Hop(key, names[place], "", count, 0, 0, None)
            for (first, second), delays in sorted(flow.delays.items()):
                yield self._hop(key, flow, first, second, delays)

    def _hop(self, key: FlowKey, flow: _Flow, first: int, second: int, delays: _Delays) -> Hop:
        if key.source in self._addresses[first] or key.source in self._addresses[second]:
            turned = key.source not in self._addresses[first]
        else:
            turned = delays.ordered(turned=False)[1] < 0
        a, b = (second, first) if turned else (first, second)
        names = self._names
        between = delays.ordered(turned=turned)
        return Hop(key, names[a], names[b], flow.seen[a], flow.seen[b], delays.count, between)

    def _place(self, packet: FilePacket) -> int:
        place = self._places.setdefault(packet.interface.name, len(self._places))
        if place == len(self._addresses):
            self._names.append(packet.interface.name)
            self._addresses.append(packet.interface.addresses)
        return place

    def _sighted(self, number: int, flow: _Flow, place: int, us: int) -> None:
        self._newest_us = max(self._newest_us, us)
        oldest = self._newest_us - self._window_us
        while self._ages and (self._ages[0].us < oldest or len(self._ages) >= MATCH_PACKETS_MAX):
            gone = self._ages.popleft()
            self.forgotten += gone.us >= oldest and len(gone.seen) == 1
            del self._waiting[gone.number]
        waiting = self._waiting.get(number)
        if waiting is None:
            waiting = self._waiting[number] = _Waiting(number, flow, us)
            self._ages.append(waiting)
        elif waiting.flow is not flow or place in waiting.seen or abs(us - waiting.us) > self._window_us:
            return  # a file that gives one number to several packets
        for other, before in waiting.seen.items():
            pair, delay = ((other, place), us - before) if other < place else ((place, other), before - us)
            delays = flow.delays.get(pair)
            if delays is None:
                if self._pairs >= FLOW_PAIRS_MAX:
                    self.beyond += 1
                    continue
                self._pairs += 1
                delays = flow.delays[pair] = _Delays()
            delays.add(delay)
        waiting.seen[place] = us


def read(names: Sequence[str]) -> Flows:
    """Read files (``-`` is standard input) as one capture.

    Raises:
        PcapdError: One of them cannot be read, or is no pcapng file.
    """
    flows = Flows()
    for packet in heapq.merge(*map(_packets, names), key=lambda packet: packet.us):
        flows.add(packet)
    return flows


def _packets(name: str) -> Iterator[FilePacket]:
    try:
        if name == "-":
            yield from read_file(sys.stdin.buffer)
        else:
            with Path(name).open("rb") as file:
                yield from read_file(file)
    except OSError as error:
        raise PcapdError(f"cannot read {name}: {error.strerror}") from error
    except BadFile as error:
        raise PcapdError(f"{name}: {error.message}", error.hint) from error


def as_line(hop: Hop) -> str:
    """For people; nothing in it can drive a terminal."""
    source, destination, protocol = _ends(hop.flow)
    words = f"{source} > {destination} {protocol}: {hop.a} {hop.seen_a}"
    if hop.delays_us is None:
        return escape(f"{words}, seen nowhere else")
    words += f" -> {hop.b} {hop.seen_b}"
    least, median, greatest = (f"{delay / 1000:.3f}" for delay in hop.delays_us)
    words += f", delay {least}/{median}/{greatest} ms, {hop.lost} lost"
    only = hop.seen_b - hop.both
    return escape(f"{words}, {only} only there" if only else words)


def as_event(hop: Hop) -> Dict[str, Any]:
    """For scripts."""
    source, destination, protocol = _ends(hop.flow)
    names = ("min", "median", "max")
    return {
        "from": source,
        "to": destination,
        "protocol": protocol,
        "a": {"source": hop.a, "packets": hop.seen_a},
        "b": {"source": hop.b, "packets": hop.seen_b} if hop.b else None,
        "both": hop.both,
        "delay_us": dict(zip(names, hop.delays_us)) if hop.delays_us is not None else None,
        "lost": hop.lost,
    }


def _ends(key: FlowKey) -> Tuple[str, str, str]:
    ends = []
    for index, packed in enumerate((key.source, key.destination)):
        address = str(ipaddress.ip_address(packed))
        if key.ports is not None:
            address = f"[{address}]:{key.ports[index]}" if ":" in address else f"{address}:{key.ports[index]}"
        ends.append(address)
    return ends[0], ends[1], _PROTOCOLS.get(key.protocol, f"protocol {key.protocol}")
