"""``-D``: lists the interfaces of the targets, one in each line, like ``tcpdump -D``.

To find them, a capture of ``any`` is started with a filter that matches no packet; it is
stopped when all interfaces are known.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import List

from pcapd.ctl.display.terminal import say
from pcapd.ctl.display.text import escape, natural
from pcapd.ctl.options import NOWHERE, CaptureOptions
from pcapd.ctl.sinks.fileoptions import FileOptions
from pcapd.ctl.stream.session import CaptureSession, Outcome
from pcapd.packet import linktypes
from pcapd.wire import Source

__all__ = ["InterfaceList", "listing_options"]

_ANY = "any"
#: A filter that matches no packet: all packets are longer.
_NO_PACKET = "less 1"
#: The list is complete if no other interface appears for this time, seconds.
_SETTLED = 0.5


def listing_options(options: CaptureOptions) -> CaptureOptions:
    """The options of the capture that finds the interfaces."""
    interfaces = options.interfaces or (_ANY,)
    return dataclasses.replace(
        options, output=NOWHERE, filter=_NO_PACKET, interfaces=interfaces, files=FileOptions(), json=False
    )


class InterfaceList:
    """See the module, and `pcapd.ctl.display.reporter.Frontend`.

    Args:
        json: Print JSON lines for scripts.
    """

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._known = 0
        self._changed_at = 0.0

    def line(self, message: str, *, important: bool) -> None:
        """Print a line of text if it is important."""
        if important:
            say(message, sys.stderr)

    def turn(self, capture: CaptureSession, now: float, findings: str = "") -> None:
        """Stop when all interfaces are known."""
        known = len(capture.muxer.accounts)
        if known != self._known:
            self._known, self._changed_at = known, now
        if known and not capture.awaited and now - self._changed_at >= _SETTLED:
            capture.stop("all interfaces are known", now)

    def ended(self, capture: CaptureSession) -> None:
        """Print the interfaces."""
        sources = [account.source for account in capture.muxer.accounts.values()]
        for source in sorted(sources, key=lambda source: natural(f"{source.instance}:{source.interface}")):
            say(_as_json(source) if self._json else _as_line(source), sys.stdout)
        if capture.error is not None:
            say(f"pcapctl: {escape(str(capture.error))}", sys.stderr)

    def failed(self, capture: CaptureSession) -> bool:
        """Whether the list is incomplete."""
        return capture.outcome is not Outcome.COMPLETE


def _as_line(source: Source) -> str:
    parts: List[str] = [f"{source.instance}: {source.interface}", linktypes.name(source.link_type)]
    return escape("  ".join([*parts, ", ".join(source.addresses)]).rstrip())


def _as_json(source: Source) -> str:
    facts = {"instance": source.instance, "interface": source.interface}
    return json.dumps(
        {**facts, "link_type": linktypes.name(source.link_type), "addresses": list(source.addresses)}
    )
