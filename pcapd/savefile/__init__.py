"""Capture files: what is in them besides the packets, and how they are read.

========  ====================================================================
blocks    pcapng: the only place that knows the layout of its blocks
pcap      the classic format
classic   reads that, and any file
form      which of the two
cut       where the last whole block of a part of a file ends
reader    reads files, whoever wrote them
shift     writes a file again with corrected times
========  ====================================================================

Plain functions return the bytes of whole blocks.  A writer that only ever appends what
one of these returned leaves a readable file whenever it is killed.
"""

from __future__ import annotations
