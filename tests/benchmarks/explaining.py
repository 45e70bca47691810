"""``explain``: what it finds in the scenarios, and how fast it is.

``tshark -q -z expert`` reads the same packets in the same run, where it is installed.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pcapd.savefile import pcap
from tests.benchmarks.matching import _packets
from tests.hosts.scenarios.plays import PLAYS
from tests.hosts.scenarios.running import perform

#: Packets of a file, and without the compiled modules.
PACKETS = 1_000_000
PACKETS_PURE = 60_000


def measure() -> list[dict[str, Any]]:
    """The scenarios, twice, and the speed."""
    return [*_scenarios(), *_speed()]


def _scenarios() -> list[dict[str, Any]]:
    rows = []
    total = {"found": 0, "missed": 0, "false": 0}
    for name, play in PLAYS.items():
        for _ in range(2):
            seed = random.SystemRandom().randrange(1, 1 << 30)
            with tempfile.TemporaryDirectory() as directory:
                outcomes, _ = perform(play, seed, Path(directory))
            counts = {kind: sum(len(getattr(one, kind)) for one in outcomes) for kind in total}
            for kind, count in counts.items():
                total[kind] += count
            words = f"{counts['found']} found, {counts['missed']} missed, {counts['false']} false"
            rows.append({"text": f"explain {name}: {words} (seed {seed})", "seed": seed, **counts})
    words = f"{total['found']} found, {total['missed']} missed, {total['false']} false"
    return [*rows, {"text": f"explain, all {len(PLAYS)} scenarios twice: {words}", **total}]


def _speed() -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for count, pure in ((PACKETS, False), (PACKETS_PURE, True)):
            file = Path(directory, f"{count}.pcap")
            file.write_bytes(pcap.file_header(1, 65535) + _packets(0, 0, count))
            rate = count / _seconds(file, pure=pure)
            name = "plain Python" if pure else "compiled"
            rows.append({"text": f"explain, {name}: {rate / 1000:.0f} kpps", "kpps": rate / 1000})
        if shutil.which("tshark"):
            begin = time.perf_counter()
            subprocess.run(
                ["tshark", "-q", "-z", "expert", "-r", str(file)], capture_output=True, check=False
            )
            rate = PACKETS_PURE / (time.perf_counter() - begin)
            rows.append({"text": f"tshark -q -z expert: {rate / 1000:.0f} kpps", "kpps": rate / 1000})
    return rows


def _seconds(file: Path, *, pure: bool) -> float:
    """Of processor time, the start of Python aside."""
    code = (
        "import sys, time; from pcapd.ctl.display.explain import explain; begin = time.process_time();"
        " explain(sys.argv[1:]); print(time.process_time() - begin)"
    )
    env = {**os.environ, **({"PCAPD_PURE": "1"} if pure else {})}
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], env=env, capture_output=True, text=True, check=True
    )
    return float(done.stdout)
