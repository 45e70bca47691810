"""The bytes of pcapng blocks and of the pcap header."""

from __future__ import annotations

import struct
from typing import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.packet import linktypes
from pcapd.savefile import blocks, pcap


def options_of(block: bytes, fixed: int) -> list[tuple[int, bytes]]:
    """The options behind ``fixed`` bytes of a block's body, whose frame is checked on the way."""
    length = len(block)
    assert struct.unpack("<I", block[4:8]) == struct.unpack("<I", block[-4:]) == (length,)
    assert length % 4 == 0
    found, at = [], 8 + fixed
    while at < length - 4:
        code, size = struct.unpack_from("<HH", block, at)
        value, padding = block[at + 4 : at + 4 + size], -size % 4
        assert block[at + 4 + size : at + 4 + size + padding] == bytes(padding)
        found.append((code, value))
        at += 4 + size + padding
    assert at == length - 4
    assert not found or found[-1] == (0, b"")
    return found[:-1]


def test_section_header() -> None:
    """A section says its byte order, version 1.0 and an unknown length, then who wrote it."""
    block = blocks.section_header("pcapd 1.0", "for Ops")
    assert block[:24] == bytes.fromhex("0a0d0d0a 3c000000 4d3c2b1a 0100 0000 ffffffffffffffff")
    assert options_of(block, 16) == [(1, b"for Ops"), (4, b"pcapd 1.0")]


def test_empty_text_is_left_out() -> None:
    """An option that says nothing is not written, and without options no end of options is."""
    assert options_of(blocks.section_header("pcapd"), 16) == [(4, b"pcapd")]
    assert len(blocks.section_header("")) == 28


def test_interface_description() -> None:
    """An interface has its link type, snaplen, names, addresses with networks, resolution and filter."""
    block = blocks.interface_description(
        "a/0:lo", 276, 262144, "VM", "port 80", ["192.0.2.7/20", "2001:db8::7/48"]
    )
    assert block[:4] == b"\x01\x00\x00\x00"
    assert block[8:16] == struct.pack("<HHI", 276, 0, 262144)
    assert options_of(block, 8) == [
        (2, b"a/0:lo"),
        (3, b"VM"),
        (4, bytes([192, 0, 2, 7, 255, 255, 240, 0])),
        (5, bytes.fromhex("20010db8000000000000000000000007") + bytes([48])),
        (9, b"\x06"),
        (11, b"\x00port 80"),
    ]


def test_interface_statistics() -> None:
    """Counters are 64 bits each, and every time has its high half first."""
    at, start, end = 2**32 + 1, 2**33 + 2, 2**34 + 3
    block = blocks.interface_statistics(3, at, start, end, 10, 20, 30, 2**64 - 1)
    assert block[:4] == b"\x05\x00\x00\x00"
    assert block[8:20] == struct.pack("<III", 3, 1, 1)
    assert options_of(block, 12) == [
        (2, struct.pack("<II", 2, 2)),
        (3, struct.pack("<II", 4, 3)),
        (5, struct.pack("<Q", 20)),
        (6, struct.pack("<Q", 10)),
        (7, struct.pack("<Q", 30)),
        (8, b"\xff" * 8),
    ]


def test_name_resolution() -> None:
    """A name record is the address, the name and a NUL, padded; the list has an end."""
    block = blocks.name_resolution([("192.0.2.1", "web"), ("::1", "six")])
    body = bytes.fromhex("0100 0800 c0000201 77656200")
    body += bytes.fromhex("0200 1400 00000000000000000000000000000001 73697800") + bytes(4)
    assert block == struct.pack("<II", 4, len(body) + 12) + body + struct.pack("<I", len(body) + 12)


def test_no_names_no_block() -> None:
    """Without names nothing is written."""
    assert blocks.name_resolution([]) == b""


def test_text_is_cleaned() -> None:
    """Control characters, line breaks, direction marks and lone surrogates become U+FFFD; the rest stays."""
    block = blocks.section_header("a\x00b\x1bc\x7fd\x9be\nf\u202eg\udc80 ü 日本")
    text = options_of(block, 16)[0][1].decode("utf-8")
    assert text == "a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf\ufffdg\ufffd ü 日本"


@pytest.mark.parametrize("lead", range(4))
def test_text_is_cut_between_characters(lead: int) -> None:
    """Text that does not fit 65535 bytes ends with its last whole character."""
    text = "x" * lead + "日" * 30_000
    (_, value), *_ = options_of(blocks.section_header(text), 16)
    assert 65535 - 3 < len(value) <= 65535
    assert text.startswith(value.decode("utf-8"))


def test_long_filter_and_name_fit_with_what_precedes_them() -> None:
    """The filter's leading byte and a name record's address count for the 65535 bytes."""
    filters = options_of(blocks.interface_description("", 1, 0, filter_text="x" * 70_000), 8)
    assert filters[-1] == (11, b"\x00" + b"x" * 65534)
    names = blocks.name_resolution([("::1", "x" * 70_000)])
    assert struct.unpack_from("<HH", names, 8) == (2, 65535)


@given(st.text(), st.text(), st.text(), st.text())
def test_blocks_are_well_formed_for_any_text(
    name: str, description: str, expression: str, comment: str
) -> None:
    """Options of any text can be walked to the block's end and hold valid UTF-8 without NUL."""
    interface = blocks.interface_description(name, 1, 262144, description, expression)
    section = blocks.section_header(name, comment)
    for code, value in options_of(interface, 8) + options_of(section, 16):
        text = value[1:] if code == 11 else value
        assert "\x00" not in text.decode("utf-8")


@pytest.mark.parametrize(
    "write",
    [
        lambda: blocks.interface_description("x", 65536, 0),
        lambda: blocks.interface_description("x", 1, -1),
        lambda: blocks.interface_description("x", 1, 0, addresses=["10.0.0.256/8"]),
        lambda: blocks.interface_statistics(2**32, 0, 0, 0, 0, 0, 0, 0),
        lambda: blocks.interface_statistics(0, -1, 0, 0, 0, 0, 0, 0),
        lambda: blocks.interface_statistics(0, 0, 0, 0, -1, 0, 0, 0),
        lambda: blocks.interface_statistics(0, 0, 0, 0, 2**64, 0, 0, 0),
        lambda: blocks.name_resolution([("web", "10.0.0.1")]),
        lambda: pcap.file_header(65536, 0),
        lambda: pcap.file_header(-1, 0),
        lambda: pcap.file_header(1, -1),
        lambda: pcap.file_header(1, 2**32),
    ],
)
def test_numbers_that_do_not_fit(write: Callable[[], bytes]) -> None:
    """A number or address that its field cannot hold is a ValueError, and never wraps around."""
    with pytest.raises(ValueError, match=r"\d"):
        write()


def test_pcap_header() -> None:
    """The classic header is little endian, version 2.4, microseconds."""
    assert pcap.file_header(113, 262144) == bytes.fromhex(
        "d4c3b2a1 0200 0400 00000000 00000000 00000400 71000000"
    )


@pytest.mark.parametrize(
    ("dlt", "link_type", "name"),
    [
        (1, 1, "ETHERNET"),
        (11, 100, "ATM_RFC1483"),
        (12, 101, "RAW"),
        (15, 102, "SLIP_BSDOS"),
        (16, 103, "PPP_BSDOS"),
        (19, 106, "ATM_CLIP"),
        (113, 113, "LINUX_SLL"),
        (276, 276, "LINUX_SLL2"),
        (9999, 9999, "LINKTYPE 9999"),
    ],
)
def test_link_types(dlt: int, link_type: int, name: str) -> None:
    """A DLT of Linux gets the number that files use, and a name or at least its number in words."""
    assert linktypes.from_dlt(dlt) == link_type
    assert linktypes.name(link_type) == name
