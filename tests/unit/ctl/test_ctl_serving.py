"""PCAP-over-IP: who reads gets a whole stream; who does not keep up is cut off, and costs no more memory."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import Iterator, List

import pytest

from pcapd.ctl.options import NOWHERE, CaptureOptions, UsageProblem
from pcapd.ctl.sinks import serving
from pcapd.ctl.sinks.fileoptions import FileOptions, parse_place
from pcapd.ctl.sinks.files import check_files
from pcapd.ctl.sinks.serving import Server
from pcapd.errors import PcapdError
from pcapd.limits import SERVE_READERS_MAX
from pcapd.merge.muxer import Kind, Piece
from pcapd.savefile.form import Form

HEADER = Piece(Kind.HEADER, b"section header;")
INTERFACE = Piece(Kind.HEADER, b"interface;")
PACKETS = Piece(Kind.PACKETS, b"packets;", 1)


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server("127.0.0.1", 0)
    yield served
    served.close()


def connect(server: Server) -> socket.socket:
    host, port = parse_place(server.address)
    return socket.create_connection((host, port), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    with contextlib.closing(connection):
        data = bytearray()
        while more := connection.recv(65536):
            data += more
        return bytes(data)


def states(server: Server) -> List[str]:
    return [news.state for news in server.news]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:57012", ("127.0.0.1", 57012)),
        ("57012", ("127.0.0.1", 57012)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_places(text: str, place: tuple[str, int]) -> None:
    """A --serve port without an address is on this machine only."""
    assert parse_place(text) == place


@pytest.mark.parametrize(
    "text", ["", "x", "::1:5", "127.0.0.1:", ":5", "127.0.0.1:70000", "h:5x", "h:-1", "h:²"]
)
def test_no_places(text: str) -> None:
    """An invalid --serve address is refused with a message."""
    with pytest.raises(ValueError, match=r"such as|brackets"):
        parse_place(text)


def test_a_late_reader_gets_all_headers_first(server: Server) -> None:
    """A late reader gets all headers first, then the packets from now on."""
    early = connect(server)
    server.write([HEADER, PACKETS])
    server.write([INTERFACE])
    late = connect(server)
    server.write([])
    server.write([PACKETS])
    server.close()
    assert read_all(early) == b"section header;packets;interface;packets;"
    assert read_all(late) == b"section header;interface;packets;"
    assert states(server) == ["connected", "connected"] and server.readers == 2 and server.cut_off == 0


def test_a_reader_that_leaves(server: Server) -> None:
    """A reader that leaves is reported, and the others go on."""
    leaving, staying = connect(server), connect(server)
    server.write([HEADER])
    leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    leaving.close()
    for _ in range(100):
        server.write([PACKETS])
    assert "left" in states(server)
    server.close()
    assert read_all(staying) == b"section header;" + b"packets;" * 100


def reset(connection: socket.socket, server: Server) -> None:
    """Leave without a goodbye; returns when the server's end knows."""
    (ours,) = server._readers.values()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()
    poll = select.poll()
    poll.register(ours.socket, 0)  # errors only
    assert poll.poll(10_000)


def test_a_slow_reader_that_leaves(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow reader that leaves is not reported as disconnected for slowness too."""
    leaving = connect(server)
    server.write([Piece(Kind.PACKETS, b"x" * 20_000_000, 1)])
    monkeypatch.setattr(serving, "SERVE_BACKLOG", 10)
    reset(leaving, server)
    server.write([PACKETS])
    assert states(server) == ["connected", "left"] and server.cut_off == 0


def test_a_reader_that_left_before_the_end(server: Server) -> None:
    """A reader that left before the end gets no final bytes."""
    leaving = connect(server)
    server.write([HEADER])
    reset(leaving, server)
    server.close()
    assert states(server) == ["connected", "left"] and server.cut_off == 0


def test_a_reader_has_until_something_comes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that is behind may catch up while no new packets come."""
    monkeypatch.setattr(serving, "SERVE_BACKLOG", 10)
    slow = connect(server)
    server.write([Piece(Kind.PACKETS, b"x" * 20_000_000, 1)])
    server.write([])
    assert server.cut_off == 0
    server.write([PACKETS])
    assert server.cut_off == 1
    slow.close()


def test_a_reader_that_has_nothing_to_say(server: Server) -> None:
    """A reader that closes its sending side goes on reading, and bytes that it sends are ignored."""
    quiet, talking = connect(server), connect(server)
    quiet.shutdown(socket.SHUT_WR)
    talking.sendall(b"x" * 10_000)
    for _ in range(10):
        server.write([HEADER])
    server.close()
    assert read_all(quiet) == b"section header;" * 10
    with contextlib.suppress(ConnectionResetError):  # we close with words of it unread
        assert read_all(talking).startswith(b"section header;")


def test_a_slow_reader_is_cut_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow reader is disconnected at a bound of kept bytes, and holds up no other."""
    monkeypatch.setattr(serving, "SERVE_BACKLOG", 1_000_000)
    slow, fast = connect(server), connect(server)
    got: List[bytes] = []
    reading = threading.Thread(target=lambda: got.append(read_all(fast)))
    reading.start()
    server.write([HEADER])
    piece = Piece(Kind.PACKETS, b"x" * 100_000, 1)
    poll = select.poll()
    server.watch(poll)
    for turn in range(500):
        server.write([piece])
        assert max((reader.backlog for reader in server._readers.values()), default=0) <= 1_100_000
        if turn % 5 == 0:  # let the one that reads keep up
            for _ in range(50):
                server.write([])
                poll.poll(2)
                if all(
                    r.backlog == 0
                    for r in server._readers.values()
                    if r.name.endswith(str(fast.getsockname()[1]))
                ):
                    break
    server.close()
    reading.join(30)
    assert len(got[0]) == len(HEADER.data) + 500 * 100_000
    assert server.cut_off == 1 and states(server).count("cut off") == 1
    assert 0 < len(read_all(slow)) < 500 * 100_000


def test_a_reader_that_is_stuck_at_the_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end a reader that is stuck is given a bounded time."""
    monkeypatch.setattr(serving, "SERVE_LAST_TIME", (0.3, 5.0))
    stuck = connect(server)
    server.write([Piece(Kind.PACKETS, b"x" * 50_000_000, 1)])
    server.close()
    assert server.cut_off == 1
    stuck.close()


def test_too_many_readers(server: Server) -> None:
    """Readers above the limit are refused, which is reported."""
    readers = [connect(server) for _ in range(SERVE_READERS_MAX + 1)]
    server.write([])
    assert states(server) == ["connected"] * SERVE_READERS_MAX + ["refused"]
    assert readers[-1].recv(1) == b""
    for reader in readers:
        reader.close()


def test_an_address_that_is_taken(server: Server) -> None:
    """An address that is in use is reported as such."""
    with pytest.raises(PcapdError, match=r"cannot listen on 127\.0\.0\.1"):
        Server(*parse_place(server.address))
    with pytest.raises(PcapdError, match="cannot listen"):
        Server("no.such.host.invalid", 1)


def test_an_address_of_one_link() -> None:
    """A link-local address is looked for on the interface of its zone."""
    with pytest.raises(PcapdError, match=r"Cannot assign requested address|not supported"):
        Server("fe80::1%lo", 0)


def test_who_can_read(server: Server) -> None:
    """Only loopback addresses count as private."""
    assert server.loopback
    everybody = Server("0.0.0.0", 0)
    assert not everybody.loopback
    everybody.close()


def test_one_stream_cannot_be_split() -> None:
    """A reader gets the packets of all instances in one stream."""
    options = FileOptions(split=True, serve=("127.0.0.1", 0))
    with pytest.raises(UsageProblem, match="--split-by"):
        check_files(CaptureOptions("x.pcapng", Form.PCAPNG, files=options))
    with pytest.raises(UsageProblem, match="name a file"):
        check_files(CaptureOptions(NOWHERE, Form.PCAPNG, files=FileOptions(split=True)))
