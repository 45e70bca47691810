"""Many sources become one file, in time order, with an account of every packet.

========  ====================================================================
reorder   holds batches back until their time has come, within bounds
account   what became of each packet of a source
clocks    how far the clocks of two places are apart, from packets that both saw
matching  numbers packets, so that the same one seen at several places is recognised
muxer     a capture's events → the blocks of its file
split     the same with a file for each instance
========  ====================================================================

`merge` sorts and renders, and numbers packets where it is asked to.  Like
`pcapd.records` it has an implementation in C (``_native.c``) and one in Python
(`_reference`) with the same results and the same errors.
"""

from __future__ import annotations

from pcapd.merge._choice import REMEMBERED, Matcher, merge
from pcapd.merge._types import Gap, Merged, Source

__all__ = ["REMEMBERED", "Gap", "Matcher", "Merged", "Source", "merge"]
