"""Formats text and numbers for the user.

Names and messages come over the network; their control characters, which could
move the cursor or worse, must never reach a terminal.
"""

from __future__ import annotations

import re
from typing import List, Tuple

__all__ = ["escape", "many", "natural", "quantity", "span"]


def escape(text: str) -> str:
    """The text with unprintable characters escaped, as in ``\\x1b``."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def natural(name: str) -> List[Tuple[int, str]]:
    """A sort key for natural order: ``web/2`` before ``web/10``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def many(count: int, what: str) -> str:
    """As in ``1 packet`` or ``2 packets``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def span(seconds: float) -> str:
    """As in ``30 s``, ``5 min`` or ``1 h``: in the largest unit that is exact."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:g} {unit}"
    return f"{seconds:g} s"


def quantity(size: float) -> str:
    """A size in decimal units with three digits, such as ``1.23 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:.3g} TB"
