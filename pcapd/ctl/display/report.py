"""The report at the end of a capture, and single lines during it, as text and as JSON."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from pcapd.ctl.display import resuming
from pcapd.ctl.display.progress import CLOCK_OFF_US
from pcapd.ctl.display.text import escape, many, natural, quantity, span
from pcapd.ctl.options import NOWHERE, STDOUT, CaptureOptions, CaptureTarget
from pcapd.ctl.sinks.inventory import Inventory, Written
from pcapd.ctl.sinks.opening import Sinks
from pcapd.ctl.stream.session import CaptureSession, Waiting
from pcapd.limits import MATCH_WINDOW, SNAPLEN_MAX
from pcapd.merge.description import describe
from pcapd.merge.muxer import Account
from pcapd.packet import linktypes
from pcapd.savefile.form import Form
from pcapd.wire import Limits, Notice, Source

__all__ = [
    "as_dict",
    "as_text",
    "failed_line",
    "file_facts",
    "limits_line",
    "minute_line",
    "notice_as_dict",
    "opened_line",
    "plan",
    "sooner_lines",
    "source_line",
    "start_line",
    "waiting_parts",
]

#: Largest number of names printed in one line; the rest is shown as "and N more".
_NAMES_MAX = 12
#: Names of the usual link types.
_LINK_TYPES = {linktypes.ETHERNET: "Ethernet", linktypes.RAW: "IP", linktypes.LINUX_SLL2: "Linux cooked"}


def as_dict(capture: CaptureSession, sinks: Sinks, seconds: float) -> Dict[str, Any]:
    """The report as JSON values."""
    files, server = sinks.inventory, sinks.server
    served = (
        {"address": server.address, "readers": server.readers, "cut_off": server.cut_off} if server else None
    )
    return {
        "outcome": capture.outcome.name.lower(),
        "exit_status": capture.outcome.value,
        "reason": capture.reason,
        "error": str(capture.error) if capture.error else None,
        "file": files.name if files.opened and not files.several else None,
        "files": [file_facts(written) for written in files.kept],
        "deleted": {
            "files": files.deleted_files,
            "packets": files.deleted_packets,
            "bytes": files.deleted_bytes,
        },
        "bytes": files.size,
        "served": served,
        "seconds": round(seconds, 3),
        "packets": capture.written,
        "lost": capture.lost,
        "lost_at_least": capture.lost_at_least,
        "packets_forgotten": _forgotten(capture),
        "recording": capture.recording or None,
        "resume_from": resuming.begin(capture) if capture.recording and capture.cut_off else None,
        "sources": [_source(account, pcapng=sinks.form is Form.PCAPNG) for account in _sorted(capture)],
    }


def file_facts(written: Written) -> Dict[str, Any]:
    """One file as JSON values."""
    facts: Dict[str, Any] = {"file": written.name, "packets": written.packets, "bytes": written.bytes}
    if written.instance:
        facts["instance"] = written.instance
    return facts


def _source(account: Account, *, pcapng: bool) -> Dict[str, Any]:
    stats = account.at_least
    return {
        "name": account.name,
        "instance": account.source.instance,
        "interface": account.source.interface,
        "filter": account.source.filter,
        "agent": account.source.agent,
        "headers_only": account.source.headers_only,
        "clock_offset_us": account.source.clock_offset_us,
        "received": stats.received if stats.counted else None,
        "dropped_kernel": stats.dropped_kernel if stats.counted else None,
        "dropped_interface": stats.dropped_interface if stats.counted else None,
        "delivered": stats.delivered,
        "lost_in_transit": account.lost_in_transit,
        "drops": account.drops._asdict(),
        "exact": account.exact,
        "lost_after_last": account.lost_after_last if pcapng and stats.counted else None,
        "received_here": account.received,
        "written": account.written,
        "excluded": stats.excluded,
        "duplicates": account.duplicates,
        "unwanted": account.unwanted,
        "late": account.late,
    }


def notice_as_dict(notice: Notice) -> Dict[str, Any]:
    """A notice as JSON values."""
    return {"type": notice.type.value, "origin": notice.origin, "message": notice.message}


def _sorted(capture: CaptureSession) -> List[Account]:
    """The sources sorted by name, with instances in numeric order."""
    return sorted(capture.muxer.accounts.values(), key=lambda account: natural(account.name))


def as_text(capture: CaptureSession, sinks: Sinks, seconds: float, options: CaptureOptions) -> List[str]:
    """The report as lines of text."""
    files, server = sinks.inventory, sinks.server
    line = source_line if options.verbose else brief_line
    lines = [line(account) for account in _sorted(capture)]
    lines += _warnings(capture)
    if files.opened and files.several:
        lines += _files(capture, files, seconds)
    elif files.opened:
        size = quantity(files.size)
        packets = many(capture.written, "packet")
        lines.append(f"{packets}, {size} in {seconds:.1f} s, written to {files.name}; {_lost(capture)}")
    elif files.name == NOWHERE:
        packets = many(capture.written, "packet")
        lines.append(f"{packets} in {seconds:.1f} s, not written to a file; {_lost(capture)}")
    else:
        lines.append("nothing was written")
    if server is not None:
        slow = f", {server.cut_off} of them disconnected because they were too slow" if server.cut_off else ""
        lines.append(f"served to {server.readers} {'readers' if server.readers != 1 else 'reader'}{slow}")
    lines.append(f"stopped: {escape(capture.reason)}")
    if not any(account.received for account in capture.muxer.accounts.values()):
        lines.append(_nothing_came(options))
    return lines


def _lost(capture: CaptureSession) -> str:
    """The number of lost packets, as text."""
    if capture.lost == 0:
        return "nothing was lost"
    if capture.lost_at_least == 0:
        return "it is unknown whether packets were lost"
    return f"{'' if capture.lost else 'at least '}{many(capture.lost_at_least, 'packet')} lost"


def _nothing_came(options: CaptureOptions) -> str:
    """Suggestions for the user after a capture without packets."""
    hints = ["no packets were captured: is there traffic?"]
    if options.filter:
        hints.append("is the filter right? try without it")
    hints.append("is it on another interface? --device lo behind Envoy, -D lists them, -i any captures all")
    return "; ".join(hints)


def _files(capture: CaptureSession, files: Inventory, seconds: float) -> List[str]:
    lines = [
        f"{written.name}: {many(written.packets, 'packet')}, {quantity(written.bytes)}"
        for written in sorted(files.kept, key=lambda written: natural(written.instance))
    ]
    count = len(files.kept)
    kept = sum(written.packets for written in files.kept)
    lines.append(
        f"{many(kept, 'packet')}, {quantity(files.size)} in {seconds:.1f} s, "
        f"written to {many(count, 'file')}; {_lost(capture)}"
    )
    if files.deleted_files:
        lines.append(
            f"{files.deleted_packets} more packets were deleted with the {files.deleted_files} oldest "
            f"{'files' if files.deleted_files != 1 else 'file'} (--rotate-files), "
            f"{capture.written} were written in all"
        )
    return lines


def plan(options: CaptureOptions, target: CaptureTarget) -> List[str]:
    """Lines that describe the capture before it starts: the targets, the filter, the limits."""
    limits = []
    if options.duration is not None:
        limits.append(f"{options.duration:g} s")
    if options.count is not None:
        limits.append(f"{options.count} packets")
    if options.max_bytes is not None:
        limits.append(quantity(options.max_bytes))
    lengths = "whole packets" if options.snaplen >= SNAPLEN_MAX else f"{options.snaplen} bytes of each packet"
    if options.headers_only:
        lengths = "headers only"
    interfaces = f"; interfaces: {', '.join(options.interfaces)}" if options.interfaces else ""
    outputs = _outputs(options)
    lines = [
        f"{_shortened(target.describe())}{interfaces}",
        f"filter: {options.filter or 'none'}, without the capture's own connections; {lengths}",
        f"limits: {', '.join(limits) or 'none'}; writing to {outputs}",
    ]
    return [escape(line) for line in lines]


def limits_line(limits: Limits) -> str:
    """A line with the limits of the api."""
    return f"the api ends captures after {span(limits.duration)} or {quantity(limits.max_bytes)}"


def sooner_lines(options: CaptureOptions, limits: Limits) -> List[str]:
    """Lines for limits of the api that are lower than those of the options."""
    lines = []
    if options.duration is not None and options.duration > limits.duration:
        lines.append(f"the api ends this capture after {span(limits.duration)}, not {span(options.duration)}")
    if options.max_bytes is not None and options.max_bytes > limits.max_bytes:
        sizes = f"{quantity(limits.max_bytes)}, not {quantity(options.max_bytes)}"
        lines.append(f"the api ends this capture after {sizes}")
    return lines


def start_line(options: CaptureOptions, target: CaptureTarget) -> str:
    """The line printed at the start: what is captured, and where it is written."""
    return escape(f"capturing {_shortened(target.describe())}; writing to {_outputs(options)}")


def minute_line(capture: CaptureSession, size: int, minutes: int) -> str:
    """The line printed once a minute if there is no live table."""
    received = many(sum(account.received for account in capture.muxer.accounts.values()), "packet")
    return f"{minutes} min: {received}, {quantity(size)} written, {_lost(capture)}"


def failed_line(origins: Sequence[str], message: str) -> str:
    """One line for instances that cannot be captured for the same reason."""
    return escape(f"{_shortened(', '.join(sorted(origins, key=natural)))}: {message}")


def _outputs(options: CaptureOptions) -> str:
    """The outputs of the capture, as text."""
    files = options.files
    places = {NOWHERE: "no file", STDOUT: "standard output"}
    text = places.get(
        options.output, f"files named after {options.output}" if files.several else options.output
    )
    if files.serve is not None:
        text += ", and to readers that connect"
    return text


def waiting_parts(waiting: Waiting, names: int = _NAMES_MAX) -> List[str]:
    """Text shown while a capture is stopping.

    It names the sources that the capture is waiting for, and states since when, how much time
    is left, and how to exit immediately.

    Args:
        names: The largest number of sources to name.
    """
    sources = _shortened(", ".join(waiting.names), names) or "the end of the capture"
    return [
        f"waiting {waiting.seconds:.0f} s for {escape(sources)}",
        f"{waiting.left:.0f} s left",
        "a second Ctrl-C or SIGTERM leaves at once",
    ]


def _shortened(text: str, most: int = _NAMES_MAX) -> str:
    """A list of names; those after the first `most` are only counted."""
    names = text.split(", ")
    return text if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"


def opened_line(source: Source) -> str:
    """The line for a source that has been opened."""
    link_type = _LINK_TYPES.get(source.link_type) or linktypes.name(source.link_type)
    origin = f"agent {source.agent}" if source.agent else "over ssh"
    text = f"{source.instance}:{source.interface}: {link_type}, {origin}"
    if source.agent_address:
        text += f" at {source.agent_address}"
    if source.clock_offset_us is not None:
        text += f", clock {source.clock_offset_us / 1000:+.1f} ms"
    return escape(f"{text}, filter {source.filter or 'none'}")


def brief_line(account: Account) -> str:
    """One source in one line: number of packets written, and, if not zero, lost and left out."""
    drops = account.drops
    there = ((drops.kernel, "dropped by the kernel"), (drops.interface, "dropped by the interface"))
    counts = (
        *(there if account.stats.counted else ()),
        *((count, f"lost {_here(where)}") for count, where in account.losses),
    )
    parts = [f"{escape(account.name)}: {many(account.written, 'packet')}"]
    parts += [] if account.stats.counted else _counted(account)
    parts += [f"{_known(count)} {place}" for count, place in counts if count != 0]
    return ", ".join(parts + _remarks(account))


def source_line(account: Account) -> str:
    """One source in one line, with all its counters."""
    parts = [
        f"{escape(account.name)}: {account.written} written",
        *_counted(account),
        *(f"{_known(count)} {_here(where)}" for count, where in account.losses),
    ]
    return ", ".join(parts + _remarks(account))


def _counted(account: Account) -> List[str]:
    """The counters of the program that captures, in words."""
    if not account.stats.counted:
        return ["what was dropped there was not counted"]
    # If the source was lost, only its last known counters exist, so the numbers are lower bounds.
    least = "" if account.exact else "at least "
    return [
        f"{least}{account.at_least.received} received by the filter",
        f"{least}{account.drops.kernel} dropped by the kernel",
        f"{least}{account.drops.interface} by the interface",
    ]


def _remarks(account: Account) -> List[str]:
    """Remarks about unusual facts of one source."""
    parts = []
    if not account.exact:
        parts.append("more may be missing, because the connection to it was lost")
    if account.unwanted:
        parts.append(f"{account.unwanted} came after the limit")
    if account.stats.excluded:
        parts.append(f"{account.stats.excluded} excluded as the traffic of captures")
    if account.duplicates:
        parts.append(f"{account.duplicates} duplicates left out (seen elsewhere before)")
    if account.late:
        parts.append(f"{account.late} late (out of order)")
    return parts


def _here(where: str) -> str:
    return "here" if where == "by the client" else where


def _known(count: Optional[int]) -> str:
    return "unknown" if count is None else str(count)


def _forgotten(capture: CaptureSession) -> int:
    """Number of packets that --packet-ids forgot too early because its memory was full."""
    ids = capture.muxer.packet_ids
    return 0 if ids is None else ids.forgotten


def _warnings(capture: CaptureSession) -> List[str]:
    warnings = []
    forgotten = _forgotten(capture)
    if forgotten:
        warnings.append(
            f"warning: {forgotten} packets exceeded the matching memory for {MATCH_WINDOW:g} s: "
            "if they were seen again, they count as different packets"
        )
    for account in capture.muxer.accounts.values():
        offset = account.source.clock_offset_us
        if offset is not None and abs(offset) > CLOCK_OFF_US:
            warnings.append(
                f"warning: {escape(account.name)}: the clock is {offset / 1e6:+.2f} s off "
                f"({escape(describe(account.source))}); the times in the file are those of that clock"
            )
    return warnings
