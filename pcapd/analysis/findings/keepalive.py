"""A connection was closed while the next request was on its way."""

from __future__ import annotations

from typing import Iterator

from pcapd.analysis.conversations import Conversation, View
from pcapd.analysis.exchanges.http2 import Http2
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.exchanges.request import Request
from pcapd.analysis.findings.base import ERROR, Group, Kind, Occurrence, is_tcp, milliseconds, times
from pcapd.analysis.findings.where import in_order
from pcapd.analysis.world import World

__all__ = ["KeepaliveRace", "lost_the_race"]


def lost_the_race(view: View, exchanges: Exchanges) -> bool:
    """Whether a request was on its way when the server closed, according to one place."""
    client, server = view.client, view.server
    closed_us = server.fin_us
    if not closed_us or not server.rst_us or not server.payload_packets or not client.payload_packets:
        return False
    unread = client.next - bool(client.fin_us) > server.fin_acked
    http = exchanges.http.get(view.place)
    if isinstance(http, Http2):
        # Other frames than requests also arrive too late, and GOAWAY makes the client repeat requests.
        return unread and any(_late(one, view) for one in http.unanswered)
    if http is not None and http.waiting:
        first = http.waiting[0]
        if first.status is not None or not _late(first, view):
            return False  # the server had received it, and closed without a response
    return unread and server.payload_us <= closed_us


def _late(request: Request, view: View) -> bool:
    """Whether the server had not received a request when it closed."""
    return (request.seq - view.client.base) & 0xFFFFFFFF >= view.server.fin_acked


class KeepaliveRace(Kind):
    """A connection was closed while the next request was on its way."""

    name = "keepalive_race"
    looks = "The server sends a FIN on an idle connection while the next request is on its way, and answers that with a RST."
    means = "The server closes idle connections before the client stops using them, so some requests arrive too late."
    remedy = "Configure the server to keep idle connections longer than the client does."
    platform = "gorouter keeps idle connections to apps for 90 s: set the app's keep-alive timeout above that (in Node.js, server.keepAliveTimeout, 5 s by default)."
    display = "tcp.flags.fin == 1 || tcp.flags.reset == 1"

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        if not is_tcp(conversation):
            return
        for view in in_order(conversation, world)[::-1]:
            if lost_the_race(view, exchanges):
                yield Occurrence(
                    ERROR,
                    conversation,
                    conversation.places,
                    view.server.fin_us,
                    view.server.rst_us,
                    [(view.place, view.server.fin_frame), (view.place, view.server.rst_frame)],
                    {"idle": view.server.fin_idle_us},
                )
                return

    def summary(self, group: Group, world: World) -> str:
        idle = milliseconds(group.most["idle"])
        return (
            f"{times(group.count).capitalize()}, the server closed an idle connection of {group.ends} while the next "
            f"request was on its way; it had been silent for up to {idle}."
        )
