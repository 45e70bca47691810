"""A live capture that is recorded besides: neither its client nor its recording holds up the other."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from twisted.internet.task import Clock

from pcapd.api.capture.life import Capture
from pcapd.api.recordings.tee import Tee
from pcapd.limits import RESUMABLE_PATIENCE
from pcapd.wire import Besides, EndReason, Notice, NoticeType, Request, decode
from tests.kit.unit.api import Make, Network, Sink, record

BATCH = record(1_000_000)


class Both:
    """A capture with a client and a recording."""

    def __init__(self, reactor: Clock, network: Network, make: Make, outer: Sink) -> None:
        self.client, self.recorder = Sink(), Sink()
        recorder: Any = self.recorder
        self.tee = Tee(reactor, self.client, recorder, "id-1")
        self.released: list[Capture] = []
        for name in ("source", "packets", "stats", "notice", "end", "error"):
            setattr(outer, name, getattr(self.tee, name))
        self.capture = make("web-0")
        self.tee.begin(self.capture, self.released.append)
        self.capture.start = lambda: None  # type: ignore[method-assign] # `make` has started it
        self.side = self.tee.client_side
        self.side.start()
        self.agent = network["web-0"]
        self.agent.start()

    def delivered(self) -> tuple[int, int]:
        """Deliver one packet; the packets that each side has then."""
        self.agent.deliver(BATCH)
        return tuple(len(sink.records.get(1, b"")) // len(BATCH) for sink in (self.client, self.recorder))  # type: ignore[return-value]


@pytest.fixture
def both(reactor: Clock, network: Network, make: Make, sink: Sink) -> Both:
    return Both(reactor, network, make, sink)


def test_both_receive_everything(both: Both) -> None:
    """The client learns the recording's id; sources, packets, counters and the end go to both."""
    (notice,) = both.client.notices
    assert (notice.type, notice.recording, notice.origin) == (NoticeType.RECORDED, "id-1", "api")
    assert both.delivered() == (1, 1)
    both.agent.stats(1)
    assert both.client.last_stats == both.recorder.last_stats != {}
    both.side.stop(EndReason.STOPPED)
    both.agent.end()
    assert both.client.ends == both.recorder.ends != []
    assert both.released == [both.capture]


def test_the_recording_goes_on_without_its_client(both: Both) -> None:
    """A client that leaves, even while it is slow, ends nothing; the recording is then ended in good order."""
    both.side.pauseProducing()
    both.side.abandon("the client is gone")
    assert both.delivered() == (0, 1) and not both.capture.paused
    both.tee.recording_side.stop(EndReason.BYTES, "no room")
    assert both.agent.stopped
    assert both.delivered() == (0, 2)
    both.agent.end()
    assert [end.reason for end in both.recorder.ends] == [EndReason.BYTES] and both.client.ends == []


def test_a_slow_client_does_not_hold_up_the_recording(both: Both, reactor: Clock) -> None:
    """The capture is paused for a moment only; then packets for the client are dropped, and counted."""
    both.side.pauseProducing()
    assert both.capture.paused
    reactor.advance(RESUMABLE_PATIENCE)
    assert not both.capture.paused and both.delivered() == (0, 1)
    both.side.resumeProducing()
    assert both.delivered() == (1, 2)
    both.agent.stats(2)
    assert both.client.last_stats[1].forwarded == 2


def test_a_slow_store_does_not_hold_up_the_client(both: Both) -> None:
    """Packets for a recording that is behind are dropped, and counted; the capture is not paused."""
    both.tee.recording_side.pauseProducing()
    assert not both.capture.paused and both.delivered() == (1, 0)
    both.tee.recording_side.resumeProducing()
    assert both.delivered() == (2, 1)
    both.agent.stats(2)
    assert both.recorder.last_stats[1].forwarded == 2


@pytest.mark.parametrize("failed", [True, False])
def test_the_client_goes_on_without_its_recording(both: Both, *, failed: bool) -> None:
    """A recording that fails or is stopped leaves the client its capture, and is said."""
    side = both.tee.recording_side
    side.abandon("the store failed") if failed else side.stop(EndReason.STOPPED, "stopped by its owner")
    assert both.delivered() == (1, 0)
    assert both.client.notices[-1].message.startswith("the recording has ended: ")
    assert len(both.recorder.ends) == (0 if failed else 1)
    both.side.pauseProducing()
    both.side.abandon("the client is gone")
    assert both.capture.finished.called


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b'{"targets": ["a"], "record": {"keep": 60}}', Besides(60)),
        (b'{"targets": ["a"], "record": {}}', Besides()),
        (b'{"targets": ["a"]}', None),
    ],
)
def test_the_request(text: bytes, wanted: Optional[Besides]) -> None:
    """START says whether to record besides; without the field, as from older clients, nothing is recorded."""
    assert decode(Request, text).record == wanted


def test_an_api_without_recordings(front: Any) -> None:
    """An api that makes no recordings refuses to, so that nobody relies on one."""
    request = Request(targets=("web-0",), record=Besides())
    refused: list[str] = []
    front.api.begin(request, "token", None, Sink()).addErrback(
        lambda failure: refused.append(failure.value.code)
    )
    assert refused == ["bad_request"]


def test_an_older_client_reads_the_notice() -> None:
    """An unknown kind of notice is read as such (docs/wire-protocol.rst), and its text is shown."""
    notice = decode(Notice, b'{"type": "OF_TOMORROW", "message": "x", "origin": "api", "recording": "1"}')
    assert (notice.type, notice.message) == (NoticeType.UNKNOWN, "x")
