"""Finds the headers of a packet, and the position of each.

All code that parses packets uses `walk`: headers-only captures, flow keys, the matching
of packets seen at several places, and printing.  ``_walker.h`` is the same in C.

The layers are described in tables: a new link type, tag or transport protocol is one
line in a table here and one in ``_walker.h``; a test compares the two for every possible
number.

Packets are not trusted.  Every position is checked before it is read, and the number of
headers in a chain is limited.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Mapping, NamedTuple, Optional

from pcapd.packet import linktypes

__all__ = [
    "ARP",
    "DCCP",
    "ICMP",
    "ICMPV6",
    "IPV4",
    "IPV6",
    "LINKS",
    "SCTP",
    "TCP",
    "TRANSPORTS",
    "UDP",
    "UDP_LITE",
    "Fragment",
    "Headers",
    "walk",
]

#: EtherTypes of network layers.
IPV4: Final = 0x0800
ARP: Final = 0x0806
IPV6: Final = 0x86DD
_MPLS: Final = 0x8847

#: Protocols of IP.
ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
DCCP: Final = 33
ICMPV6: Final = 58
SCTP: Final = 132
UDP_LITE: Final = 136


#: How a header identifies the next one.  `_ETHERTYPE`: by an EtherType.  `_PPP`: by a protocol
#: number of PPP.  `_VERSION`: not at all; the next four bits are the version of IP.  `_LABEL`:
#: after the last label of an MPLS stack like `_VERSION`; after others, another label follows.
_ETHERTYPE, _PPP, _VERSION, _LABEL = range(4)


class Layer(NamedTuple):
    """A header before the network layer.

    Attributes:
        size: Size in bytes.
        type_at: Offset in this header of the type of the next one.
        next: How to read this type: `_ETHERTYPE` and so on.
    """

    size: int
    type_at: int
    next: int


#: LINKTYPE → the first header of its packets.
LINKS: Final[Mapping[int, Layer]] = {
    linktypes.NULL: Layer(4, 0, _VERSION),
    linktypes.ETHERNET: Layer(14, 12, _ETHERTYPE),
    linktypes.PPP: Layer(4, 2, _PPP),
    linktypes.PPP_HDLC: Layer(4, 2, _PPP),
    linktypes.PPP_ETHER: Layer(8, 6, _PPP),
    linktypes.RAW: Layer(0, 0, _VERSION),
    linktypes.C_HDLC: Layer(4, 2, _ETHERTYPE),
    linktypes.LOOP: Layer(4, 0, _VERSION),
    linktypes.LINUX_SLL: Layer(16, 14, _ETHERTYPE),
    linktypes.PPP_PPPD: Layer(4, 2, _PPP),
    linktypes.IPV4: Layer(0, 0, _VERSION),
    linktypes.IPV6: Layer(0, 0, _VERSION),
    linktypes.LINUX_SLL2: Layer(20, 0, _ETHERTYPE),
}

#: EtherType → a header between link and network layer: VLAN tags (IEEE 802.1Q, 802.1ad, and
#: 0x9100, which some switches use for the outer tag), MPLS labels (RFC 3032), PPPoE (RFC 2516).
_SHIMS: Final[Mapping[int, Layer]] = {
    0x8100: Layer(4, 2, _ETHERTYPE),
    0x88A8: Layer(4, 2, _ETHERTYPE),
    0x9100: Layer(4, 2, _ETHERTYPE),
    _MPLS: Layer(4, 2, _LABEL),
    0x8848: Layer(4, 2, _LABEL),
    0x8864: Layer(8, 6, _PPP),
}
#: Largest number of such headers in a packet; real packets have fewer.
_SHIMS_MAX: Final = 8
#: PPP's protocol number → EtherType (RFC 1332, RFC 5072, RFC 3032).
_PPP_TYPES: Final[Mapping[int, int]] = {0x0021: IPV4, 0x0057: IPV6, 0x0281: _MPLS, 0x0283: _MPLS}
_VERSIONS: Final[Mapping[int, int]] = {4: IPV4, 6: IPV6}

#: First bytes of an ARP packet for Ethernet and IPv4 (RFC 826); all of it counts as a header.
_ARP_START: Final = b"\x00\x01\x08\x00\x06\x04"
_ARP_SIZE: Final = 28
_IPV4_MIN: Final = 20
_IPV6_SIZE: Final = 40

#: IPv6 extension headers that contain their length in units of eight bytes: hop-by-hop, routing,
#: destination options (RFC 8200), mobility (RFC 6275), HIP (RFC 7401), shim6 (RFC 5533).
_EXTENSIONS: Final = (0, 43, 60, 135, 139, 140)
_FRAGMENT: Final = 44
#: The authentication header (RFC 4302), which contains its length in units of four bytes.
_AUTHENTICATION: Final = 51
_EXTENSIONS_MAX: Final = 8


class Transport(NamedTuple):
    """A header of layer 4.

    Attributes:
        size: Size of the fixed part in bytes.
        ports: Whether it begins with the ports of source and destination, two bytes each.
        checksum_at: The offset of a checksum that includes the addresses; 0 if there is none.
            Network cards often compute this checksum after the packet was captured.
    """

    size: int
    ports: bool
    checksum_at: int


#: Protocol number → header.  The packet that an ICMP error quotes is part of the payload.
TRANSPORTS: Final[Mapping[int, Transport]] = {
    ICMP: Transport(8, False, 0),
    TCP: Transport(20, True, 16),
    UDP: Transport(8, True, 6),
    DCCP: Transport(0, True, 0),
    ICMPV6: Transport(8, False, 2),
    SCTP: Transport(12, True, 0),
    UDP_LITE: Transport(8, True, 6),
}
_NO_TRANSPORT: Final = Transport(0, False, 0)


class Fragment(IntEnum):
    """Whether an IP packet is a fragment, and which one."""

    WHOLE = 0
    FIRST = 1  # contains the header of layer 4
    LATER = 2  # does not contain it


_WHOLE, _FIRST, _LATER = Fragment


class Headers(NamedTuple):
    """The positions of the headers of one packet, as offsets from its first byte.

    An offset is beyond the captured bytes if the headers were not captured completely.

    Attributes:
        kind: EtherType of the network layer, even if that cannot be parsed; 0 if unknown.
        network: Begin of the network layer; -1 if it was not found.
        family: 4 or 6 if there is a whole IP header (options may be cut off); else 0.
        protocol: IP's protocol number, after the extension headers; -1 without IP.
        transport: Begin of the layer-4 header, or of the data after the IP headers if there is
            no such header; -1 if it was not found.
        payload: Begin of layer 4's payload, which for an unknown protocol and for later
            fragments is all of layer 4; -1 if the layer-4 header was cut off.
        fragment: Whether the packet is a fragment, and which one.
        end: End of the last header that is complete and valid.
        stop: End of the IP packet according to the length in its header; 0 if this length is not
            valid, as in packets that the network card will cut into segments.
    """

    kind: int
    network: int
    family: int
    protocol: int
    transport: int
    payload: int
    fragment: Fragment
    end: int
    stop: int


def walk(link_type: int, data: bytes) -> Headers:
    """Find the headers of a packet.

    Args:
        link_type: LINKTYPE of the packet.
        data: The captured bytes of the packet.
    """
    layer: Optional[Layer] = LINKS.get(link_type)
    kind = at = 0
    for _ in range(_SHIMS_MAX + 1):
        if layer is None or len(data) < at + layer.size:
            break
        kind, at = _next_kind(layer, kind, data, at), at + layer.size
        layer = _SHIMS.get(kind)
    if kind == IPV4:
        return _ipv4(data, at)
    if kind == IPV6:
        return _ipv6(data, at)
    known = kind == ARP and data.startswith(_ARP_START, at) and len(data) >= at + _ARP_SIZE
    return _without_ip(kind, at, at + _ARP_SIZE if known else at)


def _next_kind(layer: Layer, kind: int, data: bytes, at: int) -> int:
    """The EtherType of the header after the one at `at`; 0 if unknown."""
    after = at + layer.size
    if layer.next == _LABEL and not data[at + layer.type_at] & 1:
        return kind  # not the last label of the stack
    if layer.next in (_LABEL, _VERSION):
        return _VERSIONS.get(data[after] >> 4, 0) if len(data) > after else 0
    number = data[at + layer.type_at] << 8 | data[at + layer.type_at + 1]
    return _PPP_TYPES.get(number, 0) if layer.next == _PPP else number


def _without_ip(kind: int, at: int, end: int) -> Headers:
    return Headers(kind, at if kind else -1, 0, -1, -1, -1, _WHOLE, end, 0)


def _ipv4(data: bytes, at: int) -> Headers:
    """Find the headers of an IPv4 packet (RFC 791)."""
    size = (data[at] & 0x0F) * 4 if len(data) > at else 0
    if len(data) < at + _IPV4_MIN or data[at] >> 4 != 4 or size < _IPV4_MIN:
        return _without_ip(IPV4, at, at)
    total = data[at + 2] << 8 | data[at + 3]
    bits = data[at + 6] << 8 | data[at + 7]
    fragment = _LATER if bits & 0x1FFF else _FIRST if bits & 0x2000 else _WHOLE
    transport, stop = at + size, at + total if total >= size else 0
    if len(data) < transport:
        return Headers(IPV4, at, 4, data[at + 9], transport, -1, fragment, at, stop)
    payload, end = _transport(data, data[at + 9], transport, fragment)
    return Headers(IPV4, at, 4, data[at + 9], transport, payload, fragment, end, stop)


def _ipv6(data: bytes, at: int) -> Headers:
    """Find the headers of an IPv6 packet (RFC 8200); jumbograms (RFC 2675) and BIG TCP have length 0."""
    if len(data) < at + _IPV6_SIZE or data[at] >> 4 != 6:
        return _without_ip(IPV6, at, at)
    length = data[at + 4] << 8 | data[at + 5]
    stop = at + _IPV6_SIZE + length if length else 0
    protocol, end, fragment = data[at + 6], at + _IPV6_SIZE, _WHOLE
    for _ in range(_EXTENSIONS_MAX):
        size = _extension_size(data, protocol, end)
        if size == 0:
            payload, last = _transport(data, protocol, end, fragment)
            return Headers(IPV6, at, 6, protocol, end, payload, fragment, last, stop)
        if len(data) < end + size:
            break
        if protocol == _FRAGMENT:
            bits = data[end + 2] << 8 | data[end + 3]
            fragment = _LATER if bits >> 3 else _FIRST if bits & 1 else fragment
        protocol, end = data[end], end + size
        if fragment is _LATER:
            return Headers(IPV6, at, 6, protocol, end, end, fragment, end, stop)
    return Headers(IPV6, at, 6, protocol, -1, -1, fragment, end, stop)


def _extension_size(data: bytes, protocol: int, at: int) -> int:
    """The size of an extension header, at least 8; 0 for other protocols."""
    if protocol == _FRAGMENT:
        return 8
    units = data[at + 1] if len(data) > at + 1 else 0
    if protocol in _EXTENSIONS:
        return (units + 1) * 8
    return max(8, (units + 2) * 4) if protocol == _AUTHENTICATION else 0


def _transport(data: bytes, protocol: int, at: int, fragment: Fragment) -> tuple[int, int]:
    """The begin of the payload, and the end of the valid headers."""
    size = TRANSPORTS.get(protocol, _NO_TRANSPORT).size if fragment is not _LATER else 0
    if len(data) < at + size:
        return -1, at
    if protocol == TCP and size:
        size = (data[at + 12] >> 4) * 4  # RFC 9293
        if size < TRANSPORTS[TCP].size:
            return -1, at
    return at + size, at + size if len(data) >= at + size else at
