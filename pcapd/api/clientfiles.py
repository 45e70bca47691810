"""The client for download (``GET /cli/NAME``): the files of one directory, and nothing else.

No token is asked for: these files are public.  A name is one path segment of
harmless characters, so there is no way out of the directory, and what is
opened must be a regular file itself: no link, device, pipe or directory.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO, Final

from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.static import NoRangeStaticProducer

from pcapd.api.web import NotFoundResource, deny
from pcapd.errors import TargetNotFound

__all__ = ["ClientFilesResource"]

#: Also what keeps hidden files and "." and ".." out.
_NAME: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


class ClientFilesResource(NotFoundResource):
    """Answers below ``/cli/``; there is no listing.

    Args:
        directory: Where the files are.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def getChild(self, path: bytes, request: Any) -> Resource:
        """The file of that name, or that there is none."""
        if request.postpath or not _NAME.fullmatch(path):
            return NotFoundResource()
        return _FileResource(self._directory / path.decode("ascii"))


class _FileResource(Resource):
    isLeaf = True

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def render_GET(self, request: Any) -> Any:
        """Send it, as fast as the client reads."""
        try:
            file = _open_regular(self._path)
        except OSError:
            return deny(request, TargetNotFound("no such file", "ask the operator which ones there are"))
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
            NoRangeStaticProducer(request, file).start()
        return NOT_DONE_YET


def _open_regular(path: Path) -> BinaryIO:
    # Without waiting for the writer of a pipe, and not through a link.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(path)
    return os.fdopen(descriptor, "rb")
