"""``pcapd`` with ``workers`` as an operator and monit see it: exit status, words, signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml

from demo.certificates import Authority
from demo.configurations import LOCAL, api_config, free_port, merged
from demo.daemons import Daemon, environment
from demo.processes import ROOT, end, wait_until
from tests.kit.lab.workers import all_ready, configured, pids

pytest.importorskip("sqlalchemy", reason="pcapd[recordings] is not installed")


@pytest.fixture
def config(authority: Authority, tmp_path: Path) -> dict[str, Any]:
    """An api's with two workers."""
    place = {"host": LOCAL, "port": free_port()}
    credentials = authority.issue_api("workers-api")
    return merged(
        api_config(credentials, free_port(), {"web-0": place}, {"alice": "token"}), configured(tmp_path, 2)
    )


@pytest.fixture
def api(config: dict[str, Any], tmp_path: Path) -> Iterator[Daemon]:
    """It runs."""
    daemon = Daemon("api", config, tmp_path)
    daemon.launch()
    try:
        all_ready(daemon)
        yield daemon
    finally:
        end(daemon.process, grace=20)


def run(config: dict[str, Any], directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a configuration to its end."""
    path = directory / "config.yml"
    path.write_text(yaml.safe_dump(config))
    return subprocess.run(
        [sys.executable, *command, "--role", "api", "--config", str(path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_checked(config: dict[str, Any], tmp_path: Path) -> None:
    """--check-config says that the workers share a database, without its URL, and tries it."""
    done = run(config, tmp_path, "-m", "pcapd", "--check-config")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("of an api with 2 workers, which share the database in state\n")
    done = run({**config, "state": "sqlite:////proc/x/state.db"}, tmp_path, "-m", "pcapd", "--check-config")
    assert done.returncode == 1 and "state: /proc/x/state.db cannot be written" in done.stderr


def test_not_with_twistd(config: dict[str, Any], tmp_path: Path) -> None:
    """Twistd, which has a log of its own, is refused."""
    twistd = (str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile=", "pcapd")
    done = run(config, tmp_path, *twistd)
    assert done.returncode == 1
    assert "workers: needs the command pcapd instead of twistd" in done.stderr


@pytest.mark.parametrize("where", ["listen", "metrics"])
def test_a_port_in_use(config: dict[str, Any], tmp_path: Path, where: str) -> None:
    """A port in use ends the supervisor with status 1, one message, and no worker."""
    with socket.create_server((LOCAL, 0)) as other:
        port = other.getsockname()[1]
        done = run(merged(config, {where: {"host": LOCAL, "port": port}}), tmp_path, "-m", "pcapd")
    assert done.returncode == 1
    assert done.stderr.count("in use") == 1 and str(port) in done.stderr and "worker" not in done.stderr


def test_a_second_supervisor(api: Daemon, tmp_path: Path) -> None:
    """A second api on the same port is refused, although the workers of one may share it."""
    second = merged(api.config, {"metrics": {"port": free_port()}})
    done = run(second, tmp_path, "-m", "pcapd")
    assert done.returncode == 1 and done.stderr.count("in use") == 1
    assert len(pids(api)) == 2


def test_workers_that_cannot_start(config: dict[str, Any], tmp_path: Path) -> None:
    """What only a worker finds ends the supervisor with status 1, and is said once."""
    done = run({**config, "audit": {"file": "/proc/audit.log"}}, tmp_path, "-m", "pcapd")
    assert done.returncode == 1
    assert done.stderr.count("/proc/audit.log cannot be written") == 1
    assert "worker 0 did not start: status 1" in done.stderr and "worker 1" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all(api: Daemon, number: signal.Signals) -> None:
    """A signal to the supervisor, or Ctrl-C to its process group, ends all workers, with status 0."""
    workers = pids(api)
    assert all(os.getpgid(pid) == pid for pid in workers.values())
    os.killpg(api.pid, number)
    assert api.wait() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers.values())
    drained = {record.get("worker") for record in api.records() if record["message"] == "api drains"}
    assert drained == {None, "0", "1"}


def test_a_signal_while_the_workers_start(config: dict[str, Any], tmp_path: Path) -> None:
    """SIGTERM before a worker listens ends all, with status 0: nothing had to be drained."""
    api = Daemon("api", config, tmp_path)
    api.launch()
    wait_until(lambda: "starts 2 workers" in api.log(), "the supervisor runs")
    wait_until(lambda: bool(pids(api)), "the first worker is there")
    workers = pids(api)
    api.signal(signal.SIGTERM)
    assert api.wait() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers.values())


def test_one_worker_has_no_supervisor(config: dict[str, Any], tmp_path: Path) -> None:
    """With ``workers: 1`` the process is the api itself: no child, and no label in the log."""
    with Daemon("api", {**config, "workers": 1}, tmp_path) as api:
        assert pids(api) == {}
        assert not any("worker" in record for record in api.records())
        api.stop()
