"""Headers only: what is kept of a packet, for every protocol that is known, and of packets that lie."""

from __future__ import annotations

import struct
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.packet.headers import LINKS, walk
from tests.kit.record_samples import meta, record

ETHERNET, RAW, SLL, IPV4_ONLY, IPV6_ONLY, SLL2 = 1, 101, 113, 228, 229, 276
PAYLOAD = b"nobody else's business" * 3


def ether(ether_type: int, *tags: int) -> bytes:
    """An Ethernet header, with VLAN tags of these EtherTypes."""
    types = [*tags, ether_type]
    rest = b"".join(struct.pack("!HH", 100 + place, kind) for place, kind in enumerate(types[1:]))
    return bytes(12) + struct.pack("!H", types[0]) + rest


def ipv4(protocol: int, *, options: bytes = b"", fragment: int = 0, version: int = 4) -> bytes:
    """An IPv4 header; its options fill whole words."""
    words = 5 + len(options) // 4
    return struct.pack("!BBHHHBBH8x", version << 4 | words, 0, 0, 0, fragment, 64, protocol, 0) + options


def ipv6(following: int, version: int = 6) -> bytes:
    """The fixed IPv6 header."""
    return struct.pack("!IHBB32x", version << 28, 0, following, 64)


def extension(following: int, words: int = 0) -> bytes:
    """An IPv6 extension header of 8 + 8 * `words` bytes."""
    return struct.pack("!BB6x", following, words) + bytes(8 * words)


def fragment(following: int, offset: int = 0) -> bytes:
    """An IPv6 fragment header."""
    return struct.pack("!BBHI", following, 0, offset << 3 | 1, 7)


def tcp(options: bytes = b"", words: int = 0) -> bytes:
    """A TCP header; `words` says another length than it has."""
    return struct.pack("!HHIIBBHHH", 1, 2, 3, 4, (words or 5 + len(options) // 4) << 4, 0, 0, 0, 0) + options


UDP = struct.pack("!HHHH", 1, 2, 8, 0)
ICMP = struct.pack("!BBHHH", 3, 1, 0, 0, 0)
SCTP = bytes(12)
ARP = struct.pack("!HHBBH20x", 1, 0x0800, 6, 4, 1)
AUTHENTICATED = struct.pack("!BBHII", 6, 1, 0, 1, 1)
E4, E6 = ether(0x0800), ether(0x86DD)

#: Link type, and what must be kept of a packet that goes on with a payload.
WHOLE_HEADERS = {
    "tcp": (ETHERNET, E4 + ipv4(6) + tcp()),
    "tcp with options": (ETHERNET, E4 + ipv4(6) + tcp(bytes(12))),
    "tcp with all options": (ETHERNET, E4 + ipv4(6) + tcp(bytes(40))),
    "udp": (ETHERNET, E4 + ipv4(17) + UDP),
    "udp-lite": (ETHERNET, E4 + ipv4(136) + UDP),
    "icmp quotes a packet": (ETHERNET, E4 + ipv4(1) + ICMP),
    "sctp": (ETHERNET, E4 + ipv4(132) + SCTP),
    "ip options": (ETHERNET, E4 + ipv4(17, options=bytes(40)) + UDP),
    "first fragment": (ETHERNET, E4 + ipv4(17, fragment=0x2000) + UDP),
    "later fragment": (ETHERNET, E4 + ipv4(17, fragment=0x2001)),
    "last fragment": (ETHERNET, E4 + ipv4(6, fragment=100)),
    "esp": (ETHERNET, E4 + ipv4(50)),
    "gre": (ETHERNET, E4 + ipv4(47)),
    "ip in ip": (ETHERNET, E4 + ipv4(4)),
    "vlan": (ETHERNET, ether(0x0800, 0x8100) + ipv4(6) + tcp()),
    "qinq": (ETHERNET, ether(0x86DD, 0x88A8, 0x8100) + ipv6(6) + tcp()),
    "old qinq": (ETHERNET, ether(0x0800, 0x9100, 0x9100) + ipv4(17) + UDP),
    "eight tags": (ETHERNET, ether(0x0800, *[0x8100] * 8) + ipv4(17) + UDP),
    "nine tags": (ETHERNET, ether(0x8100, *[0x8100] * 8)),
    "mpls": (ETHERNET, ether(0x8847) + b"\0\x01\0\x40" + b"\0\x01\x01\x40" + ipv4(6) + tcp()),
    "pppoe": (ETHERNET, ether(0x8864) + b"\x11\0\0\1\0\x30\0\x57" + ipv6(6) + tcp()),
    "mpls over ppp": (9, b"\xff\x03\x02\x81" + b"\0\x01\x01\x40" + ipv6(17) + UDP),
    "null": (0, b"\2\0\0\0" + ipv4(6) + tcp()),
    "hdlc": (104, b"\x0f\0\x08\0" + ipv4(6) + tcp()),
    "ppp, unknown": (166, b"\0\x03\xc0\x21"),
    "arp": (ETHERNET, ether(0x0806) + ARP),
    "arp of something else": (ETHERNET, ether(0x0806)),
    "802.3": (ETHERNET, ether(100)),
    "unknown ethertype": (ETHERNET, ether(0x88B5)),
    "v6 tcp": (ETHERNET, E6 + ipv6(6) + tcp(bytes(4))),
    "v6 udp": (ETHERNET, E6 + ipv6(17) + UDP),
    "icmpv6": (ETHERNET, E6 + ipv6(58) + ICMP),
    "hop by hop": (ETHERNET, E6 + ipv6(0) + extension(58) + ICMP),
    "routing": (ETHERNET, E6 + ipv6(43) + extension(6, 3) + tcp()),
    "all extensions": (
        ETHERNET,
        E6 + ipv6(0) + extension(60) + extension(43, 1) + extension(44) + fragment(135) + extension(139)
        + extension(140) + extension(17) + UDP,
    ),
    "too many extensions": (ETHERNET, E6 + ipv6(60) + extension(60) * 8),
    "v6 first fragment": (ETHERNET, E6 + ipv6(44) + fragment(17) + UDP),
    "v6 later fragment": (ETHERNET, E6 + ipv6(44) + fragment(17, 1)),
    "authenticated": (ETHERNET, E6 + ipv6(51) + AUTHENTICATED + tcp()),
    "no next header": (ETHERNET, E6 + ipv6(59)),
    "raw v4": (RAW, ipv4(6) + tcp()),
    "raw v6": (RAW, ipv6(17) + UDP),
    "raw nonsense": (RAW, b""),
    "v4 only": (IPV4_ONLY, ipv4(17) + UDP),
    "v6 where v4 should be": (IPV4_ONLY, ipv6(17) + UDP),
    "v6 only": (IPV6_ONLY, ipv6(17) + UDP),
    "v4 where v6 should be": (IPV6_ONLY, ipv4(17) + UDP),
    "cooked": (SLL, bytes(14) + b"\x08\x00" + ipv4(6) + tcp()),
    "cooked v2": (SLL2, b"\x86\xdd" + bytes(18) + ipv6(6) + tcp()),
    "cooked, unknown": (SLL2, b"\x00\x04" + bytes(18)),
}  # fmt: skip
#: What follows the kept bytes where that is not just `PAYLOAD`.
FOLLOWS = {
    "raw nonsense": b"\x00",
    "nine tags": struct.pack("!HH", 1, 0x0800) + ipv4(17) + UDP,
    "arp of something else": struct.pack("!HHBBH", 6, 0x0800, 255, 255, 1),
    "too many extensions": extension(17) + UDP,
}

#: Link type, what may be kept, and the lie after it.
LIES = {
    "short ethernet": (ETHERNET, b"", bytes(13)),
    "short tag": (ETHERNET, ether(0x8100), b"\x00\x01\x08"),
    "short ip": (ETHERNET, E4, ipv4(6)[:19]),
    "ip header too short": (ETHERNET, E4, b"\x44" + ipv4(17)[1:] + UDP),
    "ip options beyond the end": (ETHERNET, E4, b"\x4f" + ipv4(17)[1:] + UDP),
    "other version": (ETHERNET, E4, ipv4(17, version=5) + UDP),
    "other version 6": (ETHERNET, E6, ipv6(17, version=4) + UDP),
    "short udp": (ETHERNET, E4 + ipv4(17), UDP[:7]),
    "short tcp": (ETHERNET, E4 + ipv4(6), tcp()[:19]),
    "tcp header too short": (ETHERNET, E4 + ipv4(6), tcp(words=4) + PAYLOAD),
    "tcp options beyond the end": (ETHERNET, E4 + ipv4(6), tcp(words=15) + bytes(39)),
    "short arp": (ETHERNET, ether(0x0806), ARP[:27]),
    "short v6": (ETHERNET, E6, ipv6(6)[:39]),
    "short extension": (ETHERNET, E6 + ipv6(0), extension(6)[:7]),
    "extension beyond the end": (ETHERNET, E6 + ipv6(60), extension(6, 255) [:200]),
    "authentication beyond the end": (ETHERNET, E6 + ipv6(51), b"\x06\xff" + bytes(100)),
    "nothing": (ETHERNET, b"", b""),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE_HEADERS)
def test_headers_are_kept_and_what_follows_is_not(records: ModuleType, name: str) -> None:
    """The packet is cut after its last known header; its original length is kept."""
    link_type, headers = WHOLE_HEADERS[name]
    packet = headers + FOLLOWS.get(name, b"") + PAYLOAD
    packed = records.pack(packet, meta((1, 2, 0, len(packet))), 2**18, 2**18, link_type)
    assert packed == [record(1_000_002, headers, original=len(packet))]


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_does_not_count(records: ModuleType, name: str) -> None:
    """A packet whose header lies, or lacks a part, is cut before that header."""
    link_type, headers, lie = LIES[name]
    packet = headers + lie
    packed = records.pack(packet, meta((1, 2, 0, len(packet))), 2**18, 2**18, link_type)
    assert packed == [record(1_000_002, headers, original=len(packet))]


def test_a_packet_does_not_reach_into_the_next(records: ModuleType) -> None:
    """The header of one packet in a buffer is not completed with bytes of the next."""
    first, second = E4 + ipv4(6), tcp()
    packed = records.pack(first + second, meta((1, 0, 0, len(first))), 999, 999, ETHERNET)
    assert packed == [record(1_000_000, first)]


def test_the_shorter_of_headers_and_snaplen(records: ModuleType) -> None:
    """A snaplen below the headers cuts them, too; one above gives no payload back."""
    packet = E4 + ipv4(17) + UDP + PAYLOAD
    entry = meta((1, 0, 0, len(packet)))
    assert records.pack(packet, entry, 20, 999, ETHERNET) == [
        record(1_000_000, packet[:20], original=len(packet))
    ]
    assert records.pack(packet, entry, len(packet), 999, ETHERNET)[0].endswith(UDP)


def test_batches_count_what_is_kept(records: ModuleType) -> None:
    """Many small records travel in one batch, however long the packets were."""
    packet = E4 + ipv4(17) + UDP + bytes(1000)
    packed = records.pack(packet * 10, meta(*((1, n, n * len(packet), len(packet)) for n in range(10))),
                          2**18, 10 * (16 + 42), ETHERNET)  # fmt: skip
    assert len(packed) == 1


@pytest.mark.parametrize(
    ("link_type", "words"),
    [
        *(
            (number, f"the headers of link type {number} are not known")
            for number in (2, 105, 127, 239, 2**32 - 1)
        ),
        *((number, "headers_of must be within -1 and 4294967295") for number in (-2, 2**32)),
    ],
)
def test_an_unknown_link_type_is_refused(records: ModuleType, link_type: int, words: str) -> None:
    """A link type that is unknown or out of range is refused, because payload could not be cut away."""
    with pytest.raises(ValueError, match=words):
        records.pack(b"", b"", 1, 1, link_type)


@given(st.sampled_from(sorted(WHOLE_HEADERS)), st.binary(max_size=80))
def test_any_payload(name: str, payload: bytes) -> None:
    """Payload bytes do not move the place of the cut."""
    link_type, headers = WHOLE_HEADERS[name]
    follows = FOLLOWS.get(name, b"")
    assert walk(link_type, headers + follows + payload).end == len(headers)


@given(st.sampled_from(sorted(LINKS)), st.binary(max_size=200))
def test_never_more_than_there_is(link_type: int, packet: bytes) -> None:
    """The length to keep is never more than the packet's, whatever its bytes are."""
    assert 0 <= walk(link_type, packet).end <= len(packet)
