"""One capture for minutes at half the lossless rate: nothing is lost, and no process grows."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Sequence

from demo.daemons import Lab
from demo.processes import Usage, usage
from tests.benchmarks.clients import Capture, excess
from tests.kit.lab.generator import FILTER, Generator

__all__ = ["RATE", "measure"]

#: packets per second of 100 bytes: half of what docs/performance.rst promises to lose nothing at.
RATE = 200_000

_RAM = "/dev/shm"
_MIB = 2**20
#: Of the samples, what counts as warming up; and what is compared with the end, as much of it.
_WARM, _PART = 0.2, 0.2


def measure(seconds: float, *, rate: int = RATE, interval: float = 1.0) -> dict[str, Any]:
    """Sample agent, api and pcapctl while a capture runs.

    Args:
        seconds: Of packets.
        rate: Packets per second.
        interval: Seconds between samples.
    """
    limits = {"max_bytes": 10**15, "max_duration": f"{int(seconds) + 120}s"}
    arguments = ("web-1", "--output", "/dev/null", "--order", "--filter", FILTER)
    samples: dict[str, list[Usage]] = {"agent": [], "api": [], "pcapctl": []}
    with (
        tempfile.TemporaryDirectory(dir=_RAM) as directory,
        Lab(Path(directory), api={"limits": limits}) as lab,
    ):
        capture = Capture(lab, "soak", *arguments)
        capture.wait_for()
        pids = {"agent": lab.agent.pid, "api": lab.api.pid, "pcapctl": capture.process.pid}
        with Generator(lab.link, size=100, rate=rate, seconds=seconds) as generator:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                capture.check()
                for name, pid in pids.items():
                    samples[name].append(usage(pid))
                time.sleep(interval)
            sent = generator.wait()
        capture.wait_for(packets=sent.sent)
        report = capture.stop()
    (source,) = report["sources"]
    lost = sent.sent - source["written"]
    growth = {name: _growth([sample.rss for sample in taken]) / _MIB for name, taken in samples.items()}
    peak = {name: taken[-1].peak_rss / _MIB for name, taken in samples.items()}
    handles = {name: _handles(taken) for name, taken in samples.items()}
    return {
        "what": "soak",
        "seconds": sent.seconds,
        "rate": sent.rate,
        "sent": sent.sent,
        "lost": lost,
        "excess": excess(report),
        "late": source["late"],
        "growth_mib": growth,
        "peak_rss_mib": peak,
        "more_handles": handles,
        "text": (
            f"soak: {sent.seconds / 60:.1f} minutes at {sent.rate / 1000:.0f} kpps of 100 B: lost {lost} of "
            f"{sent.sent}, late {source['late']}; memory grew by (peak), MiB: "
            + ", ".join(f"{name} {growth[name]:+.1f} ({peak[name]:.0f})" for name in samples)
            + f"; descriptors and threads: {sum(handles.values()):+d}"
        ),
    }


def _growth(values: Sequence[int]) -> float:
    """The mean of the last part less that of the first after warming up."""
    part = max(1, int(len(values) * _PART))
    first = values[int(len(values) * _WARM) :][:part]
    last = values[-part:]
    return sum(last) / len(last) - sum(first) / len(first)


def _handles(taken: Sequence[Usage]) -> int:
    first, last = taken[int(len(taken) * _WARM)], taken[-1]
    return last.fds + last.threads - first.fds - first.threads
