"""Requests were answered slowly."""

from __future__ import annotations

from typing import Iterator

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.log import Said
from pcapd.analysis.findings.base import WARNING, Group, Kind, Occurrence, Sort, milliseconds, packets
from pcapd.analysis.world import World

__all__ = ["HttpSlow"]


class HttpSlow(Kind):
    """Requests were answered slowly."""

    name = "http_slow"
    looks = "A long time from the last byte of a request to the first byte of its answer."
    means = "The application takes long; or what is between, where the shares say so."
    remedy = "Look at what the application does at these times."
    platform = "gorouter logs app_time and gorouter_time of each request."
    display = "http.time > 1"
    looks_at = Sort.HTTP

    def judge(self, conversation: Conversation, said: Said, world: World) -> Iterator[Occurrence]:
        talks = said.talks
        if talks is None or not talks.slow_count:
            return
        slowest = talks.slow[0]
        yield Occurrence(
            WARNING,
            conversation,
            tuple(sorted(slowest.places)),
            talks.slow_first_us,
            talks.slow_last_us,
            [(bad.place, bad.frame) for bad in talks.slow[:3]],
            {
                "took": slowest.wait_us,
                "all": talks.count,
                "path": f"{slowest.method} {slowest.path}",
                "network": slowest.network_us if slowest.network_us is not None else -1,
                "envoy": slowest.envoy_us if slowest.envoy_us is not None else -1,
                "app": slowest.app_us if slowest.app_us is not None else -1,
            },
            (),
            talks.slow_count,
        )

    def summary(self, group: Group, world: World) -> str:
        facts = group.facts
        words = f"{group.count} of {packets(group.total['all'], 'request')} of {group.ends} waited up to "
        words += f"{milliseconds(group.most['took'])}, such as {facts['path']}"
        shares = [
            f"{name} {milliseconds(facts[name])}" for name in ("network", "envoy", "app") if facts[name] >= 0
        ]
        return words + (f": {', '.join(shares)}." if shares else ".")
