"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng): the only place that knows their layout.

=======  =====================================================================
layout   constants that both of the others use
writing  the blocks that we write
reading  blocks of any program
=======  =====================================================================

``_block.h`` and ``_native.c`` of `pcapd.savefile` are their compiled parts.

We write only what all readers understand, in little endian: one section, the same snaplen
in all interface blocks (libpcap stops reading if it differs), timestamps in microseconds,
and no custom blocks (tshark shows them as packets).

We read files of any program: both byte orders, any time resolution, and packets in enhanced,
simple and obsolete blocks.  Every length and number in them is checked before it is used.

A writer raises `ValueError` for a number that its field cannot hold and for a bad address.
Text may come from other machines; it is cleaned, never refused.
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
    "plain_packet",
    "read_interface",
    "read_packet",
    "read_statistics",
    "section_header",
    "section_order",
    "whole_block",
]
