"""Merges many sources into one file, in time order, and accounts for every packet.

===========  =================================================================
reorder      holds batches back until they are in order, within bounds
account      accounts for each packet of a source
clocks       compares the clocks of two places, from packets that both saw
matching     numbers packets, so that a packet seen at several places is recognised
description  a source as text, for files and reports
muxer        makes the blocks of a file from a capture's events
split        makes the blocks of several files, one for each instance
===========  =================================================================

`merge` sorts and renders records, and can number packets.  Like
`pcapd.records` it has an implementation in C (``_native.c``) and one in Python
(`_reference`) with the same results and the same errors.
"""

from __future__ import annotations

from pcapd.merge._choice import REMEMBERED, Matcher, merge
from pcapd.merge._types import Gap, Merged, Source

__all__ = ["REMEMBERED", "Gap", "Matcher", "Merged", "Source", "merge"]
