"""Workers of one api that a cgroup caps: what two of them serve, beside what one does.

A cap makes a fraction of a core the bottleneck, so that agents and clients find room on the same machine.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Iterator

from demo.configurations import LOCAL, free_port
from demo.daemons import Lab
from demo.processes import end, usage, wait_until
from tests.benchmarks.fanin import players
from tests.kit.lab.workers import active, all_ready, configured, pids

__all__ = ["measure"]

#: Of a core, for each worker.
CAP = 0.3
#: Clients, targets of each, and packets of 100 bytes per second of each target: more than two capped workers can do.
CLIENTS, TARGETS, RATE = 24, 1, 16_000
#: Seconds of packets that an agent sends at once.
_TURN = 0.004
#: Seconds until the rates are steady, and for which they are measured.
_WARM_UP, _SECONDS = 3.0, 5.0
_RUNS = 3
_RAM = "/dev/shm"
_RECORD, _HEADER = 16 + 100, 24
_PERIOD = 100_000  # microseconds, the kernel's default
#: How much of the machine the groups get beside other programs; the defaults are 1024 and 100.
_SHARES, _WEIGHT = 102_400, 10_000


@contextlib.contextmanager
def _group(pid: int, name: str, cap: float | None = None) -> Iterator[None]:
    """Move a process to a cgroup of its own (cgroups(7), version 1 or 2) that comes before other programs.

    Args:
        pid: The process; what it starts is in the group too.
        name: Part of the group's name.
        cap: Cores that the group may use; None for all.
    """
    root = Path("/sys/fs/cgroup")
    first = (root / "cpu").is_dir()
    parent = root / "cpu" if first else root
    group = parent / f"pcapd-bench-{os.getpid()}-{name}"
    group.mkdir()
    try:
        (group / ("cpu.shares" if first else "cpu.weight")).write_text(str(_SHARES if first else _WEIGHT))
        if cap is not None:
            quota = int(cap * _PERIOD)
            limit = ("cpu.cfs_quota_us", str(quota)) if first else ("cpu.max", f"{quota} {_PERIOD}")
            (group / limit[0]).write_text(limit[1])
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for left in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (parent / "cgroup.procs").write_text(left)
        with contextlib.suppress(OSError):
            group.rmdir()


def measure() -> list[dict[str, Any]]:
    """One worker and two, in turn; the ratio of the medians."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    used: dict[int, list[float]] = {1: [], 2: []}
    with _group(os.getpid(), "all"):  # other programs on this machine would be the bottleneck
        for _ in range(_RUNS):
            for count in (1, 2):
                rate, cores = _run(count)
                rates[count].append(rate)
                used[count].append(cores)
    one, two = statistics.median(rates[1]), statistics.median(rates[2])
    cores = {count: statistics.median(values) for count, values in used.items()}
    return [
        {
            "what": "workers",
            "cap": CAP,
            "packets_per_second": rates,
            "cores": used,
            "ratio": two / one,
            "text": (
                f"workers: {CLIENTS} downloads of {TARGETS} agents each, every worker capped at {CAP:.0%} of a core "
                f"| one: {one / 1000:.0f} kpps with {cores[1]:.2f} cores | two: {two / 1000:.0f} kpps with "
                f"{cores[2]:.2f} cores | two serve {two / one:.2f} times what one does, "
                f"in {_RUNS} runs of each {_shown(rates[1])} and {_shown(rates[2])} kpps"
            ),
        }
    ]


def _shown(rates: list[float]) -> str:
    return ", ".join(f"{rate / 1000:.0f}" for rate in rates)


def _run(count: int) -> tuple[float, float]:
    """Packets per second of all clients, and cores that the workers used."""
    port = free_port()
    names = [f"agent-{number}" for number in range(CLIENTS * TARGETS)]
    limits = {"concurrent_captures": CLIENTS, "per_user": CLIENTS, "max_targets": TARGETS}
    with tempfile.TemporaryDirectory(dir=_RAM) as text, contextlib.ExitStack() as stack:
        directory = Path(text)
        api = configured(directory, count, limits=limits, probe={"enabled": False})
        api["static"] = {"targets": {name: {"host": LOCAL, "port": port} for name in names}}
        lab = Lab(directory, api=api)
        stack.enter_context(players(lab, port, RATE, 3600.0, _TURN))
        stack.enter_context(lab)
        if count > 1:
            all_ready(lab.api)
        workers = list(pids(lab.api).values()) if count > 1 else [lab.api.pid]
        clients = [_Download(lab, number, names[number::CLIENTS]) for number in range(CLIENTS)]
        stack.callback(lambda: [client.leave() for client in clients])
        wait_until(lambda: all(client.bytes() for client in clients), "all clients get packets", timeout=60)
        if count > 1:
            assert sum(active(lab.api).values()) == CLIENTS
        for number, pid in enumerate(workers):
            stack.enter_context(_group(pid, str(number), CAP))
        time.sleep(_WARM_UP)
        before, began = _state(clients, workers), time.monotonic()
        time.sleep(_SECONDS)
        after, seconds = _state(clients, workers), time.monotonic() - began
    return (after[0] - before[0]) / _RECORD / seconds, (after[1] - before[1]) / seconds


def _state(clients: list[_Download], workers: list[int]) -> tuple[float, float]:
    return float(sum(client.bytes() for client in clients)), sum(usage(pid).cpu for pid in workers)


class _Download:
    """A running curl."""

    def __init__(self, lab: Lab, number: int, targets: list[str]) -> None:
        self._path = lab.directory / f"download-{number}.pcap"
        query = "&".join(f"target={name}" for name in targets) + "&order=false"
        argv = ["curl", "--silent", "--no-buffer", "--cacert", str(lab.authority.certificate_path)]
        argv += ["--header", f"Authorization: bearer {lab.token}", "--output", str(self._path)]
        self._process = subprocess.Popen([*argv, f"{lab.url}/capture?{query}"])

    def bytes(self) -> int:
        """Of records so far."""
        size = self._path.stat().st_size if self._path.exists() else 0
        return max(0, size - _HEADER)

    def leave(self) -> None:
        """Go without a word."""
        end(self._process)
