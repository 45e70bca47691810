"""A receiver does not read."""

from __future__ import annotations

from typing import Final, Iterator

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import (
    NOTE,
    WARNING,
    Group,
    Kind,
    Occurrence,
    address,
    is_tcp,
    milliseconds,
    packets,
)
from pcapd.analysis.findings.where import in_order
from pcapd.analysis.world import World

__all__ = ["ReceiverStalled"]

#: microseconds; shorter stalls happen in every fast transfer.
_NOTED_US: Final = 200_000
_LONG_US: Final = 1_000_000


class ReceiverStalled(Kind):
    """A receiver does not read."""

    name = "receiver_stalled"
    looks = "The receiver advertises a window of zero bytes, and opens it later or never."
    means = "The program at that end does not read: it is busy, blocked, or stopped. The network is not the cause."
    remedy = "Check why the program at that end does not read: what is it busy with?"
    platform = ""
    display = "tcp.analysis.zero_window"

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        if not is_tcp(conversation):
            return
        view = in_order(conversation, world)[0]
        for name, half in (("client", view.client), ("server", view.server)):
            if not half.zero_count:
                continue
            open_end = half.zero_since_us and not half.fin_us and not half.rst_us
            rest = view.seen.last_us - half.zero_since_us if open_end else 0
            longest = max(half.zero_longest_us, rest)
            if longest < _NOTED_US:
                continue
            yield Occurrence(
                WARNING if longest >= _LONG_US else NOTE,
                conversation,
                conversation.places,
                view.client.first_us,
                view.seen.last_us,
                [(view.place, half.zero_frame)],
                {"count": half.zero_count, "longest": longest, "all": half.zero_us + rest, "end": name},
                (name,),
            )

    def summary(self, group: Group, world: World) -> str:
        end = group.client if group.facts["end"] == "client" else group.server
        return (
            f"{address(end)} did not read: its window was closed {packets(group.total['count'], 'time')}, "
            f"up to {milliseconds(group.most['longest'])} ({milliseconds(group.total['all'])} in all), in {group.ends}."
        )
