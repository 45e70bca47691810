"""Packets were lost between two places."""

from __future__ import annotations

from typing import Final, Iterator, Tuple

from pcapd.analysis.conversations import Between, Conversation, Way
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import ERROR, NOTE, WARNING, Group, Kind, Occurrence, Sort, is_tcp, packets
from pcapd.analysis.findings.mtu import path_mtu_learned
from pcapd.analysis.findings.where import client_first, in_order, owners_that_saw_nothing
from pcapd.analysis.world import World

__all__ = ["LostBetween"]

#: Share of the packets of a conversation; a larger loss stalls it for seconds (Mathis 1997).
_SEVERE: Final = 0.05
#: Packets seen only at the later place, for each packet seen only at the earlier place.
_OTHERS: Final = 0.1
#: microseconds for which the second place must continue capturing, to exclude late packets.
_TAIL_US: Final = 500_000


def _lost(own: Between, *, first_sends: bool) -> Tuple[int, int, int]:
    """Packets that were certainly lost, those possibly lost, and the first frame."""
    first = own.only_first, own.since_first, own.again_first, own.frame_first
    second = own.only_second, own.since_second, own.again_second, own.frame_second
    (lost, since, again, frame), behind = (first, second) if first_sends else (second, first)
    again = max(0, again - behind[2])  # if the second sighting came before the first, nothing was lost
    if behind[0] + behind[1] > _OTHERS * (lost + since):
        # Network cards split or joined segments on the path: only retransmissions are evidence.
        return again, 0, own.again_frame
    return max(lost, again), since, frame or own.again_frame


def _missing_at_the_end(world: World, place: int, count: int, begin: int, end: int) -> int:
    """How many of the last packets, sent from `begin` to `end` (by the first clock), a place should have seen."""
    if not count or not world.watched(place, begin + _TAIL_US, 0):
        return 0
    until = world.aligned(place, world.places[place].last_us)
    return count if end <= until else max(1, count * (until - begin) // (end - begin))


def _to_a_group(address: bytes) -> bool:
    """Whether packets to an address go to some interfaces only: multicast, and broadcast (RFC 4541)."""
    return (
        address[:1] == b"\xff" if len(address) == 16 else address[0] & 0xF0 == 0xE0 or address == b"\xff" * 4
    )


def _sent_again(conversation: Conversation, place: int, *, client: bool) -> int:
    """The largest number of packets of one end that can have been lost: retransmitted or unacknowledged ones.

    Other packets that the other end acknowledged were just not captured.
    """
    view = next(view for view in conversation.views if view.place == place)
    half = view.client if client else view.server
    if half.acked < half.next:
        return half.packets
    return half.retransmitted + max(0, half.syn_count - 1)


class LostBetween(Kind):
    """Packets were lost between two places."""

    name = "lost_between"
    looks = (
        "A packet was seen at one place and not at the next one on its path; lost TCP data is retransmitted."
    )
    means = "Packets are dropped between these two places; the capture itself lost none of them."
    remedy = "Check what is between the two places: links, queues, firewalls, policies."
    platform = "Between a cell and a VM, these are the IaaS network and its security groups."
    display = "tcp.analysis.retransmission"
    looks_at = Sort.LOST

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        found = False
        if _to_a_group(conversation.server.address):
            return
        for way in conversation.ways:
            forward = client_first(way, conversation, world)
            for own, first_sends in ((way.up, forward), (way.down, not forward)):
                for occurrence in self._between(
                    conversation, exchanges, world, way, own, first_sends=first_sends
                ):
                    found = True
                    yield occurrence
        if not found:
            yield from self._never(conversation, world)

    def _between(
        self,
        conversation: Conversation,
        exchanges: Exchanges,
        world: World,
        way: Way,
        own: Between,
        *,
        first_sends: bool,
    ) -> Iterator[Occurrence]:
        lost, since, frame = _lost(own, first_sends=first_sends)
        here, there = (way.first, way.second) if first_sends else (way.second, way.first)
        begin, end = world.aligned(here, own.lost_first_us), world.aligned(here, own.lost_last_us)
        lost += _missing_at_the_end(world, there, since, begin if not lost else end, end)
        if is_tcp(conversation):
            lost = min(lost, _sent_again(conversation, here, client=own is way.up))
        if lost and world.lost_at(there, begin, end):
            lost -= world.places[there].lost_in_all
        if lost <= 0:
            return
        sent = own.both + lost
        severity = ERROR if lost > _SEVERE * sent and lost > 2 else WARNING
        yield Occurrence(
            NOTE if path_mtu_learned(exchanges, world, begin, end) else severity,
            conversation,
            (here, there),
            own.lost_first_us,
            own.lost_last_us,
            [(here, frame)],
            {"lost": lost, "sent": sent},
            (first_sends,),
        )

    def _never(self, conversation: Conversation, world: World) -> Iterator[Occurrence]:
        """Conversations of which nothing arrived at a place where it should have."""
        view = in_order(conversation, world)[-1]
        if not is_tcp(conversation) or not view.client.syn_us or view.server.packets:
            return
        at = world.aligned(view.place, view.client.syn_us)
        for place in owners_that_saw_nothing(conversation, world, at)[:1]:
            yield Occurrence(
                ERROR,
                conversation,
                (view.place, place),
                view.client.first_us,
                view.client.last_us,
                [(view.place, view.client.syn_frame)],
                {"lost": view.client.packets, "sent": view.client.packets},
                (True,),
            )

    def summary(self, group: Group, world: World) -> str:
        here, there = world.names(group.places)
        lost, sent = group.total["lost"], group.total["sent"]
        share = f"{100 * lost / sent:.1f} %" if lost < sent else "all"
        return f"{packets(lost)} of {sent} ({share}) were lost between {here} and {there}, of {group.ends}."
