"""Read pcapng, block by block; nothing in a file is believed.

Both byte orders, any time resolution, several sections, as the specification
(draft-ietf-opsawg-pcapng) has them.  Blocks that we have no use for are passed over.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Dict, Final, Iterator, List, NamedTuple, Optional, Tuple

from pcapd.errors import PcapdError
from pcapd.limits import BLOCK_MAX, FILE_INTERFACES_MAX

__all__ = ["BadFile", "FileInterface", "FilePacket", "Reader", "read_file"]

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 1
_ENHANCED_PACKET: Final = 6
_MAGIC: Final = 0x1A2B3C4D
#: bytes; type and length before a block, the length again after it.
_FRAME: Final = 12
_OPTION_NAME, _OPTION_RESOLUTION, _OPTION_OFFSET = 2, 9, 14
#: Address and mask, address and length of its prefix.
_OPTION_IPV4, _OPTION_IPV6 = 4, 5
_OPTION_PACKET_ID: Final = 5


class BadFile(PcapdError):
    """It is not what a pcapng file must be."""


class FileInterface(NamedTuple):
    """One interface block.

    Attributes:
        ticks: Of its timestamps in a second.
        offset: Seconds to add to them.
        addresses: Of the interface, packed.
    """

    name: str
    link_type: int
    ticks: int = 1_000_000
    offset: int = 0
    addresses: Tuple[bytes, ...] = ()


class FilePacket(NamedTuple):
    """One packet.

    Attributes:
        us: Microseconds since the epoch.
        length: Bytes on the wire.
        data: Those that were captured.
        packet_id: epb_packetid; the same for the same packet at several interfaces.
    """

    interface: FileInterface
    us: int
    length: int
    data: bytes
    packet_id: Optional[int]


class Reader:
    """Takes blocks, gives packets; knows the interfaces so far."""

    def __init__(self) -> None:
        self._order = "<"
        self.interfaces: List[FileInterface] = []

    def packets(self, data: bytes) -> Iterator[FilePacket]:
        """The packets of whole blocks.

        Raises:
            BadFile: They are none.
        """
        position = 0
        while position < len(data):
            if len(data) - position < _FRAME:
                raise BadFile("the file ends within a block")
            length = self._length(data, position)
            end = position + length
            if end > len(data):
                raise BadFile("the file ends within a block")
            packet = self.block(data[position:end])
            if packet is not None:
                yield packet
            position = end

    def block(self, block: bytes) -> Optional[FilePacket]:
        """One whole block; its packet, if it is one.

        Raises:
            BadFile: It lies.
        """
        length = self._length(block, 0)
        kind, again = self._unpack("I", block, 0)[0], self._unpack("I", block, length - 4)[0]
        if again != length:
            raise BadFile(f"a block says that it has {length} bytes, and then {again}")
        try:
            if kind == _INTERFACE_DESCRIPTION:
                self._interface(block)
            elif kind == _ENHANCED_PACKET:
                return self._packet(block)
            elif kind == _SECTION_HEADER:
                self.interfaces = []
        except struct.error as error:
            raise BadFile("a block is too short for what it holds") from error
        return None

    def length(self, start: bytes) -> int:
        """Bytes of the block that begins with these twelve.

        Raises:
            BadFile: There can be no such block.
        """
        return self._length(start, 0)

    def _length(self, data: bytes, position: int) -> int:
        if data[position : position + 4] == b"\n\r\r\n":
            magic = data[position + 8 : position + 12]
            if magic not in (struct.pack("<I", _MAGIC), struct.pack(">I", _MAGIC)):
                raise BadFile("a section begins without its magic number")
            self._order = "<" if magic == struct.pack("<I", _MAGIC) else ">"
        length: int = self._unpack("I", data, position + 4)[0]
        if length < _FRAME or length % 4 or length > BLOCK_MAX:
            raise BadFile(f"a block says that it has {length} bytes")
        return length

    def _unpack(self, layout: str, data: bytes, position: int) -> Tuple[int, ...]:
        return struct.unpack_from(self._order + layout, data, position)

    def _interface(self, block: bytes) -> None:
        if len(self.interfaces) >= FILE_INTERFACES_MAX:
            raise BadFile(f"there are more than {FILE_INTERFACES_MAX} interfaces")
        (link_type,) = self._unpack("H", block, 8)
        options = self._options(block, 16)
        name = _first(options, _OPTION_NAME).decode("utf-8", "replace") or f"{len(self.interfaces)}"
        resolution = _first(options, _OPTION_RESOLUTION) or b"\x06"
        base, exponent = (2, resolution[0] & 0x7F) if resolution[0] & 0x80 else (10, resolution[0])
        offset = _first(options, _OPTION_OFFSET)
        seconds = self._unpack("q", offset, 0)[0] if len(offset) == 8 else 0
        addresses = [value[:4] for value in options.get(_OPTION_IPV4, [])]
        addresses += [value[:16] for value in options.get(_OPTION_IPV6, [])]
        self.interfaces.append(FileInterface(name, link_type, base**exponent, seconds, tuple(addresses)))

    def _packet(self, block: bytes) -> FilePacket:
        number, high, low, captured, length = self._unpack("5I", block, 8)
        if number >= len(self.interfaces):
            raise BadFile(f"a packet is of interface {number}, and there are {len(self.interfaces)}")
        if captured > len(block) - 28 - 4:
            raise BadFile(f"a packet says that it has {captured} bytes")
        interface = self.interfaces[number]
        time = high << 32 | low
        us = time if interface.ticks == 1_000_000 else time * 1_000_000 // interface.ticks
        end = 28 + captured
        packet_id = None
        if len(block) - 4 - end - (-captured & 3) >= 4:
            value = _first(self._options(block, end + (-captured & 3)), _OPTION_PACKET_ID)
            packet_id = self._unpack("Q", value, 0)[0] if len(value) == 8 else None
        return FilePacket(interface, us + interface.offset * 1_000_000, length, block[28:end], packet_id)

    def _options(self, block: bytes, position: int) -> Dict[int, List[bytes]]:
        """By code."""
        found: Dict[int, List[bytes]] = {}
        end = len(block) - 4
        while position + 4 <= end:
            code, size = self._unpack("2H", block, position)
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


def read_file(file: BinaryIO) -> Iterator[FilePacket]:
    """The packets of a file; a last block that is cut short is passed over, as all readers do.

    Raises:
        BadFile: It is no pcapng file, or a broken one.
    """
    reader = Reader()
    start = file.read(_FRAME)
    if start[:4] != b"\n\r\r\n":
        raise BadFile("this is no pcapng file", "classic pcap does not say where a packet is from")
    while len(start) == _FRAME:
        length = reader.length(start)
        rest = file.read(length - _FRAME)
        if len(rest) < length - _FRAME:
            return
        packet = reader.block(start + rest)
        if packet is not None:
            yield packet
        start = file.read(_FRAME)
