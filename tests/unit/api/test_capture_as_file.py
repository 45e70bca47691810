"""A capture over HTTP: a file that lacks something never looks complete."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pcapd.api.resolvers.static import StaticResolver
from pcapd.config.schema import ApiLimits
from pcapd.limits import (
    HOLD_BACK_TIME,
)
from pcapd.wire import Source
from tests.kit.unit.api import Network, record
from tests.kit.unit.front import Front


def test_the_status_waits_for_the_first_agent(front: Front, network: Network) -> None:
    """The answer waits for the first agent; then come 200 and the file's header."""
    answer = front.ask("/capture?target=web-0")
    network["web-0"].greet()
    assert answer.raw == b""
    network["web-0"].open()
    front.reactor.advance(0.05)
    assert answer.status == 200 and "application/vnd.tcpdump.pcap" in answer.headers
    assert answer.body[:4] == b"\xd4\xc3\xb2\xa1"


def test_a_bad_filter_is_an_honest_400(front: Front, network: Network) -> None:
    """A bad filter is a 400 with the agent's message."""
    answer = front.ask("/capture?filter=udp+and&target=web-0")
    network["web-0"].greet()
    network["web-0"].refuse("bad_filter", "syntax error, at: 'and'")
    assert answer.status == 400
    assert answer.error == {"code": "bad_filter", "title": "syntax error, at: 'and'", "detail": ""}


def test_nobody_there_is_502(front: Front, network: Network) -> None:
    """An agent that cannot be reached is not the user's fault."""
    answer = front.ask("/capture?target=web-0")
    network["web-0"].transport.leave()
    assert answer.status == 502 and answer.error["code"] == "agent_unavailable"


def test_a_file_that_ends_well_is_complete(front: Front, network: Network) -> None:
    """A file that ends well has all packets, and its response has the proper end."""
    answer = front.ask("/capture?target=web-0&duration=5")
    network["web-0"].start()
    network["web-0"].deliver(record(1_000_000) + record(2_000_000))
    front.reactor.advance(5)
    assert network["web-0"].stopped
    network["web-0"].end()
    assert answer.complete and answer.body[24:] == record(1_000_000) + record(2_000_000)


def test_pcapng_by_accept(front: Front, network: Network) -> None:
    """An Accept header for pcapng is honoured."""
    answer = front.ask("/capture?target=web-0", Accept="application/x-pcapng")
    network["web-0"].start()
    front.reactor.advance(0.05)
    assert "application/x-pcapng" in answer.headers and answer.body[:4] == b"\x0a\x0d\x0d\x0a"


def test_a_count_is_exact(front: Front, network: Network) -> None:
    """A count ends the response after exactly that many packets, and stops the agents."""
    answer = front.ask("/capture?target=web-0&count=2&order=false")
    network["web-0"].start()
    network["web-0"].deliver(b"".join(record(us) for us in range(5)))
    front.reactor.advance(0.05)
    assert network["web-0"].stopped
    network["web-0"].end()
    assert answer.complete and answer.body[24:] == record(0) + record(1)


@pytest.mark.parametrize("size", ["1", "100"])
def test_a_small_limit_of_bytes_ends_the_response(front: Front, network: Network, size: str) -> None:
    """The response ends at its limit of bytes, however small that is."""
    answer = front.ask(f"/capture?target=web-0&max_bytes={size}")
    network["web-0"].start()
    for us in range(8):
        network["web-0"].deliver(record(us))
    assert network["web-0"].stopped
    network["web-0"].end()
    assert answer.complete and len(answer.body) <= max(24, int(size))


@pytest.mark.parametrize(
    "how",
    [
        "the last agent is lost",
        "one of two is lost",
        "one of two is lost, and the time is up",
        "one of two lies",
        "all end by themselves",
    ],
)
def test_a_file_that_lacks_something_does_not_look_complete(front: Front, network: Network, how: str) -> None:
    """A file that lacks packets ends with a broken connection after its first byte."""
    names = ["web-0"] if "last" in how else ["web-0", "web-1"]
    answer = front.ask("/capture?duration=5&" + "&".join(f"target={name}" for name in names))
    for name in names:
        network[name].start()
    front.reactor.advance(0.05)
    if how == "one of two lies":
        network["web-1"].deliver(b"nonsense")
        front.reactor.advance(0)
    elif how == "all end by themselves":
        network["web-1"].end()
    else:
        network[names[-1]].transport.leave()
    if "time is up" in how:
        front.reactor.advance(5)
    if len(names) == 2:
        network["web-0"].end()
    front.reactor.advance(0)
    assert answer.status == 200 and not answer.complete
    assert answer.transport.disconnecting or answer.transport.aborted


def test_mixed_link_types_break_a_classic_file_off(front: Front, network: Network) -> None:
    """A second source that does not fit into the file ends the response without its end."""
    answer = front.ask("/capture?target=web-0")
    agent = network["web-0"]
    agent.start()
    front.reactor.advance(0.05)
    other = Source("web-0", "tun0", 101, 96, "", excludes_api=True)
    agent.send(agent.session.source(2, other))
    assert answer.status == 200 and not answer.complete and answer.transport.aborted


def test_what_follows_mixed_link_types_is_nothing(
    front: Front, network: Network, events: list[dict[str, Any]]
) -> None:
    """Packets behind mixed link types are ignored, and the recorded reason for the end is the true one."""
    answer = front.ask("/capture?target=web-0&target=web-1")
    agent = network["web-0"]
    agent.start()
    network["web-1"].start()
    front.reactor.advance(0.05)
    before = answer.raw
    agent.send(
        agent.session.source(2, Source("web-0", "tun0", 101, 96, "", excludes_api=True))
        + b"".join(agent.session.packets(2, record(1)))
    )
    front.reactor.advance(5)
    assert answer.raw == before
    assert {network[name].transport.closed for name in ("web-0", "web-1")} == {"aborted"}
    *_, ended = [event for event in events if event.get("audit") == "capture_ended"]
    assert "link type" in ended["detail"]


def test_a_client_that_leaves_ends_its_capture(front: Front, network: Network) -> None:
    """When a client leaves, its capture ends on every agent at once."""
    answer = front.ask("/capture?target=web-0")
    network["web-0"].start()
    answer.leave()
    front.reactor.advance(0)
    assert network["web-0"].transport.closed == "aborted" and front.api._captures == set()
    assert front.reactor.getDelayedCalls() == []


def test_a_client_that_leaves_before_its_capture(
    front: Front, network: Network, monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]]
) -> None:
    """A client that leaves before its capture starts is not resolved for, counted, or given a place."""
    left: list[Any] = []
    monkeypatch.setattr(StaticResolver, "resolve", lambda *_: Deferred(left.append))
    answer = front.ask("/capture?target=web-0")
    answer.leave()
    assert len(left) == 1
    assert network.agents == {} and front.api._captures == set()
    assert front.api.metrics.captures_active.collect()[0].samples[0].value == 0
    (record,) = [event for event in events if "audit" in event]
    assert record["audit"] == "capture_refused" and "left before" in record["reason"]
    assert answer.raw == b""


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [("5 s are over", 502, "capture_failed"), ("the api is shutting down", 503, "draining")],
)
def test_a_capture_that_ends_before_it_begins_is_no_file(
    front: Front, network: Network, reason: str, status: int, code: str
) -> None:
    """An agent that still opens when all is over leaves nothing that could be taken for a capture."""
    front.api.config = replace(front.api.config, limits=ApiLimits(max_duration=5.0))
    answer = front.ask("/capture?target=web-0")
    network["web-0"].greet()
    if "api" in reason:
        front.api.drain()
    else:
        front.reactor.advance(5)
    assert network["web-0"].stopped
    network["web-0"].end()
    assert (answer.status, answer.error["code"]) == (status, code)
    assert reason in answer.error["title"]


def test_a_slow_client_slows_the_agents(front: Front, network: Network) -> None:
    """Agents are not read while the client's connection is full, and read again when it is not."""
    answer = front.ask("/capture?target=web-0")
    network["web-0"].start()
    answer.transport.producer.pauseProducing()
    assert network["web-0"].transport.pressure == ["pause"]
    answer.transport.producer.resumeProducing()
    assert network["web-0"].transport.pressure == ["pause", "resume"]


def test_the_order_does_not_suffer_from_a_slow_client(front: Front, network: Network) -> None:
    """A slow client causes no disorder: while agents are not read, none of them is waited for."""
    answer = front.ask("/capture?target=web-0&target=web-1&duration=5")
    for name in ("web-0", "web-1"):
        network[name].start()
    network["web-0"].deliver(record(2_000_000))
    answer.transport.producer.pauseProducing()
    front.reactor.pump([0.05] * round(3 * HOLD_BACK_TIME / 0.05))
    answer.transport.producer.resumeProducing()
    network["web-1"].deliver(record(1_000_000))
    front.reactor.advance(5)
    for name in ("web-0", "web-1"):
        network[name].end()
    assert answer.complete and answer.body[24:] == record(1_000_000) + record(2_000_000)
