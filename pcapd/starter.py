"""Commands for a first installation: ``pcapd example-config`` and ``pcapd certificates``.

The certificates come from one new CA, whose key is in the same directory.  If there is
a CA already (CredHub, step-ca, an enterprise's), use that instead.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pcapd.certificates import Issuer, Period, common_name, new_key, write_certificate, write_key

__all__ = ["run"]

#: Clocks of two machines are never quite the same.
_SLACK = timedelta(hours=1)
_LIFETIME = timedelta(days=365)
_CA_LIFETIME = timedelta(days=3650)
#: Names that the example configurations have.
_API, _AGENT = "pcap-api.service.cf.internal", "pcap-agent.service.cf.internal"
#: RFC 1123, section 2.1, with the underscore that BOSH uses, and a wildcard.
_LABEL = re.compile(r"\*|[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NAME_MAX = 253  # characters
_LOCAL = ("localhost", "127.0.0.1")


class _Failed(Exception):
    """The message has the reason."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line; returns the exit status."""
    given = _parser().parse_args(list(arguments))
    try:
        print(given.do(given), end="")
    except (_Failed, OSError, ValueError) as error:
        raise SystemExit(f"pcapd: {error}") from None
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pcapd")
    commands = parser.add_subparsers(required=True)
    text = "print a commented example configuration with every key"
    example = commands.add_parser("example-config", help=text, description=text)
    example.add_argument("role", choices=("agent", "api"))
    example.set_defaults(do=lambda given: _example(given.role))
    text = "make a CA, and certificates for an api and for agents; existing files are kept"
    certificates = commands.add_parser("certificates", help=text, description=text)
    certificates.add_argument("directory", type=Path, metavar="DIR")
    for role, why in (("api", "by which users reach the api"), ("agent", "of the agents")):
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
    for name in (*api, *agent):
        if not _is_name(name):
            raise _Failed(f"{name!r} is neither a host name nor an IP address")
    directory.mkdir(parents=True, exist_ok=True)
    ca = _CA(directory)
    made = ["ca.crt", "ca.key"] if ca.new else []
    # An agent's certificate must not allow client use: it could impersonate the api.
    for name, names, client in (("api", [_API, *api], True), ("agent", [_AGENT, *agent], False)):
        if (directory / f"{name}.crt").exists() and (directory / f"{name}.key").exists():
            continue
        ca.issue(name, [*names, *_LOCAL], client=client)
        made += [f"{name}.crt", f"{name}.key"]
    if not made:
        raise _Failed(f"{directory} already has all files; remove those that should be made again")
    advice = "keep ca.key secret and elsewhere: its owner can impersonate the api"
    return f"made in {directory}: {', '.join(made)}\n{advice}\n"


def _is_name(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return len(text) <= _NAME_MAX and all(_LABEL.fullmatch(part) for part in text.split("."))
    return True


class _CA:
    """The CA in a directory; it is made if the directory has none."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        certificate, key = directory / "ca.crt", directory / "ca.key"
        self.new = not certificate.exists() and not key.exists()
        if self.new:
            made = new_key()
            self._issuer = Issuer(common_name("pcapd CA"), made)
            write_key(key, made)
            write_certificate(certificate, self._issuer.self_signed(_valid_for(_CA_LIFETIME)))
            return
        if not (certificate.exists() and key.exists()):
            raise _Failed(f"{directory} has one of ca.crt and ca.key without the other")
        found = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(found, ec.EllipticCurvePrivateKey):
            raise _Failed(f"{key} was not made by this command")
        self._issuer = Issuer(x509.load_pem_x509_certificate(certificate.read_bytes()).subject, found)

    def issue(self, name: str, names: Sequence[str], *, client: bool) -> None:
        """Write ``NAME.crt`` and ``NAME.key``, for these host names and addresses."""
        key = new_key()
        certificate = self._issuer.issue(
            name, key.public_key(), _valid_for(_LIFETIME), names=names, client=client
        )
        write_key(self._directory / f"{name}.key", key)
        write_certificate(self._directory / f"{name}.crt", certificate)


def _valid_for(lifetime: timedelta) -> Period:
    now = datetime.now(timezone.utc)
    return Period(now - _SLACK, now + lifetime)
