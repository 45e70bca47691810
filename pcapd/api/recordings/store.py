"""The objects of recordings: a local directory, or S3, GCS or Azure (https://developmentseed.org/obstore/).

Every operation runs on a thread of a small pool, so that a slow store does not stop the reactor.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
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

from pcapd.api.state.threads import Threads
from pcapd.errors import ConfigError, RecordingsUnavailable
from pcapd.limits import CLIP_PIECE, FETCH_PIECE, OBJECTS_PAGE
from pcapd.net.reactor import Reactor

__all__ = ["Extract", "Store", "StoreTrouble"]

T = TypeVar("T")
_list: Final = list  # `Store.list` hides the name in the class

#: Threads for operations on the store; a file that is sent uses several (`FETCH_AHEAD`).
_THREADS: Final = 8
#: Operations on an object store are tried again by obstore itself, with growing pauses, within this time.
_RETRIES: Any = {"max_retries": 8, "retry_timeout": timedelta(seconds=60)}
#: Limits of one request to an object store, seconds.
_CLIENT: Any = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)}
#: Objects of a directory are written under such a name first; one that is left over is of a killed process.
_UNFINISHED: Final = re.compile(r".*#[0-9]+")


#: A part of an object (name, offset, bytes), or bytes that are here already.
Extract = Union[tuple[str, int, int], bytes]


class StoreTrouble(RecordingsUnavailable):
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
        with _checked(url):
            self._directory = _directory(url)
            if self._directory is not None:
                self._store: Any = self._local(self._directory)
            else:
                self._store = _remote(url, credentials)
        self._pool = Threads(_THREADS, "store")

    @staticmethod
    def _local(directory: Path) -> LocalStore:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        return LocalStore(directory, automatic_cleanup=True)

    def start(self) -> None:
        """Start the threads."""
        self._pool.start()

    def stop(self) -> None:
        """Wait a moment for the operations under way, and stop the threads."""
        self._pool.stop()

    def put(self, name: str, data: bytes | Sequence[bytes]) -> Deferred[None]:
        """Store an object: the whole object or nothing, also after a power failure.

        Fails with `StoreTrouble`.

        Args:
            data: The object, or its pieces, which are not joined and not empty.
        """

        def work() -> None:
            # In one request: with several, a bucket would keep the parts of one that was not finished.
            whole = data if isinstance(data, bytes) else iter(data)
            obstore.put(self._store, name, whole, use_multipart=False)
            self._flush_object(name)

        return self._do(work)

    def _flush_object(self, name: str) -> None:
        """Write an object to the disk, with the directories in which it is."""
        if self._directory is not None:
            path = self._directory / name
            for written in (path, *path.parents[: name.count("/") + 1]):
                _flush(written)

    def get(
        self, name: str, start: int, length: int, convert: Callable[[bytes], bytes] | None = None
    ) -> Deferred[bytes]:
        """Read a part of an object.  Fails with `StoreTrouble`, also if there is none of this name.

        Args:
            start: Offset in bytes.
            length: Bytes, more than 0.
            convert: Applied to the bytes on the store's thread, because it may take long.
        """

        def work() -> bytes:
            data = bytes(obstore.get_range(self._store, name, start=start, length=length))
            return data if convert is None else convert(data)

        return self._do(work)

    def join(self, name: str, extracts: Iterable[Extract]) -> Deferred[None]:
        """Store an object that consists of parts of others, as `put` does.

        Fails with `StoreTrouble`.
        """

        def work() -> None:
            writer = obstore.open_writer(self._store, name, buffer_size=CLIP_PIECE, max_concurrency=1)
            for piece in self.pieces(extracts):
                writer.write(piece)
            # Not in a `with` statement: after an error, nothing may be stored under this name.
            writer.close()
            self._flush_object(name)

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

        return self._do(lambda: self._delete(names))

    def clear(self, prefix: str) -> Deferred[None]:
        """Delete all objects whose names begin with this directory.  Fails with `StoreTrouble`."""

        def work() -> None:
            for page in obstore.list(self._store, prefix, chunk_size=OBJECTS_PAGE):
                self._delete([meta["path"] for meta in page])

        return self._do(work)

    def _delete(self, names: Sequence[str]) -> None:
        if self._directory is not None:
            for name in names:
                with contextlib.suppress(FileNotFoundError, obstore.exceptions.NotFoundError):
                    obstore.delete(self._store, name)
            return
        for start in range(0, len(names), OBJECTS_PAGE):
            with contextlib.suppress(FileNotFoundError, obstore.exceptions.NotFoundError):
                obstore.delete(self._store, _list(names[start : start + OBJECTS_PAGE]))

    def directories(self) -> Deferred[list[str]]:
        """The directories at the top.  Fails with `StoreTrouble`."""
        return self._do(lambda: _list(obstore.list_with_delimiter(self._store)["common_prefixes"]))

    def list(self, prefix: str = "") -> Deferred[list[tuple[str, int, float]]]:
        """List objects: name, bytes, and time of the last change in seconds since the epoch."""

        def work() -> list[tuple[str, int, float]]:
            return [
                (meta["path"], meta["size"], meta["last_modified"].timestamp())
                for page in obstore.list(self._store, prefix or None, chunk_size=OBJECTS_PAGE)
                for meta in page
            ]

        return self._do(work)

    def tidy(self, age: float) -> Deferred[int]:
        """Delete what killed processes left behind in a directory; fires with the number of files.

        Args:
            age: Only files that were changed longer ago than this, seconds.
        """
        return self._do(lambda: 0 if self._directory is None else _tidy(self._directory, age))

    def free(self) -> int | None:
        """Free bytes of the disk; None for an object store.

        Raises:
            StoreTrouble: The directory is gone.
        """
        try:
            return None if self._directory is None else shutil.disk_usage(self._directory).free
        except OSError as error:
            raise StoreTrouble(f"the store of recordings failed: {_reason(error)}") from error

    def _do(self, work: Callable[[], T]) -> Deferred[T]:
        def checked() -> T:
            try:
                return work()
            except (BaseError, OSError, ValueError) as error:
                raise StoreTrouble(f"the store of recordings failed: {_reason(error)}") from error

        done: Deferred[T] = deferToThreadPool(self._reactor, self._pool, checked)
        return done


def check_store(url: str, credentials: Mapping[str, str]) -> None:
    """Check the URL and the settings of a store, and whether a directory can be written; nothing is made.

    Raises:
        ConfigError: It cannot be used.
    """
    with _checked(url):
        directory = _directory(url)
        if directory is None:
            _remote(url, credentials)
            return
        there = next(path for path in (directory, *directory.parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise OSError(f"{there} cannot be written")


@contextlib.contextmanager
def _checked(url: str) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError, ValueError, TypeError) as error:
        raise ConfigError("configuration", [f"recordings.store: {url}: {_reason(error)}"]) from error


def _directory(url: str) -> Path | None:
    """The directory of a local store; None for an object store."""
    parsed = urlsplit(url)
    return Path(unquote(parsed.path)) if parsed.scheme == "file" else None


def _remote(url: str, credentials: Mapping[str, str]) -> Any:
    settings: dict[str, Any] = dict(credentials)
    plain = settings.get("endpoint", "").startswith("http://")
    settings["client_options"] = {**_CLIENT, "allow_http": True} if plain else dict(_CLIENT)
    return from_url(url, retry_config=_RETRIES, **settings)


def _flush(path: Path) -> None:
    """Write a file or directory to the disk: `obstore` leaves this to the kernel.

    The pages of a file are then free for the next object.  Most objects are never read, but would take all
    memory that is not used otherwise; and new pages may cost more than the rest (docs/performance.rst).
    """
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
        with contextlib.suppress(OSError):  # only an advice
            os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(opened)


def _tidy(directory: Path, age: float) -> int:
    count = 0
    for parent, _, names in os.walk(directory):
        for name in filter(_UNFINISHED.fullmatch, names):
            path = Path(parent, name)
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > age:
                    path.unlink()
                    count += 1
    return count


def _reason(error: BaseException) -> str:
    """The first line of an error, without the rest, which may quote requests."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
