"""The loop of one capture: connection → session → sinks.  Blocking, one thread.

A stop (`pcapd.ctl.stopping`) waits until all captured packets are written.  The second
Ctrl-C exits immediately, even during a write that a stuck reader blocks.  While the output
is slow, pcapctl does not read: the api's send buffer fills, the api pauses the agents, and
their kernels drop packets, and count them.
"""

from __future__ import annotations

import secrets
import select
import time
from typing import Callable, Optional, Type, Union

from pcapd.ctl.display.reporter import Frontend, Reporter
from pcapd.ctl.options import CaptureOptions, CaptureTarget
from pcapd.ctl.sinks import reportfile
from pcapd.ctl.sinks.fileoptions import FileOptions
from pcapd.ctl.sinks.opening import Sinks
from pcapd.ctl.sinks.output import OutputError, ReaderLeft
from pcapd.ctl.stopping import LeaveNow, Parent, Stops
from pcapd.ctl.stream.peer import Stream
from pcapd.ctl.stream.session import CaptureSession
from pcapd.errors import PcapdError
from pcapd.merge.matching import PacketIds
from pcapd.merge.muxer import UNLIMITED, Muxer
from pcapd.merge.split import Split
from pcapd.records import keep_memory

__all__ = ["run"]

_TURN = 0.05  # longest wait of the loop while packets wait to be sorted or written, seconds
_IDLE_TURN = 0.25
_STATISTICS_INTERVAL = 5.0
_WRITE_INTERVAL = 0.01  # seconds between two writes, if no reader is waiting for packets
_REPORT_INTERVAL = 0.05  # seconds between two calls of the reporter


def run(
    dial: Callable[[], Stream],
    options: CaptureOptions,
    target: CaptureTarget,
    frontend: Optional[Frontend] = None,
    parent: Optional[Parent] = None,
) -> int:
    """Capture, and return the exit status.

    Args:
        dial: Makes the connection.
        frontend: Shows the capture in place of the terminal, and decides whether it failed.
        parent: The program whose exit stops the capture.

    Raises:
        PcapdError: Nothing could be captured.
    """
    request = options.request(target)
    muxer = _muxer(options, target)
    reporter = Reporter(options, frontend)
    sinks = Sinks(options, muxer.closing)
    keep_memory()
    with Stops(parent) as stops:
        try:
            connection = dial()
        except LeaveNow:
            raise PcapdError("interrupted before the capture started") from None
        stops.leave_at_once = False
        capture = CaptureSession(request, muxer, options.duration, time.monotonic(), connection.peer)
        reporter.event("start", **reportfile.asked(options, target), file=options.output or None)
        reporter.plan(target)
        reporter.serving(sinks)
        try:
            _loop(connection, capture, sinks, stops, reporter)
            _finish(capture, sinks)
        except LeaveNow:
            capture.fail(PcapdError("interrupted twice, left at once"))
            capture.reason = "interrupted twice"
        finally:
            stops.left = True
            connection.close()
        _settle(capture, sinks)
        seconds = time.monotonic() - (capture.started or time.monotonic())
        return reporter.conclude(capture, sinks, target, seconds, lambda: stops.presses)


def _muxer(options: CaptureOptions, target: CaptureTarget) -> Union[Muxer, Split]:
    kind: Type[Union[Muxer, Split]] = Split if options.files.split else Muxer
    return kind(
        options.form,
        options.snaplen,
        ordered=options.ordered,
        max_packets=options.count or UNLIMITED,
        max_bytes=options.max_bytes or UNLIMITED,
        comment=f"{target.describe()}; filter: {options.filter or 'none'}",
        packet_ids=_packet_ids(options.files),
        align=options.files.align,
    )


def _packet_ids(options: FileOptions) -> Optional[PacketIds]:
    if not options.packet_ids:
        return None
    # The first id is random, so that captures can be merged later without equal ids.
    return PacketIds(dedupe=options.dedupe, first=secrets.randbits(31) << 32 | 1)


def _loop(
    connection: Stream, capture: CaptureSession, sinks: Sinks, stops: Stops, reporter: Reporter
) -> None:
    poll = select.poll()
    connection.watch(poll)
    stops.watch(poll)
    sinks.watch(poll)
    statistics_at = written_at = reported_at = time.monotonic()
    due = True
    while not capture.over:
        if not connection.ready:
            stops.drain(poll.poll(1000 * (_TURN if capture.muxer.waiting or not due else _IDLE_TURN)))
        now = time.monotonic()
        reason = stops.reason
        if reason and stops.parented:
            reporter.detach()
        due = sinks.live or bool(reason) or now - written_at >= _WRITE_INTERVAL
        try:
            _receive(connection, capture, now)
            if reason:
                capture.stop(reason, now)
            capture.tick(now)
            connection.send(capture.to_send())
            if due or capture.over:
                written_at = now
                pieces = capture.muxer.take_pieces(now)
                if now - statistics_at >= _STATISTICS_INTERVAL:
                    statistics_at = now
                    pieces += capture.muxer.statistics_pieces(_now_us())
                sinks.write(pieces, now)
        except OutputError as error:
            capture.output_ended(error, now, failed=not isinstance(error, ReaderLeft))
        except PcapdError as error:
            capture.fail(error)
        if reason or capture.over or now - reported_at >= _REPORT_INTERVAL:
            reported_at = now
            reporter.turn(capture, sinks, now, asked=bool(reason))


def _receive(connection: Stream, capture: CaptureSession, now: float) -> None:
    for data in connection.read():
        capture.receive(data, now, _now_us())
        if capture.over:
            return
    if connection.heard:
        capture.alive(now)
    if connection.closed:
        capture.disconnected()


def _finish(capture: CaptureSession, sinks: Sinks) -> None:
    """Write the remaining packets, unless the output failed, and close the outputs."""
    try:
        if capture.muxer.accounts:
            sinks.write(capture.muxer.finish_pieces(_now_us()), time.monotonic(), last=True)
    except OutputError as error:
        capture.output_ended(error, time.monotonic(), failed=not isinstance(error, ReaderLeft))
    except PcapdError as error:
        capture.fail(error)
    try:
        sinks.close()
    except OutputError as error:
        capture.fail(error)
    _settle(capture, sinks)
    if capture.error is not None and not capture.written:
        sinks.discard()


def _settle(capture: CaptureSession, sinks: Sinks) -> None:
    capture.settle(sinks.form, sinks.inventory.written if sinks.kept else None, sinks.last)


def _now_us() -> int:
    return time.time_ns() // 1000
