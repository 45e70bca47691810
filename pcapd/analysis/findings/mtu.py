"""Large packets disappear."""

from __future__ import annotations

from typing import Final, Iterator

from pcapd.analysis.conversations import Conversation, Half, View
from pcapd.analysis.exchanges.log import Said
from pcapd.analysis.findings.base import ERROR, Group, Kind, Occurrence, is_tcp, packets
from pcapd.analysis.findings.where import in_order
from pcapd.analysis.world import World

__all__ = ["MtuBlackHole"]

#: How often a packet must be repeated.
_REPEATED: Final = 2
#: bytes of payload; every way must carry IP packets of 576 bytes (RFC 791), and does.
_LARGE: Final = 520


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
    """Large packets disappear."""

    name = "mtu_black_hole"
    looks = (
        "The handshake and small packets pass, large ones are sent again and again, and nobody confirms them."
    )
    means = "The way has a smaller MTU than the ends believe, and the ICMP message that says so does not arrive (RFC 2923)."
    remedy = (
        'Lower the MTU of the interface (or the MSS, at the router), or let ICMP "fragmentation needed" pass.'
    )
    platform = (
        "On overlay networks of containers the MTU must leave room for the outer header (silk: 50 bytes)."
    )
    display = "tcp.analysis.retransmission && tcp.len > 500"

    def judge(self, conversation: Conversation, said: Said, world: World) -> Iterator[Occurrence]:
        if not is_tcp(conversation):
            return
        views = in_order(conversation, world)
        told = [icmp for icmp in said.icmp if icmp.type in (2, 3) and (icmp.type == 2 or icmp.code == 4)]
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
                    "mtu": told[-1].mtu if told else 0,
                },
                (name,),
            )
            return

    def summary(self, group: Group, world: World) -> str:
        facts = group.facts
        words = f"Packets with {facts['length']} bytes of the {facts['end']} do not arrive in {group.ends}"
        words += f", sent again {packets(group.total['count'], 'time')}; the largest that arrived had {facts['passed']}"
        return words + (f"; ICMP says that the MTU is {facts['mtu']}." if facts["mtu"] else ".")
