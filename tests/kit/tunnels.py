"""One packet as it looks at each place on its way, encapsulated or not."""

from __future__ import annotations

import struct
from typing import Dict, List, Tuple

from tests.kit.packets import MACS, ipv4, ipv6, tcp, udp

ETHERNET, PPP, PPP_ETHER, RAW, SLL, SLL2 = 1, 9, 51, 101, 113, 276

#: Hop-by-hop options with one of no meaning, and destination options (RFC 8200).
_EXTENSIONS = b"\x3c\0\1\4\0\0\0\0" + b"\x06\0\1\4\0\0\0\0"
#: The jumbo option (RFC 2675), as Linux writes it for BIG TCP.
_BIG = tcp(bytes(70_000))
_JUMBO = b"\x06\0\xc2\4" + struct.pack("!I", 8 + len(_BIG))

PACKETS: Dict[str, bytes] = {
    "TCP": ipv4(tcp(b"abc"), 6),
    "UDP": ipv4(udp(b"abc"), 17),
    "TCP over IPv6": ipv6(tcp(b"abc"), 6),
    "behind extensions": ipv6(_EXTENSIONS + tcp(b"abc"), 0),
    "BIG TCP": ipv6(_JUMBO + _BIG, 0, length=0),
    "first fragment": ipv4(udp(bytes(40)), 17, fragment=0x2000),
}


def _tagged(*kinds: int) -> bytes:
    """VLAN tags of these EtherTypes."""
    return b"".join(struct.pack("!HH", kind, 10 + place) for place, kind in enumerate(kinds))


def _type(packet: bytes) -> bytes:
    return b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"


def _ppp(packet: bytes) -> bytes:
    return b"\0\x21" if packet[0] >> 4 == 4 else b"\0\x57"


def _pppoe(packet: bytes) -> bytes:
    length = min(len(packet) + 2, 0xFFFF)
    return struct.pack("!BBHH", 0x11, 0, 1, length) + _ppp(packet) + packet


def places(packet: bytes) -> List[Tuple[str, int, bytes]]:
    """Name, link type and frame at each place on its way."""
    labels = struct.pack("!II", 100 << 12 | 64, 200 << 12 | 1 << 8 | 64)
    return [
        ("plain", ETHERNET, MACS + _type(packet) + packet),
        ("vlan", ETHERNET, MACS + _tagged(0x8100) + _type(packet) + packet),
        ("qinq", ETHERNET, MACS + _tagged(0x88A8, 0x8100) + _type(packet) + packet),
        ("old qinq", ETHERNET, MACS + _tagged(0x9100, 0x8100) + _type(packet) + packet),
        ("pppoe", ETHERNET, MACS + b"\x88\x64" + _pppoe(packet)),
        ("vlan, pppoe", ETHERNET, MACS + _tagged(0x8100) + b"\x88\x64" + _pppoe(packet)),
        ("mpls", ETHERNET, MACS + b"\x88\x47" + labels + packet),
        ("ppp", PPP, b"\xff\x03" + _ppp(packet) + packet),
        ("raw", RAW, packet),
        ("cooked", SLL, b"\0\0\0\1\0\6" + bytes(8) + _type(packet) + packet),
        ("cooked, new", SLL2, _type(packet) + bytes(18) + packet),
    ]
