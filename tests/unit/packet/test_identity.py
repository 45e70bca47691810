"""Which bytes of a packet stay the same, and which flow it belongs to."""

from __future__ import annotations

import ipaddress
from typing import Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.packet import identity
from pcapd.packet.flow import FlowKey, flow_key
from pcapd.packet.headers import walk
from tests.kit.packets import MACS, ethernet, ipv4, ipv6, tcp, udp

ETHERNET, RAW = 1, 101


def unchanging(link_type: int, data: bytes) -> Optional[bytes]:
    return identity.unchanging(data, walk(link_type, data))


def flow(link_type: int, data: bytes) -> Optional[FlowKey]:
    return flow_key(data, walk(link_type, data))


SAME = {
    "time to live and checksum": (ipv4(udp(b"x")), ipv4(udp(b"x"), ttl=63, checksum=5)),
    "checksum of udp": (ipv4(udp(b"x")), ipv4(udp(b"x", 77))),
    "checksum of tcp": (ipv4(tcp(b"x"), 6), ipv4(tcp(b"x", 77), 6)),
    "ipv6": (ipv6(tcp(b"x"), 6), ipv6(tcp(b"x", 9), 6, hops=3)),
}
DIFFERENT = {
    "payload": (ipv4(udp(b"x")), ipv4(udp(b"y"))),
    "length": (ipv4(udp(b"x")), ipv4(udp(b"xx"))),
    "protocol": (ipv4(udp(b"x")), ipv4(udp(b"x"), 6)),
    "what is no checksum in a fragment": (
        ipv4(udp(b"x" * 8, 1), fragment=5),
        ipv4(udp(b"x" * 8, 2), fragment=5),
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_what_routers_and_cards_change(case: str) -> None:
    """Changes by routers and cards, Ethernet addresses and padding do not change a packet's identity."""
    one, other = SAME[case]
    assert unchanging(ETHERNET, ethernet(one)) == unchanging(ETHERNET, ethernet(other, b"\1" * 12))
    assert unchanging(RAW, one) == unchanging(ETHERNET, ethernet(other))


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_makes_another_packet(case: str) -> None:
    """Changes of any other byte make another packet."""
    one, other = DIFFERENT[case]
    assert unchanging(RAW, one) != unchanging(RAW, other)


@pytest.mark.parametrize("payload", [tcp(b""), tcp(b"abc")])
def test_padding_of_short_frames(payload: bytes) -> None:
    """The padding of short frames is not part of the packet."""
    frame = ethernet(ipv4(payload, 6))
    assert unchanging(1, frame + b"\0" * 6) == unchanging(1, frame + b"\xaa" * 3) == unchanging(1, frame)


def test_what_is_no_ip() -> None:
    """A packet without IP has no identity, and is not matched."""
    for data in (
        b"",
        MACS,
        MACS + b"\x08\x06" + bytes(28),
        MACS + b"\x08\x06" + bytes(46),
        ethernet(ipv4(b""))[:20],
        ethernet(ipv6(b""))[:40],
    ):
        assert unchanging(1, data) is None
    assert unchanging(127, bytes(100)) is None


V4 = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
V6 = ipaddress.ip_address("2001:db8::1").packed, ipaddress.ip_address("2001:db8::2").packed


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (ipv4(udp(b"x")), (*V4, 17, (40000, 9))),
        (ipv6(tcp(b"x"), 6), (*V6, 6, (40000, 80))),
        (ipv4(udp(b"x"), 1), (*V4, 1, None)),
        (ipv4(udp(b"x"), fragment=5), (*V4, 17, None)),
        (ipv6(b"abc"), (*V6, 17, None)),
    ],
    ids=["v4", "v6", "without ports", "later fragment", "cut before the ports"],
)
def test_the_flow_of_a_packet(content: bytes, key: Tuple[object, ...]) -> None:
    """The flow of a packet is its addresses, its protocol, and its ports where it has any."""
    assert flow(RAW, content) == key


@pytest.mark.parametrize("content", [b"", ipv4(b"")[:19], ipv6(b"")[:39], b"\x60" + ipv4(b"")[1:]])
def test_what_is_too_short_for_its_addresses(content: bytes) -> None:
    """A packet too short for its addresses has no flow."""
    assert flow(RAW, content) is None


@given(link_type=st.sampled_from([0, 1, 101, 113, 276, 127]), data=st.binary(max_size=120))
def test_garbage(link_type: int, data: bytes) -> None:
    """Garbage is never an error, and its identity is no longer than the input."""
    headers = walk(link_type, data)
    content = identity.unchanging(data, headers)
    assert content is None or len(content) <= len(data) - headers.network
    assert 0 <= headers.end <= len(data)
