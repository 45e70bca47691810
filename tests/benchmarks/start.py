"""How long the one file of pcapctl takes to start, in seconds of processor time."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from demo.processes import ROOT, run

__all__ = ["measure"]

#: The fastest of so many: the others say how busy the machine is.
_TIMES = 10


def measure(python: str = sys.executable) -> list[dict[str, Any]]:
    """``pcapctl --version``, and Python alone, which is part of it."""
    with tempfile.TemporaryDirectory(prefix="pcapd-bench-") as directory:
        file = Path(directory) / "pcapctl"
        run([sys.executable, str(ROOT / "bin" / "build-client"), "--out", str(file)], timeout=600)
        start = min(_cpu(python, "-I", str(file), "--version") for _ in range(_TIMES))
    alone = min(_cpu(python, "-I", "-c", "pass") for _ in range(_TIMES))
    text = f"start of the one file: {1000 * start:.0f} ms of CPU, of which Python alone {1000 * alone:.0f} ms"
    return [{"what": "start", "cpu": start, "python": alone, "text": text}]


def _cpu(*command: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
