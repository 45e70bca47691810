"""Stands in place of ssh, and behaves as the name of its host says: ``--ssh "python far_side.py"``.

Without a behaviour of that name, it is an honest host with tcpdump.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from typing import Callable, Dict, Iterator

__all__ = ["PACKETS", "Host"]

#: Packets that an honest host captures at once.
PACKETS = 3
_MARK = "@pcapctl"


class Host:
    """An honest host; the others differ in one thing."""

    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    device = "eth0"
    counters = (PACKETS, PACKETS, 0)
    before = staticmethod(lambda: None)
    after = staticmethod(lambda: None)

    def say(self, *words: str) -> None:
        """One line of the scripts."""
        err(f"{_MARK} {' '.join(words)}\n".encode())

    def packets(self) -> bytes:
        """The packets."""
        return packet(60) * PACKETS

    def now(self) -> str:
        """The time, as ``date +%s.%N``."""
        return f"{time.time():.9f}"

    def run(self) -> None:
        """From the login to the end of the capture."""
        self.before()
        self.say("hello", "22")
        self.say("tool", "direct", "Linux", "/usr/bin/tcpdump", "4.99.3", self.device)
        for line in self.lines():
            if line == "go":
                out(f"{_MARK}\n".encode() + self.header + self.packets())
                self.after()
            if line == "stop":
                break
        captured, received, dropped = self.counters
        err(f"{captured} packets captured\n{received} packets received by filter\n".encode())
        err(f"{dropped} packets dropped by kernel\n".encode())
        self.say("end", "0")

    def lines(self) -> Iterator[str]:
        """What is told, until the input ends; questions for the time are answered."""
        for line in sys.stdin:
            word, *rest = line.split()
            if word == "t":
                self.say("time", *rest, self.now())
            yield word


def packet(captured: int, length: int = 0) -> bytes:
    """A packet of now."""
    seconds, micros = divmod(time.time_ns() // 1000, 1_000_000)
    return struct.pack("<IIII", seconds, micros, captured, length or captured) + bytes(captured)


def out(data: bytes) -> None:
    """Write to stdout."""
    _write(1, data)


def err(data: bytes) -> None:
    """Write to stderr."""
    _write(2, data)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def endless(write: Callable[[bytes], None], text: bytes) -> Callable[[], None]:
    """Write without end, by itself."""
    piece = text * (65536 // len(text))

    def begin() -> None:
        if not os.fork():
            while True:
                write(piece)

    return begin


def forged() -> None:
    """Lines that look like the scripts'."""
    for line in ("", "tool", "tool a b c d e f", "time", "time - x", "time - -1", "hello", "hello 99999999"):
        err(f"{_MARK} {line}\n".encode())
    err(f"{_MARK}end\n  {_MARK} \x1b[2J\n{_MARK} go go\n".encode() + b"\xff\xfe\x00 packets captured\n")


def changed(**attributes: object) -> Host:
    """A host with other attributes."""
    host = Host()
    for name, value in attributes.items():
        setattr(host, name, value)
    return host


HOSTS: Dict[str, Host] = {
    "garbage": changed(header=b"\x00\x01\x02 Last login: never\r\n" * 10),
    "pcapng": changed(header=struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)),
    "above-the-header": changed(packets=lambda: packet(65536)),
    "above-all": changed(
        header=struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 2**31, 1), packets=lambda: packet(262145)
    ),
    "longer-than-its-packet": changed(packets=lambda: packet(60, 59)),
    "long-name": changed(device="e" * 300),
    "odd-name": changed(device="eth\x1b[2J"),
    "early": changed(before=lambda: out(f"{_MARK}\n".encode() + Host.header + packet(60))),
    "greeting": changed(before=endless(out, b"welcome\n")),
    "greeting-late": changed(header=b"", packets=lambda: b"", after=endless(out, b"x")),
    "chatter": changed(after=endless(err, b"warning: \x1b[31m something\n")),
    "one-line": changed(after=endless(err, b"x")),
    "forged": changed(before=forged, after=forged),
    "fewer": changed(counters=(1, 1, 0)),
    "many": changed(counters=(PACKETS, PACKETS, 10**18 - 1)),
    "too-many": changed(counters=(PACKETS, PACKETS, 10**30)),
    "future": changed(now=lambda: "999999999999.999999999"),
}


if __name__ == "__main__":
    HOSTS.get(sys.argv[-2], Host()).run()
