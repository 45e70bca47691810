"""Reads and writes capture files: pcapng and the classic pcap format.

========  ====================================================================
blocks    pcapng: reads and writes its blocks
pcap      the header of a file in the classic format
classic   reads files in the classic format, or in any of the two
stream    turns a stream in the classic format into batches as it arrives
form      names of the two formats
cut       finds the last whole block of a part of a file
reader    reads pcapng files of any program
own       reads blocks that pcapd wrote, many at a time
shift     copies a file with corrected times
========  ====================================================================

The functions that write return the bytes of whole blocks.  A program that only appends
their results to a file leaves a readable file even if it is killed.
"""

from __future__ import annotations
