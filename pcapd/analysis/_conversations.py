"""The table of conversations in plain Python; ``_conversations.h`` is the compiled one.

The table returns the facts of a conversation when it closes it, and payloads while they are wanted.
"""

from __future__ import annotations

import struct
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Final, List, Optional, Sequence, Tuple

from pcapd.analysis._conversation import Conversation, Waiting, is_error, is_loopback
from pcapd.analysis._facts import KEY
from pcapd.analysis._halves import TWIN_US, Recent, follow_tcp, told_apart
from pcapd.analysis._places import BetweenPlaces, Bins, Sighting, may_arrive
from pcapd.packet.row import ROW_SIZE
from pcapd.records._reference import as_bytes, number

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["NEVER", "ConversationTable"]

_ROW: Final = struct.Struct("=qIIIIBB38sIIHHIQQIHH")
_FIELDS: Final = struct.Struct("=BBHH16s16s")
_I32, _US_MAX = 0x7FFF_FFFF, 0x7FFF_FFFF_FFFF_FFFF // 4
_IP, _TCP, _NUMBER, _LATER = 1, 4, 16, 64
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_ICMP, _UDP, _ICMPV6 = 1, 17, 58
#: The only UDP port whose payload is passed on.
_DNS: Final = 53
#: The return value of a reader that wants no more payload.
NEVER: Final = -1
_PLACES, _SEEN_AT = 8, 4

Closed = Callable[[bytes, List[bytes], List[Tuple[int, int, bytes]]], None]
#: serial, protocol, place, end, microseconds, frame, offset, sequence number, original bytes, captured bytes;
#: returns the offset from which on more is wanted.
Payload = Callable[[int, int, int, int, int, int, int, int, int, bytes], int]
#: place, microseconds, number of packets lost before.
Lost = Callable[[int, int, int], None]


class ConversationTable:
    """Follows conversations; packets arrive in the order of the files.

    Args:
        conversations: Limit at a time, each counted once for each place; beyond it, the least
            recently used ones are closed.
        waiting: Limit of packets that are remembered until they are seen elsewhere.
        window_us: Microseconds for which they are remembered.
        idle_us: Silence of a conversation that is recorded.
        closed: Called with the facts of a conversation: key, views of the places, facts between places.
        payload: Called with payloads, see `Payload`.
        lost: Called with losses of a place, see `Lost`.

    Attributes:
        packets: Number of all packets.
        others: Number of packets that are not IP.
        beyond: Number of packets at places beyond the limit of a conversation.
        evicted: Number of conversations that were closed because the table was full.
        forgotten: Number of packets forgotten early that other places might have seen later.
    """

    def __init__(  # noqa: PLR0917
        self,
        conversations: int,
        waiting: int,
        window_us: int,
        idle_us: int,
        closed: Closed,
        payload: Payload,
        lost: Lost,
    ) -> None:
        self._most = number("conversations", conversations, 1, _I32)
        self._waiting_max = number("waiting", waiting, 1, _I32)
        self._window_us = number("window_us", window_us, 0, _I32)
        self._idle_us = number("idle_us", idle_us, 1, _US_MAX)
        self._closed, self._payload, self._lost = closed, payload, lost
        self._by_fields: Dict[bytes, Tuple[Conversation, int]] = {}
        self._live: OrderedDict[int, Conversation] = OrderedDict()
        self._newest = 0
        self._seen_count = 0
        self._recent = Recent()
        self._waiting: Dict[int, Waiting] = {}
        self._ages: Deque[Waiting] = deque()
        self._newest_us = self._serial = 0
        self._files: List[int] = []  # by place
        self._frames: List[int] = []  # by file
        self._times: List[List[int]] = []  # by place: packets, first, last
        self._clocks: Dict[Tuple[int, int], Bins] = {}
        self.packets = self.others = self.beyond = self.evicted = self.forgotten = 0

    def open_place(self, file: int) -> int:
        """Add a place whose packets are in a file; returns its number."""
        file = number("file", file, 0, len(self._frames))
        if file == len(self._frames):
            self._frames.append(0)
        self._files.append(file)
        self._times.append([0, 0, 0])
        return len(self._files) - 1

    def places(self) -> List[Tuple[int, int, int]]:
        """For each place: number of packets, first and last time."""
        return [(one[0], one[1], one[2]) for one in self._times]

    def clocks(self) -> List[Tuple[int, int, List[Tuple[int, int]], List[Tuple[int, int]]]]:
        """For each two places: the minimum delays there and (negated) back, with their times."""
        return [
            (*pair, [one for one in bins.there if one], [one for one in bins.back if one])
            for pair, bins in sorted(self._clocks.items())
        ]

    def add(self, rows: Buffer, parts: Sequence[Buffer]) -> None:
        """Process packets.

        Args:
            rows: See `pcapd.packet.row`; ``interface`` is a place.
            parts: For each file, the bytes to which the ``at`` of its rows refers.

        Raises:
            ValueError: The bytes are not whole rows, a place or a file is unknown, or a time is out of range.
        """
        content = as_bytes(rows)
        if len(content) % ROW_SIZE:
            raise ValueError(f"{len(content)} bytes are not whole rows")
        data = [as_bytes(part) for part in parts]
        for fields in _ROW.iter_unpack(content):
            self._add(fields, data)

    def close(self) -> None:
        """Close all remaining conversations."""
        while self._ages:
            self._expire()
        for conversation in list(self._live.values()):
            self._close(conversation)

    def _add(self, row: Tuple[Any, ...], data: List[bytes]) -> None:
        us, place, has, fields, drops = row[0], row[3], row[6], row[7], row[15]
        if place >= len(self._files) or self._files[place] >= len(data):
            raise ValueError("a row is of an unknown place")
        if not -_US_MAX <= us <= _US_MAX:
            raise ValueError("a row's time is out of range")
        file = self._files[place]
        self.packets += 1
        self._frames[file] += 1
        times = self._times[place]
        times[1], times[2] = (min(times[1], us), max(times[2], us)) if times[0] else (us, us)
        times[0] += 1
        if drops:
            self._lost(place, us, drops)
        if not has & _IP:
            self.others += 1
            return
        conversation, side = self._conversation(fields, place)
        if row[5] & (_SYN | _ACK | _RST) == _SYN and has & _TCP:
            conversation = self._begun(conversation, side, place, row[8])
        if conversation.serial != self._newest:
            self._live.move_to_end(conversation.serial)
            self._newest = conversation.serial
        index = self._sighting(conversation, place)
        if index < 0:
            self.beyond += 1
            return
        again = self._follow(conversation, side, conversation.sightings[index], row, data[file])
        if len(self._files) > 1 and has & _NUMBER and again is not None:
            self._see(row[14], conversation, side, index, us, again, self._frames[file])

    # --- which conversation -------------------------------------------------------

    def _conversation(self, fields: bytes, place: int) -> Tuple[Conversation, int]:
        scope = place + 1 if is_loopback(fields) else 0
        name = fields + scope.to_bytes(4, "little") if scope else fields
        found = self._by_fields.get(name)
        if found is None:
            self._open(fields, scope)
            found = self._by_fields[name]
        return found

    def _open(self, fields: bytes, scope: int) -> Conversation:
        family, protocol, port0, port1, address0, address1 = _FIELDS.unpack(fields)
        there, back = fields, _FIELDS.pack(family, protocol, port1, port0, address1, address0)
        if (address0, port0) > (address1, port1):
            address0, port0, address1, port1 = address1, port1, address0, port0
            there, back = back, there
        tail = scope.to_bytes(4, "little") if scope else b""
        self._serial += 1
        packed = KEY.pack(self._serial, scope, family, protocol, port0, port1, address0, address1)
        conversation = Conversation(self._serial, packed, (there + tail, back + tail), protocol)
        self._by_fields[back + tail] = conversation, 1
        self._by_fields[there + tail] = conversation, 0
        self._live[self._serial] = conversation
        return conversation

    def _begun(self, conversation: Conversation, side: int, place: int, seq: int) -> Conversation:
        """The conversation of a SYN: a new one if the same ends had another before."""
        known = conversation.syn_seq[side]
        if known == seq:
            return conversation
        seen = known is not None or any(
            one.place == place and one.halves[side].packets for one in conversation.sightings
        )
        if seen:
            fields, scope = conversation.keys[side][:38], KEY.unpack(conversation.packed)[1]
            self._close(conversation)
            conversation = self._open(fields, scope)
        conversation.syn_seq[side] = seq
        return conversation

    def _sighting(self, conversation: Conversation, place: int) -> int:
        for index, sighting in enumerate(conversation.sightings):
            if sighting.place == place:
                return index
        if len(conversation.sightings) >= _PLACES:
            return -1
        while self._seen_count >= self._most:
            oldest = next(iter(self._live.values()))
            if oldest is conversation:
                break
            self.evicted += 1
            self._close(oldest)
        self._seen_count += 1
        conversation.sightings.append(Sighting(place))
        return len(conversation.sightings) - 1

    def _close(self, conversation: Conversation) -> None:
        del self._live[conversation.serial]
        self._seen_count -= len(conversation.sightings)
        for name in conversation.keys:
            self._by_fields.pop(name, None)
        sightings = conversation.sightings
        self._closed(
            conversation.packed,
            [sighting.pack() for sighting in sightings],
            [
                (sightings[a].place, sightings[b].place, first.pack() + second.pack())
                for (a, b), (first, second) in sorted(conversation.pairs.items())
            ],
        )

    # --- what an end sends ----------------------------------------------------------

    def _follow(
        self, conversation: Conversation, side: int, sighting: Sighting, row: Tuple[Any, ...], data: bytes
    ) -> Optional[bool]:
        """Returns whether the packet is a retransmission; None if this place sees it a second time."""
        us, captured, at, has, digest, payload = row[0], row[1], row[4], row[6], row[13], row[12]
        frame = self._frames[self._files[sighting.place]]
        half: Any = sighting.halves[side]
        known, twin = self._recent.see(digest, sighting.place, us)
        twin |= half.packets and digest == half.digest and 0 <= us - half.last_us < TWIN_US
        silence = sighting.at(us, side, frame, self._idle_us)
        if not half.packets:
            half.first_us, half.first_frame = us, frame
        half.packets += 1
        half.last_us, half.last_frame, half.digest = us, frame, digest
        half.bytes += payload
        if twin:
            half.duplicates += 1
            return None
        if payload:
            half.payload_us = us
            half.payload_packets += 1
        offset, fresh = 0, True
        again: Optional[bool] = False
        if has & _TCP:
            peer: Any = sighting.halves[1 - side]
            offset, fresh, again = follow_tcp(half, peer, row, frame, silence, data, known=known)
        elif conversation.protocol in (_ICMP, _ICMPV6):
            fresh = is_error(row, data)
        elif conversation.protocol == _UDP:
            fresh = _DNS in _FIELDS.unpack(row[7])[2:4]
        again = None if again is False and known and told_apart(row, data) else again
        if (
            payload
            and (fresh or again)  # a retransmission may fill a hole that is no longer remembered
            and not has & _LATER
            and (half.wanted != NEVER)
            and offset + payload > half.wanted
        ):
            start = at + (row[17] if conversation.protocol in (_ICMP, _ICMPV6) else row[11])
            content = data[start : min(at + captured, at + row[11] + payload)]
            half.wanted = self._payload(
                conversation.serial, conversation.protocol, sighting.place, side, us, frame, offset, row[8],
                payload, content,
            )  # fmt: skip
        return again

    # --- the same packet at several places --------------------------------------------

    def _see(  # noqa: PLR0917
        self,
        packet: int,
        conversation: Conversation,
        side: int,
        index: int,
        us: int,
        again: bool,
        frame: int,
    ) -> None:
        self._newest_us = max(self._newest_us, us)
        oldest = self._newest_us - self._window_us
        while self._ages and (self._ages[0].us < oldest or len(self._ages) >= self._waiting_max):
            self._expire(early=self._ages[0].us >= oldest)
        waiting = self._waiting.get(packet)
        if waiting is None:
            waiting = self._waiting[packet] = Waiting(packet, conversation, side, us)
            self._ages.append(waiting)
        elif (
            waiting.conversation is not conversation
            or waiting.side != side
            or abs(us - waiting.us) > self._window_us  # the file has one number for several packets
            or len(waiting.seen) >= _SEEN_AT
            or any(one[0] == index for one in waiting.seen)
        ):
            return
        for before in waiting.seen:
            self._both(conversation, side, before, (index, us, again, frame))
        waiting.seen.append((index, us, again, frame))

    def _both(
        self,
        conversation: Conversation,
        side: int,
        before: Tuple[int, int, bool, int],
        now: Tuple[int, int, bool, int],
    ) -> None:
        first, second = (before, now) if before[0] < now[0] else (now, before)
        pair: Any = conversation.pairs.get((first[0], second[0]))
        if pair is None:
            pair = conversation.pairs[first[0], second[0]] = (BetweenPlaces(), BetweenPlaces())
        own = pair[side]
        delta = second[1] - first[1]
        own.least_us = min(own.least_us, delta) if own.both else delta
        own.greatest_us = max(own.greatest_us, delta) if own.both else delta
        own.both += 1
        if first[2] and second[2]:
            own.again_each += 1
        elif first[2] or second[2]:
            again = first if first[2] else second
            own.again_frame = own.again_frame or again[3]
            own.lost_first_us = own.lost_first_us or again[1]
            own.lost_last_us = again[1]
            own.again_first += first[2]
            own.again_second += second[2]
        own.last = delta
        other = pair[1 - side].last
        if other is not None and other != delta:
            self._clock(conversation, first, second, delta, there=delta > other)

    def _clock(
        self,
        conversation: Conversation,
        first: Tuple[int, int, bool, int],
        second: Tuple[int, int, bool, int],
        delta: int,
        *,
        there: bool,
    ) -> None:
        """Record the delay of a packet from the first to the second place (`there`), or back."""
        a, b = conversation.sightings[first[0]].place, conversation.sightings[second[0]].place
        us = first[1]
        if a > b:
            a, b, us, delta, there = b, a, second[1], -delta, not there
        bins = self._clocks.get((a, b))
        if bins is None:
            bins = self._clocks[a, b] = Bins(us)
        bins.add(us, delta, there=there)

    def _expire(self, *, early: bool = False) -> None:
        """Stop waiting for another sighting of the oldest packet.

        Args:
            early: Because too many packets wait.  If it may still be seen at another place,
                neither this sighting nor that one shows that it was lost.
        """
        gone = self._ages.popleft()
        del self._waiting[gone.number]
        conversation = gone.conversation
        if conversation.serial not in self._live:
            return
        seen = {one[0]: one for one in gone.seen}
        unsure = early and not conversation.pairs
        for (a, b), pair in conversation.pairs.items():
            if a in seen and b in seen:
                pair[0].settled = True
                pair[gone.side].confirm()
            elif a in seen or b in seen:
                if early and may_arrive(pair, self._newest_us - gone.us):
                    unsure = True
                elif pair[0].settled and gone.us > conversation.unsure_us:
                    pair[gone.side].miss(seen[a if a in seen else b], at_first=a in seen)
        if unsure:
            self.forgotten += len(seen) == 1
            conversation.unsure_us = max(conversation.unsure_us, gone.us + self._window_us)
