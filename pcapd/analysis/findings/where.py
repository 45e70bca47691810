"""The order of the places of a conversation, from the client to the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, List

from pcapd.analysis.conversations import TCP, Conversation, View, Way
from pcapd.analysis.findings.base import Sort

if TYPE_CHECKING:
    from pcapd.analysis.exchanges.log import Exchanges
    from pcapd.analysis.world import World

__all__ = ["client_first", "in_order", "near_client", "near_server", "owners_that_saw_nothing", "sorts"]


#: microseconds; a SYN is usually answered within this time.
_LATE_US = 100_000


def client_first(way: Way, conversation: Conversation, world: World) -> bool:
    """Whether the first of two places is nearer to the client.

    The client's packets take time from the first place to the second, and the server's
    from the second to the first, however the clocks differ.
    """
    if way.up.both and way.down.both:
        return way.up.least_us + way.up.greatest_us >= way.down.least_us + way.down.greatest_us
    addresses = world.places[way.first].addresses, world.places[way.second].addresses
    if conversation.client.address in addresses[0] or conversation.server.address in addresses[1]:
        return True
    if conversation.client.address in addresses[1] or conversation.server.address in addresses[0]:
        return False
    us = conversation.first_us
    if way.up.both:
        return world.aligned(way.second, us + way.up.least_us) >= world.aligned(way.first, us)
    return world.aligned(way.second, us + way.down.least_us) <= world.aligned(way.first, us)


def in_order(conversation: Conversation, world: World) -> List[View]:
    """The views of all places, from the client to the server."""
    if len(conversation.views) == 1:
        return conversation.views
    before = {view.place: 0 for view in conversation.views}
    for way in conversation.ways:
        before[way.second if client_first(way, conversation, world) else way.first] += 1
    return sorted(conversation.views, key=lambda view: (before[view.place], view.place))


def near_client(conversation: Conversation, world: World) -> View:
    """The view of the place nearest to the client."""
    return in_order(conversation, world)[0]


def near_server(conversation: Conversation, world: World) -> View:
    """The view of the place nearest to the server."""
    return in_order(conversation, world)[-1]


def owners_that_saw_nothing(conversation: Conversation, world: World, us: int) -> List[int]:
    """Places that should have seen the client's packets at a time, and did not.

    They have the server's address, or saw other conversations of the same two ends.
    """
    seen = set(conversation.places)
    if conversation.key.scope:
        return []
    ends = conversation.client.address, conversation.server.address
    return [
        place.number
        for place in world.places
        if place.number not in seen
        and (conversation.server.address in place.addresses or ends in world.shared.get(place.number, ()))
        and world.watched(place.number, us, 0)
        and not world.lost_at(place.number, us, us)
    ]


def sorts(conversation: Conversation, exchanges: Exchanges) -> Iterator[Sort]:
    """The classes to which a conversation belongs; few checks are made for a healthy one."""
    if conversation.protocol == TCP and any(_unusual(view) for view in conversation.views):
        yield Sort.TROUBLE
    if conversation.ways or conversation.protocol == TCP:
        yield Sort.LOST
    for there, sort in (
        (exchanges.icmp, Sort.ICMP),
        (exchanges.http or exchanges.requests, Sort.HTTP),
        (exchanges.dns, Sort.DNS),
        (exchanges.tls, Sort.TLS),
    ):
        if there:
            yield sort


def _unusual(view: View) -> bool:
    client, server = view.client, view.server
    if client.rst_us or server.rst_us or view.seen.idle_count or (client.syn_us and not server.syn_us):
        return True
    return any(
        half.retransmitted or half.late or half.zero_count or half.syn_count > 1 for half in (client, server)
    ) or bool(client.syn_us and server.syn_us - client.syn_us > _LATE_US)
