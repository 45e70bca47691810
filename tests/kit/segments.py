"""TCP segments between two hosts, and the tables that follow their conversations."""

from __future__ import annotations

import struct
from typing import Any, List, Tuple

from pcapd.analysis import _conversations

RAW = 101
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
