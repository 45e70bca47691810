"""The frames of one direction of an HTTP/2 connection (RFC 9113), with their header blocks decompressed.

The hpack library decompresses header blocks (RFC 7541); bodies are skipped without a look at their
packets.  Each header block depends on all earlier ones of its direction, so nothing can be read after
bytes that are missing or wrong.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, List, NamedTuple, Optional, Tuple

from pcapd.analysis.exchanges.streams import NEVER, Piece, Room, Stream

if TYPE_CHECKING:
    from hpack import Decoder

__all__ = ["PREFACE", "Block", "Fields", "Frames", "is_preface", "is_settings"]

#: The client's first bytes (RFC 9113, section 3.4).
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Fields = List[Tuple[bytes, bytes]]

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 5, 7, 9
#: Frames whose content is read.
_READ: Final = frozenset((_HEADERS, _RST_STREAM, _PUSH_PROMISE, _GOAWAY, _CONTINUATION))
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_HEADER: Final = struct.Struct("!BHBBI")
_HEADER_SIZE: Final = 9
#: bytes of a compressed header block, and of a frame that is read.  gRPC servers accept 8 to 16 KiB by
#: default.  It also limits how often hpack copies the rest of a block, which it does for each field.
_BLOCK_MAX: Final = 32 * 1024
#: bytes of a decompressed header block: the limit against blocks that become very large.
_FIELDS_MAX: Final = 64 * 1024
#: bytes of the dynamic table that a peer may select; 4 KiB is the default, browsers select 64 KiB.
_TABLE_MAX: Final = 64 * 1024
#: bytes of memory of an entry of the dynamic table, without its text: a tuple and two byte strings.
_ENTRY_SIZE: Final = 168
#: Settings of a first frame; RFC 9113 and its extensions define about ten.
_SETTINGS_MAX: Final = 64


class Block(NamedTuple):
    """A header block.

    Attributes:
        fields: Names and values, in order.
        first, last: The pieces with its first and its last byte.
        seq: Sequence number of the first byte of its first frame.
        ended: Whether it ends the stream in this direction.
    """

    stream: int
    fields: Fields
    first: Piece
    seq: int
    last: Piece
    ended: bool


def is_preface(content: bytes) -> bool:
    """Whether a payload is the start of an HTTP/2 client's direction."""
    return content[:4] == PREFACE[:4] and PREFACE.startswith(content[: len(PREFACE)])


def is_settings(content: bytes) -> bool:
    """Whether a payload is the start of an HTTP/2 server's direction: a SETTINGS frame."""
    if len(content) < _HEADER_SIZE:
        return False
    high, low, kind, flags, stream = _HEADER.unpack_from(content)
    size = high << 16 | low
    return bool(
        kind == _SETTINGS
        and not flags
        and not stream
        and size % 6 == 0
        and size <= 6 * _SETTINGS_MAX
        and content[9:10] in (b"", b"\0")  # the number of the first setting; all known ones are small
    )


class Frames(Stream):
    """Reads the frames of one direction; a subclass gets their content.

    Args:
        room: See `Stream`.
        preface: The bytes before the first frame.
    """

    def __init__(self, room: Room, preface: bytes) -> None:
        super().__init__(room)
        self._preface = preface
        self._opened = False  # whether the first frame was read
        self._part = bytearray()  # the received part of a frame's header, or of a frame that is read
        self._need = 0  # size of the frame that is being received; 0 outside of one
        self._frame = (0, 0, 0)  # its type, flags and stream
        self._first: Optional[Piece] = None  # the piece with the start of the header block's first frame
        self._seq = self._first_seq = 0
        self._start: Optional[Piece] = None  # the piece with the start of the frame
        self._block: Optional[bytearray] = None
        self._block_frame = (0, 0, 0)
        self._ends = 0  # the stream that ends with the last byte of a frame, which is wanted next
        self._decoder: Optional[Decoder] = None
        self._text = 0

    @property
    def size(self) -> int:
        """Bytes of memory, at most."""
        size = self._need + len(self._block or b"")
        if self._decoder is not None:
            table = self._decoder.header_table
            size += len(table.dynamic_entries) * _ENTRY_SIZE + min(table.maxsize, self._text)
        return size

    def stop(self) -> None:
        """Read no more, and release the memory."""
        self.at = NEVER
        self._need = self._ends = 0
        self._part.clear()
        self._decoder = self._block = self._first = self._start = None

    # --- what a subclass gets -------------------------------------------------------

    def head(self, block: Block) -> None:
        """Process a header block."""
        raise NotImplementedError

    def stream_ended(self, stream: int, piece: Piece) -> None:
        """Process the end of a body, whose last byte is in the piece."""
        raise NotImplementedError

    def reset(self, stream: int, code: int, piece: Piece) -> None:
        """Process RST_STREAM."""
        raise NotImplementedError

    def going_away(self, last: int, code: int) -> None:
        """Process GOAWAY, with the last stream that the sender processes."""
        raise NotImplementedError

    def lost(self) -> None:
        """Process that the rest of the direction cannot be read."""
        raise NotImplementedError

    def grown(self) -> None:
        """Process that `size` may have changed."""
        raise NotImplementedError

    # --- frames ---------------------------------------------------------------------

    def read(self, piece: Piece, begin: int) -> int:
        """See `Stream.read`."""
        at, size = begin, len(piece.content)
        while 0 <= at < size or self._ends:
            if self._ends:  # the piece has the last byte
                stream, self._ends = self._ends, 0
                self.stream_ended(stream, piece)
                at += 1
            elif self._preface:
                at = self._begin(piece, at)
            elif self._need:
                at = self._collect(piece, at)
            else:
                at = self._header(piece, at)
            if self.at == NEVER:  # stopped by what was read
                return NEVER
            if self._ends and at >= piece.length:
                break
        if at < 0 or at < piece.length:
            return self.missed(piece.offset)  # wrong, or a part of the packet was not captured
        return piece.offset + at

    def missed(self, offset: int) -> int:
        """See `Stream.missed`."""
        self.lost()
        return NEVER

    def _begin(self, piece: Piece, at: int) -> int:
        part = piece.content[at : at + len(self._preface)]
        if not self._preface.startswith(part):
            return NEVER
        self._preface = self._preface[len(part) :]
        return at + len(part)

    def _header(self, piece: Piece, at: int) -> int:
        content, part = piece.content, self._part
        if not part:
            self._start, self._seq = piece, piece.seq + at
            if len(content) - at >= _HEADER_SIZE:
                return self._take(_HEADER.unpack_from(content, at), piece, at + _HEADER_SIZE)
        more = content[at : at + _HEADER_SIZE - len(part)]
        part += more
        if len(part) < _HEADER_SIZE:
            return at + len(more)
        fields = _HEADER.unpack(part)
        part.clear()
        return self._take(fields, piece, at + len(more))

    def _take(self, fields: Tuple[Any, ...], piece: Piece, at: int) -> int:
        """Process a frame's header, whose content starts at `at`; returns where to continue."""
        high, low, kind, flags, stream = fields
        size, stream = high << 16 | low, stream & 0x7FFFFFFF
        if not self._allowed(kind, flags, stream):
            return NEVER
        if kind in _READ:
            self._frame = kind, flags, stream
            return self._expect(size, piece, at)
        if kind == _DATA and flags & _END_STREAM:
            if at + size > piece.length:
                self._ends = stream
                return int(at + size - 1)
            self.stream_ended(stream, piece)
        return int(at + size)

    def _allowed(self, kind: int, flags: int, stream: int) -> bool:
        """Whether a frame of this type may be the next one."""
        if not self._opened:
            self._opened = True
            return kind == _SETTINGS and not flags & _ACK and not stream
        return (self._block is not None) == (kind == _CONTINUATION) and bool(stream or kind != _DATA)

    def _expect(self, size: int, piece: Piece, at: int) -> int:
        """Process the content of a frame, or wait for the rest of it."""
        if size > _BLOCK_MAX:
            return NEVER
        if at + size <= len(piece.content):
            return at + size if self._content(piece.content[at : at + size], piece) else NEVER
        self._need = size
        self.grown()
        return at

    def _collect(self, piece: Piece, at: int) -> int:
        more = piece.content[at : at + self._need - len(self._part)]
        self._part += more
        if len(self._part) == self._need:
            whole = bytes(self._part)
            self._need = 0
            self._part.clear()
            if not self._content(whole, piece):
                return NEVER
        return at + len(more)

    def _content(self, content: bytes, piece: Piece) -> bool:
        """Process the content of a frame; returns whether it is valid."""
        kind, flags, stream = self._frame
        if kind == _RST_STREAM:
            if len(content) == 4:
                self.reset(stream, int.from_bytes(content, "big"), piece)
            return len(content) == 4
        if kind == _GOAWAY:
            if len(content) >= 8:
                last, code = struct.unpack_from("!II", content)
                self.going_away(last & 0x7FFFFFFF, code)
            return len(content) >= 8
        if kind == _CONTINUATION:
            return stream == self._block_frame[2] and self._fragment(content, flags, piece)
        begin = 1 if flags & _PADDED else 0
        end = len(content) - (content[0] if begin and content else 0)
        begin += 4 if kind == _PUSH_PROMISE else 5 if flags & _PRIORITY else 0
        if begin > end or not stream:
            return False
        self._block, self._block_frame = bytearray(), self._frame
        self._first, self._first_seq = self._start, self._seq
        return self._fragment(content[begin:end], flags, piece)

    def _fragment(self, content: bytes, flags: int, piece: Piece) -> bool:
        """Process a part of a header block; returns whether it is valid."""
        block, first = self._block, self._first
        assert block is not None and first is not None
        block += content
        if len(block) > _BLOCK_MAX:
            return False
        if not flags & _END_HEADERS:
            self.grown()
            return True
        self._block = self._first = None
        fields = self._fields(bytes(block))
        if fields is None:
            return False
        self.grown()
        kind, flags, stream = self._block_frame
        if kind == _HEADERS:
            seq = self._first_seq & 0xFFFFFFFF
            self.head(Block(stream, fields, first, seq, piece, bool(flags & _END_STREAM)))
        return True

    def _fields(self, block: bytes) -> Optional[Fields]:
        """Decompress a header block; None if it is not valid or too large."""
        from hpack import Decoder, HPACKError  # noqa: PLC0415 - large, and few captures have HTTP/2

        if self._decoder is None:
            self._decoder = Decoder(_FIELDS_MAX)
            self._decoder.max_allowed_table_size = _TABLE_MAX
        self._text = min(self._text + 2 * len(block), _TABLE_MAX)
        try:
            return list(self._decoder.decode(block, raw=True))
        except (HPACKError, ValueError):  # ValueError: hpack prints very large numbers
            return None
