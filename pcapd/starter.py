"""What an operator begins with: ``pcapd example-config`` and ``pcapd certificates``.

The certificates are for a first installation: one authority, whose key lies beside
them.  Where there is an authority already (CredHub, step-ca, an enterprise's), use that.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["run"]

#: Clocks of two machines are never quite the same.
_SLACK = timedelta(hours=1)
_LIFETIME = timedelta(days=365)
_AUTHORITY_LIFETIME = timedelta(days=3650)
#: Names that the example configurations have.
_API, _AGENT = "pcap-api.service.cf.internal", "pcap-agent.service.cf.internal"
_LOCAL = ("localhost", "127.0.0.1")


class _Failed(Exception):
    """The message says why."""


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says; returns the exit status."""
    given = _parser().parse_args(list(arguments))
    try:
        print(given.do(given), end="")
    except (_Failed, OSError, ValueError) as error:
        raise SystemExit(f"pcapd: {error}") from None
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pcapd")
    commands = parser.add_subparsers(required=True)
    words = "print a commented example of a configuration, with every key"
    example = commands.add_parser("example-config", help=words, description=words)
    example.add_argument("role", choices=("agent", "api"))
    example.set_defaults(do=lambda given: _example(given.role))
    words = "make an authority, and certificates of an api and of agents; what is there already stays"
    certificates = commands.add_parser("certificates", help=words, description=words)
    certificates.add_argument("directory", type=Path, metavar="DIR")
    for role, why in (("api", "under which users reach the api"), ("agent", "of the agents")):
        certificates.add_argument(
            f"--{role}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"a host name or address {why}; repeatable",
        )
    certificates.set_defaults(do=lambda given: _certificates(given.directory, given.api, given.agent))
    return parser


# --- an example ------------------------------------------------------------------


def _example(role: str) -> str:
    name = f"pcapd-{role}.yml"
    here = Path(__file__).resolve().parent
    # In the wheel, and in a checkout.
    for path in (here / "examples" / name, here.parent / "etc" / name):
        if path.is_file():
            return path.read_text()
    raise _Failed(f"{name} is not installed")


# --- certificates ----------------------------------------------------------------


def _certificates(directory: Path, api: Sequence[str], agent: Sequence[str]) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    authority = _Authority(directory)
    made = ["ca.crt", "ca.key"] if authority.new else []
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    # Not client_auth for agents: an agent's could pass for the api's.
    for name, names, purposes in (("api", [_API, *api], both), ("agent", [_AGENT, *agent], both[:1])):
        if (directory / f"{name}.crt").exists() and (directory / f"{name}.key").exists():
            continue
        authority.issue(name, [*names, *_LOCAL], purposes)
        made += [f"{name}.crt", f"{name}.key"]
    if not made:
        raise _Failed(f"{directory} has all of them already; remove those that are to be made again")
    return f"made in {directory}: {', '.join(made)}\nkeep ca.key apart: who has it can pass for the api\n"


class _Authority:
    """The authority in a directory; it is made when the directory has none."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        certificate, key = directory / "ca.crt", directory / "ca.key"
        self.new = not certificate.exists() and not key.exists()
        if self.new:
            self._key = ec.generate_private_key(ec.SECP256R1())
            _write_key(key, self._key)
            self._name = _common_name("pcapd CA")
            certificate.write_bytes(_pem(self._self_signed()))
            return
        if not (certificate.exists() and key.exists()):
            raise _Failed(f"{directory} has one of ca.crt and ca.key without the other")
        found = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(found, ec.EllipticCurvePrivateKey):
            raise _Failed(f"{key} is not the key that this command made")
        self._key = found
        self._name = x509.load_pem_x509_certificate(certificate.read_bytes()).subject

    def issue(self, name: str, names: Sequence[str], purposes: Sequence[x509.ObjectIdentifier]) -> None:
        """Write ``NAME.crt`` and ``NAME.key``, for these host names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subjects = [_general(one) for one in dict.fromkeys(names)]
        builder = (
            self._builder(_common_name(name), key.public_key(), _LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        _write_key(self._directory / f"{name}.key", key)
        (self._directory / f"{name}.crt").write_bytes(_pem(certificate))

    def _self_signed(self) -> x509.Certificate:
        return (
            self._builder(self._name, self._key.public_key(), _AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(timezone.utc)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SLACK)
            .not_valid_after(now + lifetime)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(authority, critical=False)
        )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.unlink(missing_ok=True)
    # Never readable by others, not even between open and chmod.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(encoding, form, serialization.NoEncryption()))
