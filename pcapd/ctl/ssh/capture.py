"""One interface of one host: from what ssh delivers to messages.  No I/O, no clock.

Times are seconds of a monotonic clock, or microseconds since the epoch where the name says so.
"""

from __future__ import annotations

import dataclasses
import re
from enum import Enum, auto
from typing import Final, Iterator, Optional, Tuple, Union

from pcapd.ctl.ssh.farside import MARK, effective_filter
from pcapd.ctl.ssh.said import KEY_CHANGED, PROBLEMS, Counters, Said, Stderr, clock_us, problem_of
from pcapd.limits import SNAPLEN_MAX
from pcapd.records import Converted
from pcapd.savefile.blocks import BadFile
from pcapd.savefile.stream import PcapStream
from pcapd.wire import Notice, NoticeType, Request, Source, Stats
from pcapd.wire.requests import check_name

__all__ = ["CONNECT_TIMEOUT", "STOP_LIMIT", "STOP_TIMEOUT", "FarCapture", "Item", "State"]

#: Seconds from the start of ssh to the first line of the far side, if nobody is asked for a password.
CONNECT_TIMEOUT: Final = 30.0
#: Seconds from one step of the start to the next.
_STEP_TIMEOUT: Final = 20.0
#: Seconds without a line from the far side after which the connection is lost.
_SILENCE_TIMEOUT: Final = 30.0
#: Seconds from a stop to the moment when the program is told: after this time the kernel has handed over
#: every packet that it captured before the stop.  What is still in its ring then came later.
_RING_TIME: Final = 1.1
#: Seconds without packets, after which a stopping far side is abandoned; and seconds in all.
STOP_TIMEOUT: Final = 15.0
STOP_LIMIT: Final = 120.0
#: Questions for the time before the capture starts; the quickest answer tells the clock's offset.
_QUESTIONS: Final = 5
#: Microseconds by which the far side's time is ahead of the packets that tcpdump has written: the
#: kernel hands a block of its ring over after one second, and the machine may be busy.
_BEHIND_US: Final = 1_500_000
#: Bytes before the script's own line on stdout, at most: what the user's login files print.
_GREETING_MAX: Final = 1024 * 1024
_PORT = re.compile("[0-9]{1,5}")
_MARKED: Final = f"{MARK}\n".encode()

#: Parts of ssh's messages after which another attempt, which may ask the user, makes sense.
_ASKABLE: Final = ("Permission denied", "Host key verification failed", "passphrase")
_CF_PCAP: Final = "cf-pcap"
#: The shell's status of a program that was killed, and an explanation.
_SIGKILL: Final = 128 + 9
_KILLED: Final = "in a container, this may be its memory limit"


class State(Enum):
    """The state of one capture."""

    CONNECTING = auto()  #: ssh was started
    ASKING = auto()  #: the far side answers times
    READY = auto()  #: its clock is known; it waits for `FarCapture.go`
    STARTING = auto()  #: the program was started
    CAPTURING = auto()  #: its output has begun
    ENDED = auto()


#: A message for the session, or a batch of packets.
Item = Union[Source, Stats, Notice, Converted]


class FarCapture:
    """See the module.

    Args:
        host: The host's name: the instance of the source.
        device: The interface; empty for the one of the default route.
        request: What to capture.
        include_ssh: Whether the ssh server's port is captured too.
        ports: Ports of the ssh server; if there are none, the host tells its port.
        check: A command with which the user can check the connection, for hints.
        patient: Whether the user may be asked for a password, which takes any time.
        remedies: As in `pcapd.ctl.ssh.hosts.Host`.
        now: The present time.

    Attributes:
        state: See `State`.
        device: Name of the interface, once it is known.
        authenticated: Whether the far side has ever said anything.
        to_send: Bytes to write to ssh's stdin.
        abandoned: Whether ssh should be killed.
    """

    def __init__(
        self,
        host: str,
        device: str,
        request: Request,
        now: float,
        *,
        include_ssh: bool = False,
        ports: Tuple[int, ...] = (),
        check: str = "",
        patient: bool = False,
        remedies: Tuple[Tuple[str, str], ...] = (),
    ) -> None:
        self.host = host
        self.device = device
        self.state = State.CONNECTING
        self.authenticated = False
        self.to_send = b""
        self.abandoned = False
        self._request = request
        self._include_ssh = include_ssh
        self._ports: Tuple[Optional[int], ...] = ports
        self._check = check or f"ssh {host} true"
        self._patient = patient
        self._remedies = remedies
        self._stream = PcapStream(headers_only=request.headers_only)
        self._stderr = Stderr()
        self._greeting: Optional[bytes] = b""  # the end of the greeting; None once it is over
        self._greeted = 0  # bytes of it
        self._moved = self._heard = now
        self._stopped: Optional[float] = None
        self._stop_at: Optional[float] = None  # when the program will be told
        self._asked = "", 0  # the question that is not answered yet, and when it was sent
        self._clock: Optional[Tuple[int, int]] = None  # offset and error, microseconds
        self._answers = 0
        self._tool = ""
        self._signals = False  # whether the program prints its counters when it gets SIGUSR1
        self._said_end = False
        self._status: Optional[int] = None  # of the program, as the shell reports it
        self._newest_us = 0
        self._problem: Optional[Tuple[str, str]] = None

    # --- input --------------------------------------------------------------

    def stderr(self, data: bytes, now: float, now_us: int) -> Iterator[Item]:
        """Handle bytes from stderr; empty at its end."""
        self._heard = now
        for said in self._stderr.feed(data) if data else self._stderr.finish():
            yield from self._said(said, now, now_us)
        if self.state is State.CAPTURING and self._stderr.counters is not None and not self._said_end:
            yield self._counted(self._stderr.counters, self._newest_us)

    def stdout(self, data: memoryview, now: float) -> Iterator[Item]:
        """Handle bytes from stdout; they must not change until the iterator has ended."""
        if self._greeting is not None:
            data = self._skip_greeting(data)
        if self._greeting is not None:
            return
        if self.state in (State.CONNECTING, State.ASKING, State.READY):
            self._fail("the host sent packets before the capture began")
            return
        self._moved = now
        try:
            for made in self._stream.feed(data):
                self._newest_us = max(self._newest_us, made.checked.latest_us)
                yield from self._opened(now)
                yield made
            yield from self._opened(now)
        except BadFile as error:
            self._fail(f"what arrived is not a capture: {error.message}", error.hint)

    def ask(self, id: str, now_us: int) -> bytes:
        """Return a question for the far side's time, which measures its clock.

        Args:
            id: A text without spaces that the answer repeats.
            now_us: The time at which the question is sent.
        """
        self._asked = id, now_us
        return f"t {id}\n".encode()

    @property
    def heartbeat(self) -> bytes:
        """What to write to ssh's stdin once a second; may be read in any thread."""
        return b"t -\nu\n" if self._signals and self.state is State.CAPTURING else b"t -\n"

    def go(self, now: float) -> None:
        """Start to capture; called once, in state READY."""
        if self.abandoned:
            return
        self.state = State.STARTING
        self._moved = now
        self.to_send += b"go\n"

    def stop(self, now: float) -> None:
        """Stop to capture; what was captured still arrives."""
        if self._stopped is not None or self.state is State.ENDED:
            return
        self._stopped = self._moved = now
        if self.state in (State.STARTING, State.CAPTURING):
            self._stop_at = now + _RING_TIME
        else:
            self.abandoned = True

    def tick(self, now: float) -> None:
        """Check the limits of time."""
        waited = now - self._moved
        if self._stop_at is not None and now >= self._stop_at:
            self._stop_at = None
            self.to_send += b"stop\n"
        if self._stopped is not None:
            if waited >= STOP_TIMEOUT or now - self._stopped >= STOP_LIMIT:
                self._fail("the host did not end the capture in time")
        elif self.state is State.CONNECTING:
            if not self._patient and waited >= CONNECT_TIMEOUT:
                self._fail(f"no answer within {CONNECT_TIMEOUT:g} s", f"check: {self._check}")
        elif self.state in (State.ASKING, State.STARTING):
            if waited >= _STEP_TIMEOUT:
                self._fail(f"the capture did not start within {_STEP_TIMEOUT:g} s")
        elif now - self._heard >= _SILENCE_TIMEOUT:
            self._fail(f"nothing was heard for {_SILENCE_TIMEOUT:g} s")

    def exited(self, status: int) -> Iterator[Item]:
        """ssh has ended, and all its output was handled.

        Args:
            status: Its exit status; negative for a signal.
        """
        if self.state is State.CAPTURING:
            yield from self._concluded(status)
        elif self.state is not State.ENDED and self._stopped is None:
            message, hint = self._reason(status)
            text = f"{message} ({hint})" if hint else message
            yield Notice(NoticeType.START_CAPTURE_FAILED, text, self.host)
        self.state = State.ENDED

    # --- what the far side says ------------------------------------------------

    def _said(self, said: Said, now: float, now_us: int) -> Iterator[Item]:
        word, rest = said
        if word == "hello" and rest and not self.authenticated:
            self.authenticated = True
            self._moved = now
            port = int(rest[0]) if _PORT.fullmatch(rest[0]) is not None else None
            self._ports = self._ports or (port,)
        elif word == "tool" and len(rest) == 5:
            self._found(*rest, now=now)
        elif word == "time" and len(rest) == 2:
            yield from self._timed(*rest, now=now, now_us=now_us)
        elif word == "end":
            self._said_end = True
            self._status = int(rest[0]) if rest and rest[0].isdecimal() and len(rest[0]) < 4 else None
        elif word in PROBLEMS:
            self._problem = PROBLEMS[word]

    def _found(self, how: str, system: str, tool: str, version: str, device: str, *, now: float) -> None:
        if self.state is not State.CONNECTING:
            return
        self.device = self.device or device
        try:
            check_name(self.device)
        except ValueError as error:
            self._fail(f"the host says that the interface is {self.device[:20]!r}: {error}")
            return
        self.state = State.ASKING
        self._moved = now
        self._tool = tool.rpartition("/")[2]
        # When the signal comes, an older tcpdump may write a packet in part.
        modern = [int(part) for part in version.split(".")[:2] if part.isdecimal()] >= [4, 99]
        self._signals = self._tool == "tcpdump" and modern and system == "Linux" and how != "terminal"

    def _timed(self, id: str, text: str, *, now: float, now_us: int) -> Iterator[Item]:
        there_us, fine = clock_us(text)
        if there_us is None:
            return
        asked, sent_us = self._asked
        if self.state is State.ASKING and id == asked:
            self._asked = "", 0
            self._moved = now
            error_us = (now_us - sent_us) // 2 + 1
            if fine and error_us >= 0 and (self._clock is None or error_us < self._clock[1]):
                self._clock = there_us - (now_us + sent_us) // 2, error_us
            self._answers += 1
            if self._answers >= _QUESTIONS:
                self.state = State.READY
        elif self.state is State.CAPTURING and self._stopped is None:
            yield self._counted(self._stderr.counters, there_us - _BEHIND_US)

    @property
    def asks(self) -> bool:
        """Whether the next question for the time is due."""
        return self.state is State.ASKING and not self._asked[0]

    # --- packets -----------------------------------------------------------------

    def _skip_greeting(self, data: memoryview) -> memoryview:
        assert self._greeting is not None
        greeting = self._greeting + bytes(data)
        place = greeting.find(_MARKED)
        if place >= 0:
            self._greeting = None
            return memoryview(greeting)[place + len(_MARKED) :]
        self._greeting = greeting[1 - len(_MARKED) :]
        self._greeted += len(data)
        if self._greeted >= _GREETING_MAX:
            self._fail(
                f"{_GREETING_MAX} bytes and more came before the capture", f"see: ssh {self.host} true"
            )
        return memoryview(b"")

    def _opened(self, now: float) -> Iterator[Item]:
        header = self._stream.header
        if self.state is not State.STARTING or header is None:
            return
        self.state = State.CAPTURING
        self._heard = now
        offset_us, error_us = self._clock or (None, None)
        yield Source(
            instance=self.host,
            interface=self.device,
            link_type=header.link_type,
            snaplen=min(header.snaplen or SNAPLEN_MAX, SNAPLEN_MAX),
            filter=self._effective_filter(),
            clock_offset_us=offset_us,
            clock_error_us=error_us,
            headers_only=self._request.headers_only,
        )
        # Until there are counters, what was dropped is unknown.
        yield self._counted(self._stderr.counters, 0)

    def _effective_filter(self) -> str:
        ports = () if self._include_ssh else self._ports
        return effective_filter(self._request.filter, *ports)

    # --- counters ------------------------------------------------------------------

    def _counted(self, counters: Optional[Counters], up_to_us: int, *, final: bool = False) -> Stats:
        """Statistics with these counters, or without any.

        Packets that are left in the ring when the program stops came after the stop (see
        `_RING_TIME`): so the filter has accepted what was captured and what was dropped.  The same
        is true for one packet that the program has counted, but was writing when it was told.
        """
        arrived = self._stream.packets
        at_us = self._newest_us or None
        up_to_us = max(0, up_to_us)
        if counters is None:
            return Stats(arrived, 0, 0, arrived, up_to_us, final=final, at_us=at_us, counted=False)
        captured, kernel, interface = counters
        if self._stopped is not None and captured == arrived + 1:
            captured = arrived
        delivered = max(captured, arrived) if final else arrived
        return Stats(delivered + kernel, kernel, interface, delivered, up_to_us, final=final, at_us=at_us)

    def _concluded(self, status: int) -> Iterator[Item]:
        """The last counters, and why the capture ended, unless it was stopped."""
        counters, complete = self._stderr.counters, self._said_end and self._problem is None
        stats = self._counted(counters, self._newest_us, final=True)
        message, hint = self._reason(status)
        text = f"{message} ({hint})" if hint else message
        if not complete or (counters is None and self._tool != _CF_PCAP):
            yield dataclasses.replace(stats, exact=False)
            yield Notice(NoticeType.CONNECTION_ERROR, f"the capture was cut off: {text}", self.host)
            return
        yield stats
        if self._stopped is None:
            yield Notice(NoticeType.INSTANCE_UNAVAILABLE, f"the capture ended: {text}", self.host)

    def _fail(self, message: str, hint: str = "") -> None:
        """Give up this host: ssh will be killed, and `exited` reports why."""
        if self._problem is None:
            self._problem = message, hint
        self.abandoned = True

    @property
    def may_ask(self) -> bool:
        """Whether ssh failed because it needs an answer from the user.

        Nobody is asked about a host key that has changed.
        """
        return not self._stderr.key_changed and any(
            part in line for part in _ASKABLE for line in self._stderr.kept
        )

    def _reason(self, status: int) -> Tuple[str, str]:
        """Why the far side has ended, and a remedy."""
        if self._problem is None and self._stderr.key_changed and not self.authenticated:
            hint = dict(self._remedies).get(KEY_CHANGED) or f"see: {self._check}"
            self._problem = "the key of this host has changed, or another machine answers", hint
        if self._problem is not None:
            return self._problem
        if self._status == _SIGKILL:
            return f"{self._tool} was killed", _KILLED
        message, hint = problem_of(self._check, self._stderr.kept, self._remedies)
        if message:
            return message, hint
        if not self.authenticated:
            return f"ssh ended with status {status}", f"check: {self._check}"
        if self._status is None:
            return "the connection ended", ""
        return f"{self._tool} ended with status {self._status}", ""
