from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: When the tests' certificates are valid, give or take a day.
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Pair:
    """A self-signed certificate and its key, as PEM."""

    def __init__(self, expires: datetime) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(expires - timedelta(days=2))
            .not_valid_after(expires)
            .sign(key, hashes.SHA256())
        )
        self.key = key
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.key_pem = self.private_bytes(serialization.NoEncryption())

    def private_bytes(self, encryption: serialization.KeySerializationEncryption) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )

    def write(self, directory: Path, name: str) -> None:
        (directory / f"{name}.crt").write_bytes(self.certificate_pem)
        key = directory / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(self.key_pem)


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def make_pair() -> Callable[..., Pair]:
    def make(expires: datetime = NOW + timedelta(days=1)) -> Pair:
        return Pair(expires)

    return make


@pytest.fixture
def directory(tmp_path: Path, make_pair: Callable[..., Pair]) -> Path:
    """A directory whose tls/ holds everything that the examples name."""
    tls = tmp_path / "tls"
    tls.mkdir()
    for name in ("ca", "agent", "api"):
        make_pair().write(tls, name)
    return tmp_path
