"""Follows one end of a conversation, in plain Python; see `pcapd.analysis._conversations`."""

from __future__ import annotations

from typing import Any, Final, List, Optional, Tuple

from pcapd.analysis._facts import HALF, Half

__all__ = ["TWIN_US", "FollowedHalf", "Recent", "follow_tcp", "told_apart"]

_M32: Final = 0xFFFF_FFFF
#: Not an offset.
_NONE: Final = -(2**62)
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
#: microseconds; a packet that fills a hole sooner was reordered, unless other facts show a loss.
_OVERTAKEN_US: Final = 3000
#: microseconds; a retransmission takes longer (RFC 6298: 1 s, Linux: 200 ms): the packet was duplicated.
TWIN_US: Final = 5000
#: Sets of digests of packets, and their sizes.  An equal packet a little later, with the same
#: identification, is not a retransmission but a second sighting, by an interface that shows both
#: directions of forwarding.
_RECENT, _WAYS = 4096, 8
_PLACE_FACTOR: Final = 0x9E37_79B9_7F4A_7C15
_M64: Final = 0xFFFF_FFFF_FFFF_FFFF
#: Number of holes remembered for one end.
_HOLES: Final = 4


class _Hole:
    __slots__ = ("begin", "end", "stamp", "us")

    def __init__(self, begin: int, end: int, us: int, stamp: Optional[int]) -> None:
        self.begin, self.end, self.us, self.stamp = begin, end, us, stamp


class FollowedHalf:
    """The state of one end; see `pcapd.analysis._facts.Half` for the other attributes."""

    __slots__ = (
        *Half._fields, "again_at", "digest", "holes", "pending", "started", "timed", "timed_at", "wanted",
    )  # fmt: skip

    packets: int

    def __init__(self) -> None:
        for field in Half._fields:
            setattr(self, field, 0)
        self.digest = self.pending = self.timed_at = self.wanted = 0
        self.again_at = self.timed = _NONE
        self.started = False
        self.holes: List[_Hole] = []

    def pack(self) -> bytes:
        return HALF.pack(*(getattr(self, field) for field in Half._fields))


class Recent:
    """The digests of recent packets, and when they were seen."""

    def __init__(self) -> None:
        self._sets = [[(0, 0)] * _WAYS for _ in range(_RECENT)]

    def see(self, digest: int, place: int, us: int) -> Tuple[bool, bool]:
        """Whether a place saw an equal packet before, and whether it did just before."""
        own = digest + place * _PLACE_FACTOR & _M64
        recent = self._sets[own % _RECENT]
        known, twin = False, False
        for index, (before, then) in enumerate(recent):
            if before == own:
                known, twin = True, 0 <= us - then < TWIN_US
                del recent[index]
                break
        else:
            del recent[-1]
        recent.insert(0, (own, us))
        return known, twin


def follow_tcp(  # noqa: PLR0917
    half: Any,
    peer: Any,
    row: Tuple[Any, ...],
    frame: int,
    silence: int,
    data: bytes,
    *,
    known: bool,
) -> Tuple[int, bool, Optional[bool]]:
    """Follow one segment.

    Args:
        half, peer: The end that sent it, and the other one.
        row: The packet; `data` is what its ``at`` refers to, `frame` its number.
        silence: Microseconds since the previous packet of the conversation.
        known: Whether its place saw an equal packet before.

    Returns:
        Its offset, whether it has new bytes, and whether it is a retransmission; None if it
        is seen a second time.
    """
    us, flags, seq, ack, window, payload = row[0], row[5], row[8], row[9], row[10], row[12]
    half.flags |= flags
    if flags & _RST:
        _reset(half, peer, us, frame, silence)
        return 0, False, False
    syn, fin = flags >> 1 & 1, flags & 1
    if not half.started:
        half.started = True
        half.base = (seq + syn) & _M32
        half.acked = -syn
    offset = half.next + _signed(seq + syn - half.base - half.next)
    fresh: bool = True
    again: Optional[bool] = False
    if syn:
        again = half.syn_count > 0
        _syn(half, row, frame, data)
    elif payload or fin:
        if fin and not half.fin_us:
            half.fin_us, half.fin_frame, half.fin_idle_us = us, frame, silence
        fresh, again = _segment(half, peer, row, frame, offset, offset + payload + fin, data, known=known)
        if fin and half.fin_us == us and flags & _ACK and peer.started:
            half.fin_acked = peer.next + _signed(ack - peer.base - peer.next)
        if payload and fresh and peer.fin_us:
            half.after_fin += 1
            half.after_fin_frame = half.after_fin_frame or frame
    elif offset == half.next - 1:
        half.keepalives += 1
    if flags & _ACK:
        if peer.started:
            _confirm(peer, peer.next + _signed(ack - peer.base - peer.next), us)
        if not syn:
            _window(half, window, us, frame)
    return offset, fresh, again


def _syn(half: Any, row: Tuple[Any, ...], frame: int, data: bytes) -> None:
    us = row[0]
    half.syn_count += 1
    if half.syn_count == 1:
        half.syn_us, half.syn_frame = us, frame
        half.timed, half.timed_at = 0, us
        half.mss = _option(row, data, 2, 2) or 0
    else:
        half.timed = _NONE


def _segment(  # noqa: PLR0917
    half: Any,
    peer: Any,
    row: Tuple[Any, ...],
    frame: int,
    offset: int,
    end: int,
    data: bytes,
    *,
    known: bool,
) -> Tuple[bool, Optional[bool]]:
    """Whether it has new bytes, and whether it is a retransmission; None if it is seen a second time."""
    us, payload = row[0], row[12]
    if known and offset < half.next and told_apart(row, data):
        half.duplicates += 1
        return False, None
    if offset >= half.next:
        if offset > half.next:
            if len(half.holes) == _HOLES:
                del half.holes[0]
            half.holes.append(_Hole(half.next, offset, us, _option(row, data, 8, 4)))
        half.next = end
        half.pending = max(half.pending, payload)
        if half.timed == _NONE:
            half.timed, half.timed_at = end, us
        return True, False
    if payload <= 1 and end == half.next and not row[5] & _FIN:
        half.keepalives += 1
        return False, False
    for hole in half.holes:
        if offset < hole.end and hole.begin < end:
            _fill(half, peer, hole, row, offset, end, frame, data)
            return True, False
    fresh = end > half.next
    half.next = max(half.next, end)
    half.timed = _NONE
    _repeated(half, us, payload, offset, end, frame)
    return fresh, True


def told_apart(row: Tuple[Any, ...], data: bytes) -> bool:
    """Whether a retransmission differs, by identification or time stamp: an equal packet is the same one."""
    return bool(row[7][0] == 4 or _option(row, data, 8, 4) is not None)


def _fill(  # noqa: PLR0917
    half: Any,
    peer: Any,
    hole: _Hole,
    row: Tuple[Any, ...],
    offset: int,
    end: int,
    frame: int,
    data: bytes,
) -> None:
    stamp = _option(row, data, 8, 4)
    newer = _signed(stamp - hole.stamp) if stamp is not None and hole.stamp is not None else 0
    least = max(_OVERTAKEN_US, peer.rtt_least_us)
    if newer > 0 or (newer == 0 and row[0] - hole.us >= least):
        half.late += 1
        half.late_us = row[0]
        _note_frame(half, frame)
    else:
        half.reordered += 1
    half.timed = _NONE
    if offset <= hole.begin and end >= hole.end:
        half.holes.remove(hole)
    elif offset <= hole.begin:
        hole.begin = end
    elif end >= hole.end or len(half.holes) == _HOLES:
        hole.end = offset
    else:
        rest = _Hole(end, hole.end, hole.us, hole.stamp)
        hole.end = offset
        half.holes.insert(half.holes.index(hole) + 1, rest)


def _signed(difference: int) -> int:
    """A difference of sequence numbers (RFC 1982)."""
    return ((difference + 0x8000_0000) & _M32) - 0x8000_0000


def _option(row: Tuple[Any, ...], data: bytes, kind: int, size: int) -> Optional[int]:
    """The value of a TCP option, or None."""
    begin, end = row[4] + row[17] + 20, min(row[4] + min(row[11], row[1]), len(data))
    while begin + 2 <= end:
        if data[begin] == 1:
            begin += 1
            continue
        length = data[begin + 1]
        if data[begin] == 0 or length < 2 or begin + length > end:
            return None
        if data[begin] == kind and length >= 2 + size:
            return int.from_bytes(data[begin + 2 : begin + 2 + size], "big")
        begin += length
    return None


def _reset(half: Any, peer: Any, us: int, frame: int, silence: int) -> None:
    half.rst_count += 1
    if half.rst_count == 1:
        half.rst_us, half.rst_frame, half.rst_idle_us = us, frame, silence
        half.rst_unacked_own = min(_M32, max(0, half.next - max(half.acked, 0)))
        half.rst_unacked_peer = min(_M32, max(0, peer.next - max(peer.acked, 0)))


def _repeated(half: Any, us: int, payload: int, offset: int, end: int, frame: int) -> None:  # noqa: PLR0917
    half.retransmitted_first_us = half.retransmitted_first_us if half.retransmitted else us
    half.retransmitted_last_us = us
    half.retransmitted += 1
    half.retransmitted_bytes = (half.retransmitted_bytes + payload) & _M32
    half.needless += end <= half.acked
    _note_frame(half, frame)
    if offset == half.again_at:
        half.again_count += 1
    else:
        half.again_at, half.again_count, half.again_us = offset, 1, us
    half.again_length = payload


def _note_frame(half: Any, frame: int) -> None:
    if not half.frame1:
        half.frame1 = frame
    elif not half.frame2:
        half.frame2 = frame
    elif not half.frame3:
        half.frame3 = frame
    elif not half.frame4:
        half.frame4 = frame


def _confirm(peer: Any, acked: int, us: int) -> None:
    """Process an acknowledgment: the other end has everything that `peer` sent before `acked`."""
    if acked > peer.next:
        peer.unseen += 1
        peer.next = acked
    if acked <= peer.acked:
        return
    peer.acked = acked
    if peer.timed != _NONE and acked >= peer.timed:
        rtt = max(0, us - peer.timed_at)
        peer.rtt_least_us = min(peer.rtt_least_us, rtt) if peer.rtt_count else rtt
        peer.rtt_greatest_us = max(peer.rtt_greatest_us, rtt)
        peer.rtt_sum_us += rtt
        peer.rtt_count += 1
        peer.timed = _NONE
    if acked >= peer.next:
        peer.largest_acked = max(peer.largest_acked, peer.pending)
        peer.pending = 0
    if peer.again_at != _NONE and acked > peer.again_at:
        peer.again_at, peer.again_count = _NONE, 0
    if peer.holes:
        before = len(peer.holes)
        peer.holes = [hole for hole in peer.holes if hole.end > acked]
        peer.unseen += before - len(peer.holes)


def _window(half: Any, window: int, us: int, frame: int) -> None:
    if window == 0:
        if not half.zero_since_us:
            half.zero_since_us = us
            half.zero_count += 1
            half.zero_frame = half.zero_frame or frame
    elif half.zero_since_us:
        closed = max(0, us - half.zero_since_us)
        half.zero_us += closed
        half.zero_longest_us = max(half.zero_longest_us, closed)
        half.zero_since_us = 0
