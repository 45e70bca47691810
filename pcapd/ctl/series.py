"""The files of one stream, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Protocol

from pcapd.ctl.fileoptions import Rotation
from pcapd.ctl.output import Output, OutputError
from pcapd.merge.muxer import HEADERS, Kind, Piece

__all__ = ["Owner", "Series", "Written"]


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


class Owner(Protocol):
    """All files of a capture, as a series sees them.

    Attributes:
        kept: Files there are, oldest first.
        written: Packets that were written, by stream.
    """

    kept: List[Written]
    written: Dict[str, int]

    @property
    def rotation(self) -> Rotation:
        """When a file ends."""

    def next_output(self, instance: str, number: int) -> Output:
        """The next file of an instance."""

    def closing(self, stream: str) -> List[bytes]:
        """The statistics that end a file now."""

    def fitting(self, data: bytes, begin: int, room: int, at_least: int) -> tuple[int, int]:
        """Where what fits ends, and its packets."""

    def finished(self, written: Written) -> None:
        """It will not grow any more."""

    def delete(self, written: Written) -> None:
        """Make room."""


class Series:
    """The files of one stream, one after the other.

    Args:
        files: All of them.
        stream: Whose it is.
        output: The only one, when there is no rotation.
    """

    def __init__(self, files: Owner, stream: str, output: Optional[Output] = None) -> None:
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
        """Write the stream's pieces, see `pcapd.ctl.files.Files.write`."""
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
        """Close the last file."""
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
        """Remove the last file, which has no packets."""
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
