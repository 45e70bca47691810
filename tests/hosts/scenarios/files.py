"""Captures that are made into others: with other clocks, with losses, with names."""

from __future__ import annotations

import heapq
import struct
from pathlib import Path
from typing import Iterator

from pcapd.savefile import blocks

Packet = tuple[int, bytes]


def read(file: Path) -> Iterator[Packet]:
    """The packets of tcpdump's file."""
    data = file.read_bytes()
    at = 24
    while at + 16 <= len(data):
        seconds, micros, captured, _ = struct.unpack_from("<IIII", data, at)
        yield seconds * 1_000_000 + micros, data[at + 16 : at + 16 + captured]
        at += 16 + captured


def write(file: Path, packets: list[Packet]) -> None:
    """Replace the packets of tcpdump's file."""
    head = file.read_bytes()[:24]
    records = (
        struct.pack("<IIII", *divmod(us, 1_000_000), len(data), len(data)) + data for us, data in packets
    )
    file.write_bytes(head + b"".join(records))


def shift(file: Path, offset_us: int, drift: float) -> None:
    """Let the clock be ahead, and go too fast."""
    data = bytearray(file.read_bytes())
    start = next(read(file), (0, b""))[0]
    at = 24
    while at + 16 <= len(data):
        seconds, micros, captured, _ = struct.unpack_from("<IIII", data, at)
        us = seconds * 1_000_000 + micros
        us += offset_us + round(drift * (us - start))
        struct.pack_into("<II", data, at, *divmod(us, 1_000_000))
        at += 16 + captured
    file.write_bytes(data)


def named(sources: list[tuple[str, Path]], to: Path, *, lose: float = 0.0, draw: object = None) -> None:
    """One pcapng file as ours, in time order.

    Args:
        sources: Names and files.
        lose: Share of the packets of the last one that the capture itself loses, in bursts, and says so.
        draw: A `random.Random`.
    """
    out = [blocks.section_header("scenario")]
    out += [blocks.interface_description(name, 1, 65535) for name, _ in sources]
    streams = [[(us, index, data) for us, data in read(file)] for index, (_, file) in enumerate(sources)]
    lost = dict.fromkeys(range(len(sources)), 0)
    gone = 0
    drops = 0
    for us, index, data in heapq.merge(*streams):
        if lose and index == len(sources) - 1:
            if not drops and draw.random() < lose / 5:  # type: ignore[attr-defined]
                drops = 5
            if drops:
                drops -= 1
                gone += 1
                lost[index] += 1
                continue
        before, gone = (gone, 0) if index == len(sources) - 1 else (0, gone)
        out.append(blocks.enhanced_packet(index, us, len(data), data, drops=before))
    last = max((stream[-1][0] for stream in streams if stream), default=0)
    for index in lost:
        out.append(blocks.interface_statistics(index, last, last, last, 0, 0, lost[index], 0))
    to.write_bytes(b"".join(out))
