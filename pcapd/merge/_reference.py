"""The compiled part of `pcapd.merge` in plain Python.

This file defines the results; ``_native.c`` computes them faster.  Property tests
compare the two, so a change here needs the same change there.
"""

from __future__ import annotations

import operator
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, Dict, Final, List, NamedTuple, Optional, Sequence, Tuple

from pcapd.limits import MATCH_REPEATS_MAX
from pcapd.merge._types import Gap, Merged, Source
from pcapd.packet.headers import walk
from pcapd.packet.identity import digest, unchanging
from pcapd.packet.row import ROW_SIZE, SIGHTINGS, Has, number_row
from pcapd.records import CAPTURED_MAX, HEADER_SIZE
from pcapd.records._reference import as_bytes, number, walk_records
from pcapd.savefile.blocks import enhanced_packet
from pcapd.savefile.form import Form

if TYPE_CHECKING:
    from typing_extensions import Buffer

_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
_U32: Final = 0xFFFF_FFFF
_I64: Final = 0x7FFF_FFFF_FFFF_FFFF
#: Largest absolute value of a time, so that the difference of two times fits in 64 bits.
_US_MAX: Final = _I64 // 4
#: Number of pairs of places whose delay is remembered, and microseconds that it may change.
_DELAYS, _JITTER_US = 256, 50_000
_IP, _IP_NUMBER = int(Has.IP), int(Has.IP | Has.NUMBER)


class _Seen:
    __slots__ = ("number", "places", "us")

    def __init__(self, number: int, us: int, place: int) -> None:
        self.number = number
        self.us = us
        self.places: List[int] = [place]


class _Delays:
    """How much later than at another place the last packet was seen at a place, of some pairs of places."""

    def __init__(self) -> None:
        self._known: Dict[int, Tuple[int, int, int]] = {}

    def get(self, a: int, b: int) -> int:
        """The delay in microseconds, 0 if unknown; another pair in its slot is forgotten."""
        slot = (31 * a + b) % _DELAYS
        if self._known.get(slot, ())[:2] != (a, b):
            self._known[slot] = a, b, 0
        return self._known[slot][2]

    def set(self, a: int, b: int, us: int) -> None:
        """Remember a delay."""
        self._known[(31 * a + b) % _DELAYS] = a, b, us


class Matcher:
    """Recognises packets that were captured at several places (interfaces) and numbers them.

    A sighting is one capture of a packet at one place.  Two sightings are the same packet if
    their digests are equal (`pcapd.packet.identity`), their places differ, and their times
    differ by at most a window.  Two equal sightings at one place are two packets (such as
    heartbeats): of several, the first whose delay is as that of the packets before it matches,
    so that after a loss, or the late start of a capture, the others are not all one behind.

    Args:
        first: The number of the first packet.
        window_us: The window in microseconds of the packets' timestamps.
        packets: The largest number of packets to remember.

    Attributes:
        forgotten: Number of packets that were forgotten within the window because `packets`
            was reached, before they were seen at another place.
    """

    def __init__(self, first: int, window_us: int, packets: int) -> None:
        self._next = number("first", first, 0, _I64)
        self._window_us = number("window_us", window_us, 0, _US_MAX)
        self._packets = number("packets", packets, 1, _U32)
        self._newest_us = 0
        self._known: Dict[int, Deque[_Seen]] = {}
        self._ages: Deque[Tuple[int, int]] = deque()
        self._delays = _Delays()
        self.forgotten = 0

    def see(self, place: int, us: int, digest: int) -> Tuple[int, bool]:
        """Record that a packet was captured at a place.

        Args:
            place: The place's number.
            us: The packet's timestamp, microseconds since the epoch.
            digest: Digest of the bytes that do not change on the packet's way.

        Returns:
            The packet's number, and whether it was seen at another place before.
        """
        place = number("place", place, 0, _U32)
        us = number("us", us, -_US_MAX, _US_MAX)
        return self._see(place, us, digest)

    def number(self, rows: Buffer) -> bytes:
        """Number the packets of those rows that have no number; a row's ``interface`` is its place.

        Raises:
            ValueError: The bytes are not whole rows.
        """
        content = as_bytes(rows)
        if len(content) % ROW_SIZE:
            raise ValueError(f"{len(content)} bytes are not whole rows")
        numbered = bytearray(content)
        for index, (us, place, has, content_digest) in enumerate(SIGHTINGS.iter_unpack(content)):
            if has & _IP_NUMBER == _IP:
                if not -_US_MAX <= us <= _US_MAX:
                    raise ValueError("a row's time is out of range")
                number_row(numbered, index, self._see(place, us, content_digest)[0])
        return bytes(numbered)

    def _see(self, place: int, us: int, digest: int) -> Tuple[int, bool]:
        self._newest_us = max(self._newest_us, us)
        if self._ages:
            self._forget()
        known = self._known.get(digest)
        if known is None:
            known = self._known[digest] = deque()
        seen = self._find(known, place, us) if known else None
        if seen is not None:
            seen.places.append(place)
            return seen.number, True
        seen = _Seen(self._next, us, place)
        known.append(seen)
        self._ages.append((us, digest))
        self._next += 1
        return seen.number, False

    def _find(self, known: Deque[_Seen], place: int, us: int) -> Optional[_Seen]:
        """The packet that this place has not seen; it is newer than every equal one that it has seen.

        Of several, the oldest with a delay as usual, if there is one.
        """
        found: List[_Seen] = []
        for index in range(min(len(known), MATCH_REPEATS_MAX)):
            seen = known[-1 - index]
            if place in seen.places:
                break
            if abs(us - seen.us) <= self._window_us:
                found.append(seen)
        if not found:
            return None
        delays = [self._delays.get(seen.places[0], place) for seen in found]
        likely = [seen for seen, delay in zip(found, delays) if abs(us - seen.us - delay) <= _JITTER_US]
        if len(found) > 1 and not likely:
            return None
        best = found[0] if len(found) == 1 else likely[-1]
        self._delays.set(best.places[0], place, us - best.us)
        return best

    def _forget(self) -> None:
        """Forget the packets that arrived first, while they are older than the window or too many."""
        oldest = self._newest_us - self._window_us
        while self._ages and (self._ages[0][0] < oldest or len(self._ages) >= self._packets):
            us, digest = self._ages.popleft()
            known = self._known[digest]
            seen = known.popleft()
            self.forgotten += us >= oldest and len(seen.places) == 1
            if not known:
                del self._known[digest]


class _Record(NamedTuple):
    us: int
    #: Position among all records of a call: by source, then in order of arrival.
    serial: int
    source: int
    original: int
    #: Header and captured bytes.
    data: bytes


def merge(  # noqa: PLR0917 - the compiled function takes them by position too
    sources: Sequence[Source],
    until_us: int,
    last_us: int,
    form: Form,
    max_packets: int,
    max_bytes: int,
    matcher: Optional[Matcher] = None,
    dedupe: bool = False,
) -> Merged:
    """Write the records of several sources as part of a file, in time order.

    Records of the same microsecond keep the order of the sources, and within
    one source the order of arrival.

    Args:
        sources: See `Source`.  Their records need not be in time order; the fewer are out of
            order, the faster this function is.  Do not pass batches whose
            ``Checked.earliest_us`` is after ``until_us``: reading and copying them would
            only cost time.
        until_us: microseconds since the epoch; later records are left in ``rests``.
        last_us: microseconds since the epoch; the ``last_us`` of the previous call.
        form: The form of the output.
        max_packets: The largest number of packets to write.
        max_bytes: bytes; the largest size of the output.  If it is smaller than the first
            packet, nothing is written.
        matcher: Numbers the packets (epb_packetid; classic pcap has no field for it).
        dedupe: Leave out packets that the matcher has already seen at another place.

    Raises:
        RecordError: A record of any source is cut short or not valid.
        ValueError: A number is out of range.
    """
    pending = [_checked(source) for source in sources]
    until_us = number("until_us", until_us, -_I64 - 1, _I64)
    last_us = number("last_us", last_us, -_I64 - 1, _I64)
    form = Form(number("form", form, Form.PCAP, Form.PCAPNG))
    max_packets = number("max_packets", max_packets, 0, _I64)
    max_bytes = number("max_bytes", max_bytes, 0, _I64)
    if matcher is not None and not isinstance(matcher, Matcher):
        raise TypeError("matcher must be a Matcher")

    records = _gather(pending)
    due = [record for record in records if record.us <= until_us]
    due.sort(key=operator.attrgetter("us"))

    writing = _Writing(pending, form, last_us, matcher, dedupe)
    done = 0
    for record in due:
        if not writing.take(record, max_packets, max_bytes):
            break
        done += 1

    gone = {record.serial for record in due[:done]}
    rests: list[list[bytes]] = [[] for _ in pending]
    for record in records:
        if record.serial not in gone:
            rests[record.source].append(record.data)
    return Merged(
        data=b"".join(writing.pieces),
        packets=tuple(writing.packets),
        late=tuple(writing.late),
        rests=[b"".join(rest) for rest in rests],
        last_us=max(last_us, due[done - 1].us) if done else last_us,
        full=done < len(due),
        reported=tuple(writing.reported),
        left_out=tuple(writing.left_out),
    )


class _Writing:
    """The output of a merge so far; the counters are per source, see `Merged`."""

    def __init__(
        self, sources: List[Source], form: Form, last_us: int, matcher: Optional[Matcher], dedupe: bool
    ) -> None:
        self._sources = sources
        self._form = form
        self._last_us = last_us
        self._matcher = matcher
        self._dedupe = dedupe
        self._size = 0
        self.pieces: List[bytes] = []
        self.packets, self.late, self.reported, self.left_out = ([0] * len(sources) for _ in range(4))

    def take(self, record: _Record, max_packets: int, max_bytes: int) -> bool:
        """Write a record, or leave it out as a duplicate; return False if it exceeds a limit."""
        us, _, index, original, data = record
        if len(self.pieces) == max_packets:
            return False
        source = self._sources[index]
        packet, again = _match(self._matcher, source, us, data)
        if again and self._dedupe:
            self.left_out[index] += 1
            return True
        drops, next_gap = _drops_before(source.gaps, us, self.reported[index])
        piece = _written(self._form, source.interface, us, original, data, packet, drops)
        if self._size + len(piece) > max_bytes:
            return False
        self._size += len(piece)
        self.reported[index] = next_gap
        self.pieces.append(piece)
        self.packets[index] += 1
        self.late[index] += us < self._last_us
        return True


def _checked(given: Any) -> Source:
    """Check the types and ranges of a source's fields."""
    interface, batches, gaps, link_type, place = Source(*given)
    return Source(
        number("interface", interface, 0, _U32),
        [as_bytes(batch) for batch in batches],
        [
            (number("after_us", after_us, -_I64 - 1, _I64), number("drops", drops, 0, _I64))
            for after_us, drops in gaps
        ],
        number("link type", link_type, -1, _U32),
        number("place", place, 0, _U32),
    )


def _match(matcher: Optional[Matcher], source: Source, us: int, record: bytes) -> Tuple[Optional[int], bool]:
    """The packet's number (None if it is not IP), and whether it was seen at another place before."""
    if matcher is None:
        return None, False
    data = record[HEADER_SIZE:]
    content = unchanging(data, walk(source.link_type, data))
    return (None, False) if content is None else matcher.see(source.place, us, digest(content))


def _drops_before(gaps: Sequence[Gap], us: int, first: int) -> tuple[int, int]:
    """The number of drops in the gaps from `first` up to a record, and the index of the next gap."""
    drops = 0
    while first < len(gaps) and us > gaps[first][0]:
        drops += gaps[first][1]
        first += 1
    return min(drops, _U64), first


def _gather(sources: Sequence[Source]) -> list[_Record]:
    records: list[_Record] = []
    for index, source in enumerate(sources):
        for batch in source.batches:
            content = as_bytes(batch)
            for us, original, begin, end in walk_records(content, CAPTURED_MAX):
                records.append(_Record(us, len(records), index, original, content[begin:end]))
    return records


def _written(  # noqa: PLR0917 - in the order of the fields of the block
    form: Form, interface: int, us: int, original: int, record: bytes, packet: Optional[int], drops: int
) -> bytes:
    if form is Form.PCAP:
        return record
    return enhanced_packet(interface, us, original, record[HEADER_SIZE:], packet, drops)
