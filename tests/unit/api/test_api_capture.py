"""One capture over many agents: a bad one never stops the others, and every end is bounded."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from twisted.internet.task import Clock

from pcapd.api.capture import agentlink as agentlink_module
from pcapd.api.capture import sources as sources_module
from pcapd.api.resolvers.base import Target
from pcapd.config.schema import ApiLimits
from pcapd.limits import (
    AGENT_PING_INTERVAL,
    AGENT_SILENCE_TIMEOUT,
    DRAIN_TIMEOUT,
    INTERFACES_MAX,
    STOP_STALL_BYTES,
    STOP_STALL_TIMEOUT,
)
from pcapd.wire import EndReason, NoticeType, Ping, Source
from tests.kit.unit.api import TRAFFIC, Make, Network, Sink, notices, record

# --- the way of packets ------------------------------------------------------------


def test_sources_get_numbers_of_the_capture_and_names_of_the_request(
    make: Make, network: Network, sink: Sink
) -> None:
    """Two agents that both say source 1 are told apart, and none chooses its own instance's name."""
    make("web-0", "web-1")
    network["web-1"].start("eth0", "lo")
    network["web-0"].start("eth0")
    found = {n: (s.instance, s.interface, s.agent, s.agent_address) for n, s in sink.sources.items()}
    assert found == {
        1: ("web-1", "eth0", "agent-of-web-1", "198.51.100.2"),
        2: ("web-1", "lo", "agent-of-web-1", "198.51.100.2"),
        3: ("web-0", "eth0", "agent-of-web-0", "198.51.100.1"),
    }
    assert sink.sources[1].clock_offset_us is not None


def test_batches_are_passed_on_unchanged_under_the_new_number(
    make: Make, network: Network, sink: Sink
) -> None:
    """Records of each source arrive as they were sent, under its number in the capture."""
    make("web-0", "web-1")
    for name in ("web-1", "web-0"):
        network[name].start()
    network["web-0"].deliver(record(1) + record(2))
    network["web-1"].deliver(record(3))
    network["web-0"].deliver(record(4))
    assert sink.records == {1: record(3), 2: record(1) + record(2) + record(4)}


def test_the_clock_is_measured_on_the_shortest_way(
    make: Make, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PONG that took longer, or says that it was asked later than now, changes nothing."""
    now = 10_000_000
    monkeypatch.setattr(agentlink_module, "now_us", lambda: now)
    make("web-0")
    agent = network["web-0"]
    agent.greet()
    measured = agent.link.clock_offset_us
    for round_trip in (100, -100):
        agent.send(agent.session.pong(Ping(now - round_trip), now + 500))
    assert agent.link.clock_offset_us == measured == 5


def test_each_agent_is_asked_for_what_was_requested(make: Make, network: Network) -> None:
    """START holds the ids, the target's namespace, and the request's filter, interfaces and snaplen."""
    make("web-0", interfaces=("eth0", "lo"), filter="udp", snaplen=99)
    network["web-0"].start()
    start = network["web-0"].started
    assert start is not None
    assert (start.capture, start.request_id, start.instance) == ("capture-1", "request-1", "web-0")
    assert (start.interfaces, start.filter, start.snaplen) == (("eth0", "lo"), "udp", 99)
    assert start.namespace == "web-0"


def test_each_agent_learns_what_it_must_not_capture(make: Make, network: Network) -> None:
    """START names the api's own addresses and ports, and the user by an id that says nothing of them."""
    make("a", "b")
    for name in "ab":
        network[name].start()
    first, second = network["a"].started, network["b"].started
    assert first and second
    assert first.api == second.api == TRAFFIC
    assert first.user == second.user and len(first.user) == 32 and "alice" not in first.user


def test_who_is_not_read_is_not_silent(make: Make, network: Network, reactor: Clock) -> None:
    """An agent that the client's slowness holds up does not count as silent."""
    capture = make("web-0")
    network["web-0"].start()
    capture.pauseProducing()
    reactor.pump([1.0] * int(3 * AGENT_SILENCE_TIMEOUT))
    capture.resumeProducing()
    reactor.advance(AGENT_SILENCE_TIMEOUT / 2)
    assert not network["web-0"].transport.closed


def test_pressure_reaches_every_agent(make: Make, network: Network) -> None:
    """A slow client pauses all agents' transports, also of those that start later; then all go on."""
    capture = make("web-0", "web-1", "web-2")
    network["web-0"].start()
    network["web-1"].start()
    capture.pauseProducing()
    capture.pauseProducing()
    network["web-2"].start()
    pressure = [network[name].transport.pressure for name in ("web-0", "web-1", "web-2")]
    assert [told[-1:] for told in pressure] == [["pause"]] * 3
    capture.resumeProducing()
    assert [told[-1] for told in pressure] == ["resume"] * 3


def test_agents_are_pinged(make: Make, network: Network, reactor: Clock) -> None:
    """A quiet agent is asked for a sign of life, also one that still opens: it must not miss us."""
    make("web-0", "web-1")
    network["web-0"].start()
    network["web-1"].greet()
    reactor.advance(AGENT_PING_INTERVAL)
    for agent in (network["web-0"], network["web-1"]):
        assert any(isinstance(message, Ping) for message in agent.listen())


# --- the end -------------------------------------------------------------------------


def test_a_stop_waits_for_every_agents_last_packets(make: Make, network: Network, sink: Sink) -> None:
    """STOP goes to all; what they still deliver is passed on; END has the counters of all sources."""
    capture = make("web-0", "web-1")
    for name in ("web-0", "web-1"):
        network[name].start()
    capture.stop(EndReason.STOPPED)
    assert network["web-0"].stopped and network["web-1"].stopped
    network["web-0"].stats(4, 1, final=True)
    network["web-0"].end()
    assert not sink.over
    network["web-1"].deliver(record(9))
    network["web-1"].stats(1, final=True)
    network["web-1"].end()
    (end,) = sink.ends
    assert sink.records == {2: record(9)}
    assert [(each.source, each.received, each.delivered) for each in end.sources] == [(1, 4, 3), (2, 1, 1)]


def test_a_stop_ends_in_time_although_an_agent_is_silent(
    make: Make, network: Network, sink: Sink, reactor: Clock
) -> None:
    """An agent that says nothing after STOP is given up; what the others deliver meanwhile counts."""
    capture = make("web-0", "web-1")
    for name in ("web-0", "web-1"):
        network[name].start()
    capture.stop(EndReason.STOPPED)
    network["web-0"].end()
    reactor.pump([0.1] * 14)
    assert not sink.over
    reactor.pump([0.1] * 5)
    assert STOP_STALL_TIMEOUT <= reactor.seconds() <= 2.0
    (end,) = sink.ends
    assert end.reason is EndReason.STOPPED and notices(sink, "web-1") == [NoticeType.CONNECTION_ERROR]


def test_a_stop_ends_although_an_agent_never_stops(
    make: Make, network: Network, sink: Sink, reactor: Clock
) -> None:
    """An agent that goes on delivering after STOP is cut off when the drain has taken too long."""
    capture = make("web-0")
    network["web-0"].start()
    capture.stop(EndReason.STOPPED)
    for _ in range(int(DRAIN_TIMEOUT) + 1):
        network["web-0"].deliver(record(1))
        reactor.pump([0.25] * 4)
    assert [end.reason for end in sink.ends] == [EndReason.STOPPED]


@pytest.mark.parametrize(
    ("beat", "size", "moves"),
    [(0.25, 1, False), (0.25, STOP_STALL_BYTES // 4, True), (1.0, STOP_STALL_BYTES, True)],
    ids=["a byte now and then", "a slow line", "a slow line that stutters"],
)
def test_what_is_a_movement_after_a_stop(
    make: Make, network: Network, sink: Sink, reactor: Clock, beat: float, size: int, moves: bool
) -> None:
    """After a STOP, pieces of a frame keep an agent alive only when they are more than a trickle."""
    capture = make("web-0", "web-1")
    for name in ("web-0", "web-1"):
        network[name].start()
    capture.stop(EndReason.STOPPED)
    network["web-1"].end()
    header, payload = network["web-0"].session.packets(1, record(1, bytes(100_000)))
    network["web-0"].send(header)
    sent = 0
    while reactor.seconds() < STOP_STALL_TIMEOUT + 2.0 and not sink.over:
        network["web-0"].send(bytes(payload[sent : sent + size]))
        sent += size
        reactor.pump([0.25] * int(beat / 0.25))
    assert bool(sink.over) is not moves
    if moves:
        network["web-0"].send(bytes(payload[sent:]))
        network["web-0"].end()
    (end,) = sink.ends
    assert end.reason is EndReason.STOPPED and sink.records.keys() == ({1} if moves else set())
    assert notices(sink, "web-0") == ([] if moves else [NoticeType.CONNECTION_ERROR])
    assert notices(sink, "web-1") == []


def test_a_shutdown_shortens_a_stop(make: Make, network: Network, sink: Sink, reactor: Clock) -> None:
    """An api that has less time than an agent may take does not take the other agents' packets with it."""
    capture = make("web-0")
    network["web-0"].start()
    capture.stop(EndReason.STOPPED)
    capture.stop(EndReason.DRAINING, "the api is shutting down", within=3.0)
    for _ in range(3):
        assert not sink.over
        network["web-0"].stats(1)
        reactor.pump([0.25] * 4)
    reactor.advance(0.25)
    assert len(sink.ends) == 1


def test_counters_of_an_agent_that_was_lost(make: Make, network: Network, sink: Sink) -> None:
    """The final counters of a lost agent are not smaller than what arrived after its last STATS."""
    make("web-0", "web-1")
    for name in ("web-0", "web-1"):
        network[name].start()
    network["web-0"].stats(2, 1)
    network["web-0"].deliver(record(1) + record(2) + record(3))
    network["web-0"].transport.leave()
    last = sink.last_stats[1]
    assert (last.received, last.delivered, last.dropped_kernel, last.forwarded) == (4, 3, 1, 3)
    assert last.final and not last.exact


def test_a_stop_does_not_count_the_time_that_the_client_takes(
    make: Make, network: Network, sink: Sink, reactor: Clock
) -> None:
    """While the client holds everything up, no agent is given up for being quiet."""
    capture = make("web-0")
    network["web-0"].start()
    capture.pauseProducing()
    capture.stop(EndReason.STOPPED)
    for _ in range(60):
        reactor.advance(1)
        network["web-0"].stats(1)  # so that the link itself does not count as dead
    assert not sink.over
    capture.resumeProducing()
    network["web-0"].end()
    assert len(sink.ends) == 1


@pytest.mark.parametrize("paused", [False, True])
def test_silence_before_a_stop_does_not_count(
    make: Make, network: Network, reactor: Clock, paused: bool
) -> None:
    """STOP_STALL_TIMEOUT runs from the stop on, or from the moment when the agent is read again."""
    capture = make("web-0")
    network["web-0"].start()
    if paused:
        capture.pauseProducing()
        capture.stop(EndReason.STOPPED)
    reactor.advance(STOP_STALL_TIMEOUT + 0.1)
    if paused:
        capture.resumeProducing()
    else:
        capture.stop(EndReason.STOPPED)
    reactor.pump([STOP_STALL_TIMEOUT / 4] * 3)
    assert not network["web-0"].transport.closed


def test_a_pause_of_the_api_during_a_stop_gives_nobody_up(
    make: Make, network: Network, sink: Sink, reactor: Clock
) -> None:
    """After a pause of the api during a stop, delivered data is read before an agent counts as stalled."""
    capture = make("web-0", "web-1")
    for name in ("web-0", "web-1"):
        network[name].start()
    capture.stop(EndReason.STOPPED)
    reactor.advance(5.0)
    assert not any(network[name].transport.closed for name in ("web-0", "web-1"))
    network["web-0"].end()
    reactor.pump([0.25] * int(STOP_STALL_TIMEOUT / 0.25 + 1))
    assert notices(sink, "web-0") == [] and notices(sink, "web-1") == [NoticeType.CONNECTION_ERROR]
    assert len(sink.ends) == 1


def test_the_first_stop_counts(make: Make, network: Network, sink: Sink) -> None:
    """An end that comes while it ends already changes nothing of the reason."""
    capture = make("web-0")
    network["web-0"].start()
    capture.stop(EndReason.STOPPED)
    capture.stop(EndReason.DRAINING, "the api is shutting down")
    network["web-0"].end()
    assert [(end.reason, end.message) for end in sink.ends] == [(EndReason.STOPPED, "")]


def test_the_only_target_that_fails_is_told_once(make: Make, network: Network, sink: Sink) -> None:
    """The failure of the only target is reported once, as the request's error and not as a notice too."""
    make("web-0")
    network["web-0"].greet()
    network["web-0"].refuse("bad_filter", "syntax error")
    assert len(sink.errors) == 1 and sink.notices == []


def test_a_stop_before_any_agent_has_started(
    make: Make, network: Network, sink: Sink, reactor: Clock
) -> None:
    """Agents that were not asked for a capture yet are left at once."""
    capture = make("web-0", "web-1")
    capture.stop(EndReason.STOPPED)
    reactor.advance(0)
    assert capture.finished.called and len(sink.ends) + len(sink.errors) == 1


def test_a_client_that_leaves_ends_everything_at_once(
    make: Make, network: Network, sink: Sink, reactor: Clock
) -> None:
    """Every agent is aborted, whether it had started or not, and the sink hears nothing more."""
    capture = make("web-0", "web-1")
    network["web-0"].start()
    capture.abandon("the client is gone")
    reactor.advance(0)
    assert {network[name].transport.closed for name in ("web-0", "web-1")} == {"aborted"}
    assert capture.finished.called and not sink.over


class Watching:
    """Who may add targets, as long as a test wants."""

    def __init__(self) -> None:
        self.watching = True
        self.told: list[str] = []

    def opened(self, target: Target) -> None:
        self.told.append(f"{target.name} is open")

    def gone(self, target: Target) -> None:
        self.told.append(f"{target.name} is gone")


def test_a_capture_that_is_watched_waits_for_more(make: Make, network: Network, sink: Sink) -> None:
    """A capture that may get more targets reports who comes and goes, and ends once when no more may come."""
    capture = make("web-0")
    capture.watcher = watcher = Watching()
    network["web-0"].start()
    network["web-0"].end()
    assert watcher.told == ["web-0 is open", "web-0 is gone"]
    assert not sink.over and not capture.finished.called
    watcher.watching = False
    capture.settle()
    capture.settle()
    assert [end.reason for end in sink.ends] == [EndReason.SOURCES_GONE]


def test_the_duration_ends_a_capture_without_traffic(
    make: Make, network: Network, sink: Sink, reactor: Clock
) -> None:
    """At the duration STOP is sent without any traffic, with the duration as reason and no limit named."""
    make("web-0", duration=1.0)
    network["web-0"].start()
    reactor.advance(0.99)
    assert not network["web-0"].stopped
    reactor.advance(0.01)
    assert network["web-0"].stopped
    network["web-0"].end()
    assert sink.ends[0].reason is EndReason.DURATION and sink.notices == []


@pytest.mark.parametrize("asked", [None, 60.0])
def test_the_operators_duration_is_the_longest(
    make: Make, network: Network, sink: Sink, reactor: Clock, asked: Optional[float]
) -> None:
    """A request for more, or for no end at all, is ended at the limit, and told so."""
    make("web-0", duration=asked, limits=ApiLimits(max_duration=1.0))
    network["web-0"].start()
    reactor.advance(1.0)
    assert network["web-0"].stopped and notices(sink, "api") == [NoticeType.LIMIT_REACHED]


@pytest.mark.parametrize(("asked", "blamed"), [(None, True), (1000, True), (48, False)])
def test_bytes_end_a_capture(
    make: Make, network: Network, sink: Sink, asked: Optional[int], blamed: bool
) -> None:
    """At the smaller of the request's and the limit's bytes STOP is sent; the limit is named if it was smaller."""
    make("web-0", max_bytes=asked, limits=ApiLimits(max_bytes=48))
    network["web-0"].start()
    network["web-0"].deliver(record(1))
    assert not network["web-0"].stopped
    network["web-0"].deliver(record(2))
    assert network["web-0"].stopped
    network["web-0"].end()
    assert sink.ends[0].reason is EndReason.BYTES
    assert notices(sink, "api") == ([NoticeType.LIMIT_REACHED] if blamed else [])


# --- the audit log ---------------------------------------------------------------------


def audits(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event.get("log_namespace") == "pcapd.audit"]


def test_a_capture_is_on_record_before_any_agent_is_asked(
    make: Make, network: Network, events: list[dict[str, Any]]
) -> None:
    """User, targets and limits are recorded before the first connection to an agent."""
    recorded: list[int] = []
    network.dialled = lambda: recorded.append(len(audits(events)))
    make("web-0", filter="udp", duration=5.0, token="Tk-7f3a9c-very-secret")
    assert recorded == [1]
    (record_,) = audits(events)
    assert (record_["audit"], record_["user"], record_["filter"]) == ("capture_started", "alice", "udp")
    assert (record_["request_id"], record_["capture"]) == ("request-1", "capture-1")
    assert record_["targets"] == ["web-0 at 198.51.100.1:9494, namespace web-0"]
    assert record_["duration"] == 5.0 and record_["client"] == "203.0.113.7:5555"


@pytest.mark.parametrize(
    ("asked", "limit", "in_force"), [(2.0, 3600.0, 2.0), (None, 60.0, 60.0), (90.0, 60.0, 60.0)]
)
def test_the_record_says_what_is_in_force(
    make: Make,
    network: Network,
    events: list[dict[str, Any]],
    asked: Optional[float],
    limit: float,
    in_force: float,
) -> None:
    """The duration and bytes that end the capture: the request's or the limit's, whichever is less."""
    limits = ApiLimits(max_duration=limit, max_bytes=1000)
    make("web-0", duration=asked, max_bytes=10, limits=limits)
    (record_,) = audits(events)
    assert (record_["duration"], record_["max_bytes"]) == (in_force, 10)


def test_the_duration_counts_from_the_first_source(
    make: Make, network: Network, reactor: Clock, sink: Sink
) -> None:
    """The duration counts from the first source; a client that stops by itself has a moment more within the limit."""
    sink.grace = 1.0
    make("web-0", duration=5.0, limits=ApiLimits(max_duration=9.0))
    reactor.advance(2.0)
    network["web-0"].start()
    reactor.advance(5.9)
    assert not network["web-0"].stopped
    reactor.advance(0.1)
    assert network["web-0"].stopped
    network["web-0"].end()
    assert sink.ends[0].reason is EndReason.DURATION


def test_the_end_is_on_record_with_counters(
    make: Make, network: Network, events: list[dict[str, Any]]
) -> None:
    """The audit record at the end has the reason, the packets passed on, and the agents' counters."""
    capture = make("web-0")
    network["web-0"].start()
    network["web-0"].deliver(record(1) + record(2))
    network["web-0"].stats(5, 3, final=True)
    capture.stop(EndReason.STOPPED)
    network["web-0"].end()
    *_, record_ = audits(events)
    assert (record_["audit"], record_["reason"], record_["packets"]) == ("capture_ended", "stopped", 2)
    (source,) = record_["sources"]
    assert (source["received"], source["dropped_kernel"], source["forwarded"]) == (5, 3, 2)


def test_what_a_client_that_is_leaving_does_not_get_is_on_record(
    make: Make, network: Network, sink: Sink, events: list[dict[str, Any]]
) -> None:
    """The sink refuses packets: as many are the api's drops; the others' are as the agents counted."""
    capture = make("web-0")
    network["web-0"].start()
    network["web-0"].deliver(record(1) + record(2))
    sink.leaving = True
    network["web-0"].deliver(record(3) + record(4) + record(5))
    network["web-0"].stats(9, 4, final=True)
    assert (sink.last_stats[1].delivered, sink.last_stats[1].forwarded) == (5, 5)
    capture.stop(EndReason.STOPPED)
    network["web-0"].end()
    *_, record_ = audits(events)
    (source,) = record_["sources"]
    assert (source["forwarded"], source["dropped_api"], source["dropped_agent"]) == (5, 3, 0)
    assert source["exact"]


# --- who is awaited ------------------------------------------------------------------


def test_it_is_told_how_many_instances_are_awaited(make: Make, network: Network, sink: Sink) -> None:
    """Each source and failure carries the number of instances still awaited; an agent's own number is ignored."""
    make("web-0", "web-1", "web-2")
    network["web-1"].greet()
    hostile = Source("x", "eth0", 1, 262144, "", awaited=77, excludes_api=True)
    network["web-1"].send(network["web-1"].session.source(1, hostile))
    assert sink.sources[1].awaited == 2
    network["web-2"].greet()
    network["web-2"].refuse("namespace_gone", "it is gone")
    assert [(notice.origin, notice.awaited) for notice in sink.notices] == [("web-2", 1)]
    network["web-0"].start("eth0", "lo")
    assert [sink.sources[number].awaited for number in (2, 3)] == [0, 0]


def test_who_is_added_is_not_awaited(make: Make, network: Network, sink: Sink) -> None:
    """A running capture is not held up by an instance that joins it."""
    capture = make("web-0")
    network["web-0"].start()
    assert capture.add_target(Target("web-9", "198.51.100.9", 9494))
    capture.say(NoticeType.UNKNOWN, "something")
    network["web-9"].start()
    assert sink.notices[-1].awaited == sink.sources[2].awaited == 0


# --- how much, and by which agents -----------------------------------------------------


@pytest.mark.parametrize("room", [2, 3])
def test_targets_are_added_up_to_the_operators_number(
    make: Make, network: Network, sink: Sink, room: int
) -> None:
    """An app that grows while it is followed does not outgrow the limit; the user learns who is left out."""
    capture = make("web-0", "web-1", limits=ApiLimits(max_targets=room))
    network["web-0"].start()
    assert capture.add_target(Target("web-2", "198.51.100.9", 9494)) is (room == 3)
    assert ("web-2" in network.agents) is (room == 3)
    assert notices(sink, "web-2") == ([] if room == 3 else [NoticeType.LIMIT_REACHED])


def test_nobody_is_added_to_a_capture_that_ends(make: Make, network: Network, sink: Sink) -> None:
    """An instance that appears after the stop is not asked, and nobody is told of it."""
    capture = make("web-0")
    network["web-0"].start()
    capture.stop(EndReason.STOPPED)
    assert not capture.add_target(Target("web-1", "198.51.100.9", 9494))
    assert "web-1" not in network.agents and not sink.notices


def test_an_agent_opens_no_more_sources_than_can_be_asked_for(
    make: Make, network: Network, sink: Sink
) -> None:
    """An agent that opens more sources than requested is dropped, and its sources are closed."""
    make("web-0", "web-1")
    network["web-1"].start()
    network["web-0"].start(*(f"eth{number}" for number in range(INTERFACES_MAX + 1)))
    assert len(sink.sources) == INTERFACES_MAX + 1
    assert network["web-0"].transport.closed == "aborted" and not network["web-1"].transport.closed


@pytest.mark.parametrize("most", [1, 3])
def test_sources_have_an_end(
    make: Make, network: Network, sink: Sink, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """An agent that opens one source above the limit is dropped, and no further target is added."""
    monkeypatch.setattr(sources_module, "SOURCES_MAX", most)
    capture = make("web-0", "web-1")
    network["web-0"].start()
    network["web-1"].start()
    assert len(sink.sources) == min(most, 2)
    assert network["web-1"].transport.closed == ("aborted" if most == 1 else "")
    assert not capture.add_target(Target("web-2", "198.51.100.9", 9494))
    assert notices(sink, "web-2") == [NoticeType.LIMIT_REACHED]


def test_an_agent_that_does_not_cut_headers_captures_nothing(
    make: Make, network: Network, sink: Sink, reactor: Clock
) -> None:
    """An agent that does not confirm cutting headers is not captured, and none of its packets is passed on."""
    make("web-0", headers_only=True)
    agent = network["web-0"]
    agent.greet()
    source = agent.session.source(1, Source("a", "eth0", 1, 262144, "", excludes_api=True))
    agent.send(source + b"".join(agent.session.packets(1, record(1))))
    reactor.advance(0)
    assert not sink.sources and not sink.records
    assert agent.transport.closed == "aborted"
    (error,) = sink.errors
    assert "cannot cut packets after their headers" in error.message


def test_what_an_agent_says_after_its_end_is_nothing(make: Make, network: Network, sink: Sink) -> None:
    """Messages of an agent after its END are ignored."""
    make("web-0", "web-1")
    for name in ("web-0", "web-1"):
        network[name].start()
    agent = network["web-0"]
    late = b"".join(agent.session.packets(1, record(1)))
    agent.end()
    agent.send(late)
    assert not sink.records
