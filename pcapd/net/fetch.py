"""Sends requests to an authority over HTTPS, with limits of bytes and time.

An authority is a server that knows which apps or VMs a user may capture: Cloud Controller,
UAA or a BOSH director.  Connections are kept for a while and used for all requests, because a
TLS handshake costs both sides more than most answers.  A kept connection was verified with the
present CAs, carries one request at a time, and has a byte limit for each answer.  Redirects
are not followed and no other host receives requests, because they contain a user's token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from pcapd import __version__
from pcapd.errors import ConfigError, ResolverUnavailable
from pcapd.limits import (
    AUTHORITY_BODY_MAX,
    AUTHORITY_CALL_TIMEOUT,
    AUTHORITY_HEADERS_MAX,
    AUTHORITY_IDLE_TIME,
    AUTHORITY_KEPT,
    HANDSHAKE_TIMEOUT,
)
from pcapd.net.reactor import Reactor

__all__ = ["Answer", "Authority", "Conversation", "Trust"]


@dataclass(frozen=True)
class Answer:
    """The answer to a request.

    Attributes:
        headers: The last value of each header, by lower-case name.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Trust:
    """The trusted CAs of an authority's certificate.  Authorities can share it.

    Args:
        ca: The file with the CAs; None for the system's CAs.

    Raises:
        ConfigError: The file cannot be used.

    Attributes:
        root: Twisted's trust root; a new object after each change.
    """

    def __init__(self, ca: Path | None) -> None:
        self._ca = ca
        self.root = self._read()

    def prepare(self) -> Callable[[], None]:
        """Read the file again; call the result to use it.

        Raises:
            ConfigError: The file cannot be used; the CAs that were read before stay in use.
        """
        return partial(self._use, self._read())

    def _use(self, root: Any) -> None:
        self.root = root

    def _read(self) -> Any:
        return platformTrust() if self._ca is None else trustRootFromCertificates(_certificates(self._ca))


class Authority:
    """An HTTPS server that decides about requests: Cloud Controller, a director, or UAA.

    Args:
        reactor: Twisted's reactor.
        name: The authority's name in messages, such as ``Cloud Controller``.
        url: The authority's https URL; its path is not used.
        trust: The CAs for the authority's certificate.
    """

    def __init__(self, reactor: Reactor, name: str, url: str, trust: Trust) -> None:
        self.name = name
        self._reactor = reactor
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self.base = f"https://{parts.netloc}"
        self._trust = trust
        self._pool = HTTPConnectionPool(reactor)
        self.renew()

    def renew(self) -> None:
        """Use the changed CAs: no new requests are sent on existing connections."""
        self.close()
        self._pool = HTTPConnectionPool(self._reactor)
        self._pool.maxPersistentPerHost = AUTHORITY_KEPT
        self._pool.cachedConnectionTimeout = AUTHORITY_IDLE_TIME
        endpoints = _Endpoints(self._reactor, self._options)
        self._agent = Agent.usingEndpointFactory(self._reactor, endpoints, self._pool)

    def _options(self) -> Any:
        """TLS options that verify the certificate chain and the name, or the address, in the URL."""
        return optionsForClientTLS(self._host, trustRoot=self._trust.root)

    def close(self) -> None:
        """Close idle connections now, and the others after their present answer."""
        self._pool.cachedConnectionTimeout = 0
        self._pool.closeCachedConnections().addErrback(lambda _: None)

    def conversation(self) -> Conversation:
        """Make an object for requests that belong together, and can be cancelled together."""
        return Conversation(self)

    async def get(self, target: str, token: str | None = None) -> Answer:
        """GET a path with its query.

        Args:
            token: A bearer token of printable ASCII characters.

        Raises:
            ResolverUnavailable: There was no answer in time and within the size limit.
        """
        headers = {} if token is None else {"Authorization": f"bearer {token}"}
        return await self._call(b"GET", target, headers, None)

    async def post(self, target: str, form: Mapping[str, str]) -> Answer:
        """POST a form to a path.

        Raises:
            ResolverUnavailable: As for `get`.
        """
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self._call(b"POST", target, headers, _Form(urlencode(form).encode()))

    async def _call(
        self, method: bytes, target: str, headers: Mapping[str, str], body: _Form | None
    ) -> Answer:
        call = Deferred.fromCoroutine(self._send(method, target, headers, body))
        call.addTimeout(AUTHORITY_CALL_TIMEOUT, self._reactor)
        try:
            return await call
        except (ResolverUnavailable, CancelledError):
            raise
        except TimeoutError as error:
            raise ResolverUnavailable(
                f"{self.name} did not answer within {AUTHORITY_CALL_TIMEOUT:g} s", "try again later"
            ) from error
        except Exception as error:
            raise ResolverUnavailable(
                f"{self.name} cannot be reached: {_message(error)}", "try again later"
            ) from error

    async def _send(self, method: bytes, target: str, given: Mapping[str, str], form: _Form | None) -> Answer:
        headers = Headers({"User-Agent": [f"pcapd/{__version__}"], "Accept": ["application/json"]})
        for header, value in given.items():
            headers.addRawHeader(header, value)
        try:
            response = await self._agent.request(method, (self.base + target).encode("ascii"), headers, form)
        except Exception as error:
            # Twisted wraps a cancelled request in other exceptions.
            reasons = getattr(error, "reasons", ())
            if isinstance(error, ConnectingCancelledError) or any(
                reason.check(CancelledError) for reason in reasons
            ):
                raise CancelledError from error
            raise
        body = _Body(self.name)
        response.deliverBody(body)
        content = await body.finished
        received = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return Answer(response.code, received, content)


class Conversation:
    """Requests to an `Authority` that belong together, one after another.

    `close` prevents further requests.  A request that has been sent is not aborted: the
    authority would answer it anyway, and its connection could not be kept.
    """

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._closed = False

    @property
    def host(self) -> str:
        """Host and port of the authority, as in its URL."""
        return self._authority.base.removeprefix("https://")

    async def get(self, target: str, token: str | None = None) -> Answer:
        """GET a path with its query: see `Authority.get`.

        Raises:
            ResolverUnavailable: There was no answer in time and within the size limit.
            CancelledError: The conversation is closed.
        """
        if self._closed:
            raise CancelledError
        answer = await self._authority.get(target, token)
        if self._closed:
            raise CancelledError
        return answer

    def close(self) -> None:
        """Send no more requests."""
        self._closed = True


@implementer(IBodyProducer)
class _Form:
    """The body of a POST request."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.length = len(content)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._content)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: everything is written at once."""

    def resumeProducing(self) -> None:
        """Do nothing."""

    def stopProducing(self) -> None:
        """Do nothing."""


class _Body(Protocol):
    """Collects the body of an answer; if it exceeds the limit, the connection is closed."""

    transport: Any

    def __init__(self, name: str) -> None:
        self._name = name
        self._pieces: list[bytes] = []
        self._size = 0
        self.finished: Deferred[bytes] = Deferred(lambda _: self.transport.loseConnection())

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= AUTHORITY_BODY_MAX:
            self._pieces.append(data)
        elif not self.finished.called:
            self._pieces.clear()
            message = f"{self._name} answered with more than {AUTHORITY_BODY_MAX} bytes"
            self.finished.errback(Failure(ResolverUnavailable(message)))
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.finished.called:
            return
        if reason.check(ResponseDone):
            self.finished.callback(b"".join(self._pieces))
        else:
            # Also for PotentialDataLoss: an answer with neither length nor chunks may be incomplete.
            message = f"the answer of {self._name} was cut off"
            self.finished.errback(Failure(ResolverUnavailable(message, "try again later")))


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Makes TLS endpoints for Twisted's HTTP agent; their connections are `_Connection`.

    Args:
        options: Returns the present TLS options.  Called for each connection, because the HTTP
            agent may connect again long after it received an endpoint.
    """

    def __init__(self, reactor: Reactor, options: Callable[[], Any]) -> None:
        self._reactor = reactor
        self._options = options

    def endpointForURI(self, uri: URI) -> Any:
        plain = HostnameEndpoint(self._reactor, uri.host, uri.port, timeout=HANDSHAKE_TIMEOUT)
        return _Endpoint(plain, self._options)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, plain: HostnameEndpoint, options: Callable[[], Any]) -> None:
        self._plain = plain
        self._options = options

    def connect(self, factory: IProtocolFactory) -> Any:
        wrapping = WrappingFactory(factory)
        wrapping.noisy = False
        wrapping.protocol = _Connection
        connected: Any = wrapClientTLS(self._options(), self._plain).connect(wrapping)
        # The HTTP agent expects its own protocol, whose transport is the connection.
        return connected.addCallback(lambda connection: connection.wrappedProtocol)


class _Connection(ProtocolWrapper):
    """A connection to an authority, between TLS and HTTP.

    After each request, the bytes of one answer are accepted.  Twisted's HTTP parser has no limit
    for the size of headers and of interim answers.
    """

    transport: Any
    wrappedProtocol: Any
    _left = 0

    def write(self, data: bytes) -> None:
        self._allow()
        super().write(data)

    def writeSequence(self, data: list[bytes]) -> None:
        self._allow()
        super().writeSequence(data)

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        # Bytes that are received without a request must not be read as the next answer.
        if self._left < 0 or self.wrappedProtocol.state == "QUIESCENT":
            self.loseConnection()
        else:
            super().dataReceived(data)

    def loseConnection(self) -> None:
        """Abort the connection: TLS would wait for the peer's close_notify, perhaps for ever."""
        if self.transport.connected:  # Twisted's TLS cannot abort a closed connection
            self.transport.abortConnection()

    def _allow(self) -> None:
        self._left = AUTHORITY_BODY_MAX + AUTHORITY_HEADERS_MAX


def _certificates(path: Path) -> list[Certificate]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError("tls", [f"cannot use {path}: {error}"]) from error
    return [Certificate(crypto.X509.from_cryptography(certificate)) for certificate in found]


def _message(error: BaseException) -> str:
    """The cause of an error in readable form; Twisted wraps causes in lists of failures."""
    causes = getattr(error, "reasons", None)
    if causes:
        return _message(causes[0].value)
    if isinstance(error, VerificationError):
        return "its certificate is for another name"
    if isinstance(error, SSL.Error):
        reasons = [reason[-1] for reason in error.args[0]] if error.args else []
        return f"TLS failed: {', '.join(reasons) or 'the connection was closed'}"
    if isinstance(error, DNSLookupError):
        return "its name cannot be resolved"
    if isinstance(error, ConnectError):
        message = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
        return message or "no connection was made in time"
    return str(error) or type(error).__name__
