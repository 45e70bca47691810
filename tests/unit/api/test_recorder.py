"""The sink of a recording: what it holds, what it stores, and what it does when the store fails."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pcapd.api.recordings.recorder import Recorder
from pcapd.api.recordings.redialling import Redialling, pause
from pcapd.api.recordings.segments import Segment
from pcapd.api.resolvers.base import Target
from pcapd.limits import (
    QUIET_INTERVAL,
    REDIAL_MAX,
    REDIAL_PATIENCE,
    REDIALS_MAX,
    SEGMENT_BYTES,
    STATISTICS_INTERVAL,
    STORE_PATIENCE,
    STORE_RETRY,
)
from pcapd.merge.muxer import Muxer
from pcapd.packet.linktypes import ETHERNET
from pcapd.savefile.form import Form
from pcapd.savefile.reader import read_file
from pcapd.wire import End, EndReason, Source, Stats

US = 1_700_000_000_000_000


class Keeper:
    """Stores when a test says so."""

    def __init__(self) -> None:
        self.kept: list[Segment] = []
        self.asked: list[tuple[Segment, Deferred[None]]] = []
        self.quiets: list[tuple[int, int]] = []
        self.awaited_us: int | None = None
        self.completed: list[int] = []
        self.ends: list[tuple[str, str, bool]] = []

    def keep(self, segment: Segment) -> Deferred[None]:
        self.asked.append((segment, Deferred()))
        return self.asked[-1][1]

    def store(self) -> Segment:
        """Store the segment that waits."""
        ((segment, done),) = self.asked
        self.asked = []
        self.kept.append(segment)
        done.callback(None)
        return segment

    def fail(self) -> None:
        """Refuse it."""
        ((_, done),) = self.asked
        self.asked = []
        done.errback(OSError("No space left on device"))

    def quiet(self, up_to_us: int, dropped: int) -> None:
        self.quiets.append((up_to_us, dropped))

    def complete(self, up_to_us: int) -> None:
        self.completed.append(up_to_us)

    def opened(self, source: Source) -> None:
        """Nothing depends on it here."""

    def ended(self, state: str, message: str, *, draining: bool) -> None:
        self.ends.append((state, message, draining))


class Capture:
    """Is paused and abandoned."""

    def __init__(self) -> None:
        self.paused = False
        self.abandoned = ""

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def abandon(self, why: str) -> None:
        self.abandoned = why


class Sinks:
    """A recorder between a capture and a keeper."""

    def __init__(self, dropped: int = 0) -> None:
        self.reactor: Any = Clock()
        self.keeper, self.capture = Keeper(), Capture()
        self.recorder = Recorder(self.reactor, Muxer(Form.PCAPNG, 1500), self.keeper, dropped)
        self.recorder.record(self.capture)  # type: ignore[arg-type]
        self.sent = 0
        self.open(1)

    def open(self, number: int, name: str | None = None) -> None:
        """Open a source."""
        self.recorder.source(
            number, Source(name or f"web-{number}", "eth0", ETHERNET, 1500, "", agent="an-agent")
        )

    def packets(self, count: int, number: int = 1, size: int = 1000, dropped: int = 0) -> None:
        """Let packets arrive, with the counters that release them."""
        for _ in range(count):
            self.sent += 1
            at = US + self.sent
            head = struct.pack("<4I", at // 10**6, at % 10**6, size, size)
            self.recorder.packets(number, head + bytes(size))
        self.recorder.stats(number, Stats(self.sent + dropped, dropped, 0, self.sent, US + self.sent, False))

    def time(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds * 10)):
            self.reactor.advance(0.1)


@pytest.fixture
def sinks() -> Sinks:
    """A recording of one source."""
    return Sinks()


def test_a_slow_store_pauses_the_capture(sinks: Sinks) -> None:
    """With one segment being stored and one full, the agents are paused, and nothing more is collected."""
    full = SEGMENT_BYTES // 1000 + 1
    for _ in range(2):
        sinks.packets(full)
        sinks.time(0.2)
    assert sinks.capture.paused and len(sinks.keeper.asked) == 1
    held = sinks.recorder._segments.pending
    sinks.open(2)
    sinks.time(10 * STATISTICS_INTERVAL)
    assert sinks.recorder._segments.pending == held
    sinks.keeper.store()
    sinks.time(0.2)
    assert not sinks.capture.paused
    assert sum(segment.packets for segment in [sinks.keeper.kept[0], sinks.keeper.store()]) == 2 * full


def test_a_source_opens_while_a_segment_ends(sinks: Sinks, tmp_path: Path) -> None:
    """A segment that ends before the next look has the headers of all interfaces whose statistics it has."""
    sinks.packets(1)
    sinks.time(6)
    sinks.packets(1)
    sinks.time(6)
    sinks.open(2)
    sinks.keeper.store()  # and so the next one ends
    second = sinks.keeper.store()
    (tmp_path / "second").write_bytes(second.data)
    with (tmp_path / "second").open("rb") as file:
        assert len(list(read_file(file))) == 1
    assert second.data.count(b"web-2:eth0") == 1


def test_hours_without_packets() -> None:
    """Nothing is stored, but the recording's time goes on, and drops of earlier epochs are not forgotten."""
    sinks = Sinks(dropped=7)
    for minute in range(1, 121):
        sinks.recorder.stats(1, Stats(5, 5, 0, 0, US + minute * 60_000_000))
        sinks.time(60)
    assert not sinks.keeper.asked
    assert 100 <= len(sinks.keeper.quiets) <= 7200 / QUIET_INTERVAL
    assert sinks.keeper.quiets[-1] == (US + 120 * 60_000_000, 12)


def test_what_is_awaited_is_stored_soon(sinks: Sinks) -> None:
    """Where a clip waits, the segment ends when all packets up to then have arrived; nothing is stored before."""
    sinks.open(2)
    sinks.recorder.stats(2, Stats(0, 0, 0, 0, US))
    sinks.packets(5)
    sinks.keeper.awaited_us = US + 5
    sinks.time(1)
    assert not sinks.keeper.asked and not sinks.keeper.completed  # the other source may have earlier ones
    sinks.recorder.stats(2, Stats(0, 0, 0, 0, US + 7))
    sinks.time(0.1)
    assert sinks.keeper.store().packets == 5 and not sinks.keeper.completed
    sinks.time(0.1)
    assert sinks.keeper.completed == [US + 5]
    sinks.keeper.awaited_us = None
    sinks.time(1)
    assert not sinks.keeper.asked and not sinks.keeper.quiets


def test_what_is_awaited_of_sources_that_are_gone(sinks: Sinks) -> None:
    """When all sources have ended, nothing more comes: the clip of a crash waits for nobody."""
    sinks.packets(5)
    sinks.time(0.1)
    sinks.recorder.stats(1, Stats(5, 0, 0, 5, US + 5, final=True))
    sinks.keeper.awaited_us = US + 60_000_000
    sinks.time(0.2)
    assert sinks.keeper.store().packets == 5
    sinks.time(0.1)
    assert sinks.keeper.completed[-1] > US + 60_000_000 and not sinks.keeper.quiets


def test_the_store_fails_for_a_while(sinks: Sinks) -> None:
    """A segment is tried again until it is stored, and the recording goes on."""
    sinks.packets(1)
    sinks.time(6)
    for _ in range(20):
        sinks.keeper.fail()
        assert sinks.recorder.troubled
        sinks.time(STORE_RETRY + 0.1)
    assert sinks.keeper.store().number == 1
    assert not sinks.recorder.troubled and not sinks.keeper.ends


def test_the_store_fails_for_good(sinks: Sinks) -> None:
    """After the patience the capture is abandoned, and the reason is kept."""
    sinks.packets(1)
    sinks.time(6)
    for _ in range(round(STORE_PATIENCE / STORE_RETRY) + 1):
        sinks.keeper.fail()
        sinks.time(STORE_RETRY + 0.1)
        if sinks.keeper.ends:
            break
    assert sinks.keeper.ends == [("failed", "the store failed: No space left on device", False)]
    assert sinks.capture.abandoned and sinks.recorder.finished.called
    assert not sinks.reactor.getDelayedCalls()


@pytest.mark.parametrize("draining", [False, True])
def test_the_end(sinks: Sinks, draining: bool) -> None:
    """What is held back is stored first; a recording without packets stores its statistics."""
    reason = EndReason.DRAINING if draining else EndReason.STOPPED
    sinks.recorder.end(End(reason, "so"))
    assert not sinks.keeper.ends
    assert sinks.keeper.store().packets == 0
    assert sinks.keeper.ends == [("stopped", "so", draining)]


def test_a_source_returns(sinks: Sinks) -> None:
    """The statistics of the new interface say from when to when the instance was not captured."""
    sinks.packets(1)
    sinks.recorder.stats(1, Stats(1, 0, 0, 1, US + 1, final=True))
    sinks.open(2, "web-1")
    sinks.recorder.end(End(EndReason.STOPPED))
    assert b"it was not captured from " in sinks.keeper.store().data


# --- lost agents ---------------------------------------------------------------------


class Redialled:
    """A capture to which targets are added."""

    def __init__(self, *, works: bool) -> None:
        self.works = works
        self.added = self.settled = 0

    def add_target(self, target: Target) -> bool:
        self.added += 1
        return self.works

    def settle(self) -> None:
        self.settled += 1


TARGET = Target("web-0", "192.0.2.1", 9494)


def test_a_lost_agent_is_dialled_until_the_patience_is_over() -> None:
    """The pauses grow to their limit; then the capture is told that nothing more comes."""
    clock, capture = Clock(), Redialled(works=False)
    redialling = Redialling(clock, capture)
    redialling.opened(TARGET)
    redialling.gone(TARGET)
    clock.pump([1.0] * int(REDIAL_PATIENCE + 2 * REDIAL_MAX))
    assert not redialling.watching and capture.settled == capture.added
    assert REDIAL_PATIENCE / REDIAL_MAX <= capture.added <= REDIAL_PATIENCE / REDIAL_MAX + 8
    assert [pause(attempts) for attempts in (0, 1, 2, 10, 1000)] == [1, 2, 4, REDIAL_MAX, REDIAL_MAX]


def test_an_agent_that_comes_and_goes() -> None:
    """An agent that does not stay is dialled less and less often, and not for ever, because each time adds interfaces."""
    clock, capture = Clock(), Redialled(works=True)
    redialling = Redialling(clock, capture)
    redialling.opened(TARGET)
    redialling.gone(TARGET)
    for _ in range(3 * REDIALS_MAX):
        clock.advance(REDIAL_MAX)
        if capture.added and redialling._places["web-0"].timer is None:
            redialling.opened(TARGET)
            redialling.gone(TARGET)
    assert capture.added == REDIALS_MAX and not redialling.watching


def test_the_end_of_the_capture_ends_the_dialling() -> None:
    """No timer is left, and none is made afterwards."""
    clock = Clock()
    redialling = Redialling(clock, Redialled(works=True))
    redialling.gone(TARGET)
    redialling.stop()
    redialling.gone(TARGET)
    assert not clock.getDelayedCalls() and not redialling.watching
