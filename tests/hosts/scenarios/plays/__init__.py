"""The scenarios: what happens, which findings must come, and which may come besides.

Every other finding above `note` is a false one.  Parameters are drawn anew for each run.
"""

from __future__ import annotations

from tests.hosts.scenarios.play import PLAYS, Play
from tests.hosts.scenarios.plays import captures, connections, ends, healthy, http2, losses, protocols

__all__ = ["PLAYS", "Play", "captures", "connections", "ends", "healthy", "http2", "losses", "protocols"]
