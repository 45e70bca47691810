"""One capture source on the reactor.

The descriptor is readable when the kernel has handed over a ring block.  Each
wake-up takes a few batches, packs them in C and passes them on; nothing here
is done per packet.  While the consumer is paused the descriptor is not
watched: packets then wait in the kernel's ring, and when that is full the
kernel drops and counts.  There is no queue of our own.
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
from pcapd.limits import BATCH_PACKETS, BATCHES_PER_WAKEUP, FRAME_TYPICAL, RING_LAG
from pcapd.net.clock import now_us
from pcapd.net.reactor import SocketReactor
from pcapd.records import pack
from pcapd.wire import Stats

__all__ = ["DISORDER_US", "Reading", "log_losses"]

_META = struct.Struct("=IIII")
_RING_LAG_US = int(RING_LAG * 1_000_000)
#: A ring is filled by several processors, whose packets can be this much out of order.
DISORDER_US = 1000


#: Packets, their index, link type, when it looked last, time of the last packet → when it looked last.
Inspect = Callable[[bytes, bytes, int, int, int], int]


@implementer(IReadDescriptor)
class Reading:
    """Reads a source and passes records on.

    Args:
        reactor: Tells when there is something to read.
        number: The source's id in this session.
        source: What to read.
        deliver: Takes payloads of PACKETS frames; may pause us before it returns.
        gone: Called once when the interface is gone.
        headers_only: Keep nothing of a packet behind its headers.
        inspect: Looks at batches on their way (`pcapd.agent.feedback.Feedback.saw`).
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
        self._drops_told = 0

    # --- IReadDescriptor ---------------------------------------------------

    def fileno(self) -> int:
        """The packet socket."""
        return self.source.fileno()

    def logPrefix(self) -> str:
        """For Twisted's log."""
        return f"capture on {self.source.interface.name}"

    def doRead(self) -> None:
        """Take what the ring holds, within bounds."""
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
        """The descriptor has an error: the next read says which, after what is left is read."""
        self._reactor.callLater(0, self._after_error)

    def _after_error(self) -> None:
        self.doRead()
        if not self._paused and not self._closed:
            self._reactor.addReader(self)

    def _read_batch(self) -> bool:
        """Deliver one batch; False when the ring is empty now."""
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
        return count == BATCH_PACKETS  # libpcap fills a batch while the ring has a block

    # --- control -----------------------------------------------------------

    def start(self) -> None:
        """Begin to capture and to read."""
        try:
            self.source.start()
        except CaptureFailed as error:
            # Not at once: the others shall have been started before one of them ends.
            self._reactor.callLater(0, self._lost, error)
        self._reactor.addReader(self)

    def pause(self) -> None:
        """Stop reading; the ring takes over."""
        self._paused = True
        self._reactor.removeReader(self)

    def resume(self) -> None:
        """Go on reading."""
        self._paused = False
        if not self._closed:
            self._reactor.addReader(self)

    def look(self) -> bool:
        """Read now what a wake-up would read; False when reading is paused, or there is still more."""
        self.doRead()
        return not self._paused

    def drained(self) -> bool:
        """Read on until the ring is empty; False when it could not be emptied yet."""
        try:
            while not self._paused and not self._closed:
                if not self._read_batch():
                    return True
        except CaptureFailed:
            return True
        return self._closed

    def end(self) -> None:
        """Read no more.  Whoever opened the source closes it."""
        self._closed = True
        self._reactor.removeReader(self)

    # --- counters ----------------------------------------------------------

    def stats(self, *, final: bool = False, withheld_us: int | None = None) -> Stats:
        """Counters, and the watermark up to which everything has been delivered.

        Args:
            final: Nothing more will be read: what the ring still holds is lost here.
            withheld_us: Packets from this time on were read, and are withheld by who delivers.
        """
        at_us = now_us()
        counters = self.source.counters()
        # New drops are told before further packets, so that who reads the file sees where they were.
        proof = counters.dropped_kernel == self._drops_told
        self._drops_told = counters.dropped_kernel
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
        """With an empty ring the clock proves it, otherwise only the last packet does."""
        before = now_us()
        try:
            if proof and not self._paused and not self._closed and not self._read_batch():
                return before - _RING_LAG_US
        except CaptureFailed as error:
            # The kernel says it once, so that nobody else will meet it.
            self._reactor.callLater(0, self._lost, error)
        return max(0, self._last_us - DISORDER_US)


def log_losses(log: Logger, stats: Stats, about: Mapping[str, str]) -> None:
    """Log what a source lost.

    Args:
        log: The agent's.
        stats: The source's final counters.
        about: Which capture it belongs to.
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
