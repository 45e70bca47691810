"""Lines that a flood causes: a bounded number, each saying how many it stands for."""

from __future__ import annotations

from typing import Any, Mapping

from twisted.internet.task import Clock

from pcapd.limits import SUM_INTERVAL, SUM_PEERS_MAX
from pcapd.net.tally import Tally


class Lines:
    """What was written."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.tally = Tally(self.clock, self._write)
        self.counts: list[int] = []
        self.last: list[Any] = []

    def _write(self, count: int, facts: Mapping[str, Any]) -> None:
        self.counts.append(count)
        self.last.append(facts["number"])

    def flood(self, peer: str, times: int) -> None:
        for number in range(times):
            self.tally.add(peer, {"number": number})


def test_a_flood_of_one_peer() -> None:
    """A flood of one peer is logged at once, and then once in each interval, with the latest facts."""
    lines = Lines()
    for _ in range(3):
        lines.flood("one", 10)
        lines.clock.advance(SUM_INTERVAL)
    assert (lines.counts, lines.last) == ([1, 9, 10, 10], [0, 9, 9, 9])
    lines.clock.advance(SUM_INTERVAL)
    assert lines.clock.getDelayedCalls() == []
    lines.flood("one", 1)
    assert lines.counts[-1] == 1
    lines.tally.flush()


def test_a_flood_of_many_peers() -> None:
    """Peers beyond the bound share a line; all events are counted, and no peer is remembered for long."""
    lines = Lines()
    for number in range(10 * SUM_PEERS_MAX):
        lines.flood(str(number), 2)
    assert lines.counts == [1] * SUM_PEERS_MAX
    lines.tally.flush()
    assert len(lines.counts) == 2 * SUM_PEERS_MAX + 1
    assert sum(lines.counts) == 20 * SUM_PEERS_MAX
    lines.clock.advance(2 * SUM_INTERVAL)
    assert lines.clock.getDelayedCalls() == []
