"""The ends of an agent's session: stops, drains, and interfaces that come and go."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from demo.certificates import Credentials
from pcapd.errors import CaptureFailed
from pcapd.limits import (
    DRAIN_TIMEOUT,
    INTERFACE_RETURN,
    INTERFACES_MAX,
    RING_LAG,
    STATS_INTERVAL,
)
from pcapd.wire import (
    End,
    EndReason,
    Notice,
    NoticeType,
    Packets,
    Ping,
    Source,
    Stats,
    Stop,
    encode_message,
)
from tests.kit.unit.agent import START, Conversation, Links, World, errors


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
    """Drops are reported before the packets behind them, while capturing and before a drain."""
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
    """A source that opens after the api has left is closed without a message."""
    world.slow = True
    conversation = Conversation(world)
    conversation.say(START)
    conversation.transport.leave()
    world.finish_opening()
    assert [source.calls for source in world.sources] == [["close"]]


def test_an_api_that_leaves_before_the_opening_fails(world: World) -> None:
    """An opening that fails after the api has left causes no message and no wait."""
    world.slow, world.failure = True, CaptureFailed("it failed")
    conversation = Conversation(world)
    conversation.say(START)
    conversation.transport.leave()
    world.finish_opening()
    assert world.reactor.getDelayedCalls() == []


def test_an_interface_that_goes_away_ends_its_source(world: World) -> None:
    """A source whose interface goes away delivers its last packets and a notice, and the other one goes on."""
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
    """An interface that goes away between two wake-ups is reported and closed once, by the first read of several."""
    conversation = Conversation(world)
    conversation.say(replace(START, interfaces=("eth0", "eth1")))
    gone, _ = world.sources
    gone.error = CaptureFailed("the interface disappeared")
    world.reactor.advance(STATS_INTERVAL)
    world.reactor.advance(STATS_INTERVAL)
    (notice,) = [message for message in conversation.hear() if isinstance(message, Notice)]
    assert notice.type is NoticeType.INSTANCE_UNAVAILABLE and "eth0 is gone" in notice.message
    assert gone.calls.count("close") == 1


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
    """A namespace that is replaced at the same path ends the capture."""
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
    """A source whose interface is down stays open; the user learns of it, and later how long it lasted."""
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
    """An interface that is made again under its name is another source, and the gap is reported."""
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
