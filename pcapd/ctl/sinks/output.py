"""Writes blocks to a file or standard output.  Only whole blocks count.

A file always ends with its last whole block: after a failed write it is truncated,
and a killed pcapctl leaves at most one incomplete block, which every reader
ignores.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import tempfile
from pathlib import Path
from typing import List, Optional

from pcapd.ctl.options import STDOUT
from pcapd.errors import PcapdError
from pcapd.savefile.cut import Cut, cut
from pcapd.savefile.form import Form

__all__ = ["Output", "OutputError", "ReaderLeft", "is_special", "replace"]

_STDOUT_FD = 1
_LARGE = 64 * 1024  # bytes; less is joined before it is written
_MODE = 0o600  # only the owner may read packets


class OutputError(PcapdError):
    """The output cannot be written.

    Attributes:
        unwritten: Packets that should be in the file and are not.
    """

    def __init__(self, message: str, hint: str = "", unwritten: int = 0) -> None:
        super().__init__(message, hint)
        self.unwritten = unwritten


class ReaderLeft(OutputError):
    """The reader of the packets closed its end: the capture ends in good order."""


class Output:
    """The output of one capture; opened with the first block.

    Args:
        name: A path, or ``-`` for standard output.
        form: The file format; None if each piece counts whole or not at all.
        force: Overwrite an existing file.

    Raises:
        OutputError: It cannot be written; checked before the capture starts.
    """

    def __init__(self, name: str, form: Optional[Form], *, force: bool) -> None:
        self.name = name
        self._form = form
        self._force = force
        self._fd: Optional[int] = None
        self._regular = False
        self._created = False
        #: Bytes of whole blocks that were written.
        self.size = 0
        #: Packets that should have been written and are not in the file.
        self.unwritten = 0
        if name == STDOUT:
            if os.isatty(_STDOUT_FD):
                hint = "name a file with --output, or pipe the output into a reader"
                raise OutputError("packets are not written to a terminal", hint)
            self._fd = _STDOUT_FD
        else:
            _check_path(Path(name), force)

    @property
    def opened(self) -> bool:
        """Whether anything has been written."""
        return self.size > 0

    @property
    def occupied(self) -> int:
        """Bytes of the file, including those not yet written."""
        return self.size

    def write(self, blocks: List[bytes]) -> None:
        """Write whole blocks, however long the write takes.

        Raises:
            OutputError: Some could not be written; a file ends with the last whole block.
        """
        pieces = _joined(blocks)
        for index, piece in enumerate(pieces):
            before = self.size
            try:
                self._write(piece)
            except BaseException as error:
                lost = self._cut(piece, self.size - before, begins_file=before == 0).lost
                lost += sum(self._cut(rest, 0, begins_file=False).lost for rest in pieces[index + 1 :])
                self.unwritten += lost
                if isinstance(error, OutputError):
                    error.unwritten = lost
                raise

    def close(self) -> None:
        """Close the file.

        Raises:
            OutputError: The system could not store what it had accepted.
        """
        fd, self._fd = self._fd, None
        if fd is not None and fd != _STDOUT_FD:
            try:
                os.close(fd)
            except OSError as error:
                raise self._failure(error) from error

    def discard(self) -> None:
        """Remove the file, if we created it."""
        if self._created:
            with contextlib.suppress(OSError):
                Path(self.name).unlink()
            self.size = 0

    def _write(self, data: bytes) -> None:
        fd = self._fd if self._fd is not None else self._open()
        view = memoryview(data)
        try:
            while view:
                try:
                    view = view[os.write(fd, view) :]
                except BlockingIOError:  # another process that has the pipe made it non-blocking
                    select.select([], [fd], [])
        except OSError as error:
            self._cut_back(fd, data, len(data) - len(view))
            raise self._failure(error) from error
        except BaseException:  # a second Ctrl-C while the write blocked
            self._cut_back(fd, data, len(data) - len(view))
            raise
        self.size += len(data)

    def _open(self) -> int:
        path = Path(self.name)
        special = is_special(path)
        flags = os.O_WRONLY | os.O_CLOEXEC
        try:
            self._created = not path.exists()
            if self._force and not special:
                self._fd = replace(path)
            else:
                self._fd = os.open(path, flags if special else flags | os.O_CREAT | os.O_EXCL, _MODE)
        except FileExistsError as error:
            raise OutputError(f"{self.name} already exists", "use --force to overwrite it") from error
        except OSError as error:
            raise self._failure(error) from error
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        if self._regular and special:
            raise OutputError(f"{self.name} has been replaced by a file meanwhile")
        return self._fd

    def _cut_back(self, fd: int, data: bytes, written: int) -> None:
        """Truncate the file after its last whole block."""
        if self._regular:
            # After a signal, only the position shows how much was written.
            written = max(written, os.lseek(fd, 0, os.SEEK_CUR) - self.size)
        self.size += self._cut(data, written, begins_file=self.size == 0).kept
        if self._regular:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, self.size)

    def _cut(self, data: bytes, written: int, *, begins_file: bool) -> Cut:
        if self._form is not None:
            return cut(self._form, data, written, begins_file=begins_file)
        return Cut(len(data) if written == len(data) else 0, 0)

    def _failure(self, error: OSError) -> OutputError:
        if error.errno == errno.EPIPE:
            return ReaderLeft("the reader has closed the pipe")
        target = "standard output" if self.name == STDOUT else self.name
        full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        hint = "the file is valid up to that point" if full else ""
        return OutputError(f"cannot write to {target}: {os.strerror(error.errno or 0)}", hint)


def _joined(blocks: List[bytes]) -> List[bytes]:
    """Join small blocks; large ones are not worth a copy."""
    size = sum(len(block) for block in blocks)
    return [b"".join(blocks)] if 0 < size < _LARGE else [block for block in blocks if block]


def is_special(path: Path) -> bool:
    """Whether it is a device or a named pipe: nothing is overwritten there, and its mode is kept."""
    return path.exists() and not path.is_file()


def replace(path: Path) -> int:
    """Replace a file, if there is one, by a new empty file, and return its descriptor.

    The old file is not reused: through its mode, owner, hard links or open descriptors,
    others could read the packets.  For a symbolic link, the target is replaced.

    Raises:
        OSError: The file cannot be replaced.
    """
    target = Path(os.path.realpath(path))
    try:
        fd, temporary = tempfile.mkstemp(prefix=".pcapctl-", dir=target.parent)  # only the owner can read it
    except PermissionError:
        return _emptied(target)
    try:
        Path(temporary).replace(target)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    return fd


def _emptied(path: Path) -> int:
    """Empty our own file and restrict its mode, because its directory accepts no new file."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        os.fchmod(fd, _MODE)
        os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_path(path: Path, force: bool) -> None:
    if path.is_dir():
        raise OutputError(f"{path} is a directory", "name a file in it")
    if path.is_file() and not force:
        raise OutputError(f"{path} already exists", "use --force to overwrite it")
    directory = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
    if not directory.is_dir():
        raise OutputError(f"the directory {directory} does not exist", "create it first")
    if not os.access(path if path.exists() else directory, os.W_OK):
        raise OutputError(f"{path} cannot be written", "check its permissions")
