"""How long libpcap takes to compile filters: why long ones are tried in a process of their own first."""

from __future__ import annotations

import struct
import tempfile
import time
from pathlib import Path
from typing import Any

import pcapy

from pcapd.limits import FILTER_QUICK

__all__ = ["measure"]

_ETHERNET = 1
_HEADER = struct.Struct("<IHHiIII")


def measure() -> list[dict[str, Any]]:
    """CPU time of one filter after the other, optimizer included."""
    addresses = [f"host 192.0.{number // 250}.{number % 250 + 1}" for number in range(200)]
    ranges = [f"portrange {port}-{port + 9}" for port in range(1000, 10_000, 20)]
    filters = {
        f"{FILTER_QUICK} characters of port ranges": _joined(ranges, FILTER_QUICK),
        "100 addresses": " or ".join(addresses[:100]),
        "200 addresses": " or ".join(addresses),
        "2,200 characters of port ranges": _joined(ranges, 2200),
        "4,400 characters of port ranges": _joined(ranges, 4400),
    }
    return [_measured(name, text) for name, text in filters.items()]


def _joined(parts: list[str], length: int) -> str:
    """As many parts as fit."""
    text = " or ".join(parts)
    return text if len(text) <= length else text[: text.rindex(" or ", 0, length)]


def _measured(name: str, text: str) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(_HEADER.pack(0xA1B2C3D4, 2, 4, 0, 0, 65535, _ETHERNET))
        reader = pcapy.open_offline(file.name)
        before = time.process_time()
        reader.setfilter(text)
        took = time.process_time() - before
    return {
        "what": "filter",
        "name": name,
        "seconds": took,
        "text": f"filter of {name}: compiled in {took:.3f} s",
    }
