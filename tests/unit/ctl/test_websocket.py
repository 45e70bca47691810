"""What comes on a WebSocket, cut up without copying: payload here, frames of every other kind there."""

from __future__ import annotations

from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from pcapd.ctl.stream.websocket import Splitter
from pcapd.errors import RemoteProtocolError

PING = b"\x89\x04ping"


def frames(*payloads: bytes) -> bytes:
    """As a server sends them, with a ping behind each."""
    server = FrameProtocol(client=False, extensions=[])
    sent = [bytes(server._serialize_frame(Opcode.BINARY, payload)) + PING for payload in payloads]
    return b"".join(sent)


@given(st.lists(st.sampled_from([0, 1, 125, 126, 127, 65535, 65536]), max_size=4), st.integers(1, 70_000))
@pytest.mark.long
def test_any_pieces(sizes: List[int], piece: int) -> None:
    """A stream of any cut and any length form gives the same messages."""
    payloads = [bytes([number]) * size for number, size in enumerate(sizes)]
    stream = frames(*payloads)
    splitter, data, others = Splitter(), b"", []
    for at in range(0, len(stream), piece):
        cut = splitter.feed(memoryview(stream[at : at + piece]))
        data += b"".join(cut.data)
        others += cut.others
    assert data == b"".join(payloads) and others == [PING] * len(payloads)


def test_a_message_in_two_pieces() -> None:
    """The rest of a message in two pieces is not taken for a frame."""
    splitter = Splitter()
    first = splitter.feed(memoryview(b"\x82\x05a"))
    second = splitter.feed(memoryview(b"\x81\x02\xff\xff" + PING))
    assert b"".join([*first.data, *second.data]) == b"a\x81\x02\xff\xff" and second.others == [PING]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"\x82\x81abcdx", "must not mask"),
        (b"\x89\x80abcd", "must not mask"),
        (b"\xc2\x01x", "reserved bits"),
        (b"\xa0\x01x", "reserved bits"),
        (b"\x92\x00", "reserved bits"),
        (b"\x89\x7e\x00\x7e" + bytes(126), "neither a binary nor a control frame"),
        (b"\x81\x7e\x00\x7e" + bytes(126), "neither a binary nor a control frame"),
    ],
)
def test_what_no_server_may_send(frame: bytes, words: str) -> None:
    """A frame that a server may not send is refused with the reason."""
    with pytest.raises(RemoteProtocolError, match=words):
        Splitter().feed(memoryview(frame))
