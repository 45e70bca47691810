"""The command line client for download (``GET /cli/NAME``): the files of one directory only.

These files are public and need no token.  A name is one path segment of harmless
characters, so that it cannot leave the directory.  Only regular files are opened:
no links, devices, pipes or directories.
"""

from __future__ import annotations

import os
import re
import stat
from io import FileIO
from pathlib import Path
from typing import Any, Final

from twisted.internet.interfaces import IPushProducer
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from pcapd.errors import TargetNotFound
from pcapd.limits import STRANGER_BUFFER
from pcapd.net.pages import NotFoundResource, Page, deny

__all__ = ["ClientFilesResource"]

#: Allowed file names; hidden files, "." and ".." do not match.
_NAME: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


class ClientFilesResource(NotFoundResource):
    """Answers paths below ``/cli/``; there is no listing of the directory.

    Args:
        directory: The directory with the files.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def getChild(self, path: bytes, request: Any) -> Resource:
        """The file of that name, or a page that reports it missing."""
        if request.postpath or not _NAME.fullmatch(path):
            return NotFoundResource()
        return _FileResource(self._directory / path.decode("ascii"))


@implementer(IPushProducer)
class _Sending:
    """Sends a file, one piece in each turn of the reactor, as fast as the client reads.

    Args:
        request: The request for the file.
        file: The file; it is closed at the end.
        clock: The reactor.
    """

    def __init__(self, request: Any, file: FileIO, clock: Any) -> None:
        self._request = request
        self._file = file
        self._clock = clock
        self._turn: Any = None

    def start(self) -> None:
        """Send the first piece."""
        self._request.notifyFinish().addBoth(lambda _: self.stopProducing())
        self._request.registerProducer(self, True)
        self._send()

    def resumeProducing(self) -> None:
        """Continue, because the client reads."""
        if self._turn is None:
            self._turn = self._clock.callLater(0, self._send)

    def pauseProducing(self) -> None:
        """Pause, because the client does not read."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def stopProducing(self) -> None:
        """Close the file, because the client is gone or everything is sent."""
        self.pauseProducing()
        self._file.close()
        self._request = None  # breaks a reference cycle, which the garbage collector would free only later

    def _send(self) -> None:
        self._turn = None
        piece = self._file.read(STRANGER_BUFFER)
        if piece:
            self.resumeProducing()
            self._request.write(piece)
        else:
            self._request.unregisterProducer()
            self._request.finish()


class _FileResource(Page):
    isLeaf = True

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def render_GET(self, request: Any) -> Any:
        """Send the file, as fast as the client reads."""
        try:
            file = _open_regular(self._path)
        except OSError:
            return deny(request, TargetNotFound("no such file", "ask the operator which files exist"))
        status = os.fstat(file.fileno())
        request.setHeader("Content-Type", "application/octet-stream")
        request.setHeader("Content-Disposition", f'attachment; filename="{self._path.name}"')
        request.setHeader("X-Content-Type-Options", "nosniff")
        etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'.encode()
        if request.setETag(etag) is http.CACHED:
            file.close()
            return b""
        request.setHeader("Content-Length", str(status.st_size))
        if request.method == b"HEAD":
            file.close()
            request.finish()
        else:
            _Sending(request, file, request.channel.factory.clock).start()
        return NOT_DONE_YET


def _open_regular(path: Path) -> FileIO:
    # Without waiting for the writer of a pipe, and not through a link.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(path)
    return os.fdopen(descriptor, "rb", buffering=0)
