"""What a packet is, in one line: addresses, protocol, and what is in clear.

Enough to see who talks to whom: IP over the usual link types, TCP, UDP, ICMP,
ARP, and of HTTP the first line, of DNS the names, of TLS the server's name, as
far as they are in one packet.  Nothing is reassembled; Wireshark does that.

A library could read the headers.  dpkt (1.9.8, of 2022) takes 0.2 s to import and
wants a TLS record whole, which today's ClientHellos in one packet often are not;
names and server names would still be taken apart here.

Packets are whatever anybody sent.  Every read is bounded by the packet's own
bytes, and a packet that is not what it says becomes a shorter line, never an error.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Dict, Final, List, NamedTuple, Optional, Tuple

from pcapd.savefile import linktypes
from pcapd.savefile.network import IPV4, IPV6, network

__all__ = ["Decoded", "decode"]

_ARP = 0x0806
_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
_PROTOCOLS: Final = {2: "IGMP", 47: "GRE", 50: "ESP", 51: "AH", 132: "SCTP"}
#: Hop-by-hop, routing, destination options: their length is in units of 8 bytes.
_EXTENSIONS: Final = (0, 43, 60)
_EXTENSION_FRAGMENT: Final = 44
#: Headers in a row that are looked at; more of them are nobody's real traffic.
_NESTED_MAX: Final = 8
_FLAGS: Final = ((2, "SYN"), (1, "FIN"), (4, "RST"), (8, "PSH"), (16, "ACK"), (32, "URG"))
_METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH")
_DNS_PORTS: Final = (53, 5353)
_DNS_TYPES: Final = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 65: "HTTPS",
}  # fmt: skip
_DNS_CODES: Final = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_DNS_ANSWERS: Final = 4
_NAME_MAX: Final = 255
_TLS_TYPES: Final = {20: "change cipher spec", 21: "alert", 22: "handshake", 23: "application data"}
_HANDSHAKES: Final = {1: "ClientHello", 2: "ServerHello", 11: "Certificate"}
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
#: Characters of what a packet says; a request line can be as long as a packet.
_INFO_MAX: Final = 200


class Decoded(NamedTuple):
    """What a packet is.  Texts hold what somebody sent: escape them before a terminal sees them.

    Attributes:
        source: Address, with the port where there is one; empty where there is none.
        protocol: The highest one that was recognized.
        info: What it says, for people.
    """

    source: str
    destination: str
    protocol: str
    info: str = ""


class _Short(Exception):
    """It ends before what it should hold."""


class _Bytes:
    """Reads on; raises `_Short` at the end."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def take(self, count: int) -> bytes:
        begin = self.position
        if begin + count > len(self.data):
            raise _Short
        self.position = begin + count
        return self.data[begin : begin + count]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")


def decode(link_type: int, data: bytes) -> Decoded:
    """Say what a packet is.

    Args:
        link_type: LINKTYPE, not DLT.
        data: What was captured of it.
    """
    place = network(link_type, data)
    if place is None:
        return Decoded("", "", linktypes.name(link_type))
    try:
        if place.type == IPV4:
            return _ipv4(data[place.offset :])
        if place.type == IPV6:
            return _ipv6(data[place.offset :])
        if place.type == _ARP:
            return _arp(data[place.offset :])
    except _Short:
        names = {IPV4: "IPv4", IPV6: "IPv6", _ARP: "ARP"}
        return Decoded("", "", names[place.type], "cut short")
    return Decoded("", "", f"ethertype 0x{place.type:04x}" if place.type >= 0x600 else "802.3")


def _ipv4(data: bytes) -> Decoded:
    head = _Bytes(data).take(20)
    header, total = (head[0] & 15) * 4, int.from_bytes(head[2:4], "big")
    source, destination = (str(ipaddress.IPv4Address(head[at : at + 4])) for at in (12, 16))
    if head[0] >> 4 != 4 or header < 20:
        raise _Short
    fragment = int.from_bytes(head[6:8], "big") & 0x1FFF
    # Without a total length (segmentation offload) all of it is the packet's.
    payload = data[header : total if total >= header else None]
    return _transport(source, destination, head[9], payload, fragment > 0)


def _ipv6(data: bytes) -> Decoded:
    head = _Bytes(data).take(40)
    source, destination = (str(ipaddress.IPv6Address(head[at : at + 16])) for at in (8, 24))
    length = int.from_bytes(head[4:6], "big")
    rest = _Bytes(data[: 40 + length if length else None], 40)
    protocol, fragment = head[6], False
    for _ in range(_NESTED_MAX):
        if protocol in _EXTENSIONS:
            protocol, size = rest.take(2)
            rest.take(size * 8 + 6)
        elif protocol == _EXTENSION_FRAGMENT:
            part = rest.take(8)
            protocol, fragment = part[0], fragment or int.from_bytes(part[2:4], "big") >= 8
        else:
            break
    return _transport(source, destination, protocol, rest.data[rest.position :], fragment)


def _arp(data: bytes) -> Decoded:
    head = _Bytes(data).take(28)
    if head[:6] != b"\0\1\x08\0\6\4":
        return Decoded("", "", "ARP")
    sender, target = (str(ipaddress.IPv4Address(head[at : at + 4])) for at in (14, 24))
    if head[7] == 1:
        return Decoded(sender, target, "ARP", f"who has {target}")
    return Decoded(sender, target, "ARP", f"{sender} is at {head[8:14].hex(':')}")


def _transport(source: str, destination: str, protocol: int, payload: bytes, fragment: bool) -> Decoded:
    name = {_TCP: "TCP", _UDP: "UDP", _ICMP: "ICMP", _ICMPV6: "ICMPv6"}.get(protocol)
    if fragment or name is None:
        name = name or _PROTOCOLS.get(protocol, f"IP protocol {protocol}")
        return Decoded(source, destination, name, "fragment" if fragment else "")
    if protocol in (_ICMP, _ICMPV6):
        kinds = _ICMP_TYPES if protocol == _ICMP else _ICMPV6_TYPES
        info = kinds.get(payload[0], f"type {payload[0]}") if payload else "cut short"
        return Decoded(source, destination, name, info)
    if len(payload) < (20 if protocol == _TCP else 8):
        return Decoded(source, destination, name, "cut short")
    ports = struct.unpack_from("!HH", payload)
    ends = (_end(source, ports[0]), _end(destination, ports[1]))
    return _tcp(ends, ports, payload) if protocol == _TCP else _udp(ends, ports, payload)


def _end(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _tcp(ends: Tuple[str, str], ports: Tuple[int, ...], segment: bytes) -> Decoded:
    content = segment[max(20, (segment[12] >> 4) * 4) :]
    flags = " ".join(name for bit, name in _FLAGS if segment[13] & bit)
    if content:
        # Behind its length (RFC 1035, section 4.2.2).
        found = _http(content) or _tls(content) or (_dns(content[2:]) if 53 in ports else None)
        if found:
            return Decoded(*ends, *found)
    return Decoded(*ends, "TCP", f"{flags}, {len(content)} bytes" if content else flags)


def _udp(ends: Tuple[str, str], ports: Tuple[int, ...], datagram: bytes) -> Decoded:
    length = int.from_bytes(datagram[4:6], "big")
    content = datagram[8 : length if length >= 8 else None]
    if any(port in _DNS_PORTS for port in ports):
        found = _dns(content)
        if found:
            return Decoded(*ends, *found)
    return Decoded(*ends, "UDP", f"{max(0, length - 8)} bytes")


# --- what is in clear ---------------------------------------------------------


def _http(content: bytes) -> Optional[Tuple[str, str]]:
    if not (content.startswith(b"HTTP/1.") or content.split(b" ", 1)[0] in _METHODS):
        return None
    line = content.split(b"\n", 1)[0].rstrip(b"\r")
    if not content.startswith(b"HTTP/1.") and b" HTTP/" not in line and len(line) < len(content):
        return None
    return "HTTP", _text(line)


def _text(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace")
    return text if len(text) <= _INFO_MAX else f"{text[:_INFO_MAX]}…"


def _tls(content: bytes) -> Optional[Tuple[str, str]]:
    if len(content) < 6 or content[0] not in _TLS_TYPES or content[1] != 3 or content[2] > 4:
        return None
    kind = _TLS_TYPES[content[0]]
    if content[0] == 22:
        kind = _HANDSHAKES.get(content[5], kind)
        if content[5] == 1:
            name = _server_name(content)
            return "TLS", f"{kind} {_text(name)}" if name else kind
    return "TLS", kind


def _server_name(content: bytes) -> bytes:
    """Of a ClientHello (RFC 8446, RFC 6066); empty where there is none in this packet."""
    hello = _Bytes(content, 9)
    try:
        hello.take(2 + 32)
        hello.take(hello.number(1))  # session
        hello.take(hello.number(2))  # cipher suites
        hello.take(hello.number(1))  # compression
        hello.take(2)
        while True:
            extension, size = hello.number(2), hello.number(2)
            if extension == 0:
                hello.take(3)
                return hello.take(hello.number(2))
            hello.take(size)
    except _Short:
        return b""


def _dns(content: bytes) -> Optional[Tuple[str, str]]:
    """Of a message (RFC 1035)."""
    message = _Bytes(content)
    try:
        _, flags, questions, answers, _, _ = struct.unpack("!6H", message.take(12))
        if questions > 16 or flags >> 11 & 15 > 6:
            return None
        asked = []
        for _ in range(questions):
            name, kind = _name(message), message.number(2)
            message.take(2)
            asked.append(f"{_DNS_TYPES.get(kind, kind)} {name}")
    except _Short:
        return None
    if not flags & 0x8000:
        return "DNS", _shortened(f"query {', '.join(asked)}")
    found = ", ".join(_answers(message, min(answers, _DNS_ANSWERS)))
    code = _DNS_CODES.get(flags & 15, "") if flags & 15 else ""
    more = f" and {answers - _DNS_ANSWERS} more" if answers > _DNS_ANSWERS else ""
    words = f"response {', '.join(asked)}: {code or found or 'nothing'}{more}"
    return "DNS", _shortened(words)


def _shortened(text: str) -> str:
    return text if len(text) <= _INFO_MAX else f"{text[:_INFO_MAX]}…"


def _answers(message: _Bytes, count: int) -> List[str]:
    found: List[str] = []
    try:
        for _ in range(count):
            _name(message)
            kind = message.number(2)
            message.take(6)
            size = message.number(2)
            begin = message.position
            value = message.take(size)
            if kind == 1 and size == 4:
                found.append(str(ipaddress.IPv4Address(value)))
            elif kind == 28 and size == 16:
                found.append(str(ipaddress.IPv6Address(value)))
            elif kind in (2, 5, 12):
                found.append(_name(_Bytes(message.data, begin)))
            else:
                found.append(str(_DNS_TYPES.get(kind, f"type {kind}")))
    except _Short:
        found.append("…")
    return found


def _name(message: _Bytes) -> str:
    """A name, compressed or not; a chain of pointers that does not end is cut off."""
    labels: List[str] = []
    at, length = message, 0
    seen: Dict[int, bool] = {}
    while True:
        size = at.number(1)
        if size == 0:
            return ".".join(labels) or "."
        if size >= 0xC0:
            target = (size & 0x3F) << 8 | at.number(1)
            if target in seen:
                raise _Short
            seen[target] = True
            at = _Bytes(message.data, target)
        elif size >= 0x40:
            raise _Short
        else:
            labels.append(at.take(size).decode("ascii", "backslashreplace"))
            length += size + 1
            if length > _NAME_MAX:
                raise _Short
