"""A DNS server does not answer."""

from __future__ import annotations

from typing import Dict, Final, Iterator, Set, Tuple

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.dns import Question
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import ERROR, Group, Kind, Occurrence, Sort, address, packets
from pcapd.analysis.world import World

__all__ = ["DnsUnanswered"]

#: microseconds without a response after which it counts.
_PATIENCE_US: Final = 900_000


class DnsUnanswered(Kind):
    """A DNS server does not answer."""

    name = "dns_unanswered"
    looks = "A query without any response; most resolvers repeat it after 5 s, or try another server."
    means = "The DNS server is down or overloaded, or a firewall drops the queries or the responses."
    remedy = "Query the server manually (dig @SERVER NAME), and check the path to it."
    platform = (
        "Apps can reach only the DNS servers that application security groups allow: port 53, UDP and TCP."
    )
    display = "dns.flags.response == 0"
    looks_at = Sort.DNS
    needs_the_end = True

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        unanswered: Dict[Tuple[str, str, int], Tuple[int, Question]] = {}
        answered: Set[Tuple[str, str, int]] = set()
        for place, dns in exchanges.dns.items():
            answered |= {(one.kind, one.name.lower(), one.number) for one in dns.done}
            for one in dns.waiting.values():
                unanswered.setdefault((one.kind, one.name.lower(), one.number), (place, one))
        for key, (place, question) in unanswered.items():
            waited = world.places[place].last_us - question.asked_us[0]
            begin, end = (
                world.aligned(place, us) for us in (question.asked_us[0], question.asked_us[1] + _PATIENCE_US)
            )
            if (
                key in answered
                or (waited < _PATIENCE_US and question.asked < 2)
                or world.lost_at(place, begin, end)
                or exchanges.icmp
            ):
                continue
            yield Occurrence(
                ERROR,
                conversation,
                conversation.places,
                *question.asked_us,
                [(place, question.frame)],
                {"asked": question.asked, "name": question.name},
            )

    def summary(self, group: Group, world: World) -> str:
        name = group.facts["name"][:100]
        return f"{address(group.server)} did not answer {packets(group.count, 'query')}, such as {name!r}."
