"""Chooses the compiled implementation if there is one."""

from __future__ import annotations

import os

from pcapd.limits import MATCH_PACKETS_MAX, MATCH_PACKETS_MAX_PURE

try:
    if os.environ.get("PCAPD_PURE"):
        raise ImportError("PCAPD_PURE asks for the reference")
    from pcapd.merge._native import Matcher, merge

    _remembered = MATCH_PACKETS_MAX
except ImportError:
    from pcapd.merge._reference import Matcher, merge  # type: ignore[assignment]

    _remembered = MATCH_PACKETS_MAX_PURE

#: Largest number of packets that a matcher remembers.
REMEMBERED = _remembered

__all__ = ["REMEMBERED", "Matcher", "merge"]
