"""All kinds of findings, in the order of docs/findings.rst."""

from __future__ import annotations

from typing import Final, Sequence, Type

from pcapd.analysis.findings.base import Kind
from pcapd.analysis.findings.clocks import ClocksApart
from pcapd.analysis.findings.dns_failed import DnsFailed
from pcapd.analysis.findings.dns_slow import DnsSlow
from pcapd.analysis.findings.dns_unanswered import DnsUnanswered
from pcapd.analysis.findings.handshake import SlowHandshake
from pcapd.analysis.findings.http_errors import HttpErrors
from pcapd.analysis.findings.http_slow import HttpSlow
from pcapd.analysis.findings.http_unanswered import HttpUnanswered
from pcapd.analysis.findings.idle import IdleCut
from pcapd.analysis.findings.incomplete import CaptureIncomplete
from pcapd.analysis.findings.keepalive import KeepaliveRace
from pcapd.analysis.findings.lost import LostBetween
from pcapd.analysis.findings.mtu import MtuBlackHole
from pcapd.analysis.findings.refused import Refused
from pcapd.analysis.findings.reset import ResetInUse
from pcapd.analysis.findings.retransmissions import Retransmissions
from pcapd.analysis.findings.stalled import ReceiverStalled
from pcapd.analysis.findings.tls import TlsFailed
from pcapd.analysis.findings.unanswered import Unanswered
from pcapd.analysis.findings.unreachable import Unreachable

__all__ = ["KINDS"]

KINDS: Final[Sequence[Type[Kind]]] = (
    Refused,
    Unanswered,
    Unreachable,
    SlowHandshake,
    LostBetween,
    Retransmissions,
    ReceiverStalled,
    ResetInUse,
    KeepaliveRace,
    IdleCut,
    MtuBlackHole,
    DnsFailed,
    DnsUnanswered,
    DnsSlow,
    TlsFailed,
    HttpErrors,
    HttpSlow,
    HttpUnanswered,
    CaptureIncomplete,
    ClocksApart,
)
