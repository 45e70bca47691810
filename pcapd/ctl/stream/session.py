"""One capture as the client sees it, from START to its result.  No I/O, no clock.

Frames go in, frames to send and blocks to write come out.  Times are seconds
of a steady clock.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import pcapd
from pcapd.ctl.display.text import many, quantity
from pcapd.errors import PcapdError, RequestError, request_error
from pcapd.limits import (
    API_SILENCE_TIMEOUT,
    API_START_TIMEOUT,
    API_STOP_LIMIT,
    API_STOP_TIMEOUT,
    INSTANCES_MAX,
    NAME_MAX,
    TURN_MAX,
)
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
    """What a capture waits for that was asked to stop.

    Attributes:
        names: Sources whose last word has not come; none when only the end is missing.
        seconds: Since the stop.
        left: Seconds until the api is given up; more when packets come.
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
        request: What to capture.
        muxer: Makes the file's blocks.
        duration: Seconds after the first source is open.
        now: When it begins.
    """

    def __init__(
        self, request: Request, muxer: Union[Muxer, Split], duration: Optional[float], now: float
    ) -> None:
        self._request = request
        self.muxer = muxer
        self._duration = duration
        self._session = Caller()
        self._state = _State.WAITING
        self._send: List[bytes] = []
        # The api is judged by the time in which we ran: not after Ctrl-Z, or a write that blocked.
        self._time = RunningTime(TURN_MAX)
        self._began = self._heard = self._stopped = self._time.at(now)
        self._progress = Progress(self._began)
        self._end: Optional[End] = None
        self._errors: List[PcapdError] = []
        self._failed_targets = 0
        self._unwritten = 0  # of several sources together
        self._held = 0  # came, and were not even given out
        self._settled = False
        self._reader_left = False
        #: The output takes nothing more.
        self.output_over = False
        #: Notices that came since they were looked at.
        self.notices: List[Notice] = []
        #: Instances that could not be captured, in the order in which they were told.
        self.failed: Dict[str, None] = {}
        #: Instances that have neither opened a source nor failed.
        self.awaited = 0
        #: The api's, once it has said them.
        self.limits: Optional[Limits] = None
        #: When the first source was open; None before.
        self.started: Optional[float] = None
        #: Why it is over, for people.
        self.reason = ""

    # --- in -----------------------------------------------------------------

    def receive(self, data: Bytes, now: float, now_us: int) -> None:
        """Bytes of the stream.

        Raises:
            RemoteProtocolError: They are not what an honest api sends.
            MixedLinkTypes: The format cannot hold what is captured.
        """
        self.alive(now)
        for event in self._session.receive(data):
            if not self.over:  # the one before may have been the end of us
                self._event(event, now, now_us)

    def alive(self, now: float) -> None:
        """Something came that is no frame.  An app that is followed may have no instance for a while."""
        self._heard = self._time.at(now)

    def tick(self, now: float) -> None:
        """Time passed: look at the stop conditions."""
        if self.muxer.full and self._state is _State.CAPTURING:
            self.stop(_limit(self.muxer.budget), now)
        if self.started is not None and self._duration is not None and now - self.started >= self._duration:
            self.stop(f"{self._duration:g} s are over", now)
        self._judge(self._time.at(now))

    def _judge(self, ran: float) -> None:
        if self._state is _State.STOPPING:
            if self._left(ran) <= 0:
                self.fail(PcapdError("the api did not end the capture in time"))
        elif self._state is _State.CAPTURING and ran - self._heard >= API_SILENCE_TIMEOUT:
            self.fail(PcapdError(f"nothing was heard from the api for {API_SILENCE_TIMEOUT:g} s"))
        elif self._state is _State.WAITING and ran - self._began >= API_START_TIMEOUT:
            self.fail(PcapdError("the api did not start the capture in time"))

    def _left(self, ran: float) -> float:
        """Seconds until the api is given up after a stop.

        Packets are from before the stop, so they are waited for longer than words: the
        api itself waits for its agents, but not for ever.
        """
        return min(self._progress.moved_at + API_STOP_TIMEOUT, self._stopped + API_STOP_LIMIT) - ran

    def stop(self, reason: str, now: float) -> None:
        """Ask for the end; what was captured until now still comes."""
        if self._state is _State.WAITING:
            self.fail(PcapdError(f"{reason} before the capture started"))
        elif self._state is _State.CAPTURING:
            self.reason = reason
            self._state = _State.STOPPING
            self._stopped = self._time.at(now)
            self._progress.moved(self._stopped)
            self._send.append(self._session.stop())

    def fail(self, error: PcapdError) -> None:
        """It cannot go on."""
        if not self._errors:
            self._errors.append(error)
            self.reason = error.message
        self._state = _State.ENDED

    def output_ended(self, error: PcapdError, now: float, *, failed: bool) -> None:
        """The output takes nothing more: end the capture, and count what still comes.

        Args:
            failed: It should have taken it; else its reader has enough.
        """
        if failed and not self._errors:
            self._errors.append(error)
        self._reader_left = not failed
        self.output_over = True
        self.muxer.budget.close(broken=failed)
        self.stop(error.message, now)

    def disconnected(self) -> None:
        """The api closed the connection."""
        if self._state is not _State.ENDED:
            self.fail(PcapdError("the connection to the api was lost before the capture had ended"))

    # --- out ----------------------------------------------------------------

    def to_send(self) -> bytes:
        """Frames to send."""
        frames, self._send = b"".join(self._send), []
        return frames

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self._state is _State.ENDED

    def waiting(self, now: float) -> Optional[Waiting]:
        """What it waits for since it was asked to stop; None before and afterwards."""
        if self._state is not _State.STOPPING:
            return None
        names = tuple(account.name for account in self._accounts if not account.stats.final)
        ran = self._time.at(now)
        return Waiting(names, ran - self._stopped, max(0.0, self._left(ran)))

    @property
    def error(self) -> Optional[PcapdError]:
        """What broke it."""
        return self._errors[0] if self._errors else None

    @property
    def lost(self) -> Optional[int]:
        """Packets that are missing from the file; None when nobody knows."""
        return self.lost_at_least if all(account.traced for account in self._accounts) else None

    @property
    def lost_at_least(self) -> int:
        """Packets that are known to be missing."""
        unwritten = 0 if self._reader_left else self._unwritten
        return unwritten + self._held + sum(sum(account.known) for account in self._accounts)

    @property
    def written(self) -> int:
        """Packets in the file."""
        return sum(account.written for account in self._accounts) - self._unwritten

    @property
    def _accounts(self) -> List[Account]:
        return list(self.muxer.accounts.values())

    def settle(self, form: Form, written: Optional[Dict[str, int]], pieces: List[Piece]) -> None:
        """Nothing more will be written: find out what came and is not in the file.

        Args:
            form: Of the file.
            written: Packets in the file, or in each instance's; None when there is no file.
            pieces: What was to be written last; all before was.
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
        """So many packets are not in a file; `data` is what was to be its end."""
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
            # Classic pcap does not tell one source's packets from another's.
            self._unwritten += missing
            for account in some:
                account.unwritten = None

    @property
    def outcome(self) -> Outcome:
        """How it went."""
        if self._errors:
            return Outcome.FAILED
        unknown = any(account.lost_in_transit is None or None in account.drops for account in self._accounts)
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
            if self._request.headers_only and not message.headers_only:
                hint = "ask the operator to upgrade it"
                self.fail(PcapdError("the api does not know how to cut packets after their headers", hint))
                return
            self.muxer.source(event.source, message, now_us)
            self._await(message.awaited)
            if self.started is None:
                self.started = now
                self._state = _State.CAPTURING
        elif isinstance(message, Notice):
            if message.type.incomplete:
                self._failed_targets += 1
                if len(self.failed) < INSTANCES_MAX:
                    self.failed[message.origin[:NAME_MAX]] = None
            self._await(message.awaited)
            self.muxer.await_instances(message.awaited)
            self.notices.append(message)
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

    def _await(self, count: Optional[int]) -> None:
        self.awaited = self.awaited if count is None else count

    def _ended(self, end: End) -> None:
        self._end = end
        self._state = _State.ENDED
        if end.reason is EndReason.FAILED or self.started is None:
            self._errors.append(RequestError(end.message or "the capture failed"))
        if end.reason in (EndReason.SOURCES_GONE, EndReason.DRAINING, EndReason.UNRECORDED):
            self._failed_targets += 1
        if not self.reason:
            self.reason = end.message or end.reason.value


def _limit(budget: Budget) -> str:
    """Which limit is reached, for people."""
    packets, size = budget.most
    if budget.packets > 0:
        return quantity(size)
    return many(packets, "packet")
