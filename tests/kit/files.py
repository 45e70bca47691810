"""Blocks of pcapng files of other programs, written out by the book."""

from __future__ import annotations

import struct


def section(order: str = "<") -> bytes:
    body = struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1)
    return struct.pack(f"{order}II", 0x0A0D0D0A, 28) + body + struct.pack(f"{order}I", 28)


def interface(order: str, name: bytes, options: bytes = b"") -> bytes:
    padded = name + bytes(-len(name) & 3)
    body = struct.pack(f"{order}HHIHH", 101, 0, 0, 2, len(name)) + padded + options + bytes(4)
    return struct.pack(f"{order}II", 1, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)


def block(order: str, number: int, time: int, data: bytes, options: bytes = b"") -> bytes:
    body = struct.pack(f"{order}5I", number, time >> 32, time & 0xFFFFFFFF, len(data), len(data))
    body += data + bytes(-len(data) & 3) + options
    return struct.pack(f"{order}II", 6, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)


def simple(order: str, data: bytes, length: int = -1) -> bytes:
    """A simple packet block."""
    body = struct.pack(f"{order}I", len(data) if length < 0 else length) + data + bytes(-len(data) & 3)
    return struct.pack(f"{order}II", 3, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)


def obsolete(order: str, number: int, drops: int, time: int, data: bytes) -> bytes:
    """An obsolete packet block."""
    body = struct.pack(f"{order}HH4I", number, drops, time >> 32, time & 0xFFFFFFFF, len(data), len(data))
    body += data + bytes(-len(data) & 3)
    return struct.pack(f"{order}II", 2, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)
