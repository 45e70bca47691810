"""The tables of the index of recordings, and their rows as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Integer, Table, Text
from sqlalchemy import Index as IndexOf

from pcapd.api.state.tables import META

__all__ = ["CLIPS", "RECORDINGS", "SEGMENTS", "Clip", "Recording"]


@dataclass(frozen=True)
class Recording:
    """One recording.  Times are microseconds since the epoch, sizes bytes.

    Attributes:
        identity: The owner, unique across all resolvers.
        user: The owner's name, for people.
        origin: The owner's identity provider, if known.
        request: START's request as JSON values.
        targets: The targets as JSON values, to dial their agents again.
        state: ``starting``, ``recording``, ``stopped`` or ``failed``.
        since_us: When it was requested.
        first_us: The earliest packet that is kept; None without one.
        bytes: Size of all segments that are kept.
        packets: Packets in them.
        dropped: Packets that were lost since the start.
        message: Why it ended.
        keep: Seconds of the ring; None to keep all.
        keep_bytes: Bytes of the ring; None to keep all.
        epoch: Number of the present epoch, from 1 on.
        clip_on: What makes a clip: ``"crash"``, ``{"filter": TEXT}``, or None.
        before: Seconds before the event in a clip that nobody asked for by command; ``after``: after it.
        explain: Whether clips are explained.
        deleted_packets: Packets in segments that were deleted.
        hook: SHA-256 of the key of the hook for alert managers, in hexadecimal; None without one.
        ended_us: When it ended; None while it runs.
        standing: Why its owner may capture an app (`pcapd.api.resolvers.base.Standing`) as JSON values;
            None for other targets.
    """

    id: str
    identity: str
    user: str
    origin: str
    request: Mapping[str, Any]
    targets: Sequence[Mapping[str, Any]]
    state: str
    since_us: int
    first_us: int | None = None
    last_us: int | None = None
    bytes: int = 0
    packets: int = 0
    dropped: int = 0
    message: str = ""
    keep: int | None = None
    keep_bytes: int | None = None
    clip_on: Any = None
    before: int = 120
    after: int = 30
    epoch: int = 1
    deleted_packets: int = 0
    deleted_bytes: int = 0
    hook: str | None = None
    explain: bool = False
    ended_us: int | None = None
    standing: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Clip:
    """One clip: the part of a recording around an event, which is kept for good.

    Attributes:
        number: Its number in the recording, from 1 on.
        reason: Why it was made.
        first_us: Its beginning; last_us: its end; microseconds since the epoch.  While it is open,
            what is wanted; then what it contains.
        bytes: Size of its object; 0 until it is stored.
        state: ``open`` (its object is not stored yet), ``done`` or ``failed``.
        findings: What ``--explain`` found in it, as JSON values; None if it was not explained.
    """

    recording: str
    number: int
    reason: str
    first_us: int
    last_us: int
    bytes: int = 0
    state: str = "open"
    findings: Any = None


RECORDINGS = Table(
    "recordings",
    META,
    Column("id", Text, primary_key=True),
    Column("identity", Text, nullable=False, index=True),
    Column("user", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("request", JSON, nullable=False),
    Column("targets", JSON, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("since_us", BigInteger, nullable=False),
    Column("first_us", BigInteger),
    Column("last_us", BigInteger),
    Column("bytes", BigInteger, nullable=False),
    Column("packets", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("message", Text, nullable=False),
    Column("keep", BigInteger),
    Column("keep_bytes", BigInteger),
    Column("clip_on", JSON),
    Column("before", BigInteger, nullable=False),
    Column("after", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("deleted_packets", BigInteger, nullable=False),
    Column("deleted_bytes", BigInteger, nullable=False),
    Column("hook", Text),
    Column("explain", Boolean, nullable=False),
    Column("ended_us", BigInteger),
    Column("standing", JSON),
)
SEGMENTS = Table(
    "segments",
    META,
    Column("recording", Text, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("first_us", BigInteger, nullable=False),
    Column("last_us", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("header_bytes", Integer, nullable=False),
    Column("packets", BigInteger, nullable=False),
    IndexOf("segments_by_time", "recording", "last_us"),
)
CLIPS = Table(
    "clips",
    META,
    Column("recording", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("first_us", BigInteger, nullable=False),
    Column("last_us", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("findings", JSON),
)
