"""Processes that are stopped for a while read what came meanwhile before they give up a peer."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Any, Iterator

import pytest

from demo.daemons import Daemon
from demo.processes import wait_until
from pcapd.limits import HOLD_BACK_TIME
from tests.kit.hosts.chain import Chain, Client, Result, assert_explained, ordered
from tests.kit.lab.generator import FILTER, Generator

pytestmark = pytest.mark.long

#: Seconds of silence that the tested process bears, of which its peers bear more, and of its pause.
SHORT, PAUSE = 3.0, 4.5
#: Packets per second.  What comes during a pause fits the sockets' buffers: where it does not,
#: TCP tries again at growing intervals, and goes on only some time after the pause.
RATE = 50


@contextlib.contextmanager
def impatient(daemon: Daemon) -> Iterator[Daemon]:
    """A daemon that gives its peers up sooner than they give it up."""
    daemon.stop()
    daemon.limits = {"AGENT_SILENCE_TIMEOUT": SHORT}
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        daemon.limits = {}
        daemon.start()


def pause(process: Any, seconds: float) -> None:
    """Stop a process for a while."""
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)


def goes_on(client: Client) -> None:
    """Wait for packets of both hosts that are captured from now on."""
    time.sleep(1.1)  # of what waits already, all is shown by then
    shown = client.packets()
    names = ("web-0:eth0", "web-1:eth0")
    for name in names:  # each from where it is: the kernel may have dropped more of one
        client.wait_for(name, packets=shown[name] + RATE)


def begin(chain: Chain, *arguments: str, **options: Any) -> Client:
    client = chain.begin("web-0", "web-1", "--filter", FILTER, *arguments, **options)
    client.wait_for("web-0:eth0", "web-1:eth0", packets=1)
    return client


def assert_in_order(result: Result) -> None:
    """No packet stands behind a newer one, and none had to be written late."""
    assert [source["late"] for source in result.sources.values()] == [0, 0]
    assert ordered([packet.time_us for packet in result.file.packets])


@pytest.mark.parametrize("who", ["agent", "api"])
def test_a_daemon_that_was_stopped_gives_nobody_up(chain: Chain, who: str) -> None:
    """A daemon that was stopped for longer than the silence limit keeps its peers, except one that is silent."""
    with impatient(getattr(chain, who)) as daemon, Generator(chain.link, rate=RATE):
        client = begin(chain)
        pause(daemon.process, PAUSE)
        goes_on(client)
        result = client.stop()
        assert not result.notices
        assert result.status in (0, 3)  # for a full ring
        for source in result.sources.values():
            assert_explained(source)
        assert_in_order(result)

        # The same with the peer stopped.
        client = begin(chain)
        peer = chain.api if who == "agent" else chain.agent
        words = f"nothing was heard for {SHORT:g} s"

        def given_up() -> int:
            return sum(words in record["message"] for record in daemon.records())

        assert given_up() == 0
        peer.signal(signal.SIGSTOP)
        try:
            # Both connections: there is one for each target.
            wait_until(lambda: given_up() == 2, "it is given up", timeout=4 * SHORT)
        finally:
            peer.signal(signal.SIGCONT)
        assert client.wait().status != 0


def test_a_pause_of_the_api_costs_no_order(chain: Chain) -> None:
    """After a pause of the api longer than the hold-back time no packet is late, and all are in order."""
    with Generator(chain.link, rate=20_000) as many:  # so that of each host some are under way
        client = begin(chain)
        chain.api.signal(signal.SIGSTOP)
        many.stop()
    time.sleep(3 * HOLD_BACK_TIME)
    chain.api.signal(signal.SIGCONT)
    with Generator(chain.link, rate=RATE):
        goes_on(client)
        result = client.stop()
    assert not result.notices
    assert_in_order(result)


def test_a_pause_of_the_client_is_not_the_apis_silence(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-Z and ``fg``, pcapctl reads what has arrived, in order, before it judges the api's silence."""
    monkeypatch.setattr(chain, "client_limits", {"API_SILENCE_TIMEOUT": SHORT})
    with Generator(chain.link, rate=RATE):
        client = begin(chain)
        pause(client.process, PAUSE)
        goes_on(client)
        result = client.stop()
    assert not result.notices
    assert_in_order(result)
