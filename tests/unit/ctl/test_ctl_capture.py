"""One capture as the client sees it: when it stops, what it counts, what it makes of silence."""

from __future__ import annotations

import struct
from typing import Any, List, Optional, Tuple, Union

import pytest

from pcapd import COMPATIBILITY_LEVEL
from pcapd.ctl.stream.session import CaptureSession, Outcome
from pcapd.errors import PcapdError
from pcapd.limits import (
    API_SILENCE_TIMEOUT,
    API_START_TIMEOUT,
    API_STOP_LIMIT,
    API_STOP_TIMEOUT,
    NAME_MAX,
    STOP_STALL_BYTES,
)
from pcapd.merge.muxer import UNLIMITED, Muxer, Piece
from pcapd.merge.split import Split
from pcapd.savefile.form import Form
from pcapd.wire import Callee, End, EndReason, Error, Hello, Notice, NoticeType, Request, Source, Stats, Stop

NOW_US = 1_700_000_000_000_000


def record(number: int, us: Optional[int] = None) -> bytes:
    at = NOW_US + number if us is None else us
    return struct.pack("<4I", at // 10**6, at % 10**6, 60, 60) + bytes(60)


class Api:
    """The other end, and the clock."""

    def __init__(
        self,
        *,
        duration: Optional[float] = None,
        ordered: bool = True,
        headers_only: bool = False,
        **limits: Any,
    ) -> None:
        self.now = 100.0
        muxer = Muxer(Form.PCAPNG, 262144, ordered=ordered, **{"max_packets": UNLIMITED, **limits})
        self.capture = CaptureSession(
            Request(("web-0",), headers_only=headers_only), muxer, duration, self.now
        )
        self.callee = Callee(Request)
        self.heard: list[Any] = []
        self.blocks: list[bytes] = []

    def say(self, *frames: Any) -> None:
        self.capture.receive(b"".join(bytes(frame) for frame in frames), self.now, NOW_US)
        self.turn()

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass as in a pcapctl that nothing holds up, which looks at the clock all the time."""
        end = self.now + seconds
        while self.now + 0.25 < end:
            self.pause(0.25)
        self.pause(end - self.now)

    def pause(self, seconds: float) -> None:
        """Let time pass in which it does nothing: Ctrl-Z, or a pipe that is stuck."""
        self.now += seconds
        self.capture.tick(self.now)
        self.heard += [event.message for event in self.callee.receive(self.capture.to_send())]
        self.blocks += self.capture.muxer.take(self.now)

    def start(self) -> None:
        self.say(self.callee.hello(Hello(COMPATIBILITY_LEVEL, "api", "a", "1", 5)))
        self.say(self.callee.source(1, Source("web-0", "eth0", 1, 262144, "")))

    def packets(self, *numbers: int) -> None:
        self.say(*self.callee.packets(1, b"".join(map(record, numbers))))

    def stats(self, received: int, up_to: int, **facts: Any) -> None:
        self.say(self.callee.stats(1, Stats(received, 0, 0, received, NOW_US + up_to, **facts)))

    def end(self, reason: EndReason = EndReason.STOPPED) -> None:
        self.say(self.callee.end(End(reason)))

    @property
    def asked_to_stop(self) -> bool:
        return any(isinstance(message, Stop) for message in self.heard)


def test_a_complete_capture() -> None:
    """Everything that was sent is written, and the agent's final counters prove it."""
    api = Api()
    api.start()
    api.packets(1, 2)
    api.stats(2, 10, final=True)
    api.end(EndReason.DURATION)
    assert api.capture.over and api.capture.outcome is Outcome.COMPLETE
    assert api.capture.written == 2 and api.capture.lost == 0


def test_without_final_counters_it_is_not_complete() -> None:
    """Without final counters a capture is not complete."""
    api = Api()
    api.start()
    api.packets(1)
    api.stats(1, 10)
    api.end()
    assert api.capture.outcome is Outcome.INCOMPLETE


def test_a_duration_ends_it_without_traffic() -> None:
    """A duration ends a capture without traffic, counted from its first source."""
    api = Api(duration=5.0)
    api.turn(3.0)
    api.start()
    api.turn(4.9)
    assert not api.asked_to_stop
    api.turn(0.2)
    assert api.asked_to_stop and "5 s" in api.capture.reason


def test_a_count_ends_it_to_the_packet() -> None:
    """A count ends a capture to the packet."""
    api = Api(max_packets=3)
    api.start()
    api.packets(1, 2)
    api.stats(2, 10)
    assert not api.asked_to_stop
    api.packets(11, 12, 13, 14)
    api.stats(6, 20)
    api.turn()
    assert api.asked_to_stop and api.capture.written == 3


def test_bytes_end_it() -> None:
    """The file stays within its limit of bytes."""
    api = Api(max_bytes=1000)
    api.start()
    api.packets(*range(100))
    api.stats(100, 200)
    api.turn()
    assert api.asked_to_stop and 0 < api.capture.written < 100
    assert sum(map(len, api.blocks)) <= 1000


def test_a_late_packet_is_written_and_counted() -> None:
    """A late packet is written, and counted as late and not as lost."""
    api = Api()
    api.start()
    api.packets(5)
    api.stats(1, 10)
    api.turn()
    api.packets(1)
    api.turn(5.0)
    api.stats(2, 20, final=True)
    api.end()
    api.capture.muxer.finish(NOW_US)
    (account,) = api.capture.muxer.accounts.values()
    assert (account.written, account.late) == (2, 1)
    assert api.capture.outcome is Outcome.COMPLETE


def test_an_api_that_accepts_and_says_nothing() -> None:
    """An api that accepts and sends nothing is given up after the time for a start."""
    api = Api()
    api.turn(API_START_TIMEOUT - 0.1)
    assert not api.capture.over
    api.turn(0.2)
    assert api.capture.outcome is Outcome.FAILED
    assert "did not start the capture in time" in str(api.capture.error)


def test_an_api_that_falls_silent() -> None:
    """Counters come all the time: without them it is not there any more."""
    api = Api()
    api.start()
    api.turn(API_SILENCE_TIMEOUT - 1)
    assert not api.capture.over
    api.turn(2)
    assert api.capture.outcome is Outcome.FAILED and "sent nothing for" in str(api.capture.error)


def test_an_api_that_only_pings_is_there() -> None:
    """A followed app without instances brings neither packets nor counters, for as long as it takes."""
    api = Api()
    api.start()
    for _ in range(3):
        api.turn(API_SILENCE_TIMEOUT - 1)
        api.capture.alive(api.now)
    assert not api.capture.over


#: Packets that are a movement together.
MOVEMENT = range(STOP_STALL_BYTES // len(record(0)) + 1)


@pytest.mark.parametrize(
    ("says", "limit"),
    [
        ("nothing", API_STOP_TIMEOUT),
        ("counters", API_STOP_TIMEOUT),
        ("a packet now and then", API_STOP_TIMEOUT),
        ("packets", API_STOP_LIMIT),
    ],
)
def test_an_api_that_does_not_stop(says: str, limit: float) -> None:
    """An api that does not stop is given up some time after the last packets, however much it sends."""
    api = Api()
    api.start()
    api.capture.stop("interrupted", api.now)
    for second in range(1, int(limit) + 1):
        api.turn(1.0)
        if says == "counters":
            api.stats(0, second)
        elif says != "nothing":
            api.packets(*(MOVEMENT if says == "packets" else [second]))
        assert not api.capture.over or second >= limit, second
    api.turn(1.0)
    assert api.capture.outcome is Outcome.FAILED and "did not end" in str(api.capture.error)


def test_what_a_stop_waits_for() -> None:
    """The sources whose last word is missing; how long it has been, and how long it may be."""
    api = Api()
    api.start()
    api.say(api.callee.source(2, Source("web-1", "eth0", 1, 262144, "")))
    assert api.capture.waiting(api.now) is None
    api.capture.stop("interrupted", api.now)
    assert api.capture.waiting(api.now) == (("web-0:eth0", "web-1:eth0"), 0.0, API_STOP_TIMEOUT)
    api.turn(2.0)
    api.stats(0, 1, final=True)
    assert api.capture.waiting(api.now) == (("web-1:eth0",), 2.0, API_STOP_TIMEOUT - 2.0)
    api.packets(*MOVEMENT)
    assert api.capture.waiting(api.now) == (("web-1:eth0",), 2.0, API_STOP_TIMEOUT)
    api.end()
    assert api.capture.waiting(api.now) is None


@pytest.mark.parametrize("state", ["waiting", "capturing", "stopping"])
def test_ctrl_z_is_not_the_apis_silence(state: str) -> None:
    """After Ctrl-Z and ``fg`` the api's earlier data is read before its silence is judged."""
    api = Api()
    if state != "waiting":
        api.start()
    if state == "stopping":
        api.capture.stop("interrupted", api.now)
    for _ in range(3):
        api.pause(600)
    assert not api.capture.over
    api.turn(max(API_SILENCE_TIMEOUT, API_START_TIMEOUT))
    assert api.capture.outcome is Outcome.FAILED


def test_the_duration_is_over_after_ctrl_z() -> None:
    """A duration counts on the wall clock while Ctrl-Z suspends pcapctl."""
    api = Api(duration=60)
    api.start()
    api.pause(600)
    assert api.asked_to_stop and not api.capture.over


def test_ctrl_c_before_anything_started() -> None:
    """Ctrl-C before the first source is a failure with a message."""
    api = Api()
    api.capture.stop("interrupted", api.now)
    assert api.capture.outcome is Outcome.FAILED
    assert "before the capture started" in str(api.capture.error)


def test_ctrl_c_asks_once() -> None:
    """After the first Ctrl-C the remaining packets still arrive and are written."""
    api = Api()
    api.start()
    api.packets(1)
    api.capture.stop("interrupted", api.now)
    api.capture.stop("interrupted", api.now)
    api.turn()
    api.packets(2)
    api.stats(2, 10, final=True)
    api.end()
    assert sum(isinstance(message, Stop) for message in api.heard) == 1
    assert api.capture.outcome is Outcome.COMPLETE and api.capture.reason == "interrupted"
    assert api.capture.written == 2


@pytest.mark.parametrize(
    "kind",
    [NoticeType.INSTANCE_UNAVAILABLE, NoticeType.START_CAPTURE_FAILED, NoticeType.CONNECTION_ERROR],
)
def test_a_target_that_failed_makes_it_incomplete(kind: NoticeType) -> None:
    """A target that failed makes the capture incomplete."""
    api = Api()
    api.start()
    api.say(api.callee.notice(Notice(kind, "no", "web-1")))
    api.stats(0, 10, final=True)
    api.end()
    assert api.capture.outcome is Outcome.INCOMPLETE


def test_a_target_that_failed_has_a_name_that_ends() -> None:
    """A target's name from the network is kept to a bounded length."""
    api = Api()
    api.start()
    api.say(api.callee.notice(Notice(NoticeType.INSTANCE_UNAVAILABLE, "no", "x" * 2 * NAME_MAX)))
    assert list(api.capture.failed) == ["x" * NAME_MAX]


def test_a_notice_alone_takes_nothing_away() -> None:
    """A CONGESTED notice alone leaves a capture complete."""
    api = Api()
    api.start()
    api.say(api.callee.notice(Notice(NoticeType.CONGESTED, "slow", "web-0")))
    api.stats(0, 10, final=True)
    api.end()
    assert api.capture.outcome is Outcome.COMPLETE
    assert [notice.message for notice in api.capture.notices] == ["slow"]


def test_an_api_that_does_not_cut_headers() -> None:
    """No payload byte from an api that ignores headers-only is written, not even of the first read."""
    api = Api(headers_only=True)
    api.say(api.callee.hello(Hello(COMPATIBILITY_LEVEL, "api", "a", "1", 5)))
    source = api.callee.source(1, Source("web-0", "eth0", 1, 262144, ""))
    api.say(source, *api.callee.packets(1, record(1)), api.callee.end(End(EndReason.STOPPED)))
    assert api.capture.outcome is Outcome.FAILED and api.blocks == []
    assert "cannot cut packets" in str(api.capture.error)


def test_headers_only() -> None:
    """A source that confirms headers only is captured completely."""
    api = Api(headers_only=True)
    api.say(api.callee.hello(Hello(COMPATIBILITY_LEVEL, "api", "a", "1", 5)))
    api.say(api.callee.source(1, Source("web-0", "eth0", 1, 262144, "", headers_only=True)))
    api.packets(1)
    api.stats(1, 10, final=True)
    api.end()
    assert api.capture.outcome is Outcome.COMPLETE and api.capture.written == 1


def test_an_error_of_the_api_is_told_in_its_words() -> None:
    """An error of the api is shown with its message and hint."""
    api = Api()
    api.say(api.callee.hello(Hello(COMPATIBILITY_LEVEL, "api", "a", "1", 5)))
    api.say(api.callee.end(Error("forbidden", "not for you", "ask somebody")))
    assert api.capture.outcome is Outcome.FAILED
    assert str(api.capture.error) == "not for you (ask somebody)"


@pytest.mark.parametrize("started", [True, False])
def test_an_end_that_is_none(started: bool) -> None:
    """An END of a failure, or before any start, is not a complete capture."""
    api = Api()
    if started:
        api.start()
        api.stats(0, 10, final=True)
        api.say(api.callee.end(End(EndReason.FAILED, "out of order")))
        assert "out of order" in str(api.capture.error)
    else:
        api.say(api.callee.hello(Hello(COMPATIBILITY_LEVEL, "api", "a", "1", 5)))
        api.end(EndReason.DURATION)
    assert api.capture.error is not None and api.capture.outcome is not Outcome.COMPLETE


def test_a_connection_that_closes_after_the_end() -> None:
    """A connection that closes after END leaves the capture complete."""
    api = Api()
    api.start()
    api.stats(0, 10, final=True)
    api.end()
    api.capture.disconnected()
    assert api.capture.error is None and api.capture.outcome is Outcome.COMPLETE


def test_a_connection_that_closes_before_the_end() -> None:
    """A connection that closes before END makes the capture incomplete, even with final counters."""
    api = Api()
    api.start()
    api.stats(0, 10, final=True)
    api.capture.disconnected()
    assert api.capture.outcome is Outcome.FAILED
    assert "before the capture had ended" in str(api.capture.error)


def test_the_first_error_counts() -> None:
    """The first error is the one that is reported."""
    api = Api()
    api.start()
    api.capture.fail(PcapdError("first"))
    api.capture.fail(PcapdError("second"))
    api.capture.disconnected()
    assert str(api.capture.error) == "first" and api.capture.reason == "first"


# --- what is not in the file after all ----------------------------------------------


def captured(muxer: Union[Muxer, Split], *names: str) -> Tuple[CaptureSession, List[Piece]]:
    """Sources with these names, a packet of each whose name has no ``-``, and all that is to be written."""
    for number, name in enumerate(names, 1):
        instance, _, interface = name.strip("-").partition(":")
        muxer.source(number, Source(instance, interface, 1, 262144, ""), NOW_US)
    for number, name in enumerate(names, 1):
        if not name.endswith("-"):
            muxer.packets(number, record(number), 0.0)
    return CaptureSession(Request(("web-0",)), muxer, None, 0.0), muxer.finish_pieces(NOW_US)


def unwritten(capture: CaptureSession) -> List[Optional[int]]:
    return [account.unwritten for account in capture.muxer.accounts.values()]


def test_what_is_missing_is_counted_once() -> None:
    """Missing packets are counted once, also when they are asked for twice."""
    capture, pieces = captured(Muxer(Form.PCAP, 262144), "a:eth0", "a:lo")
    for _ in range(2):
        capture.settle(Form.PCAP, {"": 1}, pieces)
        assert (capture.lost_at_least, capture.written, unwritten(capture)) == (1, 1, [None, None])


def test_what_is_missing_from_one_file_is_looked_for_in_it() -> None:
    """Missing packets of an instance's own file are looked for in that file only."""
    capture, pieces = captured(Split(Form.PCAPNG, 262144), "a:eth0", "a:lo", "b:eth0")
    capture.settle(Form.PCAPNG, {"a": 1, "b": 1}, pieces)
    assert unwritten(capture) == [0, 1, 0]


def test_what_is_missing_can_only_be_of_who_has_sent_something() -> None:
    """Classic pcap does not say whose a packet is; where one source alone has any it is its."""
    capture, pieces = captured(Muxer(Form.PCAP, 262144), "a:eth0", "a:lo-")
    capture.settle(Form.PCAP, {"": 0}, pieces)
    assert unwritten(capture) == [1, 0]
