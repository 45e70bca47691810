"""What is said before a capture starts: warnings and details, on stderr."""

from __future__ import annotations

import json
import sys

from pcapd.ctl.display.text import escape
from pcapd.ctl.options import CaptureOptions

__all__ = ["Messages"]


class Messages:
    """Prints each at once.

    Args:
        options: As JSON, quietly or verbosely.
    """

    def __init__(self, options: CaptureOptions) -> None:
        self._json = options.json
        self._quiet = options.quiet
        self._verbose = options.verbose and not options.quiet and not options.json

    def warn(self, text: str) -> None:
        """Print a warning; not even --quiet hides it."""
        line = json.dumps({"event": "warning", "message": text}) if self._json else f"warning: {escape(text)}"
        print(line, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Print a warning, unless --quiet."""
        if not self._quiet:
            self.warn(text)

    def detail(self, text: str) -> None:
        """Print a line with --verbose."""
        if self._verbose:
            print(escape(text), file=sys.stderr, flush=True)
