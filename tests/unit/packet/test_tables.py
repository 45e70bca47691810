"""The tables of the compiled walker are those of the one in Python, for every number there is."""

from __future__ import annotations

import struct
from typing import Dict, Iterable

import pytest

from pcapd.records import _reference
from tests.kit.packets import ipv4, ipv6, tcp
from tests.kit.record_samples import record

_native = pytest.importorskip("pcapd.records._native", reason="the compiled module is not built")

#: Long enough for every header, and it looks like IP at many places.
_REST = (b"\x45" + bytes(range(1, 32))) * 4

#: What the number is written into, and the link type of that.
NUMBERS: Dict[str, tuple[int, Iterable[bytes]]] = {
    "EtherType": (1, (bytes(12) + struct.pack("!H", kind) + _REST for kind in range(65536))),
    "behind a tag": (1, (bytes(12) + struct.pack("!HHH", 0x8100, 1, kind) + _REST for kind in range(65536))),
    "PPP": (9, (b"\xff\x03" + struct.pack("!H", kind) + _REST for kind in range(65536))),
    "IPv4": (101, (ipv4(tcp(bytes(40)), protocol) for protocol in range(256))),
    "IPv6": (101, (ipv6(tcp(bytes(40)), protocol) for protocol in range(256))),
    "IPv6 extension": (101, (ipv6(bytes([p, 0]) + bytes(6) + tcp(bytes(40)), 60) for p in range(256))),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_numbers_in_packets(what: str) -> None:
    """The tables hold the numbers of EtherTypes, PPP protocols and IP protocols."""
    link_type, packets = NUMBERS[what]
    batch = b"".join(record(1, packet) for packet in packets)
    assert _native.rows(batch, link_type, 0) == _reference.rows(batch, link_type, 0)


def test_link_types() -> None:
    """The tables hold all link types of libpcap, and some more."""
    batch = b"".join(
        record(1, start + ipv4(tcp(b"abc"), 6))
        for start in (b"", bytes(4), b"\xff\x03\0\x21", bytes(12) + b"\x08\0", bytes(14) + b"\x08\0",
                      b"\x08\0" + bytes(18), bytes(6) + b"\0\x21", b"\x0f\0\x08\0")
    )  # fmt: skip
    for link_type in range(400):
        assert _native.rows(batch, link_type, 0) == _reference.rows(batch, link_type, 0)
