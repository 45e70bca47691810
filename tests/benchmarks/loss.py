"""Loss and CPU end to end: generator → agent → api → pcapctl, all on this machine, beside tcpdump."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.daemons import Lab
from demo.processes import usage
from tests.kit.lab.generator import FILTER, Generator

__all__ = ["idle", "measure"]

RUNS = 3  # of each load
_IDLE = 5.0  # seconds for which wake-ups are counted
_SETTLE = 1.0  # seconds until daemons have nothing to do any more
_RAM = "/dev/shm"
_TCPDUMP_RING_KIB = 16 * 1024  # the agent's, for a fair race


@dataclass(frozen=True)
class _Load:
    """One load through the chain.

    Attributes:
        cpu: Nanoseconds of each process per packet that was delivered.
    """

    sent: int
    lost: int
    end: dict[str, Any]
    cpu: dict[str, float]
    rss: dict[str, float]


def measure(size: int, rate: int, seconds: float, *, ordered: bool, runs: int = RUNS) -> dict[str, Any]:
    """A load through the chain, then the same beside tcpdump; medians of some runs."""
    with tempfile.TemporaryDirectory(dir=_RAM) as directory, Lab(Path(directory)) as lab:
        loads = [_chain(lab, size, rate, seconds, ordered) for _ in range(runs)]
        tcpdump = [_tcpdump(lab, size, rate, seconds) for _ in range(runs)]
    cpu = {name: statistics.median(load.cpu[name] for load in loads) for name in loads[0].cpu}
    totals = [sum(load.cpu.values()) for load in loads]
    rss = {name: max(load.rss[name] for load in loads) for name in loads[0].rss}
    tcpdump_ns = statistics.median(ns for _, ns in tcpdump)
    sent, lost = sum(load.sent for load in loads), sum(load.lost for load in loads)
    sources = [load.end["sources"][0] for load in loads]
    text = (
        f"{size:5} B  {rate / 1000:4.0f} kpps offered  lost {lost} of {sent} "
        f"({100 * lost / sent:.2f} %), kernel says {sum(source['dropped_kernel'] for source in sources)}, "
        f"late {sum(source['late'] for source in sources)}  "
        f"| ns/packet: agent {cpu['agent']:.0f}, api {cpu['api']:.0f}, pcapctl {cpu['pcapctl']:.0f}, "
        f"all {statistics.median(totals):.0f} ({min(totals):.0f} to {max(totals):.0f} in {runs} runs)  "
        f"| tcpdump -w: {tcpdump_ns:.0f} ns, dropped {sum(dropped for dropped, _ in tcpdump)}; "
        f"agent is {cpu['agent'] / tcpdump_ns:.1f} times tcpdump  "
        f"| peak MiB: agent {rss['agent']:.0f}, api {rss['api']:.0f}, pcapctl {rss['pcapctl']:.0f}"
    )
    return {
        "what": "loss",
        "size": size,
        "rate": rate,
        "ordered": ordered,
        "sent": sent,
        "lost": lost,
        "ns_per_packet": cpu,
        "ns_per_packet_all": totals,
        "tcpdump_ns_per_packet": tcpdump_ns,
        "tcpdump_dropped": [dropped for dropped, _ in tcpdump],
        "peak_rss_mib": rss,
        "text": text,
    }


def idle() -> dict[str, Any]:
    """Memory of daemons that have nothing to do, and how often a capture without packets wakes each process."""
    with tempfile.TemporaryDirectory(dir=_RAM) as directory, Lab(Path(directory)) as lab:
        time.sleep(_SETTLE)
        rss = {"agent": lab.agent.usage().rss / 2**20, "api": lab.api.usage().rss / 2**20}
        client = _start(lab, ordered=True)
        pids = _pids(lab, client)
        time.sleep(_SETTLE)
        before = {name: usage(pid).wakeups for name, pid in pids.items()}
        time.sleep(_IDLE)
        wakeups = {name: (usage(pid).wakeups - before[name]) / _IDLE for name, pid in pids.items()}
        client.send_signal(signal.SIGINT)
        client.communicate()
    return {
        "what": "idle",
        "rss_mib": rss,
        "wakeups_per_second": wakeups,
        "text": f"idle: agent {rss['agent']:.0f} MiB, api {rss['api']:.0f} MiB  | a capture without packets "
        f"wakes up, per second: agent {wakeups['agent']:.0f}, api {wakeups['api']:.0f}, "
        f"pcapctl {wakeups['pcapctl']:.0f}",
    }


def _start(lab: Lab, *, ordered: bool) -> subprocess.Popen[str]:
    client: subprocess.Popen[str] = lab.start_pcapctl(
        *("hosts", "web-1", "--output", "/dev/null", "--json", "--filter", FILTER),
        "--order" if ordered else "--no-order",
        stdout=subprocess.PIPE,
        text=True,
    )
    _await_source(client)
    return client


def _pids(lab: Lab, client: subprocess.Popen[str]) -> dict[str, int]:
    return {"agent": lab.agent.pid, "api": lab.api.pid, "pcapctl": client.pid}


def _chain(lab: Lab, size: int, rate: int, seconds: float, ordered: bool) -> _Load:
    client = _start(lab, ordered=ordered)
    pids = _pids(lab, client)
    before = {name: usage(pid).cpu for name, pid in pids.items()}
    with Generator(lab.link, size=size, rate=rate, seconds=seconds) as generator:
        sent = generator.wait().sent
    time.sleep(0.5)
    after = {name: usage(pid) for name, pid in pids.items()}
    client.send_signal(signal.SIGINT)
    end = json.loads(client.communicate()[0].splitlines()[-1])
    written = end["sources"][0]["written"]
    return _Load(
        sent,
        sent - written,
        end,
        {name: 1e9 * (after[name].cpu - before[name]) / max(1, written) for name in pids},
        {name: after[name].peak_rss / 2**20 for name in pids},
    )


def _await_source(client: subprocess.Popen[str]) -> None:
    """Return when it captures: what is sent before is nobody's loss."""
    assert client.stdout is not None
    for line in client.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and event["sources"]:
            return
    raise AssertionError("pcapctl ended before it captured")


def _tcpdump(lab: Lab, size: int, rate: int, seconds: float) -> tuple[int, float]:
    """Packets that tcpdump dropped, and its CPU nanoseconds per packet that it wrote."""
    # As root: otherwise it gives what it writes to, here the device, to the user that it becomes.
    argv = ["tcpdump", "-Z", "root", "-i", "eth0", "-w", "/dev/null", "-B", str(_TCPDUMP_RING_KIB)]
    argv += FILTER.split()
    process = lab.web1.popen(*argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    while "listening on" not in process.stderr.readline():
        assert process.poll() is None, "tcpdump ended"
    with Generator(lab.link, size=size, rate=rate, seconds=seconds) as generator:
        sent = generator.wait().sent
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    _, _, resources = os.wait4(process.pid, 0)
    process.returncode = 0
    found = re.search(r"(\d+) packets dropped by kernel", said)
    assert found is not None, said
    dropped = int(found[1])
    return dropped, 1e9 * (resources.ru_utime + resources.ru_stime) / max(1, sent - dropped)
