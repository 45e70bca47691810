"""Which packet is which: the same one seen at several places gets the same number.

Two sightings are the same packet when the bytes that nobody changes on the way
are equal (`pcapd.savefile.network.unchanging`), they are at different sources, and
no more than a window apart.  A packet that one source sees twice is two packets
(a retransmission): the first at one end belongs to the first at the other.

The option is epb_packetid of draft-ietf-opsawg-pcapng, section 4.3.1.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from typing import Deque, Dict, Final, List, NamedTuple, Sequence, Tuple

from pcapd.limits import MATCH_PACKETS_MAX, MATCH_WINDOW
from pcapd.savefile.network import unchanging

__all__ = ["Matcher", "PacketIds", "Rewritten", "Sighting"]

#: Block type, total length, interface, time (high, low), captured length.
_PACKET_BLOCK: Final = struct.Struct("<6I")
_PACKET_HEADER: Final = 28
_BLOCK_START: Final = struct.Struct("<II")
_LENGTH: Final = struct.Struct("<I")
#: Code, length, a number.
_OPTION: Final = struct.Struct("<HHQ")
_DROP_COUNT, _PACKET_ID = 4, 5
_NO_MORE: Final = bytes(4)
_U64: Final = struct.Struct("<Q")
_U64_MAX: Final = 2**64 - 1


class Sighting(NamedTuple):
    """What a packet proved to be.

    Attributes:
        number: The packet's; another sighting of it has the same.
        again: Another source saw it before.
    """

    number: int
    again: bool


class _Entry:
    __slots__ = ("number", "seen", "us")

    def __init__(self, number: int, us: int, seen: int) -> None:
        self.number = number
        self.us = us
        self.seen = seen  # a bit per source


class Matcher:
    """Remembers the packets of the last seconds.

    Args:
        first: The first number to give.
        window: Seconds, by the packets' own times.
        packets: Packets to remember at most.

    Attributes:
        forgotten: Packets that were given up within the window, for want of room, and
            whose other end was not seen until then.
    """

    def __init__(
        self, first: int = 1, window: float = MATCH_WINDOW, packets: int = MATCH_PACKETS_MAX
    ) -> None:
        self._next = first
        self._window_us = int(window * 1_000_000)
        self._packets = packets
        self._newest_us = 0
        self._known: Dict[bytes, List[_Entry]] = {}
        self._ages: Deque[Tuple[int, bytes]] = deque()
        self.forgotten = 0

    def see(self, source: int, us: int, content: bytes) -> Sighting:
        """A source saw a packet.

        Args:
            source: Its number, from 0 on.
            us: Microseconds since the epoch.
            content: The bytes that do not change.
        """
        self._newest_us = max(self._newest_us, us)
        self._forget()
        # Long packets are not kept, and nobody can make two of them collide.
        key = hashlib.blake2b(content, digest_size=16).digest()
        bit = 1 << source
        entries = self._known.setdefault(key, [])
        for entry in entries:
            if not entry.seen & bit and abs(us - entry.us) <= self._window_us:
                entry.seen |= bit
                return Sighting(entry.number, True)
        entries.append(_Entry(self._next, us, bit))
        self._ages.append((us, key))
        self._next += 1
        return Sighting(self._next - 1, False)

    def _forget(self) -> None:
        """Drop what is too old or too much; entries of one content go in the order in which they came."""
        oldest = self._newest_us - self._window_us
        while self._ages and (self._ages[0][0] < oldest or len(self._ages) >= self._packets):
            us, key = self._ages.popleft()
            entries = self._known[key]
            entry = entries.pop(0)
            self.forgotten += us >= oldest and not entry.seen & (entry.seen - 1)
            if not entries:
                del self._known[key]


class Rewritten(NamedTuple):
    """Packet blocks with their numbers.

    Attributes:
        left_out: Packets that are not in it any more, by interface.
        untold: What was lost before them (epb_dropcount), and no later packet in it tells.
    """

    data: bytes
    left_out: Dict[int, int]
    untold: Dict[int, int]


class PacketIds:
    """Writes the numbers into packet blocks, or leaves out what another source saw before.

    Args:
        dedupe: Keep the first sighting only.
        first: The first number to give.
    """

    def __init__(self, *, dedupe: bool, first: int = 1) -> None:
        self._dedupe = dedupe
        self._matcher = Matcher(first)
        self._sources: Dict[Tuple[str, int], int] = {}

    @property
    def forgotten(self) -> int:
        """See `Matcher`."""
        return self._matcher.forgotten

    def rewrite(self, stream: str, data: bytes, link_types: Sequence[int]) -> Rewritten:
        """Rewrite blocks as `pcapd.records` makes them: packets, with epb_dropcount or no option.

        Args:
            stream: To which they belong; interfaces of two streams are different ones.
            data: The blocks.
            link_types: Of the stream's interfaces, by their numbers.
        """
        out: List[bytes] = []
        left_out: Dict[int, int] = {}
        untold: Dict[int, int] = {}
        position = 0
        while position < len(data):
            kind, total, interface, high, low, captured = _PACKET_BLOCK.unpack_from(data, position)
            begin, end = position + _PACKET_HEADER, position + total
            content = unchanging(link_types[interface], data[begin : begin + captured])
            padded = begin + captured + (-captured & 3)
            lost = _U64.unpack_from(data, padded + 4)[0] if padded + 4 < end else 0
            number = None
            if content is not None:
                source = self._sources.setdefault((stream, interface), len(self._sources))
                number, again = self._matcher.see(source, high << 32 | low, content)
                if again and self._dedupe:
                    left_out[interface] = left_out.get(interface, 0) + 1
                    if lost:
                        untold[interface] = min(_U64_MAX, untold.get(interface, 0) + lost)
                    position = end
                    continue
            lost = min(_U64_MAX, lost + untold.pop(interface, 0)) if untold else lost
            options = b"" if number is None else _OPTION.pack(_PACKET_ID, 8, number)
            options += _OPTION.pack(_DROP_COUNT, 8, lost) if lost else b""
            options += _NO_MORE if options else b""
            longer = padded - position + len(options) + _LENGTH.size
            out += (
                _BLOCK_START.pack(kind, longer),
                data[position + _BLOCK_START.size : padded],
                options,
                _LENGTH.pack(longer),
            )
            position = end
        return Rewritten(b"".join(out), left_out, untold)
