"""Recordings: ``/v1/recordings`` and what is below it.

==========================================  =========================================
``GET /v1/recordings``                      the list
``POST /v1/recordings``                     start one: 201, Location
``GET|DELETE /v1/recordings/ID``            show or delete one
``POST /v1/recordings/ID/stop``             end one
``POST /v1/recordings/ID/clip``             keep the packets around now: 201
``POST /v1/recordings/ID/hook``             make a new key for an alert manager
``GET /v1/recordings/ID/capture``           its packets as pcapng, ``?from=&to=``, ``?clip=``, Range
``POST /v1/hooks/ID``                       an alert manager makes a clip, with the hook's key
==========================================  =========================================

Times are RFC 3339.  Ranges are those of RFC 9110, section 14, with one range.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from pcapd.api.http.web import CaptureService, ClientInfo, answer
from pcapd.errors import BadRequest, RequestError
from pcapd.limits import NAME_MAX
from pcapd.net.pages import NotFoundResource, Page, deny

__all__ = ["HooksResource", "Recorded", "RecordingsResource", "parse_range", "parse_time"]

_PCAPNG = b"application/x-pcapng"
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_NUMBER = re.compile(rb"[0-9]{1,9}")
_PARTIAL, _UNSATISFIABLE = 206, 416
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([zZ]|[-+]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class Recorded(Protocol):
    """The recordings, for these pages; each method fails with a `RequestError`."""

    def ordered(self, body: Any, client: ClientInfo) -> Deferred[dict[str, Any]]:
        """Start the recording that a JSON object describes."""

    def listed(self, client: ClientInfo) -> Deferred[dict[str, Any]]:
        """The recordings that the client's user may see."""

    def shown(self, client: ClientInfo, id: str) -> Deferred[dict[str, Any]]:
        """One recording."""

    def stopped(self, client: ClientInfo, id: str) -> Deferred[dict[str, Any]]:
        """End a recording."""

    def deleted(self, client: ClientInfo, id: str) -> Deferred[dict[str, Any]]:
        """Delete a recording."""

    def clipped(self, client: ClientInfo, id: str, body: Any) -> Deferred[dict[str, Any]]:
        """Make a clip."""

    def hooked(self, client: ClientInfo, id: str) -> Deferred[dict[str, Any]]:
        """Make a new key of a recording's hook."""

    def struck(self, client: ClientInfo, id: str, body: Any) -> Deferred[dict[str, Any]]:
        """Make a clip for the holder of a hook's key."""

    def fetched(self, client: ClientInfo, id: str, from_us: int | None, to_us: int | None) -> Deferred[Any]:
        """The file of a recording's packets in a time."""

    def fetched_clip(self, client: ClientInfo, id: str, number: int) -> Deferred[Any]:
        """The file of a clip."""


Ask = Callable[[ClientInfo], Deferred[dict[str, Any]]]
#: What to do with a body, as JSON values; None if there is none, or it is not JSON.
Do = Callable[[ClientInfo, Any], Deferred[dict[str, Any]]]


class RecordingsResource(Page):
    """The list of recordings.

    Args:
        service: The api.
        recordings: The recordings.
    """

    methods = ("GET", "POST")

    def __init__(self, service: CaptureService, recordings: Recorded) -> None:
        super().__init__()
        self._service = service
        self._recordings = recordings

    def getChild(self, path: bytes, request: Any) -> Resource:
        """The pages of one recording."""
        if not path or len(path) > NAME_MAX or not path.isascii():
            return NotFoundResource()
        id, rest = path.decode("ascii"), list(request.postpath)
        request.postpath = []
        service, recordings = self._service, self._recordings
        pages: dict[tuple[bytes, ...], Callable[[], Resource]] = {
            (): lambda: _OnePage(service, recordings, id),
            (b"capture",): lambda: _CapturePage(service, recordings, id),
            (b"stop",): lambda: _PostPage(service, lambda client, _: recordings.stopped(client, id)),
            (b"hook",): lambda: _PostPage(service, lambda client, _: recordings.hooked(client, id)),
            (b"clip",): lambda: _PostPage(
                service, lambda client, body: recordings.clipped(client, id, body), status=201
            ),
        }
        return pages.get(tuple(rest), NotFoundResource)()

    def render_GET(self, request: Any) -> Any:
        """Answer with the list."""
        return answer(self._service, request, self._recordings.listed)

    def render_POST(self, request: Any) -> Any:
        """Start a recording."""
        body = _body(request)
        if not isinstance(body, dict):
            return deny(request, BadRequest("the body must be a JSON object"))

        def started(found: dict[str, Any]) -> dict[str, Any]:
            request.setHeader("Location", f"/v1/recordings/{found['id']}")
            return found

        def ask(client: ClientInfo) -> Deferred[dict[str, Any]]:
            return self._recordings.ordered(body, client).addCallback(started)

        return answer(self._service, request, ask, status=201)


class _OnePage(Page):
    isLeaf = True
    methods = ("GET", "DELETE")

    def __init__(self, service: CaptureService, recordings: Recorded, id: str) -> None:
        super().__init__()
        self._service = service
        self._recordings = recordings
        self._id = id

    def render_GET(self, request: Any) -> Any:
        """Show the recording."""
        return answer(self._service, request, lambda client: self._recordings.shown(client, self._id))

    def render_DELETE(self, request: Any) -> Any:
        """Delete it."""
        return answer(self._service, request, lambda client: self._recordings.deleted(client, self._id))


class _PostPage(Page):
    isLeaf = True
    methods = ("POST",)

    def __init__(self, service: CaptureService, do: Do, status: int = 200) -> None:
        super().__init__()
        self._service = service
        self._do = do
        self._status = status

    def render_POST(self, request: Any) -> Any:
        """Do it."""
        body = _body(request)
        return answer(self._service, request, lambda client: self._do(client, body), self._status)


class HooksResource(Page):
    """The hooks of recordings, for alert managers.

    Args:
        service: The api.
        recordings: The recordings.
    """

    methods = ("POST",)

    def __init__(self, service: CaptureService, recordings: Recorded) -> None:
        super().__init__()
        self._service = service
        self._recordings = recordings

    def getChild(self, path: bytes, request: Any) -> Resource:
        """The hook of one recording."""
        if request.postpath or not path or len(path) > NAME_MAX or not path.isascii():
            return NotFoundResource()
        id = path.decode("ascii")
        return _PostPage(self._service, lambda client, body: self._recordings.struck(client, id, body))


class _CapturePage(Page):
    isLeaf = True

    def __init__(self, service: CaptureService, recordings: Recorded, id: str) -> None:
        super().__init__()
        self._service = service
        self._recordings = recordings
        self._id = id

    def render_GET(self, request: Any) -> Any:
        """Send the packets."""
        try:
            from_us, to_us = (_time(request, name) for name in (b"from", b"to"))
            clip = _clip_number(request)
        except BadRequest as error:
            return deny(request, error)
        client = self._service.client(request)
        if clip is None:
            asked = self._recordings.fetched(client, self._id, from_us, to_us)
        else:
            asked = self._recordings.fetched_clip(client, self._id, clip)
        sender = _Sender(request, asked)
        asked.addCallback(sender.send)
        asked.addErrback(lambda failure: sender.failed(self._service.refused(failure, client)))
        return NOT_DONE_YET


@implementer(IPushProducer)
class _Sender:
    """Sends a file, and waits while the client does not read.

    Args:
        request: The request.
        asked: What is under way until the answer begins; it is cancelled when the client leaves.
    """

    def __init__(self, request: Any, asked: Deferred[Any]) -> None:
        self._request = request
        self._gone = self._begun = False
        self._asked = asked
        self._paused: Deferred[None] | None = None
        request.notifyFinish().addErrback(self._left)

    def _left(self, _: Any) -> None:
        self._gone = True
        if self._begun:
            self.resumeProducing()  # and `_send` ends
        else:
            self._asked.cancel()

    async def _send(self, file: Any) -> None:
        request = self._request
        start, end = 0, file.size
        request.setHeader("Content-Type", _PCAPNG)
        request.setHeader("X-Content-Type-Options", "nosniff")
        request.setHeader("Accept-Ranges", "bytes")
        request.setHeader("ETag", f'"{file.tag}"')
        given, only_if = request.getHeader("range"), request.getHeader("if-range")
        if given is not None and only_if in (None, f'"{file.tag}"'):
            wanted = parse_range(given, file.size)
            if wanted is None:
                request.setHeader("Content-Range", f"bytes */{file.size}")
                request.setResponseCode(_UNSATISFIABLE)
                request.setHeader("Content-Length", "0")
                request.finish()
                return
            start, end = wanted
            request.setHeader("Content-Range", f"bytes {start}-{end - 1}/{file.size}")
            request.setResponseCode(_PARTIAL)
        request.setHeader("Content-Length", str(end - start))
        self._begun = True
        if request.method == b"HEAD":
            request.finish()
            return
        request.registerProducer(self, True)
        try:
            async with aclosing(file.read(start, end)) as pieces:
                async for piece in pieces:
                    if self._gone:
                        return
                    request.write(piece)
                    while self._paused is not None and not self._gone:
                        await self._paused
        finally:
            if not self._gone:
                request.unregisterProducer()
        request.finish()

    def send(self, file: Any) -> Deferred[None]:
        """Send a file."""
        sent = Deferred.fromCoroutine(self._send(file))
        return sent.addBoth(lambda result: file.close() or result)

    def failed(self, error: RequestError) -> None:
        """Answer with an error; after the answer has begun, only an abort can be noticed."""
        if self._gone:
            return
        if self._begun:
            self._request.channel.loseConnection()
        else:
            self._request.write(deny(self._request, error))
            self._request.finish()

    def pauseProducing(self) -> None:
        """Read nothing more from the store."""
        if self._paused is None:
            self._paused = Deferred()

    def resumeProducing(self) -> None:
        """Go on."""
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.callback(None)

    def stopProducing(self) -> None:
        """Send nothing more: the client is gone."""
        self._gone = True
        self.resumeProducing()


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """The first offset and the one after the last; None if nothing of the range is there.

    A header that this server does not understand, such as several ranges, stands for the whole file.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None or match[0] == "bytes=-":
        return 0, size
    first, last = match[1], match[2]
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    return (start, end) if start < end else None


def parse_time(text: str) -> int:
    """Microseconds since the epoch of a time of RFC 3339.

    Raises:
        ValueError: It is not one, or has no time zone.
    """
    match = _TIME.fullmatch(text.replace(" ", "+"))  # a plus sign that the client did not escape
    if match is None:
        raise ValueError("it is not a time with a time zone")
    date, fraction, zone = match.groups()
    # Python 3.10 reads only fractions of three or six digits.
    micros = (fraction or "").ljust(6, "0")[:6]
    time = datetime.datetime.fromisoformat(f"{date}.{micros}{'+00:00' if zone in 'zZ' else zone}")
    return (time - _EPOCH) // datetime.timedelta(microseconds=1)


def _time(request: Any, name: bytes) -> int | None:
    values = request.args.get(name)
    if not values:
        return None
    try:
        return parse_time(values[0].decode())
    except (ValueError, OverflowError) as error:
        key = name.decode()
        hint = f"for example: {key}=2026-11-29T03:00:00Z"
        raise BadRequest(f"{key} is not a time of RFC 3339", hint) from error


def _clip_number(request: Any) -> int | None:
    values = request.args.get(b"clip")
    if not values:
        return None
    if not _NUMBER.fullmatch(values[0]) or len(request.args) > 1:
        raise BadRequest("clip must be a clip's number, without from and to")
    return int(values[0])


def _body(request: Any) -> Any:
    try:
        return json.loads(request.content.read() or b"null")
    except (ValueError, RecursionError):
        return None
