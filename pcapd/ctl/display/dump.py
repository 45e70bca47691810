"""A packet's bytes after its link header, as ``tcpdump -A`` and ``tcpdump -X`` print them."""

from __future__ import annotations

import re

from pcapd.packet.headers import walk

__all__ = ["as_hex", "as_text"]

_PER_LINE = 16  # bytes
_HEX_WIDTH = 40  # columns of a line's digits
_RETURNS = re.compile(rb"\r(?=\n|\Z)")  # at the end of a line
_NO_TEXT = re.compile(rb"[^\x21-\x7e\t \n]")
_NO_GRAPH = re.compile(rb"[^\x21-\x7e]")


def as_text(link_type: int, data: bytes) -> str:
    """The bytes as text, with dots for unprintable ones."""
    text = _RETURNS.sub(b"", _behind_link(link_type, data))
    return _NO_TEXT.sub(b".", text).decode("ascii")


def as_hex(link_type: int, data: bytes) -> str:
    """Lines of sixteen bytes: offset, hexadecimal digits, and text."""
    data = _behind_link(link_type, data)
    return "\n".join(_line(data, begin) for begin in range(0, len(data), _PER_LINE))


def _line(data: bytes, begin: int) -> str:
    part = data[begin : begin + _PER_LINE]
    digits = "".join(f" {part[at : at + 2].hex()}" for at in range(0, len(part), 2))
    return f"\t0x{begin:04x}: {digits:<{_HEX_WIDTH}}  {_NO_GRAPH.sub(b'.', part).decode('ascii')}"


def _behind_link(link_type: int, data: bytes) -> bytes:
    return data[max(0, walk(link_type, data).network) :]
