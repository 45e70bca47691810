"""Reads DNS messages (RFC 1035), as far as they are in one packet."""

from __future__ import annotations

import ipaddress
import struct
from typing import Dict, Final, List, NamedTuple, Optional, Tuple

from pcapd.packet.cursor import Cursor, CutShort

__all__ = ["PORTS", "Message", "read_message"]

#: Ports of DNS, and of multicast DNS (RFC 6762).
PORTS: Final = (53, 5353)
_TYPES: Final = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 65: "HTTPS",
}  # fmt: skip
_CODES: Final = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
#: Largest number of questions of a message; real messages have one.
_QUESTIONS_MAX: Final = 16
#: The largest opcode that is assigned.
_OPCODE_MAX: Final = 6
#: Largest number of answers that are read.
ANSWERS_MAX: Final = 4
_NAME_MAX: Final = 255


class Message(NamedTuple):
    """A DNS message.  The names in it are not trusted and may contain any characters.

    Attributes:
        number: The id of the message; an answer has the same id as its query.
        response: Whether it is an answer.
        questions: The type and name of each question.
        code: The name of an answer's error; empty if there is none.
        answers: The first answers: an address, a name, or the type of the record.
        answer_count: The total number of answers.
    """

    number: int
    response: bool
    questions: List[Tuple[str, str]]
    code: str
    answers: List[str]
    answer_count: int


def read_message(content: bytes) -> Optional[Message]:
    """Read a payload as a DNS message; None if it does not look like one."""
    cursor = Cursor(content)
    try:
        number, flags, count, answers, _, _ = struct.unpack("!6H", cursor.take(12))
        if count > _QUESTIONS_MAX or flags >> 11 & 15 > _OPCODE_MAX:
            return None
        questions = [_question(cursor) for _ in range(count)]
    except CutShort:
        return None
    response = bool(flags & 0x8000)
    found = _answers(cursor, min(answers, ANSWERS_MAX)) if response else []
    code = _CODES.get(flags & 15, "") if response else ""
    return Message(number, response, questions, code, found, answers)


def _question(cursor: Cursor) -> Tuple[str, str]:
    name, kind = _name(cursor), cursor.number(2)
    cursor.take(2)
    return _TYPES.get(kind, str(kind)), name


def _answers(cursor: Cursor, count: int) -> List[str]:
    found: List[str] = []
    try:
        for _ in range(count):
            _name(cursor)
            kind = cursor.number(2)
            cursor.take(6)
            size = cursor.number(2)
            begin = cursor.position
            found.append(_answer(kind, cursor.take(size), Cursor(cursor.data, begin)))
    except CutShort:
        found.append("…")
    return found


def _answer(kind: int, value: bytes, cursor: Cursor) -> str:
    if kind == 1 and len(value) == 4:
        return str(ipaddress.IPv4Address(value))
    if kind == 28 and len(value) == 16:
        return str(ipaddress.IPv6Address(value))
    if kind in (2, 5, 12):
        return _name(cursor)
    return _TYPES.get(kind, f"type {kind}")


def _name(message: Cursor) -> str:
    """Read a name, which may be compressed; a loop of pointers is an error."""
    labels: List[str] = []
    at, length = message, 0
    seen: Dict[int, bool] = {}
    while True:
        size = at.number(1)
        if size == 0:
            return ".".join(labels) or "."
        if size >= 0xC0:
            target = (size & 0x3F) << 8 | at.number(1)
            if target in seen:
                raise CutShort
            seen[target] = True
            at = Cursor(message.data, target)
        elif size >= 0x40:
            raise CutShort
        else:
            labels.append(at.take(size).decode("ascii", "backslashreplace"))
            length += size + 1
            if length > _NAME_MAX:
                raise CutShort
