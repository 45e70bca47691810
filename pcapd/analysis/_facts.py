"""The facts of a conversation table about a conversation, in a fixed number of bytes.

``_facts.h`` has the same layouts.  All times are microseconds since the epoch by the
clock of the place; offsets count the bytes of a direction from the first byte, or from the
first captured byte if the capture started later.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, Tuple

__all__ = ["BETWEEN", "HALF", "KEY", "SIGHTING", "Between", "Half", "Key", "Seen"]


class Key(NamedTuple):
    """The key of a conversation; end 0 is the one with the lower address and port.

    Attributes:
        serial: Unique among the conversations of a table.
        scope: Place + 1 if both addresses are of the loopback network, which every container
            has separately; else 0.
        family, protocol: See `pcapd.packet.row.Row`.
        ports: The ports of ends 0 and 1.
        addresses: Their addresses; IPv4 addresses are in the first four bytes.
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
    """Facts about what one end sent, as one place saw it.

    Attributes:
        first_us, last_us: Times of its first and last packet; 0 without packets.
        payload_us: Time of the last packet with payload; 0 without one.
        bytes: Payload bytes, including retransmissions.
        next: Offset after the last byte that was seen (TCP).
        acked: Offset that the other end has acknowledged; -1 before the SYN is.
        syn_us, fin_us, rst_us: Time of the first such packet; 0 without one.
        fin_acked: Offset of the other end's bytes that the FIN acknowledged.
        fin_idle_us: Silence of both ends before the FIN.
        rst_idle_us: Silence of both ends before the RST.
        retransmitted_first_us, retransmitted_last_us: Times of retransmissions.
        zero_us, zero_longest_us: Total and longest time for which its window was closed.
        zero_since_us: Time since which it is closed; 0 if it is open.
        rtt_least_us, rtt_sum_us, rtt_greatest_us: From a packet of this end to its
            acknowledgment at this place, without retransmissions (Karn's algorithm, RFC 6298).
        again_us: First retransmission of the packet that is not acknowledged.
        packets: Number of packets.
        payload_packets: Number of packets with payload.
        first_frame, syn_frame, fin_frame, rst_frame, last_frame: Numbers in the file, from 1 on.
        flags: All TCP flags that were seen.
        base: Sequence number of offset 0.
        syn_count, rst_count: Numbers of such packets.
        retransmitted, retransmitted_bytes: Packets and bytes that this place had seen before.
        needless: Those of them that the other end had already acknowledged.
        late: Retransmissions that fill a hole: the original was lost before this place.
        reordered: Packets that fill a hole and were only reordered.
        duplicates: Packets that were duplicated on the path.
        keepalives: Probes of an idle connection.
        unseen: Number of times that the other end acknowledged bytes that this place has not seen.
        zero_count, zero_frame: Number of times that its window closed, and the first such packet.
        rtt_count: Number of round-trip samples.
        again_count, again_length: Retransmissions of the packet that is not acknowledged, and its payload.
        largest_acked: Largest payload of an acknowledged packet.
        after_fin, after_fin_frame: Packets with payload after the other end's FIN, and the first of them.
        rst_unacked_own, rst_unacked_peer: Unacknowledged bytes of this end and of the other end
            when it sent its RST.
        mss: The MSS that it advertised; 0 if unknown.
        frame1, frame2, frame3, frame4: Frames of the first retransmissions and late packets.
        late_us: Time of the last late packet; 0 without one.
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
        last_us: Time of its last packet.
        idle_from_us, idle_to_us: Start and end of the last long silence; 0 without one.
        place: The number of the place.
        idle_count: Number of long silences.
        idle_side: The end that sent the packet after the last one.
        idle_frame: The frame of that packet.
    """

    last_us: int
    idle_from_us: int
    idle_to_us: int
    place: int
    idle_count: int
    idle_side: int
    idle_frame: int


class Between(NamedTuple):
    """What happened to the packets of one end between two places, the lower number first.

    Attributes:
        least_us, greatest_us: Minimum and maximum of the time at the second place minus that at the first.
        lost_first_us, lost_last_us: First and last time of packets that only one place saw.
        both: Packets that both places saw.
        again_first: Those of them that only the first place had seen before: the originals were lost between.
        again_second: Those that only the second place had seen before.
        again_each: Those that both had seen before: the originals were lost beyond both.
        only_first, only_second: Packets that one place saw, between others that both saw.
        since_first, since_second: Packets that one place saw after the last one that both saw.
        frame_first, frame_second: The first such packet of each place.
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
