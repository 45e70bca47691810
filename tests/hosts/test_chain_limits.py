"""Limits of the operator, draining, and what is kept of each capture."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from demo.configurations import free_port, merged
from demo.daemons import Daemon
from demo.processes import wait_until
from tests.kit.hosts.chain import Chain, Client, read_pcap
from tests.kit.lab.generator import FILTER, Generator

LIMITS = {
    "concurrent_captures": 2,
    "per_user": 1,
    "max_bytes": "200kB",
    "max_targets": 2,
}


@pytest.fixture
def narrow(chain: Chain, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A second api over the same agents, with little to give."""
    limits = {**LIMITS, **getattr(request, "param", {})}
    change = {"id": "narrow", "listen": {"port": free_port()}, "limits": limits, "metrics": None}
    with Daemon("api", merged(chain.api.config, change), chain.directory) as api:
        yield api
    for token in (chain.token, chain.bob):
        assert token not in api.log()


def begin(chain: Chain, api: Daemon, *arguments: str, token: str = "") -> Client:
    """Start a pcapctl at another api."""
    env = {"PCAP_API": f"https://127.0.0.1:{api.port}"}
    if token:
        env["PCAP_TOKEN"] = token
    return chain.begin(*arguments, env=env)


def audit(api: Daemon, capture: str = "") -> list[dict[str, Any]]:
    """The api's audit records."""
    records = [record for record in api.records() if "audit" in record]
    return [record for record in records if not capture or record.get("capture") == capture]


@pytest.mark.long
def test_too_many_captures(chain: Chain, narrow: Daemon) -> None:
    """A second capture of one user, and a third of all, are refused with 429 and words; a free place is taken."""
    first = begin(chain, narrow, "web-1", "--device", "lo", "--filter", FILTER)
    first.wait_for("web-1:lo")
    second = begin(chain, narrow, "web-0", "--duration", "1s").wait()
    assert second.status == 1
    assert "you already run 1 captures" in second.report["error"]
    bob = begin(chain, narrow, "web-1", "--device", "lo", "--filter", FILTER, token=chain.bob)
    bob.wait_for("web-1:lo")
    url = f"https://127.0.0.1:{narrow.port}"
    command = chain.curl_command("target=web-0", "--write-out", "%{http_code}", url=url)
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert answer.stdout.endswith("429") and "2 captures run already" in answer.stdout
    assert first.stop().status == 0
    assert bob.stop().status == 0
    assert begin(chain, narrow, "web-0", "--duration", "100ms").wait().status == 0


def test_too_many_targets(chain: Chain, narrow: Daemon) -> None:
    """More targets than allowed are refused, with the number."""
    result = begin(chain, narrow, "web-0", "web-1", "machine").wait()
    assert result.status == 1
    assert "more than 2 targets" in result.report["error"]


@pytest.mark.parametrize("narrow", [{"max_duration": "2s"}], indirect=True)
@pytest.mark.parametrize("wanted", [(), ("--duration", "1h")])
@pytest.mark.long
def test_the_operator_limits_the_duration(chain: Chain, narrow: Daemon, wanted: tuple[str, ...]) -> None:
    """A capture ends after max_duration, whatever was asked for: its file is good, and the user is told."""
    with Generator(chain.link, rate=200):
        result = begin(chain, narrow, "web-0", "--filter", FILTER, *wanted).wait()
    assert result.status == 0, result.stderr
    assert [notice["type"] for notice in result.notices] == ["LIMIT_REACHED"]
    assert "2 s" in result.notices[0]["message"]
    assert "2 s are over" in result.report["reason"]
    assert result.report["packets"] == len(result.file.packets) > 0


def test_the_operator_limits_the_bytes(chain: Chain, narrow: Daemon) -> None:
    """A capture ends after max_bytes of packets: what came until then is in the file, and the user is told."""
    with Generator(chain.link, size=1000, rate=2000):
        result = begin(chain, narrow, "web-0", "--filter", FILTER).wait()
    assert [notice["type"] for notice in result.notices] == ["LIMIT_REACHED"]
    assert "bytes" in result.notices[0]["message"] and "bytes" in result.report["reason"]
    assert result.path.stat().st_size < 2_000_000
    assert result.report["packets"] == len(result.file.packets) >= 190


def test_the_agent_limits_its_captures(chain: Chain) -> None:
    """An agent refuses more captures than max_captures, by its name."""
    change = {"id": "single", "listen": {"port": free_port()}, "capture": {"max_captures": 1}}
    agent = Daemon("agent", merged(chain.agent.config, change), chain.directory)
    place = {"host": "127.0.0.1", "port": agent.port}
    targets = {name: {**place, "namespace": name} for name in ("web-0", "web-1")}
    change = {
        "id": "of-single",
        "listen": {"port": free_port()},
        "static": {"targets": targets},
        "metrics": None,
    }
    with agent, Daemon("api", merged(chain.api.config, change), chain.directory) as api:
        result = begin(chain, api, "web-0", "web-1", "--duration", "500ms").wait()
    assert result.status == 3
    (notice,) = result.notices
    assert notice["type"] == "START_CAPTURE_FAILED"
    assert "single already runs 1 captures" in notice["message"]


def test_audit_and_request_ids(chain: Chain, tmp_path: Path) -> None:
    """A capture has an audit record before the first packet and one at the end, with the agent's request id."""
    path = tmp_path / "audited.pcap"
    request_id = f"router-{time.time_ns()}"
    with Generator(chain.link, rate=500):
        done = chain.curl(
            "target=web-0&duration=1s&filter=udp+dst+port+9999",
            *("--output", str(path), "--header", f"X-Vcap-Request-Id: {request_id}"),
        )
    assert done.returncode == 0, done.stderr
    first_packet = read_pcap(path)[0].time_us / 1e6

    def records() -> list[dict[str, Any]]:
        return [record for record in audit(chain.api) if record.get("request_id") == request_id]

    wait_until(lambda: len(records()) == 2, "the audit records")
    started, ended = records()
    assert (started["audit"], ended["audit"]) == ("capture_started", "capture_ended")
    from datetime import datetime

    assert datetime.fromisoformat(started["time"]).timestamp() <= first_packet
    assert started["user"] == ended["user"] == "alice"
    assert "web-0" in started["targets"][0] and started["filter"] == "udp dst port 9999"
    assert started["duration"] == 1.0 and started["client"].startswith("127.0.0.1:")
    assert ended["packets"] == len(read_pcap(path))
    assert ended["sources"][0]["received"] == ended["packets"]
    there = [record for record in chain.agent.records() if record.get("request_id") == request_id]
    assert any("capturing" in record["message"] for record in there)
    assert any("capture ended" in record["message"] for record in there)
    assert {record["capture"] for record in there} == {started["capture"]}


def test_a_refusal_is_audited(chain: Chain) -> None:
    """The audit log holds who was refused, and why."""
    chain.capture("web-0", "--duration", "1s", env={"PCAP_TOKEN": chain.bob})
    last = audit(chain.api)[-1]
    assert last["audit"] == "capture_refused" and last["code"] == "forbidden"
    assert last["client"].startswith("127.0.0.1:")


def test_the_api_drains(chain: Chain) -> None:
    """SIGTERM to the api ends a capture in order: the file is complete, and the daemon's status 0."""
    change = {"id": "draining", "listen": {"port": free_port()}, "metrics": None}
    with Daemon("api", merged(chain.api.config, change), chain.directory) as api:
        with Generator(chain.link, rate=2000):
            client = begin(chain, api, "web-0", "web-1", "--filter", FILTER)
            client.wait_for("web-0:eth0", "web-1:eth0", packets=500)
            api.signal(signal.SIGTERM)
            result = client.wait()
        assert api.wait() == 0
    assert result.status == 3, result.stderr
    assert "shutting down" in result.report["reason"]
    for source in result.sources.values():
        assert source["received"] == source["written"]
        numbers = result.file.numbers(source["name"])
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.long
def test_no_new_capture_while_draining(chain: Chain, tmp_path: Path) -> None:
    """While a slow client still gets its end, new captures are answered 503, and /health says so."""
    # The questions below may take their time.
    change = {"id": "slow-drain", "listen": {"port": free_port()}, "metrics": None, "drain_timeout": "60s"}
    with Daemon("api", merged(chain.api.config, change), chain.directory) as api:
        url = f"https://127.0.0.1:{api.port}"
        path = tmp_path / "slow.pcap"
        with Generator(chain.link, size=1400, rate=40_000):
            slow = subprocess.Popen(
                # So slow that much is still unread when its capture has ended.
                chain.curl_command(
                    *("target=web-0&target=web-1", "--limit-rate", "10M", "--output", str(path)), url=url
                )
            )
            wait_until(lambda: path.exists() and path.stat().st_size > 100_000, "packets", timeout=20)
            slow.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
        api.signal(signal.SIGTERM)
        try:
            wait_until(lambda: "api drains" in api.log(), "drain", timeout=10)
            command = chain.curl_command("target=web-0", "--write-out", "%{http_code}", url=url)
            answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
            assert answer.stdout.endswith("503") and "shutting down" in answer.stdout
            health = ["curl", "--silent", "--insecure", "--write-out", "%{http_code}", f"{url}/health"]
            answer = subprocess.run(health, capture_output=True, text=True, check=True, timeout=30)
            assert answer.stdout.endswith("503") and "shutting down" in answer.stdout
            refused = begin(chain, api, "web-0", "--duration", "1s").wait()
            assert refused.status == 1 and "shutting down" in refused.stderr
        finally:
            slow.send_signal(signal.SIGCONT)
        assert slow.wait(60) == 0
        assert api.wait() == 0
    read_pcap(path)


def test_an_agent_drains(chain: Chain) -> None:
    """SIGTERM to an agent ends its part of a capture in order; the others go on; the daemon's status is 0."""
    with Generator(chain.link, rate=500):
        client = chain.begin("tiny-0", "web-1", "--filter", FILTER)
        client.wait_for("tiny-0:eth0", "web-1:eth0", packets=200)
        chain.second.stop()
        before = client.packets()["web-1:eth0"]
        client.wait_for("web-1:eth0", packets=before + 500)
        result = client.stop()
    assert result.status == 3
    (notice,) = result.notices
    assert (notice["type"], notice["origin"]) == ("INSTANCE_UNAVAILABLE", "tiny-0")
    assert "shutting down" in notice["message"]
    for source in result.sources.values():
        assert source["received"] == source["written"] + source["dropped_kernel"]
