"""What the files of a TLS section must hold.  Pure: bytes and a time in, or ValueError.

A message is half a sentence that fits after "path: file ".
"""

from __future__ import annotations

from datetime import datetime
from typing import List

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

__all__ = ["check_authorities", "check_same_key", "check_validity", "read_certificate", "read_private_key"]


def read_certificate(pem: bytes) -> x509.Certificate:
    """Our own certificate: the first of a chain."""
    return _certificates(pem)[0]


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """Refuse a certificate that has expired or is not valid yet.

    Args:
        certificate: Our own.
        now: With its time zone.
    """
    if now > certificate.not_valid_after_utc:
        raise ValueError(f"expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if now < certificate.not_valid_before_utc:
        raise ValueError(f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")


def read_private_key(pem: bytes) -> PrivateKeyTypes:
    """A private key in the clear."""
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError("is encrypted, and nobody is there to give the passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        # Not the library's words: they could quote the file.
        raise ValueError("holds no private key in PEM that we can read") from None


def check_same_key(key: PrivateKeyTypes, certificate: x509.Certificate) -> None:
    """Refuse a private key that is not the certificate's."""
    if key.public_key() != certificate.public_key():
        raise ValueError("is not the key of the certificate")


def check_authorities(pem: bytes, now: datetime) -> None:
    """Refuse a file of trusted certificates that could trust nobody.

    One that has not expired is enough: while a CA is replaced the old one stays in.
    """
    if all(now > certificate.not_valid_after_utc for certificate in _certificates(pem)):
        raise ValueError("holds expired certificates only")


def _certificates(pem: bytes) -> List[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError("holds no certificate in PEM that we can read") from None
