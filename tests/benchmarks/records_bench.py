"""Nanoseconds per packet of pcapd.records and pcapd.merge, compiled and reference: prints a table.

    python tests/benchmarks/records_bench.py [--seconds 0.5]

Every figure is the best of several rounds, warm caches, one core.
"""

from __future__ import annotations

import argparse
import contextlib
import struct
import time
from importlib import import_module
from typing import Any, Callable, Optional

from pcapd.limits import BATCH_PACKETS, FRAME_TYPICAL, SNAPLEN_MAX
from pcapd.merge import Source
from pcapd.records import _savefile
from pcapd.savefile.form import Form

#: Per call: what one wake-up of an agent brings.  Outputs of half a megabyte and
#: more measure the page faults of malloc instead.
PACKETS = BATCH_PACKETS
UNLIMITED = 2**62
ETHERNET = 1
#: Ethernet, IPv4, TCP with timestamps.
HEADERS = bytes.fromhex("000000000000000000000000 0800 45000000000000004006000000000000000000000000"
                        "0000000000000000000080000000000000000101080a0000000000000000")  # fmt: skip


def batch(size: int, first: int, step: int, packets: int = PACKETS, order: str = "<") -> bytes:
    """Records of ``size`` bytes, ``step`` microseconds apart."""
    return b"".join(
        struct.pack(f"{order}4I", us // 1_000_000, us % 1_000_000, size, size) + bytes(size)
        for us in range(first, first + packets * step, step)
    )


def cases(records: Any, merging: Any, size: int) -> dict[str, tuple[int, Callable[[], object]]]:
    """What is measured: its packets per call, and the call."""
    packets = bytes(size * PACKETS)
    meta = b"".join(struct.pack("=4I", 1, n, n * size, size) for n in range(PACKETS))
    headed = (HEADERS + bytes(size - len(HEADERS))) * PACKETS
    with_headers = b"".join(
        struct.pack("<4I", 1, number, size, size) + HEADERS + bytes(size - len(HEADERS))
        for number in range(PACKETS)
    )
    # The reference of this function is in a module of its own.
    from_savefile = getattr(records, "from_savefile", _savefile.from_savefile)
    bounds = {"max_captured": SNAPLEN_MAX, "limit": UNLIMITED}
    ours = {"big_endian": False, "nanoseconds": False, **bounds}
    foreign = {"big_endian": True, "nanoseconds": True, **bounds}
    of_others = batch(size, 10**9, 2, order=">")
    one, other = batch(size, 10**9, 2), batch(size, 10**9 + 1, 2)
    many = [Source(n, [batch(size, 10**9 + n, 7, PACKETS // 16)]) for n in range(16)]
    both = [Source(0, [one]), Source(1, [other])]

    def merge(sources: list[Source], until_us: int = UNLIMITED) -> Callable[[], object]:
        return lambda: merging.merge(sources, until_us, 0, Form.PCAPNG, UNLIMITED, UNLIMITED)

    return {
        "pack": (PACKETS, lambda: records.pack(packets, meta, SNAPLEN_MAX, FRAME_TYPICAL)),
        "pack headers": (PACKETS, lambda: records.pack(headed, meta, SNAPLEN_MAX, FRAME_TYPICAL, ETHERNET)),
        "savefile": (PACKETS, lambda: from_savefile(one, **ours)),
        "savefile headers": (PACKETS, lambda: from_savefile(with_headers, **ours, headers_of=ETHERNET)),
        "savefile foreign": (PACKETS, lambda: from_savefile(of_others, **foreign)),
        "copy": (PACKETS, lambda: bytes(memoryview(one))),
        "check": (PACKETS, lambda: records.check(one, SNAPLEN_MAX)),
        "rows": (PACKETS, lambda: records.rows(with_headers, ETHERNET, 0)),
        "merge 1 pcapng": (PACKETS, merge([Source(0, [one])])),
        "merge 2 pcapng": (2 * PACKETS, merge(both)),
        "merge 2 half due": (2 * PACKETS, merge(both, 10**9 + PACKETS)),
        "merge 16 pcapng": (PACKETS, merge(many)),
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
    parser = argparse.ArgumentParser(description="ns per packet of pcapd.records and pcapd.merge")
    parser.add_argument("--seconds", type=float, default=0.5, help="per figure")
    seconds = parser.parse_args(argv).seconds
    present = {}
    for name in ("native", "reference"):
        with contextlib.suppress(ImportError):
            present[name] = [import_module(f"pcapd.{package}._{name}") for package in ("records", "merge")]
    print(f"{'ns/packet':18}{'bytes':>7}" + "".join(f"{name:>12}" for name in present))
    for size in (100, 1400):
        measured = {name: cases(*modules, size) for name, modules in present.items()}
        for case in next(iter(measured.values())):
            figures = (best_ns(calls[case][1], calls[case][0], seconds) for calls in measured.values())
            print(f"{case:18}{size:7}" + "".join(f"{figure:12.1f}" for figure in figures))


if __name__ == "__main__":
    main()
