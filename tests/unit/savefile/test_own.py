"""Blocks that pcapd wrote are surveyed, and cut by time, many at a time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapd.savefile import own
from pcapd.savefile.blocks import enhanced_packet, interface_statistics, section_header
from tests.kit.implementations import implementations, outcome

HEAD = section_header("pcapd")


def packet(us: int, data: bytes = b"abc") -> bytes:
    return enhanced_packet(0, us, len(data), data)


def files() -> st.SearchStrategy[bytes]:
    """Blocks with few different times, of which the last may be incomplete, or bytes may be wrong."""
    times = st.sampled_from([0, 1, 2, 2**32, 2**61])
    blocks = st.lists(
        st.one_of(st.just(HEAD), st.builds(packet, times, st.binary(max_size=9)), st.binary(max_size=9))
    )
    return st.builds(lambda some, end: b"".join(some)[: end or None], blocks, st.integers(-9, 0))


@given(
    data=files(),
    most=st.integers(-1, 5),
    low=st.integers(-1, 2**33),
    high=st.sampled_from([0, 1, 2**63 - 1, 2**63]),
)
def test_both_implementations_do_the_same(data: bytes, most: int, low: int, high: int) -> None:
    """Both implementations give the same results and errors for any bytes."""
    for name, arguments in (("survey", (most,)), ("between", (low, high))):
        results = [outcome(getattr(module, name), data, *arguments) for module in implementations("savefile")]
        assert all(result == results[0] for result in results)


def test_survey() -> None:
    """The latest packets are found although one came late, and an incomplete block is left out."""
    data = HEAD + packet(5) + packet(7) + packet(6) + packet(7)
    whole = len(HEAD) + 4 * len(packet(5))
    found = own.survey(data + packet(9)[:-1], 10)
    assert found == own.Survey(whole, 4, 5, 7, [len(HEAD) + len(packet(5)), len(data) - len(packet(7))])
    assert own.survey(data, 1).latest == found.latest[1:]
    assert own.survey(HEAD, 1) == own.Survey(len(HEAD), 0, 0, 0, [])


def test_between() -> None:
    """Packets outside the time are removed, other blocks are not."""
    end = interface_statistics(0, 9, 1, 9, 4, 0, 0, 4)
    data = HEAD + packet(5) + packet(6) + end + packet(4) + packet(7)
    assert own.between(data, 5, 6) == HEAD + packet(5) + packet(6) + end
    assert own.between(data, 0, 2**63 - 1) == data


@pytest.mark.parametrize(
    "data", [b"<html><html>", HEAD + bytes(12), packet(1)[:4] + b"\x10\0\0\0" + bytes(8)]
)
def test_other_bytes(data: bytes) -> None:
    """What pcapd did not write is refused, and so is half a block where whole ones are wanted."""
    for module in implementations("savefile"):
        refuse: Any = module
        with pytest.raises(ValueError, match="pcapd wrote"):
            refuse.survey(data, 1)
        with pytest.raises(ValueError, match="incomplete"):
            refuse.between(HEAD + packet(1)[:-1], 0, 1)
