"""From a packet's capture timestamp to its bytes on pcapctl's standard output, at 1,000 packets/s."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from demo.daemons import Lab
from tests.kit.lab.generator import FILTER, Generator

__all__ = ["measure"]

_ENHANCED_PACKET = 6
_HEADER = struct.Struct("<IIIII")  # kind, length; of packets also interface and time
_RATE, _SECONDS = 1000, 5.0


def measure(*, ordered: bool) -> dict[str, Any]:
    """Percentiles in milliseconds."""
    with tempfile.TemporaryDirectory() as directory, Lab(Path(directory)) as lab:
        client = lab.start_pcapctl(
            *("hosts", "web-1", "--output", "-", "--quiet", "--filter", FILTER),
            "--order" if ordered else "--no-order",
            stdout=subprocess.PIPE,
        )
        assert client.stdout is not None
        delays: list[float] = []
        reader = threading.Thread(target=_read, args=(client.stdout.fileno(), delays))
        reader.start()
        time.sleep(1.0)
        with Generator(lab.link, size=100, rate=_RATE, seconds=_SECONDS) as generator:
            generator.wait()
        time.sleep(1.0)
        client.send_signal(signal.SIGINT)
        reader.join()
        client.wait()
    delays.sort()
    p50, p99, worst = delays[len(delays) // 2], delays[len(delays) * 99 // 100], delays[-1]
    mode = "ordered" if ordered else "unordered"
    return {
        "what": "latency",
        "ordered": ordered,
        "p50_ms": p50,
        "p99_ms": p99,
        "max_ms": worst,
        "packets": len(delays),
        "text": (
            f"latency at {_RATE} packets/s, {mode}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {worst:.1f} ms"
        ),
    }


def _read(fd: int, delays: list[float]) -> None:
    pending = b""
    while data := os.read(fd, 1 << 20):
        now_us = time.time_ns() // 1000
        pending += data
        position = 0
        while len(pending) - position >= _HEADER.size:
            kind, size, _, high, low = _HEADER.unpack_from(pending, position)
            if len(pending) - position < size:
                break
            if kind == _ENHANCED_PACKET:
                delays.append((now_us - (high << 32 | low)) / 1000)
            position += size
        pending = pending[position:]
