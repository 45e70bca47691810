"""One capture through the api: many agents that start together."""

from __future__ import annotations

from twisted.internet.task import Clock

from pcapd import COMPATIBILITY_LEVEL
from pcapd.limits import (
    GATHER_PATIENCE,
    GATHER_TARGETS,
    GATHER_TIME,
    HANDSHAKE_TIMEOUT,
)
from pcapd.wire import EndReason, Hello
from tests.kit.unit.api import Make, Network, Sink

MANY = tuple(f"web-{number}" for number in range(GATHER_TARGETS))


def asked(network: Network, *names: str) -> set[str]:
    """Those of the agents that have heard START by now."""
    for name in names or MANY:
        network[name].listen()
    return {name for name in names or MANY if network[name].started}


def test_many_agents_start_when_the_last_is_connected(make: Make, network: Network) -> None:
    """Agents start only when the last is connected, each for its own target."""
    make(*MANY)
    for name in MANY[:-1]:
        network[name].greet()
    assert asked(network) == set()
    network[MANY[-1]].greet()
    assert asked(network) == set(MANY)
    assert [network[name].started.instance for name in MANY if network[name].started] == list(MANY)


def test_few_agents_do_not_wait_for_each_other(make: Make, network: Network) -> None:
    """Below the limit, each starts at once."""
    make(*MANY[:-1])
    network[MANY[0]].greet()
    assert asked(network, *MANY[:-1]) == {MANY[0]}


def test_who_fails_is_not_waited_for(make: Make, network: Network, reactor: Clock) -> None:
    """When the last missing agent fails, or a connected one leaves, the others start."""
    make(*MANY)
    for name in MANY[2:]:
        network[name].greet()
    network[MANY[1]].greet()
    network[MANY[1]].transport.leave()
    assert asked(network, *MANY[2:]) == set()
    network[MANY[0]].transport.leave()
    assert asked(network, *MANY[2:]) == set(MANY[2:])


def test_a_silent_agent_delays_the_others_for_a_moment(
    make: Make, network: Network, reactor: Clock, sink: Sink
) -> None:
    """Without another agent in GATHER_PATIENCE, those that are here start; a later one starts alone."""
    make(*MANY)
    for name in MANY[1:]:
        network[name].greet()
    reactor.advance(GATHER_PATIENCE - 0.01)
    assert asked(network) == set()
    reactor.advance(0.02)
    assert asked(network) == set(MANY[1:])
    network[MANY[0]].greet()
    assert asked(network) == set(MANY)
    for name in MANY:
        network[name].open()
    assert len(sink.sources) == len(MANY)


def test_agents_that_trickle_in_are_not_waited_for_without_end(
    make: Make, network: Network, reactor: Clock
) -> None:
    """GATHER_TIME after the first, all that are here start."""
    make(*MANY)
    pause = GATHER_PATIENCE * 0.9
    came = 0
    while came * pause < GATHER_TIME:
        assert asked(network) == set()
        network[MANY[came]].greet()
        came += 1
        reactor.advance(pause)
    assert came < len(MANY)
    assert asked(network) == set(MANY[:came])


def test_who_waits_for_the_others_has_answered(make: Make, network: Network, reactor: Clock) -> None:
    """The time for its PONG does not run on until it is asked to capture."""
    make(*MANY)
    agent = network[MANY[0]]
    agent.link.handshakeCompleted()
    agent.send(agent.session.hello(Hello(COMPATIBILITY_LEVEL, "agent", "slow", "1.0", 1)))
    reactor.advance(HANDSHAKE_TIMEOUT - 0.1)
    agent.listen()
    reactor.advance(GATHER_PATIENCE / 2)
    assert not agent.transport.closed


def test_a_stop_while_agents_gather(make: Make, network: Network, reactor: Clock, sink: Sink) -> None:
    """A STOP while agents gather ends the capture at once, and no agent is asked to capture any more."""
    capture = make(*MANY)
    network[MANY[0]].greet()
    capture.stop(EndReason.STOPPED)
    reactor.advance(0)
    assert [end.reason for end in sink.ends] == [EndReason.STOPPED]
    reactor.advance(GATHER_TIME)
    assert asked(network) == set()
