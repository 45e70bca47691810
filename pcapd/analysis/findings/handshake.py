"""A TCP handshake was slow."""

from __future__ import annotations

from typing import Final, Iterator

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import WARNING, Group, Kind, Occurrence, is_tcp, milliseconds, packets
from pcapd.analysis.findings.where import near_client, near_server
from pcapd.analysis.world import World

__all__ = ["SlowHandshake"]

#: microseconds; the longest paths around the earth and over a satellite take less than half a second.
_SLOW_US: Final = 500_000


class SlowHandshake(Kind):
    """A TCP handshake was slow."""

    name = "slow_handshake"
    looks = "The SYN-ACK is late, or comes only after the SYN was retransmitted."
    means = "The path is long, packets of the handshake are lost, or the server's accept queue is full."
    remedy = "If the SYN was retransmitted, check for losses and for a full accept queue (ss -lnt: Recv-Q) at the server."
    platform = ""
    display = "tcp.flags.syn == 1"

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        if not is_tcp(conversation):
            return
        view = near_client(conversation, world)
        client, server = view.client, view.server
        if not client.syn_us or not server.syn_us or server.syn_us - client.syn_us < _SLOW_US:
            return
        far = near_server(conversation, world)
        there = far.server.syn_us - far.client.syn_us if far.client.syn_us and far.server.syn_us else 0
        yield Occurrence(
            WARNING,
            conversation,
            conversation.places,
            client.syn_us,
            server.syn_us,
            [(view.place, client.syn_frame), (view.place, server.syn_frame)],
            {
                "took": server.syn_us - client.syn_us,
                "repeated": client.syn_count - 1,
                "there": there if far is not view else -1,
                "at": world.places[far.place].name,
            },
        )

    def summary(self, group: Group, world: World) -> str:
        text = f"{packets(group.count, 'handshake')} of {group.ends} took up to {milliseconds(group.most['took'])}"
        if group.total["repeated"]:
            text += f"; the SYN was retransmitted ({packets(group.total['repeated'], 'time')})"
        if group.facts["there"] >= 0:
            text += f"; at {group.facts['at']} the answer took {milliseconds(group.facts['there'])}"
        return text + "."
