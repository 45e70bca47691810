"""Passes payloads to the readers, and keeps their results until a conversation is closed."""

from __future__ import annotations

import struct
from collections import OrderedDict, deque
from typing import Deque, Dict, Final, List, NamedTuple, Optional, Tuple, Union

from pcapd.analysis.exchanges import http as http_module
from pcapd.analysis.exchanges import tls as tls_module
from pcapd.analysis.exchanges.dns import Dns
from pcapd.analysis.exchanges.http import Http
from pcapd.analysis.exchanges.http2 import Followed, Http2, is_preface, is_settings
from pcapd.analysis.exchanges.request import Request
from pcapd.analysis.exchanges.requests import AllRequests, RequestTotals
from pcapd.analysis.exchanges.streams import NEVER, Piece, Room, Stream
from pcapd.analysis.exchanges.tls import Tls
from pcapd.analysis.world import World
from pcapd.limits import EXCHANGE_BYTES, EXCHANGES_MAX, HTTP2_BYTES
from pcapd.packet.dns import read_message

__all__ = ["Exchanges", "Icmp", "Log"]

_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58
#: Number of packets of a direction in which a start is searched: a capture may start within a message.
_TRIES: Final = 4
#: Limit of conversations in which a start is searched; the oldest begin anew.
_STARTS_MAX: Final = 4096
#: Limit of packets of a direction that wait for its first one, which was lost and comes again.
_EARLY_MAX: Final = 64
#: Number of old conversations that are looked at to find one whose content can be forgotten.
_OLD_TRIED: Final = 4
#: Limit of requests that wait for the views of the other places.
_PENDING_MAX: Final = 4096
#: Limit of ICMP errors that are kept; one conversation has few.
_ICMP_MAX: Final = 10_000
_PORTS: Final = struct.Struct("!HH")
_ENDS: Final = struct.Struct("=BBHH16s16s")


class Icmp(NamedTuple):
    """An ICMP error (RFC 792, RFC 4443) about a packet of a conversation."""

    place: int
    us: int
    frame: int
    type: int
    code: int
    mtu: int


class Exchanges:
    """The content of one conversation.

    Attributes:
        http, dns, tls: By place.
        icmp: Errors about its packets.
        requests: Its requests; None without any.
    """

    __slots__ = ("dns", "http", "icmp", "pending", "requests", "streams", "tls")

    def __init__(self) -> None:
        self.http: Dict[int, Union[Http, Http2]] = {}
        self.dns: Dict[int, Dns] = {}
        self.tls: Dict[int, Tls] = {}
        self.icmp: List[Icmp] = []
        self.requests: Optional[RequestTotals] = None
        self.streams: Dict[Tuple[int, int], Stream] = {}
        self.pending: Dict[int, Dict[int, Request]] = {}

    @property
    def calm(self) -> bool:
        """Whether it can be forgotten except for its totals: a next message is read anew."""
        if self.pending or self.dns or self.icmp:
            return False
        return all(http.calm for http in self.http.values()) and all(tls.calm for tls in self.tls.values())


class _Start:
    """A direction whose start is not yet found.

    Attributes:
        at: Offset of the next bytes in which it may be.
        tries: Packets that did not have it.
        early: Packets that wait for an earlier one.
    """

    __slots__ = ("at", "early", "tries")

    def __init__(self) -> None:
        self.at = 0
        self.tries = 0
        self.early: List[Piece] = []


class Log:
    """The content of all conversations.

    Args:
        world: The places.
        contents: Whether contents are wanted, see `pcapd.analysis.exchanges.http`.

    Attributes:
        requests: What the requests of all conversations come to.
        dropped: Number of conversations whose content was forgotten, because there were too many.
    """

    def __init__(self, world: World, *, contents: bool = False) -> None:
        self._world = world
        self.requests = AllRequests()
        self.dropped = 0
        self._contents = contents
        self._room = Room(EXCHANGE_BYTES)
        self._followed = Followed(HTTP2_BYTES)
        self._exchanges: OrderedDict[int, Exchanges] = OrderedDict()
        #: Requests that wait for the views of the other places, the oldest first.
        self._waiting: Deque[Tuple[Exchanges, int]] = deque()
        #: The totals of conversations whose other content is forgotten.
        self._totals: Dict[int, RequestTotals] = {}
        #: By conversation, then by place and side: directions whose start is not yet found.
        self._starts: OrderedDict[int, Dict[Tuple[int, int], _Start]] = OrderedDict()
        self._icmp: Dict[bytes, List[Icmp]] = {}
        self._icmp_count = 0

    @property
    def http2_lost(self) -> int:
        """Number of HTTP/2 connections that were not followed to their ends."""
        return self._followed.lost

    def payload(  # noqa: PLR0917 - as ConversationTable calls it
        self,
        serial: int,
        protocol: int,
        place: int,
        side: int,
        us: int,
        frame: int,
        offset: int,
        seq: int,
        length: int,
        content: bytes,
    ) -> int:
        """See `pcapd.analysis._conversations.Payload`."""
        if protocol in (_ICMP, _ICMPV6):
            self._error(protocol, place, us, frame, content)
            return 0
        exchanges = self._exchanges.get(serial)
        piece = Piece(us, frame, offset, seq, length, content)
        if exchanges is None:
            exchanges = Exchanges()
            wanted = self._begin(serial, exchanges, protocol, place, side, piece)
            if exchanges.streams or exchanges.dns:
                exchanges.requests = self._totals.pop(serial, None)
                self._exchanges[serial] = exchanges
                if len(self._exchanges) > EXCHANGES_MAX:
                    self._make_room()
        elif (place, side) in exchanges.streams:
            wanted = exchanges.streams[place, side].take(piece)
        else:
            wanted = self._begin(serial, exchanges, protocol, place, side, piece)
        http = exchanges.http.get(place)
        if http is not None and http.done:
            self._drain(exchanges, place, http)
        return wanted

    def close(self, serial: int, key: bytes) -> Exchanges:
        """The content of a conversation that is closed.

        Args:
            key: Family, protocol, ports and addresses of its ends, as in `pcapd.analysis._facts.KEY`.
        """
        exchanges = self._exchanges.pop(serial, None)
        for start in self._starts.pop(serial, {}).values():
            self._release(start)
        icmp = self._icmp.pop(key, None) if self._icmp else None
        if exchanges is None:
            exchanges = Exchanges()
            exchanges.requests = self._totals.pop(serial, None)
        if icmp:
            exchanges.icmp = icmp
            self._icmp_count -= len(icmp)
        self._end(exchanges)
        return exchanges

    def _end(self, exchanges: Exchanges) -> None:
        for stream in exchanges.streams.values():
            stream.close()
        for place, http in exchanges.http.items():
            http.ended()
            self._drain(exchanges, place, http)
        for talk in exchanges.pending.values():
            self._done(exchanges, talk)
        exchanges.pending.clear()

    def _done(self, exchanges: Exchanges, talk: Dict[int, Request]) -> None:
        if exchanges.requests is None:
            exchanges.requests = RequestTotals()
        exchanges.requests.add(talk, self._world, self.requests)

    def _make_room(self) -> None:
        """Forget the content of an old conversation, if possible of one that is between two requests."""
        for _ in range(_OLD_TRIED):
            serial, exchanges = self._exchanges.popitem(last=False)
            if exchanges.calm:
                break
            self._exchanges[serial] = exchanges
        else:
            if len(self._exchanges) <= 2 * EXCHANGES_MAX:
                return
            serial, exchanges = self._exchanges.popitem(last=False)
            self.dropped += 1
            self._end(exchanges)
        if exchanges.requests is not None:
            self._totals[serial] = exchanges.requests

    def _begin(  # noqa: PLR0917
        self, serial: int, exchanges: Exchanges, protocol: int, place: int, side: int, piece: Piece
    ) -> int:
        if protocol == _UDP:
            dns = exchanges.dns.setdefault(place, Dns(self._room))
            return dns.datagram(piece)
        stream = self._reader(exchanges, place, side, piece)
        if stream is None:
            wanted = self._try_again(serial, place, side, piece)
            talk = exchanges.http.get(place)
            if wanted == NEVER and isinstance(talk, Http2):
                talk.lost()  # it needs both directions
            return wanted
        stream.at = piece.offset
        exchanges.streams[place, side] = stream
        wanted = stream.take(piece)
        start = self._starts.get(serial, {}).pop((place, side), None)
        if start is not None:
            self._release(start)
            for early in start.early:
                wanted = stream.take(early)
        return wanted

    def _try_again(self, serial: int, place: int, side: int, piece: Piece) -> int:
        own = self._starts.get(serial)
        if own is None:
            if len(self._starts) >= _STARTS_MAX:
                if piece.offset:
                    return NEVER  # it was forgotten; else each packet of too many would be tried again
                for start in self._starts.popitem(last=False)[1].values():
                    self._release(start)
            own = self._starts[serial] = {}
        start = own.setdefault((place, side), _Start())
        if piece.offset > start.at and len(start.early) < _EARLY_MAX and self._room.left > 0:
            start.early.append(piece)
            self._room.left -= len(piece.content)
            return start.at
        start.tries += 1
        if start.tries < _TRIES and piece.content:
            start.at = piece.offset + piece.length
            return start.at
        self._release(own.pop((place, side)))
        if not own:
            del self._starts[serial]
        return NEVER

    def _release(self, start: _Start) -> None:
        self._room.left += sum(len(piece.content) for piece in start.early)

    def _reader(self, exchanges: Exchanges, place: int, side: int, piece: Piece) -> Optional[Stream]:
        content, room, http = piece.content, self._room, exchanges.http.get(place)
        if isinstance(http, Http2):
            if content[:7] == b"HTTP/1.":
                http.not_spoken(piece)
            return http.stream(content) if is_preface(content) or is_settings(content) else None
        if http_module.looks_like(content):
            if http is None:
                http = exchanges.http[place] = Http(room, contents=self._contents)
            return http.stream(content)
        if http is None and (is_preface(content) or is_settings(content)):
            http = exchanges.http[place] = Http2(room, self._followed, contents=self._contents)
            return http.stream(content)
        if tls_module.looks_like(content):
            return exchanges.tls.setdefault(place, Tls(room)).stream(side)
        if (
            len(content) > 14
            and content[0] << 8 | content[1] == len(content) - 2
            and read_message(content[2:])
        ):
            return exchanges.dns.setdefault(place, Dns(room)).stream()
        return None

    def _drain(self, exchanges: Exchanges, place: int, http: Union[Http, Http2]) -> None:
        for request in http.done:
            if len(self._world.places) == 1:
                self._done(exchanges, {place: request})
                continue
            talk = exchanges.pending.get(request.seq)
            if talk is None:
                talk = exchanges.pending[request.seq] = {}
                self._waiting.append((exchanges, request.seq))
                self._finish_oldest()
            talk[place] = request
        http.done.clear()

    def _finish_oldest(self) -> None:
        if len(self._waiting) > _PENDING_MAX:
            exchanges, seq = self._waiting.popleft()
            talk = exchanges.pending.pop(seq, None)
            if talk is not None:
                self._done(exchanges, talk)

    def _error(self, protocol: int, place: int, us: int, frame: int, content: bytes) -> None:
        """Process an ICMP error, which quotes the packet that caused it."""
        key = _quoted(content[8:], 4 if protocol == _ICMP else 6)
        if key is None or self._icmp_count >= _ICMP_MAX:
            return
        self._icmp_count += 1
        mtu = int.from_bytes(content[6:8] if protocol == _ICMP else content[4:8], "big")
        self._icmp.setdefault(key, []).append(Icmp(place, us, frame, content[0], content[1], mtu))


def _quoted(packet: bytes, family: int) -> Optional[bytes]:
    """The ends of the packet that an ICMP error quotes, as in the key of its conversation."""
    if family == 4:
        size = (packet[0] & 15) * 4 if packet else 0
        if size < 20 or len(packet) < size + 4 or packet[0] >> 4 != 4:
            return None
        protocol, addresses = packet[9], (packet[12:16].ljust(16, b"\0"), packet[16:20].ljust(16, b"\0"))
    else:
        size = 40
        if len(packet) < size + 4 or packet[0] >> 4 != 6:
            return None
        protocol, addresses = packet[6], (packet[8:24], packet[24:40])
    ports: Tuple[int, int] = (0, 0)
    if protocol in (_TCP, _UDP):
        ports = _PORTS.unpack_from(packet, size)
    ends = sorted(zip(addresses, ports))
    return _ENDS.pack(family, protocol, ends[0][1], ends[1][1], ends[0][0], ends[1][0])
