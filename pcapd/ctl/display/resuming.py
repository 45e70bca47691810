"""How to go on when the connection to the api was lost (``--resumable``).  Pure."""

from __future__ import annotations

from typing import List, Optional

from pcapd.ctl.display.text import escape
from pcapd.ctl.options import CaptureOptions
from pcapd.ctl.recordings.moments import rfc3339
from pcapd.ctl.stream.session import CaptureSession

__all__ = ["begin", "lines"]


def begin(capture: CaptureSession) -> Optional[str]:
    """The time from which packets may be missing, as RFC 3339; None if it may be any.

    Each source has sent all its packets up to its watermark, so nothing before the lowest watermark of a
    source that had not ended is missing.
    """
    accounts = list(capture.muxer.accounts.values())
    lost_before = sum(sum(account.known) - account.known.client for account in accounts)
    if capture.lost_at_least > lost_before or not accounts:  # packets that arrived are not in the file
        return None
    open_ones = [account for account in accounts if not account.stats.final]
    marks = [account.stats.captured_up_to_us - account.shift_us for account in open_ones or accounts]
    first_us = min(marks) if open_ones else max(marks)
    return rfc3339(first_us) if first_us > 0 else None


def lines(capture: CaptureSession, options: CaptureOptions) -> List[str]:
    """What the user can do about a lost connection; nothing if the capture has ended otherwise."""
    if not capture.cut_off:
        return []
    if not capture.recording:
        return ["next time, --resumable lets the api record besides, so that the rest can be fetched"]
    id = escape(capture.recording)
    since = begin(capture)
    from_ = f" --from {since}" if since else ""
    state = "has ended before this" if capture.recording_over else "goes on without this connection"
    return [
        f"the recording {id} {state}; fetch what is missing here with:",
        f"  pcapctl recording fetch {id}{from_}{options.same_api}",
    ]
