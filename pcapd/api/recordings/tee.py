"""A live capture that is recorded besides (``pcapctl … --resumable``): one capture, two sinks.

Neither holds up the other.  When the recording is behind, packets for it are dropped here.  When the
client is slow, it pauses the capture as always, but not for longer than `limits.RESUMABLE_PATIENCE`;
then packets for the client are dropped here until it has read enough.  Both accounts count what was
dropped, because the counters contain what the api has received.

When the client leaves without STOP, the recording goes on::

    BOTH ──client leaves──▶ only the recording ──▶ over
      └──the recording ends or fails──▶ only the client ──▶ over
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from pcapd.api.capture.life import Capture
from pcapd.api.capture.sink import Sink
from pcapd.api.recordings.recorder import Recorder
from pcapd.errors import RequestError
from pcapd.limits import RESUMABLE_PATIENCE
from pcapd.net.clock import cancel
from pcapd.net.reactor import Reactor
from pcapd.wire import End, EndReason, Notice, NoticeType, Source, Stats
from pcapd.wire.frames import Bytes

__all__ = ["ClientSide", "RecordingSide", "Tee"]

_ORIGIN = "api"


class Tee:
    """The sink of the capture; see the module, and `pcapd.api.capture.sink.Sink`.

    Args:
        reactor: For time.
        client: The client's sink.
        recorder: The recording's sink.
        id: The recording's id.

    Attributes:
        client_side: What the client uses as its capture.
        recording_side: What the recording uses as its capture.
    """

    unattended = False

    def __init__(self, reactor: Reactor, client: Sink, recorder: Recorder, id: str) -> None:
        self._reactor = reactor
        self._client: Sink | None = client
        self._recorder: Recorder | None = recorder
        self._id = id
        self._capture: Capture | None = None
        self._client_paused = self._client_behind = self._recorder_behind = False
        self._timer: Any = None
        self.grace = client.grace
        self.client_side = ClientSide(self)
        self.recording_side = RecordingSide(self)

    def begin(self, capture: Capture, released: Callable[[Capture], None]) -> RecordingSide:
        """Use this capture, which the client starts; return the recording's side.

        Args:
            released: Called when the capture has ended.
        """
        self._capture = capture
        capture.finished.addCallback(lambda _: released(capture))
        return self.recording_side

    @property
    def capture(self) -> Capture:
        """The capture."""
        assert self._capture is not None, "not begun"
        return self._capture

    # --- Sink --------------------------------------------------------------

    def source(self, number: int, source: Source) -> None:
        """Handle an opened source."""
        for sink in self._sinks():
            sink.source(number, source)

    def packets(self, number: int, records: Bytes) -> bool:
        """Handle records; return whether everybody who is there has received them."""
        complete = True
        if self._recorder is not None:
            complete = not self._recorder_behind and self._recorder.packets(number, records)
        if self._client is not None:
            complete &= not self._client_behind and self._client.packets(number, records)
        return complete

    def stats(self, number: int, stats: Stats) -> None:
        """Handle the counters of one source."""
        for sink in self._sinks():
            sink.stats(number, stats)

    def notice(self, notice: Notice) -> None:
        """Handle a notice."""
        for sink in self._sinks():
            sink.notice(notice)

    def end(self, end: End) -> None:
        """Handle the end."""
        sinks = self._sinks()
        self._over()
        for sink in sinks:
            sink.end(end)

    def error(self, error: RequestError) -> None:
        """Handle the failure of a capture in which no source was opened."""
        sinks = self._sinks()
        self._over()
        for sink in sinks:
            sink.error(error)

    def _sinks(self) -> list[Sink]:
        return [sink for sink in (self._recorder, self._client) if sink is not None]

    def _over(self) -> None:
        cancel(self._timer)
        self._client = self._recorder = None

    # --- the client's side -----------------------------------------------------

    def client_pauses(self) -> None:
        """Pause for a slow client, for a while."""
        self._client_paused = True
        self.capture.pauseProducing()
        if self._recorder is not None:
            cancel(self._timer)
            self._timer = self._reactor.callLater(RESUMABLE_PATIENCE, self._go_on)

    def _go_on(self) -> None:
        if self._recorder is not None and self._client_paused:
            self._client_behind = True
            self.capture.resumeProducing()

    def client_resumes(self) -> None:
        """Go on: the client has read enough."""
        cancel(self._timer)
        self._client_paused = self._client_behind = False
        self.capture.resumeProducing()

    def client_leaves(self, why: str) -> None:
        """Go on with the recording alone, if there is one."""
        self._client = None
        cancel(self._timer)
        if self._recorder is None:
            self.capture.abandon(why)
        else:
            self._client_paused = self._client_behind = False
            self.capture.resumeProducing()

    # --- the recording's side ----------------------------------------------------

    def recorder_waits(self, *, behind: bool) -> None:
        """Drop packets for the recording while its store is behind."""
        self._recorder_behind = behind

    def recording_ends(self, end: End | None, why: str) -> None:
        """End the recording, not the client's capture.

        Args:
            end: What ends it; None if it has ended.
        """
        recorder, self._recorder = self._recorder, None
        if self._client is None:
            self._leave_recording(recorder, end, why)
            return
        if end is not None and recorder is not None:
            recorder.end(end)
        text = f"the recording has ended: {why}"
        self._client.notice(Notice(NoticeType.UNKNOWN, text, _ORIGIN, recording=self._id))
        if self._client_behind:  # from now on, only the client counts
            self._client_behind = False
            self.capture.pauseProducing()

    def _leave_recording(self, recorder: Recorder | None, end: End | None, why: str) -> None:
        if end is None:
            self.capture.abandon(why)
        else:  # in good order: what is under way still arrives
            self._recorder = recorder
            self.capture.stop(end.reason, why)

    def announce(self) -> None:
        """Tell the client the recording's id."""
        if self._client is not None:
            text = f"recorded as {self._id}"
            self._client.notice(Notice(NoticeType.RECORDED, text, _ORIGIN, recording=self._id))


@implementer(IPushProducer)
class ClientSide:
    """The part of `pcapd.api.capture.life.Capture` that the client's protocol uses.

    Args:
        tee: Its tee.
    """

    def __init__(self, tee: Tee) -> None:
        self._tee = tee
        self._started = False

    @property
    def user(self) -> str:
        """The user."""
        return self._tee.capture.user

    def start(self) -> None:
        """Start the capture.

        Raises:
            AuditUnavailable: The record cannot be written; the capture does not start.
        """
        self._tee.capture.start()
        self._started = True
        self._tee.announce()

    def stop(self, reason: EndReason, message: str = "") -> None:
        """Stop the capture for both."""
        self._tee.capture.stop(reason, message)

    def abandon(self, why: str) -> None:
        """Leave: the recording goes on, if the capture has started."""
        if not self._started:
            self._tee.recording_side.cancel(why)
        self._tee.client_leaves(why)

    def pauseProducing(self) -> None:
        """Pause, because the client is slow."""
        self._tee.client_pauses()

    def resumeProducing(self) -> None:
        """Resume, because the client has read enough."""
        self._tee.client_resumes()

    def stopProducing(self) -> None:
        """Do nothing: the client's protocol calls `abandon` when its transport is gone."""


class RecordingSide:
    """The part of `pcapd.api.capture.life.Capture` that a recording uses.

    Args:
        tee: Its tee.
    """

    def __init__(self, tee: Tee) -> None:
        self._tee = tee

    def stop(self, reason: EndReason, message: str = "") -> None:
        """End the recording; the client's capture goes on."""
        self._tee.recording_ends(End(reason, message), message or reason.value)

    def cancel(self, why: str) -> None:
        """End a recording whose capture did not start."""
        self.stop(EndReason.FAILED, why)

    def abandon(self, why: str) -> None:
        """Handle that the recording has failed; the client's capture goes on."""
        self._tee.recording_ends(None, why)

    def pauseProducing(self) -> None:
        """Drop packets for the recording."""
        self._tee.recorder_waits(behind=True)

    def resumeProducing(self) -> None:
        """Record packets again."""
        self._tee.recorder_waits(behind=False)
