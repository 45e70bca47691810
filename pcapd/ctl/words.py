"""Numbers for people, and text of strangers made harmless.  Pure."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Optional

__all__ = ["clean", "clock", "count", "milliseconds", "plural", "seconds", "size"]

#: characters of one text that came from the network; more is not for people.
_TEXT_MAX = 2000


def clean(text: str) -> str:
    """Make a text fit for a terminal: whatever is not printable is written as an escape.

    That covers line breaks, terminal escapes and characters that turn the
    direction of writing, with which a text could pretend to be something else.
    """
    if len(text) > _TEXT_MAX:
        text = text[:_TEXT_MAX] + "..."
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def count(number: Optional[int]) -> str:
    """A number with its thousands marked, or "unknown"."""
    return "unknown" if number is None else f"{number:,}"


def plural(number: int, noun: str) -> str:
    """A number and its noun: ``1 packet``, ``2,000 packets``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(number: float) -> str:
    """Bytes in units of 1000, three digits or so: ``999 B``, ``1.5 MB``."""
    if number < 1000:
        return f"{number:.0f} B"
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 999.5:
            return f"{number:.1f} {unit}" if number < 99.95 else f"{number:.0f} {unit}"
    return f"{number / 1000:.1f} TB"


def seconds(duration: float) -> str:
    """Seconds as short as they go: ``2.5 s``, ``90 s``."""
    return f"{duration:g} s"


def milliseconds(us: int) -> str:
    """A signed difference of clocks, given in microseconds: ``+1.2 ms``."""
    return f"{us / 1000:+.1f} ms"


def clock(us: int) -> str:
    """Microseconds since the epoch as UTC, to the second; "unknown" where there is no such year."""
    try:
        moment = datetime.fromtimestamp(us // 1_000_000, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return "unknown"
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
