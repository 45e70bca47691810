"""Logging: one JSON object per line on stderr.

Events carry a literal format and keyword values (`twisted.logger`); both the
sentence and the values are written.  No call passes tokens, headers or packet
data: there is no redaction to forget.
"""

from __future__ import annotations

import datetime
import json
import sys
from typing import Any, TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
)
from zope.interface import implementer

__all__ = ["AUDIT_NAMESPACE", "JsonLines", "start_logging"]

#: What is logged here is written whatever the level is.
AUDIT_NAMESPACE = "pcapd.audit"

_LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}


@implementer(ILogObserver)
class JsonLines:
    """Writes events to a file, one line each.

    Args:
        output: Where to.
        daemon: Fields for every line: role and id.
    """

    def __init__(self, output: TextIO, **daemon: str) -> None:
        self._output = output
        self._daemon = daemon

    def __call__(self, event: LogEvent) -> None:
        """Write one event."""
        line: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(event["log_time"], datetime.timezone.utc).isoformat(),
            "level": event["log_level"].name if event.get("log_level") else "info",
            **self._daemon,
            "message": formatEvent(event) or event.get("log_io", ""),
        }
        if "log_failure" in event:
            line["failure"] = event["log_failure"].getTraceback()
        for key, value in event.items():
            # log_* and the keys of Twisted's older logger describe the event to Twisted.
            if not key.startswith("log_") and key not in _OLDER:
                line.setdefault(key, value)
        try:
            self._output.write(json.dumps(line, default=str) + "\n")
            self._output.flush()
        except (OSError, ValueError):
            pass  # a full disk must not stop a capture


_OLDER = frozenset(("format", "time", "isError", "system", "message", "log", "why", "failure", "level"))


def start_logging(level: str, **daemon: str) -> None:
    """Send this process's log to stderr from `level` on."""
    predicate = LogLevelFilterPredicate(defaultLogLevel=_LEVELS[level])
    # Twisted tells of each factory that starts and stops: noise at our info.
    for noisy in ("twisted", "log_legacy"):
        predicate.setLogLevelForNamespace(noisy, LogLevel.warn)
    predicate.setLogLevelForNamespace(AUDIT_NAMESPACE, LogLevel.info)
    observer = FilteringLogObserver(JsonLines(sys.stderr, **daemon), [predicate])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
