"""pcapctl alone: packets per second from a socket to a file, with the compiled module and without.

An api that is played in this process sends prepared PACKETS frames over TLS, as fast
as they are taken.  Their timestamps go on as those of a capture do, so that pcapctl
has the work of every ordered capture: check, merge, write.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from demo.certificates import Authority
from demo.configurations import LOCAL
from demo.daemons import environment
from demo.processes import run, usage, wait_until
from pcapd.limits import FRAME_TYPICAL
from pcapd.records import HEADER_SIZE
from pcapd.wire import Counters, End, EndReason, Stats
from tests.kit.doubles.stream_api import Client, StreamApi

__all__ = ["measure"]

_MICROS = 1_000_000
#: Frames of one second of made-up time.
_FRAMES = 64
_WEBSOCKET_BINARY = 0x82
_WEBSOCKET_LENGTH_64 = 127


class _Second:
    """Frames whose packets are evenly spread over one second, as bytes for the socket.

    Args:
        client: Encodes them.
        size: Bytes of a packet.
        sources: Whose packets they are, in turn.
    """

    def __init__(self, client: Client, size: int, sources: int) -> None:
        record = HEADER_SIZE + size
        per_frame = FRAME_TYPICAL // record
        self.packets = per_frame * _FRAMES
        self._record = record
        self._frames: list[tuple[int, bytearray]] = []
        for index in range(_FRAMES):
            payload = b"".join(
                struct.pack("<4I", 0, number * _MICROS // self.packets, size, size) + bytes(size)
                for number in range(index * per_frame, (index + 1) * per_frame)
            )
            frame = b"".join(map(bytes, client.callee.packets(1 + index % sources, payload)))
            head = struct.pack("!BBQ", _WEBSOCKET_BINARY, _WEBSOCKET_LENGTH_64, len(frame))
            self._frames.append((len(head) + len(frame) - len(payload), bytearray(head + frame)))

    def send(self, client: Client, second: int) -> None:
        """Send all of them as packets of that second since the epoch."""
        stamp = struct.pack("<I", second)
        for begin, frame in self._frames:
            count = (len(frame) - begin) // self._record
            for byte in range(4):  # at once for all records, not one by one
                frame[begin + byte :: self._record] = stamp[byte : byte + 1] * count
            client.raw(bytes(frame))


def measure(
    size: int,
    seconds: float,
    *,
    pure: bool,
    sources: int = 2,
    ordered: bool = True,
    python: str = sys.executable,
) -> dict[str, Any]:
    """One run.

    Args:
        size: Bytes of a packet.
        seconds: How long packets are sent.
        pure: Without the compiled module.
        sources: Whose packets are merged.
        ordered: In time order.
        python: The interpreter that runs pcapctl.
    """
    with tempfile.TemporaryDirectory() as directory:
        credentials = Authority(Path(directory)).issue("api", ips=(LOCAL,))
        played: list[tuple[int, float]] = []
        cpu: list[float] = []
        process: list[subprocess.Popen[str]] = []

        def script(client: Client) -> None:
            client.greet()
            for number in range(1, sources + 1):
                client.open(number, f"web-{number}")
            second = _Second(client, size, sources)
            wait_until(lambda: bool(process), "pcapctl runs")
            before, began = usage(process[0].pid).cpu, time.perf_counter()
            stamp = sent = 0
            while time.perf_counter() - began < seconds:
                stamp += 1
                second.send(client, stamp)
                sent += second.packets
            _end(client, stamp, sent, sources)
            # The counters of the end are read behind the last packet.
            client.wait()
            played.append((sent, time.perf_counter() - began))
            cpu.append(usage(process[0].pid).cpu - before)

        with StreamApi(credentials, script) as api:
            argv = [python, "-m", "pcapd.ctl", "hosts", "web-1", "--api", api.url, "--json"]
            argv += [
                "--ca",
                str(credentials.ca),
                "--output",
                "/dev/null",
                "--order" if ordered else "--no-order",
            ]
            env = environment(PCAP_TOKEN="x", **({"PCAPD_PURE": "1"} if pure else {}))
            ask = [python, "-c", "from pcapd import records; print(records.IMPLEMENTATION)"]
            records = run(ask, env=env).stdout.strip()
            process.append(subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True))
            out, _ = process[0].communicate()
        assert not api.failures, api.failures
    return _row(size, json.loads(out.splitlines()[-1]), played[0], cpu[0], records=records, ordered=ordered)


def _end(client: Client, stamp: int, sent: int, sources: int) -> None:
    each = sent // sources
    counters = tuple(Counters(number, each, 0, 0, each) for number in range(1, sources + 1))
    for number in range(1, sources + 1):
        stats = Stats(each, 0, 0, each, (stamp + 1) * _MICROS, final=True)
        client.say(client.callee.stats(number, stats))
    client.say(client.callee.end(End(EndReason.DURATION, "", counters)))


def _row(
    size: int, end: dict[str, Any], played: tuple[int, float], cpu: float, *, records: str, ordered: bool
) -> dict[str, Any]:
    sent, seconds = played
    late = sum(source["late"] for source in end["sources"])
    if (end["packets"], end["lost"], end["exit_status"], late) != (sent, 0, 0, 0):
        raise AssertionError(f"{sent} packets were sent, and the report says {end}")
    mode = "ordered" if ordered else "unordered"
    return {
        "what": "client",
        "size": size,
        "records": records,
        "ordered": ordered,
        "packets": sent,
        "rate": sent / seconds,
        "ns_per_packet": 1e9 * cpu / sent,
        "text": (
            f"client alone, {size} B, {mode}, records {records}: {sent / seconds / 1000:.0f} kpps, "
            f"{1e9 * cpu / sent:.0f} ns of CPU per packet ({sent} packets)"
        ),
    }
