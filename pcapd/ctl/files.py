"""The files of a capture: one, or a series by size, by time, by instance.

Every file is whole by itself: it begins with all headers that a reader needs
and ends with the counters as they were then.  A file's size is known from the
pieces that went into it; only the piece in which a file ends is looked into.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path
from typing import Callable, Dict, List, Tuple

from pcapd.ctl.fileoptions import FileOptions, Rotation, part_name
from pcapd.ctl.options import NOWHERE, CaptureOptions, UsageProblem
from pcapd.ctl.output import Output, OutputError
from pcapd.ctl.series import Series, Written
from pcapd.merge.muxer import Piece
from pcapd.savefile.cut import fit
from pcapd.savefile.form import Form

__all__ = ["Files", "Written", "check_files", "open_files"]

#: macOS refuses more, whatever the limit says.
_DESCRIPTORS = 10240

#: Gives the statistics that end a file of a stream, at microseconds since the epoch.
Closing = Callable[[int, str], List[bytes]]


def open_files(options: CaptureOptions, closing: Closing) -> Files:
    """The files that the options ask for.

    Raises:
        OutputError: They could not be written later: said before anything starts.
        UsageProblem: The options do not go together.
    """
    problem = options.files.problem(options.output, options.form)
    if problem:
        raise UsageProblem(problem)
    return Files(options.output, options.form, options.files, closing, force=options.force)


def check_files(options: CaptureOptions) -> None:
    """Say already now what `open_files` would say.

    Raises:
        OutputError: See there.
        UsageProblem: See there.
    """
    open_files(options, lambda at_us, stream: [])


class Files:
    """Where a capture's packets are kept.

    Args:
        name: A path, from which those of several files are made, ``-``, or `NOWHERE`.
        form: Of the files.
        options: How many there are.
        closing: See `Closing`.
        force: Existing files may be overwritten.

    Raises:
        OutputError: It could not be written later: said before anything starts.
    """

    def __init__(self, name: str, form: Form, options: FileOptions, closing: Closing, *, force: bool) -> None:
        self.name = name
        self._form = form
        self._options = options
        self._closing = closing
        self._force = force
        self._series: Dict[str, Series] = {}
        self._taken: Dict[str, str] = {}
        self._finished_bytes = 0
        #: Files there are, oldest first.
        self.kept: List[Written] = []
        #: Files, packets and bytes that made room for newer ones.
        self.deleted_files = self.deleted_packets = self.deleted_bytes = 0
        #: Packets that were written, by instance with ``--split-by``, else all under "".
        self.written: Dict[str, int] = {}
        #: Files that were "finished" or "deleted" since they were looked at.
        self.news: List[Tuple[str, Written]] = []
        if options.several:
            _check_directory(name)
            if options.split:
                _allow_descriptors()
        elif name != NOWHERE:
            self._series[""] = Series(self, "", Output(name, form, force=force))

    @property
    def several(self) -> bool:
        """There may be more than one file."""
        return self._options.several

    @property
    def opened(self) -> bool:
        """There is something in them."""
        return bool(self.kept)

    @property
    def size(self) -> int:
        """Bytes of the files there are."""
        return self._finished_bytes + sum(series.size for series in self._series.values())

    def write(self, pieces: List[Piece], now: float, *, last: bool = False) -> None:
        """Write pieces, each to its file.

        Args:
            now: Seconds of a steady clock.
            last: Nothing follows: they end with the closing statistics.

        Raises:
            OutputError: They could not all be written; every file ends with a whole block.
        """
        if self.name == NOWHERE:
            return
        streams: Dict[str, List[Piece]] = {}
        for piece in pieces:
            streams.setdefault(piece.stream, []).append(piece)
        left = sum(piece.packets for piece in pieces)
        for stream, own in streams.items():
            series = self._series.get(stream)
            if series is None:
                series = self._series[stream] = Series(self, stream)
            left -= sum(piece.packets for piece in own)
            try:
                series.write(own, now, last)
            except OutputError as error:
                error.unwritten += left
                raise

    def tick(self, now: float) -> None:
        """Time passed: end the files whose time is over.

        Raises:
            OutputError: A file's end could not be written.
        """
        if self._options.rotation.time is not None:
            for series in self._series.values():
                series.tick(now)

    def close(self) -> None:
        """Close all files.

        Raises:
            OutputError: The system could not keep what it had taken.
        """
        failures: List[OutputError] = []
        for series in self._series.values():
            try:
                series.close()
            except OutputError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def discard(self) -> None:
        """Remove the files that we made."""
        for series in self._series.values():
            series.discard()
        self.kept.clear()
        self._finished_bytes = 0

    # --- `pcapd.ctl.series.Owner` -----------------------------------------------

    @property
    def rotation(self) -> Rotation:
        """When a file ends."""
        return self._options.rotation

    def next_output(self, instance: str, number: int) -> Output:
        """The next file of an instance."""
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        name = part_name(self.name, self._own(instance), number if self.rotation else 0, moment)
        return Output(name, self._form, force=self._force)

    def closing(self, stream: str) -> List[bytes]:
        """The statistics that end a file now."""
        return self._closing(time.time_ns() // 1000, stream)

    def fitting(self, data: bytes, begin: int, room: int, at_least: int) -> tuple[int, int]:
        """Where what fits ends, and its packets."""
        return fit(self._form, data, begin, room, at_least=at_least)

    def finished(self, written: Written) -> None:
        """It will not grow any more."""
        self._finished_bytes += written.bytes
        self.news.append(("finished", written))

    def delete(self, written: Written) -> None:
        """Make room.

        Raises:
            OutputError: It cannot be deleted.
        """
        try:
            with contextlib.suppress(FileNotFoundError):  # somebody else made room
                Path(written.name).unlink()
        except OSError as error:
            raise OutputError(f"cannot delete {written.name}: {os.strerror(error.errno or 0)}") from error
        self.kept.remove(written)
        self.deleted_files += 1
        self.deleted_packets += written.packets
        self.deleted_bytes += written.bytes
        self._finished_bytes -= written.bytes
        self.news.append(("deleted", written))

    def _own(self, instance: str) -> str:
        """The instance's name, or one that no other instance's becomes in a file's name."""
        for serial in range(1, len(self._taken) + 2):
            name = instance if serial == 1 else f"{serial}_{instance}"
            if self._taken.setdefault(part_name("", name).casefold(), instance) == instance:
                return name
        raise AssertionError("unreachable: one more name than there are instances")


def _allow_descriptors() -> None:
    """A file per instance needs a descriptor per instance: ask for as many as we may have."""
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _check_directory(name: str) -> None:
    directory = Path(name).parent
    path = Path(name)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OutputError(f"{name} is no file, and there would be several", "name a file with --output")
    if path.is_dir():
        raise OutputError(f"{name} is a directory", "name a file in it; the names are made from that")
    if not directory.is_dir():
        raise OutputError(f"there is no directory {directory}", "make it first")
    if not os.access(directory, os.W_OK):
        raise OutputError(f"{directory} cannot be written", "check its permissions")
