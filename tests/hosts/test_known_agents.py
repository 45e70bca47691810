"""Which agents are there: what an api learns of them before a capture needs them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Iterator

import pytest
from cryptography import x509

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")

import pcapd
from demo.configurations import LOCAL
from demo.processes import wait_until
from tests.kit.hosts.chain import Chain
from tests.kit.hosts.scraping import samples

OPERATOR = "token-of-an-operator"


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """An api that asks its agents every second; the second agent may not enter namespaces."""
    if os.geteuid() != 0:
        pytest.skip("captures and namespaces need root")
    chain = Chain(tmp_path_factory.mktemp("asking"))
    chain.api.config["probe"] = {"interval": "1s", "agents": ["127.0.0.99"]}
    users = chain.api.config["static"]["users"]
    users["carol"] = {"token_sha256": hashlib.sha256(OPERATOR.encode()).hexdigest(), "targets": ["gone"]}
    chain.api.config["operators"] = ["static/carol"]
    chain.second.below = ["setpriv", "--bounding-set=-sys_admin"]
    with chain:
        yield chain


def agents(chain: Chain, token: str = "") -> dict[str, dict[str, Any]]:
    """What ``pcapctl status --agents --json`` says, by address and port."""
    env = {"PCAP_TOKEN": token} if token else {}
    done = chain.pcapctl("status", "--agents", "--json", env=env)
    assert done.returncode == 0, done.stderr
    return {f"{agent['host']}:{agent['port']}": agent for agent in json.loads(done.stdout)["agents"]}


def asked(chain: Chain) -> dict[str, dict[str, Any]]:
    """The same, once each agent was asked and its answer is there."""
    wait_until(
        lambda: samples(chain.api)['pcapd_known_agents{state="unasked"}'] == 0, "all were asked", timeout=60
    )
    return agents(chain)


def at(port: int) -> str:
    return f"{LOCAL}:{port}"


def test_what_agents_say(asking: Chain) -> None:
    """An agent's version, libpcap, abilities, targets and the end of its certificate are known."""
    found = asked(asking)
    first, second = found[at(asking.agent.port)], found[at(asking.second.port)]
    assert first["state"] == second["state"] == "reachable"
    assert (first["id"], first["version"]) == (asking.agent.config["id"], pcapd.__version__)
    assert first["level"] == pcapd.COMPATIBILITY_LEVEL and "libpcap version" in first["libpcap"]
    assert {"web-0", "web-1", "machine"} <= set(first["targets"])
    assert first["capabilities"] == ["interfaces", "namespaces"] and second["capabilities"] == ["interfaces"]
    certificate = Path(asking.agent.config["listen"]["tls"]["certificate"]).read_bytes()
    ends = x509.load_pem_x509_certificates(certificate)[0].not_valid_after_utc
    assert first["expires"] == ends.timestamp()


def test_agents_that_are_not_there(asking: Chain) -> None:
    """An agent that cannot be reached is listed with the reason, also one of no target."""
    found = asked(asking)
    targets = asking.api.config["static"]["targets"]
    for where, words in (
        (at(targets["nobody"]["port"]), "Connection refused"),
        (at(targets["silent"]["port"]), "not made in time"),
        (f"127.0.0.99:{asking.api.config['agents'].get('port', 9494)}", "Connection refused"),
    ):
        assert found[where]["state"] == "unreachable" and words in found[where]["trouble"]


def test_a_user_sees_the_agents_of_the_own_targets(asking: Chain) -> None:
    """A user who may capture one target sees only its agent; a wrong token gets no list."""
    assert list(agents(asking, asking.bob)) == [at(asking.agent.port)]
    refused = asking.pcapctl("status", "--agents", env={"PCAP_TOKEN": "wrong"})
    assert refused.returncode == 1 and "the token is not known here" in refused.stderr
    assert asking.pcapctl("status", "--agents", env={"PCAP_TOKEN": ""}).returncode == 2


def test_an_operator_sees_all_agents(asking: Chain) -> None:
    """An operator without targets sees all agents, and the look is in the audit records."""
    found = agents(asking, OPERATOR)
    assert set(found) == set(agents(asking)) and len(found) > 2
    records = [record for record in asking.api.records() if record.get("audit") == "agents_listed"]
    assert {record["user"] for record in records} == {"carol"}


def test_what_a_person_reads(asking: Chain) -> None:
    """pcapctl status --agents lists the agents that are not reachable first, below the health of the api."""
    asked(asking)
    lines = asking.pcapctl("status", "--agents").stdout.splitlines()
    assert lines[0] == "healthy: ready"
    (heading,) = [number for number, line in enumerate(lines) if line.startswith("agents: ")]
    states = ["not reachable" in line for line in lines[heading + 1 :]]
    assert states == sorted(states, reverse=True) and {True, False} == set(states)
    assert any("captures interfaces, namespaces; certificate until 20" in line for line in lines)


def test_an_agent_that_stops(asking: Chain) -> None:
    """An agent that stops is soon unreachable, in the metrics too, and reachable when it is back."""
    asked(asking)
    name = 'pcapd_known_agents{state="reachable"}'
    before = samples(asking.api)[name]
    asking.second.stop()
    wait_until(lambda: samples(asking.api)[name] == before - 1, "it is missed", timeout=30)
    assert agents(asking)[at(asking.second.port)]["state"] == "unreachable"
    asking.second.start()
    wait_until(lambda: samples(asking.api)[name] == before, "it is back", timeout=30)


def test_metrics_of_agents(asking: Chain) -> None:
    """The metrics count agents by state and version and show the first end of a certificate, without addresses."""
    found = asked(asking)
    values = samples(asking.api)
    states = {agent["state"] for agent in found.values()}
    for state in states:
        count = sum(agent["state"] == state for agent in found.values())
        assert values[f'pcapd_known_agents{{state="{state}"}}'] == count
    libpcap = found[at(asking.agent.port)]["libpcap"]
    labels = f'libpcap="{libpcap}",version="{pcapd.__version__}"'
    assert values[f"pcapd_known_agent_versions{{{labels}}}"] == 2
    ends = min(agent["expires"] for agent in found.values() if agent["expires"])
    assert values["pcapd_known_agents_certificate_expiry_timestamp_seconds"] == ends
    assert not any(LOCAL in name for name in values)


def test_an_agent_is_not_disturbed(asking: Chain) -> None:
    """Questions are no strangers to an agent: it logs nothing of them, and a capture works meanwhile."""
    asked(asking)
    assert asking.capture("web-0", "--duration", "2s").status == 0
    assert "left without START" not in asking.agent.log()
