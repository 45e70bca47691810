"""Checks the content of the files that a TLS section names.  Pure.

A problem raises ValueError; its message completes a sentence that begins with "path: file ".
"""

from __future__ import annotations

from datetime import datetime
from typing import List

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

__all__ = ["check_cas", "check_same_key", "check_validity", "read_certificate", "read_private_key"]


def read_certificate(pem: bytes) -> x509.Certificate:
    """Read the daemon's own certificate, the first in the file."""
    return _certificates(pem)[0]


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """Refuse a certificate that has expired or is not valid yet.

    Args:
        certificate: The daemon's own certificate.
        now: The present time, with its time zone.
    """
    if now > certificate.not_valid_after_utc:
        raise ValueError(f"expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if now < certificate.not_valid_before_utc:
        raise ValueError(f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")


def read_private_key(pem: bytes) -> PrivateKeyTypes:
    """Read an unencrypted private key."""
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError("is encrypted, but the daemon cannot ask for a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        # Without the library's message, which could quote the file.
        raise ValueError("contains no readable private key in PEM format") from None


def check_same_key(key: PrivateKeyTypes, certificate: x509.Certificate) -> None:
    """Refuse a private key that does not belong to the certificate."""
    if key.public_key() != certificate.public_key():
        raise ValueError("is not the key of the certificate")


def check_cas(pem: bytes, now: datetime) -> None:
    """Refuse a CA file whose certificates have all expired.

    One valid certificate is enough: while a CA is replaced, the file also contains the old one.
    """
    if all(now > certificate.not_valid_after_utc for certificate in _certificates(pem)):
        raise ValueError("contains expired certificates only")


def _certificates(pem: bytes) -> List[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError("contains no readable certificate in PEM format") from None
