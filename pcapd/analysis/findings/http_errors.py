"""Requests failed."""

from __future__ import annotations

from typing import Final, Iterator

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.log import Said
from pcapd.analysis.findings.base import ERROR, WARNING, Group, Kind, Occurrence, Sort, packets
from pcapd.analysis.world import World

__all__ = ["HttpErrors"]

#: Of the requests of a conversation.
_MANY: Final = 0.05


class HttpErrors(Kind):
    """Requests failed."""

    name = "http_errors"
    looks = "Answers with a status of 500 or more."
    means = "The application, or a proxy in its name, failed."
    remedy = "Look at the log of the instance at these times."
    platform = "With X-Cf-RouterError it is gorouter that answers: endpoint_failure, no_endpoints and unknown_route say why."
    display = "http.response.code >= 500"
    looks_at = Sort.HTTP

    def judge(self, conversation: Conversation, said: Said, world: World) -> Iterator[Occurrence]:
        talks = said.talks
        if talks is None:
            return
        for status, (count, first_us, last_us) in talks.failed.items():
            shown = [bad for bad in talks.bad if bad.status == status]
            router = next((bad.router_error for bad in shown if bad.router_error), "")
            places = tuple(sorted({bad.place for bad in shown})) or conversation.places
            yield Occurrence(
                ERROR if count > _MANY * talks.count else WARNING,
                conversation,
                places,
                first_us,
                last_us,
                [(bad.place, bad.frame) for bad in shown[:3]],
                {
                    "status": str(status),
                    "all": talks.count,
                    "path": f"{shown[0].method} {shown[0].path}" if shown else "",
                    "router": router,
                },
                (status, router),
                count,
            )

    def summary(self, group: Group, world: World) -> str:
        facts = group.facts
        words = (
            f"{group.count} of {packets(group.total['all'], 'request')} of {group.ends} got {facts['status']}"
        )
        words += f", such as {facts['path']}" if facts["path"] else ""
        return words + (f"; X-Cf-RouterError: {facts['router']}." if facts["router"] else ".")
