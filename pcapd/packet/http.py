"""Reads the first line of an HTTP/1 message (RFC 9112), as far as it is in one packet."""

from __future__ import annotations

from typing import Final, Optional

__all__ = ["first_line"]

_METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH")


def first_line(content: bytes) -> Optional[bytes]:
    """The request line or status line with which a payload begins; None for other payloads."""
    response = content.startswith(b"HTTP/1.")
    if not response and content.split(b" ", 1)[0] not in _METHODS:
        return None
    line = content.split(b"\n", 1)[0].rstrip(b"\r")
    if not response and b" HTTP/" not in line and len(line) < len(content):
        return None
    return line
