"""All hosts of a capture, in place of a connection to an api.

`SshConnection` sends and receives what an api would, so that the session does not differ
(`pcapd.ctl.stream.session`).  First all hosts are connected, several at the same time and without
questions.  Then those that need an answer from the user are connected again, one after the
other.  When every host is ready or has failed, all captures start.

Where the user can be asked, the hosts are connected before the session begins
(`SshConnection.connect`), because the live table would overwrite the questions.
"""

from __future__ import annotations

import dataclasses
import math
import select
import shutil
import tempfile
import time
from typing import Final, Iterable, List, Optional, Sequence, Tuple

import pcapd
from pcapd.ctl.ssh.asking import Questions
from pcapd.ctl.ssh.capture import STOP_LIMIT, STOP_TIMEOUT, FarCapture, Item, State
from pcapd.ctl.ssh.children import Child, Heartbeat, close_all
from pcapd.ctl.ssh.farside import command, effective_filter
from pcapd.ctl.ssh.hosts import AT_ONCE, Host
from pcapd.ctl.stream.peer import Peer
from pcapd.records import Converted
from pcapd.wire import Callee, End, EndReason, Hello, Notice, Request, Source, Stats, Stop
from pcapd.wire.frames import Bytes

__all__ = ["SshConnection"]

#: bytes read from one host in one turn of the loop.
_TURN_BYTES: Final = 512 * 1024
_STDERR_BYTES: Final = 16 * 1024
#: The hosts, for the session: each host has its own limits of time.
_HOSTS: Final = Peer("the ssh connections", math.inf, math.inf, STOP_TIMEOUT + 15, STOP_LIMIT + 15)
#: While more than these bytes come in a turn, the next turn waits for these seconds, so that it
#: finds more: a turn costs some ten microseconds.
_BUSY: Final = (16 * 1024, 0.004)
#: Seconds without an answer from a host after which it is named, and milliseconds of a turn until then.
_UNTOLD: Final = 3.0
_CONNECTING_TURN_MS: Final = 250
#: Characters of the directory below which sockets of shared connections are: the path of a socket
#: has at most 104, of which we need 20 and ssh 17.  In a longer one each interface has a connection.
_SOCKET_PLACE_MAX: Final = 64
#: Seconds after which a child that was given up is killed, so that its far side can end by itself.
_GRACE: Final = 5.0


class _Leg:
    """One interface of one host: its child, and its capture.

    Args:
        host: The host.
        device: The interface; empty for the host's own choice.
        first: The leg whose connection this one shares; None if it has its own.
        path: Words that name the socket of the shared connection.
    """

    def __init__(self, host: Host, device: str, first: Optional[_Leg], path: Tuple[str, ...]) -> None:
        self.host = host
        self.device = device
        self.first = first
        self.path = path
        self.ask = False  # whether ssh may ask the user
        self.child: Optional[Child] = None
        self.capture: Optional[FarCapture] = None
        self.left = b""  # bytes that its stdin did not take yet
        self.source = 0  # id of its source, once it is open
        self.over = False
        self.given_up_at: Optional[float] = None

    @property
    def state(self) -> State:
        """The state of its capture."""
        if self.over:
            return State.ENDED
        return self.capture.state if self.capture is not None else State.CONNECTING

    @property
    def authenticated(self) -> bool:
        """Whether its far side has ever answered."""
        return self.capture is not None and self.capture.authenticated

    def words(self) -> Tuple[str, ...]:
        """The words that run a command there, without the command."""
        role = "no" if self.first is not None else "yes"
        more = (*self.path, "-o", f"ControlMaster={role}") if self.path else ()
        return self.host.words(*more, ask=self.ask)


class SshConnection:
    """See the module.

    Args:
        hosts: The hosts.
        questions: The terminal where the user can be asked; None if nothing may be asked.
        include_ssh: Whether the ssh servers' ports are captured too.
        unavailable: Notices about what was asked for, but cannot be captured.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        questions: Optional[Questions],
        *,
        include_ssh: bool = False,
        unavailable: Sequence[Notice] = (),
    ) -> None:
        self.peer = _HOSTS
        self._hosts = hosts
        self._questions = questions
        self._include_ssh = include_ssh
        self._unavailable = unavailable
        self._callee = Callee(Request)
        self._request = Request(targets=("none",))
        self._legs: List[_Leg] = []
        self._sockets: Optional[str] = None
        self._poll = select.poll()
        self._buffer = memoryview(bytearray(_TURN_BYTES))
        self._errors = memoryview(bytearray(_STDERR_BYTES))
        self._requested = self._gone = self._stopping = False
        self._opened = self._asked = self._turn_bytes = 0
        self._failures: List[str] = []
        self._early: List[Tuple[_Leg, Item]] = []  # what the session does not expect before its request
        self._heartbeat: Optional[Heartbeat] = None
        #: Always false: the end of the capture is a message.
        self.closed = False
        #: Always true: each host has its own limits of time.
        self.heard = True
        hello = Hello(pcapd.COMPATIBILITY_LEVEL, "api", "ssh", pcapd.__version__, _now_us())
        self._frames: List[Bytes] = [self._callee.hello(hello)]

    # --- in place of the connection to an api -----------------------------------

    def connect(self, request: Request) -> None:
        """Connect the hosts before the session begins, and let ssh ask what there is to ask.

        Without a terminal, or where no host may ask, the session connects them.

        Args:
            request: The request that the session will send.

        Raises:
            PcapdError: ssh cannot be run.
        """
        if self._questions is None or not any(host.asking for host in self._hosts):
            return
        try:
            self._begin(request)
            now = time.monotonic()
            told_at = now + _UNTOLD
            self._advance(now)
            while self._unanswered():
                self._poll.poll(_CONNECTING_TURN_MS)
                now = time.monotonic()
                for leg in self._legs:
                    self._read(leg, now)
                self._advance(now)
                if now >= told_at and not any(leg.ask for leg in self._unanswered()):
                    told_at = math.inf
                    names = dict.fromkeys(leg.host.name for leg in self._unanswered())
                    self._questions.tell(f"waiting for {', '.join(names)}")
        except BaseException:  # also at Ctrl-C
            self.close()
            raise

    def _unanswered(self) -> List[_Leg]:
        """The legs that may still need an answer."""
        return [leg for leg in self._legs if leg.first is None and leg.state is State.CONNECTING]

    def watch(self, poll: select.poll) -> None:
        """Register what should wake up the loop, now and later."""
        self._poll = poll
        for leg in self._legs:
            if leg.child is not None:
                leg.child.watch(poll)

    @property
    def ready(self) -> bool:
        """Whether `read` has something to return without waiting."""
        return bool(self._frames)

    def read(self) -> List[Bytes]:
        """Return the frames that an api would have sent, without waiting."""
        if self._turn_bytes > _BUSY[0]:
            time.sleep(_BUSY[1])
        self._turn_bytes = 0
        now = time.monotonic()
        for leg in self._legs:
            self._read(leg, now)
        self._advance(now)
        frames, self._frames = self._frames, []
        return frames

    def send(self, frames: bytes) -> None:
        """Handle frames of the session."""
        now = time.monotonic()
        for event in self._callee.receive(frames):
            if isinstance(event.message, Request):
                self._requested = True
                if not self._legs:
                    self._begin(event.message)
                self._frames += [self._callee.notice(notice) for notice in self._unavailable]
                for leg, item in self._early:
                    self._tell(leg, [item])
            elif isinstance(event.message, Stop):
                self._stop(now)
        if frames:
            self._advance(now)

    def close(self) -> None:
        """End all children."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
        close_all([leg.child for leg in self._legs if leg.child is not None])
        if self._questions is not None:
            self._questions.restore()
            self._questions.close()
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)

    # --- requests ------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        self._request = request
        for number, host in enumerate(self._hosts):
            first, *others = request.interfaces or (host.device,)
            path: Tuple[str, ...] = ()
            if host.shares and others and len(tempfile.gettempdir()) <= _SOCKET_PLACE_MAX:
                self._sockets = self._sockets or tempfile.mkdtemp(prefix="pcapctl-")
                path = ("-o", f"ControlPath={self._sockets}/{number}")
            leg = _Leg(host, first, None, path)
            self._legs.append(leg)
            self._legs += [_Leg(host, device, leg if path else None, path) for device in others]
        self._heartbeat = Heartbeat(self._beat)

    def _stop(self, now: float) -> None:
        self._stopping = True
        for leg in self._legs:
            if leg.capture is not None and leg.child is not None:
                leg.capture.stop(now)
            else:
                leg.over = True

    def _beat(self) -> None:
        """Called in the heartbeat's thread."""
        for leg in self._legs:
            child, capture = leg.child, leg.capture
            if child is not None and capture is not None and capture.authenticated and not leg.left:
                child.write(capture.heartbeat)

    # --- one leg --------------------------------------------------------------------

    def _read(self, leg: _Leg, now: float) -> None:
        """Handle what has arrived from one child."""
        child, capture = leg.child, leg.capture
        if child is None or capture is None or leg.over:
            return
        errors = child.read(child.stderr, self._errors, self._poll)
        if errors is not None:
            self._tell(leg, capture.stderr(bytes(errors), now, _now_us()))
        data = child.read(child.stdout, self._buffer, self._poll)
        if data:
            self._turn_bytes += len(data)
            self._tell(leg, capture.stdout(data, now))
        status = child.status(now, self._poll)
        if status is not None:
            self._ended(leg, capture, status)

    def _ended(self, leg: _Leg, capture: FarCapture, status: int) -> None:
        """Handle that a child has exited: report why, or try again with questions."""
        if self._questions is not None and leg.ask:
            self._questions.restore()
        asking = bool(leg.host.asking) and self._questions is not None and not leg.ask and leg.first is None
        if asking and not capture.authenticated and capture.may_ask and not self._stopping:
            assert leg.child is not None
            close_all([leg.child])
            leg.ask, leg.child, leg.capture, leg.left = True, None, None, b""
            return
        self._tell(leg, capture.exited(status))
        leg.over = True

    def _tell(self, leg: _Leg, items: Iterable[Item]) -> None:
        """Convert a leg's items to frames."""
        for item in items:
            if not self._requested:
                self._early.append((leg, item))
            elif isinstance(item, Converted):
                self._frames += self._callee.packets(leg.source, item.batch)
            elif isinstance(item, Source):
                self._opened += 1
                leg.source = self._opened
                awaited = sum(not other.source and not other.over for other in self._legs)
                source = dataclasses.replace(item, awaited=awaited)
                self._frames.append(self._callee.source(leg.source, source))
            elif isinstance(item, Stats):
                self._frames.append(self._callee.stats(leg.source, item))
            else:
                self._failures.append(item.message)
                awaited = sum(not other.source and not other.over for other in self._legs if other is not leg)
                self._frames.append(self._callee.notice(dataclasses.replace(item, awaited=awaited)))

    # --- all legs ---------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        """Start what can be started, give up what takes too long, and end when all have ended."""
        for leg in self._legs:
            if leg.child is None and not leg.over:
                self._try_to_start(leg, now)
            elif leg.capture is not None and not leg.over:
                self._drive(leg, leg.capture, now)
        if not self._requested:
            return
        states = [leg.state for leg in self._legs]
        if not self._gone and states and all(state in (State.READY, State.ENDED) for state in states):
            self._gone = True
            for leg in self._legs:
                if leg.capture is not None and not leg.over:
                    leg.capture.go(now)
                    self._drive(leg, leg.capture, now)
        if states and all(leg.over for leg in self._legs) and not self._callee.ended:
            self._frames.append(self._callee.end(self._end()))

    def _try_to_start(self, leg: _Leg, now: float) -> None:
        if leg.first is not None:
            leg.over = leg.first.over and not leg.first.authenticated
            if not leg.first.authenticated:
                return
        connecting = sum(
            other is not leg and other.child is not None and other.state is State.CONNECTING
            for other in self._legs
        )
        if connecting >= (1 if leg.ask else AT_ONCE):  # one question after the other
            return
        if leg.ask and self._questions is not None:
            self._questions.tell(f"{leg.host.name}: ssh may ask you now")
        host, request = leg.host, self._request
        leg.capture = FarCapture(
            *(host.name, leg.device, request, now),
            include_ssh=self._include_ssh,
            ports=host.ports,
            check=host.check,
            patient=leg.ask,
            remedies=host.remedies,
        )
        line = command(
            leg.device,
            request.snaplen,
            request.filter if self._include_ssh else effective_filter(request.filter, *host.ports),
            include_ssh=self._include_ssh or bool(host.ports),
            tool=host.tool,
        )
        leg.child = Child([*leg.words(), line])
        leg.child.watch(self._poll)

    def _drive(self, leg: _Leg, capture: FarCapture, now: float) -> None:
        """Send what there is to send, and check the limits of time."""
        child = leg.child
        if child is None:
            return
        capture.tick(now)
        if capture.asks:
            self._asked += 1
            leg.left += capture.ask(str(self._asked), _now_us())
        leg.left += capture.to_send
        capture.to_send = b""
        leg.left = child.write(leg.left)
        if capture.abandoned:
            if leg.given_up_at is None:
                leg.given_up_at = now
                child.hang_up()
                if capture.state is State.CONNECTING:  # no far side needs time to end
                    child.terminate()
            elif now - leg.given_up_at >= _GRACE:
                child.kill()

    def _end(self) -> End:
        if self._opened:
            reason = EndReason.STOPPED if self._stopping else EndReason.SOURCES_GONE
            return End(reason, "" if self._stopping else "no host is left")
        several = len(self._failures) != 1
        return End(EndReason.FAILED, "no host could be captured" if several else self._failures[0])


def _now_us() -> int:
    return time.time_ns() // 1000
