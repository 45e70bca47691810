"""Sends a session's packets and notices, and withholds packets during loop tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pcapd.agent.owner import SessionOwner
from pcapd.agent.reading import Reading
from pcapd.agent.withheld import Withheld
from pcapd.capture.exclusion import Connection
from pcapd.errors import CaptureFailed
from pcapd.limits import AGENT_SILENCE_TIMEOUT
from pcapd.net.framed import FramedProtocol
from pcapd.wire import Callee, CaptureStart, Notice, NoticeType, Stats

__all__ = ["DeliveringSession"]


class DeliveringSession(FramedProtocol):
    """The part of a session that its sources and `pcapd.agent.feedback` use.

    Args:
        agent: The agent, whose configuration and limits apply.

    Attributes:
        readings: The sources that are being read.
    """

    _session: Callee

    def __init__(self, agent: SessionOwner[Any]) -> None:
        super().__init__(agent.reactor, Callee(CaptureStart), AGENT_SILENCE_TIMEOUT)
        self._agent = agent
        self.readings: list[Reading] = []
        self._start: CaptureStart | None = None
        self._container: str | None = None
        self._withheld = Withheld()
        self._asked_at: float | None = None  # until the first packet

    @property
    def _capturing(self) -> bool:
        """Whether packets are captured and delivered."""
        raise NotImplementedError

    def _deliver(self, number: int, payloads: list[bytes]) -> None:
        metrics = self._agent.metrics
        metrics.bytes.inc(sum(map(len, payloads)))
        if self._asked_at is not None:
            metrics.first_packet.observe(self._reactor.seconds() - self._asked_at)
            self._asked_at = None
        if self._agent.feedback.withholding and self._capturing:
            self._agent.feedback.withhold(self._withheld.add(number, payloads))
            return
        for payload in payloads:
            self.transport.writeSequence(self._session.packets(number, payload))

    def say(self, kind: NoticeType, message: str) -> None:
        """Send a notice to the user."""
        assert self._start is not None
        self.transport.write(self._session.notice(Notice(kind, message, self._start.instance)))

    def _report(self, reading: Reading, *, final: bool = False, withheld_us: int | None = None) -> Stats:
        """Send the counters of a source, and add them to the metrics; see `Reading.stats`."""
        stats = reading.stats(final=final, withheld_us=withheld_us)
        self._agent.metrics.counted(reading.reported, stats)
        reading.reported = stats
        self.transport.write(self._session.stats(reading.number, stats))
        return stats

    # --- Feeding -----------------------------------------------------------

    def look(self) -> bool:
        """Read the packets captured so far; return False if some cannot be read now."""
        looked = [reading.look() for reading in list(self.readings)]
        return all(looked)

    def release_some(self, size: int) -> None:
        """Send about `size` bytes of the oldest withheld packets, and the counters.

        Without the watermark in the counters, the client would not write these packets yet.
        """
        if size and self._withheld:
            self.transport.writeSequence(self._session.packets(*self._withheld.take_some(size)))
        for reading in list(self.readings):
            self._report(reading, withheld_us=self._withheld.earliest_us(reading.number))

    def release(self) -> None:
        """Send all withheld packets."""
        while self._withheld:
            self.transport.writeSequence(self._session.packets(*self._withheld.take()))

    def exclude(self, connections: Sequence[Connection], new: Connection | None) -> None:
        """Do not capture these connections, and notify the user of the new one."""
        if not self._capturing:
            return
        for reading in list(self.readings):
            try:
                reading.source.exclude(connections)
            except CaptureFailed as error:  # the source keeps its present filter
                self._agent.log.warn("{reason}", reason=error.message, **self._about())
        if new is not None and self._capturing:
            self.say(
                NoticeType.CONGESTED,
                f"the connection {new} carries captured packets back to this machine: "
                "it is excluded from now on, and its packets are counted",
            )

    def _about(self) -> dict[str, str]:
        assert self._start is not None
        return {
            "capture": self._start.capture,
            "request_id": self._start.request_id,
            "instance": self._start.instance,
            **({"container": self._container} if self._container else {}),
        }
