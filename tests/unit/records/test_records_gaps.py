"""Packets that a source lost are told with its next packet: epb_dropcount."""

from __future__ import annotations

from types import ModuleType

import pytest
from records_samples import UNLIMITED, block, record

from pcapd.records import Form

A = [record(us, bytes([us])) for us in range(10)]


def a(us: int, drops: int = 0) -> bytes:
    """The block of one of these."""
    return block(1, us, bytes([us]), drops=drops)


def test_the_option(records: ModuleType) -> None:
    """Code 4, eight bytes, after the padded data; then the end of the options."""
    rendered = records.render(record(1, b"abcde"), 7, Form.PCAPNG, 1, UNLIMITED, [(0, 2**33 + 3)])
    assert rendered.data == bytes.fromhex(
        "06000000 38000000 07000000 00000000 01000000 05000000 05000000 6162636465 000000"
        "04000800 03000000 02000000 00000000 38000000"
    )


def test_the_first_packet_after_the_time(records: ModuleType) -> None:
    """Not the one of that very microsecond, and none but the first."""
    batch = A[3] + A[4] + A[5] + A[6]
    rendered = records.render(batch, 1, Form.PCAPNG, UNLIMITED, UNLIMITED, [(4, 9)])
    assert rendered == (a(3) + a(4) + a(5, 9) + a(6), 4, 1)


def test_gaps_that_no_packet_separates_are_one(records: ModuleType) -> None:
    """Their numbers are added up; what comes later is told later."""
    gaps = [(2, 5), (3, 6), (5, 7), (8, 1)]
    rendered = records.render(A[3] + A[4] + A[6], 1, Form.PCAPNG, UNLIMITED, UNLIMITED, gaps)
    assert rendered == (a(3, 5) + a(4, 6) + a(6, 7), 3, 3)
    assert records.render(A[9], 1, Form.PCAPNG, 1, UNLIMITED, gaps) == (a(9, 19), 1, 4)


def test_a_gap_of_nothing_is_no_option(records: ModuleType) -> None:
    """It counts as told."""
    assert records.render(A[3], 1, Form.PCAPNG, 1, UNLIMITED, [(0, 0)]) == (a(3), 1, 1)


def test_more_than_fits_is_the_most(records: ModuleType) -> None:
    """Sums stop at 64 bits."""
    rendered = records.render(A[3], 1, Form.PCAPNG, 1, UNLIMITED, [(0, 2**63 - 1)] * 3)
    assert rendered == (a(3, 2**64 - 1), 1, 3)


def test_a_packet_that_does_not_fit_tells_nothing(records: ModuleType) -> None:
    """The limit counts the option, and the gap stays for the next time."""
    size = len(a(3))
    for limit, told in ((size + 15, 0), (size + 16, 1)):
        rendered = records.render(A[3], 1, Form.PCAPNG, 9, limit, [(0, 1)])
        assert (rendered.packets, rendered.told) == (told, told)
        merged = records.merge([(1, [A[3]], [(0, 1)])], 9, 0, Form.PCAPNG, 9, limit)
        assert (merged.packets, merged.told, merged.rests) == ((told,), (told,), [b"" if told else A[3]])


def test_classic_pcap_has_no_place(records: ModuleType) -> None:
    """The gap is past all the same."""
    assert records.render(A[3], 1, Form.PCAP, 9, UNLIMITED, [(0, 1)]) == (A[3], 1, 1)


def test_each_source_has_its_own(records: ModuleType) -> None:
    """In time order, whatever the order of arrival; what is left behind keeps its gap."""
    merged = records.merge(
        [(1, [A[6], A[2] + A[4]], [(3, 5), (7, 8)]), (2, [A[3]]), (0, [A[1], A[9]], [(4, 2)])],
        7,
        0,
        Form.PCAPNG,
        UNLIMITED,
        UNLIMITED,
    )
    other = [block(0, 1, bytes([1])), block(2, 3, bytes([3]))]
    assert merged.data == other[0] + a(2) + other[1] + a(4, 5) + a(6)
    assert merged.told == (1, 0, 0)


@pytest.mark.parametrize("gap", [(2**63, 1), (0, -1), (0, 2**63)])
def test_numbers_out_of_range(records: ModuleType, gap: tuple[int, int]) -> None:
    """They are the caller's error."""
    with pytest.raises(ValueError, match="must be within"):
        records.render(A[3], 1, Form.PCAPNG, 1, 1, [gap])
    with pytest.raises(ValueError, match="must be within"):
        records.merge([(1, [], [gap])], 1, 1, Form.PCAPNG, 1, 1)
