"""GET over HTTPS from an authority, within bounds of bytes and time.

One `Conversation` per question: it may take several requests over one
connection, and nothing of it is left afterwards, however the other side
behaves.  No redirect is followed and no other host is ever asked, because the
requests carry somebody's token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from pcapd import __version__
from pcapd.errors import ConfigError, ResolverUnavailable
from pcapd.limits import (
    AUTHORITY_BODY_MAX,
    AUTHORITY_CALL_TIMEOUT,
    AUTHORITY_HEADERS_MAX,
    HANDSHAKE_TIMEOUT,
)

__all__ = ["Answer", "Authority", "Conversation", "Trust"]


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        headers: The last value of each, by lower-case name.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Trust:
    """The CAs, one of which must have issued an authority's certificate.  Authorities can share it.

    Args:
        ca: The file with the CAs; None trusts the system's.

    Raises:
        ConfigError: It cannot be used.

    Attributes:
        root: As Twisted takes it; a new object after each change.
    """

    def __init__(self, ca: Path | None) -> None:
        self._ca = ca
        self.root = self._read()

    def prepare(self) -> Callable[[], None]:
        """Read the file again; the result puts it into force.

        Raises:
            ConfigError: It cannot be used; what was read before stays in force.
        """
        return partial(self._use, self._read())

    def _use(self, root: Any) -> None:
        self.root = root

    def _read(self) -> Any:
        return platformTrust() if self._ca is None else trustRootFromCertificates(_certificates(self._ca))


class Authority:
    """An HTTPS server that decides something for us.

    Args:
        reactor: Where to be told about sockets.
        name: For people, such as ``Cloud Controller``.
        url: Its https URL; of the path nothing is used.
        trust: The CAs, one of which must have issued its certificate.
    """

    def __init__(self, reactor: Any, name: str, url: str, trust: Trust) -> None:
        self.name = name
        self._reactor = reactor
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self.base = f"https://{parts.netloc}"
        self._trust = trust
        self._made: tuple[Any, Any] = (None, None)

    def conversation(self) -> Conversation:
        """Begin one; whoever does must close it."""
        return Conversation(self, self._reactor, self._options())

    def _options(self) -> Any:
        root, options = self._made
        if root is not self._trust.root:
            root = self._trust.root
            # Checks the chain and the name, or the address where the URL has one.
            options = optionsForClientTLS(self._host, trustRoot=root)
            self._made = (root, options)
        return options


class Conversation:
    """Requests over one connection.  See `Authority`."""

    def __init__(self, authority: Authority, reactor: Any, options: Any) -> None:
        self._authority = authority
        self._reactor = reactor
        self._endpoints = _Endpoints(reactor, options)
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 1
        self._agent = Agent.usingEndpointFactory(reactor, self._endpoints, self._pool)

    @property
    def host(self) -> str:
        """Host and port of the authority, as in its URL."""
        return self._authority.base.removeprefix("https://")

    async def get(self, target: str, token: str | None = None) -> Answer:
        """GET a path with its query.

        Args:
            token: A bearer token; of printable ASCII characters.

        Raises:
            ResolverUnavailable: There was no answer, in time and of bearable size.
        """
        headers = Headers({"User-Agent": [f"pcapd/{__version__}"], "Accept": ["application/json"]})
        if token is not None:
            headers.addRawHeader("Authorization", f"bearer {token}")
        self._endpoints.allow(AUTHORITY_BODY_MAX + AUTHORITY_HEADERS_MAX)
        call = Deferred.fromCoroutine(self._get(target, headers))
        call.addTimeout(AUTHORITY_CALL_TIMEOUT, self._reactor)
        name = self._authority.name
        try:
            return await call
        except ResolverUnavailable:
            raise
        except TimeoutError as error:
            raise ResolverUnavailable(
                f"{name} did not answer within {AUTHORITY_CALL_TIMEOUT:g} s", "try again later"
            ) from error
        except CancelledError:
            raise
        except Exception as error:
            raise ResolverUnavailable(
                f"{name} cannot be asked: {_words(error)}", "try again later"
            ) from error

    def close(self) -> None:
        """Leave nothing behind."""
        # Their own farewells would wait for an answer that may never come.
        self._pool.closeCachedConnections().addErrback(lambda _: None)
        for transport in self._endpoints.transports:
            if transport.connected:  # Twisted's TLS fails to abort what is gone
                transport.abortConnection()

    async def _get(self, target: str, headers: Headers) -> Answer:
        url = (self._authority.base + target).encode("ascii")
        try:
            response = await self._agent.request(b"GET", url, headers)
        except Exception as error:
            # Twisted wraps what was cancelled, so that nobody knows it again.
            reasons = getattr(error, "reasons", ())
            if isinstance(error, ConnectingCancelledError) or any(
                reason.check(CancelledError) for reason in reasons
            ):
                raise CancelledError from error
            raise
        body = _Body(self._authority.name)
        response.deliverBody(body)
        content = await body.finished
        given = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return Answer(response.code, given, content)


class _Body(Protocol):
    """Collects a body, up to a limit."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pieces: list[bytes] = []
        self._size = 0
        self.finished: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= AUTHORITY_BODY_MAX:
            self._pieces.append(data)
        elif not self.finished.called:
            self._pieces.clear()
            words = f"{self._name} answered with more than {AUTHORITY_BODY_MAX} bytes"
            self.finished.errback(Failure(ResolverUnavailable(words)))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.finished.called:
            return
        if reason.check(ResponseDone):
            self.finished.callback(b"".join(self._pieces))
        else:
            # PotentialDataLoss too: who says neither length nor chunks may have been cut.
            words = f"the answer of {self._name} was cut off"
            self.finished.errback(Failure(ResolverUnavailable(words, "try again later")))


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """TLS to one server; remembers the transports, which `Agent` keeps to itself, and bounds what comes.

    `Agent` keeps headers, and the heads of interim answers, without a bound of its own.
    """

    def __init__(self, reactor: Any, options: Any) -> None:
        self._reactor = reactor
        self._options = options
        self._left = 0
        self.transports: list[Any] = []

    def endpointForURI(self, uri: URI) -> Any:
        plain = HostnameEndpoint(self._reactor, uri.host, uri.port, timeout=HANDSHAKE_TIMEOUT)
        return _Remembered(wrapClientTLS(self._options, plain), self._connected)

    def allow(self, size: int) -> None:
        """So many bytes may come from now on."""
        self._left = size

    def _connected(self, protocol: Any) -> Any:
        receive = protocol.dataReceived

        def bounded(data: bytes) -> None:
            self._left -= len(data)
            if self._left < 0:
                protocol.transport.abortConnection()
            else:
                receive(data)

        protocol.dataReceived = bounded
        self.transports.append(protocol.transport)
        return protocol


@implementer(IStreamClientEndpoint)
class _Remembered:
    def __init__(self, endpoint: Any, connected: Callable[[Any], Any]) -> None:
        self._endpoint = endpoint
        self._connected = connected

    def connect(self, factory: IProtocolFactory) -> Any:
        return self._endpoint.connect(factory).addCallback(self._connected)


def _certificates(path: Path) -> list[Certificate]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError("tls", [f"cannot use {path}: {error}"]) from error
    return [Certificate(crypto.X509.from_cryptography(certificate)) for certificate in found]


def _words(error: BaseException) -> str:
    """What happened, for people; Twisted wraps causes in lists of failures."""
    causes = getattr(error, "reasons", None)
    if causes:
        return _words(causes[0].value)
    if isinstance(error, VerificationError):
        return "its certificate is for another name"
    if isinstance(error, SSL.Error):
        reasons = [reason[-1] for reason in error.args[0]] if error.args else []
        return f"TLS failed: {', '.join(reasons) or 'the connection was closed'}"
    if isinstance(error, DNSLookupError):
        return "its name cannot be resolved"
    if isinstance(error, ConnectError):
        words = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
        return words or "no connection was made in time"
    return str(error) or type(error).__name__
