"""The HTTP interface: clients, and the plain pages."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.server import NOT_DONE_YET

from pcapd.api.http.forwarded import Networks, client_address, contains
from pcapd.errors import RequestError, Unauthenticated
from pcapd.limits import NAME_MAX, TCP_USER_TIMEOUT
from pcapd.net.addresses import plain_address
from pcapd.net.pages import Page, answer_json, deny
from pcapd.net.reactor import Reactor
from pcapd.wire import Hello, Request

__all__ = [
    "CaptureService",
    "ClientInfo",
    "HealthResource",
    "TargetsResource",
    "answer",
]


class CaptureService(Protocol):
    """The part of the api service that the HTTP interface uses."""

    reactor: Reactor

    def accepting(self) -> None:
        """Raise `Draining` when the api accepts no new captures."""

    def hello(self) -> Hello:
        """The api's greeting."""

    def health(self) -> dict[str, Any]:
        """The body of ``GET /health``."""

    def client(self, request: Any) -> ClientInfo:
        """The client that sent an HTTP request."""

    def begin(self, request: Request, token: str | None, client: ClientInfo, sink: Any) -> Deferred[Any]:
        """Authenticate the user, find the targets, and admit the capture.

        Returns:
            Fires with a `Capture`, which the caller starts, and later passes to `released`.
            Cancel it when the client has disconnected.
        """

    def refused(
        self, failure: Failure, client: ClientInfo, requested: Mapping[str, Any] | None = None
    ) -> RequestError:
        """Count and record a refused request; return the error for the client.

        Args:
            requested: Fields of the request (`pcapd.api.capture.audit.request_fields`).
        """

    def released(self, capture: Any) -> None:
        """Stop counting a capture, because its client has read all of it or is gone."""

    def joined(self, sink: Any) -> None:
        """Add an open WebSocket."""

    def left(self, sink: Any) -> None:
        """Remove a WebSocket that is gone."""


@dataclass(frozen=True)
class ClientInfo:
    """The client of a request.

    Attributes:
        peer: The client's address, for logs; with the port if there is no proxy between.
        request_id: The id that a trusted proxy sent, or a new one.
        token: The token in the Authorization header; None without one.
        proxy: Address and port of the trusted proxy that forwarded the request.
    """

    peer: str
    request_id: str
    token: str | None = field(repr=False)
    proxy: str | None = None

    @property
    def address(self) -> str:
        """The client's IP address."""
        return self.peer if self.proxy is not None else self.peer.rpartition(":")[0]

    @property
    def facts(self) -> dict[str, str]:
        """Where the request comes from, as fields of an audit record."""
        return {"client": self.peer} | ({"proxy": self.proxy} if self.proxy is not None else {})

    @classmethod
    def of(cls, request: Any, trusted: Networks = ()) -> ClientInfo:
        """Read the client's data from an HTTP request.  Also set TCP's timeout for the client.

        Args:
            trusted: Proxies whose headers for the client's address and the request's id are used.
        """
        transport = request.channel.transport
        peer = transport.getPeer()
        transport.getHandle().setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(TCP_USER_TIMEOUT * 1000)
        )
        address = plain_address(peer.host)
        connected = f"{address}:{peer.port}"
        by_proxy = contains(trusted, address)
        named = request.requestHeaders.getRawHeaders(b"x-forwarded-for", [])
        client = client_address(b",".join(named).decode("latin-1"), address, trusted)
        return cls(
            peer=client if client != address else connected,
            request_id=_request_id(_header(request, b"x-vcap-request-id") if by_proxy else None),
            token=_bearer(_header(request, b"authorization")),
            proxy=connected if client != address else None,
        )


def answer(
    service: CaptureService,
    request: Any,
    ask: Callable[[ClientInfo], Deferred[dict[str, Any]]],
    status: int = 200,
) -> Any:
    """Answer a request with a JSON object that is not known yet; a client that leaves cancels the question.

    Args:
        ask: Asks for the object, on behalf of a client.
        status: The HTTP status with it.

    Returns:
        What a Twisted resource returns.
    """
    client = service.client(request)
    asked = ask(client)
    gone = False

    def left(_: Any) -> None:
        nonlocal gone
        gone = True
        asked.cancel()

    def done(body: dict[str, Any]) -> None:
        if not gone:
            request.write(answer_json(request, status, body))
            request.finish()

    def failed(failure: Failure) -> None:
        if gone and failure.check(CancelledError):
            return
        error = service.refused(failure, client)
        if not gone:
            request.write(deny(request, error))
            request.finish()

    request.notifyFinish().addErrback(left)
    asked.addCallbacks(done, failed)
    return NOT_DONE_YET


def _header(request: Any, name: bytes) -> str | None:
    # Read as bytes, because Twisted fails to decode a header that is not UTF-8.
    value = request.getHeader(name)
    return None if value is None else value.decode("latin-1")


def _request_id(given: str | None) -> str:
    if given and len(given) <= NAME_MAX and given.isascii() and given.isprintable():
        return given
    return str(uuid.uuid4())


def _bearer(header: str | None) -> str | None:
    scheme, _, token = (header or "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


class HealthResource(Page):
    """``GET /health``: 200 or 503, always JSON.

    Args:
        health: Returns the body.
    """

    isLeaf = True

    def __init__(self, health: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._health = health

    def render_GET(self, request: Any) -> bytes:
        """Answer with the health of the api."""
        body = self._health()
        return answer_json(request, http.OK if body["healthy"] else http.SERVICE_UNAVAILABLE, body)


class TargetsResource(Page):
    """``GET /v1/targets``: the names of the api's configuration that a user may capture.

    Args:
        service: The api.
        names: Returns the names for a user's token; raises `RequestError`.
    """

    isLeaf = True

    def __init__(self, service: CaptureService, names: Callable[[str], list[str]]) -> None:
        super().__init__()
        self._service = service
        self._names = names

    def render_GET(self, request: Any) -> bytes:
        """Answer with the names."""
        client = self._service.client(request)
        try:
            if client.token is None:
                raise Unauthenticated("no token", "send an Authorization header")
            body = {"targets": self._names(client.token)}
        except RequestError as error:
            return deny(request, self._service.refused(Failure(error), client))
        return answer_json(request, http.OK, body)
