"""The resolver for targets and users that the configuration names."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from pcapd.api.resolvers.base import Resolved, Resolver, Target, WithoutSpaces, asked_by
from pcapd.config.schema import ANY_TARGET, ApiConfig, StaticConfig, StaticUser
from pcapd.errors import Forbidden, RequestError, TargetNotFound, Unauthenticated
from pcapd.net.reactor import Reactor
from pcapd.wire import Request

__all__ = ["StaticResolver", "names_for"]


class StaticResolver(WithoutSpaces):
    """Finds users by the hashes of their tokens, and targets by their names.

    Args:
        config: The ``static`` section.
    """

    log = Logger()
    name = "static"
    captures = "named hosts"

    @classmethod
    def of(cls, config: ApiConfig, reactor: Reactor) -> StaticResolver | None:
        """See `Resolver.of`."""
        return None if config.static is None else cls(config.static)

    @staticmethod
    def asked(request: Request) -> bool:
        """Whether a request names neither an app nor a deployment."""
        return request.app is None and request.deployment is None

    def __init__(self, config: StaticConfig) -> None:
        self._config = config

    def start(self) -> None:
        """Log the numbers of users and targets."""
        self.log.info(
            "{users} users may capture {targets} targets by name",
            users=len(self._config.users),
            targets=len(self._config.targets),
        )

    def stop(self) -> None:
        """Do nothing: there are no timers and no connections."""

    def prepare(self) -> Callable[[], None]:
        """Do nothing: there are no files to read again."""
        return lambda: None

    @property
    def healthy(self) -> bool:
        """Always true: this resolver needs no other service."""
        return True

    def resolve(self, request: Request, token: str, client: str) -> Deferred[Resolved]:
        """See `Resolver.resolve`."""
        try:
            name, user = self._authenticate(token)
            with asked_by(name):
                targets = tuple(self._target(user, target) for target in request.targets)
        except RequestError as error:
            return fail(error)
        found = Resolved(name, targets, headers_only=user.headers_only, identity=f"{self.name}:{name}")
        return succeed(found)

    def identify(self, token: str, client: str) -> Deferred[Resolved]:
        """See `Resolver.identify`."""
        try:
            name, _ = self._authenticate(token)
        except RequestError as error:
            return fail(error)
        return succeed(Resolved(name, (), identity=f"{self.name}:{name}"))

    def survey(self, request: Request, token: str, client: str) -> Deferred[Resolved]:
        """See `Resolver.survey`."""
        return self.resolve(request, token, client)

    def names(self, token: str) -> list[str]:
        """The targets that a user may name.

        Raises:
            Unauthenticated: The token is unknown.
        """
        _, user = self._authenticate(token)
        return sorted(name for name in self._config.targets if user.may_capture(name))

    def places(self, token: str) -> set[tuple[str, int]] | None:
        """Host and port of the agents of a user's targets; None for a user who may capture everything.

        Raises:
            Unauthenticated: The token is unknown.
        """
        _, user = self._authenticate(token)
        if user.may_capture(ANY_TARGET):
            return None
        return {(at.host, at.port) for name, at in self._config.targets.items() if user.may_capture(name)}

    def _authenticate(self, token: str) -> tuple[str, StaticUser]:
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
        found = None
        # All hashes are compared, each in constant time, so that the time reveals nothing.
        for name, user in self._config.users.items():
            if hmac.compare_digest(digest, user.token_sha256):
                found = name, user
        if found is None:
            raise Unauthenticated("the token is not known here", "ask the operator for one")
        return found

    def _target(self, user: StaticUser, name: str) -> Target:
        target = self._config.targets.get(name)
        if not user.may_capture(name):
            # The same message whether or not the target exists, so that names cannot be guessed.
            raise Forbidden(f"you may not capture {name!r}", "ask the operator to add it to your targets")
        if target is None:
            known = ", ".join(sorted(self._config.targets)[:20])
            raise TargetNotFound(f"there is no target {name!r}", f"there are: {known}")
        return Target(name, target.host, target.port, target.namespace)


def names_for(token: str, resolvers: Iterable[Resolver]) -> list[str]:
    """The targets of the configuration that a user may name.

    Args:
        resolvers: Those of the api.

    Raises:
        TargetNotFound: The configuration names no targets.
        Unauthenticated: The token is unknown.
    """
    for resolver in resolvers:
        if isinstance(resolver, StaticResolver):
            return resolver.names(token)
    raise TargetNotFound("this api's configuration names no targets", "name an app or a deployment")
