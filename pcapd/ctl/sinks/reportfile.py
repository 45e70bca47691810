"""``--report FILE``: writes a JSON report of the capture, also after failures.

docs/report.rst describes its content.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import pcapd
from pcapd.ctl.options import FAILED, STDOUT, USAGE, CaptureOptions, CaptureTarget, UsageProblem
from pcapd.ctl.sinks.output import is_special
from pcapd.errors import PcapdError

__all__ = ["FORMAT", "ReportFailed", "asked", "check", "facts", "nothing", "reported", "write"]

#: Version of the report; an incompatible change increases it.
FORMAT = 1
_MODE = 0o600  # only the owner may read names, addresses and filters


class ReportFailed(PcapdError):
    """The report cannot be written."""


def check(options: CaptureOptions) -> None:
    """Check before the capture starts that the report can be written.

    Raises:
        UsageProblem: The report and the capture have the same file.
        ReportFailed: The file exists already, or its directory is not writable.
    """
    path = options.report
    if path is None:
        return
    if options.output != STDOUT and path.resolve() == Path(options.output).resolve():
        raise UsageProblem("the report and the capture cannot be the same file", "name another with --report")
    if path.is_dir():
        raise ReportFailed(f"{path} is a directory", "name a file in it with --report")
    if is_special(path):
        if not os.access(path, os.W_OK):
            raise ReportFailed(f"the report {path} cannot be written", "check its permissions")
        return
    if path.exists() and not options.force:
        raise ReportFailed(f"the report {path} already exists", "use --force to overwrite it")
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise ReportFailed(f"the directory {path.parent} for the report does not exist", "create it first")
    if not os.access(path.parent, os.W_OK):
        raise ReportFailed(f"the report {path} cannot be written", "check the permissions of its directory")


def facts(options: CaptureOptions, target: Optional[CaptureTarget]) -> Dict[str, Any]:
    """The first part of a report: the request.

    Args:
        target: None if the target is not known yet.
    """
    return {"format": FORMAT, "pcapctl": pcapd.__version__, "asked": asked(options, target)}


def asked(options: CaptureOptions, target: Optional[CaptureTarget]) -> Dict[str, Any]:
    """The target, and the limits of the capture."""
    return {
        **(target.facts() if target is not None else {}),
        "filter": options.filter,
        "interfaces": list(options.interfaces),
        "snaplen": options.snaplen,
        "headers_only": options.headers_only,
        "packets": options.count,
        "bytes": options.max_bytes,
        "seconds": options.duration,
    }


def nothing(error: str, status: int) -> Dict[str, Any]:
    """The result of a capture that did not start."""
    return {
        "outcome": "failed",
        "exit_status": status,
        "reason": error,
        "error": error,
        "file": None,
        "files": [],
        "deleted": {"files": 0, "packets": 0, "bytes": 0},
        "bytes": 0,
        "served": None,
        "seconds": 0.0,
        "packets": 0,
        "lost": 0,
        "lost_at_least": 0,
        "packets_forgotten": 0,
        "recording": None,
        "resume_from": None,
        "sources": [],
    }


def write(options: CaptureOptions, report: Dict[str, Any]) -> None:
    """Write the report atomically: the whole report or nothing.

    It is always a new file that only the owner can read; for a symbolic link, the
    target is replaced.  A device or a named pipe is written to instead of replaced.

    Raises:
        ReportFailed: The report cannot be written.
    """
    named = options.report
    if named is None:
        return
    report = {
        **report,
        "ended": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"),
    }
    path = Path(os.path.realpath(named))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if is_special(named):
            _dump(report, named, 0)
            return
        _dump(report, temporary, os.O_CREAT | os.O_EXCL)
        if path.exists() and not options.force:  # created by another program after the check
            raise ReportFailed(f"the report {named} already exists", "use --force to overwrite it")
        temporary.replace(path)
    except OSError as error:
        raise ReportFailed(f"cannot write the report {named}: {os.strerror(error.errno or 0)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _dump(report: Dict[str, Any], path: Path, flags: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, _MODE)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)
        file.write("\n")


@contextlib.contextmanager
def reported(options: CaptureOptions) -> Iterator[None]:
    """Also write a report if the code in the context fails before the capture starts.

    Raises:
        ReportFailed: The report cannot be written; checked first.
    """
    check(options)
    try:
        yield
    except ReportFailed:
        raise
    except PcapdError as error:
        status = USAGE if isinstance(error, UsageProblem) else FAILED
        _write_nothing(options, str(error), status)
        raise
    except KeyboardInterrupt:
        _write_nothing(options, "interrupted", FAILED)
        raise


def _write_nothing(options: CaptureOptions, error: str, status: int) -> None:
    # A failure to write the report must not hide the original error.
    with contextlib.suppress(ReportFailed):
        write(
            options, {**facts(options, None), **nothing(error, status), "notices": [], "notices_omitted": 0}
        )
