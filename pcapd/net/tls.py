"""TLS contexts from the configuration, and checks of a peer's identity.

A certificate that the right CA has signed does not prove that its owner is, for example, the
api: the same CA signs the agents' certificates, and these usually allow client use too.  So
both ends also check the name in the certificate, with service-identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address

from pcapd.config.schema import ClientTLS, ServerTLS
from pcapd.errors import ConfigError, PeerIdentityError

__all__ = [
    "CertificateHolder",
    "ClientContext",
    "ServerContext",
    "check_allowed",
    "check_server_name",
    "verdict",
]


_MODE_ENABLE_PARTIAL_WRITE = 0x1  # an OpenSSL constant that pyOpenSSL lacks
_MODE_RELEASE_BUFFERS = 0x10  # likewise; saves 34 KiB for each idle connection
#: Forward secrecy and authenticated encryption only (RFC 9325, section 4.2).
_TLS_1_2_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
#: service-identity's errors for a certificate with other names, and for one without names.
_NOT_FOR_IT = (VerificationError, CertificateError)


class CertificateHolder:
    """Holds the TLS context for new connections; `prepare` reads the files again.

    Args:
        read: Reads the files.

    Raises:
        ConfigError: The files cannot be used.
    """

    def __init__(self, read: Callable[[], tuple[SSL.Context, float]]) -> None:
        self._read = read
        self._context, self._expires = read()

    def __call__(self) -> SSL.Context:
        """The context for the next connection."""
        return self._context

    @property
    def expires(self) -> float:
        """When the first certificate of the own chain expires, in seconds since the epoch."""
        return self._expires

    def prepare(self) -> Callable[[], None]:
        """Read renewed files; call the result to use them.

        Raises:
            ConfigError: The files cannot be used; the old ones stay in use.
        """
        return partial(self._use, *self._read())

    def _use(self, context: SSL.Context, expires: float) -> None:
        self._context, self._expires = context, expires


class ServerContext(CertificateHolder):
    """The TLS context for a listening port.

    Args:
        tls: The paths of the files.
        protocol: The protocol of this listener, for clients that use ALPN (RFC 7301).

    Raises:
        ConfigError: The files cannot be used.
    """

    def __init__(self, tls: ServerTLS, protocol: bytes | None = None) -> None:
        trusted = str(tls.client_cas) if tls.client_cas else None
        super().__init__(partial(_context, str(tls.certificate), str(tls.private_key), trusted, protocol))


class ClientContext(CertificateHolder):
    """The TLS context for outgoing connections; like `ServerContext`."""

    def __init__(self, tls: ClientTLS) -> None:
        super().__init__(partial(_context, str(tls.certificate), str(tls.private_key), str(tls.ca)))


def check_server_name(connection: SSL.Connection, name: str) -> None:
    """Refuse a server whose certificate is not valid for `name`.

    Raises:
        PeerIdentityError: The certificate is for other names, which the message lists.
    """
    try:
        _verify(connection, name)
    except _NOT_FOR_IT as error:
        raise PeerIdentityError(
            f"the certificate is for {_names(connection)}, not for {name!r}", "check server_name"
        ) from error


def check_allowed(connection: SSL.Connection, allowed: Iterable[str]) -> None:
    """Refuse a client whose certificate has none of the allowed names.

    A wildcard such as ``*.example.com`` (RFC 6125, section 6.4.3) matches no allowed name: it
    does not identify one client.

    Args:
        allowed: DNS names in lower case.

    Raises:
        PeerIdentityError: The certificate has other names, which the message lists.
    """
    names = _alternative_names(connection)
    given = [] if names is None else names.get_values_for_type(x509.DNSName)
    if {name.lower() for name in given}.isdisjoint(allowed):
        raise PeerIdentityError(
            f"the client's certificate is for {_names(connection)}, which is not in allowed_clients",
            "it must have one of those names exactly: wildcards do not match",
        )


#: OpenSSL's verification errors (openssl-verification-options(1)); the exception does not contain them.
_VERDICTS = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed",
    19: "its issuer is not a trusted CA",
    20: "its issuer is not a trusted CA",
    21: "its issuer is not a trusted CA",
    26: "its extended key usage does not allow this use",
}


def _remember(connection: SSL.Connection, certificate: object, verdict: int, depth: int, ok: int) -> bool:
    """OpenSSL's verification callback: store the error for `verdict`."""
    if not ok:
        connection.set_app_data(_VERDICTS.get(verdict, f"OpenSSL's verification error is {verdict}"))
    return bool(ok)


def verdict(connection: SSL.Connection) -> str:
    """Why the peer's certificate was not accepted; empty if it was accepted or not sent."""
    return connection.get_app_data() or ""


def _verify(connection: SSL.Connection, name: str) -> None:
    if name.replace(".", "").isdigit() or ":" in name:
        verify_ip_address(connection, name)
    else:
        verify_hostname(connection, name)


def _names(connection: SSL.Connection) -> str:
    names = _alternative_names(connection)
    return "no name at all" if names is None else ", ".join(repr(str(name.value)) for name in names)


def _alternative_names(connection: SSL.Connection) -> x509.SubjectAlternativeName | None:
    certificate = connection.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        return None
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):  # none, or extensions that cannot be parsed
        return None


def _context(
    certificate: str, private_key: str, trusted: str | None, protocol: bytes | None = None
) -> tuple[SSL.Context, float]:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    # Send a whole batch with one call, instead of one call for each record of 16 KiB.
    context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)
    context.set_mode(_MODE_RELEASE_BUFFERS)
    context.set_cipher_list(_TLS_1_2_CIPHERS)  # all ciphers of TLS 1.3 are acceptable
    # No session resumption: the peer sends its certificate on each connection.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    try:
        own, *intermediate = x509.load_pem_x509_certificates(Path(certificate).read_bytes())
        context.use_certificate(own)
        for link in intermediate:
            context.add_extra_chain_cert(link)
        expires = min(each.not_valid_after_utc for each in (own, *intermediate)).timestamp()
        context.use_privatekey(load_pem_private_key(Path(private_key).read_bytes(), None))  # type: ignore[arg-type]
        context.check_privatekey()  # only this call detects a key of another type
        if trusted is not None:
            context.load_verify_locations(trusted)
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _remember)
    except (OSError, SSL.Error, ValueError, TypeError) as error:
        files = ", ".join(path for path in (certificate, private_key, trusted) if path)
        raise ConfigError("tls", [f"cannot use {files}: {error}"]) from error
    context.set_alpn_select_callback(
        lambda _, offered: protocol if protocol in offered else SSL.NO_OVERLAPPING_PROTOCOLS
    )
    return context, expires
