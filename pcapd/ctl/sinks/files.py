"""Selects the files at the start: one, a series, or either of these for each instance."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional

from pcapd.ctl.options import NOWHERE, CaptureOptions, UsageProblem
from pcapd.ctl.sinks.compressed import open_output
from pcapd.ctl.sinks.fileoptions import part_name
from pcapd.ctl.sinks.inventory import Inventory
from pcapd.ctl.sinks.output import Output, OutputError
from pcapd.ctl.sinks.rotation import RotatedFiles
from pcapd.ctl.sinks.single import FileSink, SingleFile
from pcapd.ctl.sinks.split import FilesPerInstance

__all__ = ["Closing", "check_files", "open_files"]

#: macOS refuses more, whatever its limit is.
_DESCRIPTORS = 10240

#: Returns the statistics that end a stream's file, at microseconds since the epoch.
Closing = Callable[[int, str], List[bytes]]


def open_files(options: CaptureOptions, inventory: Inventory, closing: Closing) -> Optional[FileSink]:
    """Create the files that the options need; None if no file is written.

    Raises:
        OutputError: They cannot be written; checked before the capture starts.
        UsageProblem: The options exclude each other.
    """
    problem = options.files.problem(options.output, options.form)
    if problem:
        raise UsageProblem(problem)
    if options.output == NOWHERE:
        return None
    names = _Names(options.output)
    if options.files.several:
        _check_directory(options.output)

    def files_of(stream: str) -> FileSink:
        def open_file(number: int) -> Output:
            return open_output(names.of(stream, number), options.form, force=options.force)

        if not options.files.rotation:
            return SingleFile(open_file(0), stream, inventory)
        return RotatedFiles(
            open_file,
            stream=stream,
            form=options.form,
            rotation=options.files.rotation,
            closing=lambda: closing(time.time_ns() // 1000, stream),
            inventory=inventory,
        )

    if options.files.split:
        _allow_descriptors()
        return FilesPerInstance(files_of)
    return files_of("")


def check_files(options: CaptureOptions) -> None:
    """Make the checks of `open_files` in advance.

    Raises:
        OutputError: As there.
        UsageProblem: As there.
    """
    open_files(options, Inventory(options.output), lambda at_us, stream: [])


class _Names:
    """File names, derived from the given name.

    Args:
        name: The given name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._taken: Dict[str, str] = {}

    def of(self, instance: str, number: int) -> str:
        """The name of an instance's file; the number is 0 if there is only one."""
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        return part_name(self._name, self._own(instance), number, moment)

    def _own(self, instance: str) -> str:
        """The instance's name, changed if another instance's name would give the same file name."""
        for serial in range(1, len(self._taken) + 2):
            name = instance if serial == 1 else f"{serial}_{instance}"
            if self._taken.setdefault(part_name("", name).casefold(), instance) == instance:
                return name
        raise AssertionError("unreachable: one more name than there are instances")


def _allow_descriptors() -> None:
    """Raise the limit of open files: each instance needs a descriptor."""
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _check_directory(name: str) -> None:
    directory = Path(name).parent
    path = Path(name)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OutputError(
            f"{name} is not a regular file, but several files will be written", "name a file with --output"
        )
    if path.is_dir():
        raise OutputError(f"{name} is a directory", "name a file in it to derive the file names from")
    if not directory.is_dir():
        raise OutputError(f"the directory {directory} does not exist", "create it first")
    if not os.access(directory, os.W_OK):
        raise OutputError(f"{directory} cannot be written", "check its permissions")
