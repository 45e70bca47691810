"""The two sessions: who may say what, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator, Type, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd import COMPATIBILITY_LEVEL
from pcapd.errors import LocalProtocolError, RemoteProtocolError
from pcapd.limits import ANSWERS_BURST, ANSWERS_PER_SECOND
from pcapd.wire import (
    Answers,
    Callee,
    Caller,
    CaptureStart,
    End,
    EndReason,
    Error,
    Event,
    FrameType,
    Hello,
    Message,
    Notice,
    NoticeType,
    Packets,
    Ping,
    Pong,
    Request,
    Source,
    Stats,
    Stop,
    encode_frame,
    encode_message,
    sessions,
)

AGENT = Hello(COMPATIBILITY_LEVEL, "agent", "agent/0", "1.0", 1)
API = replace(AGENT, role="api", id="api/0")
START = CaptureStart("c", "r", "web-0")
SOURCE = Source("web-0", "eth0", 1, 96, "")
STATS = Stats(1, 0, 0, 1, 5)
NOTICE = Notice(NoticeType.CONGESTED, "slow", "web-0")
END = End(EndReason.STOPPED)
ERROR = Error("bad_filter", "syntax error")

FROM_CALLEE: list[Message] = [AGENT, SOURCE, STATS, NOTICE, END, ERROR, Ping(1), Pong(1, 2)]
FROM_CALLER: list[Message] = [API, START, Stop(), Ping(1), Pong(1, 2)]
EVERYTHING: list[Message] = [AGENT, START, SOURCE, STATS, NOTICE, Stop(), END, ERROR, Ping(1), Pong(1, 2)]


def heard(session: Union[Caller, Callee], *messages: Message, source: int = 0) -> list[Event]:
    """Let a session hear messages and return its events."""
    return [event for message in messages for event in session.receive(encode_message(message, source))]


def caller(state: str) -> Caller:
    """A caller whose callee has led it into a state."""
    session = Caller()
    if state != "greeting":
        heard(session, AGENT)
    if state in ("capturing", "ended"):
        session.start(START)
        heard(session, SOURCE, source=1)
    if state == "ended":
        heard(session, END)
    return session


def callee(state: str) -> Callee:
    """A callee whose caller has led it into a state."""
    session = Callee(CaptureStart)
    if state != "greeting":
        heard(session, API)
    if state in ("capturing", "ended"):
        heard(session, START)
    if state == "ended":
        session.end(END)
    return session


STATES = ("greeting", "ready", "capturing", "ended")
CALLER_HEARS: dict[str, set[type]] = {
    "greeting": {Hello, Error},
    "ready": {Error, Ping, Pong},
    "capturing": {Source, Stats, Notice, End, Error, Ping, Pong},
    "ended": set(),
}
CALLEE_HEARS: dict[str, set[type]] = {
    "greeting": {Hello},
    "ready": {CaptureStart, Ping, Pong},
    "capturing": {Stop, Ping, Pong},
    "ended": {Stop, Ping, Pong},
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("message", EVERYTHING, ids=lambda message: type(message).__name__)
def test_a_caller_hears_only_what_its_state_allows(state: str, message: Message) -> None:
    """The table in the module's docstring holds for each state and message."""
    source = {Source: 2, Stats: 1}.get(type(message), 0)
    if type(message) in CALLER_HEARS[state]:
        assert heard(caller(state), message, source=source) == [Event(source, message)]
    else:
        with pytest.raises(RemoteProtocolError, match=state):
            heard(caller(state), message, source=source)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("message", EVERYTHING, ids=lambda message: type(message).__name__)
def test_a_callee_hears_only_what_its_state_allows(state: str, message: Message) -> None:
    """A second START, a STOP before START and all that only a callee says are refused."""
    if type(message) in CALLEE_HEARS[state]:
        assert heard(callee(state), message) == [Event(0, message)]
    else:
        with pytest.raises(RemoteProtocolError, match=state):
            heard(callee(state), message)


def test_a_whole_conversation() -> None:
    """Both ends of a conversation understand each other from HELLO to END, however the stream is cut."""
    api, agent = Caller(), Callee(CaptureStart)
    assert list(api.receive(agent.hello(AGENT))) == [Event(0, AGENT)]
    greeting = api.hello(API) + api.ping(7) + api.start(START)
    assert [event.message for event in agent.receive(greeting)] == [API, Ping(7), START]
    stream = b"".join(
        (
            agent.pong(Ping(7), 9),
            agent.source(3, SOURCE),
            *agent.packets(3, b"records"),
            agent.stats(3, STATS),
            agent.notice(NOTICE),
        )
    )
    expected = [
        Event(0, Pong(7, 9)),
        Event(3, SOURCE),
        Event(3, Packets(b"records")),
        Event(3, STATS),
        Event(0, NOTICE),
    ]
    assert list(api.receive(stream)) == expected
    assert list(agent.receive(api.stop())) == [Event(0, Stop())]
    assert list(api.receive(agent.end(END))) == [Event(0, END)]
    assert api.ended and agent.ended


def test_a_callee_of_an_older_level_is_refused() -> None:
    """A callee of an older level is refused with its level and the remedy."""
    old = replace(AGENT, level=COMPATIBILITY_LEVEL - 1)
    with pytest.raises(RemoteProtocolError, match=r"agent agent/0 speaks level .*upgrade it"):
        heard(Caller(), old)


def test_a_callee_of_a_newer_level_is_welcome() -> None:
    """A newer callee is accepted."""
    newer = replace(AGENT, level=COMPATIBILITY_LEVEL + 1)
    assert heard(Caller(), newer) == [Event(0, newer)]


def test_a_callee_does_not_judge_its_caller() -> None:
    """Refusing by level is the caller's part."""
    old = replace(API, level=0)
    assert heard(Callee(CaptureStart), old) == [Event(0, old)]


@pytest.mark.parametrize("state", ["greeting", "capturing", "ended"])
def test_start_is_said_once_and_after_hello(state: str) -> None:
    """Saying START at another time is our own bug."""
    with pytest.raises(LocalProtocolError):
        caller(state).start(START)


@pytest.mark.parametrize(
    ("state", "source"), [("capturing", 2), ("capturing", 0), ("ready", 1), ("ended", 1)]
)
def test_packets_of_a_source_that_is_not_open(state: str, source: int) -> None:
    """PACKETS are refused unless their source was opened and the capture runs."""
    with pytest.raises(RemoteProtocolError, match=f"source {source}, which is not open"):
        list(caller(state).receive(encode_frame(FrameType.PACKETS, source, b"")))


@pytest.mark.parametrize("state", STATES)
def test_nobody_sends_packets_to_a_callee(state: str) -> None:
    """PACKETS from the side that requests for them are refused."""
    with pytest.raises(RemoteProtocolError, match="side that requests"):
        list(callee(state).receive(encode_frame(FrameType.PACKETS, 1, b"")))


@pytest.mark.parametrize("number", [0, 1])
def test_a_source_id_that_is_reserved_or_taken(number: int) -> None:
    """Source 0 is the whole capture, and no id is given twice."""
    with pytest.raises(RemoteProtocolError, match=f"id {number}"):
        heard(caller("capturing"), SOURCE, source=number)


def test_so_many_sources_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of sources that a peer can open is bounded."""
    monkeypatch.setattr(sessions, "SOURCES_MAX", 3)
    session = caller("capturing")
    heard(session, SOURCE, source=2)
    heard(session, SOURCE, source=3)
    with pytest.raises(RemoteProtocolError, match="id 4"):
        heard(session, SOURCE, source=4)


def test_stats_of_a_source_that_is_not_open() -> None:
    """STATS are refused unless their source was opened."""
    with pytest.raises(RemoteProtocolError, match="source 2, which is not open"):
        heard(caller("capturing"), STATS, source=2)


@pytest.mark.parametrize("message", [START, Ping(1)], ids=["START", "PING"])
def test_a_request_for_a_source_is_refused(message: Message) -> None:
    """A request for a single source is refused."""
    with pytest.raises(RemoteProtocolError, match="names a source"):
        heard(callee("ready"), message, source=1)


@pytest.mark.parametrize(("takes", "gets"), [(CaptureStart, Request(("web-0",))), (Request, START)])
def test_each_leg_has_its_own_kind_of_start(takes: Type[Union[CaptureStart, Request]], gets: Message) -> None:
    """An agent does not understand a client's request, nor the api an agent's."""
    session = Callee(takes)
    heard(session, API)
    with pytest.raises(RemoteProtocolError, match=r"is missing|no target is named"):
        heard(session, gets)


def test_a_stream_that_ends_in_the_middle_of_a_frame() -> None:
    """A cut stream is told from one that ended between two frames."""
    session = caller("capturing")
    session.eof()
    assert list(session.receive(encode_message(END)[:-1])) == []
    with pytest.raises(RemoteProtocolError, match="middle of a frame"):
        session.eof()


def _streams(messages: list[Message]) -> st.SearchStrategy[bytes]:
    """Honest frames for any source, lying payloads, and noise, one after the other."""
    sources = st.integers(0, 3)
    honest = st.builds(encode_message, st.sampled_from(messages), sources)
    lying = st.builds(encode_frame, st.sampled_from(FrameType), sources, st.binary(max_size=12))
    return st.lists(honest | lying | st.binary(max_size=12), max_size=8).map(b"".join)


def _sessions(states: st.SearchStrategy[str]) -> Iterator[st.SearchStrategy[Union[Caller, Callee]]]:
    yield states.map(caller)
    yield states.map(callee)


@given(
    st.one_of(*_sessions(st.sampled_from(STATES))),
    _streams([*FROM_CALLEE, *FROM_CALLER]),
    st.integers(1, 40),
)
def test_arbitrary_bytes_raise_nothing_but_a_protocol_error(
    session: Union[Caller, Callee], stream: bytes, step: int
) -> None:
    """Any bytes in any pieces give events, wait, or are the peer's error."""
    try:
        for at in range(0, len(stream), step):
            for event in session.receive(stream[at : at + step]):
                assert isinstance(event, Event)
        session.eof()
    except RemoteProtocolError:
        pass


def test_answers_are_bounded() -> None:
    """A burst, and then a rate; while the peer does not read, the bound is not refilled."""
    answers = Answers()
    for _ in range(ANSWERS_BURST):
        answers.count(0.0, taken=True)
    with pytest.raises(RemoteProtocolError):
        answers.count(0.0, taken=True)
    with pytest.raises(RemoteProtocolError):
        answers.count(10.0, taken=False)
    for _ in range(ANSWERS_PER_SECOND):
        answers.count(11.0, taken=True)
    with pytest.raises(RemoteProtocolError):
        answers.count(11.0, taken=True)
