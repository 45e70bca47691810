"""The frame format: what goes in comes out, however it was cut, and nothing hostile gets in."""

from __future__ import annotations

import struct
from typing import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.errors import LocalProtocolError, RemoteProtocolError
from pcapd.limits import CONTROL_MAX, FRAME_MAX, FRAME_TYPICAL, KIB
from pcapd.wire import HEADER_SIZE, Frame, FrameDecoder, FrameType, encode_frame, frame_header
from tests.kit.lab.memory import traced

frames = st.lists(
    st.builds(Frame, st.sampled_from(FrameType), st.integers(0, 65535), st.binary(max_size=40)), max_size=8
)


def decoded(pieces: Iterable[bytes]) -> list[Frame]:
    """Feed one decoder with pieces and return all frames; nothing may be left over."""
    decoder = FrameDecoder()
    found = [frame for piece in pieces for frame in decoder.feed(piece)]
    assert decoder.pending == 0
    return found


def header(length: int, kind: int, flags: int = 0, source: int = 0) -> bytes:
    return struct.pack("!IBBH", length, kind, flags, source)


def test_a_frame_has_exactly_the_documented_layout() -> None:
    """Length, type, flags and source stand in network order before the payload."""
    assert encode_frame(FrameType.STATS, 0x0102, b"{}") == b"\x00\x00\x00\x02\x05\x00\x01\x02{}"


@given(frames)
def test_whole_frames_come_out_as_they_went_in(sent: list[Frame]) -> None:
    """All frames of one read are found, in order."""
    assert decoded([b"".join(encode_frame(*frame) for frame in sent)]) == sent


@given(frames)
def test_frames_that_come_byte_by_byte(sent: list[Frame]) -> None:
    """Cutting the stream after every byte changes nothing."""
    stream = b"".join(encode_frame(*frame) for frame in sent)
    assert decoded(stream[at : at + 1] for at in range(len(stream))) == sent


@given(frames, st.data())
def test_frames_that_are_cut_anywhere(sent: list[Frame], data: st.DataObject) -> None:
    """A stream gives the same frames, however it is cut into reads."""
    stream = b"".join(encode_frame(*frame) for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)])]
    assert decoded(pieces) == sent


@given(frames, st.data())
def test_bytes_that_are_put_where_they_belong(sent: list[Frame], data: st.DataObject) -> None:
    """Filling the room of an incomplete frame is the same as feeding its bytes."""
    stream = b"".join(encode_frame(*frame) for frame in sent)
    decoder, found, at = FrameDecoder(), [], 0
    while at < len(stream):
        room = decoder.room()
        count = data.draw(st.integers(1, len(stream) - at if room is None else len(room)))
        piece = bytearray(stream[at : at + count])
        if room is None:
            found += decoder.feed(piece)
            piece[:] = bytes(len(piece))  # it may change now
        else:
            room[:count] = piece
            found += decoder.filled(count)
        at += count
    assert found == sent and decoder.pending == 0


@pytest.mark.parametrize("length", [FRAME_TYPICAL - 1, FRAME_TYPICAL, FRAME_TYPICAL + 1, FRAME_MAX])
def test_a_frame_larger_than_what_is_reserved_at_first(length: int) -> None:
    """Room is found for the largest frame, and its payload is what was sent."""
    payload = bytes(range(251)) * (length // 251 + 1)
    frame = encode_frame(FrameType.PACKETS, 1, payload[:length])
    assert decoded([frame[:9], frame[9:20], frame[20:]]) == [Frame(FrameType.PACKETS, 1, payload[:length])]


@given(st.integers(0, HEADER_SIZE + 4))
def test_a_truncated_frame_is_waited_for(cut: int) -> None:
    """A frame whose last byte has not come yields nothing, and counts as pending."""
    decoder = FrameDecoder()
    assert list(decoder.feed(encode_frame(FrameType.PING, 0, b"hello")[:cut])) == []
    assert decoder.pending == cut


def test_a_small_piece_of_a_large_frame_costs_no_copy_of_the_rest() -> None:
    """A peer that sends a large frame in tiny pieces does not make us copy all of it for each."""
    decoder = FrameDecoder()
    begun = header(FRAME_MAX, FrameType.PACKETS) + bytes(FRAME_MAX // 2)
    assert list(decoder.feed(begun)) == []
    with traced() as peak:
        for _ in range(3):
            assert list(decoder.feed(b"x")) == []
        assert peak() < FRAME_MAX // 16
    assert decoder.pending == len(begun) + 3


def test_many_small_pieces_hold_little_more_than_their_bytes() -> None:
    """A frame that comes in pieces of two bytes takes the memory of a typical frame, whatever size it announces."""
    decoder = FrameDecoder()
    with traced() as peak:
        assert list(decoder.feed(header(FRAME_MAX, FrameType.PACKETS))) == []
        for _ in range(50_000):
            assert list(decoder.feed(b"xy")) == []
        assert peak() < FRAME_TYPICAL + 16 * KIB


@pytest.mark.parametrize("kind", FrameType)
def test_the_largest_frame_of_each_type_passes(kind: FrameType) -> None:
    """The bound itself is allowed, in both directions."""
    largest = FRAME_MAX if kind is FrameType.PACKETS else CONTROL_MAX
    ((_, _, payload),) = decoded([encode_frame(kind, 1, bytes(largest))])
    assert len(payload) == largest


@pytest.mark.parametrize("kind", FrameType)
def test_one_byte_too_many_is_refused_from_the_header(kind: FrameType) -> None:
    """An oversized frame is refused before any of its payload has come."""
    largest = FRAME_MAX if kind is FrameType.PACKETS else CONTROL_MAX
    with pytest.raises(RemoteProtocolError, match=f"{kind.name} frame of {largest + 1} bytes"):
        list(FrameDecoder().feed(header(largest + 1, kind)))


@pytest.mark.parametrize("kind", FrameType)
def test_we_do_not_send_what_nobody_accepts(kind: FrameType) -> None:
    """Our own oversized frame is our bug, and is called that."""
    largest = FRAME_MAX if kind is FrameType.PACKETS else CONTROL_MAX
    with pytest.raises(LocalProtocolError, match=kind.name):
        frame_header(kind, 0, largest + 1)


@pytest.mark.parametrize("number", [0, 12, 127, 255])
def test_an_unknown_type_is_refused_from_the_header(number: int) -> None:
    """A type that does not exist is a protocol error that names it."""
    with pytest.raises(RemoteProtocolError, match=f"unknown type {number}"):
        list(FrameDecoder().feed(header(5, number)))


@pytest.mark.parametrize("flags", [1, 0x80, 0xFF])
def test_unknown_flags_are_refused(flags: int) -> None:
    """No flag is defined yet, so each is a protocol error."""
    with pytest.raises(RemoteProtocolError, match=f"unknown flags {flags:#04x}"):
        list(FrameDecoder().feed(header(0, FrameType.PING, flags)))


def test_frames_before_a_bad_one_are_delivered() -> None:
    """Good frames before a bad one are not lost."""
    decoder = FrameDecoder()
    found = []
    with pytest.raises(RemoteProtocolError):
        for frame in decoder.feed(encode_frame(FrameType.PING, 0, b"1") + header(0, 99)):
            found.append(frame)
    assert found == [Frame(FrameType.PING, 0, b"1")]


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_arbitrary_bytes_raise_nothing_but_a_protocol_error(pieces: list[bytes]) -> None:
    """A hostile stream yields frames, waits or is refused, and we never hold more than it sent."""
    decoder = FrameDecoder()
    received = 0
    try:
        for piece in pieces:
            received += len(piece)
            for frame in decoder.feed(piece):
                assert isinstance(frame.type, FrameType)
            assert decoder.pending <= received
    except RemoteProtocolError:
        pass
