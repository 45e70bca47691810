"""The capture itself lost packets."""

from __future__ import annotations

from typing import Dict, Iterator

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import NOTE, WARNING, Group, Kind, Occurrence, Sort, packets, times
from pcapd.analysis.world import World

__all__ = ["CaptureIncomplete"]


class CaptureIncomplete(Kind):
    """The capture itself lost packets."""

    name = "capture_incomplete"
    looks = "The counters in the file report packets dropped by the kernel, by the interface, or on the way to the client."
    means = "Packets that are missing around these times were lost by the capture; they are not blamed on the network."
    remedy = "Capture less: use a filter, --snaplen or --headers-only."
    platform = ""
    display = ""
    looks_at = Sort.LOST

    def __init__(self) -> None:
        self._unseen: Dict[int, int] = {}

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        for view in conversation.views:
            unseen = view.client.unseen + view.server.unseen
            if unseen and view.client.payload_packets + view.server.payload_packets:
                self._unseen[view.place] = self._unseen.get(view.place, 0) + unseen
        return iter(())

    def judge_capture(self, world: World) -> Iterator[Occurrence]:
        for number, unseen in self._unseen.items():
            place = world.places[number]
            if not place.lost_in_all:
                facts = {"unseen": unseen, "seen": place.packets}
                yield Occurrence(
                    WARNING, None, (number,), place.first_us, place.last_us, [], facts, ("unseen",)
                )
        for place in world.places:
            if place.lost_in_all:
                moments = [us for begin, end, _ in place.losses for us in (begin, end)] or [
                    place.first_us,
                    place.last_us,
                ]
                yield Occurrence(
                    WARNING,
                    None,
                    (place.number,),
                    min(moments),
                    max(moments),
                    [],
                    {"lost": place.lost_in_all, "seen": place.packets},
                )
        for text in world.limits:
            yield Occurrence(NOTE, None, (), 0, 0, [], {"text": text}, (text,))

    def summary(self, group: Group, world: World) -> str:
        if "text" in group.facts:
            return str(group.facts["text"])
        name = world.names(group.places)[0]
        if "unseen" in group.facts:
            return (
                f"The capture at {name} misses packets: {times(group.total['unseen'])}, an end acknowledged bytes "
                "that were not captured; the number of lost packets is unknown."
            )
        lost, seen = group.total["lost"], group.total["seen"]
        return (
            f"The capture at {name} itself lost {packets(lost)} ({seen} are present): missing packets there "
            "do not indicate a network problem."
        )
