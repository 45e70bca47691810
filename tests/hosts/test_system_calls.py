"""The daemons work below the system-call filter of the systemd unit, also where systemd cannot be started."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from typing import Iterator

import pytest

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")

from demo.certificates import Authority
from demo.processes import ROOT, run
from pcapd.wire import Container, End, Source
from tests.kit.hosts.chain import Chain, assert_accounted
from tests.kit.hosts.containers import APP, CellAgent, cell_in, needs, public_directory
from tests.kit.lab import systemcalls

if needs() or systemcalls.missing():
    pytest.skip(needs() or systemcalls.missing(), allow_module_level=True)


def advised() -> list[str]:
    """What runs a daemon below the filter of the agent's unit, with the drop-in for namespaces."""
    unit = ROOT / "etc/systemd/pcapd-agent.service"
    files = (unit, unit.with_name(f"{unit.name}.d") / "namespaces.conf")
    text = "\n".join(file.read_text() for file in files)
    allowed = " ".join(re.findall(r"^SystemCallFilter=(.+)$", text, re.MULTILINE))
    return ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.kit.lab.systemcalls", allowed]


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    lab = Chain(tmp_path_factory.mktemp("filtered"))
    for daemon in (lab.agent, lab.second, lab.api):
        daemon.below = advised()
    with lab:
        yield lab
        for daemon in (lab.agent, lab.second, lab.api):
            daemon.stop()


def seccomp_of(pid: int) -> str:
    """The kernel's word for how a process is filtered; 2 is by a program."""
    (mode,) = re.findall(r"^Seccomp:\s+(\d)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return mode


def test_a_capture_below_the_filter(filtered: Chain) -> None:
    """An agent captures below the system call filter: in namespaces, with a filter trial, and after SIGHUP."""
    assert {seccomp_of(daemon.pid) for daemon in (filtered.agent, filtered.api)} == {"2"}
    for daemon in (filtered.agent, filtered.api):
        daemon.signal(signal.SIGHUP)
    long = " or ".join(f"host 10.99.0.{number}" for number in range(1, 40))
    result = filtered.capture("web-0", "web-1", "--filter", long, "--duration", "2s")
    assert result.status == 0, result.stderr
    assert_accounted(result)


def test_a_container_below_the_filter(authority: Authority) -> None:
    """An agent captures from a container, with runc, below the same system call filter."""
    with public_directory() as directory, cell_in(directory, 97) as cell:
        instance = cell.run(APP, 0)
        agent = CellAgent(cell, authority, "filtered", containers={})
        agent.daemon.below = advised()
        with agent.daemon:
            assert seccomp_of(agent.daemon.pid) == "2"
            with agent.call() as call:
                call.start(Container(instance.app, instance.index, handle=instance.handle))
                call.wait(Source)
                cell.ping(instance, b"below-the-filter", 3)
                call.wait_for(b"below-the-filter", 6)
                assert isinstance(call.stop(), End)


def test_what_is_not_in_the_filter_is_refused() -> None:
    """The stand-in for systemd filters at all: nobody mounts anything below it."""
    code = "import ctypes; print(ctypes.CDLL(None, use_errno=True).mount(0, 0, 0, 0, 0), ctypes.get_errno())"
    done = run([*advised(), sys.executable, "-c", code])
    assert done.stdout.split() == ["-1", "1"]
