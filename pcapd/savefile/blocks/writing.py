"""Writes blocks; see `pcapd.savefile.blocks`."""

from __future__ import annotations

import ipaddress
import struct
from typing import Iterable, Optional, Sequence, Union

from pcapd.savefile.blocks.layout import (
    BLOCK_FRAME,
    DROP_COUNT,
    END_OF_OPTIONS,
    ENHANCED_PACKET,
    FILTER_IS_TEXT,
    INTERFACE_DESCRIPTION,
    INTERFACE_STATISTICS,
    LENGTH,
    LENGTH_MAX,
    LENGTH_UNKNOWN,
    MAGIC,
    NAME_RESOLUTION,
    NUMBER_OPTION,
    PACKET,
    PACKET_FRAME,
    PACKET_ID,
    RECORD_IPV4,
    RECORD_IPV6,
    SECTION_HEADER,
    TSRESOL_MICROS,
    U16,
    U32,
    U64,
    VERSION,
)
from pcapd.savefile.blocks.reading import options_of

__all__ = [
    "corrected_interface",
    "enhanced_packet",
    "interface_description",
    "interface_statistics",
    "name_resolution",
    "section_header",
]


def section_header(application: str, comment: str = "") -> bytes:
    """Make the block that begins the file.

    Args:
        application: Name and version of the program that writes the file (shb_userappl).
        comment: A comment for readers (opt_comment); left out if empty.
    """
    body = struct.pack("<IHHq", MAGIC, *VERSION, LENGTH_UNKNOWN)
    return _block(SECTION_HEADER, body, [*_text_option(1, comment), *_text_option(4, application)])


def interface_description(  # noqa: PLR0917 - the order of the block
    name: str,
    link_type: int,
    snaplen: int,
    description: str = "",
    filter_text: str = "",
    addresses: Sequence[str] = (),
) -> bytes:
    """Make the block that describes one source; sources are numbered in order, from 0 on.

    Args:
        name: Name that readers show with every packet, for example ``myapp/0:eth0`` (if_name).
        link_type: LINKTYPE, not DLT.
        snaplen: bytes; must be the same for all interfaces of a file.
        description: Where the packets come from (if_description).
        filter_text: The BPF expression that was used (if_filter).
        addresses: Addresses such as ``192.0.2.7/24`` or ``2001:db8::7/64`` (if_IPv4addr,
            if_IPv6addr).
    """
    body = struct.pack("<HHI", _number("link type", link_type, U16), 0, _number("snaplen", snaplen, U32))
    options = [
        *_text_option(2, name),
        *_text_option(3, description),
        *(_address_option(address) for address in addresses),
        _option(9, TSRESOL_MICROS),
        *_text_option(11, filter_text, prefix=FILTER_IS_TEXT),
    ]
    return _block(INTERFACE_DESCRIPTION, body, options)


def interface_statistics(  # noqa: PLR0917 - the order of the block
    interface: int,
    at_us: int,
    start_us: int,
    end_us: int,
    received: Optional[int],
    dropped_interface: Optional[int],
    dropped_kernel: Optional[int],
    delivered: int,
    comment: str = "",
) -> bytes:
    """Make a block with one source's counters since its start; a file may have several.

    isb_ifrecv, the number of packets before the filter, is left out, because it is not known.

    Args:
        interface: Number of the source's interface block, from 0 on.
        at_us: microseconds since the epoch when the counters were read.
        start_us: microseconds since the epoch when the capture began (isb_starttime).
        end_us: microseconds since the epoch; the end of the counted time (isb_endtime).
        received: packets that passed the filter, dropped ones included (isb_filteraccept); None if unknown.
        dropped_interface: packets lost by the network interface (isb_ifdrop); None if unknown.
        dropped_kernel: packets lost because the ring was full (isb_osdrop); None if unknown.
        delivered: packets in the file (isb_usrdeliv).
        comment: Remark about these counters for users (opt_comment).
    """
    body = struct.pack("<I", _number("interface", interface, U32)) + _time(at_us)
    options = [
        *_text_option(1, comment),
        _option(2, _time(start_us)),
        _option(3, _time(end_us)),
        *([_option(5, _count(dropped_interface))] if dropped_interface is not None else []),
        *([_option(6, _count(received))] if received is not None else []),
        *([_option(7, _count(dropped_kernel))] if dropped_kernel is not None else []),
        _option(8, _count(delivered)),
    ]
    return _block(INTERFACE_STATISTICS, body, options)


def enhanced_packet(  # noqa: PLR0917 - the order of the block
    interface: int, us: int, original: int, data: bytes, packet_id: Optional[int] = None, drops: int = 0
) -> bytes:
    """Make the block of one packet.

    Args:
        interface: Number of the source's interface block, from 0 on.
        us: microseconds since the epoch.
        original: original length in bytes.
        data: The captured bytes.
        packet_id: The same for the same packet at several interfaces (epb_packetid); at most 2**64 - 1.
        drops: packets that were lost between the previous one of the interface and this one
            (epb_dropcount); at most 2**64 - 1.
    """
    options = b"" if packet_id is None else NUMBER_OPTION.pack(PACKET_ID, 8, packet_id)
    options += NUMBER_OPTION.pack(DROP_COUNT, 8, drops) if drops else b""
    options += END_OF_OPTIONS if options else b""
    total = PACKET_FRAME + len(data) + (-len(data) & 3) + len(options)
    start = PACKET.pack(ENHANCED_PACKET, total, interface, us >> 32, us & U32, len(data), original)
    return b"".join((start, _padded(data), options, LENGTH.pack(total)))


def name_resolution(names: Sequence[tuple[str, str]]) -> bytes:
    """Make a block with names of addresses.

    Args:
        names: IPv4 or IPv6 addresses, each with its name.  If empty, the
            result is empty.
    """
    if not names:
        return b""
    records = b"".join(_name_record(address, name) for address, name in names)
    return _block(NAME_RESOLUTION, records + END_OF_OPTIONS, [])


def corrected_interface(block: bytes, order: str, comment: str) -> bytes:
    """Rewrite an interface block for corrected times, with a comment about the correction."""
    options = b"".join(_text_option(1, comment, order=order))
    for code, value in options_of(block, 16, order):
        if code == 3:  # so that no reader corrects the times again
            value = value.replace(b"clock offset", b"corrected clock error")  # noqa: PLW2901
        options += _option(code, value, order)
    content = block[8:16] + options + END_OF_OPTIONS
    length = struct.pack(f"{order}I", len(content) + BLOCK_FRAME)
    return block[:4] + length + content + length


def _block(kind: int, body: bytes, options: Iterable[bytes]) -> bytes:
    tail = b"".join(options)
    content = body + (tail + END_OF_OPTIONS if tail else b"")
    length = len(content) + 12
    return struct.pack("<II", kind, length) + content + struct.pack("<I", length)


def _option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + _padded(value)


def _text_option(code: int, text: str, prefix: bytes = b"", order: str = "<") -> list[bytes]:
    """One option, or none for an empty text."""
    return [_option(code, prefix + _clean(text, LENGTH_MAX - len(prefix)), order)] if text else []


def _address_option(text: str) -> bytes:
    address = ipaddress.ip_interface(text)
    if isinstance(address, ipaddress.IPv4Interface):
        return _option(4, address.packed + address.netmask.packed)
    return _option(5, address.packed + bytes([address.network.prefixlen]))


def _name_record(text: str, name: str) -> bytes:
    address: Union[ipaddress.IPv4Address, ipaddress.IPv6Address] = ipaddress.ip_address(text)
    kind = RECORD_IPV4 if address.version == 4 else RECORD_IPV6
    # `_clean` also replaces NUL, which would end the name.
    cleaned = _clean(name, LENGTH_MAX - len(address.packed) - 1)
    value = address.packed + cleaned + b"\x00"
    return struct.pack("<HH", kind, len(value)) + _padded(value)


def _clean(text: str, limit: int) -> bytes:
    """Encode text in at most ``limit`` bytes of UTF-8.

    Characters that are not printable become U+FFFD, so that a name cannot control the
    terminal on which it is shown.
    """
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return printable.encode("utf-8")[:limit].decode("utf-8", "ignore").encode("utf-8")


def _padded(value: bytes) -> bytes:
    return value + bytes(-len(value) & 3)


def _time(us: int) -> bytes:
    """A timestamp as two u32, the high one first."""
    return struct.pack("<II", _number("time", us, U64) >> 32, us & U32)


def _count(value: int) -> bytes:
    return struct.pack("<Q", _number("counter", value, U64))


def _number(what: str, value: int, high: int) -> int:
    if not 0 <= value <= high:
        raise ValueError(f"{what} {value} is not within 0 and {high}")
    return value
