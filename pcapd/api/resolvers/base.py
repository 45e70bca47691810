"""From a request and a token to a user and the targets they may capture.

A resolver answers for one world of names: the configuration's own, a Cloud
Foundry's apps, a director's deployments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.defer import Deferred

from pcapd.config.schema import ApiConfig
from pcapd.errors import RequestError
from pcapd.net.reactor import Reactor
from pcapd.wire import Container, Notice, Request

__all__ = ["Resolved", "Resolver", "Target", "asked_by"]


@contextlib.contextmanager
def asked_by(user: str) -> Iterator[None]:
    """Note in a refusal whom it concerns, for the audit log.

    Args:
        user: Whose token was accepted.
    """
    try:
        yield
    except RequestError as error:
        error.user = user
        raise


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
        user: For people and the audit log; printable, and not unique.
        identity: Unique over all resolvers and their sources of users; never empty; opaque.
        origin: Which of its authority's sources of users knows the user, where that is known.
        notices: What of it cannot be had, such as an instance that is down.
        headers_only: They may have nothing of a packet but its headers.
    """

    user: str
    targets: tuple[Target, ...]
    notices: tuple[Notice, ...] = ()
    headers_only: bool = False
    identity: str = field(kw_only=True)
    origin: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not self.identity:
            raise ValueError("a user without an identity")


class Resolver(Protocol):
    """Answers for one world of names."""

    #: As in the configuration and in /health.
    name: str
    #: What it captures, for people.
    captures: str

    @classmethod
    def of(cls, config: ApiConfig, reactor: Reactor) -> Resolver | None:
        """Make one of its section of the configuration; None without that.

        Raises:
            ConfigError: A file that it needs cannot be used.
        """

    @staticmethod
    def asked(request: Request) -> bool:
        """Whether a request names something of its world."""

    def start(self) -> None:
        """The api starts."""

    def stop(self) -> None:
        """It stops: leave nothing running."""

    def prepare(self) -> Callable[[], None]:
        """Read again what may change while running; the result puts it into force.

        Raises:
            ConfigError: It cannot be used; everything stays as it is.
        """

    @property
    def healthy(self) -> bool:
        """Whether it can answer now."""

    def resolve(self, request: Request, token: str, client: str) -> Deferred[Resolved]:
        """Find the user of this token, and the targets that the request names.

        Args:
            client: The client's address: clients get a fair share of what is bounded.

        Cancel the Deferred when the client has left.  It fails with a `RequestError`:
        Unauthenticated, Forbidden, TargetNotFound, or what the authority behind it said.
        """

    def survey(self, request: Request, token: str, client: str) -> Deferred[Resolved]:
        """Like `resolve`, for a capture that runs already: there may be nothing at the moment."""
