"""A connection was refused."""

from __future__ import annotations

from typing import Iterator

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import (
    ERROR,
    Group,
    Kind,
    Occurrence,
    address,
    is_tcp,
    milliseconds,
    packets,
)
from pcapd.analysis.findings.where import in_order, owners_that_saw_nothing
from pcapd.analysis.world import World

__all__ = ["Refused"]


class Refused(Kind):
    """A connection was refused."""

    name = "connection_refused"
    looks = "A SYN is answered with a RST."
    means = "No program listens on that port, or a firewall refuses the connection on behalf of the server."
    remedy = "Check that the server runs and listens on this address and port. A client that tries IPv6 first and succeeds with IPv4 (RFC 8305) hides this failure: the name's other address has no server."
    platform = "For another app: check that it listens on the port of its route, and that there is a network policy (cf add-network-policy)."
    display = "tcp.flags.reset == 1"

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        if not is_tcp(conversation) or any(view.server.syn_us for view in conversation.views):
            return
        views = [view for view in in_order(conversation, world) if view.client.syn_us and view.server.rst_us]
        if not views:
            return
        view = views[0]
        missed = owners_that_saw_nothing(conversation, world, world.aligned(view.place, view.client.syn_us))
        yield Occurrence(
            ERROR,
            conversation,
            conversation.places,
            view.client.syn_us,
            view.server.rst_us,
            [(view.place, view.client.syn_frame), (view.place, view.server.rst_frame)],
            {"after": max(0, view.server.rst_us - view.client.syn_us), "not_at": tuple(world.names(missed))},
            (bool(missed),),
        )

    def summary(self, group: Group, world: World) -> str:
        text = f"{address(group.server)} refused {packets(group.count, 'connection')} from {address(group.client)}"
        text += f", within {milliseconds(group.most['after'])}"
        if group.facts["not_at"]:
            text += f"; the reset is not the server's own: the SYN never arrived at {', '.join(group.facts['not_at'])}"
        return text + "."
