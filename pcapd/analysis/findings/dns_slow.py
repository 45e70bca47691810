"""A DNS server answers slowly."""

from __future__ import annotations

from typing import Dict, Iterator, Tuple

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.dns import SLOW_US, Question
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import (
    WARNING,
    Group,
    Kind,
    Occurrence,
    Sort,
    address,
    milliseconds,
    packets,
)
from pcapd.analysis.world import World

__all__ = ["DnsSlow"]


class DnsSlow(Kind):
    """A DNS server answers slowly."""

    name = "dns_slow"
    looks = "A response that is late, or comes after the query was repeated."
    means = "The DNS server is overloaded, far away, or waits for another server."
    remedy = "Query the server manually (dig), and check the server to which it forwards."
    platform = ""
    display = "dns.time > 0.5"
    looks_at = Sort.DNS

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        best: Dict[Tuple[int, str, str, int], Tuple[int, Question, int]] = {}
        for place, dns in exchanges.dns.items():
            for question in dns.done:
                key = question.number, question.kind, question.name.lower(), question.asked_us[0]
                took = (question.answered_us or 0) - question.asked_us[0]
                if took >= SLOW_US and all(key[:3] != other[:3] for other in best):
                    best[key] = place, question, took
        for place, question, took in best.values():
            yield Occurrence(
                WARNING,
                conversation,
                (place,),
                question.asked_us[0],
                question.asked_us[0] + took,
                [(place, question.frame)],
                {"took": took, "name": question.name, "asked": question.asked},
            )

    def summary(self, group: Group, world: World) -> str:
        name = group.facts["name"][:100]
        text = f"{address(group.server)} took up to {milliseconds(group.most['took'])} to answer"
        return text + f" {packets(group.count, 'query')}, such as {name!r}."
