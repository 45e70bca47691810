"""The HTTP front: who asks, how errors look, and the routes."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Request as WebRequest
from twisted.web.server import Site

from pcapd.errors import BadRequest, LimitReached, RequestError, TargetNotFound, Unauthenticated
from pcapd.limits import NAME_MAX, REQUEST_TIMEOUT, TCP_USER_TIMEOUT
from pcapd.net.addresses import plain_address
from pcapd.wire import Hello, Request

__all__ = ["ApiSite", "ClientInfo", "Front", "HealthResource", "HttpConnection", "NotFoundResource", "deny"]


class Front(Protocol):
    """What the HTTP side asks of the api."""

    reactor: Any

    def accepting(self) -> None:
        """Raises `Draining` when no new capture is taken."""

    def hello(self) -> Hello:
        """The api's greeting."""

    def health(self) -> dict[str, Any]:
        """The body of ``GET /health``."""

    def begin(self, request: Request, token: str | None, client: ClientInfo, sink: Any) -> Deferred[Any]:
        """Authenticate, resolve, count in: fires with a `Capture` to be started.

        Cancelling it means that the client has left.
        """

    def refused(self, failure: Failure, client: ClientInfo) -> RequestError:
        """Account for a request that came to nothing, and say why."""

    def joined(self, sink: Any) -> None:
        """A WebSocket is open."""

    def left(self, sink: Any) -> None:
        """It is gone."""


@dataclass(frozen=True)
class ClientInfo:
    """Who connected.

    Attributes:
        peer: Address and port, for logs.
        request_id: The router's, or one of ours.
        token: From the Authorization header.
    """

    peer: str
    request_id: str
    token: str | None = field(repr=False)

    @property
    def address(self) -> str:
        """Its IP address: whose share of what is bounded it uses."""
        return self.peer.rpartition(":")[0]

    @classmethod
    def of(cls, request: Any) -> ClientInfo:
        """Read it off an HTTP request.  Also tells TCP when to give the client up."""
        transport = request.channel.transport
        peer = transport.getPeer()
        transport.getHandle().setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(TCP_USER_TIMEOUT * 1000)
        )
        return cls(
            peer=f"{plain_address(peer.host)}:{peer.port}",
            request_id=_request_id(_header(request, b"x-vcap-request-id")),
            token=_bearer(_header(request, b"authorization")),
        )


def _header(request: Any, name: bytes) -> str | None:
    # As bytes: Twisted fails on text that is not UTF-8.
    value = request.getHeader(name)
    return None if value is None else value.decode("latin-1")


def _request_id(given: str | None) -> str:
    if given and len(given) <= NAME_MAX and given.isascii() and given.isprintable():
        return given
    return str(uuid.uuid4())


def _bearer(header: str | None) -> str | None:
    scheme, _, token = (header or "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def deny(request: Any, error: RequestError) -> bytes:
    """Answer with an error in Cloud Controller's form."""
    body = {"errors": [{"code": error.code, "title": error.message, "detail": error.hint}]}
    if isinstance(error, Unauthenticated):
        request.setHeader("WWW-Authenticate", 'Bearer realm="pcapd"')
    if isinstance(error, LimitReached) and error.retry_after is not None:
        request.setHeader("Retry-After", str(error.retry_after))
    return _json(request, error.status, body)


def _json(request: Any, status: int, body: Any) -> bytes:
    request.setResponseCode(status)
    request.setHeader("Content-Type", "application/json")
    return json.dumps(body).encode() + b"\n"


class HealthResource(Resource):
    """``GET /health``: 200 or 503, always JSON.

    Args:
        health: Makes the body.
    """

    isLeaf = True

    def __init__(self, health: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._health = health

    def render_GET(self, request: Any) -> bytes:
        """Answer."""
        body = self._health()
        return _json(request, http.OK if body["healthy"] else http.SERVICE_UNAVAILABLE, body)


class NotFoundResource(Resource):
    """Everything else."""

    def getChild(self, path: bytes, request: Any) -> Resource:
        """It has no children either."""
        return self

    def render(self, request: Any) -> bytes:
        """Say what there is."""
        return deny(request, TargetNotFound("no such page", "there are /health, /capture and /v1/stream"))


class _Request(WebRequest):
    """A request without a body, because none of our pages takes one, and with headers that are text."""

    def process(self) -> None:
        """Refuse what Twisted could not decode."""
        try:
            (self.method + self.uri).decode("ascii")
            for name, values in self.requestHeaders.getAllRawHeaders():
                if name.lower() != b"authorization":  # read as bytes: who asks without text is nobody known
                    b"".join(values).decode()
        except UnicodeDecodeError:
            body = deny(self, BadRequest("the request line or a header is not text"))
            self.setHeader("Content-Length", str(len(body)))
            self.write(body)
            self.finish()
        else:
            super().process()

    def gotLength(self, length: int | None) -> None:
        """Refuse a body before a byte of it is stored."""
        super().gotLength(0)
        if length != 0:
            channel = self.channel  # which forgets us, and we it, when we are finished
            self.clientproto = b"HTTP/1.1"  # known to Twisted only after the body
            body = deny(self, BadRequest("this api takes no request bodies"))
            self.setResponseCode(http.REQUEST_ENTITY_TOO_LARGE)
            self.setHeader("Connection", "close")
            self.write(body)
            self.finish()
            channel.loseConnection()


class HttpConnection(http.HTTPChannel):
    """A connection whose request must come in time as a whole, and not just byte after byte."""

    factory: ApiSite
    transport: Any

    def connectionMade(self) -> None:
        """Count it in."""
        super().connectionMade()
        self.factory.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Count it out."""
        self.factory.connections.discard(self)
        super().connectionLost(reason)

    def upgraded(self) -> None:
        """It is a WebSocket from now on; Twisted tells only that when it is over."""
        self.factory.connections.discard(self)

    def hang_up(self) -> None:
        """Close it once the answer that is under way is sent."""
        if not (self.requests or self.transport.disconnecting):
            self.loseConnection()

    def resetTimeout(self) -> None:
        """Not for every byte: the time runs from the connection, and from an answer, on."""

    def lineLengthExceeded(self, line: bytes) -> None:
        """Close at once.  Twisted's own would wait for itself, as the transport's producer."""
        self.loseConnection()


class ApiSite(Site):
    """The site; it keeps no access log, because the audit log says more.

    Args:
        root: The routes.
        reactor: Where it runs.
    """

    # HTTP/1.1 only: what Twisted has there chooses between that and HTTP/2.
    protocol = HttpConnection  # type: ignore[assignment]

    def __init__(self, root: Resource, reactor: Any) -> None:
        super().__init__(root, requestFactory=_Request, reactor=reactor, timeout=REQUEST_TIMEOUT)
        self.noisy = False
        self.displayTracebacks = False
        #: Those that are open.
        self.connections: set[HttpConnection] = set()

    def log(self, request: Any) -> None:
        """Not here."""
