"""Certificates that are not good, in each direction: who is refused, and in which words."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Iterator

import pytest

from demo.certificates import AGENT_NAME, API_NAME, Authority, Credentials
from demo.configurations import LOCAL, Config, free_port, merged
from demo.daemons import Daemon, environment
from demo.processes import wait_until
from tests.kit.hosts.chain import Chain

EXPIRE = timedelta(seconds=10)


def presenting(credentials: Credentials) -> Config:
    """The part of a tls section that says which certificate to show."""
    return {"certificate": str(credentials.certificate), "private_key": str(credentials.private_key)}


@dataclass
class Zoo:
    """Agents and apis with certificates that are wrong, each in one way, and a good one of each."""

    agents: dict[str, Daemon]
    apis: dict[str, Daemon]


@pytest.fixture(scope="module")
def zoo(chain_session: Chain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    """All of them, started at once."""
    chain = chain_session
    directory = tmp_path_factory.mktemp("zoo")
    ours = chain.authority
    stranger = Authority(directory / "stranger", "stranger CA")
    # A daemon does not start with an expired certificate: these expire soon after.
    soon = datetime.now(timezone.utc) + EXPIRE
    bad_agents = {
        "agent-of-wrong-ca": stranger.issue_agent(),
        "agent-of-wrong-name": ours.issue("misnamed", dns=("other.example",)),
        "agent-expired": ours.issue("expired-agent", dns=(AGENT_NAME,), not_after=soon),
    }
    bad_clients = {
        "client-of-wrong-ca": stranger.issue("api", dns=(API_NAME,)),
        "client-is-an-agent": ours.issue("other-agent", dns=(AGENT_NAME,)),
        "client-without-name": ours.issue("nameless"),
        "client-expired": ours.issue("expired-client", dns=(API_NAME,), not_after=soon),
        "client-is-a-server": ours.issue("only-server", dns=(API_NAME,), client=False),
    }
    bad_servers = {
        "server-of-wrong-ca": stranger.issue("server", dns=("localhost",), ips=(LOCAL,)),
        "server-of-wrong-name": ours.issue("server-misnamed", dns=("other.example",)),
        "server-expired": ours.issue("server-expired", dns=("localhost",), ips=(LOCAL,), not_after=soon),
    }

    def agent(name: str, shown: Credentials) -> Daemon:
        listen = {"port": free_port(), "tls": presenting(shown)}
        return Daemon("agent", merged(chain.agent.config, {"id": name, "listen": listen}), directory)

    agents = {name: agent(name, shown) for name, shown in bad_agents.items()}
    targets = {
        name: {"host": LOCAL, "port": daemon.port, "namespace": "web-0"} for name, daemon in agents.items()
    }

    def api(name: str, listen: Config, towards_agents: Config) -> Daemon:
        change = {
            "id": name,
            "listen": {"port": free_port(), **listen},
            "agents": {"tls": towards_agents},
            "static": {"targets": targets},
            "metrics": None,
        }
        return Daemon("api", merged(chain.api.config, change), directory)

    apis = {"good": api("good", {}, {})}
    apis |= {name: api(name, {}, presenting(shown)) for name, shown in bad_clients.items()}
    apis |= {name: api(name, {"tls": presenting(shown)}, {}) for name, shown in bad_servers.items()}
    wants_certificate = {"tls": {"client_cas": str(ours.certificate_path)}}
    apis["wants-certificate"] = api("wants-certificate", wants_certificate, {})
    found = Zoo(agents, apis)
    with contextlib.ExitStack() as stack:
        expiring = [daemon for name, daemon in {**agents, **apis}.items() if "expired" in name]
        others = [daemon for name, daemon in {**agents, **apis}.items() if "expired" not in name]
        for daemons in (expiring, others):
            for daemon in daemons:
                daemon.launch()
                stack.callback(daemon._end)
            for daemon in daemons:
                wait_until(daemon._accepts, f"{daemon.config['id']} serves", timeout=60)
        left = soon - datetime.now(timezone.utc) + timedelta(seconds=1)
        time.sleep(max(0.0, left.total_seconds()))
        yield found


def through(chain: Chain, api: Daemon, *targets: str) -> Any:
    """Capture through one of the apis."""
    return chain.capture(*targets, "--duration", "300ms", env={"PCAP_API": f"https://{LOCAL}:{api.port}"})


AGENTS = {
    "agent-of-wrong-ca": ["certificate is not accepted", "issuer is not a trusted CA"],
    "agent-of-wrong-name": ["'other.example'", f"not for '{AGENT_NAME}'", "server_name"],
    "agent-expired": ["certificate is not accepted", "expired"],
}


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.long(but=("wrong-name",))
def test_the_api_refuses_an_agent(chain: Chain, zoo: Zoo, name: str) -> None:
    """An agent of the wrong CA, the wrong name or expired is refused, named, and stops nobody else."""
    result = through(chain, zoo.apis["good"], name, "web-1")
    assert result.status == 3
    (notice,) = result.notices
    assert notice["origin"] == name and notice["type"] == "START_CAPTURE_FAILED"
    for word in (f"{LOCAL}:{zoo.agents[name].port}", *AGENTS[name]):
        assert word in notice["message"]
    assert any("failed" in record["message"] for record in zoo.apis["good"].records())


CLIENTS = {
    # What the user is told, and what the agent's log says.
    "client-of-wrong-ca": (["refused our certificate", "unknown ca"], ["issuer is not a trusted CA"]),
    "client-is-an-agent": (["closed"], [f"'{AGENT_NAME}'", "not in allowed_clients"]),
    "client-without-name": (["closed"], ["allowed_clients"]),
    "client-expired": (["refused our certificate", "expired"], ["expired"]),
    "client-is-a-server": (["refused our certificate"], ["extended key usage does not allow this use"]),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_the_agent_refuses_an_api(chain: Chain, zoo: Zoo, name: str) -> None:
    """An api with a foreign, expired, nameless or another agent's certificate captures nothing; both sides say why."""
    told, logged = CLIENTS[name]
    before = len(chain.agent.records())
    result = through(chain, zoo.apis[name], "web-0")
    assert result.status == 1
    for word in told:
        assert word in result.report["error"]
    log = " ".join(str(record["message"]) for record in chain.agent.records()[before:])
    for word in logged:
        assert word in log
    assert not result.path.exists()


def test_the_agent_refuses_who_shows_no_certificate(chain: Chain) -> None:
    """A TLS client without a certificate gets not even a HELLO."""
    context = ssl.create_default_context(cafile=str(chain.authority.certificate_path))
    with socket.create_connection((LOCAL, chain.agent.port), 10) as plain:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with context.wrap_socket(plain, server_hostname=AGENT_NAME) as secure:
                # TLS 1.3 tells it with the first read.
                data = secure.recv(1)
                assert not data, "it was greeted"
                raise ConnectionError("closed without a word")


SERVERS = {
    "server-of-wrong-ca": ["certificate of 127.0.0.1 is not accepted", "--ca"],
    "server-of-wrong-name": ["certificate of 127.0.0.1 is not accepted", "127.0.0.1"],
    "server-expired": ["certificate of 127.0.0.1 is not accepted", "expired"],
}


@pytest.mark.parametrize("name", SERVERS)
def test_pcapctl_refuses_an_api(chain: Chain, zoo: Zoo, name: str) -> None:
    """An api of the wrong CA, the wrong name or expired gets no token and no request."""
    result = through(chain, zoo.apis[name], "web-0")
    assert result.status == 1
    for word in SERVERS[name]:
        assert word in result.stderr
    assert not result.path.exists()
    assert not [record for record in zoo.apis[name].records() if "audit" in record]


def test_an_api_that_wants_a_client_certificate(chain: Chain, zoo: Zoo) -> None:
    """pcapctl has none to show: it ends with 1 and says that the api refused it."""
    result = through(chain, zoo.apis["wants-certificate"], "web-0")
    assert result.status == 1
    assert "requires a client certificate" in result.stderr
    assert not result.path.exists()


def test_renewed_certificates(chain: Chain, zoo: Zoo) -> None:
    """After SIGHUP an agent shows its new certificate; captures then succeed."""
    daemon = zoo.agents["agent-expired"]
    good = chain.authority.issue_agent("renewed")
    tls = daemon.config["listen"]["tls"]
    assert through(chain, zoo.apis["good"], "agent-expired").status == 1
    kept = {key: Path(tls[key]).read_bytes() for key in ("certificate", "private_key")}
    Path(tls["certificate"]).write_bytes(good.certificate.read_bytes())
    Path(tls["private_key"]).write_bytes(good.private_key.read_bytes())
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: "reloaded" in daemon.log(), "reloaded")
    try:
        assert through(chain, zoo.apis["good"], "agent-expired").status == 0
    finally:
        for key, content in kept.items():
            Path(tls[key]).write_bytes(content)
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: daemon.log().count("reloaded") >= 2, "reloaded again")


# --- what does not even start -----------------------------------------------


@pytest.mark.parametrize("role", ["agent", "api"])
def test_a_daemon_with_an_expired_certificate(chain: Chain, tmp_path: Path, role: str) -> None:
    """A daemon with an expired certificate exits with 1 and names the file."""
    shown = chain.authority.issue_expired(f"old-{role}", dns=(AGENT_NAME, API_NAME))
    running = chain.agent if role == "agent" else chain.api
    change = {"listen": {"port": free_port(), "tls": presenting(shown)}, "metrics": None}
    daemon = Daemon(role, merged(running.config, change), tmp_path)
    daemon.write_config()
    done = started(role, daemon.config_path)
    assert done.returncode == 1
    assert str(shown.certificate) in done.stderr and "expired" in done.stderr


def started(role: str, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pcapd, which is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "pcapd", "--role", role, "--config", str(path), *arguments],
        capture_output=True, text=True, check=False, timeout=60, env=environment(),
    )  # fmt: skip


@pytest.mark.parametrize("check", [(), ("--check-config",)])
@pytest.mark.parametrize("missing", ["client_cas", "allowed_clients"])
def test_an_agent_does_not_start_open_to_anyone(
    chain: Chain, tmp_path: Path, missing: str, check: tuple[str, ...]
) -> None:
    """Without client_cas or allowed_clients an agent ends with 1 and names the key."""
    config = merged(chain.agent.config, {"listen": {"port": free_port(), "tls": {missing: None}}})
    daemon = Daemon("agent", config, tmp_path)
    daemon.write_config()
    done = started("agent", daemon.config_path, *check)
    assert done.returncode == 1
    assert f"listen.tls.{missing}" in done.stderr


@pytest.mark.parametrize("role", ["agent", "api"])
def test_a_port_in_use(chain: Chain, tmp_path: Path, role: str) -> None:
    """A daemon whose port is taken ends with 1 and names the port."""
    running = chain.agent if role == "agent" else chain.api
    daemon = Daemon(role, merged(running.config, {"metrics": None}), tmp_path)
    daemon.write_config()
    done = started(role, daemon.config_path)
    assert done.returncode == 1
    assert str(running.port) in done.stderr and "in use" in done.stderr


def test_all_problems_of_a_configuration_at_once(chain: Chain, tmp_path: Path) -> None:
    """Unknown keys, wrong types and unreadable files are all named in one go, each by its path."""
    config = merged(
        chain.api.config,
        {
            "colour": "red",
            "listen": {"port": "many", "tls": {"certificate": "/nowhere/api.crt"}},
            "limits": {"per_user": True, "max_duration": 5},
            "agents": {"tls": {"server_name": None}},
            "log_level": "loud",
        },
    )
    daemon = Daemon("api", config, tmp_path)
    daemon.write_config()
    done = started("api", daemon.config_path, "--check-config")
    assert done.returncode == 1
    for key in ("colour", "listen.port", "listen.tls.certificate", "limits.per_user",
                "limits.max_duration", "agents.tls.server_name", "log_level"):  # fmt: skip
        assert key in done.stderr, done.stderr
    assert "/nowhere/api.crt" in done.stderr
