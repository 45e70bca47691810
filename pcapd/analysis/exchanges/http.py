"""HTTP/1.1 (RFC 9112): matches requests and responses, with their times.

Only heads are parsed, and the lengths and end times of bodies.  Of a head only the method,
the first segment of the path, the status, and the identifiers that link a request to the
same request on another connection are kept.  If contents are wanted, also the whole target with
its query and host, and the beginning of failed responses.
"""

from __future__ import annotations

import re
from array import array
from typing import Final, List, Optional, Set

from pcapd.analysis.exchanges.request import CONTENT_MAX, IDS, VALUE_MAX, Message, Request, plain, segment
from pcapd.analysis.exchanges.streams import NEVER, Piece, Room, Stream

__all__ = ["Http", "looks_like"]

_METHOD: Final = re.compile(rb"[A-Z]{3,16}")
_IDS: Final = tuple(b"\n%s:" % name for name in IDS)
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[^\n]{0,1024}\n")
#: bytes; servers refuse longer heads.
_HEAD_MAX: Final = 64 * 1024
#: Limit of requests of a connection that wait for their responses; more are ignored.
_PIPELINED_MAX: Final = 256
_METHODS: Final = (b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"PATC", b"OPTI", b"CONN", b"TRAC")


def looks_like(content: bytes) -> bool:
    """Whether a payload is the start of a request or a response."""
    return content[:4] in _METHODS or content[:7] == b"HTTP/1."


class Http:
    """A connection at one place.

    Args:
        room: See `Stream`.
        contents: Whether contents are wanted.

    Attributes:
        done: Requests with a complete response; the reader empties the list.
        waiting: Requests without a complete response, in order.
    """

    __slots__ = ("_recent", "answers", "contents", "done", "requests", "room", "upgraded", "waiting")

    def __init__(self, room: Room, *, contents: bool = False) -> None:
        self.room = room
        self.contents = contents
        self.done: List[Request] = []
        self.waiting: List[Request] = []
        self.requests = _Requests(self)
        self.answers = _Answers(self)
        self.upgraded = False
        self._recent = array("I")

    def stream(self, content: bytes) -> Stream:
        """The reader for the direction that starts with these bytes."""
        return self.answers if content[:5] == b"HTTP/" else self.requests

    def answered(self) -> None:
        """Note that the first waiting request has its complete response."""
        request = self.waiting.pop(0)
        request.whole = True
        if len(self._recent) == _PIPELINED_MAX:
            del self._recent[: _PIPELINED_MAX // 2]
        self._recent.append(request.seq)
        self.done.append(request)

    @property
    def calm(self) -> bool:
        """Whether the connection is between two requests, so that it can be forgotten and read on later."""
        return not (self.waiting or self.done or self.upgraded) and all(
            one.between and one.at != NEVER for one in (self.requests, self.answers)
        )

    @property
    def answered_last(self) -> Set[int]:
        """The starts of the requests that were answered last."""
        return set(self._recent)

    @property
    def unanswered(self) -> List[Request]:
        """The waiting requests without a response."""
        return [one for one in self.waiting if one.status is None]

    def ended(self) -> None:
        """Process the end of the connection, which also ends a response without a length."""
        if self.waiting and self.waiting[0].answered is not None and self.answers.until_end:
            self.answered()


class _Heads(Stream):
    """Reads consecutive messages."""

    __slots__ = ("_begin", "_begin_seq", "_chunked", "_head", "_http", "_skip_to")

    def __init__(self, http: Http) -> None:
        super().__init__(http.room)
        self._http = http
        self._head = b""  # the received part of a head, or of a chunk's line
        self._begin: Optional[Piece] = None  # the piece with its start
        self._begin_seq = 0
        self._skip_to: Optional[int] = None  # offset of the last byte of a body
        self._chunked = False

    @property
    def between(self) -> bool:
        """Whether the last message is complete and the next has not started."""
        return self._skip_to is None and not self._head and not self._chunked and not self._early

    def read(self, piece: Piece, begin: int) -> int:
        at, end, behind = piece.offset + begin, piece.offset + len(piece.content), piece.offset + piece.length
        while at != NEVER:
            if self._skip_to is not None:
                if self._skip_to >= behind:
                    return self._skip_to
                at, self._skip_to = self._skip_to + 1, None
                self.body_ended(piece)
            elif at >= end:
                break
            else:
                rest = piece.content[at - piece.offset :]
                at = self._chunk(piece, at, rest) if self._chunked else self._message(piece, at, rest)
        if at != NEVER and at < behind:
            return self.missed(behind)  # a part of the packet was not captured
        return at

    def missed(self, offset: int) -> int:
        if self._skip_to is not None and offset > self._skip_to:
            self._skip_to = None
        self._head, self._begin, self._chunked = b"", None, False
        self._http.waiting.clear()
        return offset

    def _message(self, piece: Piece, at: int, rest: bytes) -> int:
        if self._begin is None:
            self._begin, self._begin_seq = piece, piece.seq + at - piece.offset
        before = len(self._head)
        head = self._head + rest if before else rest
        end = head.find(b"\r\n\r\n")
        if end < 0:
            self._head = head
            if (not looks_like(head[:8].ljust(8)) and len(head) >= 8) or len(head) > _HEAD_MAX:
                self._head, self._begin = b"", None
                return NEVER
            return at + len(rest)
        first, self._begin, self._head = self._begin, None, b""
        after = at + end + 4 - before
        return self.head(head[: end + 2], first, piece, after)

    def head(self, head: bytes, first: Piece, last: Piece, after: int) -> int:
        """Process a head, whose body starts at the offset `after`; returns the offset wanted next."""
        raise NotImplementedError

    def body_ended(self, piece: Piece) -> None:
        """Process the end of a body, whose last byte is in the piece."""
        raise NotImplementedError

    def body(self, low: bytes, piece: Piece, after: int) -> int:
        """Continue after a body of a known length; returns the offset wanted next."""
        if b"chunked" in _field(low, b"\ntransfer-encoding:"):
            self._chunked = True
            return after
        length = _field(low, b"\ncontent-length:")
        size = int(length) if length.isdigit() and len(length) < 16 else 0
        if not size:
            self.body_ended(piece)
            return after
        self._skip_to = after + size - 1
        return after

    def _chunk(self, piece: Piece, at: int, rest: bytes) -> int:
        before = len(self._head)
        line = self._head + rest if before else rest
        found = _CHUNK.match(line)
        if found is None:
            self._head = line
            return at + len(rest) if len(line) <= 2048 else self._lost(piece)
        size = int(found.group(1), 16)
        begin = at + found.end() - before
        if size:
            self._head = b""
            return begin + size + 2
        end = line.find(b"\r\n", found.end())
        if end != found.end():  # trailers
            end = line.find(b"\r\n\r\n", found.end()) + 2
        if end < found.end():
            self._head = line
            return at + len(rest) if len(line) <= _HEAD_MAX else self._lost(piece)
        self._head, self._chunked = b"", False
        self.body_ended(piece)
        return at + end + 2 - before

    def _lost(self, piece: Piece) -> int:
        return self.missed(piece.offset + piece.length)


class _Requests(_Heads):
    __slots__ = ("_current",)

    def __init__(self, http: Http) -> None:
        super().__init__(http)
        self._current: Optional[Request] = None

    def take(self, piece: Piece) -> int:
        # Most requests are one packet and have no body; this is `read`, shorter.
        content = piece.content
        size = len(content)
        if (
            piece.offset == self.at
            and self.between
            and size == piece.length
            and content.find(b"\r\n\r\n") == size - 4
        ):
            low = content.lower()
            if b"\ncontent-length:" not in low and b"\ntransfer-encoding:" not in low:
                self._begin_seq = piece.seq
                wanted = self.head(content[:-2], piece, piece, piece.offset + size)
                self.at = wanted
                return wanted
        return super().take(piece)

    def head(self, head: bytes, first: Piece, last: Piece, after: int) -> int:
        method, _, rest = head.partition(b" ")
        target, _, version = rest.partition(b" ")
        if (
            not _METHOD.fullmatch(method)
            or version[:7] != b"HTTP/1."
            or len(self._http.waiting) >= _PIPELINED_MAX
        ):
            return NEVER
        low = head.lower()
        ids = [_field(low, name) for name in _IDS if name in low] if b"-id:" in low or _IDS[1] in low else []
        request = Request(
            self._begin_seq & 0xFFFFFFFF,
            method.decode("ascii"),
            segment(target),
            ids,
            Message(first.us, last.us, first.frame),
        )
        if self._http.contents:
            host = _field(low, b"\nhost:") if target[:1] == b"/" else b""
            request.shown = plain(method + b" " + host + target)
        self._current = request
        self._http.waiting.append(request)
        return self.body(low, last, after)

    def body_ended(self, piece: Piece) -> None:
        if self._current is not None:
            self._current.sent.last_us = piece.us
            self._current = None


class _Answers(_Heads):
    __slots__ = ("until_end",)

    def __init__(self, http: Http) -> None:
        super().__init__(http)
        #: Whether the current body ends with the connection.
        self.until_end = False

    def take(self, piece: Piece) -> int:
        # Most answers that matter for speed are one packet; this is `read`, shorter.
        content, waiting = piece.content, self._http.waiting
        size = len(content)
        if (
            waiting
            and piece.offset == self.at
            and self.between
            and size == piece.length
            and content[9:10] in b"245"
        ):
            end = content.find(b"\r\n\r\n") + 4
            low = content[: end - 2].lower()
            request, status = waiting[0], content[9:12]
            length = _field(low, b"\ncontent-length:")
            plain = request.method not in {"HEAD", "CONNECT"} and status != b"204"
            if end > 4 and plain and status.isdigit() and length.isdigit() and end + int(length[:9]) == size:
                self._note(int(status), low, piece, piece)
                self._quote(content, end)
                self._http.answered()
                self.at = piece.offset + size
                return self.at
        return super().take(piece)

    def head(self, head: bytes, first: Piece, last: Piece, after: int) -> int:
        code = head[9:12]
        if head[:7] != b"HTTP/1." or not code.isdigit():
            return NEVER
        status, low, waiting = int(code), head.lower(), self._http.waiting
        if status == 101 or (status < 300 and waiting and waiting[0].method == "CONNECT"):
            self._http.upgraded = True
            self._note(status, low, first, last)
            if waiting:
                self._http.answered()
            self._http.requests.at = NEVER
            return NEVER
        if status < 200:
            return after
        self._note(status, low, first, last)
        self._quote(head + b"\r\n" + last.content[after - last.offset :], len(head) + 2)
        if status in (204, 304) or (waiting and waiting[0].method == "HEAD"):
            self.body_ended(last)
            return after
        if b"\ncontent-length:" not in low and b"\ntransfer-encoding:" not in low:
            self.until_end = True
            return NEVER
        return self.body(low, last, after)

    def _note(self, status: int, low: bytes, first: Piece, last: Piece) -> None:
        if self._http.waiting:
            request = self._http.waiting[0]
            request.status = status
            request.answered = Message(first.us, last.us, first.frame)
            if status >= 500:
                request.router_error = _field(low, b"\nx-cf-routererror:")[:64].decode("ascii", "replace")

    def _quote(self, content: bytes, body: int) -> None:
        """Keep the status line, and the beginning of the body, of a failed response."""
        waiting = self._http.waiting
        if self._http.contents and waiting and (waiting[0].status or 0) >= 500:
            line = content[:CONTENT_MAX].partition(b"\r\n")[0].partition(b" ")[2]
            begin = b" ".join(content[body : body + CONTENT_MAX].split())
            waiting[0].said = plain(line + b": " + begin if begin else line)

    def body_ended(self, piece: Piece) -> None:
        if self._http.waiting and self._http.waiting[0].answered is not None:
            self._http.waiting[0].answered.last_us = piece.us
            self._http.answered()


def _field(low: bytes, name: bytes) -> bytes:
    """The value of a field in a lower-case head, or an empty value."""
    at = low.find(name)
    if at < 0:
        return b""
    begin = at + len(name)
    end = low.find(b"\r", begin, begin + VALUE_MAX)
    return low[begin : end if end >= 0 else begin + VALUE_MAX].strip()
