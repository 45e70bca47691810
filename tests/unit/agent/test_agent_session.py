"""One conversation of an agent: limits, pressure, and an end that loses nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Iterator

import pytest
from agent_doubles import START, Conversation, Links, World
from twisted.internet.error import ConnectionLost
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from demo.certificates import Authority, Credentials
from pcapd.agent import reading
from pcapd.agent.owntraffic import Ends
from pcapd.capture.exclusion import Connection
from pcapd.errors import BadFilter, CaptureFailed
from pcapd.limits import (
    ADDRESSES_MAX,
    AGENT_SILENCE_TIMEOUT,
    ANSWERS_BURST,
    ANSWERS_PER_SECOND,
    BATCH_PACKETS,
    BATCHES_PER_WAKEUP,
    CLIENT_SILENCE_TIMEOUT,
    DRAIN_TIMEOUT,
    EXCLUSION_TIME,
    FRAME_TYPICAL,
    INTERFACE_RETURN,
    INTERFACES_MAX,
    LATE_GRACE,
    RING_LAG,
    SNAPLEN_MAX,
    START_TIMEOUT,
    STATS_INTERVAL,
)
from pcapd.wire import (
    End,
    EndReason,
    Error,
    Hello,
    Notice,
    NoticeType,
    Packets,
    Ping,
    Pong,
    Source,
    Stats,
    Stop,
    encode_message,
)


@pytest.fixture(scope="module")
def credentials(authority: Authority) -> Credentials:
    return authority.issue_agent("session-agent")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, credentials: Credentials) -> Iterator[World]:
    """An agent that may capture in namespace web-0; nothing may be left running at the end."""
    monkeypatch.setattr(reading, "BATCH_PACKETS", 1)  # a batch that is not full empties the ring
    world = World(monkeypatch, credentials, namespaces={"web-0": Path("/nowhere/web-0")})
    yield world
    for session in list(world.agent._sessions):
        session.transport.leave()
    world.agent.drain()  # which logs what was summed up
    world.reactor.advance(0)
    assert world.reactor.getDelayedCalls() == []
    assert world.reactor.readers == set()
    assert all("close" in source.calls for source in world.sources)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What the log warns of."""
    texts: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.warn:
            texts.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield texts
    globalLogPublisher.removeObserver(observe)


def errors(messages: list[Any]) -> list[Error]:
    return [message for message in messages if isinstance(message, Error)]


# --- beginning -----------------------------------------------------------------


def test_an_agent_greets_first(world: World) -> None:
    """HELLO with version and libpcap is said before the api says anything."""
    conversation = Conversation(world, greet=False)
    (hello,) = (event.message for event in conversation.log)
    assert isinstance(hello, Hello)
    assert (hello.role, hello.id) == ("agent", "agent/0") and "libpcap" in str(hello.libpcap)


def test_an_api_that_does_not_start_is_dropped(world: World) -> None:
    """Without START in time the connection is given up, and the agent forgets it."""
    conversation = Conversation(world)
    world.reactor.advance(START_TIMEOUT - 0.1)
    conversation.say(Ping(1))
    assert conversation.transport.closed == ""
    world.reactor.advance(0.1)
    world.reactor.advance(0)
    assert conversation.transport.closed == "aborted"
    assert conversation.session.finished.called


def test_a_ping_is_answered_with_both_times(world: World) -> None:
    """PONG repeats the api's time and adds the agent's."""
    (pong,) = Conversation(world).say(Ping(7))
    assert isinstance(pong, Pong) and pong.sent_us == 7 and pong.answered_us > 10**15


@pytest.mark.parametrize("reads", [True, False])
def test_a_flood_of_pings(world: World, reads: bool) -> None:
    """One that is faster than answers are due ends the connection; one now and then only if nobody reads them."""
    conversation = Conversation(world)
    for _ in range(ANSWERS_BURST):
        world.reactor.advance(1 / ANSWERS_PER_SECOND)
        conversation.session.dataReceived(encode_message(Ping(1)))
        if reads:
            conversation.hear()
    conversation.session.dataReceived(encode_message(Ping(1)))
    assert conversation.transport.closed == ("" if reads else "aborted")
    for _ in range(ANSWERS_BURST + 1):
        conversation.say(Ping(1))
    assert conversation.transport.closed == "aborted"


def test_a_start_opens_what_it_names(world: World) -> None:
    """Every interface becomes a source; our own connection is named to be kept out."""
    start = replace(START, interfaces=("eth0", "lo"), namespace="web-0")
    messages = Conversation(world).say(start)
    sources = [message for message in messages if isinstance(message, Source)]
    assert [(source.interface, source.instance, source.snaplen) for source in sources] == [
        ("eth0", "web-0", 96),
        ("lo", "web-0", 96),
    ]
    assert world.opened == [(start, Ends("192.0.2.1", 9494, "192.0.2.2"), "/nowhere/web-0")]


def test_so_many_addresses_of_an_interface_are_told(world: World) -> None:
    """Of an interface with more of them the first ones are, and the message stays within its bounds."""
    world.addresses = tuple(f"2001:db8::{number:x}/128" for number in range(ADDRESSES_MAX + 1))
    (source,) = [m for m in Conversation(world).say(START) if isinstance(m, Source)]
    assert source.addresses == world.addresses[:ADDRESSES_MAX]


def test_without_interfaces_the_default_one_is_captured(world: World) -> None:
    """An empty list means the agent's default device."""
    messages = Conversation(world).say(replace(START, interfaces=()))
    assert [m.interface for m in messages if isinstance(m, Source)] == ["eth0"]


def test_a_namespace_that_is_not_configured_is_refused(world: World) -> None:
    """Nothing is opened for a name that the configuration does not have, least of all a path."""
    for name in ("web-1", "/run/netns/web-0", ".."):
        (error,) = Conversation(world).say(replace(START, namespace=name))
        assert isinstance(error, Error) and error.code == "target_not_found" and name in error.message
    assert world.opened == []


def test_only_so_many_captures_run_at_once(monkeypatch: pytest.MonkeyPatch, credentials: Credentials) -> None:
    """One more than the limit is refused, and gets its turn when one of them is over."""
    world = World(monkeypatch, credentials, max_captures=1)
    first = Conversation(world)
    first.say(START)
    (refused,) = errors(Conversation(world).say(START))
    assert refused.code == "limit_reached" and "agent/0 already runs 1" in refused.message
    first.transport.leave()
    later = Conversation(world)
    assert errors(later.say(START)) == []
    later.transport.leave()


def test_what_was_begun_counts_until_it_has_ended(
    monkeypatch: pytest.MonkeyPatch, credentials: Credentials
) -> None:
    """Leaving early makes no room: what is being opened, or closed, is still the agent's work."""
    world = World(monkeypatch, credentials, max_captures=1)
    world.slow = True
    hasty = Conversation(world)
    hasty.say(START)
    hasty.transport.leave()
    (refused,) = errors(Conversation(world).say(START))
    assert refused.code == "limit_reached"
    world.finish_opening()
    assert world.sources[0].calls == ["close"], "nobody waits for it any more"
    world.slow = True
    running = Conversation(world)
    assert errors(running.say(START)) == []
    world.finish_opening()
    world.slow = True
    running.transport.leave()
    (refused,) = errors(Conversation(world).say(START))
    assert refused.code == "limit_reached", "its ring is not closed yet"
    world.finish_opening()
    last = Conversation(world)
    assert errors(last.say(START)) == []
    last.transport.leave()


def test_an_opening_learns_that_nobody_waits(world: World) -> None:
    """So that a filter's turn is not waited for in vain."""
    world.slow = True
    conversation = Conversation(world)
    conversation.say(START)
    opening = conversation.session._opening
    assert opening is not None and not opening.gone
    conversation.transport.leave()
    assert opening.gone
    world.finish_opening()


def test_a_second_start_is_a_protocol_error(world: World) -> None:
    """The connection is dropped, and its capture with it."""
    conversation = Conversation(world)
    conversation.say(START)
    conversation.session.dataReceived(encode_message(START))
    world.reactor.advance(0)
    assert conversation.transport.closed == "aborted"
    assert "close" in world.sources[0].calls


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(8), b"\xff" * 64])
def test_an_api_that_breaks_the_protocol_is_dropped(world: World, garbage: bytes) -> None:
    """Bytes that make no frame end the connection."""
    conversation = Conversation(world, greet=False)
    conversation.session.dataReceived(garbage)
    world.reactor.advance(0)
    assert conversation.transport.closed == "aborted" and conversation.session.finished.called


def test_a_capture_that_cannot_be_opened_says_why(world: World) -> None:
    """The code, words and hint of the error arrive, and the agent leaves when the api, though alive, does not."""
    world.failure = BadFilter("syntax error, at: 'x'", "see pcap-filter(7)")
    conversation = Conversation(world)
    assert conversation.say(START) == [Error("bad_filter", "syntax error, at: 'x'", "see pcap-filter(7)")]
    for _ in range(int(CLIENT_SILENCE_TIMEOUT)):
        assert conversation.transport.closed == ""
        conversation.session.dataReceived(encode_message(Ping(1)))
        world.reactor.advance(1)
    assert conversation.transport.closed == "aborted"


def test_a_bug_while_opening_is_logged_and_not_told(world: World, logged_failures: Any) -> None:
    """The api learns that it failed, the log has the traceback, and the agent goes on."""
    world.failure = ZeroDivisionError("secret internals")
    (error,) = Conversation(world).say(START)
    assert isinstance(error, Error) and error.code == "capture_failed" and "internals" not in error.message
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


# --- loops -----------------------------------------------------------------------


@pytest.fixture
def withholding(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether a test for loops is going on."""
    state = [True]
    monkeypatch.setattr(type(world.agent.feedback), "withholding", property(lambda _: state[0]))
    yield state


def test_what_is_withheld_is_sent_later(
    world: World, withholding: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A little of it, with a watermark that is not beyond the rest; then all, in order."""
    monkeypatch.setattr(reading, "now_us", lambda: 1_700_000_000_000_000)
    withholding[0] = False
    conversation = Conversation(world)
    conversation.say(START)
    withholding[0] = True
    world.sources[0].fill(b"one", b"two", b"three")
    world.reactor.wake()
    world.reactor.advance(STATS_INTERVAL)
    assert conversation.hear() == [], "neither packets nor counters, which come back, too"
    monkeypatch.setattr(reading, "now_us", lambda: 1_700_000_009_000_000)
    conversation.session.release_some(1)
    (stats,) = [message for message in conversation.hear() if isinstance(message, Stats)]
    assert conversation.payloads == [b"one"]
    assert stats.captured_up_to_us == 1_700_000_002_000_000, "the time of the first that is withheld"
    conversation.session.release()
    conversation.hear()
    assert conversation.payloads == [b"one", b"two", b"three"]


def test_a_stop_waits_for_no_test(world: World, withholding: list[bool]) -> None:
    """What is withheld is sent before the counters are final."""
    conversation = Conversation(world)
    conversation.say(START)
    world.sources[0].fill(b"one")
    world.reactor.wake()
    conversation.say(Stop())
    world.sources[0].fill(b"two")
    world.reactor.advance(RING_LAG)
    conversation.hear()
    assert conversation.payloads == [b"one", b"two"] and conversation.over


def test_a_connection_of_a_loop_is_left_out_everywhere(world: World) -> None:
    """Of captures that run, and of those to come; users of running ones learn it."""
    connection = Connection(ip_address("192.0.2.1"), 443, ip_address("192.0.2.2"), 5555)
    first, second = Conversation(world), Conversation(world)
    first.say(START)
    second.say(START)
    world.agent.feedback._exclude(connection)
    for conversation in (first, second):
        (notice,) = [message for message in conversation.hear() if isinstance(message, Notice)]
        assert notice.type is NoticeType.CONGESTED and "192.0.2.1:443 - 192.0.2.2:5555" in notice.message
    Conversation(world).say(START)
    assert [source.exclusions for source in world.sources] == [(connection,)] * 3
    world.reactor.advance(EXCLUSION_TIME)
    assert {source.exclusions for source in world.sources} == {()}


# --- pressure --------------------------------------------------------------------


def test_packets_arrive_as_records(world: World) -> None:
    """What the ring holds is delivered, cut to the snaplen."""
    conversation = Conversation(world)
    conversation.say(replace(START, snaplen=4))
    world.sources[0].fill(b"abcdefgh", b"ij")
    world.reactor.wake()
    conversation.hear()
    assert conversation.payloads == [b"abcd", b"ij"]


def test_nothing_is_captured_before_it_can_be_read(world: World) -> None:
    """However long it takes to open them, interfaces get packets into their rings when reading begins."""
    world.slow = True
    conversation = Conversation(world)
    conversation.say(replace(START, interfaces=("eth0", "eth1")))
    world.reactor.advance(1)
    assert not world.sources
    world.finish_opening()
    assert [source.calls[0] for source in world.sources] == ["start", "start"]


def test_an_interface_that_cannot_be_started(world: World) -> None:
    """The user is told, and the other interface is captured."""
    world.refusals["eth0"] = CaptureFailed("eth0: the kernel refuses the filter")
    conversation = Conversation(world)
    conversation.say(replace(START, interfaces=("eth0", "eth1")))
    world.reactor.advance(0)
    (notice,) = [message for message in conversation.hear() if isinstance(message, Notice)]
    assert notice.type is NoticeType.INSTANCE_UNAVAILABLE and "refuses the filter" in notice.message
    assert "close" in world.sources[0].calls and "close" not in world.sources[1].calls
    world.sources[1].fill(b"1")
    world.reactor.wake()
    conversation.hear()
    assert conversation.payloads == [b"1"]
    conversation.transport.leave()


def test_a_paused_transport_pauses_the_reading(world: World) -> None:
    """While the transport is full nothing is read from the ring; afterwards everything is."""
    conversation = Conversation(world)
    conversation.say(START)
    (source,) = world.sources
    source.calls.clear()
    conversation.transport.producer.pauseProducing()
    source.fill(b"1", b"2")
    world.reactor.wake()
    world.reactor.advance(1)
    assert "read" not in source.calls
    conversation.transport.producer.resumeProducing()
    world.reactor.wake()
    conversation.hear()
    assert conversation.payloads == [b"1", b"2"]


def test_a_transport_that_fills_up_stops_the_reading_at_once(world: World) -> None:
    """No second batch is read once the first has filled the transport."""
    conversation = Conversation(world)
    conversation.say(START)
    world.sources[0].fill(b"1", b"2", b"3")
    conversation.transport.after_write = conversation.transport.producer.pauseProducing
    world.reactor.wake()
    conversation.hear()
    assert conversation.payloads == [b"1"]
    assert world.reactor.readers == set()


def test_one_wake_up_reads_a_bounded_amount(world: World) -> None:
    """A busy interface does not keep the control connection waiting: few batches are read, each bounded."""
    conversation = Conversation(world)
    conversation.say(START)
    world.sources[0].fill(*[b"x"] * 100)
    world.reactor.wake()
    assert len(world.sources[0].ring) == 100 - BATCHES_PER_WAKEUP * reading.BATCH_PACKETS


def test_a_batch_becomes_frames_of_bounded_size(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large packets that were read together are told in several frames."""
    monkeypatch.setattr(reading, "BATCH_PACKETS", BATCH_PACKETS)
    conversation = Conversation(world)
    conversation.say(replace(START, snaplen=SNAPLEN_MAX))
    packets = [bytes([number]) * (FRAME_TYPICAL // 3) for number in range(5)]
    world.sources[0].fill(*packets)
    world.reactor.wake()
    frames = [m.records for m in conversation.hear() if isinstance(m, Packets)]
    assert [len(records) // len(packets[0]) for records in frames] == [2, 2, 1]
    assert all(len(records) <= FRAME_TYPICAL for records in frames)


def test_a_batch_that_is_not_full_empties_the_ring(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read again at once, and the watermark follows the clock, as it does behind an empty ring."""
    monkeypatch.setattr(reading, "BATCH_PACKETS", 2)
    conversation = Conversation(world)
    conversation.say(START)
    (source,) = world.sources
    for look in (world.reactor.wake, lambda: world.reactor.advance(STATS_INTERVAL)):
        source.calls.clear()
        source.fill(b"1")
        look()
        assert source.calls == ["read"]
    (stats,) = [message for message in conversation.hear() if isinstance(message, Stats)]
    assert stats.delivered == 2 and stats.at_us - stats.captured_up_to_us < 60_000_000


def test_an_empty_ring_is_looked_at_once_per_wake_up(world: World) -> None:
    """The other bounded reads of a wake-up are for rings that hold more."""
    Conversation(world).say(START)
    world.sources[0].calls.clear()
    world.reactor.wake()
    assert world.sources[0].calls == ["read"]


def test_counters_come_at_their_interval_also_while_paused(world: World) -> None:
    """STATS tell what the kernel dropped while nothing can be read."""
    conversation = Conversation(world)
    conversation.say(START)
    conversation.transport.producer.pauseProducing()
    world.sources[0].dropped = 5
    world.reactor.advance(STATS_INTERVAL)
    stats = [message for message in conversation.hear() if isinstance(message, Stats)]
    assert [(each.dropped_kernel, each.final) for each in stats] == [(5, False)]


def test_the_watermark_never_goes_back_nor_beyond_what_is_unread(world: World) -> None:
    """With packets unread the last one read bounds it; with an empty ring the clock does."""
    conversation = Conversation(world)
    conversation.say(START)
    conversation.transport.producer.pauseProducing()
    world.sources[0].fill(b"1")
    marks = []
    for _ in range(3):
        world.reactor.advance(STATS_INTERVAL)
        marks += [m.captured_up_to_us for m in conversation.hear() if isinstance(m, Stats)]
    assert len(set(marks)) == 1  # it stood still while nothing could be read
    conversation.transport.producer.resumeProducing()
    world.reactor.wake()
    world.reactor.advance(STATS_INTERVAL)
    later = [m.captured_up_to_us for m in conversation.hear() if isinstance(m, Stats)]
    assert later[-1] > marks[-1]


# --- silence ---------------------------------------------------------------------


def turns(world: World, seconds: float) -> None:
    """Let time pass as in an agent that nothing holds up."""
    world.reactor.pump([0.25] * int(seconds / 0.25))


def test_an_api_that_falls_silent_is_given_up(world: World) -> None:
    """Its capture ends with it, also when there is no traffic."""
    conversation = Conversation(world)
    conversation.say(START)
    turns(world, AGENT_SILENCE_TIMEOUT / 2)
    conversation.say(Ping(1))
    turns(world, AGENT_SILENCE_TIMEOUT - 0.25)
    assert conversation.transport.closed == ""
    turns(world, 0.25)
    assert conversation.transport.closed == "aborted"
    assert "close" in world.sources[0].calls


def test_an_api_that_pings_is_alive(world: World) -> None:
    """A sign of life now and then is enough."""
    conversation = Conversation(world)
    conversation.say(START)
    for _ in range(10):
        turns(world, AGENT_SILENCE_TIMEOUT / 2)
        conversation.say(Ping(1))
    assert conversation.transport.closed == ""


def test_a_pause_of_the_agent_is_not_the_apis_silence(world: World) -> None:
    """What it sent meanwhile is read first, even when its time was all but over; then it is judged as ever."""
    conversation = Conversation(world)
    conversation.say(START)
    for _ in range(3):
        turns(world, AGENT_SILENCE_TIMEOUT - 0.25)
        world.reactor.advance(12 * AGENT_SILENCE_TIMEOUT)
        assert conversation.transport.closed == ""
        conversation.say(Ping(1))
    turns(world, AGENT_SILENCE_TIMEOUT - 0.25)
    world.reactor.advance(12 * AGENT_SILENCE_TIMEOUT)
    turns(world, LATE_GRACE)
    assert conversation.transport.closed == "aborted"


def test_a_start_that_waits_in_the_socket(world: World) -> None:
    """After a pause of the agent it is read first; a peer that sent none is given up a moment later."""
    late, never = Conversation(world), Conversation(world)
    world.reactor.advance(START_TIMEOUT + 3600)
    assert late.transport.closed == never.transport.closed == ""
    assert isinstance(late.say(START)[0], Source)
    world.reactor.advance(LATE_GRACE)
    assert (late.transport.closed, never.transport.closed) == ("", "aborted")


# --- ends ------------------------------------------------------------------------


def test_a_stop_delivers_everything_and_then_ends(world: World, warnings: list[str]) -> None:
    """The source is closed to new packets, its ring is read to the end, final counters and END follow."""
    conversation = Conversation(world)
    conversation.say(START)
    (source,) = world.sources
    source.fill(b"1", b"2", b"3")
    conversation.say(Stop())
    assert "stop" in source.calls and not conversation.over
    world.reactor.advance(RING_LAG)
    *_packets, stats, end = [m for m in conversation.hear() if isinstance(m, (Packets, Stats, End))]
    assert conversation.payloads == [b"1", b"2", b"3"]
    assert isinstance(stats, Stats) and stats.final and (stats.received, stats.delivered) == (3, 3)
    assert isinstance(end, End) and end.reason is EndReason.STOPPED
    assert [(counters.received, counters.delivered) for counters in end.sources] == [(3, 3)]
    assert warnings == []


def test_drops_are_told_before_the_packets_behind_them(world: World) -> None:
    """So that who writes them to a file knows at which packet: while capturing, and before a drain."""
    conversation = Conversation(world)
    conversation.say(START)
    (source,) = world.sources
    source.fill(b"1")
    source.dropped = 5
    world.reactor.advance(STATS_INTERVAL)
    source.dropped = 8
    conversation.say(Stop())
    world.reactor.advance(RING_LAG)
    conversation.hear()
    said = [event.message for event in conversation.log if isinstance(event.message, (Packets, Stats))]
    before = said[: [isinstance(m, Packets) for m in said].index(True)]
    told = [m for m in before if isinstance(m, Stats)]
    assert [m.dropped_kernel for m in told][-2:] == [5, 8]
    assert all(m.at_us for m in told)
    assert conversation.payloads == [b"1"]


def test_what_a_ring_held_when_its_source_went_away_is_counted(world: World, warnings: list[str]) -> None:
    """The transport is full and the interface is gone: nobody will read it, and counters and log say so."""
    conversation = Conversation(world)
    conversation.say(START)
    (source,) = world.sources
    source.fill(b"1", b"2", b"3")
    source.dropped = 4
    conversation.transport.producer.pauseProducing()
    session = conversation.transport.protocol
    session._source_gone(session.readings[0], CaptureFailed("it is gone"))
    *_, stats, end = [m for m in conversation.hear() if isinstance(m, (Stats, End))]
    assert isinstance(stats, Stats) and stats.final
    assert (stats.received, stats.dropped_kernel, stats.delivered, stats.dropped_agent) == (7, 4, 0, 3)
    assert isinstance(end, End) and end.sources[0].dropped_agent == 3
    assert "3 of 7 packets were left in the ring when the capture ended" in warnings
    assert "stop" in source.calls


def test_a_drain_waits_for_a_transport_that_is_full(world: World) -> None:
    """END comes only when everything is read, however long the transport is paused."""
    conversation = Conversation(world)
    conversation.say(START)
    (source,) = world.sources
    source.fill(b"1", b"2", b"3")
    conversation.transport.producer.pauseProducing()
    conversation.say(Stop())
    world.reactor.pump([RING_LAG] * 10)
    conversation.hear()
    assert not conversation.over and conversation.payloads == []
    conversation.transport.producer.resumeProducing()
    world.reactor.advance(0)
    conversation.hear()
    assert conversation.over and conversation.payloads == [b"1", b"2", b"3"]


def test_a_drain_that_fills_the_transport_again_and_again(world: World) -> None:
    """A transport that pauses after each batch gets every batch, and END last."""
    conversation = Conversation(world)
    conversation.say(START)
    world.sources[0].fill(*[bytes([number]) for number in range(20)])
    conversation.say(Stop())
    transport = conversation.transport
    transport.after_write = lambda: transport.producer and transport.producer.pauseProducing()
    world.reactor.advance(RING_LAG)
    for _ in range(60):
        if transport.producer is not None:
            transport.producer.resumeProducing()
        world.reactor.advance(0.01)
    conversation.hear()
    assert conversation.over
    assert conversation.payloads == [bytes([number]) for number in range(20)]
    assert isinstance(conversation.log[-1].message, End)


def test_a_second_stop_changes_nothing(world: World) -> None:
    """STOP may be said again; there is one END."""
    conversation = Conversation(world)
    conversation.say(START)
    conversation.say(Stop(), Stop())
    world.reactor.advance(RING_LAG)
    conversation.say(Stop())
    world.reactor.advance(RING_LAG)
    conversation.hear()
    assert sum(isinstance(event.message, End) for event in conversation.log) == 1


def test_an_end_is_said_once(world: World) -> None:
    """The transport takes more just when what was stopped meanwhile is open: both would end the capture."""
    world.slow = True
    conversation = Conversation(world)
    conversation.say(START, Stop())
    producer = conversation.transport.producer
    producer.pauseProducing()
    producer.resumeProducing()
    world.finish_opening()
    world.reactor.advance(0)
    assert conversation.hear() == [End(EndReason.STOPPED)]


def test_a_descriptor_with_an_error_whose_capture_ends(world: World) -> None:
    """The look at what is left comes too late: a source that is being closed is not read, nor watched."""
    conversation = Conversation(world)
    conversation.say(START)
    (descriptor,) = world.reactor.readers
    descriptor.connectionLost(Failure(ConnectionLost()))
    conversation.transport.leave()
    world.reactor.advance(0)
    assert world.sources[0].calls[-1] == "close" and world.reactor.readers == set()


def test_a_stop_while_the_capture_is_being_opened(world: World) -> None:
    """The capture ends as soon as it is open, and its sources are closed."""
    world.slow = True
    conversation = Conversation(world)
    conversation.say(START, Stop())
    world.finish_opening()
    (end,) = conversation.hear()
    assert end == End(EndReason.STOPPED)


def test_an_api_that_leaves_while_the_capture_is_being_opened(world: World) -> None:
    """What is open too late is closed again, and nobody is told."""
    world.slow = True
    conversation = Conversation(world)
    conversation.say(START)
    conversation.transport.leave()
    world.finish_opening()
    assert [source.calls for source in world.sources] == [["close"]]


def test_an_api_that_leaves_before_the_opening_fails(world: World) -> None:
    """Nobody is there to be told; nothing is waited for."""
    world.slow, world.failure = True, CaptureFailed("it failed")
    conversation = Conversation(world)
    conversation.say(START)
    conversation.transport.leave()
    world.finish_opening()
    assert world.reactor.getDelayedCalls() == []


def test_an_interface_that_goes_away_ends_its_source(world: World) -> None:
    """Its last packets are delivered, the user is told, the other interface goes on."""
    conversation = Conversation(world)
    conversation.say(replace(START, interfaces=("eth0", "eth1")))
    gone, stays = world.sources
    gone.fill(b"last")
    gone.error = CaptureFailed("the interface disappeared")
    world.reactor.wake()
    messages = conversation.hear()
    (notice,) = [message for message in messages if isinstance(message, Notice)]
    assert notice.type is NoticeType.INSTANCE_UNAVAILABLE and "eth0 is gone" in notice.message
    assert conversation.payloads == [b"last"] and not conversation.over
    stays.fill(b"more")
    world.reactor.wake()
    conversation.hear()
    assert conversation.payloads == [b"last", b"more"]


def test_an_interface_that_goes_away_between_two_wake_ups(world: World) -> None:
    """Whoever reads first meets the error, and that may be who asks for the counters: the user is told."""
    conversation = Conversation(world)
    conversation.say(replace(START, interfaces=("eth0", "eth1")))
    gone, _ = world.sources
    gone.error = CaptureFailed("the interface disappeared")
    world.reactor.advance(STATS_INTERVAL)
    world.reactor.advance(STATS_INTERVAL)
    (notice,) = [message for message in conversation.hear() if isinstance(message, Notice)]
    assert notice.type is NoticeType.INSTANCE_UNAVAILABLE and "eth0 is gone" in notice.message
    assert "close" in gone.calls


def test_an_interface_goes_away_once(world: World) -> None:
    """Several who read its socket meet the error: the user is told once."""
    conversation = Conversation(world)
    conversation.say(replace(START, interfaces=("eth0", "eth1")))
    world.sources[0].error = CaptureFailed("the interface disappeared")
    world.reactor.advance(STATS_INTERVAL)
    world.reactor.advance(STATS_INTERVAL)
    notices = [message for message in conversation.hear() if isinstance(message, Notice)]
    assert len(notices) == 1 and world.sources[0].calls.count("close") == 1


def test_a_capture_without_any_interface_left_ends(world: World) -> None:
    """The end says that nothing is left to capture from, with final counters."""
    conversation = Conversation(world)
    conversation.say(START)
    world.sources[0].fill(b"last")
    world.sources[0].error = CaptureFailed("the interface disappeared")
    world.reactor.wake()
    end = conversation.hear()[-1]
    assert isinstance(end, End) and end.reason is EndReason.SOURCES_GONE
    assert [counters.delivered for counters in end.sources] == [1]


def test_a_namespace_that_is_replaced_ends_the_capture(
    monkeypatch: pytest.MonkeyPatch, credentials: Credentials, tmp_path: Path
) -> None:
    """Another namespace at the same path is not what was asked for."""
    place = tmp_path / "web-0"
    place.write_text("one")
    world = World(monkeypatch, credentials, namespaces={"web-0": place})
    conversation = Conversation(world)
    conversation.say(replace(START, namespace="web-0"))
    world.reactor.advance(STATS_INTERVAL)
    assert conversation.hear() != [] and not conversation.over
    (tmp_path / "other").write_text("two")
    (tmp_path / "other").rename(place)
    world.reactor.advance(STATS_INTERVAL)
    messages = conversation.hear()
    assert any(isinstance(m, Notice) and "namespace is gone" in m.message for m in messages)
    assert isinstance(messages[-1], End) and messages[-1].reason is EndReason.SOURCES_GONE
    conversation.transport.leave()


def test_an_agent_that_drains_ends_every_capture(world: World) -> None:
    """Running captures end in good order, new ones are refused, who only greeted is sent away."""
    capturing, idle = Conversation(world), Conversation(world)
    capturing.say(START)
    world.sources[0].fill(b"1")
    drained = world.agent.drain()
    world.reactor.advance(RING_LAG)
    end = capturing.hear()[-1]
    assert isinstance(end, End) and end.reason is EndReason.DRAINING
    assert capturing.payloads == [b"1"]
    assert idle.transport.closed == "aborted"
    (refused,) = errors(Conversation(world).say(START))
    assert refused.code == "limit_reached" and "shutting down" in refused.message
    assert not drained.called
    capturing.transport.leave()
    world.reactor.advance(0)
    assert drained.called


def test_an_agent_that_drains_waits_for_nobody_too_long(world: World) -> None:
    """An api that is alive and does not close its connection holds it up for DRAIN_TIMEOUT; nothing fails then."""
    conversation = Conversation(world)
    conversation.say(START)
    drained = world.agent.drain()
    world.reactor.advance(DRAIN_TIMEOUT - 0.1)
    conversation.session.dataReceived(encode_message(Ping(1)))
    assert not drained.called
    world.reactor.advance(0.2)
    assert drained.called and conversation.transport.closed == ""
    conversation.transport.leave()


# --- interfaces that come and go --------------------------------------------------------


def notices(conversation: Conversation) -> list[str]:
    """What the user was told until now."""
    conversation.hear()
    return [event.message.message for event in conversation.log if isinstance(event.message, Notice)]


def test_an_interface_that_is_taken_down_is_waited_for(world: World) -> None:
    """Its source stays open; the user is told, and later for how long it was down."""
    conversation = Conversation(world)
    conversation.say(START)
    (source,) = world.sources
    source.taken_down = True
    world.reactor.pump([STATS_INTERVAL] * 13)
    source.taken_down = False
    world.reactor.pump([STATS_INTERVAL] * 3)
    assert notices(conversation) == ["eth0 is down; the capture waits for it", "eth0 is up again after 1.3 s"]
    source.fill(b"again")
    world.reactor.wake()
    conversation.hear()
    assert conversation.payloads == [b"again"] and "close" not in source.calls


def test_an_interface_that_is_made_again(world: World) -> None:
    """One of the same name is another source, and the gap is said."""
    world.links, world.indexes = Links(eth0=7), {"eth0": 7}
    conversation = Conversation(world)
    conversation.say(START)
    world.links.names = {}
    world.sources[0].error = CaptureFailed("it is gone")
    world.reactor.wake()
    world.reactor.pump([STATS_INTERVAL] * 25)
    assert not conversation.over and len(world.sources) == 1
    world.links.names, world.indexes = {"eth0": 8, "eth1": 9}, {"eth0": 8}
    world.reactor.pump([STATS_INTERVAL] * 15)
    assert [source.interface.name for source in world.sources] == ["eth0", "eth0"]
    gone, again = notices(conversation)
    assert "eth0 is gone" in gone and re.fullmatch(r"eth0 is captured again after [23]\.\d s", again)
    sources = [event for event in conversation.log if isinstance(event.message, Source)]
    assert [event.source for event in sources] == [1, 2]
    conversation.transport.leave()
    assert world.links.closed


@pytest.mark.parametrize("there", [False, True])
def test_an_interface_that_does_not_come_back(there: bool, world: World) -> None:
    """The capture ends after a while; at once where the interface is there and cannot be captured."""
    world.links = Links(eth0=1)
    conversation = Conversation(world)
    conversation.say(START)
    world.links.names = {"eth0": 1} if there else {}
    world.sources[0].error = CaptureFailed("it is gone")
    world.reactor.wake()
    conversation.hear()
    assert conversation.over is there
    for _ in range(int(INTERFACE_RETURN) + 2):
        if not conversation.over:
            conversation.say(Ping(1))
            world.reactor.pump([STATS_INTERVAL] * 10)
            conversation.hear()
    assert conversation.over and len(world.sources) == 1


def test_all_interfaces_that_are_up(world: World) -> None:
    """New ones, too, as many as a request may have; one that is renamed is not opened again."""
    world.links, world.indexes = Links(any=1, eth0=2), {f"eth{number}": number for number in range(2, 20)}
    conversation = Conversation(world)
    conversation.say(replace(START, interfaces=("any",)))  # the double opens one of that name
    world.links.names = {"renamed": 1, "eth2": 2}
    world.reactor.pump([STATS_INTERVAL] * 15)
    assert [source.interface.name for source in world.sources] == ["any", "eth2"]
    world.links.names |= {f"eth{number}": number for number in range(3, 20)}
    world.reactor.pump([STATS_INTERVAL] * 30)
    assert len(world.sources) == INTERFACES_MAX
    (words,) = notices(conversation)
    assert words.startswith(f"no more than {INTERFACES_MAX} interfaces are captured; left out: eth3, ")
