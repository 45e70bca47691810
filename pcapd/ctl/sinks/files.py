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
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from pcapd.ctl.options import NOWHERE, CaptureOptions, UsageProblem
from pcapd.ctl.sinks.fileoptions import FileOptions, Rotation, part_name
from pcapd.ctl.sinks.output import Output, OutputError
from pcapd.merge.muxer import HEADERS, Kind, Piece
from pcapd.savefile.cut import fit
from pcapd.savefile.form import Form

__all__ = ["Files", "Written", "check_files", "open_files"]

#: macOS refuses more, whatever the limit says.
_DESCRIPTORS = 10240

#: Gives the statistics that end a file of a stream, at microseconds since the epoch.
Closing = Callable[[int, str], List[bytes]]


@dataclass(eq=False)
class Written:
    """One file.

    Attributes:
        instance: Whose packets it holds; empty when everybody's.
        packets: In it.
        bytes: Of whole blocks.
    """

    name: str
    instance: str
    packets: int = 0
    bytes: int = 0


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
        self._series: Dict[str, _Series] = {}
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
            self._series[""] = _Series(self, "", Output(name, form, force=force))

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
                series = self._series[stream] = _Series(self, stream)
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

    # --- for the series -----------------------------------------------------

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


class _Series:
    """The files of one stream, one after the other.

    Args:
        files: All of them.
        stream: Whose it is.
        output: The only one, when there is no rotation.
    """

    def __init__(self, files: Files, stream: str, output: Optional[Output] = None) -> None:
        self._files = files
        self._stream = stream
        self._output = output
        self._empty: Optional[Output] = None  # closed, without a packet
        self._headers: List[Piece] = []
        self._interfaces = 0  # whose headers passed
        self._number = 0
        self._began = 0.0
        self._current: Optional[Written] = None
        self._past: List[Written] = []  # that are there, for the ring

    def write(self, pieces: List[Piece], now: float, last: bool) -> None:
        self.tick(now)
        batch = _Batch(sum(piece.packets for piece in pieces))
        try:
            for piece in pieces:
                if piece.kind is Kind.PACKETS:
                    self._add_packets(batch, piece, now)
                elif piece.kind in HEADERS:
                    self._add_header(batch, piece, now)
                elif self._current is not None and (last or len(piece.data) <= self._room(batch)):
                    batch.add(piece.data, 0)
            self._flush(batch)
        except OutputError as error:
            error.unwritten += batch.left
            raise

    @property
    def size(self) -> int:
        """Bytes of the file that is being written."""
        return self._current.bytes if self._current is not None else 0

    def tick(self, now: float) -> None:
        """End the file if its time is over; one without a packet waits for the first."""
        longest = self._files.rotation.time
        current = self._current
        if longest is not None and current is not None and current.packets and now - self._began >= longest:
            self._end()

    def close(self) -> None:
        current, self._current = self._current, None
        output, self._output = self._output, None
        if current is not None:
            self._files.finished(current)
        if output is not None:
            try:
                output.close()
            finally:
                if current is None or current.packets == 0:
                    self._empty = output

    def discard(self) -> None:
        for output in (self._output, self._empty):
            if output is not None:
                output.discard()

    def _add_header(self, batch: _Batch, piece: Piece, now: float) -> None:
        current, data = self._current, piece.data
        if current is not None and current.packets + batch.packets and len(data) > self._room(batch):
            self._flush(batch)
            self._end()
        self._headers.append(piece)
        self._interfaces += piece.kind is Kind.INTERFACE
        if self._current is not None:
            batch.add(data, 0)
        elif self._number == 0:
            self._begin(batch, now)

    def _add_packets(self, batch: _Batch, piece: Piece, now: float) -> None:
        begin, packets = 0, piece.packets
        while packets:
            current = self._current or self._begin(batch, now)
            room = self._room(batch)
            if len(piece.data) - begin <= room:
                batch.add(piece.data[begin:] if begin else piece.data, packets)
                return
            in_file = current.packets + batch.packets
            end, count = self._files.fitting(piece.data, begin, room, 0 if in_file else 1)
            if count:
                batch.add(piece.data[begin:end], count)
                begin, packets = end, packets - count
            if packets:
                self._flush(batch)
                self._end()

    def _room(self, batch: _Batch) -> int:
        size = self._files.rotation.size
        if size is None or self._output is None:
            return 2**62
        return size - self._output.size - batch.size

    def _begin(self, batch: _Batch, now: float) -> Written:
        """Open the next file, which begins with the headers so far."""
        self._number += 1
        self._began = now
        limit = self._files.rotation.files
        while limit is not None and len(self._past) >= limit:
            self._files.delete(self._past.pop(0))
        if self._output is None:
            self._output = self._files.next_output(self._stream, self._number)
        self._current = Written(self._output.name, self._stream)
        self._files.kept.append(self._current)
        # Names last: some readers want the interfaces together.
        headers = sorted(self._headers, key=lambda piece: piece.kind is Kind.NAMES)
        batch.add(b"".join(piece.data for piece in headers), 0)
        return self._current

    def _flush(self, batch: _Batch) -> None:
        """Write what is gathered."""
        blocks, packets = batch.take()
        output, current = self._output, self._current
        if current is None:  # between two files
            return
        assert output is not None
        unwritten = output.unwritten
        try:
            output.write(blocks)
        finally:
            packets -= output.unwritten - unwritten
            current.packets += packets
            self._files.written[self._stream] = self._files.written.get(self._stream, 0) + packets
            current.bytes = output.size
            if not output.opened:
                self._files.kept.remove(current)  # it never came to be
                self._current = None

    def _end(self) -> None:
        """Finish the file; the next packet begins another one."""
        output, current = self._output, self._current
        if output is not None and current is not None:
            try:
                # Statistics of interfaces that this file does not know would be wrong in it.
                output.write(self._files.closing(self._stream)[: self._interfaces])
            finally:
                current.bytes = output.size
            self._output = self._current = None
            self._past.append(current)
            self._files.finished(current)
            output.close()


class _Batch:
    """Blocks for one file that are gathered before they are written.

    Attributes:
        left: Packets that no file was asked to take yet.
    """

    def __init__(self, left: int) -> None:
        self.left = left
        self.size = 0
        self.packets = 0
        self._blocks: List[bytes] = []

    def add(self, data: bytes, packets: int) -> None:
        self._blocks.append(data)
        self.size += len(data)
        self.packets += packets

    def take(self) -> tuple[List[bytes], int]:
        """The blocks and their packets, which are a file's business from here on."""
        taken = self._blocks, self.packets
        self.left -= self.packets
        self._blocks, self.size, self.packets = [], 0, 0
        return taken


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
