"""The capture lost packets of its own."""

from __future__ import annotations

from typing import Dict, Iterator

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.log import Said
from pcapd.analysis.findings.base import NOTE, WARNING, Group, Kind, Occurrence, Sort, packets, times
from pcapd.analysis.world import World

__all__ = ["CaptureIncomplete"]


class CaptureIncomplete(Kind):
    """The capture lost packets of its own."""

    name = "capture_incomplete"
    looks = "The file's own counters say that packets were dropped by the kernel, the interface, or on the way here."
    means = (
        "What is missing around these times was lost by the capture; nothing of it is blamed on the network."
    )
    remedy = "Capture less (a filter, --snaplen, --headers-only), or more slowly."
    platform = ""
    display = ""
    looks_at = Sort.LOST

    def __init__(self) -> None:
        self._unseen: Dict[int, int] = {}

    def judge(self, conversation: Conversation, said: Said, world: World) -> Iterator[Occurrence]:
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
        for words in world.limits:
            yield Occurrence(NOTE, None, (), 0, 0, [], {"words": words}, (words,))

    def summary(self, group: Group, world: World) -> str:
        if "words" in group.facts:
            return str(group.facts["words"])
        name = world.names(group.places)[0]
        if "unseen" in group.facts:
            return (
                f"The capture at {name} misses packets: {times(group.total['unseen'])}, an end confirmed bytes "
                "that are not there; nobody says how many were lost."
            )
        lost, seen = group.total["lost"], group.total["seen"]
        return (
            f"The capture at {name} lost {packets(lost)} itself ({seen} are here): what is missing there "
            "says nothing about the network."
        )
