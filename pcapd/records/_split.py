"""Cuts a batch in two."""

from __future__ import annotations

import struct
from typing import Final, Tuple

from pcapd.records._types import HEADER_SIZE

__all__ = ["split"]

_CAPTURED: Final = struct.Struct("<8xI")


def split(batch: bytes, size: int) -> Tuple[bytes, bytes]:
    """Cut a batch of our own after the first records that have so many bytes together.

    In plain Python, for small sizes: it takes a step per record of the first part.

    Args:
        batch: A result of `pcapd.records.pack`, not empty.
        size: bytes; the first part has at least one record.
    """
    end = 0
    while end < min(size, len(batch)):
        end += HEADER_SIZE + _CAPTURED.unpack_from(batch, end)[0]
    return batch[:end], batch[end:]
