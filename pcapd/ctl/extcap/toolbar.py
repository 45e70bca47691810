"""Wireshark during a capture: its toolbar over two pipes, its error dialog by stderr.

Nothing here waits: what the toolbar does not accept is delayed or left out.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from typing import List, Optional

from pcapd.ctl.display.progress import DROPS
from pcapd.ctl.display.report import source_line
from pcapd.ctl.display.terminal import say
from pcapd.ctl.display.text import escape
from pcapd.ctl.extcap.configuration import Control
from pcapd.ctl.extcap.control import Controls, Kind, Message, encode, text
from pcapd.ctl.sinks.output import ReaderLeft
from pcapd.ctl.stopping import Parent
from pcapd.ctl.stream.session import CaptureSession, Outcome
from pcapd.errors import PcapdError
from pcapd.limits import TOOLBAR_TIMEOUT
from pcapd.merge.muxer import Account

__all__ = ["Toolbar", "Wireshark", "has_reader"]

_INTERVAL = 1.0  # seconds between two updates of the counters
#: bytes; Wireshark reads stderr after we have exited, so it must fit into a pipe.
_STDERR_MAX = 16 * 1024
#: bytes that may wait for the toolbar.
_BACKLOG_MAX = 64 * 1024
_READ = 64 * 1024
_LOOK = 0.02  # seconds between two checks of the pipe


def has_reader(fd: int) -> bool:
    """Whether the pipe that we write to still has a reader."""
    poll = select.poll()
    poll.register(fd, 0)
    return not any(events & (select.POLLERR | select.POLLNVAL) for _, events in poll.poll(0))


class Toolbar:
    """The two pipes of the toolbar, either of which may be missing.

    Args:
        incoming: Path of the pipe on which Wireshark reports pressed buttons.
        outgoing: Path of the pipe for the content of the toolbar.
    """

    def __init__(self, incoming: str, outgoing: str) -> None:
        self._controls = Controls()
        self._outgoing = outgoing
        self._pending = b""
        self._in: Optional[int] = None
        self._out: Optional[int] = None
        #: Whether Wireshark has opened its end of the pipe and reported it.
        self._initialized = False
        if incoming:
            with contextlib.suppress(OSError):
                self._in = os.open(incoming, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def receive(self) -> List[Message]:
        """The messages received since the last call."""
        if self._in is None:
            return []
        try:
            messages = self._controls.receive(os.read(self._in, _READ))
            self._initialized |= any(one.kind == Kind.INITIALIZED for one in messages)
            return messages
        except BlockingIOError:
            return []
        except (OSError, PcapdError):
            # Continue the capture without the toolbar.
            os.close(self._in)
            self._in = None
            return []

    def await_window(self, parent: Parent) -> None:
        """Wait until Wireshark has opened the pipe on which it reports pressed buttons.

        Its window blocks while it opens that pipe, and reads our messages only afterwards.
        The wait ends when Wireshark (`parent`) exits, and at the latest after `TOOLBAR_TIMEOUT`.
        """
        until = time.monotonic() + TOOLBAR_TIMEOUT
        while self._in is not None and not self._initialized and time.monotonic() < until:
            if parent.look():
                return
            self.receive()
            time.sleep(_LOOK)
        self.flush()

    def log(self, message: str) -> None:
        """Add a line to the toolbar's log."""
        self.send(text(Control.LOG, Kind.ADD, f"{message}\n"))

    @property
    def idle(self) -> bool:
        """Whether everything has been sent."""
        return not self._pending

    def send(self, *messages: Message) -> None:
        """Send messages; those that do not fit are left out."""
        for message in messages:
            data = encode(message)
            if self._outgoing and len(self._pending) + len(data) <= _BACKLOG_MAX:
                self._pending += data
        self.flush()

    def flush(self) -> None:
        """Write as much as the pipe accepts now."""
        try:
            if self._out is None and self._pending:
                # Fails until Wireshark has opened its end.
                self._out = os.open(self._outgoing, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            while self._pending and self._out is not None:
                self._pending = self._pending[os.write(self._out, self._pending) :]
        except BrokenPipeError:
            self._outgoing, self._pending = "", b""
        except OSError:
            pass


class Wireshark:
    """Wireshark as the frontend of a capture: see `pcapd.ctl.display.reporter.Frontend`.

    Args:
        packets: Descriptor of the pipe for the packets.
        toolbar: The toolbar's pipes.
    """

    def __init__(self, packets: int, toolbar: Toolbar) -> None:
        self._packets = packets
        self._toolbar = toolbar
        self._shown_at = 0.0
        self._shown = ("", "", "")
        self._findings = ""
        self._said = 0
        self._stopped = False

    def line(self, message: str, *, important: bool) -> None:
        """Show a line in the toolbar's log, and an important one in the dialog too."""
        self._toolbar.log(message)
        if important:
            self._toolbar.send(text(0, Kind.STATUS_BAR, message))
            self._dialog(message)

    def turn(self, capture: CaptureSession, now: float, findings: str = "") -> None:
        """Handle pressed buttons, and update the toolbar."""
        self._findings = findings.removeprefix("findings: ")  # the control's name
        if self._pressed():
            capture.stop("stopped in Wireshark", now)
        if not capture.output_over and not capture.over and not has_reader(self._packets):
            # Without packets, no write would notice this.
            capture.output_ended(ReaderLeft("Wireshark has closed the pipe"), now, failed=False)
        if now - self._shown_at >= _INTERVAL:
            self._shown_at = now
            self._show(capture)
        self._toolbar.flush()

    def looked(self, packets: int, now: float) -> bool:
        """Without a capture, as for a recording: update the toolbar, and return whether to stop.

        Args:
            packets: The number of packets until now.
            now: Seconds of a monotonic clock.
        """
        if now - self._shown_at >= _INTERVAL:
            self._shown_at = now
            self._toolbar.send(text(Control.PACKETS, Kind.SET, str(packets)))
        self._toolbar.flush()
        return self._pressed() or not has_reader(self._packets)

    def _pressed(self) -> bool:
        """Whether the button for the end of the capture has been pressed since the last call."""
        messages = self._toolbar.receive()
        pressed = any((one.control, one.kind) == (Control.STOP, Kind.SET) for one in messages)
        if pressed:
            self._stopped = True
            self._toolbar.send(Message(Control.STOP, Kind.DISABLE))
        return pressed

    def ended(self, capture: CaptureSession) -> None:
        """Show the error, unless Wireshark has closed the pipe."""
        self._show(capture)
        if not self.failed(capture):
            if capture.outcome is Outcome.INCOMPLETE and has_reader(self._packets):
                for account in capture.muxer.accounts.values():
                    if _dropped(account) or account.lost_in_transit != 0:
                        self._dialog(source_line(account))
        elif capture.error is not None:
            message = escape(str(capture.error))
            self._toolbar.log(message)
            self._dialog(f"pcapctl: {message}")

    def failed(self, capture: CaptureSession) -> bool:
        """Whether the capture failed; it has not if Wireshark ended it by closing the pipe."""
        return capture.outcome is Outcome.FAILED and not self._stopped and has_reader(self._packets)

    def _show(self, capture: CaptureSession) -> None:
        if not self._toolbar.idle:
            return
        accounts = list(capture.muxer.accounts.values())
        drops = [(drop.place, sum(map(drop.count, accounts))) for drop in DROPS]
        parts = [f"{place} {count}" for place, count in drops if count]
        if not all(account.traced for account in accounts):
            parts.append("more unknown" if parts else "unknown")
        dropped = ", ".join(parts) or "0"
        shown = (str(sum(account.received for account in accounts)), dropped, self._findings)
        controls = (Control.PACKETS, Control.DROPPED, Control.FINDINGS)
        for control, new, old in zip(controls, shown, self._shown):
            if new != old:
                self._toolbar.send(text(control, Kind.SET, new))
        self._shown = shown

    def _dialog(self, message: str) -> None:
        data = f"{message}\n"
        if self._said + len(data.encode("utf-8", "replace")) <= _STDERR_MAX:
            self._said += len(data.encode("utf-8", "replace"))
            say(message, sys.stderr)


def _dropped(account: Account) -> int:
    return sum(drop.count(account) for drop in DROPS)
