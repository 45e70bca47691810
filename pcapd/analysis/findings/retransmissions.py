"""Packets were retransmitted."""

from __future__ import annotations

from typing import Final, Iterator

from pcapd.analysis.conversations import Between, Conversation, Half
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import NOTE, WARNING, Group, Kind, Occurrence, is_tcp, packets
from pcapd.analysis.findings.mtu import path_mtu_learned
from pcapd.analysis.findings.where import client_first, in_order
from pcapd.analysis.world import World

__all__ = ["Retransmissions"]

#: Share of the packets with payload; smaller losses are a normal part of TCP.
_MANY: Final = 0.005
#: Fewer packets are not significant.
_FEW: Final = 3
_ONE: Final = "Capture at the other end too: two places show where packets are lost."
_BOTH: Final = (
    "The packets, or their acknowledgments, passed every place of the capture: check whether "
    "the end that receives them discards them (nstat, ethtool -S) or answers late."
)
#: bytes of payload in a segment; a capture on the sender shows many of them as one packet (TSO, GRO).
_SEGMENT: Final = 1400


def _segments(half: Half) -> int:
    """How many packets with payload an end sent on the wire, at least."""
    return max(half.payload_packets, half.bytes // _SEGMENT)


def _alone(own: Between, *, first: bool) -> int:
    """How many packets only the first, or only the second, of two places saw."""
    return own.only_first + own.since_first if first else own.only_second + own.since_second


class Retransmissions(Kind):
    """Packets were retransmitted."""

    name = "retransmissions"
    looks = "The same bytes of a connection more than once, at one place."
    means = "A packet or its acknowledgment was lost, or took longer than the sender waited."
    remedy = f"With one place: {_ONE} With both ends: {_BOTH}"
    platform = ""
    display = "tcp.analysis.retransmission || tcp.analysis.fast_retransmission"

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        if not is_tcp(conversation):
            return
        views = in_order(conversation, world)
        again = [sum(half.retransmitted + half.late for half in (view.client, view.server)) for view in views]
        if not any(again):
            return
        view = views[again.index(max(again))]
        located = unseen = 0
        for way in conversation.ways:
            forward = client_first(way, conversation, world)
            up, down = (way.up, way.down) if forward else (way.down, way.up)
            located += up.again_first + down.again_second
            unseen += max(0, _alone(up, first=True) - _alone(up, first=False))
            unseen += max(0, _alone(down, first=False) - _alone(down, first=True))
        count = max(again) - located
        total = view.client.packets + view.server.packets
        most = max(_segments(view.client), _segments(view.server))
        if count <= 0:
            return
        half = view.client if view.client.retransmitted + view.client.late else view.server
        late = view.client.late + view.server.late
        begin, end = (
            half.retransmitted_first_us or half.late_us,
            max(half.retransmitted_last_us, half.late_us),
        )
        learned = path_mtu_learned(
            exchanges, world, world.aligned(view.place, begin), world.aligned(view.place, end)
        )
        many = count >= _FEW and count > _MANY * most and not (located or unseen or learned)
        yield Occurrence(
            WARNING if many else NOTE,
            conversation,
            conversation.places,
            begin,
            end,
            [(view.place, frame) for frame in (half.frame1, half.frame2, half.frame3, half.frame4)],
            {
                "again": count,
                "packets": total,
                "late": late,
                "needless": view.client.needless + view.server.needless,
            },
        )

    def advice(self, group: Group) -> str:
        return _BOTH if len(group.places) > 1 else _ONE

    def summary(self, group: Group, world: World) -> str:
        total = group.total
        text = f"{packets(total['again'])} of {total['packets']} of {group.ends} were retransmitted"
        if len(group.places) > 1:
            text += f", at {' and '.join(world.names(group.places))}: lost beyond them, or not acknowledged in time"
        elif total["late"]:
            text += f"; {total['late']} of them were lost before {world.names(group.places)[0]}"
        if total["needless"]:
            text += f"; {total['needless']} were not needed: their acknowledgment was late or lost"
        return text + "."
