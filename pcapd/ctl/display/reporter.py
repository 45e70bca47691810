"""Reports on a running capture: as lines, as a live table, or as events for scripts."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Protocol

from pcapd.ctl.display import report, resuming, seentwice
from pcapd.ctl.display.terminal import Terminal, say
from pcapd.ctl.display.text import escape
from pcapd.ctl.explaining.explainer import Explained
from pcapd.ctl.options import STDOUT, CaptureOptions, CaptureTarget
from pcapd.ctl.sinks import reportfile
from pcapd.ctl.sinks.opening import Sinks
from pcapd.ctl.stream.session import CaptureSession, Outcome
from pcapd.errors import PcapdError
from pcapd.limits import NAME_MAX, REPORT_NOTICE_MAX, REPORT_NOTICES_MAX
from pcapd.wire import Notice, NoticeType

if TYPE_CHECKING:
    from pcapd.ctl.display.live import Live

__all__ = ["Frontend", "Reporter", "can_redraw"]

_EVENT_INTERVAL = 1.0
_STOP_SHOW_AFTER = 1.0
_STOP_SHOW_AGAIN = 5.0
_EXPLAIN_SHOW_AFTER = 1.0
_MINUTE = 60.0
_TOGETHER = 1.0  # seconds; failures of several instances within this time are reported in one line


class Frontend(Protocol):
    """Shows a capture in place of the terminal, for example in Wireshark."""

    def line(self, message: str, *, important: bool) -> None:
        """Show a line of text."""
        ...

    def turn(self, capture: CaptureSession, now: float, findings: str = "") -> None:
        """Called in each turn of the loop; may show the progress, or stop the capture.

        Args:
            findings: The number of findings so far, as text; empty without ``--explain``.
        """
        ...

    def ended(self, capture: CaptureSession) -> None:
        """Called at the end, when everything has been written."""
        ...

    def failed(self, capture: CaptureSession) -> bool:
        """Whether the capture counts as failed."""
        ...


class Reporter:
    """Reports on the capture: plain lines, a live table, or JSON lines.

    Args:
        options: The options of the capture.
        frontend: Shows the lines in place of the terminal; None for the terminal.
    """

    def __init__(self, options: CaptureOptions, frontend: Optional[Frontend] = None) -> None:
        self._options = options
        self._frontend = frontend
        self._events = sys.stderr if options.output == STDOUT else sys.stdout
        self._said_at = 0.0
        self._minutes = 0
        self._started = self._limits_shown = False
        self._target: Optional[CaptureTarget] = None
        # Instances whose failure is not reported yet, by message.
        self._failed: Dict[str, List[str]] = {}
        self._failed_at: Optional[float] = None
        #: The first notices, for the report; later ones are only counted in `_notices_omitted`.
        self._notices: List[Notice] = []
        self._notices_omitted = 0
        self._opened = 0
        self._stop_shown = False
        self._stop_shown_at = 0.0
        self._detached = False
        self._terminal = Terminal(sys.stderr) if sys.stderr.isatty() else None
        self._table: Optional[Live] = None
        # No table if --print, or a program that reads the packets from a pipe, may use the terminal too.
        alone = options.output != STDOUT and not (options.quiet or options.json or options.files.print)
        if self._terminal is not None and alone and can_redraw(os.environ):
            # Importing rich is slow.
            from pcapd.ctl.display.live import Live  # noqa: PLC0415

            self._table = Live(self._terminal, sys.stderr, options)

    def line(self, text: str, *, important: bool = False) -> None:
        """Show a line of text; with --quiet only if it is important."""
        if self._frontend is not None:
            self._frontend.line(text, important=important)
        elif not self._options.json and (important or not self._options.quiet):
            if self._terminal is not None:
                self._terminal.line(text)
            else:
                say(text, sys.stderr)

    def event(self, kind: str, **facts: Any) -> None:
        """Print an event as JSON."""
        if self._options.json:
            # If the reader of the events has exited, the capture continues.
            say(json.dumps({"event": kind, **facts}), self._events)

    def notice(self, notice: Notice) -> None:
        """Show a notice, and keep it for the report."""
        if len(self._notices) < REPORT_NOTICES_MAX:
            message = notice.message[:REPORT_NOTICE_MAX]
            self._notices.append(
                dataclasses.replace(notice, message=message, origin=notice.origin[:NAME_MAX])
            )
        else:
            self._notices_omitted += 1
        self.event("notice", **report.notice_as_dict(notice))
        if notice.type is NoticeType.START_CAPTURE_FAILED:
            if len(self._failed) >= REPORT_NOTICES_MAX:
                self._say_failed()
            self._failed.setdefault(notice.message, []).append(notice.origin)
        else:
            self.line(f"{escape(notice.origin)}: {escape(notice.message)}", important=True)

    def _say_failed(self, error: Optional[PcapdError] = None) -> None:
        """Show one line for each message of failed instances, except the message of `error`."""
        failed, self._failed = self._failed, {}
        for message, origins in failed.items():
            if error is None or str(error) != message:
                self.line(report.failed_line(origins, message), important=True)

    def noticed(self) -> Dict[str, Any]:
        """The notices, for the report."""
        notices = [report.notice_as_dict(notice) for notice in self._notices]
        return {"notices": notices, "notices_omitted": self._notices_omitted}

    def plan(self, target: CaptureTarget) -> None:
        """Describe the capture before it starts, if there is a table or with --verbose."""
        self._target = target
        if self._table is not None or self._options.verbose:
            for text in report.plan(self._options, target):
                self.line(text)

    def turn(self, capture: CaptureSession, sinks: Sinks, now: float, *, asked: bool) -> None:
        """Report the events since the previous turn.

        Args:
            asked: Whether the user requested the end.
        """
        self.opened(capture)
        for notice in capture.notices:
            self.notice(notice)
        capture.notices.clear()
        self.sinks(sinks)
        self.stopping(capture, now, asked=asked)
        self.progress(capture, sinks, now)

    def opened(self, capture: CaptureSession) -> None:
        """Report the start, and with --verbose all newly opened sources."""
        self._limits(capture)
        accounts = capture.muxer.accounts
        if accounts and not self._started:
            self._started = True
            if self._table is None and self._target is not None:
                self.line(report.start_line(self._options, self._target))
        if self._options.verbose and len(accounts) > self._opened:
            # In the order in which they were opened.
            for account in list(accounts.values())[self._opened :]:
                self.line(report.opened_line(account.source))
            self._opened = len(accounts)

    def _limits(self, capture: CaptureSession) -> None:
        """Report the limits of the api when they are known."""
        limits = capture.limits
        if limits is None or self._limits_shown:
            return
        self._limits_shown = True
        self.event("limits", seconds=limits.duration, bytes=limits.max_bytes)
        sooner = report.sooner_lines(self._options, limits)
        for text in sooner:
            self.line(f"warning: {text}", important=True)
            self.event("warning", message=text)
        if not sooner:
            self.line(report.limits_line(limits))

    def serving(self, sinks: Sinks) -> None:
        """Report the address at which readers can connect."""
        server = sinks.server
        if server is not None:
            if not server.loopback:
                text = f"anyone who can reach {server.address} can read the packets: there is no password"
                self.line(f"warning: {text}", important=True)
                self.event("warning", message=text)
            self.line(f"readers can connect to {server.address}, for example: tshark -i TCP@{server.address}")
            self.event("serving", address=server.address)

    def sinks(self, sinks: Sinks) -> None:
        """Report files that were finished or deleted, and readers that connected or left."""
        server, inventory = sinks.server, sinks.inventory
        for news in server.news if server is not None else ():
            self.line(f"{news.reader} {news.state}: {news.message}", important=news.state == "cut off")
            self.event("reader", state=news.state, reader=news.reader, message=news.message)
        if server is not None:
            server.news.clear()
        for state, written in inventory.news if inventory.several else ():
            if self._options.verbose:
                self.line(f"{written.name} {state}, {written.packets} packets")
            self.event("file", state=state, **report.file_facts(written))
        inventory.news.clear()

    def stopping(self, capture: CaptureSession, now: float, *, asked: bool) -> None:
        """Report what a stopping capture is waiting for.

        If the user requested the stop, this is shown immediately, else after a while: always
        in the table; without a table, in one line.
        """
        again = self._detached and now - self._stop_shown_at >= _STOP_SHOW_AGAIN
        waiting = None if self._stop_shown and not again else capture.waiting(now)
        if waiting is None or not (asked or waiting.seconds >= _STOP_SHOW_AFTER):
            return
        if self._table is not None and not self._table.hidden:
            return
        self._stop_shown, self._stop_shown_at = True, now
        parts = report.waiting_parts(waiting)
        if self._detached:
            # pcapctl is in the background now, and does not receive Ctrl-C.
            parts[-1] = f"kill {os.getpid()} leaves at once"
        self.line(f"stopping: {escape(capture.reason)}; {'; '.join(parts)}")
        facts = {"waiting_for": waiting.names, "seconds_left": round(waiting.left, 1)}
        self.event("stopping", reason=capture.reason, **facts)

    def progress(self, capture: CaptureSession, sinks: Sinks, now: float) -> None:
        """Called in each turn of the loop: draw the table, call the frontend, print events."""
        explainer = sinks.explainer
        findings = explainer.text if explainer is not None else ""
        if self._table is not None:
            self._table.show(capture, sinks.inventory.size, now, findings)
        if self._frontend is not None:
            self._frontend.turn(capture, now, findings)
        if not self._failed:
            self._failed_at = None
        elif self._failed_at is None:
            self._failed_at = now
        elif now - self._failed_at >= _TOGETHER:
            self._say_failed()
        if self._terminal is None and self._frontend is None and capture.started is not None:
            minutes = int((now - capture.started) / _MINUTE)
            if minutes > self._minutes:
                self._minutes = minutes
                self.line(report.minute_line(capture, sinks.inventory.size, minutes))
        if self._options.json and now - self._said_at >= _EVENT_INTERVAL:
            self._said_at = now
            accounts = capture.muxer.accounts.values()
            found = {"findings": explainer.counts} if explainer is not None else {}
            self.event("progress", sources=[_brief(account) for account in accounts], **found)

    def detach(self) -> None:
        """Stop drawing the table, because the shell uses the terminal again."""
        if not self._detached:
            self._detached = True
            self._table = None
            if self._terminal is not None:
                self._terminal.leave()

    def conclude(
        self,
        capture: CaptureSession,
        sinks: Sinks,
        target: CaptureTarget,
        seconds: float,
        presses: Callable[[], int],
    ) -> int:
        """Show the result, write the report, and return the exit status.

        Args:
            seconds: Duration of the capture.
            presses: Returns how often the user has asked for the end.
        """
        went = report.as_dict(capture, sinks, seconds)
        about = {**reportfile.facts(self._options, target), **went}
        explained = self._explained(capture, sinks, presses)
        if explained is not None:
            about.update(explain=explained.facts, explain_skipped=explained.skipped)
        problem: Optional[reportfile.ReportFailed] = None
        try:
            # Written first, because the next steps may wait for a terminal or a pipe.
            reportfile.write(self._options, {**about, **self.noticed()})
        except reportfile.ReportFailed as error:
            problem = error
            went["exit_status"] = Outcome.FAILED.value
            self.event("warning", message=str(problem))
        self.sinks(sinks)
        self._say_failed(capture.error)
        if capture.started is not None:
            text = report.as_text(capture, sinks, seconds, self._options)
            for line in [*text, *seentwice.lines(capture, sinks)]:
                self.line(line)
        if explained is not None:
            self._explain(explained)
        self.event("end", **went)
        if self._frontend is not None:
            self._frontend.ended(capture)
        elif capture.error is not None:
            self.line(f"pcapctl: {escape(str(capture.error))}", important=True)
        elif capture.outcome is Outcome.INCOMPLETE:
            self.line(
                "pcapctl: the file is valid, but packets are missing from it: see above", important=True
            )
        if self._frontend is None:
            for line in resuming.lines(capture, self._options):
                self.line(line, important=bool(capture.recording))
        if problem is not None:
            self.line(f"pcapctl: {escape(str(problem))}", important=True)
        self._close()
        return int(went["exit_status"] if self._frontend is None else self._frontend.failed(capture))

    def _explained(
        self, capture: CaptureSession, sinks: Sinks, presses: Callable[[], int]
    ) -> Optional[Explained]:
        """The findings; a further Ctrl-C ends the wait for them."""
        explainer = sinks.explainer
        if explainer is None:
            return None
        if capture.started is None or capture.reason == "interrupted twice":
            explainer.discard()
            return Explained()
        before, told = presses(), False

        def go_on(waited: float) -> bool:
            nonlocal told
            if waited > _EXPLAIN_SHOW_AFTER and not told:
                told = True
                self.line("explaining the capture; Ctrl-C leaves this out")
            return presses() == before

        names = [written.name for written in sinks.inventory.kept if written.packets]
        return explainer.result(names, go_on, failed=capture.outcome is Outcome.FAILED)

    def _explain(self, explained: Explained) -> None:
        """Show the findings about the traffic."""
        if explained.problem:
            self.line(f"pcapctl: {escape(explained.problem)}", important=True)
        for line in explained.lines:
            self.line(line)
        if explained.facts is not None:
            self.event("explanation", **explained.facts)

    def _close(self) -> None:
        """Wait until the terminal has received all lines, but not for ever."""
        if self._detached:
            self.line("")
        if self._terminal is not None:
            self._terminal.close()


def can_redraw(environ: Mapping[str, str]) -> bool:
    """Whether the terminal can move its cursor, according to TERM."""
    return environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def _brief(account: Any) -> Dict[str, Any]:
    return {
        "name": account.name,
        "packets": account.received,
        "bytes": account.bytes,
        "dropped": sum(account.known) if account.traced else None,
        "drops": account.drops._asdict(),
    }
