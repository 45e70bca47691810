"""What both roles serve to Prometheus: it is well-formed, true, and names nobody."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Iterator

import pytest

import pcapd
from demo.certificates import API_NAME
from demo.configurations import LOCAL, free_port, merged
from demo.daemons import Daemon
from demo.processes import wait_until
from pcapd.config.load import load_agent, load_api
from tests.kit.hosts.chain import Chain
from tests.kit.hosts.scraping import page, samples
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.readers import require
from tests.kit.lab.workers import configured
from tests.kit.monitoring import labels, metrics, queries

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")

ROLES = ("agent", "api")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain whose first agent has metrics, as its api has."""
    if os.geteuid() != 0:
        pytest.skip("captures and namespaces need root")
    chain = Chain(tmp_path_factory.mktemp("measured"))
    chain.agent.config["metrics"] = {"host": LOCAL, "port": free_port()}
    chain.api.config["probe"] = {"interval": "1s"}
    with chain:
        yield chain


def daemon(chain: Chain, role: str) -> Daemon:
    return chain.agent if role == "agent" else chain.api


class Growth:
    """How much samples have grown since now."""

    def __init__(self, one: Daemon) -> None:
        self._daemon = one
        self._before = samples(one)

    def __call__(self, name: str) -> float:
        return samples(self._daemon).get(name, 0.0) - self._before.get(name, 0.0)


@pytest.mark.parametrize("role", ROLES)
def test_promtool_has_nothing_to_say(measured: Chain, role: str) -> None:
    """Names, types and help texts pass Prometheus's own linter, after a capture that filled them."""
    require("promtool")
    measured.capture("web-0", "web-7", "--duration", "300ms")
    measured.capture("web-0", "--duration", "300ms")
    served = page(daemon(measured, role))
    assert "_created" in served and "pcapd_build_info" in served
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=served,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_api_counts(measured: Chain) -> None:
    """The api counts captures, packets, refusals and the first packet, and names neither users nor targets."""
    grown = Growth(measured.api)
    with Generator(measured.link, rate=1000):
        result = measured.capture("web-0", "--filter", FILTER, "--duration", "500ms")
        measured.capture("web-7", "--duration", "1s")
    assert grown("pcapd_captures_started_total") == 1
    assert grown('pcapd_captures_ended_total{reason="stopped"}') == 1
    assert grown('pcapd_captures_refused_total{code="target_not_found"}') == 1
    assert grown("pcapd_packets_total") == result.report["packets"] > 0
    assert grown("pcapd_first_packet_seconds_count") == 1
    after = samples(measured.api)
    assert after["pcapd_captures_active"] == 0
    assert after['pcapd_resolver_healthy{resolver="static"}'] == 1
    assert not any(word in name for name in after for word in ("alice", "web-0"))


def test_the_agent_counts(measured: Chain) -> None:
    """The agent counts requests by their result, packets and losses as the report does, and names nobody."""
    grown = Growth(measured.agent)
    with Generator(measured.link, rate=1000):
        result = measured.capture("web-0", "--filter", FILTER, "--duration", "500ms")
        measured.capture("web-0", "--device", "eth7", "--duration", "1s")
    (source,) = result.sources.values()
    assert grown("pcapd_agent_captures_requested_total") == 2
    assert grown('pcapd_agent_captures_ended_total{reason="stopped"}') == 1
    assert grown('pcapd_agent_captures_refused_total{code="no_such_interface"}') == 1
    assert grown("pcapd_agent_packets_total") == source["delivered"] > 0
    assert grown('pcapd_agent_packets_dropped_total{place="kernel"}') == source["dropped_kernel"]
    assert grown("pcapd_agent_packet_bytes_total") > 0
    assert grown("pcapd_agent_first_packet_seconds_count") == 1
    wait_until(
        lambda: samples(measured.agent)["pcapd_agent_captures_active"] == 0, "the captures are released"
    )
    assert not any(word in name for name in samples(measured.agent) for word in ("alice", "web-0"))


def test_a_capture_whose_client_is_killed(measured: Chain) -> None:
    """The agent counts a capture that the api abandons as abandoned, and shows it while it runs."""
    grown = Growth(measured.agent)
    client = measured.begin("web-0")
    client.wait_for("web-0:eth0")
    assert samples(measured.agent)["pcapd_agent_captures_active"] == 1
    client.signal(signal.SIGKILL)
    client.process.wait()
    wait_until(lambda: grown('pcapd_agent_captures_ended_total{reason="abandoned"}') == 1, "it is counted")


@pytest.mark.parametrize("role", ROLES)
def test_what_the_configuration_says(measured: Chain, role: str) -> None:
    """Build and limits are those of the daemon, and memory and descriptors of its process are shown."""
    found = samples(daemon(measured, role))
    (build,) = [name for name in found if name.startswith("pcapd_build_info{")]
    for label in (f'role="{role}"', f'version="{pcapd.__version__}"',
                  f'compatibility_level="{pcapd.COMPATIBILITY_LEVEL}"'):  # fmt: skip
        assert label in build
    assert ("libpcap version" in build) is (role == "agent")
    if role == "agent":
        capture = load_agent(measured.agent.config_path).capture
        expected = {"captures": capture.max_captures, "ring_bytes": capture.ring_bytes}
        assert {
            f"pcapd_agent_limit_{name}": value for name, value in expected.items()
        }.items() <= found.items()
    else:
        limits = load_api(measured.api.config_path).limits
        expected = {
            "captures": limits.concurrent_captures,
            "captures_per_user": limits.per_user,
            "capture_targets": limits.max_targets,
            "capture_seconds": int(limits.max_duration),
            "capture_bytes": limits.max_bytes,
        }
        assert {f"pcapd_limit_{name}": value for name, value in expected.items()}.items() <= found.items()
    assert found["process_resident_memory_bytes"] > 2**20
    assert 0 < found["process_open_fds"] < found["process_max_fds"]


def test_what_alerts_and_dashboard_ask_for(measured: Chain) -> None:
    """Each metric and label of the alerts and the dashboard is served by an agent or an api."""
    measured.capture("web-0", "--device", "eth7", "--duration", "300ms")
    measured.capture("web-0", "--duration", "300ms")
    expiry = "pcapd_known_agents_certificate_expiry_timestamp_seconds"
    wait_until(lambda: expiry in samples(measured.api), "an agent was asked", timeout=30)
    pytest.importorskip("sqlalchemy", reason="pcapd[recordings] is not installed")
    several = merged(measured.api.config, configured(measured.directory, 2, id="several"))
    several["listen"]["port"] = free_port()
    with Daemon("api", several, measured.directory) as workers:
        served = page(measured.agent) + page(measured.api) + page(workers)
    there = set(re.findall(r"^(\w+)[{ ]", served, re.MULTILINE))
    # Prometheus adds the last two.
    known = {*re.findall(r"[{,](\w+)=\"", served), "job", "instance"}
    unknown = {
        where: sorted((metrics(query) - there) | (labels(query) - known)) for where, query in queries()
    }
    assert {where: names for where, names in unknown.items() if names} == {}


def test_a_renewed_certificate(measured: Chain) -> None:
    """The expiry is that of the certificate in use: after SIGHUP, of the renewed one."""
    name = 'pcapd_certificate_expiry_timestamp_seconds{section="listen.tls"}'
    old = measured.authority
    certificate = Path(measured.api.config["listen"]["tls"]["certificate"])
    ends = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=3)
    assert samples(measured.api)[name] > ends.timestamp()
    renewed = old.issue("renewed", dns=(API_NAME, "localhost"), ips=(LOCAL,), not_after=ends)
    shutil.copy(renewed.certificate, certificate)
    shutil.copy(renewed.private_key, measured.api.config["listen"]["tls"]["private_key"])
    measured.api.signal(signal.SIGHUP)
    wait_until(lambda: samples(measured.api)[name] == ends.timestamp(), "the renewed certificate is shown")


@pytest.mark.parametrize("role", ROLES)
def test_a_pause_is_lag(measured: Chain, role: str) -> None:
    """A daemon that was stopped for over a second reports it as the lag of its reactor."""
    paused = daemon(measured, role)
    grown = Growth(paused)
    wait_until(lambda: grown("pcapd_reactor_lag_seconds_count") >= 1, "the lag is measured")
    paused.signal(signal.SIGSTOP)
    time.sleep(2.2)
    paused.signal(signal.SIGCONT)
    wait_until(
        lambda: (
            grown('pcapd_reactor_lag_seconds_bucket{le="+Inf"}')
            > grown('pcapd_reactor_lag_seconds_bucket{le="1.0"}')
        ),
        "the pause is counted",
    )


def waiting(one: Daemon) -> float:
    return samples(one)["pcapd_send_buffer_bytes"]


def test_bytes_that_wait(measured: Chain) -> None:
    """Bytes that a stopped client does not read are shown, by the api and by the agent that it pauses."""
    client = measured.begin("web-0", "--filter", FILTER)
    client.wait_for("web-0:eth0")
    client.signal(signal.SIGSTOP)
    with Generator(measured.link, size=1400, rate=20000):
        wait_until(lambda: waiting(measured.api) > 100_000, "the api waits", timeout=60)
        wait_until(lambda: waiting(measured.agent) > 100_000, "the agent waits", timeout=60)
    client.signal(signal.SIGCONT)
    assert client.stop().status == 0
    assert waiting(measured.api) == 0
