"""Requests got no response."""

from __future__ import annotations

from typing import Final, Iterator, Set

from pcapd.analysis.conversations import Conversation, View
from pcapd.analysis.exchanges.http import Request
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import ERROR, Group, Kind, Occurrence, Sort, milliseconds, packets
from pcapd.analysis.findings.idle import how_cut
from pcapd.analysis.findings.keepalive import lost_the_race
from pcapd.analysis.findings.where import in_order
from pcapd.analysis.world import World

__all__ = ["HttpUnanswered"]

#: microseconds without a response, while the connection stays open.
_PATIENCE_US: Final = 5_000_000


def _why(view: View, request: Request, until_us: int) -> str:
    """Why there is no response; empty if it may still come."""
    client, server = view.client, view.server
    if server.rst_us or server.fin_us:
        return f"the server {'reset' if server.rst_us else 'closed'} the connection"
    waited = until_us - request.sent.last_us
    if client.rst_us or client.fin_us:
        return f"the client gave up after {milliseconds(max(client.rst_us, client.fin_us) - request.sent.last_us)}"
    return "nothing arrived" if waited >= _PATIENCE_US else ""


class HttpUnanswered(Kind):
    """Requests got no response."""

    name = "http_unanswered"
    looks = "A request without a response: the connection is closed, or nothing arrives."
    means = "The application hangs, crashed, or closed the connection without a response."
    remedy = "Check the log of the instance: did the request arrive, and did the process exit?"
    platform = "gorouter answers such requests with 502 and X-Cf-RouterError: endpoint_failure."
    display = "http.request"
    looks_at = Sort.HTTP

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        views = in_order(conversation, world)
        if not exchanges.http or any(lost_the_race(view, exchanges) or how_cut(view) for view in views):
            return
        known: Set[int] = set()  # requests that a place nearer to the server saw
        for view in views[::-1]:
            http = exchanges.http.get(view.place)
            if http is None or http.upgraded:
                continue
            if view.server.unseen or view.client.unseen:
                return  # the response may be among the packets that were not captured here
            lost = [one for one in http.waiting if one.status is None and one.seq not in known]
            known |= {one.seq for one in http.waiting} | http.answered_last
            begin, end = (lost[0].sent.first_us, view.seen.last_us) if lost else (0, 0)
            if not lost or world.lost_at(
                view.place, world.aligned(view.place, begin), world.aligned(view.place, end)
            ):
                continue
            why = _why(view, lost[0], world.places[view.place].last_us)
            if why:
                yield Occurrence(
                    ERROR,
                    conversation,
                    conversation.places,
                    begin,
                    end,
                    [(view.place, one.sent.frame) for one in lost[:3]],
                    {"path": lost[0].shown, "why": why},
                    (why.split(" after ")[0],),
                    len(lost),
                )
                return

    def summary(self, group: Group, world: World) -> str:
        facts = group.facts
        return f"{packets(group.count, 'request')} of {group.ends} got no response: {facts['why']}, such as {facts['path']}."
