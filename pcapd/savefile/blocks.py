"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng): the only place that knows their layout.

``_block.h`` and ``_native.c`` are its parts that are compiled.

What we write, little endian, is the part that all readers agree on: one section, the same
snaplen in all interface blocks (libpcap stops reading where it differs),
timestamps in microseconds, no custom blocks (tshark shows them as packets).

What we read may be of anybody: both byte orders, any time resolution, packets in enhanced,
simple and obsolete blocks.  Nothing in it is believed.

Numbers out of their field's range are a `ValueError`, an address that is none
too; text is never refused but cleaned, because it may come from other machines.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Dict, Final, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from pcapd.errors import PcapdError
from pcapd.limits import BLOCK_MAX

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 1
_NAME_RESOLUTION: Final = 4
_INTERFACE_STATISTICS: Final = 5

_OBSOLETE_PACKET: Final = 2
_SIMPLE_PACKET: Final = 3
_ENHANCED_PACKET: Final = 6
_PACKETS: Final = (_OBSOLETE_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET)
#: bytes; type and length before a block, the length again after it.
BLOCK_FRAME: Final = 12
#: microseconds; times are kept so far from the ends of 64 bits that differences of two stay in range.
US_MAX: Final = 2**61 - 1
#: type, total length, interface, timestamp high and low, captured length, original length.
_PACKET: Final = struct.Struct("<7I")
_PLAIN: Final = {order: struct.Struct(f"{order}7I") for order in "<>"}
_LENGTH: Final = struct.Struct("<I")
#: bytes of a packet block around its padded data and its options.
_PACKET_FRAME: Final = _PACKET.size + _LENGTH.size
#: An option with a number of 64 bits.
_NUMBER_OPTION: Final = struct.Struct("<HHQ")
_DROP_COUNT: Final = 4
_PACKET_ID: Final = 5

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
#: What `pcapd.merge.muxer.describe` writes, in milliseconds.
_CLOCK_OFFSET: Final = re.compile(
    r"clock offset ([-+]\d{1,12}(?:\.\d{1,6})?)(?: ± (\d{1,12}(?:\.\d{1,6})?))? ms"
)


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


def enhanced_packet(  # noqa: PLR0917 - the order of the block
    interface: int, us: int, original: int, data: bytes, packet_id: Optional[int] = None, drops: int = 0
) -> bytes:
    """The block of one packet.

    Args:
        interface: Number of its interface block.
        us: microseconds since the epoch.
        original: bytes that the packet had.
        data: Those that were captured.
        packet_id: The same for the same packet at several interfaces (epb_packetid); at most 2**64 - 1.
        drops: packets that the interface lost before it (epb_dropcount); at most 2**64 - 1.
    """
    options = b"" if packet_id is None else _NUMBER_OPTION.pack(_PACKET_ID, 8, packet_id)
    options += _NUMBER_OPTION.pack(_DROP_COUNT, 8, drops) if drops else b""
    options += _END if options else b""
    total = _PACKET_FRAME + len(data) + (-len(data) & 3) + len(options)
    start = _PACKET.pack(_ENHANCED_PACKET, total, interface, us >> 32, us & _U32, len(data), original)
    return b"".join((start, _padded(data), options, _LENGTH.pack(total)))


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


# --- reading --------------------------------------------------------------------


class BadFile(PcapdError):
    """It is not what a pcapng file must be."""


class FileInterface(NamedTuple):
    """One interface block.

    Attributes:
        ticks: Of its timestamps in a second.
        offset_us: Microseconds to add to them.
        addresses: Of the interface, packed.
        snaplen: Bytes of a packet at most; 0 when there is no limit.
        clock_offset: Of the machine's clock and how much that may be wrong, in microseconds,
            where the description says them as ours does.
    """

    name: str
    link_type: int
    ticks: int = 1_000_000
    offset_us: int = 0
    addresses: Tuple[bytes, ...] = ()
    snaplen: int = 0
    clock_offset: Optional[Tuple[int, Optional[int]]] = None


class FileStatistics(NamedTuple):
    """The counters of an interface.

    Attributes:
        number: Of the interface, in its section.
        dropped: Packets that were lost by the interface and by the kernel, since the beginning.
        until_us: Microseconds since the epoch up to which it counts; 0 when the block does not say.
    """

    number: int
    dropped: int
    until_us: int = 0


class FilePacket(NamedTuple):
    """One packet.

    Attributes:
        us: Microseconds since the epoch; 0 where the block has no time.
        length: Bytes on the wire.
        data: Those that were captured.
        packet_id: epb_packetid; the same for the same packet at several interfaces.
        drops: Packets that the interface lost before it (epb_dropcount).
        number: Of the interface, in its section.
        at: Where in the block its data begins.
    """

    interface: FileInterface
    us: int
    length: int
    data: bytes
    packet_id: Optional[int] = None
    drops: int = 0
    number: int = 0
    at: int = 0


def own_blocks(data: bytes, position: int = 0) -> Iterator[Tuple[int, int, int]]:
    """The blocks of what we wrote: the type of each, where it begins, and where it ends."""
    while position < len(data):
        kind, length = struct.unpack_from("<II", data, position)
        yield kind, position, position + length
        position += length


def is_packet(kind: int) -> bool:
    """Whether a block holds a packet."""
    return kind in _PACKETS


def own_packet(block: bytes) -> Tuple[int, int]:
    """The interface and the epb_dropcount of a packet block of ours."""
    interface, _, _, captured = struct.unpack_from("<4I", block, 8)
    options = _options(block, _PACKET.size + captured + (-captured & 3), "<")
    return interface, int.from_bytes(_first(options, _DROP_COUNT), "little")


def section_order(block: bytes) -> Optional[str]:
    """``<`` or ``>`` when these bytes begin a section, else None.

    Raises:
        BadFile: It has another magic number.
    """
    if block[:4] != b"\n\r\r\n":
        return None
    for order in "<>":
        if block[8:12] == struct.pack(f"{order}I", _MAGIC):
            return order
    raise BadFile("a section begins without its magic number")


def block_length(start: bytes, order: str) -> int:
    """Bytes of the block that begins with these twelve.

    Raises:
        BadFile: There can be no such block.
    """
    length: int = struct.unpack_from(f"{order}I", start, 4)[0]
    if length < BLOCK_FRAME or length % 4 or length > BLOCK_MAX:
        raise BadFile(f"a block says that it has {length} bytes")
    return length


def whole_block(data: bytes, position: int, order: str) -> bytes:
    """The block at a position; empty when it is not all there.

    Raises:
        BadFile: There can be no such block.
    """
    if len(data) - position < BLOCK_FRAME:
        return b""
    length = block_length(data[position : position + BLOCK_FRAME], order)
    if length > len(data) - position:
        return b""
    (again,) = struct.unpack_from(f"{order}I", data, position + length - 4)
    if again != length:
        raise BadFile(f"a block says that it has {length} bytes, and then {again}")
    return data[position : position + length]


def read_interface(block: bytes, order: str, default: str) -> Optional[FileInterface]:
    """The interface that a block describes; None when it is another block.

    Args:
        default: Its name where the file gives it none.

    Raises:
        BadFile: It is too short, or lies.
    """
    if struct.unpack_from(f"{order}I", block)[0] != _INTERFACE_DESCRIPTION:
        return None
    try:
        link_type, _, snaplen = struct.unpack_from(f"{order}HHI", block, 8)
    except struct.error as error:
        raise _too_short() from error
    options = _options(block, 16, order)
    resolution = _first(options, 9) or _TSRESOL_MICROS
    base, exponent = (2, resolution[0] & 0x7F) if resolution[0] & 0x80 else (10, resolution[0])
    offset = _first(options, 14)
    seconds = struct.unpack(f"{order}q", offset)[0] if len(offset) == 8 else 0
    addresses = [value[:4] for value in options.get(4, [])] + [value[:16] for value in options.get(5, [])]
    name = _first(options, 2).decode("utf-8", "replace") or default
    clock = _clock_offset(_first(options, 3).decode("utf-8", "replace"))
    return FileInterface(
        name, link_type, base**exponent, seconds * 1_000_000, tuple(addresses), snaplen, clock
    )


def _clock_offset(description: str) -> Optional[Tuple[int, Optional[int]]]:
    found = _CLOCK_OFFSET.search(description)
    if found is None:
        return None
    offset, error = (round(float(part) * 1000) if part else None for part in found.groups())
    return offset or 0, error


def read_statistics(
    block: bytes, order: str, interfaces: Sequence[FileInterface] = ()
) -> Optional[FileStatistics]:
    """The counters that a block has; None when it is another block.

    Raises:
        BadFile: It is too short, or lies.
    """
    if struct.unpack_from(f"{order}I", block)[0] != _INTERFACE_STATISTICS:
        return None
    try:
        (number,) = struct.unpack_from(f"{order}I", block, 8)
    except struct.error as error:
        raise _too_short() from error
    options = _options(block, 20, order)
    dropped = (_number_in(options, code, order) for code in (5, 7))
    end, until = _first(options, 3), 0
    if len(end) == 8 and number < len(interfaces):
        high, low = struct.unpack(f"{order}II", end)
        until = _micros(interfaces[number], high << 32 | low)
    return FileStatistics(number, sum(count or 0 for count in dropped), until)


def read_packet(block: bytes, order: str, interfaces: Sequence[FileInterface]) -> Optional[FilePacket]:
    """The packet that a whole block holds; None when it is another block.

    Args:
        interfaces: Of its section.

    Raises:
        BadFile: It is too short, or lies.
    """
    (kind,) = struct.unpack_from(f"{order}I", block)
    try:
        if kind == _ENHANCED_PACKET:
            return _enhanced(block, order, interfaces)
        if kind == _SIMPLE_PACKET:
            return _simple(block, order, interfaces)
        if kind == _OBSOLETE_PACKET:
            return _obsolete(block, order, interfaces)
    except struct.error as error:
        raise _too_short() from error
    return None


def plain_packet(data: bytes, position: int, order: str) -> Optional[Tuple[int, int, int, int, int]]:
    """The usual block, an enhanced one without options, faster; None when it is another, or lies.

    Returns:
        Interface, time as it stands there, bytes on the wire, captured bytes (which begin
        at byte 28), and where the block ends.
    """
    if len(data) - position < _PACKET_FRAME:
        return None
    kind, length, interface, high, low, captured, original = _PLAIN[order].unpack_from(data, position)
    end = position + length
    if kind != _ENHANCED_PACKET or length != _PACKET_FRAME + (captured + 3 & ~3) or length > BLOCK_MAX:
        return None
    if end > len(data) or data[end - 4 : end] != data[position + 4 : position + 8] or high >> 29:
        return None
    return interface, high << 32 | low, original, captured, end


def _enhanced(block: bytes, order: str, interfaces: Sequence[FileInterface]) -> FilePacket:
    number, high, low, captured, length = struct.unpack_from(f"{order}5I", block, 8)
    interface = _interface_of(number, interfaces)
    data = _data(block, captured)
    packet_id, drops = None, 0
    if len(block) - _PACKET_FRAME - captured - (-captured & 3) >= 4:
        options = _options(block, _PACKET.size + captured + (-captured & 3), order)
        packet_id, drops = (
            _number_in(options, _PACKET_ID, order),
            _number_in(options, _DROP_COUNT, order) or 0,
        )
    us = _micros(interface, high << 32 | low)
    return FilePacket(interface, us, length, data, packet_id, drops, number, _PACKET.size)


def _obsolete(block: bytes, order: str, interfaces: Sequence[FileInterface]) -> FilePacket:
    number, drops, high, low, captured, length = struct.unpack_from(f"{order}HH4I", block, 8)
    interface = _interface_of(number, interfaces)
    known = 0 if drops == _U16 else drops
    us = _micros(interface, high << 32 | low)
    return FilePacket(interface, us, length, _data(block, captured), None, known, number, _PACKET.size)


def _simple(block: bytes, order: str, interfaces: Sequence[FileInterface]) -> FilePacket:
    """It is of the first interface, and cut at that one's snaplen."""
    (length,) = struct.unpack_from(f"{order}I", block, 8)
    interface = _interface_of(0, interfaces)
    room = len(block) - BLOCK_FRAME - 4
    if room < 0:
        raise _too_short()
    captured = min(length, room, interface.snaplen or room)
    return FilePacket(interface, 0, length, block[12 : 12 + captured], None, 0, 0, 12)


def _interface_of(number: int, interfaces: Sequence[FileInterface]) -> FileInterface:
    if number >= len(interfaces):
        raise BadFile(f"a packet is of interface {number}, and there are {len(interfaces)}")
    return interfaces[number]


def _data(block: bytes, captured: int) -> bytes:
    if captured > len(block) - _PACKET_FRAME:
        raise BadFile(f"a packet says that it has {captured} bytes")
    return block[_PACKET.size : _PACKET.size + captured]


def _micros(interface: FileInterface, time: int) -> int:
    us = time if interface.ticks == 1_000_000 else time * 1_000_000 // max(1, interface.ticks)
    return max(-US_MAX, min(US_MAX, us + interface.offset_us))


def _options(block: bytes, position: int, order: str) -> Dict[int, List[bytes]]:
    """By code."""
    found: Dict[int, List[bytes]] = {}
    end = len(block) - 4
    while position + 4 <= end:
        code, size = struct.unpack_from(f"{order}2H", block, position)
        position += 4
        if code == 0:
            break
        if position + size > end:
            raise BadFile("an option is longer than its block")
        found.setdefault(code, []).append(block[position : position + size])
        position += size + (-size & 3)
    return found


def _first(options: Dict[int, List[bytes]], code: int) -> bytes:
    return options.get(code, [b""])[0]


def _number_in(options: Dict[int, List[bytes]], code: int, order: str) -> Optional[int]:
    value = _first(options, code)
    return struct.unpack(f"{order}Q", value)[0] if len(value) == 8 else None


def _too_short() -> BadFile:
    return BadFile("a block is too short for what it holds")
