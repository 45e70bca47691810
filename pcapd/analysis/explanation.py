"""Derives findings from packets: reads files, follows conversations, and judges them."""

from __future__ import annotations

import heapq
import sys
from typing import Any, Callable, Dict, Final, Iterator, List, Optional, Sequence, Tuple

from pcapd.analysis.conversations import FOLLOWED, Conversation, ConversationTable
from pcapd.analysis.exchanges.log import Exchanges, Log
from pcapd.analysis.exchanges.requests import Group as RequestGroup
from pcapd.analysis.exchanges.requests import Sample, ShownRequest
from pcapd.analysis.findings.base import SEVERITIES, Group, Kind, Occurrence, Sort
from pcapd.analysis.findings.kinds import KINDS
from pcapd.analysis.findings.where import client_first, sorts
from pcapd.analysis.merging import in_order
from pcapd.analysis.quiet import quiet_bytes
from pcapd.analysis.world import Place, World
from pcapd.limits import (
    EXPLAIN_PACKETS_MAX,
    EXPLAIN_WINDOW,
    FINDINGS_MAX,
    IDLE_TIME,
    WORST_CONVERSATIONS,
)
from pcapd.merge import REMEMBERED, Matcher
from pcapd.savefile.blocks import FileInterface, FileStatistics
from pcapd.savefile.reader import Rows

__all__ = ["Explanation", "Worst"]

#: First of our packet numbers, above those in files.
_FIRST_NUMBER: Final = 1 << 62
#: Limit of conversations seen at one place only, which are judged when the other places are known.
_DEFERRED_MAX: Final = 2000
#: Limit of packets that are remembered until they are seen elsewhere.
_PACKETS: Final = min(REMEMBERED, EXPLAIN_PACKETS_MAX)
#: Number of conversations between two comparisons of the clocks, while a file is read.
_CLOCKS_EVERY: Final = 1000


class Worst:
    """A conversation for the report."""

    __slots__ = ("bytes", "conversation", "lost", "packets", "retransmissions", "rtt_us")

    def __init__(self, conversation: Conversation, lost: int) -> None:
        halves = [(view.client, view.server) for view in conversation.views]
        self.conversation = conversation
        self.packets = max(client.packets + server.packets for client, server in halves)
        self.bytes = max(client.bytes + server.bytes for client, server in halves)
        self.retransmissions = max(sum(half.retransmitted + half.late for half in both) for both in halves)
        self.lost = lost
        rtts = [half.rtt_sum_us // half.rtt_count for both in halves for half in both if half.rtt_count]
        self.rtt_us: Optional[int] = max(rtts) if rtts else None


class Explanation:
    """The analysis of files.

    Args:
        files: The names of the files.
        contents: Whether findings may quote contents of requests: query strings, hosts,
            and the beginning of failed responses.

    Attributes:
        contents: The argument.
        world: The places.
        groups: The findings, the worst first, when it is finished.
        worst: Conversations: those with the most losses, then the largest.
        slowest: Requests with their conversations, the slowest first.
        requests: Times by instance, method and path.
    """

    def __init__(self, files: Sequence[str], *, contents: bool = False) -> None:
        self.files = list(files)
        self.contents = contents
        self.world = World()
        self.groups: List[Group] = []
        self.slowest: List[Tuple[Conversation, ShownRequest]] = []
        self.requests: Dict[RequestGroup, Sample] = {}
        self.packets = 0
        self._kinds: List[Kind] = [kind() for kind in KINDS]
        self._by_sort = {sort: [kind for kind in self._kinds if kind.looks_at is sort] for sort in Sort}
        self._found: Dict[Tuple[Any, ...], Group] = {}
        self._left_out = 0
        self._worst: List[Tuple[Tuple[int, int, int], int, Worst]] = []
        self._deferred: List[Tuple[Conversation, Exchanges, bool]] = []
        self._ended = False
        self._closed = self._evicted = 0
        self._log = Log(self.world, contents=contents)
        self._matcher: Optional[Matcher] = None
        self._table = ConversationTable(
            FOLLOWED, _PACKETS, int(EXPLAIN_WINDOW * 1e6), int(IDLE_TIME * 1e6),
            self._close, self._log.payload, self._lost,
        )  # fmt: skip

    # --- files -----------------------------------------------------------------

    def place(self, file: int, interface: FileInterface) -> int:
        """The number of the place for an interface of a file.

        In a file written with ``--dedupe``, all interfaces are one place, because a response
        and its request may be recorded at different interfaces.
        """
        if interface.deduped:
            for known in self.world.places:
                if known.file == file and known.deduped:
                    known.joined(interface.addresses)
                    return known.number
        number = self._table.open_place(file)
        place = Place(number, self._name(file, interface.name), file, interface.addresses)
        place.known_offset = interface.clock_offset
        place.deduped = interface.deduped
        self.world.places.append(place)
        return number

    def _name(self, file: int, name: str) -> str:
        """A name that no other place has."""
        taken = {place.name for place in self.world.places}
        if name in taken and len(self.files) > 1:
            name = f"{self.files[file]}:{name}"
        number, plain = 2, name
        while name in taken:
            name, number = f"{plain} ({number})", number + 1
        return name

    def statistics(self, place: int, counters: FileStatistics) -> None:
        """Process the loss counters of a place in a file."""
        own = self.world.places[place]
        own.counted(counters.number, counters.dropped)
        own.until_us = max(own.until_us, counters.until_us)

    def read(self, files: Sequence[Iterator[Rows]], also: Optional[Callable[[bytes], None]] = None) -> None:
        """Read files whose interfaces have the numbers returned by `place`.

        Args:
            also: Called with the rows too.
        """
        for rows, parts in in_order(list(files)):
            if also is not None:
                also(rows)
            if len(self.world.places) > 1:
                if self._matcher is None:
                    self._matcher = Matcher(_FIRST_NUMBER, int(EXPLAIN_WINDOW * 1e6), _PACKETS)
                self._table.add(self._matcher.number(rows), parts)
            else:
                self._table.add(rows, parts)

    def finish(self) -> None:
        """Judge the remaining conversations, and sort the findings."""
        self._compare()
        self._ended = True
        self._table.close()
        for deferred in self._deferred:
            self._judge(*deferred)
        self.packets = self._table.packets
        self._limits()
        for kind in self._kinds:
            self._add(kind, kind.judge_capture(self.world))
        self.groups = sorted(
            self._found.values(), key=lambda one: (SEVERITIES.index(one.severity), -one.count, one.first_us)
        )
        self.requests = self._log.requests.groups or self._log.requests.inner_groups
        self.slowest.sort(key=lambda pair: -pair[1].duration_us)
        del self.slowest[WORST_CONVERSATIONS:]

    @property
    def worst(self) -> List[Worst]:
        """The conversations for the report."""
        return [one for _, _, one in sorted(self._worst, reverse=True)]

    @property
    def times(self) -> Tuple[int, int]:
        """The times of the first and the last packet in microseconds since the epoch; zeros if none."""
        used = [place for place in self.world.places if place.packets]
        if not used:
            return 0, 0
        return min(place.first_us for place in used), max(place.last_us for place in used)

    def summary(self, group: Group) -> str:
        """One sentence about a finding."""
        return group.kind.summary(group, self.world)

    # --- conversations ------------------------------------------------------------

    def _compare(self) -> None:
        for place, (packets, first, last) in zip(self.world.places, self._table.places()):
            place.packets, place.first_us, place.last_us = packets, first, max(last, place.until_us)
        if len(self.world.places) > 1:
            self.world.compare(self._table.clocks())

    def _lost(self, place: int, us: int, count: int) -> None:
        self.world.places[place].lost(us, count)

    def _close(self, packed: bytes, seen: List[bytes], pairs: List[Tuple[int, int, bytes]]) -> None:
        serial = int.from_bytes(packed[:8], sys.byteorder)
        exchanges = self._log.close(serial, packed[12:])
        if not self._ended and self._closed % _CLOCKS_EVERY == 0:
            self._compare()
        self._closed += 1
        early, self._evicted = self._table.evicted != self._evicted, self._table.evicted
        if not seen:
            return
        if pairs or len(self.world.places) == 1:
            size = quiet_bytes(packed, seen, pairs)
            nothing_said = not (
                exchanges.http or exchanges.requests or exchanges.tls or exchanges.dns or exchanges.icmp
            )
            full = len(self._worst) >= WORST_CONVERSATIONS
            if size >= 0 and nothing_said and full and (0, size) <= self._worst[0][0][:2]:
                return
        conversation = Conversation(packed, seen, pairs)
        if pairs:
            self.world.share(conversation.places, (conversation.client.address, conversation.server.address))
        if len(seen) == 1 and len(self.world.places) > 1 and len(self._deferred) < _DEFERRED_MAX:
            self._deferred.append((conversation, exchanges, early))
        else:
            self._judge(conversation, exchanges, early)

    def _judge(self, conversation: Conversation, exchanges: Exchanges, early: bool) -> None:
        """Add the findings of a conversation; `early`: it was closed although it may go on."""
        for sort in sorts(conversation, exchanges):
            for kind in self._by_sort[sort]:
                if early and kind.needs_the_end:
                    continue
                self._add(kind, kind.judge(conversation, exchanges, self.world))
        self._rank(conversation)
        if exchanges.requests is not None:
            self._requests(conversation, exchanges)

    def _rank(self, conversation: Conversation) -> None:
        view = conversation.views[0]
        client, server = view.client, view.server
        lost = _lost_between(conversation, self.world) if conversation.ways else 0
        trouble = lost + client.retransmitted + client.late + server.retransmitted + server.late
        rank = trouble, client.bytes + server.bytes, -conversation.key.serial
        if len(self._worst) >= WORST_CONVERSATIONS and rank <= self._worst[0][0]:
            return
        entry = rank, conversation.key.serial, Worst(conversation, lost)
        if len(self._worst) < WORST_CONVERSATIONS:
            heapq.heappush(self._worst, entry)
        else:
            heapq.heapreplace(self._worst, entry)

    def _requests(self, conversation: Conversation, exchanges: Exchanges) -> None:
        assert exchanges.requests is not None
        self.slowest += [(conversation, bad) for bad in exchanges.requests.slowest]
        if len(self.slowest) > 10 * WORST_CONVERSATIONS:
            self.slowest.sort(key=lambda pair: -pair[1].duration_us)
            del self.slowest[WORST_CONVERSATIONS:]

    def _add(self, kind: Kind, occurrences: Iterator[Occurrence]) -> None:
        for one in occurrences:
            ends: Tuple[Any, ...] = ()
            if one.conversation is not None:
                ends = one.conversation.client.address, one.conversation.server
            key = kind.name, ends, one.places, one.same
            group = self._found.get(key)
            if group is None:
                if len(self._found) >= FINDINGS_MAX:
                    self._left_out += 1
                    continue
                group = self._found[key] = Group(kind, one)
            group.add(one)

    def _limits(self) -> None:
        table, limits = self._table, self.world.limits
        for count, what in (
            (table.evicted, "conversations were evaluated early, because there were too many at a time"),
            (table.forgotten, "packets exceeded the matching memory and were not matched with other places"),
            (
                self._log.dropped,
                "conversations were not read to the end, because there were too many at a time",
            ),
            (table.beyond, "packets were seen at more places than a conversation can have"),
            (
                self._log.http2_lost,
                "HTTP/2 connections were not followed to their ends: packets are missing or cut, "
                "bytes are not valid, or there were too many at a time",
            ),
            (self._left_out, "occurrences were left out, because there are too many different findings"),
        ):
            if count:
                limits.append(f"{count} {what}.")


def _lost_between(conversation: Conversation, world: World) -> int:
    lost = 0
    for way in conversation.ways:
        forward = client_first(way, conversation, world)
        up, down = (way.up, way.down) if forward else (way.down, way.up)
        lost = max(lost, max(up.only_first, up.again_first) + max(down.only_second, down.again_second))
    return lost
