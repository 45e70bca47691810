"""Turns a classic pcap stream into batches of records while it arrives, for example from ``tcpdump -w -``.

The other end is not trusted: no more than one incomplete packet is kept, and its length is bounded.
"""

from __future__ import annotations

from functools import partial
from typing import Callable, Final, Generator, Iterator, Optional, Union

from pcapd.limits import FRAME_TYPICAL, KIB, SNAPLEN_MAX
from pcapd.packet import linktypes
from pcapd.records import HEADER_LINK_TYPES, Converted, from_savefile
from pcapd.savefile.blocks import BadFile
from pcapd.savefile.pcap import FILE_HEADER_SIZE, FileHeader

__all__ = ["PcapStream"]

Bytes = Union[bytes, bytearray, memoryview]

#: bytes of a piece that are copied behind an incomplete packet of the piece before it.  Small
#: pieces become one batch in this way, and of a large piece only a part is copied.
_JOINED: Final = 64 * KIB


class PcapStream:
    """Reads a stream from its beginning.

    Pieces of any size are fed to it.  They are not copied, except for the beginning of a piece
    if the previous one ended within a packet.

    Args:
        max_captured: bytes; a packet with a larger captured length is an error, as is one above
            the snaplen in the file's header.
        limit: bytes; largest size of a batch, unless it contains a single larger record.
        headers_only: Cut each packet after its headers (see `pcapd.packet.headers`).

    Attributes:
        header: The file's header; None until it was received.
        packets: Number of packets in all batches so far.
        position: bytes of the stream before the next packet, including the file's header.
    """

    def __init__(
        self, *, max_captured: int = SNAPLEN_MAX, limit: int = FRAME_TYPICAL, headers_only: bool = False
    ) -> None:
        self.header: Optional[FileHeader] = None
        self.packets = 0
        self.position = 0
        self._max_captured = max_captured
        self._limit = limit
        self._headers_only = headers_only
        #: What makes a batch, once the header was received.
        self._from_savefile: Callable[[Bytes], Converted]
        self._problem: Optional[BadFile] = None
        #: An incomplete header or packet, never longer than the longest packet allowed.
        self._rest = bytearray()

    def feed(self, data: Bytes) -> Iterator[Converted]:
        """Convert the packets in the next piece of the stream; nothing happens until this is iterated.

        Args:
            data: It must not change until the iterator has ended.

        Returns:
            Batches, none of them empty, whose ``consumed`` the caller ignores.

        Raises:
            BadFile: The stream is not valid.  The batches with all packets before the invalid
                one were yielded before.  Every later call raises it again.
        """
        if self._problem is not None:
            raise self._problem
        try:
            yield from self._read(memoryview(data).cast("B"))
        except BadFile as error:
            self._problem = error
            raise

    def finish(self) -> int:
        """The stream has ended: return the number of bytes of its incomplete last packet.

        0 means that it ended after a whole packet.  If `header` is None, the bytes are those
        of the incomplete file header, and 0 means that nothing was received.
        """
        return len(self._rest)

    def _read(self, view: memoryview) -> Iterator[Converted]:
        at = 0
        if self.header is None:
            at = self._read_header(view)
        while self._rest and at < len(view):
            at = yield from self._join(view, at)
        if at < len(view):
            at += yield from self._convert(view[at:])
            self._rest += view[at:]

    def _read_header(self, view: memoryview) -> int:
        """Read the file's header when it is complete; return the position in the piece after it."""
        at = FILE_HEADER_SIZE - len(self._rest)
        self._rest += view[:at]
        self.header = FileHeader.parse(self._rest)
        if self.header is None:
            return len(view)
        self._rest.clear()
        self.position = FILE_HEADER_SIZE
        self._from_savefile = partial(
            from_savefile,
            big_endian=self.header.big_endian,
            nanoseconds=self.header.nanoseconds,
            # A source's packets are no longer than its snaplen: the merge refuses others, and with
            # them all sources.
            max_captured=min(self._max_captured, self.header.snaplen or self._max_captured),
            limit=self._limit,
            headers_of=_cut_of(self.header.link_type) if self._headers_only else -1,
        )
        return at

    def _join(self, view: memoryview, at: int) -> Generator[Converted, None, int]:
        """Complete the packet in `_rest` with more of the piece; return the new position in the piece."""
        before, end = len(self._rest), at + _JOINED
        self._rest += view[at:end]
        consumed = yield from self._convert(self._rest)
        if consumed and end < len(view):
            self._rest.clear()
            return at + consumed - before
        del self._rest[:consumed]
        return end

    def _convert(self, data: Bytes) -> Generator[Converted, None, int]:
        """Yield batches of the whole packets; return the number of bytes that they used."""
        at = 0
        while at < len(data):
            try:
                made = self._from_savefile(memoryview(data)[at:])
            except ValueError as error:
                where = f"packet {self.packets + 1}, at byte {self.position} of the stream"
                raise BadFile(f"{where}: {error}") from error
            if not made.consumed:
                break
            at += made.consumed
            self.position += made.consumed
            self.packets += made.checked.packets
            yield made
        return at


def _cut_of(link_type: int) -> int:
    if link_type not in HEADER_LINK_TYPES:
        name = linktypes.name(link_type)
        raise BadFile(
            f"packets cannot be cut after their headers: the headers of link type {name} are not supported",
            "capture another interface",
        )
    return link_type
