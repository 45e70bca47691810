"""Makes X.509 certificates (RFC 5280): for a first installation, the demonstration and the tests."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Issuer", "Period", "common_name", "new_key", "write_certificate", "write_key"]


class Period(NamedTuple):
    """The time in which a certificate is valid."""

    begin: datetime
    end: datetime


class Issuer:
    """Signs certificates.

    Args:
        name: The CA's subject.
        key: The CA's private key.
    """

    def __init__(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> None:
        self._name = name
        self._key = key

    def self_signed(self, period: Period) -> x509.Certificate:
        """Make the CA's own certificate."""
        return (
            self._builder(self._name, self._key.public_key(), period)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def issue(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        period: Period,
        *,
        names: Sequence[str] = (),
        server: bool = True,
        client: bool = True,
    ) -> x509.Certificate:
        """Make the certificate of a server, a client or both.

        Args:
            name: The common name, which is not an identity; only ``names`` are.
            key: The public key of the subject.
            period: The time in which it is valid.
            names: Host names and IP addresses of the subject.
            server: Whether a server may use it.
            client: Whether a client may use it.
        """
        builder = (
            self._builder(common_name(name), key, period)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
        )
        allowed = [(server, ExtendedKeyUsageOID.SERVER_AUTH), (client, ExtendedKeyUsageOID.CLIENT_AUTH)]
        purposes = [purpose for wanted, purpose in allowed if wanted]
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        subjects = [_general(one) for one in dict.fromkeys(names)]
        if subjects:
            builder = builder.add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, period: Period
    ) -> x509.CertificateBuilder:
        """Fill in what every certificate has; strict verifiers (Python 3.13) require the key identifiers."""
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(period.begin)
            .not_valid_after(period.end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(authority, critical=False)
        )


def common_name(name: str) -> x509.Name:
    """Make a subject that has a common name only."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a private key (P-256)."""
    return ec.generate_private_key(ec.SECP256R1())


def write_certificate(path: Path, certificate: x509.Certificate) -> None:
    """Write a certificate as PEM."""
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a private key as PEM (PKCS 8); only the owner can ever read the file."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.unlink(missing_ok=True)
    # Not chmod: others could read the file between that and its creation.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(encoding, form, serialization.NoEncryption()))


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
