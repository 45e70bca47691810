"""Where the api is: its URL, taken apart and checked.  Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Endpoint", "parse_endpoint"]


@dataclass(frozen=True)
class Endpoint:
    """An api.

    Attributes:
        secure: Over TLS.
        host: Name or address, without brackets.
        prefix: Path in front of every page, without a final slash.
    """

    secure: bool
    host: str
    port: int
    prefix: str = ""

    def path(self, page: str) -> str:
        """The path of one of the api's pages, which begins with a slash."""
        return self.prefix + page

    @property
    def authority(self) -> str:
        """Host and port as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.secure else 80
        return host if self.port == default else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.authority}{self.prefix}"


def parse_endpoint(url: str) -> Endpoint:
    """Take an api's URL apart.

    Plain http is for an api on this machine only: anywhere else the token and
    the packets would cross the network in clear.

    Raises:
        ValueError: It is no URL of an api; the message says why.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password; the token belongs in PCAP_TOKEN")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query or fragment")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("must be plain ASCII; write other host names in their xn-- form")
    host = parts.hostname
    if not host:
        raise ValueError("names no host")
    secure = parts.scheme == "https"
    if not secure and not _is_loopback(host):
        raise ValueError("plain http is for an api on this machine only; use https://")
    port = parts.port  # raises ValueError when it is none
    if port == 0:
        raise ValueError("port 0 is none")
    return Endpoint(secure, host, port or (443 if secure else 80), parts.path.rstrip("/"))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
