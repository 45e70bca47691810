"""from_savefile: packets of a pcap savefile become a batch, in C as in Python, and no good one is lost."""

from __future__ import annotations

import struct
from types import ModuleType
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcapd import records as public
from pcapd.errors import RecordError
from pcapd.packet.headers import LINKS
from pcapd.records import Checked, Converted, _savefile, check
from tests.kit.implementations import implementation, outcome
from tests.kit.record_samples import EDGES, UNLIMITED, limits, record, u32

_FORMS = [(big_endian, nanoseconds) for big_endian in (False, True) for nanoseconds in (False, True)]
_SNAPLEN = 262144
#: Ethernet, IPv4, UDP, and two bytes of payload.
_DATAGRAM = bytes(12) + b"\x08\0\x45\0\0\x1e\0\0\0\0\x40\x11" + bytes(10) + bytes(8) + b"hi"


@pytest.fixture(params=["_savefile", "_native"])
def convert(request: pytest.FixtureRequest) -> Callable[..., Converted]:
    """One implementation of from_savefile, for little endian and microseconds unless a test says otherwise."""
    module: ModuleType = implementation("records", request.param)

    def call(data: bytes, **wanted: Any) -> Converted:
        usual = {"big_endian": False, "nanoseconds": False, "max_captured": _SNAPLEN, "limit": UNLIMITED}
        converted: Converted = module.from_savefile(data, **{**usual, **wanted})
        return converted

    return call


def saved(
    us: int, data: bytes, *, big_endian: bool = False, nanoseconds: bool = False, original: int = -1
) -> bytes:
    """A record of a savefile; with nanoseconds, the last nanosecond within the microsecond."""
    part = us % 1_000_000 * 1000 + 999 if nanoseconds else us % 1_000_000
    size = len(data) if original < 0 else original
    return struct.pack(f"{'>' if big_endian else '<'}4I", us // 1_000_000, part, len(data), size) + data


@pytest.mark.parametrize(("big_endian", "nanoseconds"), _FORMS)
def test_each_form_of_a_savefile(
    convert: Callable[..., Converted], big_endian: bool, nanoseconds: bool
) -> None:
    """Both byte orders and both units become the same records; nanoseconds are rounded down."""
    packets = [(1_700_000_000_999_999, b"abc", 1500), (2**32 * 1_000_000 - 1, b"", 0), (7, b"x" * 99, 99)]
    form = {"big_endian": big_endian, "nanoseconds": nanoseconds}
    data = b"".join(saved(us, content, original=size, **form) for us, content, size in packets)
    batch = b"".join(record(us, content, size) for us, content, size in packets)
    found = convert(data, **form)
    assert found == (batch, len(data), Checked(3, 102, 7, 2**32 * 1_000_000 - 1))
    assert found.checked == check(found.batch, _SNAPLEN)


def test_an_incomplete_record_stays(convert: Callable[..., Converted]) -> None:
    """Wherever the data ends, the whole records before the end are converted and the rest is not consumed."""
    first, second = saved(1, b"abc"), saved(2, b"defg")
    nothing = Converted(b"", 0, Checked(0, 0, 0, 0))
    for end in range(len(first + second)):
        found = convert((first + second)[:end])
        assert found == (nothing if end < len(first) else (first, len(first), Checked(1, 3, 1, 1)))


@pytest.mark.parametrize(("limit", "packets"), [(0, 1), (18, 1), (19, 1), (37, 1), (38, 2), (56, 2), (57, 3)])
def test_a_full_batch(convert: Callable[..., Converted], limit: int, packets: int) -> None:
    """A batch has as many records as fit in the limit, and at least one; the others are not consumed."""
    data = saved(1, b"abc") * 5
    found = convert(data, limit=limit)
    assert found.batch == data[: 19 * packets]
    assert (found.consumed, found.checked.packets) == (19 * packets, packets)


def test_headers_only(convert: Callable[..., Converted]) -> None:
    """Packets are cut after their headers, keep their original length, and count in the limit as cut."""
    data = saved(1, _DATAGRAM, original=1500) + saved(2, _DATAGRAM)
    cut = record(1, _DATAGRAM[:-2], 1500) + record(2, _DATAGRAM[:-2], 44)
    assert convert(data, headers_of=1, limit=len(cut)) == (cut, len(data), Checked(2, 84, 1, 2))
    assert convert(data, headers_of=1, limit=len(cut) - 1).checked.packets == 1
    with pytest.raises(ValueError, match="the headers of link type 2 are not known"):
        convert(data, headers_of=2)


def test_a_large_first_packet_does_not_raise_the_limit(convert: Callable[..., Converted]) -> None:
    """Room for an uncut packet above the limit is not used for further packets."""
    data = saved(1, _DATAGRAM + bytes(500)) + saved(2, _DATAGRAM)
    assert convert(data, headers_of=1, limit=100).checked.packets == 1


@pytest.mark.parametrize(
    ("fields", "nanoseconds", "words"),
    [
        ((1, 1_000_000, 0, 0), False, "1000000 microseconds are a second or more"),
        ((1, 1_000_000_000, 0, 0), True, "1000000000 nanoseconds are a second or more"),
        ((1, 0, 101, 101), False, "captured length 101 is above the limit of 100"),
        ((1, 0, 2**32 - 1, 2**32 - 1), False, "captured length 4294967295 is above the limit of 100"),
        ((1, 0, 3, 2), False, "captured length 3 is above the original length 2"),
    ],
)
def test_an_invalid_record(
    convert: Callable[..., Converted], fields: tuple[int, ...], nanoseconds: bool, words: str
) -> None:
    """Records before an invalid one are converted first; an error names what is wrong, content or not."""
    bad = struct.pack("<4I", *fields)
    how = {"nanoseconds": nanoseconds, "max_captured": 100}
    good = saved(1, b"abc", nanoseconds=nanoseconds) + saved(2, bytes(100), nanoseconds=nanoseconds)
    found = convert(good + bad + good, **how)
    assert (found.consumed, found.checked.packets) == (len(good), 2)
    with pytest.raises(ValueError) as raised:
        convert(bad, **how)
    assert str(raised.value) == words
    assert convert(bad[:15], **how).consumed == 0
    assert not isinstance(raised.value, RecordError)


_samples = st.lists(
    st.tuples(
        u32(),
        st.integers(0, 999_999) | st.sampled_from([*EDGES, 999_999_999, 10**9, 10**9 + 1]),
        st.binary(max_size=9) | st.just(_DATAGRAM),
        st.sampled_from([0, 0, 0, 1, 2**31, -1]),
    ),
    max_size=12,
)


@settings(max_examples=400, deadline=None)
@given(_samples, st.sampled_from(_FORMS), st.integers(0, 99), limits, limits | u32(), st.data())
def test_both_implementations_are_the_same(
    packets: list[tuple[int, int, bytes, int]],
    form: tuple[bool, bool],
    missing: int,
    limit: int,
    max_captured: int,
    data: st.DataObject,
) -> None:
    """Any records, cut anywhere, become equal batches or equal errors in C and in Python."""
    native = pytest.importorskip("pcapd.records._native", reason="the compiled module is not built")
    pack = struct.Struct(f"{'>' if form[0] else '<'}4I").pack
    content = b"".join(
        pack(seconds, part, len(packet), max(0, len(packet) + more)) + packet
        for seconds, part, packet, more in packets
    )
    content = content[: max(0, len(content) - missing)] + data.draw(st.binary(max_size=20))
    link_type = data.draw(st.sampled_from([-1, -1, -1, 1, *sorted(LINKS), 2, -2]))
    outcomes = [
        outcome(
            lambda function: function(
                content,
                big_endian=form[0],
                nanoseconds=form[1],
                max_captured=max_captured,
                limit=limit,
                headers_of=link_type,
            ),
            function,
        )
        for function in (native.from_savefile, _savefile.from_savefile)
    ]
    assert outcomes[0] == outcomes[1]


def test_arguments_are_the_same() -> None:
    """Both implementations take any buffer, have the same names and required arguments, and the same default."""
    asked = {"big_endian": False, "nanoseconds": False, "max_captured": 9, "limit": 0}
    for function in {_savefile.from_savefile, public.from_savefile}:
        for wrap in (bytearray, memoryview, lambda data: memoryview(b"x" + data)[1:]):
            assert function(wrap(record(1, b"abc")), **asked).batch == record(1, b"abc")
            assert function(data=wrap(b""), **asked).batch == b""
        for name in asked:
            with pytest.raises(TypeError):
                function(b"", **{other: value for other, value in asked.items() if other != name})
        with pytest.raises(TypeError):
            function("text", **asked)
        with pytest.raises(TypeError):
            function(b"", False, False, 9, 0)
