"""The loop: socket → capture → output, until it is over.  Blocking, one thread.

A stop (`pcapd.ctl.stopping`) ends the capture in good order, and the second Ctrl-C
leaves at once, also out of a write that a stuck reader blocks.  When the output is
slow we do not read, the api's send buffer fills, and the pressure goes up the chain
to the kernels that capture, which drop and count.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import select
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Protocol, Type, Union

from pcapd.analysis.report import as_dict
from pcapd.ctl import report, reportfile
from pcapd.ctl.capture import Capture, Outcome
from pcapd.ctl.connection import Connection
from pcapd.ctl.explain import as_lines, explain
from pcapd.ctl.fileoptions import FileOptions
from pcapd.ctl.options import STDOUT, Access, CaptureOptions, Wanted
from pcapd.ctl.outlets import Outlets
from pcapd.ctl.output import OutputError
from pcapd.ctl.stopping import LeaveNow, Parent, Stops
from pcapd.ctl.terminal import Terminal, say
from pcapd.ctl.text import escape
from pcapd.errors import PcapdError
from pcapd.limits import NAME_MAX, REPORT_NOTICE_MAX, REPORT_NOTICES_MAX
from pcapd.merge.matching import PacketIds
from pcapd.merge.muxer import UNLIMITED, Muxer
from pcapd.merge.split import Split
from pcapd.records import keep_memory
from pcapd.wire import Notice

if TYPE_CHECKING:
    from pcapd.ctl.live import Live

__all__ = ["Front", "run"]

_TURN = 0.05  # seconds between looks at the clock while packets are held back
_IDLE_TURN = 0.25
_STATISTICS_INTERVAL = 5.0
_EVENT_INTERVAL = 1.0
_STOP_TELL_AFTER = 1.0


class Front(Protocol):
    """Who stands in front of the capture instead of a terminal, such as Wireshark."""

    def line(self, words: str, *, important: bool) -> None:
        """A line for people."""
        ...

    def turn(self, capture: Capture, now: float) -> None:
        """The loop went round: show it, or stop it."""
        ...

    def ended(self, capture: Capture) -> None:
        """It is over, and everything is written that could be."""
        ...

    def failed(self, capture: Capture) -> bool:
        """Whether that is a failure."""
        ...


class _Speaker:
    """Tells the user what happens: plain lines, a live table, or JSON lines."""

    def __init__(self, options: CaptureOptions, front: Optional[Front] = None) -> None:
        self._options = options
        self.front = front
        self._events = sys.stderr if options.output == STDOUT else sys.stdout
        self._said_at = 0.0
        #: Those that came, for the report, and how many more.
        self._notices: List[Notice] = []
        self._notices_omitted = 0
        self._opened = 0
        self._stop_told = False
        self._terminal = Terminal(sys.stderr) if sys.stderr.isatty() else None
        self._table: Optional[Live] = None
        # Whoever reads the packets from a pipe may write to the same terminal, and so do printed packets.
        alone = options.output != STDOUT and not (options.quiet or options.json or options.files.print)
        if self._terminal is not None and alone and can_redraw(os.environ):
            # rich takes a while to import.
            from pcapd.ctl.live import Live  # noqa: PLC0415

            self._table = Live(self._terminal, sys.stderr, options)

    def line(self, text: str, *, important: bool = False) -> None:
        """A line for people; when quiet, only an important one."""
        if self.front is not None:
            self.front.line(text, important=important)
        elif not self._options.json and (important or not self._options.quiet):
            if self._terminal is not None:
                self._terminal.line(text)
            else:
                say(text, sys.stderr)

    def event(self, kind: str, **facts: Any) -> None:
        """A line for scripts."""
        if self._options.json:
            # When nobody reads the events any more, the packets still count.
            say(json.dumps({"event": kind, **facts}), self._events)

    def notice(self, notice: Notice) -> None:
        if len(self._notices) < REPORT_NOTICES_MAX:
            message = notice.message[:REPORT_NOTICE_MAX]
            self._notices.append(
                dataclasses.replace(notice, message=message, origin=notice.origin[:NAME_MAX])
            )
        else:
            self._notices_omitted += 1
        self.line(f"{escape(notice.origin)}: {escape(notice.message)}", important=True)
        self.event("notice", **report.notice_as_dict(notice))

    def noticed(self) -> Dict[str, Any]:
        """The notices, for the report."""
        notices = [report.notice_as_dict(notice) for notice in self._notices]
        return {"notices": notices, "notices_omitted": self._notices_omitted}

    def plan(self, wanted: Wanted) -> None:
        """What is about to be captured; who reads lines alone gets it with --verbose."""
        if self._table is not None or self._options.verbose:
            for text in report.plan(self._options, wanted):
                self.line(text)

    def opened(self, capture: Capture) -> None:
        """The first filter in force; with --verbose all sources that were opened since the last time."""
        accounts = capture.assembly.accounts
        if self._table is not None and not self._options.verbose and accounts and not self._opened:
            self.line(report.effective_filter(next(iter(accounts.values())).source))
            self._opened = 1
        if self._options.verbose and len(accounts) > self._opened:
            # In the order in which they were opened.
            for account in list(accounts.values())[self._opened :]:
                self.line(report.opened_line(account.source))
            self._opened = len(accounts)

    def serving(self, outlets: Outlets) -> None:
        """Where readers may connect."""
        server = outlets.server
        if server is not None:
            if not server.loopback:
                words = f"whoever reaches {server.address} can read the packets: there is no password"
                self.line(f"warning: {words}", important=True)
                self.event("warning", message=words)
            self.line(f"readers may connect to {server.address}, for example: tshark -i TCP@{server.address}")
            self.event("serving", address=server.address)

    def outlets(self, outlets: Outlets) -> None:
        """Files that were finished or deleted since the last time, and readers that came or went."""
        server, output = outlets.server, outlets.files
        for news in server.news if server is not None else ():
            self.line(f"{news.reader} {news.state}: {news.words}", important=news.state == "cut off")
            self.event("reader", state=news.state, reader=news.reader, message=news.words)
        if server is not None:
            server.news.clear()
        for word, written in output.news if output.several else ():
            if self._options.verbose:
                self.line(f"{written.name} {word}, {written.packets} packets")
            self.event("file", state=word, **report.file_facts(written))
        output.news.clear()

    def stopping(self, capture: Capture, now: float, *, asked: bool) -> None:
        """What a stop waits for: at once when somebody asked for it, else when it takes a while.

        The table shows it all the time; where there is none, one line does.
        """
        waiting = None if self._stop_told else capture.waiting(now)
        if waiting is None or not (asked or waiting.seconds >= _STOP_TELL_AFTER):
            return
        if self._table is not None and not self._table.hidden:
            return
        self._stop_told = True
        self.line(f"stopping: {escape(capture.reason)}; {'; '.join(report.waiting_parts(waiting))}")
        facts = {"waiting_for": waiting.names, "seconds_left": round(waiting.left, 1)}
        self.event("stopping", reason=capture.reason, **facts)

    def progress(self, capture: Capture, outlets: Outlets, now: float) -> None:
        if self._table is not None:
            self._table.show(capture, outlets.files.size, now)
        if self.front is not None:
            self.front.turn(capture, now)
        if self._options.json and now - self._said_at >= _EVENT_INTERVAL:
            self._said_at = now
            accounts = capture.assembly.accounts.values()
            self.event("progress", sources=[_brief(account) for account in accounts])

    def close(self) -> None:
        """Let the terminal take what was said, if it does."""
        if self._terminal is not None:
            self._terminal.close()


def can_redraw(environ: Mapping[str, str]) -> bool:
    """Whether a terminal moves its cursor; one without a name is not known to."""
    return environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def _brief(account: Any) -> Dict[str, Any]:
    return {
        "name": account.name,
        "packets": account.received,
        "bytes": account.bytes,
        "dropped": sum(account.known) if account.traced else None,
        "drops": account.drops._asdict(),
    }


def run(
    access: Access,
    options: CaptureOptions,
    wanted: Wanted,
    front: Optional[Front] = None,
    parent: Optional[Parent] = None,
) -> int:
    """Capture, and return the exit status.

    Args:
        front: Is told what happens, and tells whether it failed.
        parent: The program whose end stops the capture.

    Raises:
        PcapdError: Nothing could be captured.
    """
    request = options.request(wanted)
    kind: Type[Union[Muxer, Split]] = Split if options.files.split else Muxer
    assembly = kind(
        options.form,
        options.snaplen,
        ordered=options.ordered,
        max_packets=options.count or UNLIMITED,
        max_bytes=options.max_bytes or UNLIMITED,
        comment=f"{wanted.words()}; filter: {options.filter or 'none'}",
        packet_ids=_packet_ids(options.files),
    )
    speaker = _Speaker(options, front)
    outlets = Outlets(options, assembly.closing)
    keep_memory()
    with Stops(parent) as stops:
        try:
            connection = Connection(access)
        except LeaveNow:
            raise PcapdError("interrupted before the capture started") from None
        stops.leave_at_once = False
        capture = Capture(request, assembly, options.duration, time.monotonic())
        speaker.event("start", **reportfile.asked(options, wanted), file=options.output or None)
        speaker.plan(wanted)
        speaker.serving(outlets)
        try:
            _loop(connection, capture, outlets, stops, speaker)
            _finish(capture, outlets)
        except LeaveNow:
            capture.fail(PcapdError("interrupted twice, left at once"))
            capture.reason = "interrupted twice"
        finally:
            stops.left = True
            connection.close()
        status = _conclude(capture, outlets, speaker, options, wanted)
    return status if front is None else int(front.failed(capture))


def _packet_ids(options: FileOptions) -> Optional[PacketIds]:
    if not options.packet_ids:
        return None
    # Captures that are merged later do not get in each other's way.
    return PacketIds(dedupe=options.dedupe, first=secrets.randbits(31) << 32 | 1)


def _loop(
    connection: Connection, capture: Capture, outlets: Outlets, stops: Stops, speaker: _Speaker
) -> None:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    stops.watch(poll)
    outlets.watch(poll)
    statistics_at = time.monotonic()
    while not capture.over:
        if not connection.ready:
            poll.poll(1000 * (_TURN if capture.assembly.waiting else _IDLE_TURN))
        stops.drain()
        now = time.monotonic()
        reason = stops.reason
        try:
            _receive(connection, capture, now)
            if reason:
                capture.stop(reason, now)
            capture.tick(now)
            connection.send(capture.to_send())
            outlets.last = pieces = capture.assembly.take_pieces(now)
            if now - statistics_at >= _STATISTICS_INTERVAL:
                statistics_at = now
                pieces += capture.assembly.statistics_pieces(_now_us())
            outlets.write(pieces, now)
        except PcapdError as error:
            capture.fail(error)
        speaker.opened(capture)
        for notice in capture.notices:
            speaker.notice(notice)
        capture.notices.clear()
        speaker.outlets(outlets)
        speaker.stopping(capture, now, asked=bool(reason))
        speaker.progress(capture, outlets, now)


def _receive(connection: Connection, capture: Capture, now: float) -> None:
    for data in connection.read():
        capture.receive(data, now, _now_us())
        if capture.over:
            return
    if connection.heard:
        capture.alive(now)
    if connection.closed:
        capture.disconnected()


def _finish(capture: Capture, outlets: Outlets) -> None:
    """Write what is held back.  When the output broke, the file ends where it did."""
    try:
        if capture.assembly.accounts and not isinstance(capture.error, OutputError):
            outlets.last = capture.assembly.finish_pieces(_now_us())
            outlets.write(outlets.last, time.monotonic(), last=True)
    except PcapdError as error:
        capture.fail(error)
    try:
        outlets.close()
    except OutputError as error:
        capture.fail(error)
    _settle(capture, outlets)
    if capture.error is not None and not capture.written:
        outlets.files.discard()


def _settle(capture: Capture, outlets: Outlets) -> None:
    capture.settle(outlets.form, outlets.files.written if outlets.kept else None, outlets.last)


def _conclude(
    capture: Capture, outlets: Outlets, speaker: _Speaker, options: CaptureOptions, wanted: Wanted
) -> int:
    """Tell how it went, and return the exit status."""
    _settle(capture, outlets)
    seconds = time.monotonic() - (capture.started or time.monotonic())
    went = report.as_dict(capture, outlets, seconds)
    about = {**reportfile.facts(options, wanted), **went}
    problem: Optional[reportfile.ReportFailed] = None
    try:
        # First of all: what follows may wait for a terminal or a pipe.
        reportfile.write(options, {**about, **speaker.noticed()})
    except reportfile.ReportFailed as error:
        problem = error
        went["exit_status"] = Outcome.FAILED.value
        speaker.event("warning", message=str(problem))
    speaker.outlets(outlets)
    if capture.started is not None:
        for line in report.as_text(capture, outlets, seconds):
            speaker.line(line)
    if options.files.explain:
        _explain(outlets, speaker)
    speaker.event("end", **went)
    if speaker.front is not None:
        speaker.front.ended(capture)
    elif capture.error is not None:
        speaker.line(f"pcapctl: {escape(str(capture.error))}", important=True)
    elif capture.outcome is Outcome.INCOMPLETE:
        speaker.line("pcapctl: the file is good, but something is missing from it: see above", important=True)
    if problem is not None:
        speaker.line(f"pcapctl: {escape(str(problem))}", important=True)
    speaker.close()
    return int(went["exit_status"])


def _explain(outlets: Outlets, speaker: _Speaker) -> None:
    """Say what went wrong in the traffic; the packets are safe before."""
    names = [written.name for written in outlets.files.kept if written.packets]
    try:
        found = explain(names)
    except PcapdError as error:
        speaker.line(f"pcapctl: {escape(str(error))}", important=True)
        return
    for line in as_lines(found, everything=False):
        speaker.line(line)
    speaker.event("explanation", **as_dict(found))


def _now_us() -> int:
    return time.time_ns() // 1000
