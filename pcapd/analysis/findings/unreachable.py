"""An ICMP error reports that a destination cannot be reached."""

from __future__ import annotations

from typing import Final, Iterator

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import ERROR, WARNING, Group, Kind, Occurrence, Sort, times
from pcapd.analysis.world import World

__all__ = ["Unreachable"]

_V4: Final = {
    0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable",
    9: "network prohibited", 10: "host prohibited", 13: "administratively prohibited",
}  # fmt: skip
_V6: Final = {
    0: "no route", 1: "administratively prohibited", 2: "beyond scope", 3: "address unreachable", 4: "port unreachable",
    5: "source address refused", 6: "route refused",
}  # fmt: skip


class Unreachable(Kind):
    """An ICMP error reports that a destination cannot be reached."""

    name = "connection_unreachable"
    looks = "An ICMP error that quotes a packet of the conversation."
    means = "A router or the host itself reports that it cannot, or must not, deliver the packet."
    remedy = "Check the sender of the ICMP error: the refusal is configured there."
    platform = "Application security groups reply in this way if logging or rejecting is on."
    display = "icmp.type == 3 || icmpv6.type == 1"
    looks_at = Sort.ICMP

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        v4 = conversation.key.family == 4
        for icmp in exchanges.icmp:
            if icmp.type == (3 if v4 else 1) and not (v4 and icmp.code == 4):
                code, severity = (_V4 if v4 else _V6).get(icmp.code, f"code {icmp.code}"), ERROR
            elif icmp.type == (11 if v4 else 3) and conversation.protocol == 6:
                code, severity = "time to live exceeded: a routing loop, or too many hops", WARNING
            else:
                continue
            yield Occurrence(
                severity, conversation, (icmp.place,), icmp.us, icmp.us, [(icmp.place, icmp.frame)],
                {"code": code}, (code,),
            )  # fmt: skip

    def summary(self, group: Group, world: World) -> str:
        return f"ICMP errors {times(group.count)} for {group.ends}: {group.facts['code']}."
