"""TLS contexts from the configuration, and whether a peer is who it must be.

A certificate that the right CA signed is no identity: an agent's own
certificate is signed by the same CA as the api's and usually may act as a
client too.  So both ends also check the name in it, with service-identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.ssl import CertificateOptions, TLSVersion

from pcapd.config.schema import ClientTLS, ServerTLS
from pcapd.errors import ConfigError, PeerIdentityError

__all__ = ["ClientContext", "ServerContext", "check_allowed", "check_server_name"]


#: What service-identity says of a certificate for other names, and of one without any.
_NOT_FOR_IT = (VerificationError, CertificateError)


class ServerContext:
    """The context for a listener; `reload` reads the files again.

    Args:
        tls: Where the files are.
        protocol: What is spoken here, for clients that ask by ALPN (RFC 7301).

    Raises:
        ConfigError: They cannot be used.
    """

    def __init__(self, tls: ServerTLS, protocol: bytes | None = None) -> None:
        self._tls = tls
        self._protocol = protocol
        self._context = self._read()

    def __call__(self) -> SSL.Context:
        """The context for the next connection."""
        return self._context

    def reload(self) -> None:
        """Use renewed files; the old ones stay in use when the new ones are no good.

        Raises:
            ConfigError: They cannot be used.
        """
        self._context = self._read()

    def _read(self) -> SSL.Context:
        tls = self._tls
        trusted = str(tls.client_cas) if tls.client_cas else None
        return _context(str(tls.certificate), str(tls.private_key), trusted, self._protocol)


class ClientContext:
    """The context for outgoing connections; like `ServerContext`."""

    def __init__(self, tls: ClientTLS) -> None:
        self._tls = tls
        self._context = self._read()

    def __call__(self) -> SSL.Context:
        """The context for the next connection."""
        return self._context

    def reload(self) -> None:
        """Use renewed files.

        Raises:
            ConfigError: They cannot be used.
        """
        self._context = self._read()

    def _read(self) -> SSL.Context:
        return _context(str(self._tls.certificate), str(self._tls.private_key), str(self._tls.ca))


def check_server_name(connection: SSL.Connection, name: str) -> None:
    """Refuse a server whose certificate is not for a name.

    Raises:
        PeerIdentityError: It is for other names, which the message lists.
    """
    try:
        _verify(connection, name)
    except _NOT_FOR_IT as error:
        raise PeerIdentityError(
            f"the certificate is for {_names(connection)}, not for {name!r}", "check server_name"
        ) from error


def check_allowed(connection: SSL.Connection, allowed: Iterable[str]) -> None:
    """Refuse a client whose certificate carries none of the allowed names.

    Raises:
        PeerIdentityError: It carries others, which the message lists.
    """
    for name in allowed:
        try:
            _verify(connection, name)
        except _NOT_FOR_IT:
            continue
        return
    raise PeerIdentityError(
        f"the client's certificate is for {_names(connection)}, which is not in allowed_clients"
    )


def _verify(connection: SSL.Connection, name: str) -> None:
    if name.replace(".", "").isdigit() or ":" in name:
        verify_ip_address(connection, name)
    else:
        verify_hostname(connection, name)


def _names(connection: SSL.Connection) -> str:
    certificate = connection.get_peer_certificate()
    if certificate is None:
        return "nobody"
    try:
        extensions = certificate.to_cryptography().extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "no name at all"
    return ", ".join(repr(str(name.value)) for name in names)


def _context(
    certificate: str, private_key: str, trusted: str | None, protocol: bytes | None = None
) -> SSL.Context:
    try:
        chain = _certificates(certificate)
        options = CertificateOptions(
            privateKey=crypto.load_privatekey(crypto.FILETYPE_PEM, Path(private_key).read_bytes()),
            certificate=chain[0],
            extraCertChain=chain[1:],
            raiseMinimumTo=TLSVersion.TLSv1_2,
            verify=trusted is not None,
            requireCertificate=trusted is not None,
            caCerts=_certificates(trusted) if trusted else None,
        )
        context: SSL.Context = options.getContext()
    except (OSError, SSL.Error, crypto.Error, ValueError) as error:
        files = ", ".join(path for path in (certificate, private_key, trusted) if path)
        raise ConfigError("tls", [f"cannot use {files}: {error}"]) from error
    # Twisted asks OpenSSL to free its buffers after each record, which costs
    # two allocations per record on the bulk legs.
    context.clear_mode(SSL.MODE_RELEASE_BUFFERS)
    # Twisted's own choice asks its own TLS protocol, which is not there.
    context.set_alpn_select_callback(
        lambda _, offered: protocol if protocol in offered else SSL.NO_OVERLAPPING_PROTOCOLS
    )
    return context


def _certificates(path: str) -> list[crypto.X509]:
    found = x509.load_pem_x509_certificates(Path(path).read_bytes())
    return [crypto.X509.from_cryptography(certificate) for certificate in found]
