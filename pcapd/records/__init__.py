"""Fast functions on batches of captured packets, which are bytes.

A *record* is one packet in the form of a pcap savefile, always little endian::

    u32 seconds | u32 microseconds | u32 captured length | u32 original length | captured bytes

A *batch* is a sequence of records without gaps: the payload of one PACKETS frame.
These functions work on whole batches, so that for each packet only its bytes are
copied, and no Python object is made:

===============  =============================================================
pack()           makes batches from a result of pcapy-ng (agent)
from_savefile()  makes batches from a pcap savefile, for example of tcpdump
check()          checks a batch from a peer (api, pcapctl)
rows()           makes a row for each packet, see `pcapd.packet.row`
busiest()        finds TCP connections with many packets or bytes (agent)
shift()          changes the times of records to another clock
split()          cuts a batch in two
===============  =============================================================

There are two implementations with the same results and the same errors: a
readable one in Python (`_reference`) and one in C (`_native`).  The latter is used if
it could be compiled and ``PCAPD_PURE`` is not set in the environment.
Both take any C-contiguous bytes-like object.  Numbers out of range and invalid
results of the capture library raise `ValueError`; an invalid batch from a peer
raises `pcapd.errors.RecordError`.
"""

from __future__ import annotations

import os
from typing import Final

from pcapd.packet.headers import LINKS
from pcapd.records._split import split
from pcapd.records._types import CAPTURED_MAX, HEADER_SIZE, MICROS, SHIFT_MAX, Busy, Checked, Converted

try:
    if os.environ.get("PCAPD_PURE"):
        raise ImportError("PCAPD_PURE asks for the reference")
    from pcapd.records._native import busiest, check, from_savefile, keep_memory, pack, rows, shift

    _name = "native"
except ImportError:
    from pcapd.records._busiest import busiest
    from pcapd.records._reference import check, keep_memory, pack, rows, shift
    from pcapd.records._savefile import from_savefile

    _name = "reference"

#: Link types for which packets can be cut after their headers.
HEADER_LINK_TYPES: Final = frozenset(LINKS)

#: The implementation that is used: "native" or "reference".
IMPLEMENTATION: Final[str] = _name

__all__ = [
    "CAPTURED_MAX",
    "HEADER_LINK_TYPES",
    "HEADER_SIZE",
    "IMPLEMENTATION",
    "MICROS",
    "SHIFT_MAX",
    "Busy",
    "Checked",
    "Converted",
    "busiest",
    "check",
    "from_savefile",
    "keep_memory",
    "pack",
    "rows",
    "shift",
    "split",
]
