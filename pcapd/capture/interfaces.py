"""Reads interfaces, addresses and routes from the kernel, over rtnetlink(7).

A netlink socket belongs to the network namespace in which it was opened.  So a socket that is
opened together with a capture can be used later from any thread.  libpcap's own counter of
interface drops cannot be used in namespaces: libpcap reads /sys, which shows the interfaces of
the *host*, so it would report the drops of another interface with the same name.
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
#: Offsets in struct rtnl_link_stats64 of the counters of frames that no capture can contain:
#: rx_fifo_errors and rx_missed_errors.  libpcap uses the same (linux_if_drops in pcap-linux.c).
#: rx_dropped is not used, because it includes frames that were captured and discarded by the kernel
#: afterwards, such as frames of a protocol or VLAN that this machine does not use.
_RX_LOST = (14 * 8, 15 * 8)


@dataclass(frozen=True)
class Interface:
    """An interface with its properties in the kernel.

    Attributes:
        dropped: Number of packets that the card or its driver has lost before they could be captured.
        addresses: Addresses with prefix lengths, as in ``192.0.2.1/24``.
    """

    index: int
    name: str
    up: bool
    loopback: bool
    dropped: int
    addresses: tuple[str, ...] = ()


class InterfaceWatch:
    """Reads the state of one interface.  Never blocks: the kernel answers immediately.

    Args:
        name: The interface's name in the network namespace of the calling thread.

    Raises:
        NoSuchInterface: The interface does not exist; the message lists the existing ones.
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
            #: Whether the interface was up when its state was last read.
            self.up = link.up
        except OSError as error:
            self._socket.close()
            raise NoSuchInterface(f"interface {name!r} went away: {os.strerror(error.errno or 0)}") from error

    def dropped(self) -> int | None:
        """Number of packets that the interface has lost so far; None if the interface no longer exists."""
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
    """Lists the interfaces of the network namespace in which this object was made.

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
                return None  # errors for routes of the types unreachable, blackhole and prohibit
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
    """Send a request and yield the answers: all messages of a dump, otherwise one message."""
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
