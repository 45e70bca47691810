"""A recording in the place of a capture: fetched for Wireshark, with its toolbar."""

from __future__ import annotations

import contextlib
import datetime
import time
from typing import Callable, Optional

from pcapd.ctl.extcap.toolbar import Wireshark
from pcapd.ctl.options import STDOUT, Access
from pcapd.ctl.recordings import calls
from pcapd.ctl.recordings.fetching import Fetch
from pcapd.ctl.recordings.moments import shown
from pcapd.ctl.recordings.saving import FetchOptions, part_of
from pcapd.ctl.sinks.compressed import open_output
from pcapd.ctl.sinks.output import ReaderLeft
from pcapd.ctl.stopping import Parent
from pcapd.savefile.form import Form

__all__ = ["replay"]

#: Seconds between two looks at the toolbar while nothing arrives.
_LOOK = 0.1


class _Watcher:
    """See `pcapd.ctl.recordings.fetching.Watcher`.

    Args:
        frontend: The toolbar, and the dialog for errors.
        parent: Wireshark.
    """

    def __init__(self, frontend: Wireshark, parent: Parent) -> None:
        self._frontend = frontend
        self._parent = parent
        self.job: Optional[Fetch] = None

    def moved(self, received: int, size: int) -> None:
        """Update the toolbar."""
        self._look()

    def cut(self, reason: str, pause: float) -> None:
        """Log that the rest is asked for again."""
        self._frontend.line(f"{reason}; the rest is asked for in {pause:g} s", important=False)

    def gap(self, first_us: int, last_us: int) -> None:
        """Show that packets may be missing."""
        times = f"between {shown(first_us)} and {shown(last_us)}"
        self._frontend.line(f"packets {times} may be missing: the ring deleted them", important=True)

    def pause(self, seconds: float) -> None:
        """Wait, unless the user stops."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._look()
            time.sleep(min(_LOOK, left))

    def _look(self) -> None:
        packets = self.job.seen.packets if self.job is not None else 0
        if self._frontend.looked(packets, time.monotonic()) or self._parent.look():
            raise ReaderLeft("Wireshark has ended the capture")


def replay(
    access: Callable[[], Access], id: str, options: FetchOptions, frontend: Wireshark, parent: Parent
) -> int:
    """Fetch a recording into standard output, and return the exit status.

    Args:
        access: How to reach the api now.
        frontend: Wireshark's toolbar and dialog.
        parent: Wireshark, whose exit ends the fetch.

    Raises:
        PcapdError: It failed.
    """
    part = part_of(options, calls.show(access(), id), datetime.datetime.now().astimezone())
    watcher = _Watcher(frontend, parent)
    output = open_output(STDOUT, Form.PCAPNG, force=False)
    watcher.job = Fetch(access, id, part, output, watcher, watcher.pause)
    with contextlib.suppress(ReaderLeft):
        watcher.job.run(tail=options.tail)
    frontend.looked(watcher.job.seen.packets, float("inf"))
    return 0
