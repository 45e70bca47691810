"""Describes a packet in one line: addresses, protocol, and unencrypted content.

Enough to see the conversations: IP over the usual link types, TCP, UDP, ICMP, ARP,
and the first line of HTTP, the names of DNS and the server name of TLS, as far as
they are in one packet.  Nothing is reassembled; Wireshark does that.

A library could parse the headers, but dpkt (1.9.8, 2022) takes 0.2 s to import and
needs complete TLS records, which today's ClientHellos in one packet often are not;
DNS names and server names would still be parsed here.

Packets are untrusted.  A malformed packet becomes a shorter line, never an error.
"""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple, Optional, Tuple

from pcapd.packet import dns, http, linktypes, tls
from pcapd.packet.flow import FlowKey, flow_key
from pcapd.packet.headers import ARP, ICMP, ICMPV6, IPV4, IPV6, TCP, UDP, Fragment, Headers, walk

__all__ = ["Decoded", "decode", "ends_of"]

_NETWORKS: Final = {IPV4: "IPv4", IPV6: "IPv6", ARP: "ARP"}
_PROTOCOLS: Final = {
    ICMP: "ICMP", 2: "IGMP", TCP: "TCP", UDP: "UDP", 47: "GRE", 50: "ESP", 51: "AH", ICMPV6: "ICMPv6",
    132: "SCTP",
}  # fmt: skip
_FLAGS: Final = ((2, "SYN"), (1, "FIN"), (4, "RST"), (8, "PSH"), (16, "ACK"), (32, "URG"))
_ICMP_TYPES: Final = {
    0: "echo reply",
    3: "unreachable",
    5: "redirect",
    8: "echo request",
    11: "time exceeded",
}
_ICMPV6_TYPES: Final = {
    1: "unreachable", 2: "packet too big", 3: "time exceeded", 128: "echo request", 129: "echo reply",
    133: "router solicitation", 134: "router advertisement", 135: "neighbor solicitation",
    136: "neighbor advertisement",
}  # fmt: skip
#: Characters of a packet's content; a request line can be as long as a packet.
_INFO_MAX: Final = 200


class Decoded(NamedTuple):
    """The description of a packet.  The texts are untrusted: escape them for a terminal.

    Attributes:
        source: Address, with the port if there is one; may be empty.
        protocol: The highest protocol that was recognized.
        info: A summary of the content.
    """

    source: str
    destination: str
    protocol: str
    info: str = ""


def decode(link_type: int, data: bytes) -> Decoded:
    """Describe a packet.

    Args:
        link_type: LINKTYPE, not DLT.
        data: The captured bytes.
    """
    headers = walk(link_type, data)
    flow = flow_key(data, headers)
    if flow is not None:
        return _ip(data, headers, flow)
    if headers.network < 0:
        return Decoded("", "", linktypes.name(link_type))
    if headers.kind == ARP and headers.end > headers.network:
        return _arp(data[headers.network : headers.end])
    if headers.kind in _NETWORKS:
        cut_short = headers.kind != ARP or len(data) < headers.network + 28
        return Decoded("", "", _NETWORKS[headers.kind], "cut short" if cut_short else "")
    return Decoded("", "", f"ethertype 0x{headers.kind:04x}" if headers.kind >= 0x600 else "802.3")


def ends_of(flow: FlowKey) -> Tuple[str, str]:
    """Both addresses of a flow, with their ports if there are any."""
    ends = []
    for index, packed in enumerate((flow.source, flow.destination)):
        address = str(ipaddress.ip_address(packed))
        if flow.ports is not None:
            address = f"[{address}]" if ":" in address else address
            address = f"{address}:{flow.ports[index]}"
        ends.append(address)
    return ends[0], ends[1]


def _arp(packet: bytes) -> Decoded:
    sender, target = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (14, 24))
    if packet[7] == 1:
        return Decoded(sender, target, "ARP", f"who has {target}")
    return Decoded(sender, target, "ARP", f"{sender} is at {packet[8:14].hex(':')}")


def _ip(data: bytes, headers: Headers, flow: FlowKey) -> Decoded:
    ends, protocol = ends_of(flow), flow.protocol
    name = _PROTOCOLS.get(protocol, f"IP protocol {protocol}")
    # The bytes after the IP packet are padding.
    packet = data[: headers.stop] if headers.stop else data
    if headers.fragment is Fragment.LATER:
        return Decoded(*ends, name, "fragment")
    if protocol in (ICMP, ICMPV6):
        kinds = _ICMP_TYPES if protocol == ICMP else _ICMPV6_TYPES
        kind = packet[headers.transport] if 0 <= headers.transport < len(packet) else None
        return Decoded(*ends, name, "cut short" if kind is None else kinds.get(kind, f"type {kind}"))
    if protocol in (TCP, UDP):
        if 0 <= headers.payload <= len(packet):
            return Decoded(*ends, *_layer4(packet, headers, flow))
        return Decoded(*ends, name, "cut short")
    return Decoded(*ends, name)


def _layer4(packet: bytes, headers: Headers, flow: FlowKey) -> Tuple[str, str]:
    """Protocol and text of a TCP segment or a UDP datagram."""
    content = packet[headers.payload :]
    found = _in_clear(flow.protocol, flow.ports or (0, 0), content)
    if found is not None:
        return found
    if flow.protocol == UDP:
        length = int.from_bytes(packet[headers.transport + 4 : headers.transport + 6], "big")
        return "UDP", f"{max(0, length - 8)} bytes"
    bits = packet[headers.transport + 13]
    flags = " ".join(flag for bit, flag in _FLAGS if bits & bit)
    return "TCP", f"{flags}, {len(content)} bytes" if content else flags


def _in_clear(protocol: int, ports: Tuple[int, int], content: bytes) -> Optional[Tuple[str, str]]:
    """Protocol and text of a payload that is recognized."""
    if protocol == UDP:
        return _dns(content) if any(port in dns.PORTS for port in ports) else None
    line = http.first_line(content)
    if line is not None:
        return "HTTP", _text(line)
    record = tls.read_record(content)
    if record is not None:
        return "TLS", f"{record.kind} {_text(record.server_name)}" if record.server_name else record.kind
    # After its length (RFC 1035, section 4.2.2).
    return _dns(content[2:]) if 53 in ports else None


def _text(line: bytes) -> str:
    return _shortened(line.decode("utf-8", "backslashreplace"))


def _shortened(text: str) -> str:
    return text if len(text) <= _INFO_MAX else f"{text[:_INFO_MAX]}…"


def _dns(content: bytes) -> Optional[Tuple[str, str]]:
    message = dns.read_message(content)
    if message is None:
        return None
    asked = ", ".join(f"{kind} {name}" for kind, name in message.questions)
    if not message.response:
        return "DNS", _shortened(f"query {asked}")
    more = message.answer_count - dns.ANSWERS_MAX
    answers = message.code or ", ".join(message.answers) or "nothing"
    return "DNS", _shortened(f"response {asked}: {answers}" + (f" and {more} more" if more > 0 else ""))
