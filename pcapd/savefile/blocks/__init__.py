"""The layout of the blocks of a pcapng file (draft-ietf-opsawg-pcapng).

=======  =====================================================================
layout   constants for reading and writing
writing  makes the blocks that pcapd writes
reading  reads blocks of any program
=======  =====================================================================

``_block.h`` and ``_native.c`` of `pcapd.savefile` are their compiled parts.

pcapd writes only what all readers understand, in little endian: one section, the same snaplen
in all interface blocks (libpcap stops reading if it differs), timestamps in microseconds,
and no custom blocks (tshark shows them as packets).

It reads files of any program: both byte orders, any time resolution, and packets in enhanced,
simple and obsolete blocks.  Every length and number in them is checked before it is used.

The functions that write raise `ValueError` for a number that is too large for its field, and
for an invalid address.  Text may come from other machines: unusual characters are replaced.
"""

from __future__ import annotations

from pcapd.savefile.blocks.layout import BLOCK_FRAME, DEDUPED, US_MAX
from pcapd.savefile.blocks.reading import (
    BadFile,
    FileInterface,
    FilePacket,
    FileStatistics,
    block_length,
    is_packet,
    own_blocks,
    own_packet,
    own_time,
    own_times,
    plain_packet,
    read_interface,
    read_packet,
    read_statistics,
    section_order,
    whole_block,
)
from pcapd.savefile.blocks.writing import (
    enhanced_packet,
    interface_description,
    interface_statistics,
    name_resolution,
    section_header,
)

__all__ = [
    "BLOCK_FRAME",
    "DEDUPED",
    "US_MAX",
    "BadFile",
    "FileInterface",
    "FilePacket",
    "FileStatistics",
    "block_length",
    "enhanced_packet",
    "interface_description",
    "interface_statistics",
    "is_packet",
    "name_resolution",
    "own_blocks",
    "own_packet",
    "own_time",
    "own_times",
    "plain_packet",
    "read_interface",
    "read_packet",
    "read_statistics",
    "section_header",
    "section_order",
    "whole_block",
]
