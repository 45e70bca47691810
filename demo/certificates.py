"""A throw-away certificate authority.

Tests issue valid and invalid certificates: with another name, expired, not for this
use, from another CA.

The CA's own key never leaves memory, so it can issue nothing after the process has
ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Optional, Sequence

from pcapd.certificates import Issuer, Period, common_name, new_key, write_certificate, write_key

AGENT_NAME = "pcap-agent.service.cf.internal"
API_NAME = "pcap-api.service.cf.internal"

#: Certificates are valid from a little in the past: the clocks of two machines
#: (or of a container and its host) are never quite the same.
CLOCK_SLACK = timedelta(hours=1)
LIFETIME = timedelta(days=30)


@dataclass(frozen=True)
class Credentials:
    """The paths of one issued certificate, its key, and the CA that issued it."""

    certificate: Path
    private_key: Path
    ca: Path


class Authority:
    """Issues certificates into a directory, and writes its own there as ``ca.crt``.

    Args:
        directory: Created if missing.
        name: The CA's common name; two CAs of the same name are still different.
    """

    def __init__(self, directory: Path, name: str = "pcapd lab CA") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.certificate_path = directory / "ca.crt"
        self._issuer = Issuer(common_name(name), new_key())
        now = datetime.now(timezone.utc)
        # Longer than anything issued, so that an expired leaf is just that.
        own = self._issuer.self_signed(Period(now - 4 * LIFETIME, now + 2 * LIFETIME))
        write_certificate(self.certificate_path, own)

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
            name: The name of the files, and the certificate's common name, which is
                not an identity: only ``dns`` and ``ips`` are checked.
            dns: DNS names of the subject.
            ips: IP addresses of the subject.
            server: Whether a server may use it.
            client: Whether a client may use it.
            not_before: Start of validity; default: an hour ago.
            not_after: End of validity; default: thirty days from now.
        """
        key, now = new_key(), datetime.now(timezone.utc)
        period = Period(not_before or now - CLOCK_SLACK, not_after or now + LIFETIME)
        certificate = self._issuer.issue(
            name, key.public_key(), period, names=[*dns, *ips], server=server, client=client
        )
        credentials = Credentials(
            self.directory / f"{name}.crt", self.directory / f"{name}.key", self.certificate_path
        )
        write_certificate(credentials.certificate, certificate)
        write_key(credentials.private_key, key)
        return credentials

    def issue_expired(self, name: str, *, dns: Sequence[str] = (), ips: Sequence[str] = ()) -> Credentials:
        """Issue a certificate that expired yesterday."""
        yesterday = datetime.now(timezone.utc) - timedelta(days=1)
        return self.issue(name, dns=dns, ips=ips, not_before=yesterday - LIFETIME, not_after=yesterday)

    def issue_agent(self, name: str = "agent") -> Credentials:
        """Issue a certificate for an agent on this machine."""
        return self.issue(name, dns=(AGENT_NAME, "localhost"), ips=("127.0.0.1",), client=False)

    def issue_api(self, name: str = "api") -> Credentials:
        """Issue a certificate for an api on this machine, as server and as client of its agents."""
        return self.issue(name, dns=(API_NAME, "localhost"), ips=("127.0.0.1",))
