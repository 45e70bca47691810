"""Packets that a source lost are told with its next packet: epb_dropcount."""

from __future__ import annotations

from types import ModuleType
from typing import Tuple

import pytest

from pcapd.savefile.form import Form
from tests.kit.record_samples import UNLIMITED, block, record

A = [record(us, bytes([us])) for us in range(10)]


def a(us: int, drops: int = 0) -> bytes:
    """The block of one of these."""
    return block(1, us, bytes([us]), drops=drops)


def written(
    merging: ModuleType, batch: bytes, gaps: object, form: Form = Form.PCAPNG
) -> Tuple[bytes, int, int]:
    """What is written of one source, how many packets, and how many of its gaps."""
    merged = merging.merge([(1, [batch], gaps)], UNLIMITED, 0, form, UNLIMITED, UNLIMITED)
    return merged.data, merged.packets[0], merged.reported[0]


def test_the_option(merging: ModuleType) -> None:
    """The drop count is option 4 of eight bytes after the padded data, before the end of options."""
    assert written(merging, record(1, b"abcde"), [(0, 2**33 + 3)])[0] == bytes.fromhex(
        "06000000 38000000 01000000 00000000 01000000 05000000 05000000 6162636465 000000"
        "04000800 03000000 02000000 00000000 38000000"
    )


def test_the_first_packet_after_the_time(merging: ModuleType) -> None:
    """A gap is at the first packet after its time, not at one of the same microsecond."""
    batch = A[3] + A[4] + A[5] + A[6]
    assert written(merging, batch, [(4, 9)]) == (a(3) + a(4) + a(5, 9) + a(6), 4, 1)


def test_gaps_that_no_packet_separates_are_one(merging: ModuleType) -> None:
    """Gaps without a packet between them are added up; a later one is separate."""
    gaps = [(2, 5), (3, 6), (5, 7), (8, 1)]
    assert written(merging, A[3] + A[4] + A[6], gaps) == (a(3, 5) + a(4, 6) + a(6, 7), 3, 3)
    assert written(merging, A[9], gaps) == (a(9, 19), 1, 4)


def test_a_gap_of_nothing_is_no_option(merging: ModuleType) -> None:
    """A gap of zero packets gives no option, and counts as reported."""
    assert written(merging, A[3], [(0, 0)]) == (a(3), 1, 1)


def test_more_than_fits_is_the_most(merging: ModuleType) -> None:
    """Sums of gaps stop at 64 bits."""
    assert written(merging, A[3], [(0, 2**63 - 1)] * 3) == (a(3, 2**64 - 1), 1, 3)


def test_a_packet_that_does_not_fit_tells_nothing(merging: ModuleType) -> None:
    """A packet that does not fit the limit with its gap leaves the gap for the next call."""
    size = len(a(3))
    for limit, told in ((size + 15, 0), (size + 16, 1)):
        merged = merging.merge([(1, [A[3]], [(0, 1)])], 9, 0, Form.PCAPNG, 9, limit)
        assert (merged.packets, merged.reported, merged.rests) == ((told,), (told,), [b"" if told else A[3]])


def test_classic_pcap_has_no_place(merging: ModuleType) -> None:
    """A gap in classic pcap has no option, and is past all the same."""
    assert written(merging, A[3], [(0, 1)], Form.PCAP) == (A[3], 1, 1)


def test_each_source_has_its_own(merging: ModuleType) -> None:
    """Each source has its own gaps in time order, and packets left behind keep theirs."""
    merged = merging.merge(
        [(1, [A[6], A[2] + A[4]], [(3, 5), (7, 8)]), (2, [A[3]]), (0, [A[1], A[9]], [(4, 2)])],
        7,
        0,
        Form.PCAPNG,
        UNLIMITED,
        UNLIMITED,
    )
    other = [block(0, 1, bytes([1])), block(2, 3, bytes([3]))]
    assert merged.data == other[0] + a(2) + other[1] + a(4, 5) + a(6)
    assert merged.reported == (1, 0, 0)


@pytest.mark.parametrize("gap", [(2**63, 1), (0, -1), (0, 2**63)])
def test_numbers_out_of_range(merging: ModuleType, gap: tuple[int, int]) -> None:
    """Numbers out of range raise a ValueError."""
    with pytest.raises(ValueError, match="must be within"):
        merging.merge([(1, [], [gap])], 1, 1, Form.PCAPNG, 1, 1)
