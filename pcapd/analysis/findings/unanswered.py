"""A connection was not answered."""

from __future__ import annotations

from typing import Final, Iterator

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import ERROR, Group, Kind, Occurrence, address, is_tcp, packets
from pcapd.analysis.findings.where import in_order, owners_that_saw_nothing
from pcapd.analysis.world import World

__all__ = ["Unanswered"]

#: microseconds without an answer after which it counts; no host is so far away.
_PATIENCE_US: Final = 900_000


class Unanswered(Kind):
    """A connection was not answered."""

    name = "connection_unanswered"
    looks = "A SYN, retransmitted after 1 s, 3 s and so on, without any answer."
    means = "The packets are dropped on the path: by a firewall or security group, by routing, or because the host is down."
    remedy = "Check routes and firewalls between the two ends, and whether the server is up."
    platform = "An app can reach only what application security groups allow (cf security-groups), and other apps only with a network policy (cf add-network-policy)."
    display = "tcp.flags.syn == 1 && tcp.flags.ack == 0"
    needs_the_end = True

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        if (
            not is_tcp(conversation)
            or exchanges.icmp
            or any(view.server.packets for view in conversation.views)
        ):
            return
        views = [view for view in in_order(conversation, world) if view.client.syn_us]
        if not views or any(world.lost_at(view.place, world.aligned(view.place, view.client.syn_us),
                                          world.aligned(view.place, view.client.last_us)) for view in views):  # fmt: skip
            return
        view, last = views[0], views[-1]
        until = world.places[view.place].last_us - view.client.syn_us
        if until < _PATIENCE_US and view.client.syn_count < 2:
            return
        at = world.aligned(view.place, view.client.syn_us)
        missed = owners_that_saw_nothing(conversation, world, at)
        yield Occurrence(
            ERROR,
            conversation,
            conversation.places,
            view.client.syn_us,
            view.client.last_us,
            [(view.place, view.client.syn_frame), (view.place, view.client.last_frame)],
            {
                "attempts": view.client.syn_count,
                "seen": world.places[last.place].name,
                "here": conversation.server.address in world.places[last.place].addresses,
                "missed": tuple(world.names(missed)),
            },
        )

    def summary(self, group: Group, world: World) -> str:
        text = f"{address(group.server)} did not answer {address(group.client)}: "
        text += f"{packets(group.total['attempts'], 'SYN')} in {packets(group.count, 'attempt')}"
        if group.facts["here"]:
            return text + f", which did arrive at {group.facts['seen']}."
        if group.facts["missed"]:
            return (
                text
                + f", last seen at {group.facts['seen']} and never at {', '.join(group.facts['missed'])}."
            )
        return text + f", last seen at {group.facts['seen']}."
