"""The list of a capture's files for the report: names, packets, bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Tuple

__all__ = ["Inventory", "Written"]


@dataclass(eq=False)
class Written:
    """One file.

    Attributes:
        instance: The instance of the packets; empty for all instances.
        packets: Packets in the file.
        bytes: Bytes of whole blocks.
    """

    name: str
    instance: str
    packets: int = 0
    bytes: int = 0


class Inventory:
    """Every file of a capture.

    Args:
        name: A path, from which several file names may be derived, ``-``, or `NOWHERE`.
        several: There may be more than one file.

    Attributes:
        kept: Existing files, oldest first.
        size: Bytes of the existing files.
        deleted_files: Number of files that were deleted for newer ones.
        deleted_packets: Packets in deleted files.
        deleted_bytes: Bytes of deleted files.
        written: Packets that were written, by instance with ``--split-by``, else all under "".
        news: Files that were "finished" or "deleted" and are not yet reported.
    """

    def __init__(self, name: str, *, several: bool = False) -> None:
        self.name = name
        self.several = several
        self.kept: List[Written] = []
        self.size = 0
        self.deleted_files = self.deleted_packets = self.deleted_bytes = 0
        self.written: Dict[str, int] = {}
        self.news: List[Tuple[str, Written]] = []

    @property
    def opened(self) -> bool:
        """Whether anything has been written to a file."""
        return bool(self.kept)

    def begin(self, name: str, instance: str) -> Written:
        """Add a file."""
        written = Written(name, instance)
        self.kept.append(written)
        return written

    def grow(self, written: Written, size: int, packets: int = 0) -> None:
        """Note that a file now has `size` bytes, and `packets` more packets."""
        self.size += size - written.bytes
        written.bytes = size
        written.packets += packets
        self.written[written.instance] = self.written.get(written.instance, 0) + packets

    def finish(self, written: Written) -> None:
        """Note that a file is finished."""
        self.news.append(("finished", written))

    def forget(self, written: Written) -> None:
        """Drop a file that could not be opened."""
        self.kept.remove(written)

    def delete(self, written: Written) -> None:
        """Note that a file was deleted for a newer one."""
        self.kept.remove(written)
        self.deleted_files += 1
        self.deleted_packets += written.packets
        self.deleted_bytes += written.bytes
        self.size -= written.bytes
        self.news.append(("deleted", written))

    def clear(self) -> None:
        """Drop all files, which have been removed."""
        self.kept.clear()
        self.size = 0
