"""From a request and a token to a user and the targets they may capture.

A resolver answers for one world of names: the configuration's own, a Cloud
Foundry's apps, a director's deployments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred

from pcapd.wire import Container, Notice, Request

__all__ = ["Resolved", "Resolver", "Target"]


@dataclass(frozen=True)
class Target:
    """One instance to capture, and where its agent is.

    Attributes:
        name: What the user will see, such as ``web-0`` or ``myapp/0``.
        host: IP address of the agent.
        namespace: Name of the network namespace in the agent's configuration.
        container: An app instance's container instead.
        started_us: When the instance became what it is, where that is known.
    """

    name: str
    host: str
    port: int
    namespace: str | None = None
    container: Container | None = None
    started_us: int | None = None


@dataclass(frozen=True)
class Resolved:
    """Who asks, and what they get.

    Attributes:
        notices: What of it cannot be had, such as an instance that is down.
        headers_only: They may have nothing of a packet but its headers.
    """

    user: str
    targets: tuple[Target, ...]
    notices: tuple[Notice, ...] = ()
    headers_only: bool = False


class Resolver(Protocol):
    """Answers for one world of names."""

    #: As in the configuration and in /health.
    name: str

    def start(self) -> None:
        """The api starts."""

    def stop(self) -> None:
        """It stops: leave nothing running."""

    def prepare(self) -> Callable[[], None]:
        """Read again what may change while running; the result puts it into force.

        Raises:
            ConfigError: It cannot be used; everything stays as it is.
        """

    def health(self) -> tuple[bool, str]:
        """Whether it can answer now, and a sentence about it."""

    def resolve(self, request: Request, token: str) -> Deferred[Resolved]:
        """Who has this token, and what does the request name?

        The Deferred fails with a `RequestError`: Unauthenticated, Forbidden,
        TargetNotFound, or what the authority behind it said.
        """

    def survey(self, request: Request, token: str) -> Deferred[Resolved]:
        """Like `resolve`, for a capture that runs already: there may be nothing at the moment."""
