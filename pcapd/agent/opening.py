"""Open capture sources without making the reactor wait.

Opening blocks (`setns`, activation, the filter's way into the kernel), and
entering a network namespace marks a thread for good.  So each START gets a
thread of its own, which ends when its sources are open.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pcapd.capture.namespaces import enter
from pcapd.capture.source import CaptureSource, open_source
from pcapd.config.schema import CaptureConfig
from pcapd.wire import CaptureStart, Stream

__all__ = ["in_new_thread", "open_sources"]

T = TypeVar("T")


def open_sources(
    start: CaptureStart, own: Stream, config: CaptureConfig, namespace: str | None
) -> list[CaptureSource]:
    """Open every interface that a START names, all or none.  Blocks; see `in_new_thread`.

    Args:
        start: The request.
        own: The connection it came on, which is not to be captured.
        config: Ring size, default interface, promiscuous mode.
        namespace: Path of the network namespace to enter, None for the host's.

    Raises:
        RequestError: One of them cannot be opened.
    """
    if namespace is not None:
        enter(namespace)
    sources: list[CaptureSource] = []
    try:
        for name in start.interfaces or (config.default_device,):
            sources.append(
                open_source(
                    name,
                    filter_text=start.filter,
                    exclude=(own, *start.exclude),
                    snaplen=start.snaplen,
                    ring_bytes=config.ring_bytes,
                    promiscuous=config.promiscuous,
                )
            )
    except BaseException:
        for source in sources:
            source.close()
        raise
    return sources


def in_new_thread(reactor: Any, function: Callable[[], T]) -> Deferred[T]:
    """Run a function on a thread of its own and fire with its result on the reactor's."""
    done: Deferred[T] = Deferred()

    def run() -> None:
        result: Any
        try:
            result = function()
        except BaseException:  # noqa: BLE001 - whatever it is belongs to the caller
            result = Failure()
        reactor.callFromThread(done.callback, result)

    threading.Thread(target=run, name="open-capture", daemon=True).start()
    return done
