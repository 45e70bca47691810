"""The readers that every file of ours must satisfy, and packets to put into one."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

#: What tshark, and what tcpdump, says to stderr about a file that is in order.
HARMLESS = ("Running as user ", "reading from file ")


def run(*command: str) -> str:
    """Standard output of a reader that must succeed and must not complain."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if not line.startswith(HARMLESS)]
    assert complaints == [], f"{command[0]} complains"
    assert done.returncode == 0
    return done.stdout


def fields(path: Path, *names: str) -> list[list[str]]:
    """Per packet the values of some of tshark's fields; addresses by name where the file knows it."""
    flags = [flag for name in names for flag in ("-e", name)]
    out = run("tshark", "-r", str(path), "-N", "n", "-T", "fields", *flags)
    return [line.split("\t") for line in out.splitlines()]


def blocks_of(path: Path) -> str:
    """All blocks of a pcapng file as tshark takes them apart."""
    return run("tshark", "-r", str(path), "-X", "read_format:MIME Files Format", "-V")


def datagram(source: str = "10.0.0.1", destination: str = "10.0.0.2") -> bytes:
    """An empty UDP datagram in an Ethernet frame, 42 bytes."""
    addresses = b"".join(bytes(map(int, address.split("."))) for address in (source, destination))
    header = struct.pack(">BBHHHBBH", 0x45, 0, 28, 1, 0, 64, 17, 0) + addresses
    return bytes(12) + b"\x08\x00" + header + struct.pack(">4H", 1000, 2000, 8, 0)


def record(us: int, data: bytes, original: int) -> bytes:
    """One record of pcapd.records."""
    return struct.pack("<4I", us // 1_000_000, us % 1_000_000, len(data), original) + data
