"""The formats of the files that we write."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Form"]


class Form(IntEnum):
    """The format of packets in a file."""

    #: Savefile records, as they are.
    PCAP = 0
    #: Enhanced packet blocks.
    PCAPNG = 1
