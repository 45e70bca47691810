"""``explain``: what it finds in the scenarios, and how fast it is.

``tshark -q -z expert`` reads the same packets in the same run, where it is installed.
With ``PCAPD_BENCH_LARGE=1`` the file for the memory has 10 million packets (1.2 GB).
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pcapd.savefile import pcap
from tests.benchmarks.matching import _packets, _run
from tests.hosts.scenarios.plays import PLAYS
from tests.hosts.scenarios.running import perform

#: Packets of a file, and without the compiled modules.
PACKETS = 1_000_000
PACKETS_PURE = 60_000
#: Packets of the large file for the memory, and connections of both.
PACKETS_LARGE = 10_000_000
CONNECTIONS = 100_000
_PAYLOAD = 46
_FRAME = 54 + _PAYLOAD
_RECORD = 16
_SERVER = bytes((10, 128, 0, 1))
#: microseconds between two packets of a connection.
_ROUND_US = 2_000_000
#: Prints the peak of the memory in KiB; getrusage would count that of the process that started it.
_PEAK = """
import re
from pcapd.ctl.display.explain import explain
explain([{names}])
print(re.search("VmHWM: *([0-9]+)", open("/proc/self/status").read().replace("\\t", " ")).group(1))
"""


def measure() -> list[dict[str, Any]]:
    """The scenarios, twice, the speed, and the memory."""
    return [*_scenarios(), *_speed(), *_memory()]


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
    """Packets per second of processor time, and what `tshark` needs for the same file."""
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for count, pure in ((PACKETS, False), (PACKETS_PURE, True)):
            file = Path(directory, f"{count}.pcap")
            file.write_bytes(pcap.file_header(1, 65535) + _packets(0, 0, count))
            rate = count / _seconds(file, pure=pure)
            name = "plain Python" if pure else "compiled"
            text = f"explain, {name}: {rate / 1000:.0f} kpps"
            if shutil.which("tshark"):
                expert = count / _run("tshark", "-q", "-z", "expert", "-r", str(file))
                text += (
                    f", {rate / expert:.1f} times as fast as tshark -q -z expert ({expert / 1000:.0f} kpps)"
                )
            rows.append({"text": text, "kpps": rate / 1000})
    return rows


def _memory() -> list[dict[str, Any]]:
    """The most memory that `explain` takes for many connections that are open at the same time."""
    packets = PACKETS_LARGE if os.environ.get("PCAPD_BENCH_LARGE") else PACKETS
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for places in (1, 2):
            files = [Path(directory, f"{place}.pcap") for place in range(places)]
            for place, file in enumerate(files):
                _write_connections(file, place, packets // places)
            names = ", ".join(map(repr, map(str, files)))
            done = subprocess.run(
                [sys.executable, "-c", _PEAK.format(names=names)], capture_output=True, text=True, check=True
            )
            peak = int(done.stdout) / 1024
            where = "one place" if places == 1 else "two places"
            text = f"explain, {packets:,} packets, {CONNECTIONS:,} connections at {where}: {peak:.0f} MiB"
            rows.append({"text": text, "mib": peak})
    return rows


def _write_connections(file: Path, place: int, packets: int) -> None:
    """A round of packets of all connections is made once, and its times and numbers are changed for the next."""
    size = _RECORD + _FRAME
    with file.open("wb") as out:
        out.write(pcap.file_header(1, 65535))
        for number in range(packets // CONNECTIONS):
            block = bytearray(_round(number, place))
            us = 1_700_000_000_000_000 + number * _ROUND_US + (137 if number % 2 == 0 else -137) * place
            for index in range(CONNECTIONS):
                seconds, micros = divmod(us + index * _ROUND_US // CONNECTIONS, 1_000_000)
                struct.pack_into("<II", block, index * size, seconds, micros)
            out.write(block)


def _round(number: int, place: int) -> bytes:
    """A packet of every connection, from the client in even rounds and else from the server."""
    sent, received = 1000 + _PAYLOAD * ((number + 1) // 2), 5000 + _PAYLOAD * (number // 2)
    up = number % 2 == 0
    seq, ack = (sent, received) if up else (received, sent)
    records = []
    for index in range(CONNECTIONS):
        client = bytes((10, 0, 0, 1 + index // 50_000))
        ports = (10_000 + index % 50_000, 443) if up else (443, 10_000 + index % 50_000)
        ends = client + _SERVER if up else _SERVER + client
        ip = struct.pack("!BBHHHBBH", 0x45, 0, _FRAME - 14, number, 0, 64 - place, 6, 0) + ends
        tcp = struct.pack("!HHIIBBHHH", *ports, seq, ack, 80, 16, 500, 0, 0)
        head = struct.pack("<IIII", 0, 0, _FRAME, _FRAME)
        records.append(head + bytes(12) + b"\x08\x00" + ip + tcp + bytes(_PAYLOAD))
    return b"".join(records)


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
