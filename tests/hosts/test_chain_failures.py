"""One that fails, hangs or is killed never stops the others, and the file says what it has."""

from __future__ import annotations

import signal
import time

import pytest

from demo.processes import wait_until
from tests.kit.hosts.chain import Chain, assert_accounted, elapsed, ordered
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.readers import capinfos, require, tshark_fields

#: seconds; the contract says two for the stop, the rest is the process's own end.
STOP = 2.5


@pytest.mark.parametrize("other", ["silent", "nobody"])
def test_a_target_that_does_not_answer_stops_nobody(chain: Chain, other: str) -> None:
    """A target that does not answer delays neither the start nor the stop of the other one."""
    with Generator(chain.link, rate=1000):
        client = chain.begin(other, "web-0", "--filter", FILTER)
        # Before the silent one can have been given up: that takes five seconds.
        client.wait_for("web-0:eth0", packets=1, timeout=4.5)
        asked = time.monotonic()
        result = client.stop()
        took = elapsed(asked)
    assert took < STOP
    assert result.status == 3
    assert [notice["origin"] for notice in result.notices] == [other]
    assert result.notices[0]["type"] == "START_CAPTURE_FAILED"
    assert_accounted(result)
    assert result.file.packets


def test_an_unreachable_agent_is_named_with_its_address(chain: Chain) -> None:
    """The notice about an unreachable agent names the agent, its address and the reason."""
    result = chain.capture("nobody", "web-0", "--duration", "500ms")
    (notice,) = result.notices
    port = chain.api.config["static"]["targets"]["nobody"]["port"]
    assert notice["origin"] == "nobody"
    assert f"127.0.0.1:{port}" in notice["message"] and "refused" in notice["message"]
    assert result.status == 3


def test_a_stopped_agent_before_the_capture(chain: Chain) -> None:
    """An agent under SIGSTOP delays neither the start of the others nor the stop."""
    chain.second.signal(signal.SIGSTOP)
    try:
        with Generator(chain.link, rate=1000):
            client = chain.begin("tiny-0", "web-1", "--filter", FILTER)
            client.wait_for("web-1:eth0", packets=1, timeout=4.5)
            asked = time.monotonic()
            result = client.stop()
            took = elapsed(asked)
    finally:
        chain.second.signal(signal.SIGCONT)
    assert took < STOP
    assert result.status == 3
    assert [notice["origin"] for notice in result.notices] == ["tiny-0"]
    assert ordered(result.file.times)


@pytest.mark.long
def test_an_agent_stopped_in_the_middle(chain: Chain) -> None:
    """An agent that falls silent while capturing delays the stop by two seconds at most, and is reported."""
    with Generator(chain.link, rate=1000):
        client = chain.begin("tiny-0", "web-1", "--filter", FILTER)
        client.wait_for("tiny-0:eth0", "web-1:eth0", packets=200)
        chain.second.signal(signal.SIGSTOP)
        try:
            before = client.packets()["web-1:eth0"]
            client.wait_for("web-1:eth0", packets=before + 1000)
            asked = time.monotonic()
            result = client.stop()
            took = elapsed(asked)
        finally:
            chain.second.signal(signal.SIGCONT)
    assert took < STOP
    assert result.status == 3
    assert [(notice["type"], notice["origin"]) for notice in result.notices] == [
        ("CONNECTION_ERROR", "tiny-0")
    ]
    healthy = result.sources["web-1:eth0"]
    assert healthy["received"] == healthy["written"] == len(result.file.of("web-1:eth0"))
    assert ordered(result.file.times)


def test_a_killed_agent(chain: Chain) -> None:
    """When an agent is killed the other target goes on, the file is valid, and the exit status is 3."""
    require("tshark", "capinfos")
    with Generator(chain.link, rate=1000):
        client = chain.begin("tiny-0", "web-1", "--filter", FILTER)
        client.wait_for("tiny-0:eth0", "web-1:eth0", packets=200)
        chain.second.kill()
        before = client.packets()["web-1:eth0"]
        client.wait_for("web-1:eth0", packets=before + 1500)
        result = client.stop()
    assert result.status == 3, result.stderr
    (notice,) = result.notices
    assert notice["origin"] == "tiny-0" and notice["type"] == "CONNECTION_ERROR"
    survivor = result.sources["web-1:eth0"]
    assert survivor["received"] == survivor["written"]
    # What the dead one had dropped or still held nobody knows.
    assert survivor["lost_in_transit"] == 0 and result.sources["tiny-0:eth0"]["lost_in_transit"] is None
    assert {row[0] for row in tshark_fields(result.path, ["frame.interface_name"])} == {
        "tiny-0:eth0",
        "web-1:eth0",
    }
    assert capinfos(result.path)["Strict time order"] == "True"


def test_the_only_agent_killed(chain: Chain) -> None:
    """When no target is left the capture ends by itself: exit status 3, and what came is in the file."""
    with Generator(chain.link, rate=1000):
        client = chain.begin("tiny-0", "--filter", FILTER)
        client.wait_for("tiny-0:eth0", packets=200)
        chain.second.kill()
        result = client.wait()
    assert result.status == 3, result.stderr
    assert result.report["reason"] == "no target is left"
    numbers = result.file.numbers("tiny-0:eth0")
    assert len(numbers) >= 200 and ordered(numbers)


def test_a_killed_api(chain: Chain) -> None:
    """When the api is killed pcapctl ends with status 1, says so, and its file is valid; the agent lets go."""
    require("tshark")
    with Generator(chain.link, rate=1000):
        client = chain.begin("web-0", "web-1", "--filter", FILTER)
        client.wait_for("web-0:eth0", "web-1:eth0", packets=200)
        chain.api.kill()
        result = client.wait()
    assert result.status == 1
    assert "connection to the api was lost" in result.report["error"]
    assert len(tshark_fields(result.path, ["frame.number"])) >= 400
    assert result.file.rest == 0
    wait_until(chain.settled, "the agent's capture ended by itself", timeout=20)


def test_a_namespace_that_goes_away(chain: Chain) -> None:
    """A target whose network namespace is deleted while it is captured is reported; the other goes on."""
    from demo.namespaces import Namespace

    gone = Namespace("pcapd-test-not-there")
    gone.create()
    try:
        client = chain.begin("gone", "web-0", "--device", "lo", "--duration", "20s")
        client.wait_for("gone:lo", "web-0:lo")
        gone.delete()
        wait_until(lambda: any(event["event"] == "notice" for event in client.events()), "a notice")
        result = client.stop()
    finally:
        gone.delete()
    assert result.status == 3, result.stderr
    (notice,) = result.notices
    assert (notice["type"], notice["origin"]) == ("INSTANCE_UNAVAILABLE", "gone")
    assert "network namespace is gone" in notice["message"]


def test_an_interface_that_goes_away(chain: Chain) -> None:
    """A captured interface that is deleted is reported; the capture of the others goes on."""
    chain.web0.ip("link", "add", "wire7", "type", "veth", "peer", "name", "wire8")
    chain.web0.ip("link", "set", "wire7", "up")
    client = chain.begin("web-0", "--device", "wire7", "--device", "eth0")
    client.wait_for("web-0:wire7", "web-0:eth0")
    chain.web0.ip("link", "delete", "wire7")
    wait_until(lambda: any(event["event"] == "notice" for event in client.events()), "a notice")
    result = client.stop()
    assert result.status == 3
    assert "wire7" in result.notices[0]["message"]
    assert_accounted(result)
