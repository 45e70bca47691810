"""Captures in network namespaces, without an agent around them."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, TypeVar

from demo.namespaces import Namespace
from pcapd.capture.compiling import FilterCompiler
from pcapd.capture.namespaces import enter
from pcapd.capture.source import CaptureSource, Filter, open_source
from pcapd.limits import BATCH_PACKETS, RING_BYTES, RING_LAG
from pcapd.records import pack
from tests.kit.lab import generator

T = TypeVar("T")

HERE = Path("/proc/self/ns/net")

#: Smaller than libpcap makes it anyway: the ring gets its least size.
TINY_RING = 4096


def inside(namespace: Namespace, function: Callable[[], T]) -> T:
    """Run a function in a namespace, on a thread of its own as the agent does."""
    results: list[Any] = []

    def run() -> None:
        try:
            enter(str(namespace.path))
            results.append(function())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


class Capture:
    """A source in a namespace, and what was read from it."""

    def __init__(
        self, namespace: Namespace, device: str = "eth0", *, start: bool = True, **options: Any
    ) -> None:
        wanted = Filter(
            options.pop("filter_text", generator.FILTER), options.pop("own", ()), options.pop("never", ())
        )
        settings = {
            "snaplen": 262144,
            "ring_bytes": RING_BYTES,
            "promiscuous": False,
            "compiler": FilterCompiler(),
            "asker": SimpleNamespace(user="alice", gone=False),
            **options,
        }
        self.source: CaptureSource = inside(namespace, lambda: open_source(device, wanted, **settings))
        if start:
            self.source.start()
        self.packets: list[bytes] = []

    def read(self) -> int:
        """Read until the ring is empty; returns how many packets there were."""
        before = len(self.packets)
        while True:
            data, meta = self.source.read(BATCH_PACKETS)
            if not meta:
                return len(self.packets) - before
            for payload in pack(data, meta, self.source.snaplen, 262144):
                self.packets += _records(payload)

    def stop(self) -> None:
        """Let nothing more in and read what is there, as a drain does."""
        self.source.stop()
        deadline = time.monotonic() + 2 * RING_LAG
        while self.read() or time.monotonic() < deadline:
            time.sleep(RING_LAG / 10)

    def read_for(self, seconds: float) -> None:
        """Read for a while without stopping."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.read()
            time.sleep(0.005)

    @property
    def ports(self) -> set[int]:
        """TCP ports of the packets, of both ends; they are Ethernet and IPv4 without options."""
        return {int.from_bytes(packet[at : at + 2], "big") for packet in self.packets for at in (34, 36)}

    @property
    def numbers(self) -> list[int]:
        """Of the generated packets, in the order in which they were read."""
        return [generator.stamp(packet).number for packet in self.packets]

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()


def _records(payload: bytes) -> list[bytes]:
    packets, at = [], 0
    while at < len(payload):
        end = at + 16 + int.from_bytes(payload[at + 8 : at + 12], "little")
        packets.append(payload[at + 16 : end])
        at = end
    return packets


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
