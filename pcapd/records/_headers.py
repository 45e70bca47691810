"""Where a packet's headers end, so that what they carry can be left out.

A header counts only when all of it is there and it is what it says; a packet is
cut after the last one that counts.  So what is not understood is cut away, and
a packet that lies about itself loses more than an honest one, never less.
"""

from __future__ import annotations

from typing import Callable, Dict, Final, Mapping, Tuple

__all__ = ["LINK_TYPES", "header_length"]

_ETHERNET: Final = 1
_RAW: Final = 101
_LINUX_SLL: Final = 113
_IPV4: Final = 228
_IPV6: Final = 229
_LINUX_SLL2: Final = 276

#: LINKTYPE → length of its header, and where in it the EtherType stands.
_LINK_HEADERS: Final[Mapping[int, Tuple[int, int]]] = {
    _ETHERNET: (14, 12),
    _LINUX_SLL: (16, 14),
    _LINUX_SLL2: (20, 0),
}
#: Those whose headers are known.
LINK_TYPES: Final = frozenset({*_LINK_HEADERS, _RAW, _IPV4, _IPV6})

#: EtherTypes of VLAN tags: IEEE 802.1Q, 802.1ad, and what some use for the outer one.
_TAGS: Final = (0x8100, 0x88A8, 0x9100)
_TAG_SIZE: Final = 4
_TAGS_MAX: Final = 4

#: An ARP packet of Ethernet and IPv4 (RFC 826): it is a header as a whole.
_ARP_START: Final = b"\x00\x01\x08\x00\x06\x04"
_ARP_SIZE: Final = 28

_IPV4_MIN: Final = 20
_IPV6_SIZE: Final = 40
_FRAGMENT_SIZE: Final = 8
#: IPv6 extension headers with their length in eight bytes (RFC 8200, 6275, 7401, 5533):
#: hop-by-hop, routing, destination, mobility, HIP, shim6.
_EXTENSIONS: Final = (0, 43, 60, 135, 139, 140)
_FRAGMENT: Final = 44
_AUTHENTICATION: Final = 51
_EXTENSIONS_MAX: Final = 8

_TCP: Final = 6
_TCP_MIN: Final = 20
#: Protocol → its header's length: ICMP, UDP, ICMPv6, SCTP, UDP-Lite.  What follows in
#: an ICMP error quotes a packet, so it is not kept.
_TRANSPORTS: Final[Mapping[int, int]] = {1: 8, 17: 8, 58: 8, 132: 12, 136: 8}


def header_length(link_type: int, packet: bytes) -> int:
    """How many bytes of a packet are headers, up to the one of layer 4.

    Args:
        link_type: LINKTYPE of the packet, one of `LINK_TYPES`.
        packet: All of it.

    Raises:
        ValueError: The link type is another one.
    """
    if link_type in _LINK_HEADERS:
        size, type_at = _LINK_HEADERS[link_type]
        return _link(packet, size, type_at)
    if link_type == _IPV4:
        return _ipv4(packet, 0)
    if link_type == _IPV6:
        return _ipv6(packet, 0)
    if link_type == _RAW:
        return _ipv4(packet, 0) or _ipv6(packet, 0)
    raise ValueError(f"the headers of link type {link_type} are not known")


def _link(packet: bytes, size: int, type_at: int) -> int:
    if len(packet) < size:
        return 0
    ether_type, end = _number(packet, type_at), size
    for _ in range(_TAGS_MAX):
        if ether_type not in _TAGS or len(packet) < end + _TAG_SIZE:
            break
        ether_type = _number(packet, end + 2)
        end += _TAG_SIZE
    follows = _NETWORKS.get(ether_type)
    return follows(packet, end) if follows is not None else end


def _arp(packet: bytes, at: int) -> int:
    known = packet.startswith(_ARP_START, at) and len(packet) >= at + _ARP_SIZE
    return at + _ARP_SIZE if known else at


def _ipv4(packet: bytes, at: int) -> int:
    """RFC 791."""
    if len(packet) < at + _IPV4_MIN or packet[at] >> 4 != 4:
        return at
    size = (packet[at] & 0x0F) * 4
    if size < _IPV4_MIN or len(packet) < at + size:
        return at
    if _number(packet, at + 6) & 0x1FFF:  # a later fragment begins with payload
        return at + size
    return _transport(packet, packet[at + 9], at + size)


def _ipv6(packet: bytes, at: int) -> int:
    """RFC 8200; the authentication header is RFC 4302's."""
    if len(packet) < at + _IPV6_SIZE or packet[at] >> 4 != 6:
        return at
    following, end = packet[at + 6], at + _IPV6_SIZE
    for _ in range(_EXTENSIONS_MAX):
        if following not in (*_EXTENSIONS, _FRAGMENT, _AUTHENTICATION):
            return _transport(packet, following, end)
        if len(packet) < end + 8:  # none is shorter
            return end
        if following == _FRAGMENT:
            size = _FRAGMENT_SIZE
        elif following == _AUTHENTICATION:
            size = (packet[end + 1] + 2) * 4
        else:
            size = (packet[end + 1] + 1) * 8
        if len(packet) < end + size:
            return end
        if following == _FRAGMENT and _number(packet, end + 2) >> 3:
            return end + size
        following, end = packet[end], end + size
    return end


def _transport(packet: bytes, protocol: int, at: int) -> int:
    if protocol == _TCP:
        if len(packet) < at + _TCP_MIN:
            return at
        size = (packet[at + 12] >> 4) * 4  # RFC 9293
        if size < _TCP_MIN:
            return at
    else:
        size = _TRANSPORTS.get(protocol, 0)
    return at + size if len(packet) >= at + size else at


def _number(packet: bytes, at: int) -> int:
    return int.from_bytes(packet[at : at + 2], "big")


_NETWORKS: Final[Dict[int, Callable[[bytes, int], int]]] = {0x0800: _ipv4, 0x0806: _arp, 0x86DD: _ipv6}
