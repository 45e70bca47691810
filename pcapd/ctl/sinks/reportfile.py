"""``--report FILE``: how the capture went, as JSON beside its file, however it went.

docs/report.rst says what is in it.
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

#: Of the report; a change that breaks its readers makes it larger.
FORMAT = 1
_MODE = 0o600  # names, addresses and filters are nobody else's business


class ReportFailed(PcapdError):
    """The report cannot be written."""


def check(options: CaptureOptions) -> None:
    """Say before anything starts that the report could not be written.

    Raises:
        UsageProblem: It is the file of the packets.
        ReportFailed: It exists, or its directory does not take it.
    """
    path = options.report
    if path is None:
        return
    if options.output != STDOUT and path.resolve() == Path(options.output).resolve():
        raise UsageProblem("the report cannot be the file of the packets", "name another with --report")
    if path.is_dir():
        raise ReportFailed(f"{path} is a directory", "name a file in it with --report")
    if is_special(path):
        if not os.access(path, os.W_OK):
            raise ReportFailed(f"the report {path} cannot be written", "check its permissions")
        return
    if path.exists() and not options.force:
        raise ReportFailed(f"the report {path} exists", "use --force to overwrite it")
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise ReportFailed(f"the directory {path.parent} for the report does not exist", "create it first")
    if not os.access(path.parent, os.W_OK):
        raise ReportFailed(f"the report {path} cannot be written", "check the permissions of its directory")


def facts(options: CaptureOptions, wanted: Optional[CaptureTarget]) -> Dict[str, Any]:
    """What a report is about.

    Args:
        wanted: None where that was not known yet.
    """
    return {"format": FORMAT, "pcapctl": pcapd.__version__, "asked": asked(options, wanted)}


def asked(options: CaptureOptions, wanted: Optional[CaptureTarget]) -> Dict[str, Any]:
    """What is to be captured, and its limits."""
    return {
        **(wanted.facts() if wanted is not None else {}),
        "filter": options.filter,
        "interfaces": list(options.interfaces),
        "snaplen": options.snaplen,
        "headers_only": options.headers_only,
        "packets": options.count,
        "bytes": options.max_bytes,
        "seconds": options.duration,
    }


def nothing(error: str, status: int) -> Dict[str, Any]:
    """How a capture went that did not begin."""
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
        "sources": [],
    }


def write(options: CaptureOptions, report: Dict[str, Any]) -> None:
    """Write it in one step: there is the whole report or none.

    It is a new file, which is its owner's alone, whatever was in its place; of a
    symbolic link it is the target.
    A device or a named pipe is written to; a file in its place would be another thing.

    Raises:
        ReportFailed: The system does not take it.
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
        if path.exists() and not options.force:  # somebody made it meanwhile
            raise ReportFailed(f"the report {named} exists", "use --force to overwrite it")
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
    """Write a report also when what is done inside fails before the capture begins.

    Raises:
        ReportFailed: The report cannot be written; said before anything is done.
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
    # Its own failure must not hide the other one.
    with contextlib.suppress(ReportFailed):
        write(
            options, {**facts(options, None), **nothing(error, status), "notices": [], "notices_omitted": 0}
        )
