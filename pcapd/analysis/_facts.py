"""What a conversation table says about a conversation, in a fixed number of bytes.

``_conversations.h`` has the same layouts.  All times are microseconds since the epoch by
the clock of the place; offsets count the bytes of a direction from its first one on, or from
the first one that was seen where the capture began later.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, Tuple

__all__ = ["BETWEEN", "HALF", "KEY", "SIGHTING", "Between", "Half", "Key", "Seen"]


class Key(NamedTuple):
    """Which conversation it is; the end 0 is the one whose address and port are less.

    Attributes:
        serial: Never the same for two conversations of a table.
        scope: Place + 1 where both addresses are of the loopback network, which every
            container has for itself; else 0.
        family, protocol: See `pcapd.packet.row.Row`.
        ports: Of the ends 0 and 1.
        addresses: Of these; those of IPv4 in the first four bytes.
    """

    serial: int
    scope: int
    family: int
    protocol: int
    port0: int
    port1: int
    address0: bytes
    address1: bytes


class Half(NamedTuple):
    """What one end sent, as one place saw it.

    Attributes:
        first_us, last_us: Of all its packets; 0 without any.
        payload_us: Of the last packet with payload; 0 without any.
        bytes: Payload, repeated ones included.
        next: Offset after the last byte that was seen (TCP).
        acked: Offset that the other end has confirmed; -1 before the SYN is.
        syn_us, fin_us, rst_us: Of the first such packet; 0 without any.
        fin_acked: Offset of the other end's bytes that the FIN confirmed.
        fin_idle_us: Silence of both before the FIN.
        rst_idle_us: Silence of both before the RST.
        retransmitted_first_us, retransmitted_last_us: Of repeated packets.
        zero_us, zero_longest_us: How long its window was closed, in all and at once.
        zero_since_us: Since when it is closed; 0 when it is not.
        rtt_least_us, rtt_sum_us, rtt_greatest_us: From a packet of this end to its
            confirmation at this place, without repeated ones (Karn's algorithm, RFC 6298).
        again_us: When the packet that is repeated without an answer was repeated first.
        packets: All.
        payload_packets: With payload.
        first_frame, syn_frame, fin_frame, rst_frame, last_frame: Numbers in the file, from 1 on.
        flags: All flags of TCP that were seen.
        base: Sequence number of offset 0.
        syn_count, rst_count: Packets.
        retransmitted, retransmitted_bytes: Packets and bytes that this place saw before.
        needless: Of these, those that the other end had confirmed before.
        late: Packets that fill a hole and were sent again: the first one was lost before this place.
        reordered: Packets that fill a hole and were only overtaken.
        duplicates: Packets that came twice at once.
        keepalives: Probes of an idle connection.
        unseen: Times that the other end confirmed what this place has not seen.
        zero_count, zero_frame: Times that its window closed, and the first such packet.
        rtt_count: Samples of the round trip.
        again_count, again_length: How often the packet that is not answered was repeated, and its payload.
        largest_acked: The largest payload of a packet that was confirmed.
        after_fin, after_fin_frame: Packets with payload after the other end's FIN, and the first of them.
        rst_unacked_own, rst_unacked_peer: Bytes that were not confirmed when it sent its RST,
            of its own and of the other end's.
        mss: What it announced; 0 when unknown.
        frame1, frame2, frame3, frame4: Of the first repeated, late packets.
        late_us: Not an offset: time of the last late packet; 0 without any.
    """

    first_us: int
    last_us: int
    payload_us: int
    bytes: int
    next: int
    acked: int
    syn_us: int
    fin_us: int
    rst_us: int
    fin_acked: int
    fin_idle_us: int
    rst_idle_us: int
    retransmitted_first_us: int
    retransmitted_last_us: int
    zero_us: int
    zero_longest_us: int
    zero_since_us: int
    rtt_least_us: int
    rtt_sum_us: int
    rtt_greatest_us: int
    again_us: int
    late_us: int
    packets: int
    payload_packets: int
    first_frame: int
    last_frame: int
    flags: int
    base: int
    syn_count: int
    syn_frame: int
    fin_frame: int
    rst_count: int
    rst_frame: int
    retransmitted: int
    retransmitted_bytes: int
    needless: int
    late: int
    reordered: int
    duplicates: int
    keepalives: int
    unseen: int
    zero_count: int
    zero_frame: int
    rtt_count: int
    again_count: int
    again_length: int
    largest_acked: int
    after_fin: int
    after_fin_frame: int
    rst_unacked_own: int
    rst_unacked_peer: int
    mss: int
    frame1: int
    frame2: int
    frame3: int
    frame4: int


class Seen(NamedTuple):
    """What one place saw of a conversation, both ends together.

    Attributes:
        last_us: Of its last packet.
        idle_from_us, idle_to_us: The last long silence; 0 without any.
        place: Its number.
        idle_count: Long silences.
        idle_side: The end that spoke after the last one.
        idle_frame: That packet.
    """

    last_us: int
    idle_from_us: int
    idle_to_us: int
    place: int
    idle_count: int
    idle_side: int
    idle_frame: int


class Between(NamedTuple):
    """What one end sent, and what became of it between two places, the lower number first.

    Attributes:
        least_us, greatest_us: Times at the second place, less those at the first.
        lost_first_us, lost_last_us: Of packets that only one place saw.
        both: Packets that both saw.
        again_first: Of these, those that only the first one saw before: they were lost between.
        again_second: Likewise, only the second.
        again_each: Both saw them before: they were lost behind both.
        only_first, only_second: Packets that one place saw while others were seen at both, before and after.
        since_first, since_second: Packets that one place saw after the last one that both saw.
        frame_first, frame_second: The first such packet of each.
        again_frame: The first packet of again_first or again_second.
    """

    least_us: int
    greatest_us: int
    lost_first_us: int
    lost_last_us: int
    both: int
    again_first: int
    again_second: int
    again_each: int
    only_first: int
    only_second: int
    since_first: int
    since_second: int
    frame_first: int
    frame_second: int
    again_frame: int
    unused: int


KEY: Final = struct.Struct("=QIBBHH16s16s")
HALF: Final = struct.Struct("=22q34I")
SIGHTING: Final = struct.Struct("=3q4I")
BETWEEN: Final = struct.Struct("=4q12I")
#: Key, what each place saw (of both ends), what happened between each two places (of both ends).
Facts = Tuple[Key, "list[Tuple[Seen, Half, Half]]", "list[Tuple[int, int, Between, Between]]"]
assert len(Half._fields) == 56 and len(Between._fields) == 16
