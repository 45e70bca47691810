"""One conversation of an agent: limits, pressure, and an end that loses nothing."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Iterator

import pytest

from demo.certificates import Credentials
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
    EXCLUSION_TIME,
    FRAME_TYPICAL,
    LATE_GRACE,
    RING_LAG,
    SNAPLEN_MAX,
    START_TIMEOUT,
    STATS_INTERVAL,
)
from pcapd.wire import (
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
from tests.kit.unit.agent import START, Conversation, World, errors

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
    """A flood of pings, or pings whose answers are not read, ends the connection."""
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
    """Of an interface with too many addresses the first ones are reported, and the message stays within its bounds."""
    world.addresses = tuple(f"2001:db8::{number:x}/128" for number in range(ADDRESSES_MAX + 1))
    (source,) = [m for m in Conversation(world).say(START) if isinstance(m, Source)]
    assert source.addresses == world.addresses[:ADDRESSES_MAX]


def test_without_interfaces_the_default_one_is_captured(world: World) -> None:
    """Without interfaces in the request the agent's default device is captured."""
    messages = Conversation(world).say(replace(START, interfaces=()))
    assert [m.interface for m in messages if isinstance(m, Source)] == ["eth0"]


def test_a_namespace_that_is_not_configured_is_refused(world: World) -> None:
    """A namespace that is not configured, or a path, is refused without being opened."""
    for name in ("web-1", "/run/netns/web-0", ".."):
        (error,) = Conversation(world).say(replace(START, namespace=name))
        assert isinstance(error, Error) and error.code == "target_not_found" and name in error.message
    assert world.opened == []


def test_only_so_many_captures_run_at_once(monkeypatch: pytest.MonkeyPatch, credentials: Credentials) -> None:
    """A capture above the limit is refused, and accepted when an earlier one is over."""
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
    """A capture that is being opened or closed counts towards the limit even if its client has left."""
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
    """An opening learns that its client has left, so that it does not wait for a filter's turn."""
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
    """An unexpected exception while opening is logged with its traceback, and the api gets a plain failure."""
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
    """At STOP withheld packets are sent before the counters are final."""
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
    """A connection in a loop is left out of running and later captures, and users of running ones are informed."""
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
    """Packets in the ring arrive as records, cut to the snaplen."""
    conversation = Conversation(world)
    conversation.say(replace(START, snaplen=4))
    world.sources[0].fill(b"abcdefgh", b"ij")
    world.reactor.wake()
    conversation.hear()
    assert conversation.payloads == [b"abcd", b"ij"]


def test_nothing_is_captured_before_it_can_be_read(world: World) -> None:
    """Interfaces get packets into their rings only when reading begins, however long opening takes."""
    world.slow = True
    conversation = Conversation(world)
    conversation.say(replace(START, interfaces=("eth0", "eth1")))
    world.reactor.advance(1)
    assert not world.sources
    world.finish_opening()
    assert [source.calls[0] for source in world.sources] == ["start", "start"]


def test_an_interface_that_cannot_be_started(world: World) -> None:
    """An interface that cannot be started is reported, and the other one is captured."""
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
    """A transport that the first batch fills stops the reading before the second."""
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
    """After a batch that is not full the ring is not read again at once, and the watermark follows the clock."""
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
    """An empty ring is read once per wake-up."""
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
    """The watermark is bound by the last packet read while packets are unread, and by the clock otherwise."""
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
    """The capture of an api that falls silent ends, also when there is no traffic."""
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
    """An api that sends a PING now and then is not given up."""
    conversation = Conversation(world)
    conversation.say(START)
    for _ in range(10):
        turns(world, AGENT_SILENCE_TIMEOUT / 2)
        conversation.say(Ping(1))
    assert conversation.transport.closed == ""


def test_a_pause_of_the_agent_is_not_the_apis_silence(world: World) -> None:
    """After a pause of the agent the api's data is read before its silence is judged."""
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
    """A START that waits in the socket after a pause is read before the peer's silence is judged."""
    late, never = Conversation(world), Conversation(world)
    world.reactor.advance(START_TIMEOUT + 3600)
    assert late.transport.closed == never.transport.closed == ""
    assert isinstance(late.say(START)[0], Source)
    world.reactor.advance(LATE_GRACE)
    assert (late.transport.closed, never.transport.closed) == ("", "aborted")
