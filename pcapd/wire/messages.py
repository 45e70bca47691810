"""The messages in control frames, as values.

Each message is a frozen dataclass that checks its values when it is made.  `pcapd.wire.codec`
converts messages to and from JSON.  START is in `pcapd.wire.requests`.
docs/wire-protocol.rst lists every field.  Times are integers in microseconds since the epoch;
counters are numbers of packets unless their names contain "bytes".
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
    """The subject of a NOTICE; the names are those of pcap-release's MessageType."""

    UNKNOWN = "UNKNOWN"
    INSTANCE_UNAVAILABLE = "INSTANCE_UNAVAILABLE"
    START_CAPTURE_FAILED = "START_CAPTURE_FAILED"
    INVALID_REQUEST = "INVALID_REQUEST"
    CONGESTED = "CONGESTED"
    LIMIT_REACHED = "LIMIT_REACHED"
    CAPTURE_STOPPED = "CAPTURE_STOPPED"
    CONNECTION_ERROR = "CONNECTION_ERROR"
    RECORDED = "RECORDED"  #: not of pcap-release: the capture is recorded besides

    @property
    def incomplete(self) -> bool:
        """Whether the notice reports that a part of the requested capture is missing."""
        return self in _INCOMPLETE


_INCOMPLETE = (NoticeType.INSTANCE_UNAVAILABLE, NoticeType.START_CAPTURE_FAILED, NoticeType.CONNECTION_ERROR)


class EndReason(str, Enum):
    """Why a capture ended."""

    STOPPED = "stopped"  #: the caller sent STOP
    DURATION = "duration"  #: the capture's limit of time is reached
    BYTES = "bytes"  #: the capture's limit of bytes is reached
    COUNT = "count"  #: the capture's limit of packets is reached
    SOURCES_GONE = "sources_gone"  #: no source is left
    DRAINING = "draining"  #: the daemon is shutting down
    UNRECORDED = "unrecorded"  #: the api can no longer write audit records
    FORBIDDEN = "forbidden"  #: the user may not capture this any longer
    FAILED = "failed"  #: the message contains the reason


@dataclass(frozen=True)
class Limits:
    """The limits at which an api ends a capture, even if its client requests more.

    Attributes:
        duration: Seconds after the first source opened.
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
        time_us: The sender's time.
        limits: The api's limits; None from agents, clients and older apis.
        capabilities: What an agent can capture now: ``interfaces``, ``namespaces``,
            ``containers``; empty from others and from older agents.
    """

    level: int
    role: str
    id: str
    version: str
    time_us: int
    libpcap: Optional[str] = None
    limits: Optional[Limits] = None
    capabilities: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Reports that a source is open: one interface of one instance.  Its id is in the frame header.

    Attributes:
        link_type: LINKTYPE number, as in files.
        filter: The effective BPF filter, including exclusions.
        addresses: The interface's addresses with their prefix lengths.
        agent: The agent's id.  The api adds it, and `agent_address`, `clock_offset_us` and
            `clock_error_us`.
        clock_offset_us: The agent's clock minus the api's clock; None if unknown.
        clock_error_us: The largest error of the offset: half of the round-trip time.
        awaited: Number of instances of the request that have neither opened a source nor
            failed so far, added by the api; None if unknown.
        headers_only: Whether the agent applies START's ``headers_only``.  Older agents do not
            send this field or the two below.
        exclude_filters: The number of START's ``exclude_filters`` that the agent applies.
        excludes_api: Whether the agent excludes the connections in START's ``api``.
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
        # The message must still fit in a frame after the api has added its fields.
        if len(self.filter) > EFFECTIVE_FILTER_MAX or len(self.addresses) > ADDRESSES_MAX:
            raise ValueError("the filter or the list of addresses is too long")
        for address in self.addresses:
            ipaddress.ip_interface(address)


@dataclass(frozen=True)
class Stats:
    """Counters of one source since its start, sent at least every `limits.STATS_INTERVAL` seconds.

    Attributes:
        received: Packets that the kernel's filter accepted, including dropped ones.
        dropped_kernel: How many of these were dropped because the ring was full.
        dropped_interface: Packets that the interface lost before the filter.
        delivered: Packets that the agent has sent.
        captured_up_to_us: The watermark: no packet with a smaller timestamp will follow.
        final: Whether the source is closed and sends nothing more.
        exact: Whether the counters are complete.  If false, the connection to the agent was lost,
            and these are the last counters that were received.
        dropped_agent: Received packets that the kernel did not drop, but that will not be sent;
            0 until the final counters.
        forwarded: Packets of the source that the api has received so far; the api adds this field.
        at_us: The agent's time when it read the counters.
        excluded: Packets of pcapd's own connections that were detected and excluded while the
            capture ran; not included in ``received``.
        counted: Whether the program that captures counts what it drops.  If not,
            `dropped_kernel` and `dropped_interface` are 0, but unknown.  Agents always count.
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
    counted: bool = True

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
        """Raise the counters to at least the number of packets received from the source.

        Args:
            packets: The number of packets that this program has received from the source.
        """
        delivered = max(self.delivered, self.forwarded or 0, packets)
        received = max(self.received, delivered + self.dropped_kernel + self.dropped_agent)
        return replace(self, received=received, delivered=delivered)


@dataclass(frozen=True)
class Notice:
    """Information for the user; the capture continues.

    Attributes:
        origin: Name of the sender: an instance, an agent or the api.
        awaited: As in `Source`.
        recording: The id of the recording that the api makes besides, with ``RECORDED``.
    """

    type: NoticeType
    message: str
    origin: str
    awaited: Optional[int] = None
    recording: Optional[str] = None


@dataclass(frozen=True)
class Stop:
    """Requests that the callee stop capturing, send the remaining packets and then END."""


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
    """Reports that the capture has ended; the last message."""

    reason: EndReason
    message: str = ""
    sources: Tuple[Counters, ...] = ()


@dataclass(frozen=True)
class Error:
    """Reports that the request failed; the last message.  `code` is from `pcapd.errors`."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Ping:
    """Requests a PONG from the peer."""

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
