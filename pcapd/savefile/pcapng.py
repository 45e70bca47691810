"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng), little endian.

What we write is the part that all readers agree on: one section, the same
snaplen in all interface blocks (libpcap stops reading where it differs),
timestamps in microseconds, no custom blocks (tshark shows them as packets).

Numbers out of their field's range are a `ValueError`, an address that is none
too; text is never refused but cleaned, because it may come from other machines.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final, Iterable, Sequence, Union

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 1
_NAME_RESOLUTION: Final = 4
_INTERFACE_STATISTICS: Final = 5

_MAGIC: Final = 0x1A2B3C4D
_VERSION: Final = (1, 0)
_LENGTH_UNKNOWN: Final = -1
#: Powers of ten, negated: microseconds.  The default, yet said for readers of the file.
_TSRESOL_MICROS: Final = b"\x06"
#: First byte of if_filter: the rest is the expression as text, not BPF code.
_FILTER_IS_TEXT: Final = b"\x00"

_RECORD_IPV4: Final = 1
_RECORD_IPV6: Final = 2

#: bytes; the length fields of options and name records have 16 bits.
_LENGTH_MAX: Final = 0xFFFF
_U16: Final = 0xFFFF
_U32: Final = 0xFFFF_FFFF
_U64: Final = 0xFFFF_FFFF_FFFF_FFFF

_END: Final = b"\x00\x00\x00\x00"


def section_header(application: str, comment: str = "") -> bytes:
    """The block that begins the file.

    Args:
        application: Name and version of the program that writes (shb_userappl).
        comment: For people (opt_comment); left out when empty.
    """
    body = struct.pack("<IHHq", _MAGIC, *_VERSION, _LENGTH_UNKNOWN)
    return _block(_SECTION_HEADER, body, [*_text_option(1, comment), *_text_option(4, application)])


def interface_description(  # noqa: PLR0917 - the order of the block
    name: str,
    link_type: int,
    snaplen: int,
    description: str = "",
    filter_text: str = "",
    addresses: Sequence[str] = (),
) -> bytes:
    """The block of one source; the first one is interface 0, and so on.

    Args:
        name: As shown with every packet, for example ``myapp/0:eth0`` (if_name).
        link_type: LINKTYPE, not DLT.
        snaplen: bytes; must be the same for all interfaces of a file.
        description: Where the packets come from, for people (if_description).
        filter_text: The BPF expression in force (if_filter).
        addresses: ``192.0.2.7/24`` or ``2001:db8::7/64`` (if_IPv4addr, if_IPv6addr).
    """
    body = struct.pack("<HHI", _number("link type", link_type, _U16), 0, _number("snaplen", snaplen, _U32))
    options = [
        *_text_option(2, name),
        *_text_option(3, description),
        *(_address_option(address) for address in addresses),
        _option(9, _TSRESOL_MICROS),
        *_text_option(11, filter_text, prefix=_FILTER_IS_TEXT),
    ]
    return _block(_INTERFACE_DESCRIPTION, body, options)


def interface_statistics(  # noqa: PLR0917 - the order of the block
    interface: int,
    at_us: int,
    start_us: int,
    end_us: int,
    received: int,
    dropped_interface: int,
    dropped_kernel: int,
    delivered: int,
    comment: str = "",
) -> bytes:
    """A block of one source's counters, all since its start; may repeat.

    isb_ifrecv, what the interface received before the filter, is left out: nobody counts it.

    Args:
        interface: Number of its interface block.
        at_us: microseconds since the epoch when the counters were read.
        start_us: microseconds since the epoch when the capture began (isb_starttime).
        end_us: microseconds since the epoch up to which it counts (isb_endtime).
        received: packets that passed the filter, dropped ones included (isb_filteraccept).
        dropped_interface: packets lost by the network interface (isb_ifdrop).
        dropped_kernel: packets lost for want of room in the ring (isb_osdrop).
        delivered: packets in the file (isb_usrdeliv).
        comment: What a reader should know about these counters (opt_comment).
    """
    body = struct.pack("<I", _number("interface", interface, _U32)) + _time(at_us)
    options = [
        *_text_option(1, comment),
        _option(2, _time(start_us)),
        _option(3, _time(end_us)),
        _option(5, _count(dropped_interface)),
        _option(6, _count(received)),
        _option(7, _count(dropped_kernel)),
        _option(8, _count(delivered)),
    ]
    return _block(_INTERFACE_STATISTICS, body, options)


def name_resolution(names: Sequence[tuple[str, str]]) -> bytes:
    """A block that tells readers the names of addresses.

    Args:
        names: IPv4 or IPv6 address, and its name.  Nothing at all is written
            when there is none.
    """
    if not names:
        return b""
    records = b"".join(_name_record(address, name) for address, name in names)
    return _block(_NAME_RESOLUTION, records + _END, [])


def _block(kind: int, body: bytes, options: Iterable[bytes]) -> bytes:
    tail = b"".join(options)
    content = body + (tail + _END if tail else b"")
    length = len(content) + 12
    return struct.pack("<II", kind, length) + content + struct.pack("<I", length)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _text_option(code: int, text: str, prefix: bytes = b"") -> list[bytes]:
    """One option, or none for an empty text."""
    return [_option(code, prefix + _clean(text, _LENGTH_MAX - len(prefix)))] if text else []


def _address_option(text: str) -> bytes:
    address = ipaddress.ip_interface(text)
    if isinstance(address, ipaddress.IPv4Interface):
        return _option(4, address.packed + address.netmask.packed)
    return _option(5, address.packed + bytes([address.network.prefixlen]))


def _name_record(text: str, name: str) -> bytes:
    address: Union[ipaddress.IPv4Address, ipaddress.IPv6Address] = ipaddress.ip_address(text)
    kind = _RECORD_IPV4 if address.version == 4 else _RECORD_IPV6
    # _clean leaves no NUL that would end the name early.
    cleaned = _clean(name, _LENGTH_MAX - len(address.packed) - 1)
    value = address.packed + cleaned + b"\x00"
    return struct.pack("<HH", kind, len(value)) + _padded(value)


def _clean(text: str, limit: int) -> bytes:
    """UTF-8 of at most ``limit`` bytes.

    Control characters, and whatever else is not printable, become U+FFFD: a
    name must not be able to drive the terminal of whoever lists the file.
    """
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return printable.encode("utf-8")[:limit].decode("utf-8", "ignore").encode("utf-8")


def _padded(value: bytes) -> bytes:
    return value + bytes(-len(value) & 3)


def _time(us: int) -> bytes:
    """A timestamp as two u32, the high one first."""
    return struct.pack("<II", _number("time", us, _U64) >> 32, us & _U32)


def _count(value: int) -> bytes:
    return struct.pack("<Q", _number("counter", value, _U64))


def _number(what: str, value: int, high: int) -> int:
    if not 0 <= value <= high:
        raise ValueError(f"{what} {value} is not within 0 and {high}")
    return value
