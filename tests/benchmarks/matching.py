"""Packets per second of what is done after a capture: recognising the same packet at two places, and flows.

Seconds are processor time, which other work on the machine does not change much.
``tcptrace`` and ``tshark -q -z conv,tcp`` read the same packets in the same run, where
they are installed.
"""

from __future__ import annotations

import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pcapd.merge.matching import PacketIds
from pcapd.merge.muxer import Muxer
from pcapd.savefile.form import Form
from pcapd.wire import Source

try:
    from pcapd.merge import _native
except ImportError:
    _native = None  # type: ignore[assignment]

#: Packets of a file, half of them at each of two places, and without the compiled modules.
PACKETS = 1_000_000
PACKETS_PURE = 100_000
_FLOWS = 1000
_BATCH = 256
_STEP_US = 20
_SIZE = 100


def _packets(place: int, first: int, count: int) -> bytes:
    """A batch: TCP segments of many connections; the second place sees them later, with one hop less."""
    records = []
    for number in range(first, first + count):
        flow = number % _FLOWS
        us = 1_700_000_000_000_000 + _STEP_US * number + 7 * place
        ip = struct.pack("!BBHHHBBH", 0x45, 0, _SIZE - 14, number & 0xFFFF, 0, 64 - place, 6, place)
        ports = struct.pack(
            "!HHIIBBHHH", 10_000 + flow, 443, 46 * (number // _FLOWS), 1, 80, 16, 500, place, 0
        )
        frame = bytes(12) + b"\x08\x00" + ip + bytes((10, 0, 0, 1, 10, 0, 0, 2)) + ports + bytes(_SIZE - 54)
        records.append(struct.pack("<4I", us // 1_000_000, us % 1_000_000, _SIZE, _SIZE) + frame)
    return b"".join(records)


def _capture(count: int) -> list[tuple[int, bytes]]:
    """Batches of both places, in the order in which they arrive."""
    return [
        (place, _packets(place, first, min(_BATCH, count // 2 - first)))
        for first in range(0, count // 2, _BATCH)
        for place in (0, 1)
    ]


def _mux(batches: list[tuple[int, bytes]], ids: PacketIds | None) -> tuple[float, list[bytes]]:
    """Seconds of processor time, and the file."""
    muxer = Muxer(Form.PCAPNG, 262144, packet_ids=ids)
    for place in (0, 1):
        muxer.source(place, Source(f"place-{place}", "eth0", 1, 262144, ""), 0)
    file: list[bytes] = []
    begin = time.process_time()
    for number, (place, records) in enumerate(batches):
        muxer.packets(place, records, 0.0)
        if number % 16 == 15:
            file += muxer.take(0.0)
    file += muxer.finish(1_700_001_000_000_000)
    return time.process_time() - begin, file


def _run(*command: str, **environment: str) -> float:
    """Seconds of processor time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _row(what: str, packets: int, seconds: float, beside: float | None = None) -> dict[str, Any]:
    rate = packets / seconds
    ratio = "" if beside is None else f", {rate / beside:.1f} times as fast as tcptrace"
    return {"what": what, "rate": rate, "text": f"{what}: {rate / 1000:,.0f} thousand packets/s{ratio}"}


def measure() -> list[dict[str, Any]]:
    """Rows of the table."""
    if _native is None:
        return [{"text": "matching: the compiled modules are not built"}]
    batches = _capture(PACKETS)
    seconds, file = _mux(batches, None)
    rows = [_row("merge without numbers", PACKETS, seconds)]
    for what, dedupe in (("--packet-ids", False), ("--dedupe", True)):
        rows.append(_row(what, PACKETS, _mux(batches, PacketIds(dedupe=dedupe))[0]))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "both.pcapng"
        path.write_bytes(b"".join(file))
        short = Path(name) / "short.pcapng"
        short.write_bytes(b"".join(_mux(_capture(PACKETS_PURE), None)[1]))
        return rows + _files(path, short)


def _files(path: Path, short: Path) -> list[dict[str, Any]]:
    """What reads a file."""
    rows: list[dict[str, Any]] = []
    rate = None
    if shutil.which("tcptrace") and shutil.which("editcap"):
        classic = path.with_suffix(".pcap")
        subprocess.run(["editcap", "-F", "pcap", str(path), str(classic)], check=True)
        rows.append(_row("tcptrace", PACKETS, _run("tcptrace", "-q", str(classic))))
        rate = rows[-1]["rate"]
    if shutil.which("tshark"):
        seconds = _run("tshark", "-n", "-q", "-z", "conv,tcp", "-r", str(path))
        rows.append(_row("tshark -z conv,tcp", PACKETS, seconds, rate))
    flows = [sys.executable, "-m", "pcapd.ctl", "flows"]
    rows.append(_row("flows", PACKETS, _run(*flows, str(path)), rate))
    seconds = _run(*flows, str(short), PCAPD_PURE="1")
    rows.append(_row("flows in plain Python", PACKETS_PURE, seconds, rate))
    return rows
