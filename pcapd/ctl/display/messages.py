"""Prints warnings and details to stderr before a capture starts."""

from __future__ import annotations

import json as json_module
import sys

from pcapd.ctl.display.text import escape
from pcapd.ctl.options import CaptureOptions

__all__ = ["Messages"]


class Messages:
    """Prints each message immediately.

    Args:
        json: Print warnings as JSON lines.
        quiet: Do not print notes and details.
        verbose: Print details.
    """

    def __init__(self, *, json: bool, quiet: bool = False, verbose: bool = False) -> None:
        self._json = json
        self._quiet = quiet
        self._verbose = verbose and not quiet and not json

    @classmethod
    def of(cls, options: CaptureOptions) -> Messages:
        """Messages according to the options of a capture."""
        return cls(json=options.json, quiet=options.quiet, verbose=options.verbose)

    def warn(self, text: str) -> None:
        """Print a warning, even with --quiet."""
        line = (
            json_module.dumps({"event": "warning", "message": text})
            if self._json
            else f"warning: {escape(text)}"
        )
        print(line, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Print a warning, unless --quiet."""
        if not self._quiet:
            self.warn(text)

    def progress(self, text: str) -> None:
        """Print what pcapctl waits for, unless --quiet or --json."""
        if not self._quiet and not self._json:
            print(escape(text), file=sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        """Print a line with --verbose."""
        if self._verbose:
            print(escape(text), file=sys.stderr, flush=True)
