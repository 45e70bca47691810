"""Requests failed."""

from __future__ import annotations

from typing import Final, Iterator

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import ERROR, WARNING, Group, Kind, Occurrence, Sort, packets
from pcapd.analysis.world import World

__all__ = ["HttpErrors"]

#: Share of the requests of a conversation.
_MANY: Final = 0.05


class HttpErrors(Kind):
    """Requests failed."""

    name = "http_errors"
    looks = "Responses with a status of 500 or more; in HTTP/2 also a gRPC status that corresponds to one (UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS), and RST_STREAM of the server."
    means = "The application failed, or a proxy that answered for it."
    remedy = "Check the log of the instance at these times."
    platform = "A response with X-Cf-RouterError is from gorouter; its value is the reason: endpoint_failure, no_endpoints or unknown_route."
    display = 'http.response.code >= 500 || http2.headers.status >= 500 || http2.header.name == "grpc-status" || http2.rst_stream.error'
    looks_at = Sort.HTTP

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        requests = exchanges.requests
        if requests is None:
            return
        for outcome, (count, first_us, last_us) in requests.failed.items():
            shown = [bad for bad in requests.bad if bad.outcome == outcome]
            router = next((bad.router_error for bad in shown if bad.router_error), "")
            places = tuple(sorted({bad.place for bad in shown})) or conversation.places
            yield Occurrence(
                ERROR if count > _MANY * requests.count else WARNING,
                conversation,
                places,
                first_us,
                last_us,
                [(bad.place, bad.frame) for bad in shown[:3]],
                {
                    "outcome": outcome,
                    "all": requests.count,
                    "path": shown[0].shown if shown else "",
                    "said": shown[0].said if shown else "",
                    "router": router,
                },
                (outcome, router),
                count,
            )

    def summary(self, group: Group, world: World) -> str:
        facts = group.facts
        text = f"{group.count} of {packets(group.total['all'], 'request')} of {group.ends} got {facts['outcome']}"
        text += f", such as {facts['path']}" if facts["path"] else ""
        text += f" ({facts['said']})" if facts["said"] else ""
        return text + (f"; X-Cf-RouterError: {facts['router']}." if facts["router"] else ".")
