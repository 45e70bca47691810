"""TCP segments between two hosts, and the tables that follow their conversations."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, List, Tuple

from pcapd.analysis import _conversations

RAW = 101
#: Microseconds since the epoch of the first packet of a file.
START = 1_700_000_000_000_000
Packet = Tuple[int, bytes]
FIN, SYN, RST, ACK = 1, 2, 4, 16
CLIENT, SERVER = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])


def tables() -> List[Any]:
    """Those that are built."""
    found: List[Any] = [_conversations.ConversationTable]
    try:
        from pcapd.analysis import _native

        found.append(_native.ConversationTable)
    except ImportError:
        pass
    return found


def ipv4(source: bytes, destination: bytes, protocol: int, payload: bytes, number: int) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), number & 0xFFFF, 0x4000, 64, protocol, 0)
    return head + source + destination + payload


def tcp(
    ports: Tuple[int, int],
    seq: int,
    ack: int,
    flags: int,
    data: bytes = b"",
    window: int = 500,
    options: bytes = b"",
) -> bytes:
    size = 20 + len(options)
    fixed = struct.pack(
        "!HHIIBBHHH", *ports, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, size << 2, flags, window, 0, 0
    )
    return fixed + options + data


def pcap(path: Path, packets: List[Packet], order: str = "<", fine: int = 1) -> str:
    """A file of tcpdump's, of raw IP packets."""
    magic = 0xA1B2C3D4 if fine == 1 else 0xA1B23C4D
    content = bytearray(struct.pack(f"{order}IHHIIII", magic, 2, 4, 0, 0, 65535, RAW))
    for us, data in packets:
        seconds, part = divmod(START + us, 1_000_000)
        content += struct.pack(f"{order}IIII", seconds, part * fine, len(data), len(data)) + data
    path.write_bytes(content)
    return str(path)
