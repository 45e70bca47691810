"""The client's state of one capture, from START to the result.  No I/O, no clock.

Its input are frames; its output are frames to send and blocks to write.  Times are
seconds of a monotonic clock.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import pcapd
from pcapd.ctl.display.text import many, quantity
from pcapd.ctl.stream.peer import API, Peer
from pcapd.errors import PcapdError, RequestError, request_error
from pcapd.limits import INSTANCES_MAX, NAME_MAX, TURN_MAX
from pcapd.merge.account import Account
from pcapd.merge.muxer import Budget, Muxer, Piece
from pcapd.merge.split import Split
from pcapd.running import RunningTime
from pcapd.savefile.cut import Tail, tail
from pcapd.savefile.form import Form
from pcapd.wire import (
    Caller,
    End,
    EndReason,
    Error,
    Event,
    Hello,
    Limits,
    Notice,
    NoticeType,
    Packets,
    Ping,
    Progress,
    Request,
    Source,
    Stats,
)
from pcapd.wire.frames import Bytes

__all__ = ["CaptureSession", "Outcome", "Waiting"]


class Outcome(Enum):
    """The exit status of the command."""

    COMPLETE = 0
    FAILED = 1
    INCOMPLETE = 3


class Waiting(NamedTuple):
    """The state of a stopping capture, to be shown to the user.

    Attributes:
        names: Names of sources that have not ended; empty if only the capture's END is missing.
        seconds: Seconds since the stop was requested.
        left: Seconds until the capture fails; increases while packets are received.
    """

    names: Tuple[str, ...]
    seconds: float
    left: float


class _State(Enum):
    WAITING = auto()
    CAPTURING = auto()
    STOPPING = auto()
    ENDED = auto()


class CaptureSession:
    """See the module.

    Args:
        request: The START request.
        muxer: Produces the blocks of the file.
        duration: Longest duration in seconds, from the first opened source on; None for no limit.
        now: The present time.
        peer: What delivers the capture.
    """

    def __init__(
        self,
        request: Request,
        muxer: Union[Muxer, Split],
        duration: Optional[float],
        now: float,
        peer: Peer = API,
    ) -> None:
        self._request = request
        self._peer = peer
        self.muxer = muxer
        self._duration = duration
        self._session = Caller()
        self._state = _State.WAITING
        self._send: List[bytes] = []
        # Time counts only while this process runs, not while it is suspended (Ctrl-Z) or a write blocks.
        self._time = RunningTime(TURN_MAX)
        self._began = self._heard = self._stopped = self._time.at(now)
        self._progress = Progress(self._began)
        self._end: Optional[End] = None
        self._errors: List[PcapdError] = []
        self._failed_targets = 0
        self._unwritten = 0  # packets not in the file, whose sources are not known
        self._held = 0  # packets received, but not passed to the output
        self._settled = False
        self._reader_left = False
        #: Whether the output has ended.
        self.output_over = False
        #: Notices that are not yet shown.
        self.notices: List[Notice] = []
        #: Names of the instances that could not be captured, in the order of the reports.
        self.failed: Dict[str, None] = {}
        #: Number of instances that have neither opened a source nor failed.
        self.awaited = 0
        #: The id of the recording that the api makes besides; empty if it makes none.
        self.recording = ""
        #: Whether that recording has ended before the capture.
        self.recording_over = False
        #: The api's limits, once they are known.
        self.limits: Optional[Limits] = None
        #: When the first source was opened; None before.
        self.started: Optional[float] = None
        #: Why the capture ended, as text.
        self.reason = ""

    # --- input --------------------------------------------------------------

    def receive(self, data: Bytes, now: float, now_us: int) -> None:
        """Process received bytes.

        Raises:
            RemoteProtocolError: The bytes violate the protocol.
            MixedLinkTypes: The file format cannot hold the link types of all sources.
        """
        self.alive(now)
        for event in self._session.receive(data):
            if not self.over:  # the previous event may have ended the capture
                self._event(event, now, now_us)

    def alive(self, now: float) -> None:
        """Note that the api is alive, because it sent something, for example a ping without frames."""
        self._heard = self._time.at(now)

    def tick(self, now: float) -> None:
        """Check the stop conditions; call this regularly."""
        if self.muxer.full and self._state is _State.CAPTURING:
            self.stop(_limit(self.muxer.budget), now)
        if self.started is not None and self._duration is not None and now - self.started >= self._duration:
            self.stop(f"{self._duration:g} s are over", now)
        self._judge(self._time.at(now))

    def _judge(self, ran: float) -> None:
        if self._state is _State.STOPPING:
            if self._left(ran) <= 0:
                self.fail(PcapdError(f"{self._peer.name} did not end the capture in time"))
        elif self._state is _State.CAPTURING and ran - self._heard >= self._peer.silence:
            self.fail(PcapdError(f"{self._peer.name} sent nothing for {self._peer.silence:g} s"))
        elif self._state is _State.WAITING and ran - self._began >= self._peer.start:
            self.fail(PcapdError(f"{self._peer.name} did not start the capture in time"))

    def _left(self, ran: float) -> float:
        """Seconds until a stopping capture fails because its END is missing.

        The time limit starts again when packets are received, because they were captured
        before the stop; but there is an upper limit.
        """
        moved, stopped = self._progress.moved_at, self._stopped
        return min(moved + self._peer.stop, stopped + self._peer.stop_limit) - ran

    def stop(self, reason: str, now: float) -> None:
        """Request the end; packets that were captured until now are still received."""
        if self._state is _State.WAITING:
            self.fail(PcapdError(f"{reason} before the capture started"))
        elif self._state is _State.CAPTURING:
            self.reason = reason
            self._state = _State.STOPPING
            self._stopped = self._time.at(now)
            self._progress.moved(self._stopped)
            self._send.append(self._session.stop())

    def fail(self, error: PcapdError) -> None:
        """End the capture with an error."""
        if not self._errors:
            self._errors.append(error)
            self.reason = error.message
        self._state = _State.ENDED

    def output_ended(self, error: PcapdError, now: float, *, failed: bool) -> None:
        """Stop the capture because its output has ended, and count packets received after this.

        Args:
            failed: Whether the output failed; False if its reader has closed it.
        """
        if failed and not self._errors:
            self._errors.append(error)
        self._reader_left = not failed
        self.output_over = True
        self.muxer.budget.close(broken=failed)
        self.stop(error.message, now)

    def disconnected(self) -> None:
        """Handle that the api closed the connection."""
        if self._state is not _State.ENDED:
            self.fail(PcapdError("the connection to the api was lost before the capture had ended"))

    # --- output -------------------------------------------------------------

    def to_send(self) -> bytes:
        """Return the frames to send, and forget them."""
        frames, self._send = b"".join(self._send), []
        return frames

    @property
    def over(self) -> bool:
        """Whether the capture has ended."""
        return self._state is _State.ENDED

    def waiting(self, now: float) -> Optional[Waiting]:
        """The state of a stopping capture; None before the stop and after the end."""
        if self._state is not _State.STOPPING:
            return None
        names = tuple(account.name for account in self._accounts if not account.stats.final)
        ran = self._time.at(now)
        return Waiting(names, ran - self._stopped, max(0.0, self._left(ran)))

    @property
    def cut_off(self) -> bool:
        """Whether the capture ended here only: the connection was lost, or the api stops for a while."""
        refused = isinstance(self.error, RequestError)
        ended = self._end is not None and self._end.reason is not EndReason.DRAINING
        return self._peer is API and self.started is not None and not refused and not ended

    @property
    def error(self) -> Optional[PcapdError]:
        """The error that ended the capture, if any."""
        return self._errors[0] if self._errors else None

    @property
    def lost(self) -> Optional[int]:
        """Number of packets that are missing from the file; None if unknown."""
        return self.lost_at_least if all(account.traced for account in self._accounts) else None

    @property
    def lost_at_least(self) -> int:
        """Number of packets that are known to be missing."""
        unwritten = 0 if self._reader_left else self._unwritten
        return unwritten + self._held + sum(sum(account.known) for account in self._accounts)

    @property
    def written(self) -> int:
        """Number of packets in the file."""
        return sum(account.written for account in self._accounts) - self._unwritten

    @property
    def _accounts(self) -> List[Account]:
        return list(self.muxer.accounts.values())

    def settle(self, form: Form, written: Optional[Dict[str, int]], pieces: List[Piece]) -> None:
        """Called after the last write: count packets that were received but are not in the file.

        Args:
            form: The file format.
            written: Number of packets in the file, or in the files of each instance; None if there
                is no file.
            pieces: The pieces passed to the last write; all earlier ones were written.
        """
        if self._settled:
            return
        self._settled = True
        if written is not None:
            streams: Dict[str, List[Account]] = {}
            for account in self._accounts:
                streams.setdefault(account.source.instance if self.muxer.split else "", []).append(account)
            for stream, accounts in streams.items():
                missing = sum(account.written for account in accounts) - written.get(stream, 0)
                data = b"".join(piece.data for piece in pieces if piece.stream == stream)
                if missing > 0:
                    self._subtract(accounts, missing, data if form is Form.PCAPNG else b"")
        for account in self._accounts if self._reader_left else ():
            account.forgive()
        self.muxer.settle()
        if not self.muxer.full or self.muxer.budget.broken:
            self._held = sum(account.rest for account in self._accounts)

    def _subtract(self, accounts: List[Account], missing: int, data: bytes) -> None:
        """Subtract packets missing at the end of a file from the sources; `data` is the last data for it."""
        some = [account for account in accounts if account.written]
        shares = tail(data, missing)
        if len(some) == 1 and not data:
            shares = {some[0].interface: Tail(missing, 0)}
        if sum(share.packets for share in shares.values()) == missing:
            for account in some:
                share = shares.get(account.interface, Tail(0, 0))
                account.written -= share.packets
                account.unwritten = (account.unwritten or 0) + share.packets
                account.reported -= share.drops
        else:
            # In classic pcap, packets do not contain their source.
            self._unwritten += missing
            for account in some:
                account.unwritten = None

    @property
    def outcome(self) -> Outcome:
        """The outcome, for the exit status."""
        if self._errors:
            return Outcome.FAILED
        # Drops that are not counted where packets are captured do not make a capture incomplete.
        unknown = any(
            account.lost_in_transit is None or None in account.drops[2:] for account in self._accounts
        )
        if self._failed_targets or self.lost_at_least or unknown:
            return Outcome.INCOMPLETE
        return Outcome.COMPLETE

    # --- events -------------------------------------------------------------

    def _event(self, event: Event, now: float, now_us: int) -> None:
        message = event.message
        if isinstance(message, Packets):
            self._progress.received(len(message.records), self._time.at(now))
            self.muxer.packets(event.source, message.records, now)
        elif isinstance(message, Stats):
            self.muxer.stats(event.source, message)
        elif isinstance(message, Source):
            self._opened(event.source, message, now, now_us)
        elif isinstance(message, Notice):
            self._noticed(message)
        elif isinstance(message, Ping):
            self._send.append(self._session.pong(message, now_us))
        elif isinstance(message, Hello):
            self.limits = message.limits
            hello = Hello(pcapd.COMPATIBILITY_LEVEL, "client", "pcapctl", pcapd.__version__, now_us)
            self._send.append(self._session.hello(hello) + self._session.start(self._request))
        elif isinstance(message, Error):
            self.fail(request_error(message.code, message.message, message.hint))
        elif isinstance(message, End):
            self._ended(message)

    def _opened(self, number: int, source: Source, now: float, now_us: int) -> None:
        if self._request.headers_only and not source.headers_only:
            hint = "ask the operator to upgrade it"
            self.fail(PcapdError("the api cannot cut packets after their headers", hint))
            return
        if self._request.record is not None and not self.recording:  # it would have been confirmed before
            hint = "capture without --resumable, or ask the operator to upgrade it"
            self.fail(PcapdError("the api makes no recordings besides captures", hint))
            return
        self.muxer.source(number, source, now_us)
        self._await(source.awaited)
        if self.started is None:
            self.started = now
            self._state = _State.CAPTURING

    def _noticed(self, notice: Notice) -> None:
        if notice.type.incomplete:
            self._failed_targets += 1
            if len(self.failed) < INSTANCES_MAX:
                self.failed[notice.origin[:NAME_MAX]] = None
        self._await(notice.awaited)
        self.muxer.await_instances(notice.awaited)
        if notice.recording and notice.type is not NoticeType.RECORDED:
            self.recording_over = True
        elif notice.recording:
            self.recording = notice.recording[:NAME_MAX]
            text = f"{notice.message}; after a disconnect: pcapctl recording fetch {self.recording}"
            notice = replace(notice, message=text)
        self.notices.append(notice)

    def _await(self, count: Optional[int]) -> None:
        self.awaited = self.awaited if count is None else count

    def _ended(self, end: End) -> None:
        self._end = end
        self._state = _State.ENDED
        if end.reason is EndReason.FAILED or self.started is None:
            self._errors.append(RequestError(end.message or "the capture failed"))
        if end.reason in _EARLY:
            self._failed_targets += 1
        if not self.reason:
            self.reason = end.message or end.reason.value


#: The api ended the capture before its user wanted it.
_EARLY = (EndReason.SOURCES_GONE, EndReason.DRAINING, EndReason.UNRECORDED, EndReason.FORBIDDEN)


def _limit(budget: Budget) -> str:
    """The limit that was reached, as text."""
    packets, size = budget.most
    if budget.packets > 0:
        return quantity(size)
    return many(packets, "packet")
