"""pcapctl over ssh beside ``ssh host tcpdump -w -``: CPU of everything at the desk, in the same run."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from demo.processes import usage, wait_until
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.sshhosts import Desk, ssh_hosts

__all__ = ["measure"]

_RAM = "/dev/shm"
_DEVICE = "eth9"
_RUNS = 3


class _Run(NamedTuple):
    """One run.

    Attributes:
        pcapctl: Nanoseconds of pcapctl per packet; 0 for plain ssh.
        ssh: Nanoseconds of the ssh client per packet.
    """

    sent: int
    written: int
    pcapctl: float
    ssh: float


def measure(size: int, rate: int, seconds: float) -> dict[str, Any]:
    """One load, over pcapctl and over plain ssh, in turns; medians."""
    with tempfile.TemporaryDirectory(dir=_RAM) as directory, ssh_hosts(Path(directory)) as desk:
        runs = [
            (_pcapctl(desk, size, rate, seconds), _plain(desk, size, rate, seconds)) for _ in range(_RUNS)
        ]
    pcapctl = statistics.median(ours.pcapctl for ours, _ in runs)
    below = statistics.median(ours.ssh for ours, _ in runs)
    plain = statistics.median(theirs.ssh for _, theirs in runs)
    sent, lost = sum(ours.sent for ours, _ in runs), sum(ours.sent - ours.written for ours, _ in runs)
    text = (
        f"{size:5} B  {rate / 1000:4.0f} kpps over ssh  lost {lost} of {sent}  "
        f"| ns/packet: pcapctl {pcapctl:.0f}, its ssh {below:.0f}; "
        f"ssh host tcpdump -w - > file: {plain:.0f}; together {(pcapctl + below) / plain:.2f} times that"
    )
    return {
        "what": "ssh",
        "size": size,
        "rate": rate,
        "sent": sent,
        "lost": lost,
        "pcapctl_ns_per_packet": pcapctl,
        "ssh_ns_per_packet": below,
        "plain_ns_per_packet": plain,
        "text": text,
    }


def _pcapctl(desk: Desk, size: int, rate: int, seconds: float) -> _Run:
    arguments = ("--device", _DEVICE, "--filter", FILTER, "--json", "--output", "/dev/null")
    client = desk.start("web-0", *arguments)
    assert client.stdout is not None
    for line in client.stdout:
        if json.loads(line)["event"] == "progress":
            break
    (ssh,) = _children(client.pid)
    before = usage(client.pid).cpu, usage(ssh).cpu
    sent = _send(desk, size, rate, seconds)
    after = usage(client.pid).cpu, usage(ssh).cpu
    client.send_signal(signal.SIGINT)
    end = json.loads(client.communicate()[0].splitlines()[-1])
    written = end["sources"][0]["written"]
    ours, theirs = (1e9 * (later - earlier) / max(1, written) for earlier, later in zip(before, after))
    return _Run(sent, written, ours, theirs)


def _plain(desk: Desk, size: int, rate: int, seconds: float) -> _Run:
    tcpdump = f"exec tcpdump -U -p -B 16384 -i {_DEVICE} -w - '{FILTER}' 2>/dev/null"
    argv = desk.namespace.command("ssh", "-F", str(desk.configuration), "-T", "web-0", tcpdump)
    with tempfile.TemporaryFile(dir=_RAM) as file:
        ssh = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file)
        wait_until(lambda: file.seek(0, 2) > 0, "tcpdump runs")
        before = usage(ssh.pid).cpu
        sent = _send(desk, size, rate, seconds)
        used = usage(ssh.pid).cpu - before
        written = (file.seek(0, 2) - 24) // (size + 16)
        ssh.terminate()
        ssh.wait()
    return _Run(sent, written, 0.0, 1e9 * used / max(1, written))


def _send(desk: Desk, size: int, rate: int, seconds: float) -> int:
    with Generator(desk.wire, size=size, rate=rate, seconds=seconds) as generator:
        sent = generator.wait().sent
    time.sleep(1.5)
    return sent


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]
