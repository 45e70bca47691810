"""What the end of a capture says about a lost connection (``--resumable``)."""

from __future__ import annotations

from typing import Any, Callable, Optional

import pytest

from pcapd import COMPATIBILITY_LEVEL
from pcapd.ctl.display.resuming import begin, lines
from pcapd.ctl.options import CaptureOptions
from pcapd.ctl.stream.session import CaptureSession
from pcapd.errors import PcapdError
from pcapd.merge.muxer import Muxer
from pcapd.savefile.form import Form
from pcapd.wire import (
    Besides,
    Callee,
    End,
    EndReason,
    Error,
    Hello,
    Notice,
    NoticeType,
    Request,
    Source,
    Stats,
)

NOW_US = 1_700_000_000_000_000  # 2023-11-14T22:13:20Z
ID = "5f0c2b7e-91aa-4c1e-8d3b-2f1009be7a11"
OPTIONS = CaptureOptions("x.pcapng", Form.PCAPNG, same_api=" --api https://x.test")


class Api:
    """The other end of a capture of two sources."""

    def __init__(self, *, recorded: bool = True, align: bool = False) -> None:
        muxer = Muxer(Form.PCAPNG, 262144, align=align)
        request = Request(("a", "b"), record=Besides() if recorded else None)
        self.capture = CaptureSession(request, muxer, None, 0.0)
        self.callee = Callee(Request)
        self.say(self.callee.hello(Hello(COMPATIBILITY_LEVEL, "api", "a", "1", 5)))
        self.callee.receive(self.capture.to_send())
        if recorded:
            self.notice(NoticeType.RECORDED, f"recorded as {ID}")
        for number, name in enumerate("ab", 1):
            source = Source(name, "eth0", 1, 262144, "", clock_offset_us=2_000_000)
            self.say(self.callee.source(number, source))

    def say(self, *frames: Any) -> None:
        self.capture.receive(b"".join(bytes(frame) for frame in frames), 0.0, NOW_US)

    def notice(self, kind: NoticeType, text: str) -> None:
        self.say(self.callee.notice(Notice(kind, text, "api", recording=ID)))

    def marks(self, *seconds: Optional[int], final: bool = False) -> None:
        """The watermarks of the sources."""
        for number, mark in enumerate(seconds, 1):
            if mark is not None:
                stats = Stats(0, 0, 0, 0, NOW_US + mark * 10**6, final=final)
                self.say(self.callee.stats(number, stats))


def at(second: int) -> str:
    return f"2023-11-14T22:13:{second}.000000Z"


MARKS = {
    "the source that is behind counts": (lambda api: api.marks(30, 25), at(45)),
    "but not one that has ended": (lambda api: (api.marks(25, final=True), api.marks(None, 30)), at(50)),
    "all have ended": (lambda api: api.marks(25, 30, final=True), at(50)),
    "nobody knows": (lambda api: api.marks(25), None),
}


@pytest.mark.parametrize("case", MARKS)
def test_from_when_packets_are_missing(case: str) -> None:
    """Nothing before this time is missing, and little after it is there twice."""
    tell, since = MARKS[case]
    api = Api()
    tell(api)
    api.capture.disconnected()
    assert begin(api.capture) == since


def test_from_when_with_corrected_times() -> None:
    """The recording has the agents' times, also if those of the file are corrected."""
    api = Api(align=True)
    api.marks(30, 30)
    assert begin(api.capture) == at(50)


def test_packets_that_arrived_and_were_not_written() -> None:
    """Packets that arrived and are not in the file are missing too, whenever they were captured."""
    api = Api()
    api.marks(30, 30)
    account = next(iter(api.capture.muxer.accounts.values()))
    account.received, account.unwritten = 5, 5
    assert begin(api.capture) is None


Says = Callable[[Api], None]

LOST: dict[str, tuple[Says, str]] = {
    "the connection": (lambda api: api.capture.disconnected(), "goes on"),
    "silence": (lambda api: api.capture.fail(PcapdError("silence")), "goes on"),
    "the api restarts": (lambda api: api.say(api.callee.end(End(EndReason.DRAINING))), "goes on"),
    "after the recording": (
        lambda api: (
            api.notice(NoticeType.UNKNOWN, "the recording has ended: its store is full"),
            api.capture.disconnected(),
        )[0],
        "has ended before this",
    ),
}


@pytest.mark.parametrize("case", LOST)
def test_how_to_go_on(case: str) -> None:
    """The id, and the command that fetches what is missing from the same api."""
    lose, state = LOST[case]
    api = Api()
    api.marks(30, 30)
    lose(api)
    first, command = lines(api.capture, OPTIONS)
    assert f"the recording {ID} {state}" in first
    assert command == f"  pcapctl recording fetch {ID} --from {at(50)} --api https://x.test"


ENDED: dict[str, Says] = {
    "in good order": lambda api: api.say(api.callee.end(End(EndReason.STOPPED))),
    "by its sources": lambda api: api.say(api.callee.end(End(EndReason.SOURCES_GONE))),
    "by an error": lambda api: api.say(api.callee.end(Error("bad_filter", "no", ""))),
}


@pytest.mark.parametrize("case", ENDED)
@pytest.mark.parametrize("recorded", [True, False])
def test_nothing_to_go_on_with(case: str, recorded: bool) -> None:
    """A capture that has ended at the api too says nothing about recordings."""
    api = Api(recorded=recorded)
    ENDED[case](api)
    assert lines(api.capture, OPTIONS) == []


def test_what_to_do_next_time() -> None:
    """A capture that was not recorded besides says that it can be."""
    api = Api(recorded=False)
    api.capture.disconnected()
    (line,) = lines(api.capture, OPTIONS)
    assert "--resumable" in line
