"""Two ends of a TLS connection over real loopback sockets, for the tests of pcapd.net."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Callable, Optional

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from demo.certificates import AGENT_NAME, API_NAME, Credentials
from pcapd.config.schema import ClientTLS, ServerTLS
from pcapd.net.outgoing import connect_tls, outgoing_socket
from pcapd.net.ports import TLSPort
from pcapd.net.tls import ClientContext, ServerContext, check_allowed, check_server_name
from pcapd.net.transport import TLSTransport

LOCAL = "127.0.0.1"
#: Seconds after which a test that waits has failed.
LONGEST = 10.0


@implementer(IHandshakeListener)
class Peer(Protocol):
    """Keeps what arrives, and tells of each step by a Deferred."""

    transport: Any

    def __init__(self) -> None:
        self.ready: Deferred[None] = Deferred()
        self.closed: Deferred[Exception] = Deferred()
        self.events: list[str] = []
        self.digest = hashlib.sha256()
        self.size = 0
        self._wanted: Optional[tuple[int, Deferred[None]]] = None

    def handshakeCompleted(self) -> None:
        self.events.append("ready")
        self.ready.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.events.append("data")
        self.digest.update(data)
        self.size += len(data)
        if self._wanted is not None and self.size >= self._wanted[0]:
            _, wanted = self._wanted
            self._wanted = None
            wanted.callback(None)

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008
        self.events.append("closed")
        self.closed.callback(reason.value)

    def received(self, size: int) -> Deferred[None]:
        """Fires when so many bytes have come in all."""
        done: Deferred[None] = Deferred()
        if self.size >= size:
            done.callback(None)
        else:
            self._wanted = (size, done)
        return done


class Server:
    """A listener on a free port that makes a `Peer` of every connection."""

    def __init__(
        self, reactor: Any, context: Callable[[], SSL.Context], allowed: tuple[str, ...] = (API_NAME,)
    ) -> None:
        self.peers: list[Peer] = []
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = self._build  # type: ignore[method-assign]
        self.port = TLSPort(0, factory, LOCAL, reactor, context, lambda tls: check_allowed(tls, allowed))
        self.port.startListening()
        self._next: list[Deferred[Peer]] = []

    def _build(self, _: object) -> Peer:
        peer = Peer()
        self.peers.append(peer)
        if self._next:
            self._next.pop(0).callback(peer)
        return peer

    def accepted(self) -> Deferred[Peer]:
        """Fires with the next connection."""
        accepted: Deferred[Peer] = Deferred()
        self._next.append(accepted)
        return accepted

    @property
    def address(self) -> tuple[str, int]:
        return LOCAL, self.port.getHost().port

    async def close(self) -> None:
        """Stop listening and drop what is connected."""
        await self.port.stopListening()
        for peer in self.peers:
            peer.transport.abortConnection()
            await peer.closed


def server_tls(credentials: Credentials, client_cas: Optional[Path] = None) -> ServerTLS:
    return ServerTLS(
        certificate=credentials.certificate,
        private_key=credentials.private_key,
        client_cas=client_cas or credentials.ca,
        allowed_clients=(API_NAME,),
    )


def server_context(credentials: Credentials, client_cas: Optional[Path] = None) -> ServerContext:
    return ServerContext(server_tls(credentials, client_cas))


def client_context(credentials: Credentials, ca: Optional[Path] = None) -> ClientContext:
    return ClientContext(
        ClientTLS(
            certificate=credentials.certificate,
            private_key=credentials.private_key,
            ca=ca or credentials.ca,
            server_name=AGENT_NAME,
        )
    )


def connect(
    reactor: Any,
    address: tuple[str, int],
    context: Callable[[], SSL.Context],
    *,
    name: str = AGENT_NAME,
    timeout: float = LONGEST,
) -> tuple[Peer, TLSTransport]:
    """Connect to an address and return this end."""
    peer = Peer()
    transport = connect_tls(
        reactor,
        outgoing_socket(address[0]),
        address,
        peer,
        context(),
        lambda tls: check_server_name(tls, name),
        timeout,
    )
    return peer, transport
