"""TLS handshakes (RFC 8446, RFC 5246): what was requested and chosen, and how they failed."""

from __future__ import annotations

import re
from typing import Dict, Final, Optional, Tuple

from pcapd.analysis.exchanges.streams import NEVER, Piece, Room, Stream
from pcapd.packet.cursor import Cursor, CutShort

__all__ = ["ALERTS", "SEALED_ALERT", "Tls", "looks_like"]

_CHANGE, _ALERT, _HANDSHAKE, _DATA = 20, 21, 22, 23
_CLIENT_HELLO, _SERVER_HELLO, _CERTIFICATE = 1, 2, 11
_SERVER_NAME, _ALPN, _VERSIONS = 0, 16, 43
#: bytes; the largest record, and the largest handshake message that is read (certificate chains).
_RECORD_MAX, _MESSAGE_MAX = 16384 + 2048, 64 * 1024
_VERSION_NAMES: Final = {
    0x0300: "SSL 3.0",
    0x0301: "TLS 1.0",
    0x0302: "TLS 1.1",
    0x0303: "TLS 1.2",
    0x0304: "TLS 1.3",
}
#: RFC 8446, section 6, and alerts of RFC 5246 that it dropped.
ALERTS: Final = {
    0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed",
    22: "record_overflow", 30: "decompression_failure", 40: "handshake_failure", 41: "no_certificate",
    42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied",
    50: "decode_error", 51: "decrypt_error", 70: "protocol_version", 71: "insufficient_security",
    80: "internal_error", 86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation",
    109: "missing_extension", 110: "unsupported_extension", 112: "unrecognized_name",
    113: "bad_certificate_status_response", 115: "unknown_psk_identity", 116: "certificate_required",
    120: "no_application_protocol",
}  # fmt: skip
_FATAL: Final = 2
#: bytes of an encrypted alert in TLS 1.3: the alert (2), its type (1) and the tag (16).
SEALED_ALERT: Final = 19
#: The validity of an X.509 certificate (RFC 5280): two times one after the other.
_VALIDITY: Final = re.compile(
    rb"\x30.(?:\x17\x0d(\d{12})Z|\x18\x0f(\d{14})Z)(?:\x17\x0d(\d{12})Z|\x18\x0f(\d{14})Z)", re.DOTALL
)


def looks_like(content: bytes) -> bool:
    """Whether a payload starts with a handshake record or an alert."""
    return len(content) >= 5 and content[0] in (_ALERT, _HANDSHAKE) and content[1] == 3 and content[2] <= 4


class Tls:
    """A connection at one place.

    Args:
        room: See `Stream`.

    Attributes:
        server_name, alpn: The name that the client requested, and the protocol that the server chose
            (if it is in clear).
        version: The version that the server chose; empty before.
        alert: The side that sent a fatal alert in clear, its name, time and packet.
        hello_us, answer_us: Times of the client's and the server's hello.
        client: The side that sent the first hello.
        encrypted: By side: whether it has started to send encrypted records.
        data: By side: whether it has sent application data after its part of the handshake.
        validity: The validity of the server's certificate, if it is in clear: two times as YYYYMMDDHHMMSS.
        first_data: By side: bytes of the first encrypted record; 19 bytes are an alert (TLS 1.3: the alert
            (2), its type (1) and the tag (16)), because no other message is as short.
    """

    __slots__ = (
        "alert", "alpn", "answer_us", "client", "data", "encrypted", "first_data", "hello_us", "room",
        "server_name", "validity", "version",
    )  # fmt: skip

    def __init__(self, room: Room) -> None:
        self.room = room
        self.server_name = self.alpn = self.version = ""
        self.alert: Optional[Tuple[int, str, int, int]] = None
        self.hello_us = self.answer_us = 0
        self.client: Optional[int] = None
        self.encrypted = [False, False]
        self.data = [False, False]
        self.first_data = [0, 0]
        self.validity: Optional[Tuple[str, str]] = None

    @property
    def calm(self) -> bool:
        """Whether the handshake succeeded, so that nothing is left to tell."""
        return self.alert is None and all(self.data) and SEALED_ALERT not in self.first_data

    def stream(self, side: int) -> Stream:
        """The reader for the direction of one end."""
        return _Records(self, side)


class _Records(Stream):
    __slots__ = ("_messages", "_rest", "_side", "_tls")

    def __init__(self, tls: Tls, side: int) -> None:
        super().__init__(tls.room)
        self._tls, self._side = tls, side
        self._rest = self._messages = b""

    def read(self, piece: Piece, begin: int) -> int:
        data = self._rest + piece.content[begin:]
        while len(data) >= 5:
            size = data[3] << 8 | data[4]
            if data[0] not in (_CHANGE, _ALERT, _HANDSHAKE, _DATA) or data[1] != 3 or size > _RECORD_MAX:
                return NEVER
            if data[0] == _DATA:
                return self._data(size)
            if len(data) < 5 + size:
                break
            if not self._record(data[0], data[5 : 5 + size], piece):
                return NEVER
            data = data[5 + size :]
        if len(piece.content) < piece.length:
            return NEVER  # the rest of the packet was not captured
        self._rest = data
        return piece.offset + piece.length

    def missed(self, offset: int) -> int:
        return NEVER

    def _data(self, size: int) -> int:
        self._tls.first_data[self._side] = size
        self._tls.encrypted[self._side] = True
        self._tls.data[self._side] = True
        return NEVER

    def _record(self, kind: int, content: bytes, piece: Piece) -> bool:
        tls = self._tls
        if kind == _CHANGE:
            tls.encrypted[self._side] = True
        elif kind == _ALERT and len(content) == 2 and content[1] in ALERTS:
            if content[0] == _FATAL and tls.alert is None:
                tls.alert = self._side, ALERTS[content[1]], piece.us, piece.frame
            return False
        elif kind == _HANDSHAKE and not tls.encrypted[self._side]:
            self._messages += content
            return self._handshake(piece)
        return True

    def _handshake(self, piece: Piece) -> bool:
        while len(self._messages) >= 4:
            size = int.from_bytes(self._messages[1:4], "big")
            if size > _MESSAGE_MAX:
                return False
            if len(self._messages) < 4 + size:
                return True
            kind, body = self._messages[0], self._messages[4 : 4 + size]
            self._messages = self._messages[4 + size :]
            try:
                self._message(kind, body, piece)
            except CutShort:
                return False
        return True

    def _message(self, kind: int, body: bytes, piece: Piece) -> None:
        tls = self._tls
        if kind == _CLIENT_HELLO:
            tls.client, tls.hello_us = self._side, tls.hello_us or piece.us
            extensions = _extensions(body, client=True)
            tls.server_name = extensions.get(_SERVER_NAME, b"")[5:][:255].decode("ascii", "backslashreplace")
        elif kind == _SERVER_HELLO:
            tls.answer_us = tls.answer_us or piece.us
            extensions = _extensions(body, client=False)
            chosen = int.from_bytes(extensions.get(_VERSIONS, body[:2]), "big")
            tls.version = _VERSION_NAMES.get(chosen, f"version {chosen:#x}")
            tls.alpn = extensions.get(_ALPN, b"")[3:][:32].decode("ascii", "backslashreplace")
        elif kind == _CERTIFICATE and tls.validity is None and self._side != tls.client:
            found = _VALIDITY.search(body[:8192])
            if found is not None:
                short1, long1, short2, long2 = (
                    part.decode("ascii") if part else "" for part in found.groups()
                )
                tls.validity = long1 or _long(short1), long2 or _long(short2)


def _long(time: str) -> str:
    """UTCTime with the century added (RFC 5280, section 4.1.2.5.1)."""
    return ("19" if time[:2] >= "50" else "20") + time


def _extensions(body: bytes, *, client: bool) -> Dict[int, bytes]:
    """The extensions by number.

    Raises:
        CutShort: The bytes are not a hello message.
    """
    cursor = Cursor(body)
    cursor.take(2 + 32)
    cursor.take(cursor.number(1))  # session
    if client:
        cursor.take(cursor.number(2))  # cipher suites
        cursor.take(cursor.number(1))  # compression
    else:
        cursor.take(3)
    found: Dict[int, bytes] = {}
    if cursor.position == len(body):
        return found
    end = cursor.number(2) + cursor.position
    while cursor.position + 4 <= min(end, len(body)):
        kind, size = cursor.number(2), cursor.number(2)
        found.setdefault(kind, cursor.take(size))
    return found
