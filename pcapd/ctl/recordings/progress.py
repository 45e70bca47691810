"""Shows how far a fetch is: one line that is redrawn on a terminal, else a line now and then."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Callable, TextIO

from pcapd.ctl.display.terminal import say
from pcapd.ctl.display.text import escape, quantity
from pcapd.ctl.recordings.moments import shown

__all__ = ["Progress"]

#: Seconds between two updates: on a terminal, and elsewhere.
_REDRAWN, _REPEATED = 0.2, 15.0


class Progress:
    """See the module, and `pcapd.ctl.recordings.fetching.Watcher`.

    Args:
        json: Print events as JSON lines.
        quiet: Print only problems.
        stream: Where events and lines go; what is redrawn goes to stderr.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self, *, json: bool, quiet: bool, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._json = json
        self._stream = stream if json else sys.stderr
        self._drawing = not json and sys.stderr.isatty()
        self._quiet = quiet
        self._clock = clock
        self._since = self._said_at = clock()
        self._drawn = False
        self._received = 0

    def moved(self, received: int, size: int) -> None:
        """So many bytes of a file of this size have arrived."""
        now = self._clock()
        if self._quiet or now - self._said_at < (_REDRAWN if self._drawing else _REPEATED):
            return
        speed = (received - self._received) / max(now - self._said_at, 0.001)
        self._said_at, self._received = now, received
        if self._json:
            self._event("progress", bytes=received, size=size)
            return
        text = f"{quantity(received)} of {quantity(size)}, {quantity(max(speed, 0.0))}/s"
        if not self._drawing:
            say(text, self._stream)
            return
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()
        self._drawn = True

    def cut(self, reason: str, pause: float) -> None:
        """The rest is asked for after a pause of so many seconds."""
        if self._json:
            self._event("cut", message=reason, pause=pause)
        elif not self._quiet:
            self.line(f"{reason}; the rest is asked for in {pause:g} s")

    def gap(self, first_us: int, last_us: int) -> None:
        """Packets between these times may have been deleted."""
        if self._json:
            self._event("gap", first_us=first_us, last_us=last_us)
        else:
            self.line(
                f"warning: packets between {shown(first_us)} and {shown(last_us)} may be missing: the ring "
                "deleted them before they were fetched"
            )

    def line(self, text: str) -> None:
        """Print a line."""
        self.clear()
        say(escape(text), self._stream)

    def clear(self) -> None:
        """Remove what is redrawn."""
        if self._drawn:
            self._drawn = False
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _event(self, event: str, **facts: Any) -> None:
        say(json.dumps({"event": event, **facts}), self._stream)
