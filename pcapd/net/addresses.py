"""The IP addresses of this machine to which other machines can connect."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Union

__all__ = ["machine_addresses", "plain_address"]

_IPV4_TABLE = Path("/proc/net/fib_trie")
_IPV6_TABLE = Path("/proc/net/if_inet6")


def machine_addresses() -> list[str]:
    """The addresses of this machine's interfaces, in order, each once.

    Loopback and link-local addresses are left out: no other machine connects to them.
    """
    found = dict.fromkeys((*_ipv4(_read(_IPV4_TABLE)), *_ipv6(_read(_IPV6_TABLE))))
    return [str(address) for address in found if not (address.is_loopback or address.is_link_local)]


def plain_address(host: str) -> str:
    """A socket's address as it is in packets: an IPv4-mapped IPv6 address becomes an IPv4 address."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)


def _read(table: Path) -> str:
    try:
        return table.read_text()
    except OSError:  # this version of IP is switched off
        return ""


def _ipv4(table: str) -> Iterator[Union[IPv4Address, IPv6Address]]:
    """This host's own addresses in the table: each is on one line, and its kind is on a later line."""
    address = ""
    for line in table.splitlines():
        _, leaf, name = line.partition("|-- ")
        if leaf:
            address = name
        elif line.strip() == "/32 host LOCAL":
            yield IPv4Address(address)


def _ipv6(table: str) -> Iterator[Union[IPv4Address, IPv6Address]]:
    for line in table.splitlines():
        yield IPv6Address(bytes.fromhex(line.split()[0]))
