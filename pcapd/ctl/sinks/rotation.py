"""A series of files by size or by time.

Every file is complete: it begins with all headers that a reader needs and ends
with the counters at that time.  A file's size is known from the pieces written to
it; only the piece in which a file ends is parsed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Callable, List, Optional

from pcapd.ctl.sinks.fileoptions import Rotation
from pcapd.ctl.sinks.inventory import Inventory, Written
from pcapd.ctl.sinks.output import Output, OutputError
from pcapd.ctl.sinks.single import FileSink, OpenFile
from pcapd.merge.muxer import HEADERS, Kind, Piece
from pcapd.savefile.cut import fit
from pcapd.savefile.form import Form

__all__ = ["RotatedFiles"]


class RotatedFiles(FileSink):
    """See the module.

    Args:
        open_file: Creates the next file.
        stream: The instance of the packets; empty for all instances.
        form: The file format.
        rotation: When a file ends.
        closing: Returns the statistics that end a file now.
        inventory: The list of files.
    """

    def __init__(
        self,
        open_file: OpenFile,
        *,
        stream: str,
        form: Form,
        rotation: Rotation,
        closing: Callable[[], List[bytes]],
        inventory: Inventory,
    ) -> None:
        self._open = open_file
        self._stream = stream
        self._form = form
        self._rotation = rotation
        self._closing = closing
        self._inventory = inventory
        self._output: Optional[Output] = None
        self._empty: Optional[Output] = None  # closed without packets
        self._headers: List[Piece] = []
        self._interfaces = 0  # number whose headers were written
        self._number = 0
        self._began = 0.0
        self._current: Optional[Written] = None
        self._past: List[Written] = []  # existing files, for the ring

    def write(self, pieces: List[Piece], now: float, *, last: bool = False) -> None:
        """Write pieces, ending and starting files where needed.

        Raises:
            OutputError: Some could not be written; every file ends with a whole block.
        """
        self.tick(now)
        if pieces:
            self._write(pieces, now, last)
            self.tick(now)

    def _write(self, pieces: List[Piece], now: float, last: bool) -> None:
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

    def tick(self, now: float) -> None:
        """End the file if its time is over; a file without packets waits for the first.

        Raises:
            OutputError: The end of the file could not be written.
        """
        longest = self._rotation.time
        current = self._current
        if longest is not None and current is not None and current.packets and now - self._began >= longest:
            self._end()

    def close(self) -> None:
        """Close the last file.

        Raises:
            OutputError: The system could not store what it had accepted.
        """
        current, self._current = self._current, None
        output, self._output = self._output, None
        if output is not None:
            try:
                self._close(output, current)
            finally:
                if current is None or current.packets == 0:
                    self._empty = output

    def discard(self) -> None:
        """Remove the file without packets."""
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
            end, count = fit(self._form, piece.data, begin, room, at_least=0 if in_file else 1)
            if count:
                batch.add(piece.data[begin:end], count)
                begin, packets = end, packets - count
            if packets:
                self._flush(batch)
                self._end()

    def _room(self, batch: _Batch) -> int:
        size = self._rotation.size
        if size is None or self._output is None:
            return 2**62
        return size - self._output.occupied - batch.size

    def _begin(self, batch: _Batch, now: float) -> Written:
        """Open the next file, which begins with the headers so far."""
        self._number += 1
        self._began = now
        limit = self._rotation.files
        while limit is not None and len(self._past) >= limit:
            self._delete(self._past.pop(0))
        if self._output is None:
            self._output = self._open(self._number)
        self._current = self._inventory.begin(self._output.name, self._stream)
        # Names last: some readers expect the interfaces together.
        headers = sorted(self._headers, key=lambda piece: piece.kind is Kind.NAMES)
        batch.add(b"".join(piece.data for piece in headers), 0)
        return self._current

    def _flush(self, batch: _Batch) -> None:
        """Write the gathered blocks."""
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
            self._inventory.grow(current, output.size, packets)
            if not output.opened:
                self._inventory.forget(current)  # it was never created
                self._current = None

    def _end(self) -> None:
        """Finish the file; the next packet begins another one."""
        output, current = self._output, self._current
        if output is not None and current is not None:
            try:
                # Statistics for interfaces without a header in this file would be invalid.
                output.write(self._closing()[: self._interfaces])
            finally:
                self._inventory.grow(current, output.size)
            self._output = self._current = None
            self._past.append(current)
            self._close(output, current)

    def _close(self, output: Output, current: Optional[Written]) -> None:
        before = output.unwritten
        try:
            output.close()
        finally:
            if current is not None:
                self._inventory.grow(current, output.size, before - output.unwritten)
                self._inventory.finish(current)

    def _delete(self, written: Written) -> None:
        """Delete a file of the ring.

        Raises:
            OutputError: It cannot be deleted.
        """
        try:
            with contextlib.suppress(FileNotFoundError):  # already deleted by another program
                Path(written.name).unlink()
        except OSError as error:
            raise OutputError(f"cannot delete {written.name}: {os.strerror(error.errno or 0)}") from error
        self._inventory.delete(written)


class _Batch:
    """Blocks for one file that are gathered before they are written.

    Attributes:
        left: Packets not yet passed to a file.
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
        """Remove and return the blocks and the number of their packets."""
        taken = self._blocks, self.packets
        self.left -= self.packets
        self._blocks, self.size, self.packets = [], 0, 0
        return taken
