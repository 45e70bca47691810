"""The clocks of two places differ."""

from __future__ import annotations

from typing import Final, Iterator

from pcapd.analysis.findings.base import NOTE, WARNING, Group, Kind, Occurrence, milliseconds
from pcapd.analysis.world import World

__all__ = ["ClocksApart"]

#: microseconds in addition to the error; NTP in a data centre is not more precise.
_NOTED_US: Final = 1000
#: microseconds; beyond this, logs of two machines cannot be compared.
_FAR_US: Final = 1_000_000


class ClocksApart(Kind):
    """The clocks of two places differ."""

    name = "clocks_apart"
    looks = "Packets seem to arrive before they were sent, or long after."
    means = (
        "The machines' clocks differ; the times here are corrected, those in the file and in logs are not."
    )
    remedy = "Check NTP on these machines."
    platform = ""
    display = ""

    def judge_capture(self, world: World) -> Iterator[Occurrence]:
        for place in world.places:
            clock = place.clock
            if clock is None or not place.packets:
                continue
            offset = place.first_us - clock.corrected(place.first_us)
            if abs(offset) <= _NOTED_US + clock.error_us:
                continue
            yield Occurrence(
                WARNING if abs(offset) >= _FAR_US else NOTE,
                None,
                (place.number,),
                place.first_us,
                place.last_us,
                [],
                {"offset": offset, "error": round(clock.error_us), "drift": f"{clock.drift * 1e6:+.0f}"},
            )

    def summary(self, group: Group, world: World) -> str:
        offset, facts = group.facts["offset"], group.facts
        way = "ahead of" if offset > 0 else "behind"
        text = f"The clock of {world.names(group.places)[0]} is {milliseconds(abs(offset))} {way} that of "
        text += f"{world.reference} (within {milliseconds(facts['error'])})"
        return text + (
            f", and drifts by {facts['drift']} ppm." if facts["drift"] not in ("+0", "-0") else "."
        )
