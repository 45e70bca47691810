"""The frame of a capture file: headers, interfaces, counters, names.

Plain functions that return the bytes of whole blocks; the packets between them
come from `pcapd.records`.  A writer that only ever appends what one of these
returned leaves a readable file whenever it is killed.

`pcapng`
    What we write by default: one section, one interface block per source,
    counters and names.
`pcap`
    The classic header, for one link type only.
`linktypes`
    Numbers and names of link types.
"""

from __future__ import annotations

from pcapd.savefile import linktypes, pcap, pcapng

__all__ = ["linktypes", "pcap", "pcapng"]
