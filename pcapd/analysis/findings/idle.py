"""An idle connection was cut."""

from __future__ import annotations

from typing import Final, Iterator, Optional, Tuple

from pcapd.analysis.conversations import Conversation, Half, View
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import ERROR, Group, Kind, Occurrence, is_tcp, milliseconds, packets
from pcapd.analysis.findings.keepalive import lost_the_race
from pcapd.analysis.findings.where import in_order
from pcapd.analysis.world import World

__all__ = ["IdleCut", "how_cut"]

#: microseconds after the silence within which the reset must come.
_SOON_US: Final = 5_000_000
#: Number of retransmissions without an answer (Linux: within some 3 s).
_REPEATED: Final = 3


def how_cut(view: View) -> Optional[Tuple[str, int]]:
    """How the connection was cut, and the frame."""
    seen = view.seen
    if not seen.idle_to_us or (view.client.fin_us and view.client.fin_us < seen.idle_to_us):
        return None
    for speaker, other in ((view.client, view.server), (view.server, view.client)):
        if not speaker.payload_packets or not speaker.payload_us >= seen.idle_to_us:
            continue
        if (
            other.rst_us
            and 0 <= other.rst_us - seen.idle_to_us <= _SOON_US
            and not _sent_data(other, seen.idle_to_us)
        ):
            return "a reset", other.rst_frame
        if speaker.again_count >= _REPEATED and other.last_us < seen.idle_to_us:
            return "nothing", speaker.frame1
    return None


def _sent_data(half: Half, us: int) -> bool:
    """Whether it sent data after a time."""
    return half.payload_us >= us


class IdleCut(Kind):
    """An idle connection was cut."""

    name = "idle_cut"
    looks = "After a long silence, a packet is answered with a RST or not at all."
    means = "A device between the ends, such as a NAT, a load balancer or a firewall, has dropped the idle connection."
    remedy = "Send data more often (TCP keep-alive, pings of the protocol), or raise the idle timeout of that device."
    platform = (
        "gorouter, load balancers and NAT gateways of IaaSes drop idle connections after 60 s to 15 min."
    )
    display = "tcp.flags.reset == 1 || tcp.analysis.retransmission"

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        if not is_tcp(conversation):
            return
        for view in in_order(conversation, world):
            cut = how_cut(view)
            if cut is not None and not any(lost_the_race(one, exchanges) for one in conversation.views):
                seen = view.seen
                yield Occurrence(
                    ERROR,
                    conversation,
                    conversation.places,
                    seen.idle_from_us,
                    seen.last_us,
                    [(view.place, seen.idle_frame), (view.place, cut[1])],
                    {"idle": seen.idle_to_us - seen.idle_from_us, "answer": cut[0]},
                    (cut[0],),
                )
                return

    def summary(self, group: Group, world: World) -> str:
        idle = milliseconds(group.least["idle"])
        return (
            f"{packets(group.count, 'connection')} of {group.ends} were silent for {idle} or more; "
            f"the next packet got {group.facts['answer']}."
        )
