"""A pcap api with one recording: its pages, with ranges, entity tags, a ring, and answers that are cut."""

from __future__ import annotations

import contextlib
import datetime
import json
from typing import Any, Callable, Dict, List, NamedTuple, Optional
from urllib.parse import parse_qs, urlsplit

from pcapd.savefile import blocks
from tests.kit.doubles.stream_api import Client, StreamApi

__all__ = ["HEADERS", "ID", "RecordingApi", "packet"]

ID = "5f0c2b7e-91aa-4c1e-8d3b-2f1009be7a11"
#: What each segment begins with.
HEADERS = blocks.section_header("pcapd", "") + blocks.interface_description(
    "web-0:eth0", 1, 65535, "", "", ()
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def packet(us: int, data: bytes = bytes(60)) -> bytes:
    """A packet's block."""
    return blocks.enhanced_packet(0, us, len(data), data)


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    query: Dict[str, List[str]]
    headers: Dict[str, str]
    body: bytes


class RecordingApi:
    """See the module.

    Attributes:
        segments: Packets by the number of their segment; a test deletes the first ones, and adds some.
        values: What is known of the recording.
        cuts: The bytes after which each answer with packets is cut; None for the whole answer.
        statuses: The status of each answer with packets before those; 200 for none.
        before: Called before each answer with packets.
        asked: The requests.
    """

    def __init__(self) -> None:
        self.segments: Dict[int, List[int]] = {}
        self.values: Dict[str, Any] = {
            "id": ID,
            "owner": "alice",
            "state": "stopped",
            "dropped": 0,
            "deleted_packets": 0,
        }
        self.cuts: List[Optional[int]] = []
        self.statuses: List[int] = []
        self.before: Callable[[], None] = lambda: None
        self.asked: List[Asked] = []
        self._server = StreamApi(None, self._play)

    @property
    def url(self) -> str:
        """Of the api."""
        return self._server.url.replace("https", "http")

    def __enter__(self) -> RecordingApi:
        self._server.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._server.__exit__(*error)
        assert not self._server.failures

    def drop(self, *numbers: int) -> None:
        """Delete segments, as the ring does."""
        for number in numbers:
            self.values["deleted_packets"] += len(self.segments.pop(number, ()))

    def captures(self) -> List[Asked]:
        """The requests for packets."""
        return [one for one in self.asked if one.path.endswith("/capture")]

    def file(self, from_us: int = 0) -> bytes:
        """The whole file from a time on."""
        times = [us for _, found in sorted(self.segments.items()) for us in found]
        return HEADERS + b"".join(packet(us) for us in times if us >= from_us)

    # --- what the server does ----------------------------------------------------

    def _play(self, client: Client) -> None:
        head, _, body = client.head().partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
        while len(body) < int(headers.get("content-length", 0)):
            body += client._socket.recv(65536)
        method, target, _ = first.split()
        url = urlsplit(target)
        asked = Asked(method, url.path, parse_qs(url.query), headers, body)
        self.asked.append(asked)
        if url.path.endswith("/capture"):
            self._capture(client, asked)
        else:
            client.raw(_json(200, self._answer(asked)))

    def _answer(self, asked: Asked) -> Dict[str, Any]:
        rest = asked.path.partition("/v1/recordings")[2].split("/")[1:]
        if rest[1:] == ["hook"]:
            return {"hook": {"path": f"/v1/hooks/{rest[0]}", "key": "secret"}}
        if asked.method == "DELETE":
            return {"deleted": rest[0]}
        times = [us for found in self.segments.values() for us in found]
        facts = {**self.values, "last_us": max(times, default=None), "packets": len(times)}
        return facts if rest or asked.method == "POST" else {"recordings": [facts]}

    def _capture(self, client: Client, asked: Asked) -> None:
        self.before()
        status = self.statuses.pop(0) if self.statuses else 200
        if status != 200:
            error = {401: "unauthenticated", 404: "target_not_found", 503: "draining"}[status]
            client.raw(_json(status, {"errors": [{"code": error, "title": "no", "detail": ""}]}))
            return
        from_us = _us(asked.query["from"][0]) if "from" in asked.query else 0
        numbers = [number for number, times in self.segments.items() if max(times) >= from_us]
        if not numbers:
            error = "target_not_found"
            client.raw(_json(404, {"errors": [{"code": error, "title": "no packets", "detail": ""}]}))
            return
        tag = f'"{min(numbers)}-{from_us}"'
        data = self.file(from_us)
        start = 0
        if asked.headers.get("if-range") == tag:
            start = int(asked.headers["range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(data):
            client.raw(
                b"HTTP/1.1 416 No\r\nContent-Length: 0\r\nContent-Range: bytes */%d\r\n\r\n" % len(data)
            )
            return
        words = (
            f"206 Partial\r\nContent-Range: bytes {start}-{len(data) - 1}/{len(data)}" if start else "200 OK"
        )
        head = f"HTTP/1.1 {words}\r\nETag: {tag}\r\nContent-Length: {len(data) - start}\r\n\r\n"
        cut = self.cuts.pop(0) if self.cuts else None
        with contextlib.suppress(OSError):  # the client leaves an answer that it does not want
            client.raw(head.encode() + (data[start:] if cut is None else data[start : start + cut]))


def _json(status: int, body: Dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(data), data)


def _us(text: str) -> int:
    time = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (time - _EPOCH) // datetime.timedelta(microseconds=1)
