"""Constants of pcapng's blocks."""

from __future__ import annotations

import struct
from typing import Final

SECTION_HEADER: Final = 0x0A0D0D0A
INTERFACE_DESCRIPTION: Final = 1
NAME_RESOLUTION: Final = 4
INTERFACE_STATISTICS: Final = 5

OBSOLETE_PACKET: Final = 2
SIMPLE_PACKET: Final = 3
ENHANCED_PACKET: Final = 6
PACKETS: Final = (OBSOLETE_PACKET, SIMPLE_PACKET, ENHANCED_PACKET)
#: bytes; type and length before a block, the length again after it.
BLOCK_FRAME: Final = 12
#: microseconds; the largest time, so that the difference of two fits in 64 bits.
US_MAX: Final = 2**61 - 1
#: type, total length, interface, timestamp high and low, captured length, original length.
PACKET: Final = struct.Struct("<7I")
PLAIN: Final = {order: struct.Struct(f"{order}7I") for order in "<>"}
LENGTH: Final = struct.Struct("<I")
#: bytes of a packet block around its padded data and its options.
PACKET_FRAME: Final = PACKET.size + LENGTH.size
#: An option whose value is a number of 64 bits: code, length, value.
NUMBER_OPTION: Final = struct.Struct("<HHQ")
DROP_COUNT: Final = 4
PACKET_ID: Final = 5

MAGIC: Final = 0x1A2B3C4D
VERSION: Final = (1, 0)
LENGTH_UNKNOWN: Final = -1
#: if_tsresol for microseconds (10 to the power of -6).  This is the default, but written anyway.
TSRESOL_MICROS: Final = b"\x06"
#: First byte of if_filter: the rest is the expression as text, not BPF code.
FILTER_IS_TEXT: Final = b"\x00"

RECORD_IPV4: Final = 1
RECORD_IPV6: Final = 2

#: bytes; the length fields of options and name records have 16 bits.
LENGTH_MAX: Final = 0xFFFF
U16: Final = 0xFFFF
U32: Final = 0xFFFF_FFFF
U64: Final = 0xFFFF_FFFF_FFFF_FFFF

END_OF_OPTIONS: Final = b"\x00\x00\x00\x00"
#: Last words of an interface's description if the file contains each packet only once.
DEDUPED: Final = "duplicates left out"
