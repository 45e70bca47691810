"""One capture through the api: what happens when an agent fails."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from pcapd import COMPATIBILITY_LEVEL
from pcapd.limits import (
    AGENT_SILENCE_TIMEOUT,
    HANDSHAKE_TIMEOUT,
    OPEN_TIMEOUT,
    SNAPLEN_MAX,
)
from pcapd.wire import EndReason, Hello, NoticeType
from tests.kit.unit.api import Make, Network, Sink, notices, record


def fails(agent: Any, good: Any, how: str, reactor: Clock) -> None:
    """Let one agent fail before or after it has started; the good one answers PINGs meanwhile."""
    if how == "unreachable":
        agent.transport.leave()
    elif how == "refuses":
        agent.greet()
        agent.refuse("no_such_interface", "there is no interface 'eth0'")
    elif how == "older":
        agent.greet(COMPATIBILITY_LEVEL - 1)
    elif how == "talks nonsense":
        agent.link.handshakeCompleted()
        agent.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    elif how == "delivers before it opens":
        agent.greet()
        agent.deliver(record(1))
    elif how == "never greets":
        agent.link.handshakeCompleted()
        reactor.advance(HANDSHAKE_TIMEOUT)
    elif how == "answers no PING":
        agent.link.handshakeCompleted()
        agent.send(agent.session.hello(Hello(COMPATIBILITY_LEVEL, "agent", "x", "1.0", 1)))
        reactor.advance(HANDSHAKE_TIMEOUT)
    elif how == "never opens":
        agent.greet()
        for _ in range(int(OPEN_TIMEOUT)):
            reactor.advance(1.0)
            good.listen()
    reactor.advance(0)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("unreachable", "198.51.100.2:9494"),
        ("refuses", "there is no interface 'eth0'"),
        ("older", "speaks level"),
        ("talks nonsense", "unknown type"),
        ("delivers before it opens", "not open"),
        ("never greets", "for HELLO"),
        ("answers no PING", "for PONG"),
        ("never opens", "for the capture to start"),
    ],
)
def test_an_agent_that_does_not_start_stops_nobody(
    make: Make, network: Network, sink: Sink, reactor: Clock, how: str, words: str
) -> None:
    """The others capture, the user learns which one failed and why, and the end is a normal one."""
    capture = make("web-0", "web-1")
    good, bad = network["web-0"], network["web-1"]
    good.start()
    fails(bad, good, how, reactor)
    good.deliver(record(1))
    assert sink.records == {1: record(1)}
    assert notices(sink, "web-1") == [NoticeType.START_CAPTURE_FAILED]
    assert words in sink.notices[0].message
    capture.stop(EndReason.STOPPED)
    good.end()
    assert [end.reason for end in sink.ends] == [EndReason.STOPPED]


@pytest.mark.parametrize("when", ["before any has started", "when no other is left"])
def test_an_agent_that_does_not_start_is_told_of(make: Make, network: Network, sink: Sink, when: str) -> None:
    """A failing agent is reported while others may still come; only the last failure is the error itself."""
    make("web-0", "web-1")
    if when == "when no other is left":
        network["web-0"].start()
        network["web-0"].end()
    network["web-1"].transport.leave()
    assert notices(sink, "web-1") == [NoticeType.START_CAPTURE_FAILED] and not sink.errors


def test_a_target_without_a_socket_stops_nobody(make: Make, network: Network, sink: Sink) -> None:
    """When the api has no descriptor left, the target is reported; the others capture."""
    network.sockets = 1
    make("web-0", "web-1")
    network["web-0"].start()
    network["web-0"].deliver(record(1))
    assert sink.records == {1: record(1)}
    assert notices(sink, "web-1") == [NoticeType.START_CAPTURE_FAILED]
    assert "Too many open files" in sink.notices[0].message


def test_no_socket_at_all(make: Make, network: Network, sink: Sink) -> None:
    """Without any socket left the capture fails with the reason."""
    network.sockets = 0
    make("web-0")
    (error,) = sink.errors
    assert "Too many open files" in error.message


@pytest.mark.parametrize(
    "lie",
    [
        record(1)[:-1],
        record(1) + b"x",
        b"\xff" * 40,
        record(1, b"")[:8] + b"\xff\xff\xff\x7f" * 2 + bytes(9),
        record(1, bytes(SNAPLEN_MAX + 1)),
    ],
    ids=["cut", "too long", "no time", "a length beyond its end", "more than any packet has"],
)
def test_an_agent_whose_records_lie_is_dropped(
    make: Make, network: Network, sink: Sink, reactor: Clock, lie: bytes
) -> None:
    """A malformed batch is not passed on, its source is closed for the merge, and the others go on."""
    make("web-0", "web-1")
    for name in ("web-0", "web-1"):
        network[name].start()
    network["web-1"].deliver(lie)
    reactor.advance(0)
    network["web-0"].deliver(record(2))
    assert sink.records == {1: record(2)}
    assert network["web-1"].transport.closed == "aborted"
    assert notices(sink, "web-1") == [NoticeType.CONNECTION_ERROR]
    assert list(sink.last_stats) == [2], "the other source is open"
    assert sink.last_stats[2].final and not sink.last_stats[2].exact and not sink.over


def test_an_agent_that_falls_silent_is_given_up(
    make: Make, network: Network, sink: Sink, reactor: Clock
) -> None:
    """An agent that answers no PING is given up without a FIN, and no other is."""
    make("web-0", "web-1")
    for name in ("web-0", "web-1"):
        network[name].start()
    for _ in range(int(2 * AGENT_SILENCE_TIMEOUT) + 1):
        reactor.advance(1)
        network["web-0"].listen()
    assert network["web-1"].transport.closed == "aborted" and network["web-0"].transport.closed == ""
    assert notices(sink, "web-1") == [NoticeType.CONNECTION_ERROR]


def test_a_request_that_is_wrong_everywhere_is_told_in_the_agents_words(
    make: Make, network: Network, sink: Sink
) -> None:
    """When all agents refuse a filter, the error has their message and code."""
    make("web-0", "web-1")
    for name in ("web-0", "web-1"):
        network[name].greet()
        network[name].refuse("bad_filter", "syntax error", "see pcap-filter(7)")
    (error,) = sink.errors
    assert (error.code, error.status, error.message) == ("bad_filter", 400, "syntax error")


def test_different_failures_everywhere_are_all_named(
    make: Make, network: Network, sink: Sink, reactor: Clock
) -> None:
    """When nothing could be captured for several reasons, the error has all of them."""
    make("web-0", "web-1")
    network["web-0"].greet()
    network["web-0"].refuse("bad_filter", "syntax error")
    network["web-1"].transport.leave()
    (error,) = sink.errors
    assert error.status == 502
    assert "syntax error" in error.message and "198.51.100.2:9494" in error.message


def test_agents_that_fail_alike_are_all_named(make: Make, network: Network, sink: Sink) -> None:
    """Failures that are not the request's fault are reported per agent."""
    make("web-0", "web-1")
    for name in ("web-0", "web-1"):
        network[name].transport.leave()
    (error,) = sink.errors
    assert "198.51.100.1:9494" in error.message and "198.51.100.2:9494" in error.message


def test_a_capture_whose_last_agent_leaves_ends(make: Make, network: Network, sink: Sink) -> None:
    """After a start, losing everything is an end with counters and not an error."""
    make("web-0")
    network["web-0"].start()
    network["web-0"].stats(7, 2)
    network["web-0"].transport.leave()
    (end,) = sink.ends
    assert end.reason is EndReason.SOURCES_GONE
    assert [(each.source, each.received, each.dropped_kernel) for each in end.sources] == [(1, 7, 2)]


def test_an_agent_that_drains_is_announced(make: Make, network: Network, sink: Sink) -> None:
    """When an agent shuts down, the user learns why its packets end."""
    make("web-0", "web-1")
    for name in ("web-0", "web-1"):
        network[name].start()
    network["web-1"].end(EndReason.DRAINING)
    assert notices(sink, "web-1") == [NoticeType.INSTANCE_UNAVAILABLE] and not sink.over


def test_what_comes_with_a_lie_is_not_believed(make: Make, network: Network, sink: Sink) -> None:
    """A good batch behind a malformed one, in the same read, is not passed on."""
    make("web-0", "web-1")
    for name in ("web-0", "web-1"):
        network[name].start()
    agent = network["web-1"]
    batches = [agent.session.packets(1, records) for records in (record(1)[:-1], record(2))]
    agent.send(b"".join(header + bytes(payload) for header, payload in batches))
    assert sink.records == {} and agent.transport.closed == "aborted"
