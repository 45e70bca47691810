"""The interface of resolvers, which find the user of a token and the targets of a request.

A resolver answers for one set of names: the configuration's own targets, a Cloud
Foundry's apps, or a director's deployments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.defer import Deferred, fail

from pcapd.config.schema import ApiConfig
from pcapd.errors import RequestError, TargetNotFound
from pcapd.net.reactor import Reactor
from pcapd.wire import Container, Notice, Request

__all__ = ["Overseer", "Resolved", "Resolver", "Standing", "Target", "WithoutSpaces", "asked_by"]


@contextlib.contextmanager
def asked_by(user: str) -> Iterator[None]:
    """Add the user to a refusal, for the audit log.

    Args:
        user: The user whose token was accepted.
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
        name: The name shown to the user, such as ``web-0`` or ``myapp/0``.
        host: IP address of the agent.
        namespace: Name of the network namespace in the agent's configuration; None for none.
        container: The container of an app instance, used instead of a namespace; or None.
        started_us: When the instance started, if known.
    """

    name: str
    host: str
    port: int
    namespace: str | None = None
    container: Container | None = None
    started_us: int | None = None


@dataclass(frozen=True)
class Standing:
    """Why a user may capture an app: with it, the api can ask again without the user's token.

    Attributes:
        user: Cloud Controller's GUID of the user.
        space: GUID of the app's space.
        by_scope: Whether the right is a scope of the user's token, as an administrator's: then there
            is no role that could be looked up.
    """

    user: str
    space: str
    by_scope: bool = False


@dataclass(frozen=True)
class Resolved:
    """The user, and the targets they may capture.

    Attributes:
        user: Name shown to people and in the audit log; printable, and not unique.
        identity: Opaque id, unique across all resolvers and their user stores; never empty.
        origin: The identity provider of the user (UAA's ``origin``), if known.
        notices: One for each part that cannot be captured, such as an instance that is down.
        headers_only: Whether the user may capture only the headers of packets.
        standing: Why the user may capture an app; None for other targets.
    """

    user: str
    targets: tuple[Target, ...]
    notices: tuple[Notice, ...] = ()
    headers_only: bool = False
    identity: str = field(kw_only=True)
    origin: str = field(default="", kw_only=True)
    standing: Standing | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not self.identity:
            raise ValueError("a user without an identity")


class Overseer(Protocol):
    """Asks an authority while a capture runs, with a client of the api's own instead of the user's token."""

    def survey(self, request: Request, standing: Standing) -> Deferred[Resolved]:
        """The targets that a request names now; user and identity of the result mean nothing.

        Fails like `Resolver.survey`, but never with Unauthenticated.
        """

    def check(self, request: Request, standing: Standing) -> Deferred[None]:
        """Whether the user may still capture this.

        Fails with Forbidden if not, and with ResolverUnavailable or LimitReached if that is not known.
        """


class Resolver(Protocol):
    """Finds the targets of one set of names."""

    #: The name in the configuration and in ``/health``.
    name: str
    #: The kind of targets, for messages.
    captures: str
    #: Asks without a user's token; None if the resolver has no client of its own.
    overseer: Overseer | None

    @classmethod
    def of(cls, config: ApiConfig, reactor: Reactor) -> Resolver | None:
        """Make a resolver from its section of the configuration; None without this section.

        Raises:
            ConfigError: A file that it needs cannot be used.
        """

    @staticmethod
    def asked(request: Request) -> bool:
        """Whether a request names targets of this resolver."""

    def start(self) -> None:
        """Called when the api starts."""

    def stop(self) -> None:
        """Called when the api stops; end all timers and connections."""

    def prepare(self) -> Callable[[], None]:
        """Read again the files that may change while the api runs; call the result to use them.

        Raises:
            ConfigError: A file cannot be used; everything stays as it is.
        """

    @property
    def healthy(self) -> bool:
        """Whether the resolver is available now."""

    def resolve(self, request: Request, token: str, client: str) -> Deferred[Resolved]:
        """Find the user of this token, and the targets that the request names.

        Args:
            client: The client's address; limited resources are shared fairly among clients.

        Cancel the Deferred when the client has disconnected.  It fails with a `RequestError`:
        Unauthenticated, Forbidden, TargetNotFound, or the error of the authority behind it.
        """

    def identify(self, token: str, client: str) -> Deferred[Resolved]:
        """Find the user of this token; the result is without targets.

        Args:
            client: As for `resolve`.

        Cancel the Deferred when the client has disconnected.  It fails with a `RequestError`:
        Unauthenticated if the token is not one of this resolver's users.
        """

    def survey(self, request: Request, token: str, client: str) -> Deferred[Resolved]:
        """Like `resolve`, for a running capture; the result may be without targets."""

    def vouch(self, request: Request, standing: Standing, token: str, client: str) -> Deferred[None]:
        """Check that the user of this token may capture in the space of an app that was deleted.

        Args:
            standing: Of the user who captured the app; only its space counts.
            client: As for `resolve`.

        Fails with a `RequestError`: Unauthenticated, Forbidden, TargetNotFound (there are no spaces), or
        that of the authority.
        """


class WithoutSpaces:
    """The part of a resolver whose targets are not in spaces of Cloud Foundry, and which has no client."""

    overseer: Overseer | None = None

    def vouch(self, _request: Request, _standing: Standing, _token: str, _client: str) -> Deferred[None]:
        """See `Resolver.vouch`."""
        return fail(TargetNotFound("only apps are in spaces"))
