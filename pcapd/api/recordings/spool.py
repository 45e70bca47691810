"""Segments that wait on the local disk while the store or the database is away.

They are in files without a name, so that nothing is left when the process ends.  All recordings together
have `limits.SPOOL_MAX` bytes; beyond that, captures are paused.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Optional, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from pcapd.api.recordings.segments import Segment
from pcapd.api.state.threads import Threads
from pcapd.limits import SPOOL_MAX
from pcapd.net.reactor import Reactor

__all__ = ["Spool", "Spooled", "spool_directory"]

T = TypeVar("T")


@dataclass
class Spooled:
    """A segment that waits.

    Attributes:
        segment: The segment; without its bytes if they are in the file.
        size: Its bytes.
        file: The file; None if it could not be written.
    """

    segment: Segment
    size: int
    file: Optional[IO[bytes]]


class Spool:
    """See the module.

    Args:
        reactor: The reactor.
        directory: Where the files are.
        reserve: Bytes of its disk that stay free.
        most: Bytes that wait at most.

    Attributes:
        used: Bytes that wait.
    """

    log = Logger()

    def __init__(self, reactor: Reactor, directory: Path, reserve: int, most: int = SPOOL_MAX) -> None:
        self._reactor = reactor
        self._directory = directory
        self._reserve = reserve
        self._most = most
        self._in_memory = 0  # segments whose file could not be written
        self._pool = Threads(1, "spool")
        self.used = 0

    def start(self) -> None:
        """Start the thread."""
        self._pool.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._pool.stop()

    def has_room(self, size: int) -> bool:
        """Whether a segment of so many bytes may wait."""
        if self._in_memory or self.used + size > self._most:
            return False
        try:
            return shutil.disk_usage(self._directory).free - size >= self._reserve
        except OSError:
            return False

    def put(self, segment: Segment) -> Deferred[Spooled]:
        """Write a segment to a file; if this fails, it waits in memory, and there is no room for more."""
        size = segment.size
        self.used += size

        def work() -> IO[bytes]:
            file: IO[bytes] = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - closed by `drop`
            try:
                file.writelines(segment.pieces)
                file.flush()
            except BaseException:
                file.close()
                raise
            return file

        def failed(failure: Any) -> Spooled:
            failure.trap(OSError)
            self.log.warn("a segment cannot wait on the disk: {reason}", reason=failure.value.strerror)
            self._in_memory += 1
            return Spooled(segment, size, None)

        return self._do(work).addCallbacks(
            lambda file: Spooled(replace(segment, pieces=()), size, file), failed
        )

    def take(self, spooled: Spooled) -> Deferred[Segment]:
        """Read a segment, which waits no longer.

        Fails with OSError.
        """

        def work() -> Segment:
            if spooled.file is None:
                return spooled.segment
            spooled.file.seek(0)
            return replace(spooled.segment, pieces=(spooled.file.read(),))

        def done(result: Any) -> Any:
            self.drop(spooled)
            return result

        return self._do(work).addBoth(done)

    def drop(self, spooled: Spooled) -> None:
        """Forget a segment."""
        self.used -= spooled.size
        if spooled.file is None:
            self._in_memory -= 1
        else:
            spooled.file.close()

    def _do(self, work: Callable[[], T]) -> Deferred[T]:
        done: Deferred[T] = deferToThreadPool(self._reactor, self._pool, work)
        return done


def spool_directory(store: Path | None) -> Path:
    """Where segments wait.

    Args:
        store: The directory of the store; None for an object store.
    """
    return store if store is not None else Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108 - no names
