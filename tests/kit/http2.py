"""Connections of HTTP/2 in clear as packets, written by h2, hyperframe and hpack."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

from h2.config import H2Configuration
from h2.connection import H2Connection
from hyperframe.frame import HeadersFrame, SettingsFrame

from tests.kit.segments import ACK, CLIENT, FIN, SERVER, SYN, Packet, ipv4, tcp

Fields = Sequence[Tuple[str, str]]
#: A SETTINGS frame without a setting.
EMPTY = bytes(SettingsFrame(0).serialize())
OK: Fields = ((":status", "200"), ("content-type", "application/grpc"))


def call(path: str = "/shop.Cart/Add", *more: Tuple[str, str]) -> List[Tuple[str, str]]:
    """The fields of a gRPC call."""
    return [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "app"),
            ("content-type", "application/grpc"), ("te", "trailers"), *more]  # fmt: skip


def headers(stream: int, block: bytes, *flags: str, kind: Any = HeadersFrame, **more: Any) -> bytes:
    frame = kind(stream, block, **more)
    frame.flags = {*flags} | ({"END_HEADERS"} if "MORE" not in flags else set())
    frame.flags.discard("MORE")
    return bytes(frame.serialize())


class Talk:
    """A connection between a client and a server of h2, as packets.

    Args:
        size: Bytes of the largest packet's payload.
    """

    def __init__(self, size: int = 1400, port: int = 50051) -> None:
        self.ports = {"client": (40000, port), "server": (port, 40000)}
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.size, self.us = size, 0
        self.packets: List[Packet] = []
        self._next = {"client": 100, "server": 300}
        self.segment("client", SYN, -1)
        self.segment("server", SYN | ACK, -1)
        self.segment("client", ACK)

    def segment(self, end: str, flags: int, shift: int = 0, data: bytes = b"") -> None:
        """Add a packet."""
        other = "server" if end == "client" else "client"
        seq, ack = self._next[end] + shift, self._next[other]
        content = tcp(self.ports[end], seq, ack if flags & ACK else 0, flags, data)
        ends = (CLIENT, SERVER) if end == "client" else (SERVER, CLIENT)
        self.packets.append((self.us, ipv4(*ends, 6, content, len(self.packets))))
        self._next[end] += len(data)
        self.us += 100

    def raw(self, end: str, data: bytes) -> None:
        """Send bytes in packets of the largest size."""
        for at in range(0, len(data), self.size):
            self.segment(end, ACK, 0, data[at : at + self.size])

    def flush(self) -> None:
        """Send what both ends have to say, and let them read it."""
        for _ in range(3):
            for name, end, other in (
                ("client", self.client, self.server),
                ("server", self.server, self.client),
            ):
                data = end.data_to_send()
                if data:
                    self.raw(name, data)
                    other.receive_data(data)

    def open(self) -> Talk:
        """Exchange the prefaces."""
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.flush()
        return self

    def ask(self, fields: Fields, body: bytes = b"", *, end: bool = True) -> int:
        """Send a request."""
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, fields, end_stream=end and not body)
        if body:
            self.client.send_data(stream, body, end_stream=end)
        self.flush()
        return stream

    def answer(self, stream: int, fields: Fields = OK, body: bytes = b"", trailers: Fields = ()) -> None:
        """Send a response."""
        self.server.send_headers(stream, fields, end_stream=not body and not trailers)
        for at in range(0, len(body), 16384):
            part = body[at : at + 16384]
            self.server.send_data(stream, part, end_stream=not trailers and at + 16384 >= len(body))
            self.flush()
            self.client.acknowledge_received_data(len(part), stream)
        if trailers:
            self.server.send_headers(stream, trailers, end_stream=True)
        self.flush()

    def close(self, first: str = "client", flags: int = FIN | ACK) -> List[Packet]:
        """Close the connection; returns all packets."""
        other = "server" if first == "client" else "client"
        self.segment(first, flags)
        if flags & FIN:
            self._next[first] += 1
            self.segment(other, FIN | ACK)
            self._next[other] += 1
            self.segment(first, ACK)
        return self.packets
