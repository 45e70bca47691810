"""Capture files: how they are read, and their blocks besides the packets.

========  ====================================================================
blocks    pcapng: the only place that knows the layout of its blocks
pcap      the classic format
classic   reads the classic format, and any file
form      which of the two formats
cut       where the last whole block of a part of a file ends
reader    reads pcapng files of any program
shift     copies a file with corrected times
========  ====================================================================

Plain functions return the bytes of whole blocks.  A writer that only appends their
results leaves a readable file whenever it is killed.
"""

from __future__ import annotations
