"""The end of a capture when an agent, the line to it or the api is slow: real daemons beside a played agent."""

from __future__ import annotations

import signal
import threading
import time
from typing import Callable, Iterator

import pytest

from pcapd.limits import API_STOP_TIMEOUT, STOP_STALL_TIMEOUT, STOP_WATCH_INTERVAL
from pcapd.wire import Counters, End, EndReason, Stats
from tests.kit.doubles.hostile_agent import Conversation, HostileAgent, Script
from tests.kit.doubles.stream_api import now_us, record
from tests.kit.hosts.chain import Chain, Result, assert_accounted, elapsed
from tests.kit.lab.generator import FILTER, Generator

#: bytes per second of a slow line, and how many of its bytes come together.
LINE, PIECE = 50_000, 5_000


class Played:
    """An agent with one source and a backlog when STOP comes, which leaves as a test wants.

    Args:
        packets: Of the backlog.
        leave: Sends the backlog, one PACKETS frame.
    """

    def __init__(self, packets: int, leave: Callable[[Conversation, bytes], None]) -> None:
        self._records = b"".join(record(number, bytes(1000)) for number in range(packets))
        self._count = packets
        self._leave = leave
        self.stopped = threading.Event()

    def __call__(self, peer: Conversation) -> None:
        peer.open()
        peer.send(peer.session.stats(1, Stats(0, 0, 0, 0, now_us())))
        peer.await_stop()
        self.stopped.set()
        count = self._count
        self._leave(peer, b"".join(map(bytes, peer.session.packets(1, self._records))))
        peer.send(peer.session.stats(1, Stats(count, 0, 0, count, now_us(), final=True)))
        peer.send(peer.session.end(End(EndReason.STOPPED, "", (Counters(1, count, 0, 0, count),))))
        peer.wait()


def at_once(peer: Conversation, backlog: bytes) -> None:
    peer.send(backlog)


def dribble(peer: Conversation, backlog: bytes) -> None:
    peer.trickle(backlog, 1, 1.0)


def slow_line(peer: Conversation, backlog: bytes) -> None:
    peer.trickle(backlog, PIECE, PIECE / LINE)


@pytest.fixture
def agent(chain: Chain) -> Iterator[HostileAgent]:
    """In the place of target nobody."""
    port = chain.api.config["static"]["targets"]["nobody"]["port"]
    with HostileAgent(chain.authority.issue_agent("played"), lambda peer: None, port) as agent:
        yield agent


def stop_beside(chain: Chain, agent: HostileAgent, script: Script) -> tuple[Result, float]:
    """Capture at the played agent and at a real one; what came of it, and the seconds that the stop took."""
    agent.script = script
    with Generator(chain.link, rate=1000):
        client = chain.begin("nobody", "web-1", "--filter", FILTER)
        client.wait_for("nobody:eth0", "web-1:eth0")
        client.wait_for("web-1:eth0", packets=500)
        client.signal()
        began = time.monotonic()
        result = client.wait()
    took = elapsed(began)
    honest = result.sources["web-1:eth0"]
    assert honest["exact"] and honest["received"] == honest["written"] >= 500
    assert honest["drops"]["kernel"] == 0
    return result, took


def test_an_agent_that_dribbles(chain: Chain, agent: HostileAgent) -> None:
    """A byte a second after STOP: it is given up alone, soon, and its packets are not called none."""
    result, took = stop_beside(chain, agent, Played(200, dribble))
    assert result.status == 3, result.stderr
    assert took < STOP_STALL_TIMEOUT + STOP_WATCH_INTERVAL + 3.0
    (notice,) = result.notices
    assert (notice["type"], notice["origin"]) == ("CONNECTION_ERROR", "nobody")
    assert "made no progress" in notice["message"]
    assert not result.sources["nobody:eth0"]["exact"] and result.report["lost"] is None


def test_an_agent_that_does_not(chain: Chain, agent: HostileAgent) -> None:
    """The control: the same backlog at once, and the capture is complete."""
    result, _ = stop_beside(chain, agent, Played(200, at_once))
    assert result.status == 0, result.stderr
    assert_accounted(result)
    assert result.sources["nobody:eth0"]["written"] == 200


@pytest.mark.long
def test_a_slow_line(chain: Chain, agent: HostileAgent) -> None:
    """A frame that takes longer than silence may last arrives whole: nobody is given up, nothing is lost."""
    result, took = stop_beside(chain, agent, Played(300, slow_line))
    assert result.status == 0, result.stderr
    assert 300 * 1000 / LINE < took < API_STOP_TIMEOUT
    assert result.sources["nobody:eth0"]["written"] == 300 and result.report["lost"] == 0


@pytest.mark.long
def test_an_api_that_was_suspended(chain: Chain, agent: HostileAgent) -> None:
    """An api that was suspended reads what has arrived before it judges which agent was silent."""
    played = Played(150, slow_line)

    def suspend() -> None:
        assert played.stopped.wait(30)
        chain.api.signal(signal.SIGSTOP)
        time.sleep(STOP_STALL_TIMEOUT + 0.5)
        chain.api.signal(signal.SIGCONT)

    thread = threading.Thread(target=suspend)
    thread.start()
    result, _ = stop_beside(chain, agent, played)
    thread.join()
    assert result.status == 0, result.stderr
    assert result.sources["nobody:eth0"]["written"] == 150
