"""A new CA takes the place of the old one while captures run: the steps of docs/operations.rst, "Certificates"."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import pytest

from demo.daemons import Daemon, Lab, environment
from demo.processes import run, wait_until
from tests.kit.hosts.chain import Client, assert_accounted
from tests.kit.lab.generator import FILTER, Generator

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="captures and namespaces need root"),
]

SOURCES = ("web-0:eth0", "web-1:eth0")


def certificates(directory: Path) -> Path:
    """Let ``pcapd certificates`` make a CA and certificates."""
    run([sys.executable, "-m", "pcapd", "certificates", str(directory)], env=environment())
    return directory


class Files:
    """The files in use of an agent, an api and their users, made by ``pcapd certificates``."""

    def __init__(self, directory: Path, old: Path, new: Path) -> None:
        self.directory, self.old, self.new = directory, old, new
        directory.mkdir()
        for role in ("agent", "api"):
            self.show(role, old)
            self.trust(role, old)

    def path(self, name: str) -> str:
        """The path of a file in use."""
        return str(self.directory / name)

    def show(self, role: str, origin: Path) -> None:
        """Let a daemon show the certificate of one of the CAs."""
        for name in (f"{role}.crt", f"{role}.key"):
            (self.directory / name).write_bytes((origin / name).read_bytes())

    def trust(self, role: str, *origins: Path) -> None:
        """Let a daemon trust these CAs, one after the other in a file."""
        content = b"".join((origin / "ca.crt").read_bytes() for origin in origins)
        (self.directory / f"{role}-ca.crt").write_bytes(content)

    def credentials(self, role: str) -> dict[str, str]:
        """A daemon's own certificate, as in a section ``tls``."""
        return {"certificate": self.path(f"{role}.crt"), "private_key": self.path(f"{role}.key")}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """An old CA, whose certificates are in use, and a new one."""
    return Files(tmp_path / "tls", certificates(tmp_path / "old"), certificates(tmp_path / "new"))


@pytest.fixture
def lab(tmp_path: Path, files: Files) -> Lab:
    """An agent and an api with these files; users trust both CAs from the start."""
    agent = {"listen": {"tls": {**files.credentials("agent"), "client_cas": files.path("agent-ca.crt")}}}
    towards_agents = {**files.credentials("api"), "ca": files.path("api-ca.crt")}
    api = {"listen": {"tls": files.credentials("api")}, "agents": {"tls": towards_agents}}
    lab = Lab(tmp_path / "lab", agent=agent, api=api)
    files.trust("users", files.old, files.new)
    lab.authority.certificate_path = Path(files.path("users-ca.crt"))
    return lab


def reload(daemon: Daemon) -> None:
    """Send SIGHUP, and wait for the message in the log."""
    reloads = daemon.log().count("reloaded its certificates")
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: daemon.log().count("reloaded its certificates") > reloads, "it has reloaded")


def short_capture(lab: Lab) -> subprocess.CompletedProcess[str]:
    """A capture with connections of its own, of both hosts."""
    return lab.pcapctl("hosts", "web-0", "web-1", "--duration", "200ms", "--output", "/dev/null", "--force")


def begin(lab: Lab) -> Client:
    """A capture that runs until it is stopped."""
    path = lab.directory / "capture.pcapng"
    output, stderr = path.with_suffix(".events"), path.with_suffix(".stderr")
    arguments = ("hosts", "web-0", "web-1", "--filter", FILTER, "--json", "--output", str(path))
    with output.open("wb") as out, stderr.open("wb") as err:
        return Client(lab.start_pcapctl(*arguments, stdout=out, stderr=err), path, output, stderr)


def test_a_new_ca(lab: Lab, files: Files) -> None:
    """After each step a new capture succeeds, a running one loses nothing, and at last the old CA is refused."""
    old, new = files.old, files.new
    agent, api = lab.agent, lab.api
    steps: list[tuple[Daemon, Callable[[], None]]] = [
        (agent, lambda: files.trust("agent", old, new)),
        (api, lambda: files.trust("api", old, new)),
        (agent, lambda: files.show("agent", new)),
        (api, lambda: files.show("api", new)),
        (agent, lambda: files.trust("agent", new)),
        (api, lambda: files.trust("api", new)),
    ]
    with lab:
        assert short_capture(lab).returncode == 0
        running = begin(lab)
        running.wait_for(*SOURCES)
        with Generator(lab.link, size=200, rate=500) as generator:
            for daemon, step in steps:
                step()
                reload(daemon)
                done = short_capture(lab)
                assert done.returncode == 0, done.stderr
            sent = generator.stop().sent
        time.sleep(0.5)  # the counters come ten times a second
        result = running.stop()
        assert result.status == 0, result.stderr
        assert_accounted(result)
        for source in SOURCES:
            assert result.file.numbers(source) == list(range(sent))

        files.show("agent", old)
        reload(agent)
        refused = short_capture(lab)
        assert refused.returncode == 1
        assert "the peer's certificate is not accepted" in refused.stderr
