"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng): the only place that knows their layout.

=======  =====================================================================
layout   the numbers that both of the others use
writing  the blocks that we write
reading  blocks that we or others wrote
=======  =====================================================================

``_block.h`` and ``_native.c`` of `pcapd.savefile` are their parts that are compiled.

What we write, little endian, is the part that all readers agree on: one section, the same
snaplen in all interface blocks (libpcap stops reading where it differs),
timestamps in microseconds, no custom blocks (tshark shows them as packets).

What we read may be of anybody: both byte orders, any time resolution, packets in enhanced,
simple and obsolete blocks.  Nothing in it is believed.

Numbers out of their field's range are a `ValueError`, an address that is none
too; text is never refused but cleaned, because it may come from other machines.
"""

from __future__ import annotations

from pcapd.savefile.blocks.layout import BLOCK_FRAME, US_MAX
from pcapd.savefile.blocks.reading import (
    BadFile,
    FileInterface,
    FilePacket,
    FileStatistics,
    block_length,
    is_packet,
    own_blocks,
    own_packet,
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
    "plain_packet",
    "read_interface",
    "read_packet",
    "read_statistics",
    "section_header",
    "section_order",
    "whole_block",
]
