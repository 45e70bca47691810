"""The files that the options ask for: one, a series, or either for each instance; chosen at start."""

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

#: macOS refuses more, whatever the limit says.
_DESCRIPTORS = 10240

#: Gives the statistics that end a file of a stream, at microseconds since the epoch.
Closing = Callable[[int, str], List[bytes]]


def open_files(options: CaptureOptions, inventory: Inventory, closing: Closing) -> Optional[FileSink]:
    """The files that the options ask for; None where the packets go into no file.

    Raises:
        OutputError: They could not be written later: said before anything starts.
        UsageProblem: The options do not go together.
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
    """Say already now what `open_files` would say.

    Raises:
        OutputError: See there.
        UsageProblem: See there.
    """
    open_files(options, Inventory(options.output), lambda at_us, stream: [])


class _Names:
    """Names of files, made from that of all.

    Args:
        name: As given.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._taken: Dict[str, str] = {}

    def of(self, instance: str, number: int) -> str:
        """The name of an instance's file; its number is 0 where it has one only."""
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        return part_name(self._name, self._own(instance), number, moment)

    def _own(self, instance: str) -> str:
        """The instance's name, or one that no other instance's becomes in a file's name."""
        for serial in range(1, len(self._taken) + 2):
            name = instance if serial == 1 else f"{serial}_{instance}"
            if self._taken.setdefault(part_name("", name).casefold(), instance) == instance:
                return name
        raise AssertionError("unreachable: one more name than there are instances")


def _allow_descriptors() -> None:
    """A file per instance needs a descriptor per instance: ask for as many as we may have."""
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
            f"{name} is not a regular file, and several files are to be written", "name one with --output"
        )
    if path.is_dir():
        raise OutputError(f"{name} is a directory", "name a file in it; the names are made from that")
    if not directory.is_dir():
        raise OutputError(f"the directory {directory} does not exist", "create it first")
    if not os.access(directory, os.W_OK):
        raise OutputError(f"{directory} cannot be written", "check its permissions")
