"""Reads one capture source on the reactor.

A source's descriptor becomes readable when the kernel has filled a block of the ring buffer
or its timer has expired.  Each time, `Reading` reads a few batches, packs them in C and
delivers them; no Python code runs per packet.  While delivery is paused, the descriptor is not
watched and packets stay in the kernel's ring.  When the ring is full, the kernel drops
packets and counts them.  The agent has no queue besides the ring.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pcapd.capture.source import CaptureSource
from pcapd.errors import CaptureFailed
from pcapd.limits import BATCH_PACKETS, BATCHES_PER_WAKEUP, FRAME_TYPICAL, RING_DISORDER_US, RING_LAG
from pcapd.net.clock import now_us
from pcapd.net.reactor import SocketReactor
from pcapd.records import pack
from pcapd.wire import Stats

__all__ = ["Reading", "log_losses"]

_META = struct.Struct("=IIII")
_RING_LAG_US = int(RING_LAG * 1_000_000)


#: The type of `pcapd.agent.feedback.Feedback.saw`.
Inspect = Callable[[bytes, bytes, int, int, int], int]


@implementer(IReadDescriptor)
class Reading:
    """Reads a source and delivers records.

    Args:
        reactor: Watches the source's descriptor.
        number: The source's id in this session.
        source: The source to read.
        deliver: Called with `number` and payloads of PACKETS frames; may call `pause`.
        gone: Called when the source cannot be read any more, with the error.
        headers_only: Whether to cut packets after their headers.
        inspect: Called with each batch (`pcapd.agent.feedback.Feedback.saw`).
    """

    def __init__(
        self,
        reactor: SocketReactor,
        number: int,
        source: CaptureSource,
        deliver: Callable[[int, list[bytes]], None],
        gone: Callable[[Reading, CaptureFailed], None],
        *,
        headers_only: bool = False,
        inspect: Inspect,
    ) -> None:
        self._reactor = reactor
        self.number = number
        self.source = source
        self._deliver = deliver
        self._gone = gone
        self._inspect = inspect
        self._looked_us = 0
        self._headers_of = source.link_type if headers_only else -1
        self._paused = False
        self._closed = False
        self._delivered = 0
        self._last_us = 0
        self._watermark = 0
        self._drops_reported = 0
        #: The counters that the session has reported last.
        self.reported = Stats(0, 0, 0, 0, 0)

    # --- IReadDescriptor ---------------------------------------------------

    def fileno(self) -> int:
        """The descriptor of the packet socket."""
        return self.source.fileno()

    def logPrefix(self) -> str:
        """The name in Twisted's log."""
        return f"capture on {self.source.interface.name}"

    def doRead(self) -> None:
        """Read packets from the ring, within bounds."""
        try:
            for _ in range(BATCHES_PER_WAKEUP):
                if self._paused or self._closed or not self._read_batch():
                    return
        except CaptureFailed as error:
            self._lost(error)

    def _lost(self, error: CaptureFailed) -> None:
        if not self._closed:
            self._reactor.removeReader(self)
            self._gone(self, error)

    def connectionLost(self, reason: Failure) -> None:
        """Handle an error of the descriptor: read the remaining packets, until reading raises the error."""
        self._reactor.callLater(0, self._after_error)

    def _after_error(self) -> None:
        self.doRead()
        if not self._paused and not self._closed:
            self._reactor.addReader(self)

    def _read_batch(self) -> bool:
        """Deliver one batch; return False if the ring is empty now."""
        packets, meta = self.source.read(BATCH_PACKETS)
        if not meta:
            return False
        count = len(meta) // _META.size
        seconds, microseconds, _, _ = _META.unpack_from(meta, len(meta) - _META.size)
        last_us = seconds * 1_000_000 + microseconds
        self._looked_us = self._inspect(packets, meta, self.source.link_type, self._looked_us, last_us)
        self._delivered += count
        self._last_us = last_us
        self._deliver(self.number, pack(packets, meta, self.source.snaplen, FRAME_TYPICAL, self._headers_of))
        return count == BATCH_PACKETS  # a smaller batch means that the ring is empty

    # --- control -----------------------------------------------------------

    def start(self) -> None:
        """Start to capture and to read."""
        try:
            self.source.start()
        except CaptureFailed as error:
            # Report the error later: the other sources must start before one of them ends.
            self._reactor.callLater(0, self._lost, error)
        self._reactor.addReader(self)

    def pause(self) -> None:
        """Stop reading; packets stay in the ring."""
        self._paused = True
        self._reactor.removeReader(self)

    def resume(self) -> None:
        """Continue reading."""
        self._paused = False
        if not self._closed:
            self._reactor.addReader(self)

    def look(self) -> bool:
        """Read as many packets as `doRead` does; return False if reading is paused."""
        self.doRead()
        return not self._paused

    def drained(self) -> bool:
        """Read until the ring is empty; return False if reading is paused before that."""
        try:
            while not self._paused and not self._closed:
                if not self._read_batch():
                    return True
        except CaptureFailed:
            return True
        return self._closed

    def end(self) -> None:
        """Stop reading.  The source stays open; the session closes it."""
        self._closed = True
        self._reactor.removeReader(self)

    # --- counters ----------------------------------------------------------

    def stats(self, *, final: bool = False, withheld_us: int | None = None) -> Stats:
        """The counters, and the time up to which all packets have been delivered (the watermark).

        Args:
            final: Whether reading has ended; packets that are still in the ring count as lost.
            withheld_us: Time of the first packet that was read but is withheld, microseconds since
                the epoch; None if there is none.
        """
        at_us = now_us()
        counters = self.source.counters()
        # If packets were dropped since the last report, read no more before this report is sent: the
        # client then writes the drops at the right position in the file.
        proof = counters.dropped_kernel == self._drops_reported
        self._drops_reported = counters.dropped_kernel
        up_to_us = self._captured_up_to(proof=proof)
        if withheld_us is not None:
            up_to_us = min(up_to_us, withheld_us)
        self._watermark = max(self._watermark, up_to_us)
        unread = counters.received - counters.dropped_kernel - self._delivered
        return Stats(
            received=counters.received,
            dropped_kernel=counters.dropped_kernel,
            dropped_interface=counters.dropped_interface,
            delivered=self._delivered,
            captured_up_to_us=self._watermark,
            final=final,
            dropped_agent=max(0, unread) if final else 0,
            at_us=at_us,
            excluded=self.source.excluded,
        )

    def _captured_up_to(self, *, proof: bool) -> int:
        """The watermark, in microseconds since the epoch.

        It follows from the clock if the ring is empty, otherwise from the last packet.

        Args:
            proof: Whether the ring may be read now to prove that it is empty.
        """
        before = now_us()
        try:
            if proof and not self._paused and not self._closed and not self._read_batch():
                return before - _RING_LAG_US
        except CaptureFailed as error:
            # The kernel reports the error only once, so no later read will see it.
            self._reactor.callLater(0, self._lost, error)
        return max(0, self._last_us - RING_DISORDER_US)


def log_losses(log: Logger, stats: Stats, about: Mapping[str, str]) -> None:
    """Log the numbers of packets that a source lost.

    Args:
        log: The agent's log.
        stats: The source's final counters.
        about: Fields that identify the capture.
    """
    if stats.dropped_kernel:
        log.warn(
            "{dropped} of {received} packets were dropped by the kernel",
            dropped=stats.dropped_kernel,
            received=stats.received,
            **about,
        )
    if stats.dropped_agent:
        log.warn(
            "{dropped} of {received} packets were left in the ring when the capture ended",
            dropped=stats.dropped_agent,
            received=stats.received,
            **about,
        )
