"""render: a batch as part of a file, in its own order."""

from __future__ import annotations

from types import ModuleType

import pytest
from records_samples import UNLIMITED, block, record

from pcapd.errors import RecordError
from pcapd.records import Form, Rendered

LATE, EARLY = record(2**32 + 5, b"later", original=9), record(3, b"four")
BATCH = LATE + EARLY


def test_pcap_is_the_batch_itself(records: ModuleType) -> None:
    """In a pcap file a batch stands as it came."""
    assert records.render(BATCH, 0, Form.PCAP, UNLIMITED, UNLIMITED) == Rendered(BATCH, 2)


def test_known_packet_block(records: ModuleType) -> None:
    """A packet block has its time in two halves, both lengths, padding, and its total length twice."""
    rendered = records.render(LATE, 7, Form.PCAPNG, UNLIMITED, UNLIMITED)
    assert rendered.data == bytes.fromhex(
        "06000000 28000000 07000000 01000000 05000000 05000000 09000000 6c61746572 000000 28000000"
    )


@pytest.mark.parametrize("length", range(9))
def test_padding(records: ModuleType, length: int) -> None:
    """Packet blocks of any length end on a multiple of four bytes, filled with zeros."""
    data = b"\xff" * length
    rendered = records.render(record(1, data), 0, Form.PCAPNG, UNLIMITED, UNLIMITED)
    assert rendered.data == block(0, 1, data)


def test_order_is_kept(records: ModuleType) -> None:
    """render does not sort."""
    expected = block(1, 2**32 + 5, b"later", 9) + block(1, 3, b"four")
    assert records.render(BATCH, 1, Form.PCAPNG, UNLIMITED, UNLIMITED) == Rendered(expected, 2)


def test_nothing_to_write(records: ModuleType) -> None:
    """No records give no bytes."""
    assert records.render(b"", 0, Form.PCAPNG, UNLIMITED, UNLIMITED) == Rendered(b"", 0)


@pytest.mark.parametrize("form", Form)
def test_limits_stop_at_a_whole_packet(records: ModuleType, form: Form) -> None:
    """Neither limit is exceeded, and what is written is whole."""
    whole = records.render(BATCH, 0, form, UNLIMITED, UNLIMITED)
    first = records.render(LATE, 0, form, UNLIMITED, UNLIMITED)
    assert records.render(BATCH, 0, form, 2, len(whole.data)) == whole
    assert records.render(BATCH, 0, form, 1, UNLIMITED) == first
    assert records.render(BATCH, 0, form, UNLIMITED, len(whole.data) - 1) == first
    assert records.render(BATCH, 0, form, UNLIMITED, len(first.data) - 1) == Rendered(b"", 0)
    assert records.render(BATCH, 0, form, 0, UNLIMITED) == Rendered(b"", 0)


@pytest.mark.parametrize("form", Form)
def test_a_lie_is_not_followed(records: ModuleType, form: Form) -> None:
    """A batch that was not checked is refused rather than read beyond its end."""
    with pytest.raises(RecordError, match=f"record at byte {len(LATE)}: "):
        records.render(BATCH[:-1], 0, form, UNLIMITED, UNLIMITED)


def test_an_unknown_form(records: ModuleType) -> None:
    """A form that does not exist is the caller's error."""
    with pytest.raises(ValueError, match="form must be within 0 and 1"):
        records.render(BATCH, 0, 2, 1, 1)
