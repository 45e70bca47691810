"""The capture lost packets of its own."""

from __future__ import annotations

from typing import Iterator

from pcapd.analysis.findings.base import NOTE, WARNING, Group, Kind, Occurrence, packets
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

    def judge_capture(self, world: World) -> Iterator[Occurrence]:
        for place in world.places:
            if place.lost_in_all:
                times = [us for begin, end, _ in place.losses for us in (begin, end)] or [
                    place.first_us,
                    place.last_us,
                ]
                yield Occurrence(
                    WARNING,
                    None,
                    (place.number,),
                    min(times),
                    max(times),
                    [],
                    {"lost": place.lost_in_all, "seen": place.packets},
                )
        for words in world.limits:
            yield Occurrence(NOTE, None, (), 0, 0, [], {"words": words}, (words,))

    def summary(self, group: Group, world: World) -> str:
        if "words" in group.facts:
            return str(group.facts["words"])
        name = world.names(group.places)[0]
        lost, seen = group.total["lost"], group.total["seen"]
        return (
            f"The capture at {name} lost {packets(lost)} itself ({seen} are here): what is missing there "
            "says nothing about the network."
        )
