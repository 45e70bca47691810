"""Passes payloads to the readers, and keeps their results until a conversation is closed."""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import Dict, Final, List, NamedTuple, Optional, Tuple, Union

from pcapd.analysis.exchanges import http as http_module
from pcapd.analysis.exchanges import tls as tls_module
from pcapd.analysis.exchanges.dns import Dns
from pcapd.analysis.exchanges.http import Http
from pcapd.analysis.exchanges.http2 import Followed, Http2, is_preface, is_settings
from pcapd.analysis.exchanges.request import Request
from pcapd.analysis.exchanges.requests import LoopbackRequests, RequestTotals
from pcapd.analysis.exchanges.streams import NEVER, Piece, Room, Stream
from pcapd.analysis.exchanges.tls import Tls
from pcapd.analysis.world import World
from pcapd.limits import EXCHANGE_BYTES, HTTP2_BYTES
from pcapd.packet.dns import read_message

__all__ = ["Exchanges", "Icmp", "Log"]

_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58
#: Number of packets of a direction in which a start is searched: a capture may start within a message.
_TRIES: Final = 4
#: Limit of packets of a direction that wait for its first one, which was lost and comes again.
_EARLY_MAX: Final = 64
#: Limit of requests of a conversation that wait for the views of the other places.
_PENDING_MAX: Final = 512
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
        self.pending: OrderedDict[int, Dict[int, Request]] = OrderedDict()


class _Start:
    """A direction whose start is not yet found.

    Attributes:
        at: Offset of the next bytes in which it may be.
        tries: Packets that did not have it.
        early: Packets that wait for an earlier one.
    """

    def __init__(self) -> None:
        self.at = 0
        self.tries = 0
        self.early: List[Piece] = []


class Log:
    """The content of all conversations.

    Args:
        world: The places.
        contents: Whether contents are wanted, see `pcapd.analysis.exchanges.http`.
    """

    def __init__(self, world: World, *, contents: bool = False) -> None:
        self._world = world
        self._contents = contents
        self._inner = LoopbackRequests()
        self._room = Room(EXCHANGE_BYTES)
        self._followed = Followed(HTTP2_BYTES)
        self._exchanges: Dict[int, Exchanges] = {}
        #: By conversation, then by place and side: directions whose start is not yet found.
        self._starts: Dict[int, Dict[Tuple[int, int], _Start]] = {}
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
                self._exchanges[serial] = exchanges
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
        if icmp:
            exchanges.icmp = icmp
            self._icmp_count -= len(icmp)
        for stream in exchanges.streams.values():
            stream.close()
        for place, http in exchanges.http.items():
            http.ended()
            self._drain(exchanges, place, http)
        for talk in exchanges.pending.values():
            self._done(exchanges, talk)
        exchanges.pending.clear()
        return exchanges

    def _done(self, exchanges: Exchanges, talk: Dict[int, Request]) -> None:
        if exchanges.requests is None:
            exchanges.requests = RequestTotals()
        exchanges.requests.add(talk, self._world, self._inner)

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
        own = self._starts.setdefault(serial, {})
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
                if len(exchanges.pending) > _PENDING_MAX:
                    self._done(exchanges, exchanges.pending.popitem(last=False)[1])
            talk[place] = request
        http.done.clear()

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
