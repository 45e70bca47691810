"""Merges the rows of several files into one capture, in time order."""

from __future__ import annotations

from typing import Iterator, List, Tuple

from pcapd.analysis.flows import merge_rows
from pcapd.savefile.reader import Rows

__all__ = ["in_order"]


def in_order(files: List[Iterator[Rows]]) -> Iterator[Tuple[bytes, List[bytes]]]:
    """Merged rows, and for each file the bytes to which ``at`` refers; a single file keeps its order."""
    if len(files) == 1:
        for part in files[0]:
            yield part.rows, [part.data]
        return
    parts = [Rows(b"", b"")] * len(files)
    while True:
        for index, part in enumerate(parts):
            if not part.rows:
                parts[index] = next(files[index], Rows(b"", b""))
        if not any(part.rows for part in parts):
            return
        merged, used = merge_rows([part.rows for part in parts])
        yield merged, [part.data for part in parts]
        parts = [Rows(part.rows[end:], part.data) for part, end in zip(parts, used)]
