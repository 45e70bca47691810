"""The objects of recordings: a local directory, or S3, GCS or Azure (https://developmentseed.org/obstore/).

Every operation runs on a thread of a small pool, so that a slow store does not stop the reactor.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, Union
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from pcapd.errors import ConfigError, PcapdError
from pcapd.limits import CLIP_PIECE, FETCH_PIECE
from pcapd.net.reactor import Reactor

__all__ = ["Extract", "Store", "StoreTrouble"]

T = TypeVar("T")

#: Threads for operations on the store.
_THREADS: Final = 4
#: Operations on an object store are tried again by obstore itself, with growing pauses, within this time.
_RETRIES: Any = {"max_retries": 8, "retry_timeout": timedelta(seconds=60)}
#: Limits of one request to an object store, seconds.
_CLIENT: Any = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)}
#: Mode of files and directories below a local store: only for the owner.
_UMASK: Final = 0o077


#: A part of an object (name, offset, bytes), or bytes that are here already.
Extract = Union[tuple[str, int, int], bytes]


class StoreTrouble(PcapdError):
    """The store refused or failed an operation."""


class Store:
    """See the module.

    Args:
        reactor: The reactor.
        url: ``file:///DIRECTORY``, ``s3://BUCKET/PREFIX``, ``gs://…`` or ``az://…``.
        credentials: Settings of the object store by name, such as ``access_key_id``.

    Raises:
        ConfigError: The URL or a setting is not valid, or the directory cannot be used.
    """

    def __init__(self, reactor: Reactor, url: str, credentials: Mapping[str, str]) -> None:
        self._reactor = reactor
        self._directory: Path | None = None
        parsed = urlsplit(url)
        try:
            if parsed.scheme == "file":
                self._directory = Path(unquote(parsed.path))
                self._store: Any = self._local(self._directory)
            else:
                settings: dict[str, Any] = dict(credentials)
                if settings.get("endpoint", "").startswith("http://"):
                    settings["client_options"] = {**_CLIENT, "allow_http": True}
                else:
                    settings["client_options"] = dict(_CLIENT)
                self._store = from_url(url, retry_config=_RETRIES, **settings)
        except (BaseError, OSError, ValueError, TypeError) as error:
            raise ConfigError("configuration", [f"recordings: store {url}: {_reason(error)}"]) from error
        self._pool = ThreadPool(0, _THREADS, "store")

    @staticmethod
    def _local(directory: Path) -> LocalStore:
        os.umask(_UMASK)
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        return LocalStore(directory)

    def start(self) -> None:
        """Start the threads."""
        self._pool.start()

    def stop(self) -> None:
        """Wait for the operations under way, and stop the threads."""
        self._pool.stop()

    def put(self, name: str, data: bytes) -> Deferred[None]:
        """Store an object: the whole object or nothing.  Fails with `StoreTrouble`."""
        return self._do(lambda: obstore.put(self._store, name, data) and None)

    def get(self, name: str, start: int, length: int) -> Deferred[bytes]:
        """Read a part of an object.  Fails with `StoreTrouble`, also if there is none of this name.

        Args:
            start: Offset in bytes.
            length: Bytes, more than 0.
        """
        return self._do(lambda: bytes(obstore.get_range(self._store, name, start=start, length=length)))

    def join(self, name: str, extracts: Iterable[Extract]) -> Deferred[None]:
        """Store an object that consists of parts of others: the whole object or nothing.

        Fails with `StoreTrouble`.
        """

        def work() -> None:
            if (
                self._directory is not None
            ):  # what an api that was killed has begun; obstore lists no such file
                path = self._directory / name
                for begun in path.parent.glob(f"{path.name}#*"):
                    begun.unlink(missing_ok=True)
            writer = obstore.open_writer(self._store, name, buffer_size=CLIP_PIECE, max_concurrency=1)
            for piece in self.pieces(extracts):
                writer.write(piece)
            # Not in a `with` statement: after an error, nothing may be stored under this name.
            writer.close()

        return self._do(work)

    def pieces(self, extracts: Iterable[Extract]) -> Iterator[bytes]:
        """Read parts of objects, in pieces of at most `FETCH_PIECE`.  Blocks.

        Raises:
            BaseError: The store failed, or an object does not exist.
        """
        for extract in extracts:
            if isinstance(extract, bytes):
                yield extract
                continue
            name, start, length = extract
            for offset in range(start, start + length, FETCH_PIECE):
                size = min(FETCH_PIECE, start + length - offset)
                yield bytes(obstore.get_range(self._store, name, start=offset, length=size))

    def delete(self, names: Sequence[str]) -> Deferred[None]:
        """Delete objects; those that do not exist are ignored.  Fails with `StoreTrouble`."""

        def work() -> None:
            for name in names:
                try:
                    obstore.delete(self._store, name)
                except (FileNotFoundError, obstore.exceptions.NotFoundError):
                    continue

        return self._do(work)

    def list(self, prefix: str = "") -> Deferred[list[tuple[str, int, float]]]:
        """List objects: name, bytes, and time of the last change in seconds since the epoch."""

        def work() -> list[tuple[str, int, float]]:
            return [
                (meta["path"], meta["size"], meta["last_modified"].timestamp())
                for page in obstore.list(self._store, prefix or None)
                for meta in page
            ]

        return self._do(work)

    def free(self) -> int | None:
        """Free bytes of the disk; None for an object store."""
        return None if self._directory is None else shutil.disk_usage(self._directory).free

    def _do(self, work: Callable[[], T]) -> Deferred[T]:
        def checked() -> T:
            try:
                return work()
            except (BaseError, OSError, ValueError) as error:
                raise StoreTrouble(f"the store of recordings failed: {_reason(error)}") from error

        done: Deferred[T] = deferToThreadPool(self._reactor, self._pool, checked)
        return done


def _reason(error: BaseException) -> str:
    """The first line of an error, without the rest, which may quote requests."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
