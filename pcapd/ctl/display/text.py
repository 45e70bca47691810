"""Words and numbers for people.

Names and messages come over the network; a terminal must never see their
control characters, which could move its cursor or worse.
"""

from __future__ import annotations

__all__ = ["escape", "quantity"]


def escape(text: str) -> str:
    """The text with everything that is not printable written out, as in ``\\x1b``."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def quantity(size: float) -> str:
    """Bytes with a unit of 1000 and three digits, such as ``1.23 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:.3g} TB"
