"""Requests were answered slowly."""

from __future__ import annotations

from typing import Iterator

from pcapd.analysis.conversations import Conversation
from pcapd.analysis.exchanges.log import Exchanges
from pcapd.analysis.findings.base import WARNING, Group, Kind, Occurrence, Sort, milliseconds, packets
from pcapd.analysis.world import World

__all__ = ["HttpSlow"]


class HttpSlow(Kind):
    """Requests were answered slowly."""

    name = "http_slow"
    looks = "A long time from the last byte of a request to the first byte of its response."
    means = "The application is slow, or the network or a proxy, if their shares of the time are large."
    remedy = "Check what the application does at these times."
    platform = "gorouter logs app_time and gorouter_time for each request."
    display = "http.time > 1"
    looks_at = Sort.HTTP

    def judge(self, conversation: Conversation, exchanges: Exchanges, world: World) -> Iterator[Occurrence]:
        requests = exchanges.requests
        if requests is None or not requests.slow_count:
            return
        slowest = requests.slow[0]
        yield Occurrence(
            WARNING,
            conversation,
            tuple(sorted(slowest.places)),
            requests.slow_first_us,
            requests.slow_last_us,
            [(bad.place, bad.frame) for bad in requests.slow[:3]],
            {
                "took": slowest.wait_us,
                "all": requests.count,
                "path": slowest.shown,
                "network": slowest.network_us if slowest.network_us is not None else -1,
                "envoy": slowest.envoy_us if slowest.envoy_us is not None else -1,
                "app": slowest.app_us if slowest.app_us is not None else -1,
            },
            (),
            requests.slow_count,
        )

    def summary(self, group: Group, world: World) -> str:
        facts = group.facts
        text = f"{group.count} of {packets(group.total['all'], 'request')} of {group.ends} waited up to "
        text += f"{milliseconds(group.most['took'])}, such as {facts['path']}"
        shares = [
            f"{name} {milliseconds(facts[name])}" for name in ("network", "envoy", "app") if facts[name] >= 0
        ]
        return text + (f": {', '.join(shares)}." if shares else ".")
