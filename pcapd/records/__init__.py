"""Batches of captured packets as bytes: the hot path.

A *record* is one packet as in a pcap savefile, always little endian::

    u32 seconds | u32 microseconds | u32 captured length | u32 original length | captured bytes

A *batch* is records back to back, the payload of one PACKETS frame.  These
functions work on whole batches, so that the cost per packet is a copy and not a
Python object:

=========  ===================================================================
pack()     makes batches from a result of pcapy-ng (agent)
check()    checks a batch from a peer (api, pcapctl)
rows()     makes a row for each packet, see `pcapd.packet.row`
busiest()  finds the busiest TCP connections in a result of pcapy-ng (agent)
shift()    changes the times of records to another clock
split()    cuts a batch in two
=========  ===================================================================

There are two implementations with the same results and the same errors: a
readable one in Python (`_reference`) and one in C (`_native`), which is used
if it could be compiled and ``PCAPD_PURE`` is not set in the environment.
Both take any C-contiguous bytes-like object.  Numbers out of range and invalid
results of the capture library raise `ValueError`; an invalid batch of a peer
raises `pcapd.errors.RecordError`.
"""

from __future__ import annotations

import os
from typing import Final

from pcapd.packet.headers import LINKS
from pcapd.records._split import split
from pcapd.records._types import CAPTURED_MAX, HEADER_SIZE, MICROS, SHIFT_MAX, Busy, Checked

try:
    if os.environ.get("PCAPD_PURE"):
        raise ImportError("PCAPD_PURE asks for the reference")
    from pcapd.records._native import busiest, check, keep_memory, pack, rows, shift

    _name = "native"
except ImportError:
    from pcapd.records._busiest import busiest
    from pcapd.records._reference import check, keep_memory, pack, rows, shift

    _name = "reference"

#: Link types whose headers are known, so that packets can be cut after them.
HEADER_LINK_TYPES: Final = frozenset(LINKS)

#: Which implementation runs: "native" or "reference".
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
    "busiest",
    "check",
    "keep_memory",
    "pack",
    "rows",
    "shift",
    "split",
]
