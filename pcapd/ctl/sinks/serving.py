"""PCAP-over-IP: serves the capture to TCP readers.

Each reader gets a complete file: first all headers so far, then the packets from
now on.  A reader that is more than `SERVE_BACKLOG` behind is disconnected, and this
is reported: waiting for it would stop the capture for all others, and skipping
packets would hide the gap from it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
import time
from collections import deque
from typing import Deque, Dict, List, NamedTuple, Optional, Tuple

from pcapd.ctl.sinks.sink import Sink
from pcapd.errors import PcapdError
from pcapd.limits import SERVE_BACKLOG, SERVE_LAST_TIME, SERVE_READERS_MAX, TURN_MAX
from pcapd.merge.muxer import HEADERS, Piece
from pcapd.running import RunningTime

__all__ = ["News", "Server"]

#: Bytes to read at a time from a reader; they are discarded.
_WORDS = 4096


class News(NamedTuple):
    """An event of a reader.

    Attributes:
        state: ``connected``, ``left``, ``cut off`` or ``refused``.
    """

    state: str
    reader: str
    message: str


class _Reader:
    def __init__(self, connection: socket.socket, name: str) -> None:
        self.socket = connection
        self.name = name
        self.backlog = 0
        self.listens = True  # until it ends its sending direction
        self.watched = 0
        self._pending: Deque[memoryview] = deque()

    def give(self, data: bytes) -> None:
        self._pending.append(memoryview(data))
        self.backlog += len(data)

    def send(self) -> None:
        """Send as much as it accepts now.  Raises OSError when it is gone."""
        while self._pending:
            try:
                count = self.socket.send(self._pending[0])
            except (BlockingIOError, InterruptedError):
                return
            self.backlog -= count
            if count == len(self._pending[0]):
                self._pending.popleft()
            else:
                self._pending[0] = self._pending[0][count:]

    def listen(self) -> None:
        """Discard what it sends, and notice its end.  Raises OSError when it is gone."""
        if self.listens:
            with contextlib.suppress(BlockingIOError, InterruptedError):
                # It only ended its sending direction, and still reads.
                self.listens = bool(self.socket.recv(_WORDS))

    @property
    def wants(self) -> int:
        """The poll events to wait for."""
        return (select.POLLIN if self.listens else 0) | (select.POLLOUT if self._pending else 0)


class Server(Sink):
    """Listens from the start of the capture.

    Args:
        host: Name or address.
        port: 0 for any free port.

    Raises:
        PcapdError: It cannot listen there.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._socket = socket.create_server(place, family=family, backlog=SERVE_READERS_MAX)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise PcapdError(
                f"cannot listen on {host} port {port}: {reason}", "choose another address"
            ) from error
        self._socket.setblocking(False)
        place = self._socket.getsockname()
        #: The address, as for ``tshark -i TCP@``.
        self.address = _address(place)
        #: Whether only this machine can connect.
        self.loopback = ipaddress.ip_address(place[0]).is_loopback
        self._readers: Dict[int, _Reader] = {}
        self._headers: List[bytes] = []
        self._poll: Optional[select.poll] = None
        #: Events that are not yet shown.
        self.news: List[News] = []
        #: Numbers of readers, and of those that were too slow.
        self.readers = self.cut_off = 0

    def watch(self, poll: select.poll) -> None:
        """Register the readers, which wake up the loop."""
        self._poll = poll
        poll.register(self._socket, select.POLLIN)

    def write(self, pieces: List[Piece], now: float = 0.0, *, last: bool = False) -> None:
        """Pass pieces to every reader, accept new readers, and remove those that left."""
        self._accept()
        for reader in list(self._readers.values()):
            if self._serve(reader) and pieces and reader.backlog > SERVE_BACKLOG:
                self._cut_off(reader)
        self._headers += [piece.data for piece in pieces if piece.kind in HEADERS]
        if pieces:
            for reader in list(self._readers.values()):
                for piece in pieces:
                    reader.give(piece.data)
                self._serve(reader)

    def close(self) -> None:
        """Send the rest to the readers, within `SERVE_LAST_TIME`, and end the streams."""
        with contextlib.suppress(OSError):
            self._socket.close()
        poll = self._poll = select.poll()
        for reader in self._readers.values():
            reader.watched = 0
        patience, in_all = SERVE_LAST_TIME
        # Time during which we are suspended (Ctrl-Z) does not count against readers.
        ran = RunningTime(TURN_MAX)
        moved = ran.at(time.monotonic())
        while self._readers and (now := ran.at(time.monotonic())) - moved < patience and now < in_all:
            before = self._behind
            for reader in list(self._readers.values()):
                if self._serve(reader) and not reader.backlog:
                    self._drop(reader)
            if self._behind < before:
                moved = now
            if self._readers:
                poll.poll(100)
        for reader in list(self._readers.values()):
            self._cut_off(reader)

    @property
    def _behind(self) -> int:
        return sum(reader.backlog for reader in self._readers.values())

    def _accept(self) -> None:
        while True:
            try:
                connection, place = self._socket.accept()
            except OSError:  # no reader, or it has left again
                return
            name = _address(place)
            if len(self._readers) >= SERVE_READERS_MAX:
                connection.close()
                self.news.append(News("refused", name, f"there are {SERVE_READERS_MAX} readers already"))
                continue
            connection.setblocking(False)
            reader = self._readers[connection.fileno()] = _Reader(connection, name)
            self.readers += 1
            self.news.append(News("connected", name, "it reads the packets from now on"))
            if self._headers:
                reader.give(b"".join(self._headers))
            self._serve(reader)

    def _serve(self, reader: _Reader) -> bool:
        """Send as much as it accepts; returns whether it is still connected."""
        try:
            reader.listen()
            reader.send()
        except OSError:
            self._drop(reader, News("left", reader.name, "it has closed the connection"))
            return False
        if self._poll is not None and reader.wants != reader.watched:
            if reader.wants:
                self._poll.register(reader.socket, reader.wants)
            else:
                self._poll.unregister(reader.socket)
            reader.watched = reader.wants
        return True

    def _cut_off(self, reader: _Reader) -> None:
        self.cut_off += 1
        self._drop(reader, News("cut off", reader.name, f"it was too slow, {reader.backlog} bytes behind"))

    def _drop(self, reader: _Reader, news: Optional[News] = None) -> None:
        if news is not None:
            self.news.append(news)
        del self._readers[reader.socket.fileno()]
        if self._poll is not None and reader.watched:
            self._poll.unregister(reader.socket)
        reader.socket.close()


def _address(place: Tuple[object, ...]) -> str:
    host = str(place[0])
    return f"[{host}]:{place[1]}" if ":" in host else f"{host}:{place[1]}"
