"""Large packets are lost, and small ones arrive."""

from __future__ import annotations

from typing import Final, Iterator, List

from pcapd.analysis.conversations import Conversation, Half, View
from pcapd.analysis.exchanges.log import Exchanges, Icmp
from pcapd.analysis.findings.base import ERROR, Group, Kind, Occurrence, is_tcp, packets
from pcapd.analysis.findings.where import in_order
from pcapd.analysis.world import World

__all__ = ["MtuBlackHole", "path_mtu_learned", "reports_of_mtu"]

#: Number of times that a packet must have been repeated.
_REPEATED: Final = 2
#: bytes of payload; every path carries IP packets of 576 bytes (RFC 791).
_LARGE: Final = 520
#: microseconds around the ICMP messages in which the packets that were too large are sent again.
_LEARNING_US: Final = 1_000_000


def reports_of_mtu(exchanges: Exchanges) -> List[Icmp]:
    """The ICMP messages that say that a packet is too large for the path (RFC 1191, RFC 8201)."""
    return [icmp for icmp in exchanges.icmp if icmp.type == 2 or (icmp.type, icmp.code) == (3, 4)]


def path_mtu_learned(exchanges: Exchanges, world: World, first_us: int, last_us: int) -> bool:
    """Whether ICMP explains losses between two times (by the first clock): the packets were too large."""
    told = [world.aligned(icmp.place, icmp.us) for icmp in reports_of_mtu(exchanges)]
    return bool(told) and min(told) - _LEARNING_US <= first_us and last_us <= max(told) + _LEARNING_US


def _stuck(half: Half, peer: Half, view: View) -> bool:
    """Whether large packets of one end do not arrive, and small ones do."""
    large = (
        half.again_count >= _REPEATED
        and half.again_length >= _LARGE
        and half.largest_acked < half.again_length
    )
    alive = peer.syn_us or peer.payload_packets
    return bool(large and alive and not peer.rst_us and not view.client.rst_us)


class MtuBlackHole(Kind):
    """Large packets are lost, and small ones arrive."""

    name = "mtu_black_hole"
    looks = "The handshake and small packets pass; large ones are retransmitted and never acknowledged."
    means = "The path has a smaller MTU than the ends assume, and the ICMP message that reports it does not arrive (RFC 2923)."
    remedy = (
        'Lower the MTU of the interface (or the MSS at the router), or allow ICMP "fragmentation needed".'
    )
    platform = "On container overlay networks, the MTU must leave room for the outer header (silk: 50 bytes)."
    display = "tcp.analysis.retransmission && tcp.len > 500"

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        if not is_tcp(conversation):
            return
        views = in_order(conversation, world)
        errors = reports_of_mtu(exchanges)
        for name, ordered in (("client", views), ("server", views[::-1])):
            view = ordered[0]
            half, peer = (view.client, view.server) if name == "client" else (view.server, view.client)
            if not _stuck(half, peer, view):
                continue
            yield Occurrence(
                ERROR,
                conversation,
                conversation.places,
                half.again_us,
                half.last_us,
                [(view.place, frame) for frame in (half.frame1, half.frame2, half.frame3)],
                {
                    "end": name,
                    "length": half.again_length,
                    "passed": half.largest_acked,
                    "count": half.again_count,
                    "mtu": errors[-1].mtu if errors else 0,
                },
                (name,),
            )
            return

    def summary(self, group: Group, world: World) -> str:
        facts = group.facts
        text = f"Packets with {facts['length']} bytes from the {facts['end']} do not arrive in {group.ends}"
        text += f", retransmitted {packets(group.total['count'], 'time')}; the largest that arrived had {facts['passed']}"
        return text + (f"; ICMP reports an MTU of {facts['mtu']}." if facts["mtu"] else ".")
