"""Logging: one JSON object per line on stderr.

Events consist of a constant format and keyword values (`twisted.logger`); the formatted
message and the values are written.  Tokens, headers and packet data are never passed to the
logger, so nothing needs to be removed.
"""

from __future__ import annotations

import datetime
import errno
import json
import os
import sys
from pathlib import Path
from typing import Any, Protocol

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

from pcapd.config.schema import AuditConfig
from pcapd.errors import ConfigError
from pcapd.limits import AUDIT_RESERVE
from pcapd.net.syslog import TlsSyslog, UnixSyslog

__all__ = [
    "AUDIT_NAMESPACE",
    "AuditFile",
    "AuditOutput",
    "JsonLines",
    "Outcome",
    "audit_output",
    "check_room",
    "start_logging",
]

#: Events of this namespace are written at every log level.
AUDIT_NAMESPACE = "pcapd.audit"

_LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}


class Output(Protocol):
    """The destination of lines, such as a text file."""

    def write(self, line: str, /) -> Any:
        """Write a line."""

    def flush(self) -> Any:
        """Write buffered lines."""


class Outcome:
    """The result of writing an event, if the event has such an object as ``log_outcome``.

    Attributes:
        error: Why the event was not written; None if there was no error.
    """

    error: OSError | ValueError | None = None


@implementer(ILogObserver)
class JsonLines:
    """Writes events to a file, one line each.

    Args:
        output: The destination.
        daemon: Fields for every line: role and id.
    """

    def __init__(self, output: Output, **daemon: str) -> None:
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
        except (OSError, ValueError) as error:  # a full disk must not stop the daemon
            if "log_outcome" in event:
                event["log_outcome"].error = error


_OLDER = frozenset(("format", "time", "isError", "system", "message", "log", "why", "failure", "level"))


@implementer(ILogObserver)
class _Apart:
    """Passes audit records to one observer and everything else to another."""

    def __init__(self, audit: ILogObserver, rest: ILogObserver) -> None:
        self._audit = audit
        self._rest = rest

    def __call__(self, event: LogEvent) -> None:
        (self._audit if event.get("log_namespace") == AUDIT_NAMESPACE else self._rest)(event)


class AuditOutput(Output, Protocol):
    """Where audit records go instead of the log."""

    def open(self) -> None:
        """Begin; raises `ConfigError` if records cannot be written because of the configuration."""

    def check(self) -> None:
        """Check that a record can be written, without writing any; raises `OSError`."""

    def close(self) -> None:
        """Write what waits, for a limited time."""


def audit_output(config: AuditConfig | None) -> AuditOutput | None:
    """Where audit records go; None for the log."""
    if config is None:
        return None
    if config.file is not None:
        return AuditFile(config.file)
    syslog = config.syslog
    assert syslog is not None  # the configuration has one of them
    return TlsSyslog(syslog) if syslog.socket is None else UnixSyslog(syslog.socket)


class AuditFile:
    """Appends to a file that is opened for each write, so that any way of rotation works.

    Audit records are few, so this is cheap.  The group can read the file, for log forwarders.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, line: str) -> None:
        """Append a whole line, or nothing if it cannot be written.

        Raises:
            OSError: The line cannot be written.
        """
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            whole = line.encode()
            written = os.write(descriptor, whole)
            if written < len(whole):  # the disk had room for a part only
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    def flush(self) -> None:
        """Do nothing: lines are not buffered."""

    def open(self) -> None:
        """Make the file if there is none; see `AuditOutput.open`."""
        try:
            self.write("")
        except OSError as error:
            raise ConfigError("audit.file", [f"{self._path} cannot be written: {error.strerror}"]) from error

    def check(self) -> None:
        """See `check_room`."""
        check_room(self._path)

    def close(self) -> None:
        """Do nothing: the file is not kept open."""


def check_room(path: Path) -> None:
    """Check whether records can be appended to a file, without writing any.

    Args:
        path: The file; it may be missing, as between two steps of a rotation.

    Raises:
        OSError: The file cannot be opened, or its disk is almost full.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk = os.fstatvfs(descriptor)
    finally:
        os.close(descriptor)
    if disk.f_bavail * disk.f_frsize < min(AUDIT_RESERVE, disk.f_blocks * disk.f_frsize // 8):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def start_logging(level: str, audit: AuditOutput | None = None, **daemon: str) -> None:
    """Write this process's log to stderr, from `level` on.

    Args:
        audit: For audit records; if None, they are written to stderr.
        daemon: Fields for every line: role and id.

    Raises:
        ConfigError: Audit records cannot be written.
    """
    predicate = LogLevelFilterPredicate(defaultLogLevel=_LEVELS[level])
    # At level info, Twisted logs each factory that starts or stops.
    for noisy in ("twisted", "log_legacy"):
        predicate.setLogLevelForNamespace(noisy, LogLevel.warn)
    predicate.setLogLevelForNamespace(AUDIT_NAMESPACE, LogLevel.info)
    log: ILogObserver = FilteringLogObserver(JsonLines(sys.stderr, **daemon), [predicate])
    if audit is not None:
        audit.open()
        log = _Apart(JsonLines(audit, **daemon), log)
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
