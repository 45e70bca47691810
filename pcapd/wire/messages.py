"""Messages: what the control frames say, as values.

Each message is a frozen dataclass that checks itself; `pcapd.wire.codec` translates
to and from the JSON payload.  `pcapd.wire.requests` has START.
docs/wire-protocol.rst lists every field; times are integers in microseconds since
the epoch, counters count packets unless their name says bytes.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Optional, Tuple, Union

from pcapd.limits import ADDRESSES_MAX, EFFECTIVE_FILTER_MAX, SNAPLEN_MAX
from pcapd.wire.requests import CaptureStart, Request, check_name

__all__ = [
    "Counters",
    "End",
    "EndReason",
    "Error",
    "Hello",
    "Limits",
    "Message",
    "Notice",
    "NoticeType",
    "Ping",
    "Pong",
    "Source",
    "Stats",
    "Stop",
]


class NoticeType(str, Enum):
    """What a NOTICE is about; the names of pcap-release's MessageType."""

    UNKNOWN = "UNKNOWN"
    INSTANCE_UNAVAILABLE = "INSTANCE_UNAVAILABLE"
    START_CAPTURE_FAILED = "START_CAPTURE_FAILED"
    INVALID_REQUEST = "INVALID_REQUEST"
    CONGESTED = "CONGESTED"
    LIMIT_REACHED = "LIMIT_REACHED"
    CAPTURE_STOPPED = "CAPTURE_STOPPED"
    CONNECTION_ERROR = "CONNECTION_ERROR"


class EndReason(str, Enum):
    """Why a capture is over."""

    STOPPED = "stopped"  #: the caller sent STOP
    DURATION = "duration"  #: its time was up
    BYTES = "bytes"  #: its bytes were up
    COUNT = "count"  #: its packets were up
    SOURCES_GONE = "sources_gone"  #: nothing is left to capture from
    DRAINING = "draining"  #: the daemon is shutting down
    UNRECORDED = "unrecorded"  #: the api can write no audit records any more
    FAILED = "failed"  #: something broke; the message says what


@dataclass(frozen=True)
class Limits:
    """When an api ends a capture, whatever its client asks for.

    Attributes:
        duration: Seconds from the first source on.
        max_bytes: Bytes of packets, with their headers as in a file.
    """

    duration: float
    max_bytes: int

    def __post_init__(self) -> None:
        if not 0 < self.duration < float("inf") or self.max_bytes <= 0:
            raise ValueError("limits must be more than 0")


@dataclass(frozen=True)
class Hello:
    """First message of each side.

    Attributes:
        level: Compatibility level; a caller refuses a callee with less than its own.
        role: ``agent``, ``api`` or ``client``.
        time_us: The sender's clock.
        limits: Those of an api; one of an older version does not say them.
    """

    level: int
    role: str
    id: str
    version: str
    time_us: int
    libpcap: Optional[str] = None
    limits: Optional[Limits] = None


@dataclass(frozen=True)
class Source:
    """A source is open: one interface of one instance.  Its id is in the frame header.

    Attributes:
        link_type: LINKTYPE number, as in files.
        filter: The effective BPF filter, exclusions included.
        addresses: The interface's addresses with their prefix lengths.
        agent: The agent's id; the api fills it in, and its address and clock offset.
        clock_offset_us: The agent's clock minus the api's.
        clock_error_us: How much that may be wrong: half of the round trip.
        awaited: Instances of the request that have neither opened a source nor failed
            until now; the api fills it in.  None: it is not known.
        headers_only: The agent obeys START's ``headers_only``; one that does not know it
            says nothing.
        exclude_filters: How many of START's it obeys, likewise.
        excludes_api: The agent leaves out what START's ``api`` names, likewise.
    """

    instance: str
    interface: str
    link_type: int
    snaplen: int
    filter: str
    addresses: Tuple[str, ...] = ()
    agent: str = ""
    agent_address: str = ""
    clock_offset_us: Optional[int] = None
    clock_error_us: Optional[int] = None
    awaited: Optional[int] = None
    headers_only: bool = False
    exclude_filters: int = 0
    excludes_api: bool = False

    def __post_init__(self) -> None:
        check_name(self.instance)
        check_name(self.interface)
        if not 0 <= self.link_type < 65536:
            raise ValueError(f"{self.link_type} is no link type")
        if not 0 < self.snaplen <= SNAPLEN_MAX:
            raise ValueError(f"snaplen {self.snaplen} is out of range")
        # So that it still fits a frame when the api has added to it.
        if len(self.filter) > EFFECTIVE_FILTER_MAX or len(self.addresses) > ADDRESSES_MAX:
            raise ValueError("more filter or addresses than fit")
        for address in self.addresses:
            ipaddress.ip_interface(address)


@dataclass(frozen=True)
class Stats:
    """Counters of one source since its start, at least every `limits.STATS_INTERVAL`.

    Attributes:
        received: What the kernel's filter let through, dropped packets included.
        dropped_kernel: Of these, lost because the ring was full.
        dropped_interface: Lost by the interface before the filter.
        delivered: Sent to the caller.
        captured_up_to_us: The watermark: no packet with a smaller timestamp will follow.
        final: The source is closed; nothing follows from it.
        exact: The counters tell all of it.  False: its agent is gone, and they are the last it sent.
        dropped_agent: Of those received, neither dropped by the kernel nor sent, and never to
            be sent: known with the final counters.
        forwarded: Packets of the source that came to the api until now; the api fills it in.
        at_us: The agent's clock when it read the counters.
        excluded: Packets of pcapd's own connections that were recognised while the capture
            ran, and left out since then; not part of ``received``.
    """

    received: int
    dropped_kernel: int
    dropped_interface: int
    delivered: int
    captured_up_to_us: int
    final: bool = False
    exact: bool = True
    dropped_agent: int = 0
    forwarded: Optional[int] = None
    at_us: Optional[int] = None
    excluded: int = 0

    def __post_init__(self) -> None:
        _check_counters(
            self.received,
            self.dropped_kernel,
            self.dropped_interface,
            self.delivered,
            self.captured_up_to_us,
            self.dropped_agent,
            self.forwarded or 0,
            self.at_us or 0,
            self.excluded,
        )

    def counters(self, source: int) -> Counters:
        """The same counters for END.

        Args:
            source: The source's id.
        """
        return Counters(
            source=source,
            received=self.received,
            dropped_kernel=self.dropped_kernel,
            dropped_interface=self.dropped_interface,
            delivered=self.delivered,
            dropped_agent=self.dropped_agent,
            forwarded=self.forwarded,
            excluded=self.excluded,
        )

    def seen(self, packets: int) -> Stats:
        """Counters that are not smaller than what came from the source, whatever it said last.

        Args:
            packets: So many came.
        """
        delivered = max(self.delivered, self.forwarded or 0, packets)
        received = max(self.received, delivered + self.dropped_kernel + self.dropped_agent)
        return replace(self, received=received, delivered=delivered)


@dataclass(frozen=True)
class Notice:
    """Something that the user should know; the capture goes on.

    Attributes:
        origin: Who says it: an instance, an agent or the api.
        awaited: As in `Source`.
    """

    type: NoticeType
    message: str
    origin: str
    awaited: Optional[int] = None


@dataclass(frozen=True)
class Stop:
    """Stop, drain, then END."""


@dataclass(frozen=True)
class Counters:
    """The final counters of one source, in END."""

    source: int
    received: int
    dropped_kernel: int
    dropped_interface: int
    delivered: int
    dropped_agent: int = 0
    forwarded: Optional[int] = None
    excluded: int = 0

    def __post_init__(self) -> None:
        _check_counters(
            self.source,
            self.received,
            self.dropped_kernel,
            self.dropped_interface,
            self.delivered,
            self.dropped_agent,
            self.forwarded or 0,
            self.excluded,
        )


@dataclass(frozen=True)
class End:
    """The capture is over; nothing follows."""

    reason: EndReason
    message: str = ""
    sources: Tuple[Counters, ...] = ()


@dataclass(frozen=True)
class Error:
    """The request failed; nothing follows.  `code` is from `pcapd.errors`."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Ping:
    """Are you there?"""

    sent_us: int


@dataclass(frozen=True)
class Pong:
    """Yes; with the times that give the clock offset (RFC 5905, section 8)."""

    sent_us: int
    answered_us: int


Message = Union[Hello, CaptureStart, Request, Source, Stats, Notice, Stop, End, Error, Ping, Pong]


def _check_counters(*counts: int) -> None:
    for count in counts:
        if count < 0:
            raise ValueError(f"counter {count} is out of range")
