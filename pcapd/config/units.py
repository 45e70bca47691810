"""Parses durations and sizes with units: ``30s``, ``5m``, ``100MB``, ``64KiB``.

It uses only the standard library and runs with Python 3.9, because pcapctl uses it for its
options.  For invalid text, the functions raise ValueError with one sentence.
"""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = ["format_size", "parse_duration", "parse_size"]

# [0-9] and not \d, which would match digits of every script; the length is limited, so that
# no input can become an infinite float or a number too long to print.
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)")

# Decimal, so that 100ms is exactly 0.1.
_SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}

_BYTES = {
    "b": 1,
    "kb": 1000,
    "kib": 1024,
    "mb": 1000**2,
    "mib": 1024**2,
    "gb": 1000**3,
    "gib": 1024**3,
    "tb": 1000**4,
    "tib": 1024**4,
}
# In ascending order, as `format_size` requires.
_BINARY = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}


def parse_duration(text: str) -> float:
    """Parse a duration such as ``500ms``, ``30s``, ``5m``, ``1h`` or ``7d``, and return it in seconds.

    A number without a unit is refused, because it is ambiguous.

    Raises:
        ValueError: The text is not a duration; the message shows examples.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in _SECONDS:
        raise ValueError("must be a duration such as 500ms, 30s, 5m, 1h or 7d")
    return float(Decimal(match[1]) * _SECONDS[match[2]])


def parse_size(text: str) -> int:
    """Parse a size such as ``100MB`` (powers of 1000), ``64KiB`` (of 1024) or ``1500``; return bytes.

    Case does not matter; a fraction of a byte is dropped.

    Raises:
        ValueError: The text is not a size; the message shows examples.
    """
    match = _QUANTITY.fullmatch(text)
    unit = match[2].lower() if match else ""
    if match is None or (unit and unit not in _BYTES) or (not unit and "." in match[1]):
        raise ValueError("must be a size such as 1500, 64KiB, 100MB or 10GB")
    return int(Decimal(match[1]) * _BYTES[unit or "b"])


def format_size(size: int) -> str:
    """Format bytes with the largest exact unit of 1024, as ``256KiB``, for `parse_size`."""
    for unit, factor in reversed(_BINARY.items()):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)
