"""Where the network layer of a packet begins, and which bytes of it stay the same on its way."""

from __future__ import annotations

from typing import Final, NamedTuple, Optional, Tuple

from pcapd.savefile import linktypes

__all__ = ["IPV4", "IPV6", "FlowKey", "Network", "flow_key", "network", "unchanging"]

IPV4: Final = 0x0800
IPV6: Final = 0x86DD
_VLANS: Final = (0x8100, 0x88A8)
#: VLAN tags in a row that are looked at; more of them are nobody's real traffic.
_TAGS_MAX: Final = 8
#: Link types whose packets begin with IP, after so many bytes.
_BARE_IP: Final = {linktypes.RAW: 0, 228: 0, 229: 0, 0: 4, 108: 4}
#: Where a protocol has its checksum.
_CHECKSUMS: Final = {6: 16, 17: 6, 58: 2}
#: TCP, UDP, DCCP, SCTP.
_WITH_PORTS: Final = (6, 17, 33, 132)


class Network(NamedTuple):
    """Where the network layer begins.

    Attributes:
        type: As in Ethernet: 0x0800 is IPv4.
        offset: Bytes before it.
    """

    type: int
    offset: int


def network(link_type: int, data: bytes) -> Optional[Network]:
    """Find the network layer; None where it is none that we know, or cut short.

    Args:
        link_type: LINKTYPE, not DLT.
        data: What was captured of the packet.
    """
    if link_type == linktypes.ETHERNET:
        offset = 14
        for _ in range(_TAGS_MAX):
            kind = int.from_bytes(data[offset - 2 : offset], "big")
            if kind not in _VLANS:
                return Network(kind, offset) if len(data) >= offset else None
            offset += 4
        return None
    if link_type == linktypes.LINUX_SLL:
        return Network(int.from_bytes(data[14:16], "big"), 16) if len(data) >= 16 else None
    if link_type == linktypes.LINUX_SLL2:
        return Network(int.from_bytes(data[:2], "big"), 20) if len(data) >= 20 else None
    offset = _BARE_IP.get(link_type, -1)
    if 0 <= offset < len(data):
        return Network({4: IPV4, 6: IPV6}.get(data[offset] >> 4, 0), offset)
    return None


def unchanging(link_type: int, data: bytes) -> Optional[bytes]:
    """The bytes that routers and network cards leave alone, from the IP header on.

    Time to live (hop limit) and checksums become zeros: routers count the one down,
    and a card that computes the other later leaves it unset where it is sent.  What
    is behind the IP packet (padding of short frames) is cut off.

    Returns:
        None when it is no IP packet, or too short to say.
    """
    place = network(link_type, data)
    if place is None or place.type not in (IPV4, IPV6):
        return None
    packet = bytearray(memoryview(data)[place.offset :])
    if place.type == IPV4:
        if len(packet) < 20:
            return None
        header, total = (packet[0] & 15) * 4, packet[2] << 8 | packet[3]
        packet[8] = packet[10] = packet[11] = 0
        # A checksum is in the first fragment only.
        protocol = packet[9] if not (packet[6] & 0x1F or packet[7]) else None
    else:
        if len(packet) < 40:
            return None
        length = packet[4] << 8 | packet[5]
        header, total = 40, 40 + length if length else len(packet)  # a jumbogram says 0
        packet[7] = 0
        protocol = packet[6]
    if header <= total < len(packet):
        del packet[total:]
    at = _CHECKSUMS.get(protocol, -1) if protocol is not None else -1
    if at >= 0 and header + at + 2 <= len(packet):
        packet[header + at] = packet[header + at + 1] = 0
    return bytes(packet)


class FlowKey(NamedTuple):
    """One direction of a conversation.

    Attributes:
        source: Address, packed.
        destination: Likewise.
        protocol: Number of IP.
        ports: Of source and destination; None where there are none (or a fragment has none).
    """

    source: bytes
    destination: bytes
    protocol: int
    ports: Optional[Tuple[int, int]]


def flow_key(content: bytes) -> Optional[FlowKey]:
    """The flow that a packet belongs to.

    Args:
        content: From the IP header on.

    Returns:
        None when it is too short to say.
    """
    if len(content) >= 20 and content[0] >> 4 == 4:
        header, protocol = (content[0] & 15) * 4, content[9]
        ends = content[12:16], content[16:20]
        fragment = (content[6] & 0x1F) << 8 | content[7]
    elif len(content) >= 40:
        header, protocol, fragment = 40, content[6], 0
        ends = content[8:24], content[24:40]
    else:
        return None
    ports = None
    if protocol in _WITH_PORTS and not fragment and len(content) >= header + 4:
        ports = content[header] << 8 | content[header + 1], content[header + 2] << 8 | content[header + 3]
    return FlowKey(*ends, protocol, ports)
