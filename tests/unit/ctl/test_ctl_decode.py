"""One line per packet: what is recognized, and that nothing a packet holds can do harm."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
import struct
import sys
from typing import Callable, List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.ctl.display.decode import decode
from pcapd.ctl.sinks.output import ReaderLeft
from pcapd.ctl.sinks.printing import Printer, as_line
from pcapd.merge.muxer import HEADERS, Kind, Muxer, Piece
from pcapd.packet import linktypes
from pcapd.savefile.form import Form
from pcapd.savefile.reader import FileInterface, FilePacket
from pcapd.wire import Source

ETHERNET = bytes(12)


def ipv4(payload: bytes, protocol: int = 17, fragment: int = 0, source: str = "192.0.2.1") -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, fragment, 64, protocol, 0)
    return head + ipaddress.ip_address(source).packed + ipaddress.ip_address("192.0.2.2").packed + payload


def ipv6(payload: bytes, protocol: int = 17) -> bytes:
    ends = ipaddress.ip_address("2001:db8::1").packed + ipaddress.ip_address("2001:db8::2").packed
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + ends + payload


def udp(payload: bytes, source: int = 40000, destination: int = 9) -> bytes:
    return struct.pack("!4H", source, destination, 8 + len(payload), 0) + payload


def tcp(payload: bytes = b"", flags: int = 16, source: int = 40000, destination: int = 8080) -> bytes:
    return struct.pack("!HHIIBBHHH", source, destination, 1, 2, 5 << 4, flags, 1000, 0, 0) + payload


def frame(packet: bytes) -> bytes:
    return ETHERNET + (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00") + packet


def line(packet: bytes) -> str:
    """The decoded parts of an Ethernet frame, joined."""
    return " ".join(decode(linktypes.ETHERNET, frame(packet)))


def client_hello(name: Optional[str]) -> bytes:
    """What Python's own TLS sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def dns_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


QUERY = struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + dns_name("www.example.com") + b"\0\x1c\0\1"
ANSWERS = (
    struct.pack("!6H", 1, 0x8180, 1, 6, 0, 0) + dns_name("www.example.com") + b"\0\1\0\1"
    + b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\6\3web\xc0\x10"
    + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\7"
    + b"\xc0\x0c\0\x1c\0\1\0\0\0\x3c\0\x10" + ipaddress.ip_address("2001:db8::7").packed
    + b"\xc0\x0c\0\x10\0\1\0\0\0\x3c\0\2\1x"
)  # fmt: skip
NXDOMAIN = struct.pack("!6H", 1, 0x8183, 1, 0, 0, 0) + dns_name("no.example.com") + b"\0\1\0\1"

LINES = {
    "tcp": (ipv4(tcp(flags=2), 6), "192.0.2.1:40000 192.0.2.2:8080 TCP SYN"),
    "tcp data": (ipv4(tcp(b"\0\1\2", 24), 6), "192.0.2.1:40000 192.0.2.2:8080 TCP PSH ACK, 3 bytes"),
    "tcp six": (ipv6(tcp(flags=17), 6), "[2001:db8::1]:40000 [2001:db8::2]:8080 TCP FIN ACK"),
    "udp": (ipv4(udp(b"abc")), "192.0.2.1:40000 192.0.2.2:9 UDP 3 bytes"),
    "extensions": (
        ipv6(b"\x2c\0" + bytes(6) + b"\x11\0\0\0\0\0\0\1" + udp(b"a"), 0),
        "[2001:db8::1]:40000 [2001:db8::2]:9 UDP 1 bytes",
    ),
    "fragment": (ipv4(b"x" * 8, 17, fragment=3), "192.0.2.1 192.0.2.2 UDP fragment"),
    "ping": (ipv4(b"\x08\0" + bytes(6), 1), "192.0.2.1 192.0.2.2 ICMP echo request"),
    "ping six": (ipv6(b"\x81\0" + bytes(6), 58), "2001:db8::1 2001:db8::2 ICMPv6 echo reply"),
    "gre": (ipv4(b"\x08\0" + bytes(6), 47), "192.0.2.1 192.0.2.2 GRE "),
    "request": (
        ipv4(tcp(b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"), 6),
        "192.0.2.1:40000 192.0.2.2:8080 HTTP GET /a?b=c HTTP/1.1",
    ),
    "status": (
        ipv4(tcp(b"HTTP/1.1 404 Not Found\r\n\r\n", source=8080), 6),
        "192.0.2.1:8080 192.0.2.2:8080 HTTP HTTP/1.1 404 Not Found",
    ),
    "no request": (
        ipv4(tcp(b"GET me out of here\n"), 6), "192.0.2.1:40000 192.0.2.2:8080 TCP ACK, 19 bytes"
    ),
    "query": (
        ipv4(udp(QUERY, destination=53)), "192.0.2.1:40000 192.0.2.2:53 DNS query AAAA www.example.com"
    ),
    "query by tcp": (
        ipv4(tcp(struct.pack("!H", len(QUERY)) + QUERY, destination=53), 6),
        "192.0.2.1:40000 192.0.2.2:53 DNS query AAAA www.example.com",
    ),
    "answers": (
        ipv4(udp(ANSWERS, source=53)),
        "192.0.2.1:53 192.0.2.2:9 DNS response A www.example.com: "
        "web.example.com, 192.0.2.7, 2001:db8::7, TXT and 2 more",
    ),
    "no such name": (
        ipv4(udp(NXDOMAIN, source=53)), "192.0.2.1:53 192.0.2.2:9 DNS response A no.example.com: NXDOMAIN"
    ),
    "server name": (
        ipv4(tcp(client_hello("myapp.example.com")), 6),
        "192.0.2.1:40000 192.0.2.2:8080 TLS ClientHello myapp.example.com",
    ),
    "no server name": (
        ipv4(tcp(client_hello(None)), 6), "192.0.2.1:40000 192.0.2.2:8080 TLS ClientHello"
    ),
    "encrypted": (
        ipv4(tcp(b"\x17\3\3\0\5abcde"), 6), "192.0.2.1:40000 192.0.2.2:8080 TLS application data"
    ),
    "half a request": (
        ipv4(tcp(b"GET /a/long/way"), 6), "192.0.2.1:40000 192.0.2.2:8080 HTTP GET /a/long/way"
    ),
    "almost tls: type": (ipv4(tcp(b"\x18\3\3\0\5abcde"), 6), "192.0.2.1:40000 192.0.2.2:8080 TCP ACK, 10 bytes"),
    "almost tls: version": (
        ipv4(tcp(b"\x17\2\3\0\5abcde"), 6), "192.0.2.1:40000 192.0.2.2:8080 TCP ACK, 10 bytes"
    ),
    "almost tls: minor version": (
        ipv4(tcp(b"\x17\3\5\0\5abcde"), 6), "192.0.2.1:40000 192.0.2.2:8080 TCP ACK, 10 bytes"
    ),
    "almost tls: length": (ipv4(tcp(b"\x16\3\3\0\5"), 6), "192.0.2.1:40000 192.0.2.2:8080 TCP ACK, 5 bytes"),
    "almost dns: port": (
        ipv4(tcp(struct.pack("!H", len(QUERY)) + QUERY), 6), "192.0.2.1:40000 192.0.2.2:8080 TCP ACK, 35 bytes"
    ),
    "almost dns: length": (
        ipv4(tcp(b"\0\x21", destination=53), 6), "192.0.2.1:40000 192.0.2.2:53 TCP ACK, 2 bytes"
    ),
    "almost dns: questions": (
        ipv4(udp(struct.pack("!6H", 1, 0x100, 17, 0, 0, 0) + 17 * b"\0\0\1\0\1", destination=53)),
        "192.0.2.1:40000 192.0.2.2:53 UDP 97 bytes",
    ),
    "almost dns: opcode": (
        ipv4(udp(struct.pack("!6H", 1, 0x3900, 1, 0, 0, 0) + b"\0\0\1\0\1", destination=53)),
        "192.0.2.1:40000 192.0.2.2:53 UDP 17 bytes",
    ),
    "almost dns: label": (
        ipv4(udp(struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + b"\x41" + 65 * b"a" + b"\0\0\1\0\1", destination=53)),
        "192.0.2.1:40000 192.0.2.2:53 UDP 83 bytes",
    ),
    "almost dns: long name": (
        ipv4(udp(struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + 5 * (b"\x3f" + 63 * b"a") + b"\0\0\1\0\1", destination=53)),
        "192.0.2.1:40000 192.0.2.2:53 UDP 337 bytes",
    ),
    "other version": (b"\x55" + ipv4(udp(b"abc"))[1:], "  IPv4 cut short"),
    "no header": (b"\x44" + ipv4(udp(b"abc"))[1:], "  IPv4 cut short"),
    "half an address": (ipv4(b"")[:17], "  IPv4 cut short"),
    "total length within TCP": (
        b"\x45\0\0\x18" + ipv4(tcp(b"abc"), 6)[4:],
        "192.0.2.1:40000 192.0.2.2:8080 TCP cut short",
    ),
    "half a port": (ipv4(b"\1\2\3"), "192.0.2.1 192.0.2.2 UDP cut short"),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES)
def test_what_is_recognized(case: str) -> None:
    """Addresses with ports, protocol, and what is in clear."""
    packet, expected = LINES[case]
    assert line(packet) == expected


def test_a_name_in_a_hello_of_two_packets() -> None:
    """A TLS hello of two packets gives its name if that is in the first, and is a hello otherwise."""
    hello = client_hello("myapp.example.com")
    assert line(ipv4(tcp(hello[: hello.index(b"myapp")]), 6)).endswith("TLS ClientHello")


@pytest.mark.parametrize("ip", [ipv4, ipv6])
def test_padding_is_no_content(ip: Callable[[bytes, int], bytes]) -> None:
    """Ethernet padding is not printed as content."""
    assert " ".join(decode(1, frame(ip(tcp(flags=16), 6)) + bytes(6))).endswith("TCP ACK")


@pytest.mark.parametrize(
    ("link_type", "head"),
    [
        (linktypes.ETHERNET, ETHERNET + b"\x08\x00"),
        (linktypes.ETHERNET, ETHERNET + b"\x81\x00\0\5\x88\xa8\0\6\x08\x00"),
        (linktypes.RAW, b""),
        (linktypes.LINUX_SLL, bytes(14) + b"\x08\x00"),
        (linktypes.LINUX_SLL2, b"\x08\x00" + bytes(18)),
        (0, b"\2\0\0\0"),
        (228, b""),
    ],
)
def test_link_types(link_type: int, head: bytes) -> None:
    """All link types of captures are decoded."""
    assert decode(link_type, head + ipv4(udp(b"abc"))).destination == "192.0.2.2:9"


def test_arp_and_others() -> None:
    """Packets without IP addresses get a line as well."""
    asked = b"\0\1\x08\0\6\4\0\1" + bytes(6) + b"\xc0\0\2\1" + bytes(6) + b"\xc0\0\2\2"
    assert decode(1, ETHERNET + b"\x08\x06" + asked)[2:] == ("ARP", "who has 192.0.2.2")
    reply = b"\0\1\x08\0\6\4\0\2" + b"\xaa\xbb\xcc\0\0\1" + asked[14:]
    assert decode(1, ETHERNET + b"\x08\x06" + reply).info == "192.0.2.1 is at aa:bb:cc:00:00:01"
    assert decode(1, ETHERNET + b"\x88\xcc").protocol == "ethertype 0x88cc"
    assert decode(1, ETHERNET + b"\0\x26").protocol == "802.3"
    assert decode(127, b"xyz").protocol == "IEEE802_11_RADIOTAP"


def test_names_that_point_at_themselves() -> None:
    """DNS names that point at themselves do not loop."""
    loop = struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1"
    assert line(ipv4(udp(loop, destination=53))).endswith(f"UDP {len(loop)} bytes")


GOOD = [frame(packet) for packet, _ in LINES.values()]
LINK_TYPES = st.sampled_from([0, 1, 101, 108, 113, 228, 229, 276, 127])


@given(link_type=LINK_TYPES, data=st.binary(max_size=200))
def test_garbage(link_type: int, data: bytes) -> None:
    """Every packet has a line that a terminal may see."""
    check(link_type, data)


@given(packet=st.sampled_from(GOOD), changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255))),
       cut=st.integers(0, 400))  # fmt: skip
def test_packets_that_are_nearly_good(packet: bytes, changes: List[tuple[int, int]], cut: int) -> None:
    """Packets that are changed or cut anywhere are decoded without an exception."""
    changed = bytearray(packet)
    for at, value in changes:
        changed[at % len(changed)] = value
    check(1, bytes(changed[:cut] if cut < len(changed) else changed))


def check(link_type: int, data: bytes) -> None:
    interface = FileInterface("web-0:eth0", link_type)
    text = as_line(FilePacket(interface, 5_000_001, len(data), data, None))
    assert text.isprintable() and ".000001 web-0:eth0 " in text and len(text) < 2000


# --- printing -----------------------------------------------------------------


def pieces(instance: str, content: bytes) -> List[Piece]:
    muxer = Muxer(Form.PCAPNG, 262144, ordered=False)
    muxer.source(1, Source(instance, "eth0", 1, 262144, ""), 5)
    packet = frame(ipv4(udp(content)))
    muxer.packets(1, struct.pack("<4I", 9, 5, len(packet), 1514) + packet, 0.0)
    return muxer.finish_pieces(10)


def test_lines_and_events(capfd: pytest.CaptureFixture[str]) -> None:
    """Lines and events carry instance and wire length; statistics are not packets."""
    Printer(json=False, stream=sys.stdout).write(pieces("web-0", b"abc"))
    (text,) = capfd.readouterr().out.splitlines()
    assert text.endswith(".000005 web-0:eth0 192.0.2.1:40000 > 192.0.2.2:9 UDP 1514 3 bytes")
    Printer(json=True, stream=sys.stdout).write(pieces("web-0", b"abc"))
    assert json.loads(capfd.readouterr().out) == {
        "event": "packet", "time_us": 9_000_005, "source": "web-0:eth0", "from": "192.0.2.1:40000",
        "to": "192.0.2.2:9", "protocol": "UDP", "length": 1514, "info": "3 bytes",
    }  # fmt: skip


def test_each_instance_has_its_own_interfaces(capfd: pytest.CaptureFixture[str]) -> None:
    """Files of their own number them from 0 each."""
    printer = Printer(json=False, stream=sys.stdout)
    both = [[piece._replace(stream=name) for piece in pieces(name, b"")] for name in ("a", "b")]
    headers = [piece for each in both for piece in each if piece.kind in HEADERS]
    packets = [piece for each in both for piece in each if piece.kind is Kind.PACKETS]
    printer.write(headers + packets)
    assert [text.split()[1] for text in capfd.readouterr().out.splitlines()] == ["a:eth0", "b:eth0"]


def test_a_terminal_that_knows_ascii_only() -> None:
    """An ASCII-only terminal gets escaped characters."""
    read_fd, write_fd = os.pipe()
    with os.fdopen(write_fd, "w", encoding="ascii") as stream:
        Printer(json=False, stream=stream).write(pieces("jürgen", b""))
    assert b"j\\xfcrgen:eth0 " in os.read(read_fd, 1000)
    os.close(read_fd)


def test_nobody_reads_the_lines() -> None:
    """Lines that cannot be written are reported once, and the capture's file goes on."""
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    with os.fdopen(write_fd, "w") as stream:
        printer = Printer(json=False, stream=stream)
        with pytest.raises(ReaderLeft, match="closed the pipe"):
            printer.write(pieces("web-0", b""))
        printer.write(pieces("web-0", b""))
