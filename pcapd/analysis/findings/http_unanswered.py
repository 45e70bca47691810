"""Requests got no response."""

from __future__ import annotations

from typing import Final, Iterator, List, Set, Tuple

from pcapd.analysis.conversations import Conversation, Half, View
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.exchanges.request import Request
from pcapd.analysis.findings.base import ERROR, NOTE, Group, Kind, Occurrence, Sort, milliseconds, packets
from pcapd.analysis.findings.idle import how_cut
from pcapd.analysis.findings.keepalive import lost_the_race
from pcapd.analysis.findings.where import in_order
from pcapd.analysis.world import World

__all__ = ["HttpUnanswered"]

#: microseconds without a response, while the connection stays open.
_PATIENCE_US: Final = 5_000_000


def _why(view: View, request: Request, until_us: int) -> str:
    """Why there is no response; empty if it may still come."""
    if request.cancelled_us:
        return f"the client cancelled after {milliseconds(request.cancelled_us - request.sent.last_us)}"
    client_us, server_us = _closed_us(view.client), _closed_us(view.server)
    if server_us and not 0 < client_us <= server_us:
        return f"the server {'reset' if view.server.rst_us else 'closed'} the connection"
    if not request.ended:
        return ""  # a call in both directions: nothing may have been asked yet
    if client_us:
        return f"the client gave up after {milliseconds(client_us - request.sent.last_us)}"
    return "nothing arrived" if until_us - request.sent.last_us >= _PATIENCE_US else ""


def _closed_us(half: Half) -> int:
    """When an end closed the connection; 0 if it did not."""
    return min((us for us in (half.fin_us, half.rst_us) if us), default=0)


def _missed(view: View, request: Request, world: World) -> bool:
    """Whether the response may be among the packets that the capture lost."""
    begin, end = request.sent.first_us, view.seen.last_us
    return world.lost_at(view.place, world.aligned(view.place, begin), world.aligned(view.place, end))


def _occurrence(conversation: Conversation, view: View, lost: List[Tuple[Request, str]]) -> Occurrence:
    first, why = lost[0]
    certain = any(not one.quiet or reason.startswith("the server") for one, reason in lost)
    return Occurrence(
        ERROR if certain else NOTE,
        conversation,
        conversation.places,
        first.sent.first_us,
        view.seen.last_us,
        [(view.place, one.sent.frame) for one, _ in lost[:3]],
        {"path": first.shown, "why": why},
        (why.split(" after ")[0],),
        len(lost),
    )


class HttpUnanswered(Kind):
    """Requests got no response."""

    name = "http_unanswered"
    looks = "A request without a response: the connection is closed, nothing arrives, or in HTTP/2 the client cancels after a second or more. A gRPC call without a deadline (grpc-timeout) may be a stream without an event, so it is only a note while the connection stays open."
    means = "The application hangs, crashed, or closed the connection without a response."
    remedy = "Check the log of the instance: did the request arrive, and did the process exit?"
    platform = "gorouter answers such requests with 502 and X-Cf-RouterError: endpoint_failure."
    display = "http.request || http2.headers.method"
    looks_at = Sort.HTTP
    needs_the_end = True

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
            until_us = world.places[view.place].last_us
            lost = [(one, _why(view, one, until_us)) for one in http.unanswered if one.seq not in known]
            lost = [(one, why) for one, why in lost if why]
            known |= {one.seq for one in http.waiting} | http.answered_last
            if lost and not _missed(view, lost[0][0], world):
                yield _occurrence(conversation, view, lost)
                return

    def summary(self, group: Group, world: World) -> str:
        facts = group.facts
        return f"{packets(group.count, 'request')} of {group.ends} got no response: {facts['why']}, such as {facts['path']}."
