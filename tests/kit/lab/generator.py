"""Numbered, time-stamped UDP packets at a chosen rate, from `generator.c`.

The packets go to an address and a MAC of the link that nobody has, so that the
other host's kernel shows them to its captures and drops them right behind: no
socket, no ICMP error, the cheapest sink there is.  A capture need not be
promiscuous to see them::

    with Generator(link, size=100, rate=50_000, seconds=5) as generator:
        ...
        report = generator.wait()
    assert captured == report.sent
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Optional

from demo.namespaces import Link
from demo.processes import COMMAND_TIMEOUT, CommandFailed, end, run

SOURCE = Path(__file__).with_suffix(".c")

#: Of nobody: not the MAC of any interface here.
NOBODY_MAC = "02:00:00:00:00:99"

#: UDP port that all its packets go to; what a filter names to see only them.
PORT = 9999
FILTER = f"udp dst port {PORT}"

_STAMP = struct.Struct("!QQ")
#: Ethernet, IPv4 and UDP before the stamp.
_HEADERS = 14 + 20 + 8


class Stamp(NamedTuple):
    """What a generated packet carries: its number from 0, and when it was sent (ns since the epoch)."""

    number: int
    time: int


def stamp(packet: bytes) -> Stamp:
    """Read the stamp of a captured packet (Ethernet, at least 58 bytes of it)."""
    return Stamp(*_STAMP.unpack_from(packet, _HEADERS))


@dataclass(frozen=True)
class Report:
    """What one run did.

    Attributes:
        sent: Packets that the kernel took.
        seconds: It took to send them.
        errors: Calls that the kernel refused; their packets were sent again.
        late: Times that the schedule slipped by more than 20 ms and was given up.
    """

    sent: int
    seconds: float
    errors: int
    late: int

    @property
    def rate(self) -> float:
        """Packets per second."""
        return self.sent / self.seconds if self.seconds else 0.0


class Generator:
    """One run of the generator, from the left host of a link to nobody at its right.

    Starts on entering; leaving ends it if it still runs.

    Args:
        link: Where to.  Captures on either end see the packets.
        size: Bytes of each packet on the wire, Ethernet header included.
        rate: Packets per second; 0 is as fast as possible.
        seconds: To run for; 0 is until `stop`, or until ``count``.
        count: Packets to send; 0 is no such limit.
    """

    def __init__(
        self, link: Link, *, size: int = 100, rate: int = 0, seconds: float = 0.0, count: int = 0
    ) -> None:
        self.link = link
        route = (link.left.device, link.left.ipv4, link.nobody, NOBODY_MAC, PORT)
        self._arguments = [str(argument) for argument in (*route, size, rate, seconds, count)]
        self._longest = seconds + COMMAND_TIMEOUT
        self._process: Optional[subprocess.Popen[Any]] = None

    def start(self) -> None:
        """Start sending."""
        self._process = self.link.left.namespace.popen(
            str(build()), *self._arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait(self) -> Report:
        """Wait for its own end."""
        assert self._process is not None, "not started"
        output, complaint = self._process.communicate(timeout=self._longest)
        if self._process.returncode != 0:
            raise CommandFailed(complaint.strip())
        return Report(**json.loads(output))

    def stop(self) -> Report:
        """Make it stop now."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self) -> Generator:
        self.start()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if self._process is not None:
            end(self._process)


def build() -> Path:
    """Compile the generator unless this very source has been compiled before; returns the program."""
    return compiled(SOURCE)


def compiled(source: Path, *flags: str) -> Path:
    """Compile a C file unless this very source has been compiled before; returns what came out."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    # By user, not only by content: what root runs must have been made by root.
    cache = Path(tempfile.gettempdir(), f"pcapd-lab-{os.getuid()}")
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        raise CommandFailed(f"{cache} belongs to somebody else")
    program = cache / f"{source.stem}-{digest}"
    if not program.exists():
        # Renamed when complete: another process may be building the same.
        draft = program.with_suffix(f".{os.getpid()}")
        compiler = shlex.split(os.environ.get("CC", "cc"))
        run([*compiler, "-O2", "-Wall", "-Wextra", *flags, "-o", str(draft), str(source)])
        draft.replace(program)
    return program
