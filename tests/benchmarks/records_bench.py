"""Nanoseconds per packet of pcapd.records, compiled and reference: prints a table.

    python tests/benchmarks/records_bench.py [--seconds 0.5]

Every figure is the best of several rounds, warm caches, one core.
"""

from __future__ import annotations

import argparse
import struct
import time
from types import ModuleType
from typing import Callable, Optional

from pcapd.limits import BATCH_PACKETS, FRAME_TYPICAL, SNAPLEN_MAX
from pcapd.records import _reference
from pcapd.savefile.form import Form

try:
    from pcapd.records import _native
except ImportError:
    _native = None  # type: ignore[assignment]

#: Per call: what one wake-up of an agent brings.  Outputs of half a megabyte and
#: more measure the page faults of malloc instead.
PACKETS = BATCH_PACKETS
UNLIMITED = 2**62
ETHERNET = 1
#: Ethernet, IPv4, TCP with timestamps.
HEADERS = bytes.fromhex("000000000000000000000000 0800 45000000000000004006000000000000000000000000"
                        "0000000000000000000080000000000000000101080a0000000000000000")  # fmt: skip


def batch(size: int, first: int, step: int, packets: int = PACKETS) -> bytes:
    """Records of ``size`` bytes, ``step`` microseconds apart."""
    return b"".join(
        struct.pack("<4I", us // 1_000_000, us % 1_000_000, size, size) + bytes(size)
        for us in range(first, first + packets * step, step)
    )


def cases(module: ModuleType, size: int) -> dict[str, tuple[int, Callable[[], object]]]:
    """What is measured: its packets per call, and the call."""
    packets = bytes(size * PACKETS)
    meta = b"".join(struct.pack("=4I", 1, n, n * size, size) for n in range(PACKETS))
    headed = (HEADERS + bytes(size - len(HEADERS))) * PACKETS
    one, other = batch(size, 10**9, 2), batch(size, 10**9 + 1, 2)
    many = [(n, [batch(size, 10**9 + n, 7, PACKETS // 16)]) for n in range(16)]
    both = [(0, [one]), (1, [other])]
    return {
        "pack": (PACKETS, lambda: module.pack(packets, meta, SNAPLEN_MAX, FRAME_TYPICAL)),
        "pack headers": (PACKETS, lambda: module.pack(headed, meta, SNAPLEN_MAX, FRAME_TYPICAL, ETHERNET)),
        "check": (PACKETS, lambda: module.check(one, SNAPLEN_MAX)),
        "render pcapng": (PACKETS, lambda: module.render(one, 0, Form.PCAPNG, UNLIMITED, UNLIMITED)),
        "merge 1 pcapng": (
            PACKETS,
            lambda: module.merge([(0, [one])], UNLIMITED, 0, Form.PCAPNG, UNLIMITED, UNLIMITED),
        ),
        "merge 2 pcapng": (
            2 * PACKETS,
            lambda: module.merge(both, UNLIMITED, 0, Form.PCAPNG, UNLIMITED, UNLIMITED),
        ),
        "merge 2 half due": (
            2 * PACKETS,
            lambda: module.merge(both, 10**9 + PACKETS, 0, Form.PCAPNG, UNLIMITED, UNLIMITED),
        ),
        "merge 16 pcapng": (
            PACKETS,
            lambda: module.merge(many, UNLIMITED, 0, Form.PCAPNG, UNLIMITED, UNLIMITED),
        ),
    }


def best_ns(call: Callable[[], object], packets: int, seconds: float) -> float:
    """Best round's nanoseconds per packet."""
    end = time.perf_counter() + seconds
    best = float("inf")
    while True:
        begin = time.perf_counter_ns()
        call()
        best = min(best, (time.perf_counter_ns() - begin) / packets)
        if time.perf_counter() > end:
            return best


def main(argv: Optional[list[str]] = None) -> None:
    parser = argparse.ArgumentParser(description="ns per packet of pcapd.records")
    parser.add_argument("--seconds", type=float, default=0.5, help="per figure")
    seconds = parser.parse_args(argv).seconds
    modules = {"native": _native, "reference": _reference}
    present = {name: module for name, module in modules.items() if module is not None}
    print(f"{'ns/packet':18}{'bytes':>7}" + "".join(f"{name:>12}" for name in present))
    for size in (100, 1400):
        measured = {name: cases(module, size) for name, module in present.items()}
        for case in next(iter(measured.values())):
            figures = (best_ns(calls[case][1], calls[case][0], seconds) for calls in measured.values())
            print(f"{case:18}{size:7}" + "".join(f"{figure:12.1f}" for figure in figures))


if __name__ == "__main__":
    main()
