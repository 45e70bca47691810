"""The classic pcap format (draft-ietf-opsawg-pcap): little endian, microseconds.

The records of `pcapd.records` follow the header unchanged.  A file has one link type, and
cannot contain names or counters.
"""

from __future__ import annotations

import struct
from typing import Final

_MAGIC: Final = 0xA1B2C3D4  # microseconds
_VERSION: Final = (2, 4)
#: magic, major, minor, two unused, snaplen, link type.
_HEADER: Final = struct.Struct("<IHHIIII")


def file_header(link_type: int, snaplen: int) -> bytes:
    """The header that begins a file.

    Args:
        link_type: LINKTYPE (not DLT) of all packets, 0 to 65535; higher bits are flags.
        snaplen: bytes; the largest captured length of a record.
    """
    if not 0 <= link_type <= 0xFFFF:
        raise ValueError(f"link type {link_type} does not fit its 16 bits")
    if not 0 <= snaplen <= 0xFFFF_FFFF:
        raise ValueError(f"snaplen {snaplen} does not fit its 32 bits")
    return _HEADER.pack(_MAGIC, *_VERSION, 0, 0, snaplen, link_type)
