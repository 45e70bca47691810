"""Who may see and stop running captures, and see agents: users their own, operators everybody's.

What operators do is in the audit log before it happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred

from pcapd.api.capture.audit import Trail
from pcapd.api.http.web import ClientInfo
from pcapd.api.known import KnownAgents
from pcapd.api.resolvers.base import Resolved, Resolver, asked_by
from pcapd.api.resolvers.static import StaticResolver
from pcapd.api.state.rules import Held
from pcapd.errors import CaptureFailed, Forbidden, TargetNotFound, Unauthenticated

__all__ = ["Operators", "Running"]

#: The order in which resolvers see a token.  The first two verify it here; Cloud Controller, which is
#: asked with the token, sees only tokens that are not of the director's UAA.
_ORDER = ("static", "bosh", "cloud_foundry")


class Running(Protocol):
    """The running captures."""

    def here(self) -> list[Held]:
        """Those of this process."""

    def all(self) -> Deferred[list[Held]]:
        """Those of all processes that share the database."""

    def end(self, id: str, why: str) -> Deferred[None]:
        """End one of them in good order."""


class Operators:
    """Lists and stops running captures.

    Args:
        resolvers: The configured resolvers.
        captures: The running captures.
        operators: Returns the operators, as ``static/NAME`` or ``RESOLVER/ORIGIN/NAME``.
        trail: Writes audit records.
    """

    def __init__(
        self,
        resolvers: Iterable[Resolver],
        captures: Running,
        operators: Callable[[], Iterable[str]],
        trail: Trail,
    ) -> None:
        self._resolvers = sorted(resolvers, key=lambda one: _ORDER.index(one.name))
        self._captures = captures
        self._operators = operators
        self._trail = trail

    def list(self, client: ClientInfo) -> Deferred[dict[str, Any]]:
        """List the captures that the user of the token may see.

        Fails with a `RequestError`: Unauthenticated, or AuditUnavailable for an operator whose look
        cannot be recorded.
        """

        return Deferred.fromCoroutine(self._list(client))

    async def _list(self, client: ClientInfo) -> dict[str, Any]:
        user, operator = await self.identify(client)
        with asked_by(user.user):
            visible = _visible(await self._captures.all(), user, operator)
            if any(one.identity != user.identity for one in visible):
                self._record("captures_listed", user, client, captures=[one.id for one in visible])
        captures = [{**one.about, "mine": one.identity == user.identity} for one in visible]
        return {"operator": operator, "captures": captures}

    def stop(self, client: ClientInfo, capture: str) -> Deferred[dict[str, Any]]:
        """End a capture in good order.

        Fails with a `RequestError`: Unauthenticated, TargetNotFound (also for a capture that the user may
        not see), or AuditUnavailable.
        """
        return Deferred.fromCoroutine(self._stop(client, capture))

    async def _stop(self, client: ClientInfo, capture: str) -> dict[str, Any]:
        user, operator = await self.identify(client)
        with asked_by(user.user):
            # First here: that needs no database.
            here = [one for one in self._captures.here() if one.id == capture]
            chosen = _visible(here or await self._captures.all(), user, operator, capture)
            if not chosen:
                raise TargetNotFound(
                    f"no capture {capture!r} runs here, or it is not yours", "pcapctl captures lists them"
                )
            (one,) = chosen
            owner = one.about.get("user", "")
            self._record("capture_stop_requested", user, client, capture=capture, owner=owner)
            who = "you" if one.identity == user.identity else f"an operator of the api ({user.user})"
            await self._captures.end(one.id, f"ended by {who}")
        return {"stopped": capture}

    def agents(self, client: ClientInfo, known: KnownAgents) -> Deferred[dict[str, Any]]:
        """List the known agents: all to operators, those of the own targets to static users.

        Fails with a `RequestError`: Unauthenticated, Forbidden, or AuditUnavailable for an operator whose
        look cannot be recorded.
        """

        def answer(found: tuple[Resolved, bool]) -> dict[str, Any]:
            user, operator = found
            with asked_by(user.user):
                if operator:
                    self._record("agents_listed", user, client)
                    allowed = None
                else:
                    allowed = self._places(user, client)
            return {"agents": [one.record() for one in known.agents if allowed is None or one.at in allowed]}

        return self.identify(client).addCallback(answer)

    def _places(self, user: Resolved, client: ClientInfo) -> set[tuple[str, int]] | None:
        for resolver in self._resolvers:
            if isinstance(resolver, StaticResolver) and user.identity.startswith(f"{resolver.name}:"):
                return resolver.places(client.token or "")
        raise Forbidden("only operators may list agents", "the operator can add you to operators")

    def _record(self, event: str, user: Resolved, client: ClientInfo, **facts: Any) -> None:
        origin = {"origin": user.origin} if user.origin else {}
        self._trail.record(
            event, user=user.user, **origin, request_id=client.request_id, **client.facts, **facts
        )

    def identify(self, client: ClientInfo) -> Deferred[tuple[Resolved, bool]]:
        """The user of the client's token, and whether they are an operator.

        Fails with a `RequestError`, such as Unauthenticated.
        """
        return Deferred.fromCoroutine(self._ask(client))

    async def _ask(self, client: ClientInfo) -> tuple[Resolved, bool]:
        refusal = Unauthenticated("no token was given", "send one: Authorization: bearer TOKEN")
        for resolver in self._resolvers if client.token else ():
            try:
                user = await resolver.identify(client.token or "", client.address)
            except Unauthenticated as error:
                refusal = error
                continue
            except CancelledError:
                raise CaptureFailed("the client left") from None
            origin = () if resolver.name == "static" else (user.origin,)
            name = "/".join((resolver.name, *origin, user.user))
            return user, name in self._operators()
        raise refusal


def _visible(
    captures: Sequence[Held], user: Resolved, operator: bool, capture: str | None = None
) -> list[Held]:
    """Those that a user may see; only the one with this id, if it is given."""
    return [
        one for one in captures if (operator or one.identity == user.identity) and capture in (None, one.id)
    ]
