"""The base of both roles: a service that listens, reloads and drains.

A port that is in use is fatal (`StreamServerEndpointService` would only log
it), SIGHUP reloads, and stopping waits for the drain, within bounds.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger

from pcapd.errors import ConfigError
from pcapd.net.reactor import Reactor

__all__ = ["Daemon", "effective_capabilities"]


class Daemon(Service):
    """Base of both roles.

    Args:
        reactor: Where it runs.
    """

    log = Logger()
    role = ""
    config: Any

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.ports: list[Any] = []
        #: Called when the daemon listens and has changed its user; set by the composition root.
        self.harden: Callable[[], None] = lambda: None

    # --- for subclasses ----------------------------------------------------

    def start(self) -> None:
        """Start to serve."""

    def prepare(self) -> Callable[[], None]:
        """Read everything again that may change while running, and change nothing yet.

        Returns:
            A function that puts it into force and does not fail.

        Raises:
            ConfigError: A part cannot be used; everything stays as it is.
        """
        return lambda: None

    def drain(self) -> Deferred[Any]:
        """Refuse new captures and end the running ones; fires when done."""
        raise NotImplementedError

    # --- Service -----------------------------------------------------------

    def startService(self) -> None:
        """Start; an exception stops the daemon with exit code 1."""
        super().startService()
        _raise_file_limit()
        for warning in self.config.warnings:
            self.log.warn("{warning}", warning=warning)
        self.start()
        self.harden()
        # From the reactor's thread; twistd and pcapd both call this there.
        signal.signal(signal.SIGHUP, lambda *_: self.reactor.callFromThread(self.reload))
        # `main` and `tap` have blocked it: one that came since then reloads now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def stopService(self) -> Deferred[Any]:
        """Drain, then stop listening."""
        super().stopService()
        self.log.info("{role} drains", role=self.role)
        return self.drain().addBoth(self._stop_listening)

    def listen(self, port: Any) -> None:
        """Listen on a port until the service stops.

        Raises:
            twisted.internet.error.CannotListenError: The port is in use, or not permitted.
        """
        port.startListening()
        self.ports.append(port)

    def _stop_listening(self, _: Any) -> Any:
        return DeferredList([maybeDeferred(port.stopListening) for port in self.ports])

    def reload(self) -> None:
        """Read again what may change while running; use all of it, or nothing if a part is bad."""
        try:
            use = self.prepare()
        except ConfigError as error:
            self.log.error(
                "not reloaded, the old certificates and limits stay in use: {problem}", problem=str(error)
            )
            return
        use()
        self.log.info("{role} reloaded its certificates and limits", role=self.role)


def _raise_file_limit() -> None:
    """Raise the limit of descriptors to its maximum: each target needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def effective_capabilities() -> int:
    """The calling thread's effective capabilities: bit N is capability number N (capabilities(7))."""
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value, 16)
    return 0
