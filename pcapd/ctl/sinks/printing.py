"""One line per packet (``--print``), for low rates.

This runs Python for each packet and reaches some ten thousand a second.  When it
cannot keep up, pcapctl stops reading, and the back-pressure reaches the capturing
kernels, which drop packets and count them.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import select
import sys
import time
from typing import Dict, List, TextIO

from pcapd.ctl.display import dump
from pcapd.ctl.display.decode import decode
from pcapd.ctl.display.terminal import silence
from pcapd.ctl.display.text import escape
from pcapd.ctl.sinks.fileoptions import Payload
from pcapd.ctl.sinks.output import ReaderLeft
from pcapd.ctl.sinks.sink import Sink
from pcapd.errors import PcapdError
from pcapd.merge.muxer import Piece
from pcapd.savefile.reader import FilePacket, Reader

__all__ = ["Printer", "PrintingFailed", "as_event", "as_line"]


_DUMPS = {Payload.TEXT: dump.as_text, Payload.HEX: dump.as_hex}


class PrintingFailed(PcapdError):
    """Standard output cannot be written.  The capture file is unaffected."""


class Printer(Sink):
    """Writes lines to standard output.

    Args:
        json: Print events for scripts instead.
        payload: How to print the packet's bytes.
        stream: The stream to write to.
    """

    def __init__(self, *, json: bool, payload: Payload = Payload.NONE, stream: TextIO = sys.stdout) -> None:
        self._json = json
        self._dump = _DUMPS.get(payload)
        self._stream = stream
        self._terminal = stream.isatty()
        self._readers: Dict[str, Reader] = {}

    def write(self, pieces: List[Piece], now: float = 0.0, *, last: bool = False) -> None:
        """Print the packets of pieces, which must be pcapng.

        Raises:
            PrintingFailed: Standard output cannot be written; raised once.
            ReaderLeft: The reader has closed the pipe.
        """
        lines: List[str] = []
        for piece in pieces:
            reader = self._readers.setdefault(piece.stream, Reader())
            for packet in reader.packets(piece.data):
                lines.append(json.dumps(as_event(packet)) if self._json else as_line(packet))
                if self._dump is not None and not self._json:
                    lines.append(self._dump(packet.interface.link_type, packet.data))
        data = "".join(f"{line}\n" for line in lines)
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.flush()  # earlier events
            # Not through the stream: without buffering (PYTHONUNBUFFERED), Python drops the
            # rest of a write that a signal interrupted.
            # A character that the encoding lacks is written as an escape.
            view = memoryview(data.encode(encoding, "backslashreplace"))
            while view:
                try:
                    view = view[os.write(self._stream.fileno(), view) :]
                except BlockingIOError:  # another process that has the pipe made it non-blocking
                    select.select([], [self._stream], [])
        except OSError as error:
            # Otherwise Python's flush at exit, or our next line, would fail again.
            silence(self._stream.fileno())
            if self._terminal and error.errno == errno.EIO:
                return  # the terminal was closed: SIGHUP ends the capture, unless it is ignored
            if isinstance(error, BrokenPipeError):
                raise ReaderLeft("the reader of the lines has closed the pipe") from error
            raise PrintingFailed(f"cannot print: {error.strerror}") from error


def as_line(packet: FilePacket) -> str:
    """The packet as a line of text, escaped for a terminal."""
    found = decode(packet.interface.link_type, packet.data)
    ends = f" {found.source} > {found.destination}" if found.source else ""
    info = f" {found.info}" if found.info else ""
    seconds, micros = divmod(packet.us, 1_000_000)
    line = f"{packet.interface.name}{ends} {found.protocol} {packet.length}{info}"
    return f"{_clock(seconds)}.{micros:06d} {escape(line)}"


def as_event(packet: FilePacket) -> Dict[str, object]:
    """The packet as JSON values."""
    found = decode(packet.interface.link_type, packet.data)
    return {
        "event": "packet",
        "time_us": packet.us,
        "source": packet.interface.name,
        "from": found.source or None,
        "to": found.destination or None,
        "protocol": found.protocol,
        "length": packet.length,
        "info": found.info,
    }


@functools.lru_cache(maxsize=16)
def _clock(seconds: int) -> str:
    """The local time of day, as in tcpdump."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # a year out of range
        return str(seconds)
