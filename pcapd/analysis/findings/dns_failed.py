"""A DNS query failed."""

from __future__ import annotations

from typing import Final, Iterator, List, Set, Tuple

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.dns import Question
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import ERROR, NOTE, WARNING, Group, Kind, Occurrence, Sort, address, packets
from pcapd.analysis.world import World

__all__ = ["DnsFailed"]

#: Failures that are kept until the end, because a later response may explain one.
_KEPT_MAX: Final = 2000


class DnsFailed(Kind):
    """A DNS query failed."""

    name = "dns_failed"
    looks = "A response with an error code: NXDOMAIN, SERVFAIL, REFUSED."
    means = "The name does not exist, or the server could not, or would not, resolve it."
    remedy = "Check the name, and the resolver that the client uses."
    platform = "An internal route (apps.internal) exists only while the app has a running instance."
    display = "dns.flags.rcode != 0"
    looks_at = Sort.DNS

    def __init__(self) -> None:
        self._failed: List[Tuple[Conversation, int, Question]] = []
        self._good: Set[Tuple[bytes, str]] = set()

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        for place, dns in exchanges.dns.items():
            for question in dns.done:
                if not question.code and question.answers:
                    if len(self._good) < _KEPT_MAX:
                        self._good.add((conversation.client.address, question.name.lower()))
                elif question.code and len(self._failed) < _KEPT_MAX:
                    self._failed.append((conversation, place, question))
            break
        return iter(())

    def judge_capture(self, world: World) -> Iterator[Occurrence]:
        for conversation, place, question in self._failed:
            searched = self._by_search_list(conversation.client.address, question)
            fatal = WARNING if question.code == "NXDOMAIN" else ERROR
            yield Occurrence(
                NOTE if searched else fatal,
                conversation,
                (place,),
                question.asked_us[0],
                question.answered_us or question.asked_us[1],
                [(place, question.frame)],
                {"code": question.code, "name": question.name, "searched": int(searched)},
                (question.code, searched),
            )

    def _by_search_list(self, client: bytes, question: Question) -> bool:
        """Whether a resolver added a domain of its search list to a name that was then found without it."""
        name = question.name.lower()
        labels = name.split(".")
        shorter = (".".join(labels[:count]) for count in range(1, len(labels)))
        return question.code == "NXDOMAIN" and any((client, one) in self._good for one in shorter)

    def summary(self, group: Group, world: World) -> str:
        name = group.facts["name"][:100]
        text = f"{packets(group.count, 'query')} to {address(group.server)} got {group.facts['code']}, such as {name!r}"
        return text + (
            "; a domain of the search list was added, and the name was found without it."
            if group.facts["searched"]
            else "."
        )
