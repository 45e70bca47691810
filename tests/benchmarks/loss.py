"""Loss and CPU end to end: generator → agent → api → pcapctl, all on this machine, beside tcpdump."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from demo.daemons import Lab
from demo.processes import usage
from tests.kit.lab.generator import FILTER, Generator, Report

__all__ = ["idle", "measure"]

_SETTLE = 1.0  # seconds until daemons have nothing to do any more
_RAM = "/dev/shm"
_TCPDUMP_RING_KIB = 16 * 1024  # the agent's, for a fair race


def measure(size: int, rate: int, seconds: float, *, ordered: bool) -> dict[str, Any]:
    """One load through the chain, then the same beside tcpdump."""
    with tempfile.TemporaryDirectory(dir=_RAM) as directory, Lab(Path(directory)) as lab:
        sent, end, cpu, rss = _chain(lab, size, rate, seconds, ordered)
        tcpdump_sent, tcpdump_dropped, tcpdump_cpu = _tcpdump(lab, size, rate, seconds)
    source = end["sources"][0]
    lost = sent.sent - source["written"]
    per_packet = {name: 1e9 * used / sent.sent for name, used in cpu.items()}
    tcpdump_ns = 1e9 * tcpdump_cpu / tcpdump_sent
    total = sum(per_packet.values())
    text = (
        f"{size:5} B  {sent.rate / 1000:4.0f} kpps offered  lost {lost} of {sent.sent} "
        f"({100 * lost / sent.sent:.2f} %), kernel says {source['dropped_kernel']}, late {source['late']}  "
        f"| ns/packet: agent {per_packet['agent']:.0f}, api {per_packet['api']:.0f}, "
        f"pcapctl {per_packet['pcapctl']:.0f}, all {total:.0f}  "
        f"| tcpdump -w: {tcpdump_ns:.0f} ns, dropped {tcpdump_dropped} of {tcpdump_sent}; "
        f"agent is {per_packet['agent'] / tcpdump_ns:.1f} times tcpdump  "
        f"| peak MiB: agent {rss['agent']:.0f}, api {rss['api']:.0f}, pcapctl {rss['pcapctl']:.0f}"
    )
    return {
        "what": "loss",
        "size": size,
        "rate": sent.rate,
        "ordered": ordered,
        "sent": sent.sent,
        "lost": lost,
        "ns_per_packet": per_packet,
        "tcpdump_ns_per_packet": tcpdump_ns,
        "tcpdump_dropped": tcpdump_dropped,
        "peak_rss_mib": rss,
        "text": text,
    }


def idle() -> dict[str, Any]:
    """Memory of daemons that have nothing to do."""
    with tempfile.TemporaryDirectory(dir=_RAM) as directory, Lab(Path(directory)) as lab:
        time.sleep(_SETTLE)
        rss = {"agent": lab.agent.usage().rss / 2**20, "api": lab.api.usage().rss / 2**20}
    return {
        "what": "idle",
        "rss_mib": rss,
        "text": f"idle: agent {rss['agent']:.0f} MiB, api {rss['api']:.0f} MiB",
    }


def _chain(
    lab: Lab, size: int, rate: int, seconds: float, ordered: bool
) -> tuple[Report, dict[str, Any], dict[str, float], dict[str, float]]:
    client = lab.start_pcapctl(
        *("hosts", "web-1", "--output", "/dev/null", "--json", "--filter", FILTER),
        "--order" if ordered else "--no-order",
        stdout=subprocess.PIPE,
        text=True,
    )
    _await_source(client)
    pids = {"agent": lab.agent.pid, "api": lab.api.pid, "pcapctl": client.pid}
    before = {name: usage(pid).cpu for name, pid in pids.items()}
    with Generator(lab.link, size=size, rate=rate, seconds=seconds) as generator:
        sent = generator.wait()
    time.sleep(0.5)
    after = {name: usage(pid) for name, pid in pids.items()}
    client.send_signal(signal.SIGINT)
    events = client.communicate()[0].splitlines()
    cpu = {name: after[name].cpu - before[name] for name in pids}
    return sent, json.loads(events[-1]), cpu, {name: after[name].peak_rss / 2**20 for name in pids}


def _await_source(client: subprocess.Popen[str]) -> None:
    """Return when it captures: what is sent before is nobody's loss."""
    assert client.stdout is not None
    for line in client.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and event["sources"]:
            return
    raise AssertionError("pcapctl ended before it captured")


def _tcpdump(lab: Lab, size: int, rate: int, seconds: float) -> tuple[int, int, float]:
    """Packets sent, dropped, and CPU seconds of tcpdump."""
    # As root: otherwise it gives what it writes to, here the device, to the user that it becomes.
    argv = ["tcpdump", "-Z", "root", "-i", "eth0", "-w", "/dev/null", "-B", str(_TCPDUMP_RING_KIB)]
    argv += FILTER.split()
    process = lab.web1.popen(*argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    while "listening on" not in process.stderr.readline():
        assert process.poll() is None, "tcpdump ended"
    with Generator(lab.link, size=size, rate=rate, seconds=seconds) as generator:
        sent = generator.wait()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    _, _, resources = os.wait4(process.pid, 0)
    process.returncode = 0
    dropped = re.search(r"(\d+) packets dropped by kernel", said)
    return sent.sent, int(dropped[1]) if dropped else -1, resources.ru_utime + resources.ru_stime
