"""The messages in control frames, as values.

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
    """The subject of a NOTICE; the names of pcap-release's MessageType."""

    UNKNOWN = "UNKNOWN"
    INSTANCE_UNAVAILABLE = "INSTANCE_UNAVAILABLE"
    START_CAPTURE_FAILED = "START_CAPTURE_FAILED"
    INVALID_REQUEST = "INVALID_REQUEST"
    CONGESTED = "CONGESTED"
    LIMIT_REACHED = "LIMIT_REACHED"
    CAPTURE_STOPPED = "CAPTURE_STOPPED"
    CONNECTION_ERROR = "CONNECTION_ERROR"

    @property
    def incomplete(self) -> bool:
        """Whether the capture lacks something that was requested."""
        return self in _INCOMPLETE


_INCOMPLETE = (NoticeType.INSTANCE_UNAVAILABLE, NoticeType.START_CAPTURE_FAILED, NoticeType.CONNECTION_ERROR)


class EndReason(str, Enum):
    """Why a capture ended."""

    STOPPED = "stopped"  #: the caller sent STOP
    DURATION = "duration"  #: its duration is over
    BYTES = "bytes"  #: its limit of bytes is reached
    COUNT = "count"  #: its limit of packets is reached
    SOURCES_GONE = "sources_gone"  #: no source is left
    DRAINING = "draining"  #: the daemon is shutting down
    UNRECORDED = "unrecorded"  #: the api can no longer write audit records
    FAILED = "failed"  #: for the reason in the message


@dataclass(frozen=True)
class Limits:
    """The limits at which an api ends a capture, whatever its client requests.

    Attributes:
        duration: Seconds from the first source on.
        max_bytes: Bytes of packets, including their record headers.
    """

    duration: float
    max_bytes: int

    def __post_init__(self) -> None:
        if not 0 < self.duration < float("inf") or self.max_bytes <= 0:
            raise ValueError("limits must be more than 0")


@dataclass(frozen=True)
class Hello:
    """The first message of each side.

    Attributes:
        level: Compatibility level; a caller refuses a callee with a lower level than its own.
        role: ``agent``, ``api`` or ``client``.
        time_us: The sender's clock.
        limits: Sent by an api, except by older versions.
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
        agent: The agent's id; the api adds it, and its address and clock offset.
        clock_offset_us: The agent's clock minus the api's.
        clock_error_us: The largest error of the offset: half of the round trip.
        awaited: Instances of the request that have neither opened a source nor failed
            so far; the api adds it.  None if unknown.
        headers_only: The agent applies START's ``headers_only``; an older agent does not
            send this.
        exclude_filters: The number of START's filters that it applies, likewise.
        excludes_api: The agent excludes the connections in START's ``api``, likewise.
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
            raise ValueError(f"{self.link_type} is not a link type")
        if not 0 < self.snaplen <= SNAPLEN_MAX:
            raise ValueError(f"snaplen {self.snaplen} is out of range")
        # So that it still fits a frame after the api has added its fields.
        if len(self.filter) > EFFECTIVE_FILTER_MAX or len(self.addresses) > ADDRESSES_MAX:
            raise ValueError("the filter or the list of addresses is too long")
        for address in self.addresses:
            ipaddress.ip_interface(address)


@dataclass(frozen=True)
class Stats:
    """Counters of one source since its start, at least every `limits.STATS_INTERVAL`.

    Attributes:
        received: Packets that the kernel's filter accepted, including dropped ones.
        dropped_kernel: Of these, lost because the ring was full.
        dropped_interface: Lost by the interface before the filter.
        delivered: Sent to the caller.
        captured_up_to_us: The watermark: no packet with a smaller timestamp will follow.
        final: The source is closed; nothing follows from it.
        exact: The counters are complete.  False: the agent is gone, and they are its last ones.
        dropped_agent: Received packets that the kernel did not drop and that will never be sent;
            known with the final counters.
        forwarded: Packets of the source that the api has received so far; the api adds it.
        at_us: The agent's clock when it read the counters.
        excluded: Packets of pcapd's own connections that were detected while the capture
            ran, and excluded since then; not part of ``received``.
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
        """Raise the counters to at least the packets that came from the source.

        Args:
            packets: The number of packets that came.
        """
        delivered = max(self.delivered, self.forwarded or 0, packets)
        received = max(self.received, delivered + self.dropped_kernel + self.dropped_agent)
        return replace(self, received=received, delivered=delivered)


@dataclass(frozen=True)
class Notice:
    """Information for the user; the capture continues.

    Attributes:
        origin: Its sender: an instance, an agent or the api.
        awaited: As in `Source`.
    """

    type: NoticeType
    message: str
    origin: str
    awaited: Optional[int] = None


@dataclass(frozen=True)
class Stop:
    """Asks the callee to stop, drain, and send END."""


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
    """Asks the peer for a PONG."""

    sent_us: int


@dataclass(frozen=True)
class Pong:
    """Answers a PING, with the times for the clock offset (RFC 5905, section 8)."""

    sent_us: int
    answered_us: int


Message = Union[Hello, CaptureStart, Request, Source, Stats, Notice, Stop, End, Error, Ping, Pong]


def _check_counters(*counts: int) -> None:
    for count in counts:
        if count < 0:
            raise ValueError(f"counter {count} is out of range")
