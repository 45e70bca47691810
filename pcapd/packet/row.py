"""Rows: the fields of a packet, in a fixed number of bytes.

A compiled function converts a whole batch, or a whole part of a file, into *rows* without
gaps.  Other compiled functions work on rows, so that the analysis of a capture does not run
Python for each packet.  ``_row.h`` has the same layout.
"""

from __future__ import annotations

import struct
from enum import IntFlag
from typing import TYPE_CHECKING, Final, Iterator, NamedTuple, Optional

from pcapd.packet.flow import FlowKey, ports_of
from pcapd.packet.headers import TCP, Fragment, walk
from pcapd.packet.identity import digest, unchanging

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["FLOWS", "ROW_SIZE", "SIGHTINGS", "Has", "Row", "flow_of", "make_row", "number_row", "rows_of"]

_LAYOUT: Final = struct.Struct("=qIIIIBBBBHH16s16sIIHHIQQIHH")
#: Size of a row in bytes.
ROW_SIZE: Final = _LAYOUT.size
#: Structs that unpack only some fields of a row.  `SIGHTINGS`: us, interface, has, digest.
#: `FLOWS`: us, interface, has, flow, number.
SIGHTINGS: Final = struct.Struct("=q8xI5xB54xQ16x")
FLOWS: Final = struct.Struct("=q8xI5xB38s24xQ8x")
_FLOW: Final = struct.Struct("=BBHH16s16s")
_HAS_AT: Final = struct.calcsize("=qIIIIB")
_NUMBER_FIELD: Final = struct.Struct("=Q")
_NUMBER_AT: Final = struct.calcsize("=qIIIIBBBBHH16s16sIIHHIQ")
_TCP_FIELDS: Final = struct.Struct("!IIxBH")  # from byte 4 of its header on
_U32_MAX: Final = 0xFFFF_FFFF
_NO_PORTS: Final = (0, 0)
_LATER: Final = Fragment.LATER


class Has(IntFlag):
    """Which fields of a row are valid."""

    #: It is an IP packet: family, protocol, addresses and digest are valid.
    IP = 1
    PORTS = 2
    #: The fixed part of a TCP header was captured: flags, seq, ack and window are valid.
    TCP = 4
    #: payload_at and payload are valid.
    PAYLOAD = 8
    #: number is valid.
    NUMBER = 16
    #: It is the first fragment of several.
    FIRST_FRAGMENT = 32
    #: It is a later fragment, without the header of layer 4.
    LATER_FRAGMENT = 64


_PORTS, _TCP, _PAYLOAD, _NUMBER = int(Has.PORTS), int(Has.TCP), int(Has.PAYLOAD), int(Has.NUMBER)
_IP_AND_FRAGMENT: Final = {
    Fragment.WHOLE: int(Has.IP),
    Fragment.FIRST: int(Has.IP | Has.FIRST_FRAGMENT),
    Fragment.LATER: int(Has.IP | Has.LATER_FRAGMENT),
}


class Row(NamedTuple):
    """One packet.  Fields that the packet does not have are 0.

    Attributes:
        us: Microseconds since the epoch.
        captured: Captured length in bytes.
        original: Original length in bytes.
        interface: The number of the packet's interface.
        at: The offset of the packet's first byte in the data from which the rows were made.
        flags: TCP's flags.
        has: Which other fields are valid, see `Has`.
        family: 4 or 6.
        protocol: IP's protocol number.
        source_port, destination_port: Ports of layer 4.
        source, destination: Addresses; those of IPv4 in the first four bytes.
        seq, ack, window: TCP's fields; the window is not scaled.
        payload_at: The offset of layer 4's payload from the packet's first byte.
        payload: Length of the payload in bytes, captured or not.
        digest: `pcapd.packet.identity.digest` of the bytes that routers do not change.
        number: The packet's number, if the file contains one (epb_packetid).
        drops: Number of packets lost between the previous one of the interface and this one,
            according to the file (epb_dropcount); at most 2**32 - 1.
        kind: EtherType of the network layer.
        transport_at: The offset of the layer-4 header from the packet's first byte.
    """

    us: int
    captured: int
    original: int
    interface: int
    at: int
    flags: int
    has: int
    family: int
    protocol: int
    source_port: int
    destination_port: int
    source: bytes
    destination: bytes
    seq: int
    ack: int
    window: int
    payload_at: int
    payload: int
    digest: int
    number: int
    drops: int
    kind: int
    transport_at: int


def make_row(  # noqa: PLR0917 - what differs from packet to packet, fast
    link_type: int,
    data: bytes,
    us: int,
    original: int,
    interface: int,
    at: int,
    number: Optional[int] = None,
    drops: int = 0,
) -> bytes:
    """Make the row of one packet.

    Args:
        link_type: LINKTYPE of the packet.
        data: The captured bytes of the packet.
        us, original, interface, at, number, drops: See `Row`; number is None if there is none.
    """
    headers = walk(link_type, data)
    kind, network, family, protocol, transport, payload_at, fragment, _, stop = headers
    has = 0 if number is None else _NUMBER
    if not family:
        return _LAYOUT.pack(
            us, len(data), original, interface, at, 0, has, 0, 0, 0, 0, b"", b"", 0, 0, 0, 0, 0, 0,
            number or 0, min(drops, _U32_MAX), kind, 0,
        )  # fmt: skip
    has |= _IP_AND_FRAGMENT[fragment]
    if family == 4:
        source, destination = data[network + 12 : network + 16], data[network + 16 : network + 20]
    else:
        source, destination = data[network + 8 : network + 24], data[network + 24 : network + 40]
    ports = ports_of(data, headers)
    if ports is not None:
        has |= _PORTS
    payload = seq = ack = flags = window = 0
    if payload_at >= 0:
        has |= _PAYLOAD
        payload = max(0, (stop or original) - payload_at)
        if protocol == TCP and fragment is not _LATER:
            has |= _TCP
            seq, ack, flags, window = _TCP_FIELDS.unpack_from(data, transport + 4)
    return _LAYOUT.pack(
        us, len(data), original, interface, at, flags, has, family, protocol, *(ports or _NO_PORTS),
        source, destination, seq, ack, window, max(0, payload_at), payload,
        digest(unchanging(data, headers) or b""), number or 0, min(drops, _U32_MAX), kind, max(0, transport),
    )  # fmt: skip


def flow_of(fields: bytes, has: int) -> FlowKey:
    """The flow of a row.

    Args:
        fields: The value "flow" that `FLOWS` unpacked.
        has: The value "has" of the same row.
    """
    family, protocol, source_port, destination_port, source, destination = _FLOW.unpack(fields)
    size = 4 if family == 4 else 16
    ports = (source_port, destination_port) if has & _PORTS else None
    return FlowKey(source[:size], destination[:size], protocol, ports)


def number_row(rows: bytearray, index: int, number: int) -> None:
    """Set the number of a row's packet.

    Args:
        rows: Whole rows.
        index: The row's index, from 0 on.
        number: The number; at most 2**64 - 1.
    """
    begin = index * ROW_SIZE
    rows[begin + _HAS_AT] |= _NUMBER
    _NUMBER_FIELD.pack_into(rows, begin + _NUMBER_AT, number)


def rows_of(rows: Buffer) -> Iterator[Row]:
    """Unpack rows, for callers that have time for each packet."""
    return map(Row._make, _LAYOUT.iter_unpack(rows))
