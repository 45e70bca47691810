"""A file that is compressed while it is written (``x.pcapng.gz``).

It is a series of gzip members, which readers treat as one stream (RFC 1952, section
2.2), so it is valid after each of them: a killed pcapctl loses only the packets that
wait for the next one.
"""

from __future__ import annotations

import gzip
import time
from typing import List

from pcapd.ctl.sinks.output import Output, OutputError
from pcapd.limits import GZIP_WAITING
from pcapd.savefile.cut import cut
from pcapd.savefile.form import Form

__all__ = ["CompressedOutput", "open_output"]

_SUFFIX = ".gz"
#: A fast level: it compresses headers and text nearly as well, and does not slow the capture down.
_LEVEL = 3


def open_output(name: str, form: Form, *, force: bool) -> Output:
    """The output of a file, compressed if its name ends in ``.gz``.

    Raises:
        OutputError: It cannot be written.
    """
    kind = CompressedOutput if name.endswith(_SUFFIX) else Output
    return kind(name, form, force=force)


class CompressedOutput(Output):
    """See the module.

    Args:
        name: A path.
        form: The format of the compressed data.
        force: Overwrite an existing file.
    """

    def __init__(self, name: str, form: Form, *, force: bool) -> None:
        super().__init__(name, None, force=force)
        self._content = form
        self._waiting: List[bytes] = []
        self._waiting_size = 0
        self._compressed_at = float("-inf")
        self._begun = False

    @property
    def occupied(self) -> int:
        """Bytes of the file, and the uncompressed bytes that wait."""
        return self.size + self._waiting_size

    def write(self, blocks: List[bytes]) -> None:
        """Take whole blocks, and write those that have waited long enough.

        Raises:
            OutputError: They could not be written; the file ends with the previous member.
        """
        self._waiting += blocks
        self._waiting_size += sum(map(len, blocks))
        most, seconds = GZIP_WAITING
        if self._waiting_size >= most or time.monotonic() - self._compressed_at >= seconds:
            self._compress()

    def close(self) -> None:
        """Write the waiting blocks, and close the file.

        Raises:
            OutputError: The system could not store them.
        """
        try:
            self._compress()
        finally:
            super().close()

    def _compress(self) -> None:
        data, self._waiting, self._waiting_size = b"".join(self._waiting), [], 0
        self._compressed_at = time.monotonic()
        if not data:
            return
        begins_file, self._begun = not self._begun, True
        try:
            super().write([gzip.compress(data, _LEVEL)])
        except BaseException as error:
            lost = cut(self._content, data, 0, begins_file=begins_file).lost
            self.unwritten += lost
            if isinstance(error, OutputError):
                error.unwritten = lost
            raise
