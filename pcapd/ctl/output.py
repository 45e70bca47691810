"""Where the packets go: a file or standard output.  Only whole blocks count.

Whatever happens, a file ends with its last whole block: a write that did not
succeed is taken back, and a killed pcapctl leaves at most one block cut, which
every reader passes over.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import List, Optional

from pcapd.ctl.options import STDOUT
from pcapd.errors import PcapdError

__all__ = ["Output", "OutputError"]

_STDOUT_FD = 1
_LARGE = 64 * 1024  # bytes


class OutputError(PcapdError):
    """The output cannot take what is written."""


class Output:
    """The output of one capture; opened with its first block.

    Args:
        name: A path, or ``-`` for standard output.
        force: An existing file may be overwritten.

    Raises:
        OutputError: It could not be written later: said before anything starts.
    """

    def __init__(self, name: str, *, force: bool) -> None:
        self.name = name
        self._force = force
        self._fd: Optional[int] = None
        #: Bytes of whole blocks that were written.
        self.size = 0
        if name == STDOUT:
            if os.isatty(_STDOUT_FD):
                hint = "name a file with --output, or pipe into a reader"
                raise OutputError("packets are not written to a terminal", hint)
            self._fd = _STDOUT_FD
        else:
            _check_path(Path(name), force)

    def write(self, blocks: List[bytes]) -> None:
        """Write whole blocks.

        Raises:
            OutputError: They could not all be written; the file ends with a whole block.
        """
        for data in _joined(blocks):
            self._write(data)

    def _write(self, data: bytes) -> None:
        fd = self._fd if self._fd is not None else self._open()
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(fd, view) :]
        except OSError as error:
            self._take_back(fd)
            raise OutputError(*_explain(self.name, error)) from error
        except BaseException:  # a second Ctrl-C while the write blocked
            self._take_back(fd)
            raise
        self.size += len(data)

    def close(self) -> None:
        """Close the file.

        Raises:
            OutputError: The system could not keep what it had taken.
        """
        fd, self._fd = self._fd, None
        if fd is not None and fd != _STDOUT_FD:
            try:
                os.close(fd)
            except OSError as error:
                raise OutputError(*_explain(self.name, error)) from error

    @property
    def opened(self) -> bool:
        """Something was written."""
        return self.size > 0

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if self._force else os.O_EXCL)
        try:
            # Packets are nobody else's business.
            self._fd = os.open(self.name, flags, 0o600)
        except FileExistsError as error:
            raise OutputError(f"{self.name} exists", "use --force to overwrite it") from error
        except OSError as error:
            raise OutputError(*_explain(self.name, error)) from error
        return self._fd

    def _take_back(self, fd: int) -> None:
        if stat.S_ISREG(os.fstat(fd).st_mode) and fd != _STDOUT_FD:
            os.ftruncate(fd, self.size)


def _joined(blocks: List[bytes]) -> List[bytes]:
    """Small blocks as one, large ones as they are: they are not worth a copy."""
    size = sum(len(block) for block in blocks)
    return [b"".join(blocks)] if 0 < size < _LARGE else [block for block in blocks if block]


def _check_path(path: Path, force: bool) -> None:
    directory = path.parent
    if path.is_dir():
        raise OutputError(f"{path} is a directory", "name a file in it")
    if path.exists() and not force:
        raise OutputError(f"{path} exists", "use --force to overwrite it")
    if not directory.is_dir():
        raise OutputError(f"there is no directory {directory}", "make it first")
    if not os.access(path if path.exists() else directory, os.W_OK):
        raise OutputError(f"{path} cannot be written", "check its permissions")


def _explain(name: str, error: OSError) -> List[str]:
    if error.errno == errno.EPIPE:
        return ["whoever read the packets has closed the pipe"]
    target = "standard output" if name == STDOUT else name
    full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    hint = "what was written before is good" if full else ""
    return [f"cannot write to {target}: {os.strerror(error.errno or 0)}", hint]
