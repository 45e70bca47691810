"""A capture as a file over plain HTTP (``GET /capture``): for curl and the clients of 2022.

The status line is sent when the first agent captures, so that a bad filter or an
unknown interface can be answered with 400.  After the first byte a failure can only be
reported by aborting the connection, which every client notices.

::

    ASKING ──first source──▶ WRITING ──count──▶ FULL
    any ──answered, refused, aborted, the client is gone──▶ GONE
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from pcapd.api.capture import audit
from pcapd.api.capture.life import Capture
from pcapd.api.http.web import CaptureService, ClientInfo
from pcapd.config.units import parse_duration, parse_size
from pcapd.errors import (
    AuditUnavailable,
    BadRequest,
    CaptureFailed,
    ClientLeft,
    Draining,
    Forbidden,
    MixedLinkTypes,
    RequestError,
)
from pcapd.limits import (
    INSTANCES_MAX,
    INTERFACES_MAX,
    NAME_MAX,
    RELEASE_INTERVAL,
    SNAPLEN_DEFAULT,
    STATISTICS_INTERVAL,
)
from pcapd.merge.muxer import UNLIMITED, Muxer
from pcapd.net.clock import now_us
from pcapd.net.pages import Page, deny
from pcapd.savefile.form import Form
from pcapd.wire import App, Deployment, End, EndReason, Notice, Request, Source, Stats
from pcapd.wire.frames import Bytes

__all__ = ["DownloadResource", "parse_query"]

_PCAPNG = "application/x-pcapng"
_PCAP = "application/vnd.tcpdump.pcap"

#: The error for a capture that ends before its first source opens; others are `CaptureFailed`.
_KINDS = {
    EndReason.DRAINING: Draining,
    EndReason.UNRECORDED: AuditUnavailable,
    EndReason.FORBIDDEN: Forbidden,
}

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class DownloadResource(Page):
    """Answers ``GET /capture``.

    Args:
        service: The api.
    """

    isLeaf = True
    methods = ("GET",)

    def __init__(self, service: CaptureService) -> None:
        super().__init__()
        self._service = service

    def render_GET(self, request: Any) -> Any:
        """Start a capture and stream it."""
        client = self._service.client(request)
        try:
            asked, max_packets, ordered = parse_query(request.args)
        except RequestError as error:
            return self.refuse(request, error)
        form = Form.PCAPNG if _PCAPNG in (request.getHeader("accept") or "") else Form.PCAP
        muxer = Muxer(
            form,
            asked.snaplen,
            ordered=ordered,
            max_packets=max_packets,
            max_bytes=asked.max_bytes or UNLIMITED,
        )
        _Download(self._service, request, client, muxer, form).begin(asked)
        return NOT_DONE_YET

    def refuse(self, request: Any, error: RequestError) -> bytes:
        """Refuse a request, and record the targets and interfaces that can be read from it."""
        client = self._service.client(request)
        return deny(request, self._service.refused(Failure(error), client, _named(request.args)))


#: Fields of the audit record of a refused query, and the arguments with their values.
_NAMES = {"targets": b"target", "app": b"appid", "deployment": b"deployment", "interfaces": b"device"}


def _named(arguments: Mapping[bytes, list[bytes]]) -> dict[str, list[str]]:
    return {
        field: [value.decode("utf-8", "replace")[:NAME_MAX] for value in arguments[key][:INTERFACES_MAX]]
        for field, key in _NAMES.items()
        if key in arguments
    }


def parse_query(arguments: dict[bytes, list[bytes]]) -> tuple[Request, int, bool]:
    """Read the query of ``GET /capture``.

    Returns:
        The request, the largest number of packets, and whether they are sorted by time.

    Raises:
        BadRequest: Arguments are unknown or invalid; all of them are named.
    """
    query = _Query(arguments)
    wanted = {
        "targets": query.texts("target"),
        "app": _app(query),
        "deployment": _deployment(query),
        "interfaces": query.given("device"),
        "filter": query.one("filter", str, ""),
        "snaplen": query.one("snaplen", int, SNAPLEN_DEFAULT),
        "headers_only": query.one("headers_only", _flag, False),
        "duration": query.one("duration", _seconds, None),
        "max_bytes": query.one("max_bytes", parse_size, None),
        "reason": query.one("reason", str, ""),
    }
    count = query.one("count", int, UNLIMITED)
    ordered = query.one("order", _flag, True)
    query.check()
    if count <= 0:
        raise BadRequest("count must be more than 0")
    if not wanted["targets"] and wanted["app"] is None and wanted["deployment"] is None:
        raise BadRequest(
            "nothing to capture is named", "add appid=GUID, deployment=NAME or target=NAME to the query"
        )
    try:
        return Request(**wanted), count, ordered
    except (ValueError, TypeError) as error:
        raise BadRequest(str(error)) from error


def _app(query: _Query) -> App | None:
    """``appid``, ``index`` and ``type``, with the defaults of the interface of 2022."""
    guid = query.one("appid", str, "")
    indices = query.numbers("index")
    process_type = query.one("type", str, "")
    if not guid:
        if indices or process_type:
            query.problem("index and type need an appid")
        return None
    try:
        return App(guid, process_type or "web", indices or (0,))
    except ValueError as error:
        query.problem(str(error))
        return None


def _deployment(query: _Query) -> Deployment | None:
    """``deployment``, ``group`` and ``instance``; without ``instance``, all of them."""
    name = query.one("deployment", str, "")
    groups, instances = query.given("group"), query.given("instance")
    if not name:
        if groups or instances:
            query.problem("group and instance need a deployment")
        return None
    try:
        return Deployment(name, groups, instances)
    except ValueError as error:
        query.problem(str(error))
        return None


class _Query:
    """The arguments of a query; each is removed when it is read, and problems are collected."""

    def __init__(self, arguments: dict[bytes, list[bytes]]) -> None:
        self._left = {
            key.decode("utf-8", "replace"): [value.decode("utf-8", "replace") for value in values]
            for key, values in arguments.items()
        }
        self._problems: list[str] = []

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self._left.pop(name, ()))

    def given(self, name: str) -> tuple[str, ...]:
        """The values that are not empty: the client of 2022 sends ``device=`` for the default."""
        return tuple(text for text in self.texts(name) if text)

    def numbers(self, name: str) -> tuple[int, ...]:
        numbers = []
        for text in self.given(name):
            if text.isascii() and text.isdigit() and len(text) <= len(str(INSTANCES_MAX)):
                numbers.append(int(text))
            else:
                self.problem(f"{name}: {text!r} is not the number of an instance")
        return tuple(numbers)

    def problem(self, message: str) -> None:
        self._problems.append(message)

    def one(self, name: str, convert: Callable[[str], Any], default: Any) -> Any:
        values = self._left.pop(name, [])
        if not values:
            return default
        if len(values) > 1:
            self._problems.append(f"{name} is given twice")
            return default
        try:
            return convert(values[0])
        except ValueError as error:
            self._problems.append(f"{name}: {error}")
            return default

    def check(self) -> None:
        self._problems += [f"{name} is not a known argument" for name in self._left]
        if self._problems:
            raise BadRequest("; ".join(self._problems))


def _seconds(text: str) -> float:
    return float(text) if text.isdigit() else parse_duration(text)


def _flag(text: str) -> bool:
    if text.lower() in _TRUE + _FALSE:
        return text.lower() in _TRUE
    raise ValueError("must be true or false")


class _State(Enum):
    ASKING = auto()  #: nothing is answered yet
    WRITING = auto()
    FULL = auto()  #: the capture is stopping: the file has all that was requested
    GONE = auto()  #: nothing more is written


class _Download:
    """One response; the capture's sink."""

    log = Logger()
    grace = 0.0
    unattended = False

    def __init__(
        self, service: CaptureService, request: Any, client: ClientInfo, muxer: Muxer, form: Form
    ) -> None:
        self._service = service
        self._reactor = service.reactor
        self._request = request
        self._client = client
        self._muxer = muxer
        self._form = form
        self._requested: Mapping[str, Any] = {}
        self._asked: Deferred[Any] | None = None
        self._capture: Capture | None = None
        self._state = _State.ASKING
        self._incomplete = False  # whether requested packets are missing from the file
        self._ticker = LoopingCall(self._flush)
        self._ticker.clock = self._reactor
        self._statistics_at = 0.0

    def begin(self, request: Request) -> None:
        """Request the capture from the service."""
        self._request.notifyFinish().addBoth(self._left)
        self._requested = audit.request_fields(request)
        self._asked = self._service.begin(request, self._client.token, self._client, self)
        self._asked.addCallback(self._begun).addErrback(self._not_begun)

    def _begun(self, capture: Capture) -> None:
        released = partial(self._service.released, capture)
        if self._state is _State.GONE:
            capture.abandon("the client left before the capture started")
            released()
            left = ClientLeft("the client left before the capture started")
            left.user = capture.user
            raise left
        self._capture = capture
        self._request.channel.admitted(released)
        capture.start()

    def _not_begun(self, failure: Failure) -> None:
        self.error(self._service.refused(failure, self._client, self._requested))

    def _left(self, _: Any) -> None:
        """Handle the end of the response, complete or not."""
        self._let_go("the client is gone")
        if self._asked is not None:
            self._asked.cancel()

    def _let_go(self, why: str) -> None:
        """Write nothing more, and end the capture."""
        self._state = _State.GONE
        if self._ticker.running:
            self._ticker.stop()
        if self._capture is not None:
            capture, self._capture = self._capture, None
            capture.abandon(why)

    # --- Sink --------------------------------------------------------------

    def source(self, number: int, source: Source) -> None:
        """Handle an opened source; the first one starts the response."""
        try:
            self._muxer.source(number, source, now_us())
        except MixedLinkTypes as error:  # there was a source before, so the response has begun
            self.log.warn("a download was aborted: {reason}", reason=str(error))
            self._request.transport.abortConnection()
            self._let_go(str(error))
            return
        if self._state is _State.ASKING:
            self._state = _State.WRITING
            self._request.setHeader("Content-Type", _PCAPNG if self._form is Form.PCAPNG else _PCAP)
            self._request.setHeader("X-Content-Type-Options", "nosniff")
            self._request.registerProducer(self._capture, True)
            self._ticker.start(RELEASE_INTERVAL)

    def packets(self, number: int, records: Bytes) -> bool:
        """Handle checked records of one source."""
        # The muxer counts packets above the requested number, but not as lost: they were not requested.
        self._muxer.packets(number, records, self._reactor.seconds())
        return True

    def stats(self, number: int, stats: Stats) -> None:
        """Handle the counters of one source, and the time up to which it has sent all packets."""
        self._muxer.stats(number, stats)

    def notice(self, notice: Notice) -> None:
        """Store that the file is incomplete; notices themselves are not written to the file."""
        if notice.type.incomplete:
            self._incomplete = True
        self._muxer.await_instances(notice.awaited)

    def end(self, end: End) -> None:
        """Finish the response."""
        if self._state is _State.ASKING:
            kind = _KINDS.get(end.reason, CaptureFailed)
            self.error(kind(f"the capture ended before any packet could be captured: {end.message}"))
            return
        self._capture = None
        self._ticker.stop()
        self._write(self._muxer.finish(now_us()))
        self._request.unregisterProducer()
        if self._incomplete or end.reason in (EndReason.FAILED, EndReason.SOURCES_GONE):
            # Without the last chunk, so that the client notices; buffered data is still sent.  The
            # channel is the producer of its transport, and must unregister before that closes.
            self._request.channel.loseConnection()
        else:
            self._request.finish()

    def error(self, error: RequestError) -> None:
        """Answer with an error, because no capture started."""
        if self._capture is not None:
            capture, self._capture = self._capture, None
            capture.abandon(error.message)
        if self._state is not _State.GONE:
            self._request.write(deny(self._request, error))
            self._request.finish()

    # --- writing -----------------------------------------------------------

    def _flush(self) -> None:
        if self._capture is not None and self._capture.paused:
            # The client is slow, and the agents are paused: a silent source may still have packets.
            return
        self._write(self._muxer.take(self._reactor.seconds()))
        now = self._reactor.seconds()
        if now - self._statistics_at >= STATISTICS_INTERVAL:
            self._statistics_at = now
            self._write(self._muxer.statistics(now_us()))
        if self._muxer.full and self._state is _State.WRITING and self._capture is not None:
            self._state = _State.FULL
            self._capture.stop(EndReason.COUNT)

    def _write(self, blocks: list[bytes]) -> None:
        for block in blocks:
            self._request.write(block)
