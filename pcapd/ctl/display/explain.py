"""``pcapctl explain``: the results of `pcapd.analysis`, as text and as an HTML page."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import os
import sys
import zlib
from pathlib import Path
from typing import BinaryIO, Callable, Final, Iterator, List, Optional, Sequence, cast

from pcapd.analysis.explanation import Explanation
from pcapd.analysis.merging import in_order
from pcapd.analysis.page.document import document, worst_conversation
from pcapd.analysis.page.ladder import Ladder
from pcapd.analysis.page.timeline import Timeline
from pcapd.analysis.report import display_filter
from pcapd.ctl.display.text import escape
from pcapd.errors import PcapdError
from pcapd.limits import FINDINGS_SHOWN
from pcapd.savefile.blocks import BadFile, FileInterface, FileStatistics
from pcapd.savefile.classic import read_any_rows
from pcapd.savefile.reader import Rows

__all__ = ["Places", "as_lines", "explain", "write_page"]

#: First bytes of a gzip file (RFC 1952).
_GZIP: Final = b"\x1f\x8b"


def explain(
    names: Sequence[str], also: Optional[Callable[[bytes], None]] = None, *, contents: bool = False
) -> Explanation:
    """Read files (``-`` is standard input), each captured at different places, and explain them.

    Args:
        names: The files.
        also: Function that is called with all rows too, see `pcapd.packet.row`.
        contents: See `Explanation`.

    Raises:
        PcapdError: A file cannot be read, or is neither pcapng nor pcap.
    """
    explanation = Explanation(names, contents=contents)
    places = [Places(explanation, index) for index in range(len(names))]
    explanation.read([_rows(name, own) for name, own in zip(names, places)], also)
    explanation.finish()
    return explanation


def write_page(names: Sequence[str], page: str, *, contents: bool = False) -> Explanation:
    """Like `explain`, and write the result as an HTML page that only its owner can read.

    Raises:
        PcapdError: A file cannot be read (see `explain`), or the page cannot be written.
    """
    timeline = Timeline()
    explanation = explain(names, timeline.add, contents=contents)
    bad = worst_conversation(explanation)
    ladder = None
    if bad is not None and bad.example is not None and "-" not in names:
        sign_us = explanation.world.aligned(bad.places[0], bad.first_us) if bad.places else bad.first_us
        ladder = Ladder(bad.example, explanation.world, sign_us, bad.frames)
        for rows, _ in in_order(
            [_rows(name, _Again(index, explanation)) for index, name in enumerate(names)]
        ):
            ladder.add(rows)
    content = document(explanation, timeline, ladder)
    try:
        handle = os.open(page, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, 0o600)
            file.write(content)
    except OSError as error:
        raise PcapdError(f"cannot write {page}: {error.strerror}") from error
    return explanation


class Places:
    """Makes each interface of a file a place, and returns its number."""

    def __init__(self, explanation: Explanation, file: int) -> None:
        self._explanation, self._file = explanation, file

    def place(self, interface: FileInterface) -> int:
        """The number of an interface's place."""
        return self._explanation.place(self._file, interface)

    def statistics(self, place: int, counters: FileStatistics) -> None:
        """Process the loss counters of a place."""
        self._explanation.statistics(place, counters)


class _Again(Places):
    """Returns the same numbers of places when the file is read a second time."""

    def __init__(self, file: int, explanation: Explanation) -> None:
        super().__init__(explanation, file)
        self._joined: Optional[int] = None
        self._numbers = iter([place.number for place in explanation.world.places if place.file == file])

    def place(self, interface: FileInterface) -> int:
        if interface.deduped:
            if self._joined is None:
                self._joined = next(self._numbers, 0)
            return self._joined
        return next(self._numbers, 0)

    def statistics(self, place: int, counters: FileStatistics) -> None:
        pass


def _rows(name: str, places: Places) -> Iterator[Rows]:
    shown = "standard input" if name == "-" else Path(name).name
    try:
        with _opened(name) as file:
            yield from read_any_rows(file, shown, places.place, places.statistics)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PcapdError(f"cannot read {name}: it is not a complete gzip file") from error
    except OSError as error:
        raise PcapdError(f"cannot read {name}: {error.strerror}") from error
    except BadFile as error:
        raise PcapdError(f"{name}: {error.message}", error.hint) from error


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """Open a file, which may be compressed with gzip, as with ``--output NAME.pcapng.gz``."""
    with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
        if file.peek(2)[:2] == _GZIP:  # type: ignore[union-attr]
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast(BinaryIO, unpacked)
        else:
            yield file


def as_lines(explanation: Explanation, *, everything: bool) -> List[str]:
    """The findings as lines of text, escaped for a terminal.

    Args:
        everything: Include all findings, not only as many as fit on a screen.
    """
    first_us, last_us = explanation.times
    places = [place for place in explanation.world.places if place.packets]
    lines = [
        f"{explanation.packets} packets in {(last_us - first_us) / 1_000_000:.1f} s "
        f"from {_time(first_us)}, seen at {len(places)} {'places' if len(places) != 1 else 'place'}"
    ]
    groups = explanation.groups if everything else explanation.groups[:FINDINGS_SHOWN]
    for group in groups:
        lines.append(f"{group.severity}: {group.kind.name}: {explanation.summary(group)}")
        if everything or group.severity != "note":
            frames = ", ".join(str(number) for _, number in group.frames[:3])
            where = f" (packets {frames})" if frames else ""
            lines.append(
                f"    {_time(group.first_us)}{where}: {display_filter(group) or 'the whole capture'}"
            )
            lines.append(f"    {group.kind.advice(group)}")
    left = len(explanation.groups) - len(groups)
    if left:
        lines.append(f"{left} more {'findings' if left != 1 else 'finding'}: --all shows all of them")
    if not explanation.groups:
        lines.append("nothing to report")
    return [escape(line) for line in lines]


def _time(us: int) -> str:
    moment = datetime.datetime.fromtimestamp(us // 1_000_000, datetime.timezone.utc)
    return f"{moment:%H:%M:%S}.{us // 1000 % 1000:03d}Z"
