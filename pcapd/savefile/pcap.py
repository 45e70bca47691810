"""The header of a file in the classic pcap format (draft-ietf-opsawg-pcap).

The records follow it.  We write little endian and microseconds, in which the records of
`pcapd.records` follow unchanged.  A file has one link type, and cannot contain names or counters.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, Optional, Union

from pcapd.savefile.blocks import BadFile

__all__ = ["FILE_HEADER_SIZE", "FileHeader", "file_header", "is_pcap"]

#: bytes; size of the header of a file.
FILE_HEADER_SIZE: Final = 24
#: First bytes of a file → byte order, and whether its times have nanoseconds.
_MAGICS: Final = {
    b"\xd4\xc3\xb2\xa1": ("<", False), b"\xa1\xb2\xc3\xd4": (">", False),
    b"\x4d\x3c\xb2\xa1": ("<", True), b"\xa1\xb2\x3c\x4d": (">", True),
}  # fmt: skip
_MAGIC: Final = 0xA1B2C3D4  # microseconds
_PCAPNG: Final = b"\n\r\r\n"
_VERSION: Final = (2, 4)
#: magic, major, minor, two unused, snaplen, link type.
_HEADER: Final = struct.Struct("<IHHIIII")
#: The bits of the link type in its field; the others are flags, and the length of the FCS.
_LINK_TYPE_MASK: Final = 0xFFFF


class FileHeader(NamedTuple):
    """The header of a file in the classic format.

    Attributes:
        big_endian: The byte order of all headers in the file.
        nanoseconds: The unit of the fraction of a second: nanoseconds instead of microseconds.
        snaplen: bytes; what the writer kept of a packet at most; 0 means no limit.
        link_type: LINKTYPE of all packets.
    """

    big_endian: bool
    nanoseconds: bool
    snaplen: int
    link_type: int

    @classmethod
    def parse(cls, data: Union[bytes, bytearray]) -> Optional[FileHeader]:
        """Read the header at the beginning of a file; None if it is incomplete (draft-ietf-opsawg-pcap).

        Raises:
            BadFile: This is not a pcap file, or of another version than 2.4.
        """
        magic = bytes(data[:4])
        form = _MAGICS.get(magic)
        if len(magic) < 4:
            return None
        if form is None:
            raise _not_pcap(magic)
        if len(data) < FILE_HEADER_SIZE:
            return None
        order, nanoseconds = form
        major, minor, snaplen, field = struct.unpack_from(f"{order}4xHH8xII", data)
        if (major, minor) != _VERSION:
            raise BadFile(f"version {major}.{minor} of pcap is not supported", "only 2.4 is in use")
        return cls(order == ">", nanoseconds, snaplen, field & _LINK_TYPE_MASK)


def _not_pcap(magic: bytes) -> BadFile:
    if magic == _PCAPNG:
        return BadFile("this is pcapng, and not a classic pcap stream", "dumpcap writes the latter with -P")
    return BadFile(f"this is not a classic pcap stream: it begins with {magic!r}")


def is_pcap(start: bytes) -> bool:
    """Whether the first four bytes of a file are those of the classic format."""
    return start in _MAGICS


def file_header(link_type: int, snaplen: int) -> bytes:
    """The header that begins a file of ours.

    Args:
        link_type: LINKTYPE (not DLT) of all packets, 0 to 65535; higher bits are flags.
        snaplen: bytes; the largest captured length of a record.
    """
    if not 0 <= link_type <= 0xFFFF:
        raise ValueError(f"link type {link_type} does not fit its 16 bits")
    if not 0 <= snaplen <= 0xFFFF_FFFF:
        raise ValueError(f"snaplen {snaplen} does not fit its 32 bits")
    return _HEADER.pack(_MAGIC, *_VERSION, 0, 0, snaplen, link_type)
