"""The process that explains a capture: ``main``.

Its argument is a JSON object with ``names`` (the files), ``stream`` (whether the packets come
over standard input while the capture runs), ``contents`` (see `Explanation`) and ``numbered``
(whether packet numbers are those of the file).

Standard input consists of frames: a kind, 4 bytes of length (big-endian), and the data.  The data
of all frames of kind `DATA` is a pcapng or pcap stream.  A frame of kind `ANEW` says that packets
were skipped: a new stream starts, with all headers.

Standard output consists of JSON lines: the numbers of findings so far, and at the end the result.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Final, List, Optional, Tuple, cast

from pcapd.analysis.explanation import Explanation
from pcapd.analysis.findings.base import ERROR, NOTE, WARNING
from pcapd.analysis.report import as_dict
from pcapd.ctl.display.explain import Places, as_lines, explain
from pcapd.ctl.display.text import escape
from pcapd.errors import PcapdError
from pcapd.limits import EXPLAIN_COUNT_INTERVAL, FILE_READ_SIZE, FINDINGS_MAX, FINDINGS_SHOWN
from pcapd.savefile.blocks import BadFile
from pcapd.savefile.classic import read_any_rows

__all__ = ["ANEW", "DATA", "FRAME", "main"]

FRAME: Final = struct.Struct(">cI")
DATA: Final = b"d"
ANEW: Final = b"n"

#: Priority (nice): the capture and all else come first.
_NICE: Final = 10
#: A count that took so long is repeated after this many times as long at the earliest.
_SHARE: Final = 4
#: seconds between two looks whether a count has ended.
_LOOK: Final = 0.05

#: Findings of one kind between the same ends are one finding.
_Key = Tuple[str, object, object]


def main() -> None:
    """Explain, until standard input ends, and print the result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = json.loads(sys.argv[1])
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    try:
        if asked["stream"]:
            _Stream(asked).run()
        else:
            found = explain(asked["names"], contents=asked["contents"])
            _say({"lines": as_lines(found, everything=False), "explanation": as_dict(found)})
    except PcapdError as error:
        _say({"error": str(error)})


def _say(facts: Dict[str, Any]) -> None:
    data = memoryview(json.dumps(facts).encode() + b"\n")
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]


class _Frames:
    """The frames of standard input as a file, which ends at a frame `ANEW`.

    Args:
        turn: Called before each read, and while nothing arrives; returns after which time in
            seconds it wants to be called again.
    """

    def __init__(self, turn: Callable[[], float]) -> None:
        self._fd = sys.stdin.fileno()
        self._turn = turn
        self._content, self._at = b"", 0
        #: Whether standard input has ended.
        self.ended = False
        self.received = 0

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        if self._at == len(self._content) and not self._next():
            return b""
        begin, self._at = self._at, min(self._at + size, len(self._content))
        return self._content[begin : self._at]

    def peek(self, size: int) -> bytes:
        """Like `read`, but the bytes remain."""
        begin = self.read(size)
        self._at -= len(begin)
        return begin

    def _next(self) -> bool:
        head = self._exactly(FRAME.size)
        kind, length = FRAME.unpack(head) if len(head) == FRAME.size else (ANEW, 0)
        self._content, self._at = self._exactly(length), 0
        self.received += length
        return bool(kind == DATA and self._content)

    def _exactly(self, size: int) -> bytes:
        """So many bytes; none if standard input ends before."""
        parts: List[bytes] = []
        while size:
            if not select.select([self._fd], [], [], self._turn())[0]:
                continue
            parts.append(os.read(self._fd, min(size, FILE_READ_SIZE)))
            if not parts[-1]:
                self.ended = True
                return b""
            size -= len(parts[-1])
        return b"".join(parts)


class _Stream:
    """Explains what arrives, and counts the findings from time to time.

    The numbers are those that the result would have if the capture ended now: a copy of this
    process (fork) ends the analysis and prints them, while this one continues.
    """

    def __init__(self, asked: Dict[str, Any]) -> None:
        self._asked = asked
        self._frames = _Frames(self._turn)
        self._explanation = self._anew()
        #: Findings of the streams that ended early, as a line of text each.
        self._before: Dict[_Key, Tuple[str, str]] = {}
        self._counted = 0
        self._counting: Optional[int] = None
        self._began = self._due = time.monotonic()

    def run(self) -> None:
        """Explain all streams, and print the result.

        Raises:
            PcapdError: The stream cannot be read.
        """
        while True:
            self._read()
            self._await_count()
            self._explanation.finish()
            if self._frames.ended:
                break
            self._keep()
            self._explanation = self._anew()
        if not self._asked["numbered"]:
            for group in self._explanation.groups:
                group.frames.clear()
        lines = as_lines(self._explanation, everything=False)
        now = set(map(_key, self._explanation.groups))
        lines += [line for key, (_, line) in self._before.items() if key not in now][:FINDINGS_SHOWN]
        _say({"lines": lines, "explanation": as_dict(self._explanation), **self._counts()})

    def _anew(self) -> Explanation:
        return Explanation(self._asked["names"], contents=self._asked["contents"])

    def _read(self) -> None:
        places = Places(self._explanation, 0)
        if not self._frames.peek(4):  # the capture ended before it began
            return
        file = cast(BinaryIO, self._frames)
        try:
            shown = Path(name).name if (name := self._asked["names"][0]) != "-" else "standard input"
            rows = read_any_rows(file, shown, places.place, places.statistics)
            self._explanation.read([rows])
        except BadFile as error:
            raise PcapdError(f"cannot explain the capture: {error.message}") from error

    def _keep(self) -> None:
        """Keep the findings of a stream that packets are missing from; the next one knows nothing of it."""
        for group in self._explanation.groups:
            if group.severity != NOTE and len(self._before) < FINDINGS_MAX:
                summary = self._explanation.summary(group)
                line = f"before packets were skipped: {group.severity}: {group.kind.name}: {summary}"
                self._before[_key(group)] = group.severity, escape(line)

    def _counts(self) -> Dict[str, int]:
        found = {key: severity for key, (severity, _) in self._before.items()}
        now = [group.severity for group in self._explanation.groups]
        for group in self._explanation.groups:
            found.pop(_key(group), None)
        every: List[str] = [*now, *found.values()]
        return {"errors": every.count(ERROR), "warnings": every.count(WARNING)}

    def _turn(self) -> float:
        now = time.monotonic()
        if self._counting is not None:
            if os.waitpid(self._counting, os.WNOHANG) == (0, 0):
                return _LOOK
            self._counting = None
            self._due = now + max(EXPLAIN_COUNT_INTERVAL, _SHARE * (now - self._began))
        if now >= self._due and self._frames.received != self._counted:
            self._counted, self._began = self._frames.received, now
            self._counting = os.fork() or self._count()
            return _LOOK
        return EXPLAIN_COUNT_INTERVAL

    def _count(self) -> int:
        status = 1
        try:
            self._explanation.finish()
            _say(self._counts())
            status = 0
        finally:
            os._exit(status)

    def _await_count(self) -> None:
        if self._counting is not None:
            os.waitpid(self._counting, 0)
            self._counting = None


def _key(group: Any) -> _Key:
    return group.kind.name, group.client.address, group.server
