"""Finds errors in a capture filter of Wireshark's dialog, without libpcap.  Pure."""

from __future__ import annotations

from typing import List

from pcapd.limits import FILTER_MAX

__all__ = ["filter_problem"]


def filter_problem(text: str) -> str:
    """An error in a capture filter, as far as it can be found without libpcap; empty if there is none.

    The agent's libpcap decides when the capture starts.
    """
    if len(text.encode("utf-8", "surrogateescape")) > FILTER_MAX:
        return f"a filter can have at most {FILTER_MAX} bytes"
    if not text.isprintable():
        return "a filter cannot contain control characters"
    opened: List[int] = []
    for place, character in enumerate(text, 1):
        if character == "(":
            opened.append(place)
        elif character == ")":
            if not opened:
                return f"the ) at character {place} has no matching ("
            opened.pop()
    return f"the ( at character {opened[-1]} is not closed" if opened else ""
