"""A throw-away certificate authority.

Tests issue the right ones and the wrong ones: another name, expired, not for this
use, of another authority.

The authority's own key never leaves memory, so nothing can be issued in its
name once the process is gone.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Optional, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AGENT_NAME = "pcap-agent.service.cf.internal"
API_NAME = "pcap-api.service.cf.internal"

#: Certificates are valid from a little in the past: the clocks of two machines
#: (or of a container and its host) are never quite the same.
CLOCK_SLACK = timedelta(hours=1)
LIFETIME = timedelta(days=30)


@dataclass(frozen=True)
class Credentials:
    """Where one issued certificate lies, and the authority that vouches for it."""

    certificate: Path
    private_key: Path
    ca: Path


class Authority:
    """Issues certificates into a directory, and writes its own there as ``ca.crt``.

    Args:
        directory: Is made when missing.
        name: The authority's common name; two authorities of one name are
            still two authorities.
    """

    def __init__(self, directory: Path, name: str = "pcapd lab CA") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.certificate_path = directory / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _common_name(name)
        self.certificate_path.write_bytes(_pem(self._self_signed()))

    def issue(
        self,
        name: str,
        *,
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        server: bool = True,
        client: bool = True,
        not_before: Optional[datetime] = None,
        not_after: Optional[datetime] = None,
    ) -> Credentials:
        """Write ``name.crt`` and ``name.key`` (mode 0600) and return their paths.

        Args:
            name: Of the files, and the certificate's common name, which nobody
                may take for an identity: only ``dns`` and ``ips`` count.
            dns: DNS names of the subject.
            ips: IP addresses of the subject.
            server: May be used by a server.
            client: May be used by a client.
            not_before: Start of validity; an hour ago.
            not_after: End of validity; thirty days from now.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(timezone.utc)
        builder = (
            self._builder(name, key.public_key())
            .not_valid_before(not_before or now - CLOCK_SLACK)
            .not_valid_after(not_after or now + LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usages(digital_signature=True), critical=True)
        )
        purposes = _purposes(server=server, client=client)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        names = _alternative_names(dns, ips)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return self._write(name, builder.sign(self._key, hashes.SHA256()), key)

    def issue_expired(self, name: str, *, dns: Sequence[str] = (), ips: Sequence[str] = ()) -> Credentials:
        """Issue one whose last day was yesterday."""
        yesterday = datetime.now(timezone.utc) - timedelta(days=1)
        return self.issue(name, dns=dns, ips=ips, not_before=yesterday - LIFETIME, not_after=yesterday)

    def issue_agent(self, name: str = "agent") -> Credentials:
        """Issue what an agent on this machine uses."""
        return self.issue(name, dns=(AGENT_NAME, "localhost"), ips=("127.0.0.1",), client=False)

    def issue_api(self, name: str = "api") -> Credentials:
        """Issue what an api on this machine uses, as server and towards its agents."""
        return self.issue(name, dns=(API_NAME, "localhost"), ips=("127.0.0.1",))

    def _self_signed(self) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        return (
            self._builder(None, self._key.public_key())
            # Longer than anything issued, so that an expired leaf is just that.
            .not_valid_before(now - 4 * LIFETIME)
            .not_valid_after(now + 2 * LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usages(key_cert_sign=True, crl_sign=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(self, name: Optional[str], key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        """Fill in what every certificate has; the key identifiers please strict verifiers (Python 3.13)."""
        return (
            x509.CertificateBuilder()
            .subject_name(_common_name(name) if name else self._subject)
            .issuer_name(self._subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )

    def _write(
        self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> Credentials:
        credentials = Credentials(
            self.directory / f"{name}.crt", self.directory / f"{name}.key", self.certificate_path
        )
        credentials.certificate.write_bytes(_pem(certificate))
        _write_private(
            credentials.private_key,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        return credentials


def _write_private(path: Path, content: bytes) -> None:
    # Never readable by others, not even between open and chmod.
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _usages(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _purposes(*, server: bool, client: bool) -> list[x509.ObjectIdentifier]:
    chosen = [(server, ExtendedKeyUsageOID.SERVER_AUTH), (client, ExtendedKeyUsageOID.CLIENT_AUTH)]
    return [purpose for wanted, purpose in chosen if wanted]


def _alternative_names(dns: Sequence[str], ips: Sequence[str]) -> list[x509.GeneralName]:
    return [
        *(x509.DNSName(name) for name in dns),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in ips),
    ]
