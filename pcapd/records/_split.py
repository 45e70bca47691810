"""Cuts a batch in two."""

from __future__ import annotations

import struct
from typing import Final, Tuple

from pcapd.records._types import HEADER_SIZE

__all__ = ["split"]

_CAPTURED: Final = struct.Struct("<8xI")


def split(batch: bytes, size: int) -> Tuple[bytes, bytes]:
    """Cut a batch after the first records that together have at least `size` bytes.

    It is written in Python, for small sizes: the time depends on the records of the first part.

    Args:
        batch: A result of `pcapd.records.pack`, not empty.
        size: smallest size of the first part in bytes; it has at least one record.
    """
    end = 0
    while end < min(size, len(batch)):
        end += HEADER_SIZE + _CAPTURED.unpack_from(batch, end)[0]
    return batch[:end], batch[end:]
