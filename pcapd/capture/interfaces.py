"""Reads interfaces, addresses and routes from the kernel, over rtnetlink(7).

A netlink socket stays in the network namespace in which it was opened, so a socket
opened together with a capture can be used later from any thread.  libpcap's own
interface drop counter cannot: it reads /sys, which shows the interfaces of the
*host*, and so reports the drops of another interface with the same name.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pcapd.errors import NoSuchInterface
from pcapd.limits import NETLINK_ANSWER_MAX

__all__ = ["Interface", "InterfaceWatch", "Links", "addresses_here", "way_to"]

_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE = 18, 22, 26
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFLA_IFNAME, _IFLA_STATS64 = 3, 23
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF = 1, 4
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_U64 = struct.Struct("=Q")
#: Offsets in struct rtnl_link_stats64 of what a capture cannot have seen: rx_fifo_errors and
#: rx_missed_errors.  libpcap counts the same (linux_if_drops in pcap-linux.c).  Not rx_dropped:
#: the kernel counts there, too, what it throws away after every capture has seen it, such as
#: frames of a protocol or a VLAN that this machine does not have.
_RX_LOST = (14 * 8, 15 * 8)


@dataclass(frozen=True)
class Interface:
    """An interface as the kernel describes it.

    Attributes:
        dropped: Packets that card or driver lost before any capture could see them, so far.
        addresses: Addresses with prefix lengths, as in ``192.0.2.1/24``.
    """

    index: int
    name: str
    up: bool
    loopback: bool
    dropped: int
    addresses: tuple[str, ...] = ()


class InterfaceWatch:
    """Watches one interface.  Never blocks: the kernel answers at once.

    Args:
        name: Its name in the network namespace of the calling thread.

    Raises:
        NoSuchInterface: It does not exist; the message lists the existing ones.
    """

    def __init__(self, name: str) -> None:
        names = [present for _, present in socket.if_nameindex()]
        if name not in names:
            raise NoSuchInterface(f"there is no interface {name!r}", f"there are: {', '.join(names)}")
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self._socket.bind((0, 0))
            link = self._link(socket.if_nametoindex(name))
            self.interface = replace(link, addresses=tuple(self._addresses(link.index)))
            #: Whether it was up at the last look.
            self.up = link.up
        except OSError as error:
            self._socket.close()
            raise NoSuchInterface(f"interface {name!r} went away: {os.strerror(error.errno or 0)}") from error

    def dropped(self) -> int | None:
        """Packets that the interface has lost so far; None if it is gone."""
        try:
            link = self._link(self.interface.index)
        except OSError:
            return None
        self.up = link.up
        return link.dropped

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _link(self, index: int) -> Interface:
        body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)
        return _parse_link(next(_ask(self._socket, _RTM_GETLINK, 0, body)))

    def _addresses(self, index: int) -> Iterator[str]:
        return (address for owner, address in _all_addresses(self._socket) if owner == index)


class Links:
    """Lists the interfaces of the network namespace in which it was made.

    Raises:
        OSError: The kernel does not answer the request.
    """

    def __init__(self) -> None:
        self._socket = _netlink()

    def up(self) -> dict[int, str]:
        """Names of interfaces that are up, by index; empty if the kernel does not answer."""
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        try:
            links = [_parse_link(answer) for answer in _ask(self._socket, _RTM_GETLINK, _NLM_F_DUMP, body)]
        except OSError:
            return {}
        return {link.index: link.name for link in links if link.up}

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def addresses_here() -> frozenset[str]:
    """All IP addresses in the calling thread's network namespace, without prefix lengths.

    Raises:
        OSError: The kernel does not answer the request.
    """
    with _netlink() as asked:
        return frozenset(address.partition("/")[0] for _, address in _all_addresses(asked))


def way_to(address: str) -> int | None:
    """Index of the interface for packets to an IPv4 address; None if there is no route.

    Raises:
        OSError: The kernel does not answer the request.
    """
    raw = ipaddress.IPv4Address(address).packed
    body = _ROUTE.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
    body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(raw), _RTA_DST) + raw
    with _netlink() as asked:
        try:
            answer = next(_ask(asked, _RTM_GETROUTE, 0, body))
        except OSError as error:
            if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES):
                return None  # the errors that stand for routes of type unreachable, blackhole, prohibit
            raise
    oif = dict(_attributes(answer[_ROUTE.size :])).get(_RTA_OIF)
    return None if oif is None else int(struct.unpack("=I", oif)[0])


def _netlink() -> socket.socket:
    asked = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    asked.bind((0, 0))
    return asked


def _all_addresses(asked: socket.socket) -> Iterator[tuple[int, str]]:
    body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for answer in _ask(asked, _RTM_GETADDR, _NLM_F_DUMP, body):
        family, prefix, _, _, owner = _ADDRESS.unpack_from(answer)
        attributes = dict(_attributes(answer[_ADDRESS.size :]))
        raw = attributes.get(_IFA_LOCAL) or attributes[_IFA_ADDRESS]
        if family in (socket.AF_INET, socket.AF_INET6):
            yield owner, f"{ipaddress.ip_address(raw)}/{prefix}"


def _ask(asked: socket.socket, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
    """Ask the kernel, which answers at once: a dump to its end, anything else with one message."""
    asked.send(_HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | flags, 1, 0) + body)
    while True:
        data = asked.recv(NETLINK_ANSWER_MAX)
        while data:
            length, answered, _, _, _ = _HEADER.unpack_from(data)
            message = data[_HEADER.size : length]
            data = data[(length + 3) & ~3 :]
            if answered == _NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", message)[0], "netlink")
            if answered == _NLMSG_DONE:
                return
            yield message


def _parse_link(message: bytes) -> Interface:
    _, _, index, flags, _ = _LINK.unpack_from(message)
    attributes = dict(_attributes(message[_LINK.size :]))
    stats = attributes[_IFLA_STATS64]
    return Interface(
        index=index,
        name=attributes[_IFLA_IFNAME].rstrip(b"\0").decode(),
        up=bool(flags & _IFF_UP),
        loopback=bool(flags & _IFF_LOOPBACK),
        dropped=sum(_U64.unpack_from(stats, offset)[0] for offset in _RX_LOST),
    )


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
