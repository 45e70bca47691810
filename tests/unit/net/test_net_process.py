"""``python -m pcapd`` as an operator and monit see it: exit status, words, signals."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml

import pcapd
from demo.certificates import AGENT_NAME, Authority
from demo.configurations import LOCAL, agent_config, api_config, free_port, merged
from demo.daemons import Daemon, environment
from demo.processes import ROOT, wait_until

TOKEN = "Tk-of-the-process-tests"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pcapd to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pcapd", *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def config(authority: Authority) -> dict[str, Any]:
    """An api's, good as it is."""
    place = {"host": LOCAL, "port": free_port()}
    return api_config(authority.issue_api("process-api"), free_port(), {"web-0": place}, {"alice": TOKEN})


@pytest.fixture
def api(config: dict[str, Any], tmp_path: Path) -> Iterator[Daemon]:
    """It runs."""
    with Daemon("api", config, tmp_path) as daemon:
        yield daemon


def written(directory: Path, config: Any) -> str:
    path = directory / "config.yml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


# --- the command line -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--role must be agent or api"),
        (("--role", "api"), "--config FILE is missing"),
        (("--role", "both", "--config", "x"), "--role must be agent or api"),
        (("--role", "api", "--config", "x", "--nonsense"), "nonsense"),
        (("--role", "api", "--config", "x", "extra"), "Wrong number of arguments"),
    ],
)
def test_wrong_options(arguments: tuple[str, ...], words: str) -> None:
    """Exit status 1, the usage and what is wrong on stderr, nothing on stdout."""
    done = run(*arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert "Usage: pcapd --role" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("pcapd: ") and words in done.stderr.splitlines()[-1]


def test_version() -> None:
    """--version needs no other option."""
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"pcapd {pcapd.__version__}\n", "")


# --- --check-config -------------------------------------------------------------------


def test_a_good_configuration(config: dict[str, Any], tmp_path: Path) -> None:
    """A good configuration gives exit status 0 and a message."""
    path = written(tmp_path, config)
    done = run("--role", "api", "--config", path, "--check-config")
    assert (done.returncode, done.stdout) == (0, f"{path}: good configuration of an api\n")


def test_all_problems_of_a_configuration_at_once(config: dict[str, Any], tmp_path: Path) -> None:
    """Unknown keys, wrong types and unreadable files are each one line with the key's path; exit status 1."""
    bad = merged(
        config,
        {
            "colour": "red",
            "listen": {"port": "many", "tls": {"certificate": "/nowhere/api.crt"}},
            "limits": {"per_user": -1, "max_duration": "soon"},
        },
    )
    path = written(tmp_path, bad)
    done = run("--role", "api", "--config", path, "--check-config")
    assert done.returncode == 1 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert all(line.startswith(f"pcapd: {path}: ") for line in lines)
    for key in ("colour", "listen.port", "/nowhere/api.crt", "limits.per_user", "limits.max_duration"):
        assert sum(key in line for line in lines) == 1, key
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "text", ["", "just text", "- a\n- list", "{", "a: !!python/object:os.system {}", "\0"]
)
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str) -> None:
    """A file that is not a configuration gives one message and exit status 1."""
    path = tmp_path / "config.yml"
    path.write_text(text)
    done = run("--role", "agent", "--config", str(path), "--check-config")
    assert done.returncode == 1 and done.stderr.startswith(f"pcapd: {path}: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("check", [(), ("--check-config",)])
def test_a_configuration_that_is_not_there(tmp_path: Path, check: tuple[str, ...]) -> None:
    """The message for a missing configuration names the file."""
    done = run("--role", "api", "--config", str(tmp_path / "none.yml"), *check)
    assert done.returncode == 1 and "none.yml" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["client_cas", "allowed_clients"])
def test_an_agent_does_not_start_without_knowing_its_clients(
    authority: Authority, tmp_path: Path, missing: str
) -> None:
    """An agent that would talk to anybody is refused, with the key that is missing."""
    config = agent_config(authority.issue_agent("process-agent"), free_port(), {})
    path = written(tmp_path, merged(config, {"listen": {"tls": {missing: None}}}))
    done = run("--role", "agent", "--config", path)
    assert done.returncode == 1 and f"listen.tls.{missing}" in done.stderr


# --- running ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["listen", "metrics"])
def test_a_port_that_is_in_use(config: dict[str, Any], tmp_path: Path, where: str) -> None:
    """A daemon that cannot listen ends with status 1 and says which port it is."""
    with socket.create_server((LOCAL, 0)) as other:
        port = other.getsockname()[1]
        path = written(tmp_path, merged(config, {where: {"host": LOCAL, "port": port}}))
        done = run("--role", "api", "--config", path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"pcapd: {path}: listen: ") and str(port) in last and "in use" in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_with_0(api: Daemon, number: signal.Signals) -> None:
    """An orderly end is a success, and all that was written are JSON lines."""
    api.signal(number)
    assert api.wait() == 0
    records = api.records()
    assert {record["role"] for record in records} == {"api"}
    assert any("drains" in record["message"] for record in records)


def shown(port: int, authority: Authority) -> str:
    """Serial number of the certificate that a listener shows."""
    context = ssl.create_default_context(cafile=str(authority.certificate_path))
    with (
        socket.create_connection((LOCAL, port), timeout=10) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as connection,
    ):
        certificate = connection.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


def test_sighup_shows_renewed_certificates(
    config: dict[str, Any], authority: Authority, tmp_path: Path
) -> None:
    """New connections see the new certificate; bad files change nothing; the daemon never stops."""
    own = {}
    for key in ("certificate", "private_key"):
        own[key] = str(shutil.copy(config["listen"]["tls"][key], tmp_path))
    config["listen"]["tls"].update(own)
    with Daemon("api", config, tmp_path) as api:
        first = shown(api.port, authority)
        renewed = authority.issue_api("renewed-process-api")
        shutil.copy(renewed.certificate, own["certificate"])
        shutil.copy(renewed.private_key, own["private_key"])
        assert shown(api.port, authority) == first
        api.signal(signal.SIGHUP)
        wait_until(lambda: shown(api.port, authority) != first, "the new certificate is shown")
        second = shown(api.port, authority)
        Path(own["certificate"]).write_text("nonsense")
        api.signal(signal.SIGHUP)
        wait_until(lambda: "not reloaded" in api.log(), "the bad file is reported")
        assert shown(api.port, authority) == second
        (complaint,) = [record for record in api.records() if "not reloaded" in record["message"]]
        assert complaint["level"] == "error" and own["certificate"] in complaint["message"]
        api.stop()


def holds_up_hangups(pid: int) -> bool:
    """Whether a process has blocked SIGHUP (proc(5), ``SigBlk``)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (blocked,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigBlk:"))
    return bool(blocked >> (signal.SIGHUP - 1) & 1)


TWISTD = [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile=", "pcapd"]


@pytest.mark.parametrize("command", [["-m", "pcapd"], TWISTD], ids=["pcapd", "twistd"])
def test_a_sighup_during_the_start_is_heeded(
    config: dict[str, Any], tmp_path: Path, command: list[str]
) -> None:
    """A SIGHUP during the start neither ends the daemon nor is lost."""
    path = Path(written(tmp_path, config)).rename(tmp_path / "whole.yml")
    # Whoever reads its configuration from a pipe waits for us.
    os.mkfifo(tmp_path / "config.yml")
    argv = [sys.executable, *command, "--role", "api", "--config", str(tmp_path / "config.yml")]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(argv, cwd=ROOT, env=environment(), stdout=output, stderr=output)
    try:
        with (tmp_path / "config.yml").open("w") as pipe:
            assert holds_up_hangups(process.pid)
            process.send_signal(signal.SIGHUP)
            text = path.read_text()
            path.rename(tmp_path / "config.yml")  # for the next time
            pipe.write(text)
        wait_until(lambda: "api reloaded its certificates" in log.read_text(), "it reloads")
        assert "listens on" in log.read_text()
        assert not holds_up_hangups(process.pid)
    finally:
        process.kill()
        process.wait()


def test_an_agent_starts_without_any_capability_and_says_so(authority: Authority, tmp_path: Path) -> None:
    """Captures will fail, which is worth a warning and not an exit."""
    pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
    prctl = pytest.importorskip("prctl", reason="python-prctl is not installed")
    if not prctl.cap_permitted.net_raw:
        pytest.skip("nothing to take away: this is not root")
    config = agent_config(authority.issue_agent("bare-agent"), free_port(), {})
    path = written(tmp_path, config)
    program = f"""
import prctl
prctl.cap_effective.limit()
from twisted.internet import reactor
reactor.callWhenRunning(reactor.callLater, 0.1, reactor.stop)
from pcapd.main import main
main(["--role", "agent", "--config", {path!r}])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "without CAP_NET_RAW captures will fail" in done.stderr


def test_ctrl_c_before_there_is_a_reactor() -> None:
    """Ctrl-C while the daemon imports and reads its configuration gives one line, and no traceback."""
    program = """
import signal
from pcapd.config import load
from pcapd.main import main
load.load_agent = lambda *_: signal.raise_signal(signal.SIGINT)
main(["--role", "agent", "--config", "agent.yml"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, "pcapd: interrupted before it listened\n")


def test_an_agent_drops_a_client_without_a_certificate(authority: Authority, tmp_path: Path) -> None:
    """The agent's log names a client without a certificate and the reason, and the agent goes on."""
    pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
    config = agent_config(authority.issue_agent("strict-agent"), free_port(), {})
    with Daemon("agent", config, tmp_path) as agent:
        context = ssl.create_default_context(cafile=str(authority.certificate_path))
        with (
            socket.create_connection((LOCAL, agent.port), timeout=10) as sock,
            context.wrap_socket(sock, server_hostname=AGENT_NAME) as connection,
            pytest.raises(OSError, match=r"(?i)certificate required|reset"),
        ):
            connection.recv(1)
        wait_until(lambda: "certificate" in agent.log(), "the agent reports it")
        agent.stop()


def test_an_agent_drops_a_client_of_another_name(authority: Authority, tmp_path: Path) -> None:
    """The right authority's certificate is no identity: whom the configuration does not name hears nothing."""
    pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
    config = agent_config(authority.issue_agent("choosy-agent"), free_port(), {})
    other = authority.issue("other-client", dns=("other-agent.example.com",))
    with Daemon("agent", config, tmp_path) as agent:
        context = ssl.create_default_context(cafile=str(authority.certificate_path))
        context.load_cert_chain(other.certificate, other.private_key)
        with (
            socket.create_connection((LOCAL, agent.port), timeout=10) as sock,
            context.wrap_socket(sock, server_hostname=AGENT_NAME) as connection,
        ):
            assert connection.recv(1) == b""
        wait_until(lambda: "not in allowed_clients" in agent.log(), "the agent reports it")
        agent.stop()


# --- what starting would find, --check-config finds ------------------------------------

NOT_OURS = {"listen": {"host": "192.0.2.1"}}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"policy": {"exclude": ["port 22"]}}, ""),
        ({"policy": {"exclude": ["port 22", "tcp prot 80"]}}, "policy.exclude: 'tcp prot 80': "),
        ({"policy": {"exclude": ["host db.example.com"]}}, "policy.exclude: 'host db.example.com': "),
        (NOT_OURS, "listen: 192.0.2.1 port "),
        ({"metrics": {"host": "192.0.2.1"}}, "metrics: 192.0.2.1 port "),
        (
            {"audit": {"file": "/proc/audit.log"}},
            "audit.file: /proc/audit.log cannot be written",
        ),
    ],
)
def test_what_starting_an_api_would_find(
    config: dict[str, Any], tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    """--check-config names file and key of what would fail at the start, and leaves nothing behind."""
    path = written(tmp_path, merged(config, changes))
    done = run("--role", "api", "--config", path, "--check-config")
    assert done.returncode == bool(problem), done.stderr
    assert done.stderr.startswith(f"pcapd: {path}: {problem}" if problem else "")
    assert sorted(os.listdir(tmp_path)) == ["config.yml"]


def test_a_port_in_use(api: Daemon) -> None:
    """A port in use, most of the time by the running daemon itself, is a warning."""
    done = run("--role", "api", "--config", str(api.config_path), "--check-config")
    assert done.returncode == 0
    assert "warning: listen: " in done.stderr and "in use" in done.stderr


@pytest.mark.parametrize("check", [(), ("--check-config",)])
@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"run_as": "no-such-user"}, "run_as: there is no user 'no-such-user'"), (NOT_OURS, "listen: ")],
)
def test_what_starting_an_agent_would_find(
    authority: Authority, tmp_path: Path, changes: dict[str, Any], problem: str, check: tuple[str, ...]
) -> None:
    """--check-config and the start of an agent report the same file and key."""
    config = agent_config(authority.issue_agent("checked"), free_port(), {})
    path = written(tmp_path, merged(config, changes))
    done = run("--role", "agent", "--config", path, *check)
    assert done.returncode == 1
    assert f"pcapd: {path}: {problem}" in done.stderr and "Traceback" not in done.stderr


def test_the_file_of_the_other_role(authority: Authority, config: dict[str, Any], tmp_path: Path) -> None:
    """The file of the other role gives one sentence instead of many unknown keys."""
    path = written(tmp_path, config)
    done = run("--role", "agent", "--config", path)
    assert done.stderr == f"pcapd: {path}: this is the configuration of an api: use it with --role api\n"
    path = written(
        tmp_path, merged(agent_config(authority.issue_agent("checked"), 1, {}), {"run_as": "root"})
    )
    done = run("--role", "api", "--config", path)
    assert done.stderr == f"pcapd: {path}: this is the configuration of an agent: use it with --role agent\n"
