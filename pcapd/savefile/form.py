"""The formats of the files that pcapd writes."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Form"]


class Form(IntEnum):
    """The format of packets in a file."""

    #: Classic pcap: the records of `pcapd.records`, unchanged.
    PCAP = 0
    #: pcapng: enhanced packet blocks.
    PCAPNG = 1
