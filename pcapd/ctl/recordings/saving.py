"""``pcapctl recording fetch`` from its options to the exit status."""

from __future__ import annotations

import datetime
import json
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Tuple

from pcapd.analysis.report import as_dict
from pcapd.ctl.display.explain import as_lines, explain
from pcapd.ctl.display.terminal import say
from pcapd.ctl.display.text import escape, many, quantity
from pcapd.ctl.options import FAILED, STDOUT, Access, UsageProblem, default_output
from pcapd.ctl.recordings import calls
from pcapd.ctl.recordings.fetching import Fetch, Part
from pcapd.ctl.recordings.moments import parse_moment, rfc3339, shown
from pcapd.ctl.recordings.progress import Progress
from pcapd.ctl.sinks.compressed import open_output
from pcapd.ctl.sinks.output import ReaderLeft
from pcapd.errors import PcapdError
from pcapd.records import keep_memory
from pcapd.savefile.form import Form

__all__ = ["FetchOptions", "fetch", "part_of"]

_INCOMPLETE = 3
_MICROS = 1_000_000


@dataclass(frozen=True)
class FetchOptions:
    """The options of ``pcapctl recording fetch``.

    Attributes:
        last: Seconds before the end of the recording, or before now while it runs.
        begin: The user's text for the first time; end: for the last time.
        clip: Number of a clip.
        output: A path, or ``-`` for standard output; None for a name made of the id.
        tail: Go on until the recording ends.
    """

    last: Optional[float] = None
    begin: Optional[str] = None
    end: Optional[str] = None
    clip: Optional[int] = None
    output: Optional[str] = None
    tail: bool = False
    force: bool = False
    explain: bool = False
    contents: bool = False
    json: bool = False
    quiet: bool = False

    def check(self) -> None:
        """Refuse options that exclude each other.

        Raises:
            UsageProblem: They do.
        """
        if self.last is not None and (self.begin is not None or self.end is not None):
            raise UsageProblem("--last excludes --from and --to")
        if self.clip is not None and (self.last or self.begin or self.end or self.tail):
            raise UsageProblem("--clip excludes --last, --from, --to and --tail", "a clip is one file")
        if self.explain and self.output == STDOUT:
            raise UsageProblem("--explain needs a file", "name one with --output")


def part_of(options: FetchOptions, recording: Dict[str, Any], now: datetime.datetime) -> Part:
    """What is wanted of a recording.

    Args:
        now: The present time, with the user's time zone.

    Raises:
        UsageProblem: A time is not valid.
    """
    begin, end = _moment("--from", options.begin, now), _moment("--to", options.end, now)
    if begin is not None and end is not None and end < begin:
        raise UsageProblem("--to is before --from")
    if options.last is not None:
        over = recording.get("ended_us") if recording.get("state") not in calls.RUNNING else None
        until = over if isinstance(over, int) else int(now.timestamp() * _MICROS)
        begin = until - int(options.last * _MICROS)
    return Part(begin, end, options.clip)


def _moment(name: str, text: Optional[str], now: datetime.datetime) -> Optional[int]:
    if text is None:
        return None
    try:
        return parse_moment(text, now)
    except ValueError as error:
        raise UsageProblem(f"{name} {text!r} {error}") from error


def fetch(
    access: Callable[[], Access],
    prefix: str,
    options: FetchOptions,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Fetch a recording, say how it went, and return the exit status.

    Args:
        access: How to reach the api now.
        prefix: The id of the recording, or its beginning.
        pause: Waits for some seconds.

    Raises:
        PcapdError: Nothing was fetched.
    """
    options.check()
    keep_memory()
    if options.output is not None:
        open_output(options.output, Form.PCAPNG, force=options.force)  # refused before anything is asked
    id = calls.find(access(), prefix)
    recording = calls.show(access(), id)
    now = datetime.datetime.now().astimezone()
    part = part_of(options, recording, now)
    utc = now.astimezone(datetime.timezone.utc)
    name = options.output or default_output(f"recording-{id[:8]}", None, utc)
    output = open_output(name, Form.PCAPNG, force=options.force)
    progress = Progress(
        json=options.json, quiet=options.quiet, stream=sys.stderr if name == STDOUT else sys.stdout
    )
    job = Fetch(access, id, part, output, progress, pause)
    problem = ""
    try:
        try:
            job.run(tail=options.tail)
        finally:
            progress.clear()
            output.close()
    except ReaderLeft:
        pass
    except (PcapdError, KeyboardInterrupt) as error:
        if not job.size:
            raise
        interrupted = isinstance(error, KeyboardInterrupt)
        if not (interrupted and options.tail):  # that is how --tail is ended
            problem = "interrupted" if interrupted else str(error)
    return _reported(job, access, id, name, options, problem)


def _reported(  # noqa: PLR0917
    job: Fetch, access: Callable[[], Access], id: str, name: str, options: FetchOptions, problem: str
) -> int:
    """Say how it went."""
    dropped, failed = (0, "") if problem else _account(access, id)
    status = FAILED if problem else _INCOMPLETE if job.gaps or dropped or failed else 0
    findings = _explained(name, options) if options.explain and not problem else None
    stream = sys.stderr if name == STDOUT else sys.stdout
    if options.json:
        facts = {
            "event": "end",
            "recording": id,
            "file": name,
            "status": status,
            "error": problem or None,
            "packets": job.seen.packets,
            "bytes": job.size,
            "first_us": job.seen.first_us,
            "last_us": job.seen.last_us,
            "missing": [list(gap) for gap in job.gaps],
            "dropped": dropped,
            "message": failed,
        }
        if findings is not None:
            facts["explanation"] = findings[0]
        say(json.dumps(facts), stream)
        return status
    said: List[str] = [] if options.quiet else [_summary(job, name)]
    if dropped:
        said.append(f"the recording lost {many(dropped, 'packet')} while capturing")
    if failed:
        said.append(f"the recording failed: {failed}")
    if problem:
        said += [problem, f"{_name(name)} is valid, but not complete"]
        if job.seen.last_us is not None:
            rest = f"pcapctl recording fetch {id[:8]} --from {rfc3339(job.seen.last_us)} -o FILE"
            said.append(f"the rest can be had with: {rest}")
    for line in said:
        say(escape(line), sys.stderr)
    for line in findings[1] if findings is not None else ():
        say(line, stream)
    return status


def _summary(job: Fetch, name: str) -> str:
    seen = job.seen
    times = f", from {shown(seen.first_us)} to {shown(seen.last_us)}" if seen.packets else ""
    return f"{_name(name)}: {many(seen.packets, 'packet')}, {quantity(job.size)}{times}"


def _name(name: str) -> str:
    return "standard output" if name == STDOUT else name


def _account(access: Callable[[], Access], id: str) -> Tuple[int, str]:
    """The packets that the recording lost, and why it failed; nothing if the api does not say."""
    try:
        recording = calls.show(access(), id)
    except PcapdError:
        return 0, ""
    dropped = recording.get("dropped")
    failed = recording.get("state") == "failed"
    why = str(recording.get("message") or "the api does not say why") if failed else ""
    return dropped if isinstance(dropped, int) else 0, why


def _explained(name: str, options: FetchOptions) -> Tuple[Dict[str, Any], List[str]]:
    """The findings in a file, as JSON values and as lines."""
    found = explain([name], contents=options.contents)
    return as_dict(found), as_lines(found, everything=False)
