"""A request and its response at one place, whatever the version of HTTP is."""

from __future__ import annotations

from typing import Any, Final, List, Optional

__all__ = ["CONTENT_MAX", "IDS", "VALUE_MAX", "Message", "Request", "plain", "segment"]

#: Names of the fields that identify a request on several connections.
IDS: Final = (b"x-vcap-request-id", b"traceparent", b"x-request-id")
#: bytes of a field's value that are read.
VALUE_MAX: Final = 256
#: Limit of characters of a target, and of the beginning of a response.
CONTENT_MAX: Final = 200
_PATH_MAX: Final = 64


class Message:
    """A request or response at a place: the times of its first and last byte, and its first frame."""

    __slots__ = ("first_us", "frame", "last_us")

    def __init__(self, first_us: int, last_us: int, frame: int) -> None:
        self.first_us, self.last_us, self.frame = first_us, last_us, frame


class Request:
    """A request and its response at one place.

    Attributes:
        seq: Sequence number of its first byte, the same at all places.
        method, path: The method, and the first segment of the path.
        ids: Identifiers that other connections have too.
        sent: The request's times; the last byte may not have been seen yet.
        status: The response's status, or None.
        answered: The response's times.
        whole: Whether the response is complete.
        router_error: X-Cf-RouterError of the response.
        shown: The method and the path, as findings name it; with contents the whole target and the host.
        said: With contents, the status line of a failed response and the beginning of its body.
        error, ended, quiet, cancelled_us: See `pcapd.analysis.exchanges.http2.Call`.
    """

    __slots__ = (
        "answered", "ids", "method", "path", "router_error", "said", "sent", "seq", "shown", "status",
        "whole",
    )  # fmt: skip

    error: str = ""
    ended: bool = True
    quiet: bool = False
    cancelled_us: int = 0

    @property
    def wait_us(self) -> int:
        """From its last byte to the first byte of the response."""
        return int(self.answered.first_us - self.sent.last_us)

    @property
    def duration_us(self) -> int:
        """From its first byte to the last byte of the response."""
        return int(self.answered.last_us - self.sent.first_us)

    def __init__(self, seq: int, method: str, path: str, ids: List[bytes], sent: Message) -> None:
        self.seq, self.method, self.path, self.ids, self.sent = seq, method, path, ids, sent
        self.status: Optional[int] = None
        self.answered: Any = None  # a Message
        self.whole = False
        self.router_error = self.said = ""
        self.shown = f"{method} {path}"


def plain(content: bytes) -> str:
    """The beginning of a content as printable ASCII."""
    text = content[:CONTENT_MAX].decode("ascii", "backslashreplace")
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)


def segment(target: bytes) -> str:
    """The first segment of a path; the rest and the query may contain private data."""
    if target[:7].lower() == b"http://":
        target = b"/" + target[7:].partition(b"/")[2]
    path = target.partition(b"?")[0]
    segment = path[1:].partition(b"/")[0] if path[:1] == b"/" else path.partition(b"/")[0]
    return "/" + segment[:_PATH_MAX].decode("ascii", "backslashreplace")
