"""Reads the first TLS record of a payload (RFC 8446), as far as it is in one packet."""

from __future__ import annotations

from typing import Final, NamedTuple, Optional

from pcapd.packet.cursor import Cursor, CutShort

__all__ = ["Record", "read_record"]

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_TYPES: Final = {20: "change cipher spec", 21: "alert", _HANDSHAKE: "handshake", 23: "application data"}
_HANDSHAKES: Final = {_CLIENT_HELLO: "ClientHello", 2: "ServerHello", 11: "Certificate"}


class Record(NamedTuple):
    """A TLS record.

    Attributes:
        kind: The type of the record, or of the handshake message with which it begins.
        server_name: A ClientHello's server name (RFC 6066); empty if it is not in this packet.
    """

    kind: str
    server_name: bytes = b""


def read_record(content: bytes) -> Optional[Record]:
    """Read the TLS record with which a payload begins; None if it does not look like one."""
    if len(content) < 6 or content[0] not in _TYPES or content[1] != 3 or content[2] > 4:
        return None
    if content[0] != _HANDSHAKE:
        return Record(_TYPES[content[0]])
    kind = _HANDSHAKES.get(content[5], _TYPES[_HANDSHAKE])
    return Record(kind, _server_name(content) if content[5] == _CLIENT_HELLO else b"")


def _server_name(content: bytes) -> bytes:
    hello = Cursor(content, 9)
    try:
        hello.take(2 + 32)
        hello.take(hello.number(1))  # skip the session id
        hello.take(hello.number(2))  # skip the cipher suites
        hello.take(hello.number(1))  # skip the compression methods
        hello.take(2)
        while True:
            extension, size = hello.number(2), hello.number(2)
            if extension == 0:
                hello.take(3)
                return hello.take(hello.number(2))
            hello.take(size)
    except CutShort:
        return b""
