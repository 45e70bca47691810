"""The captures that run in this process, and whether there is room for one more here and in all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed

from pcapd.api.capture.life import Capture
from pcapd.api.state.optional import state_of
from pcapd.api.state.rules import Held, need_room
from pcapd.config.schema import ApiConfig, ApiLimits
from pcapd.errors import LimitReached
from pcapd.net.reactor import Reactor
from pcapd.wire import EndReason, NoticeType

__all__ = ["Admission"]


class Admission:
    """See the module.

    Args:
        config: The configuration of the api.
        reactor: The reactor.

    Attributes:
        captures: Those that run here.
        database: What api processes share; None without it.
        holding: This process as a holder of leases; None without a database.

    Raises:
        ConfigError: The database cannot be used.
    """

    def __init__(self, config: ApiConfig, reactor: Reactor) -> None:
        self.captures: set[Capture] = set()
        self.database, self.holding = state_of(
            config.state, reactor, config.process, self.here, self._end, workers=config.workers
        )

    def start(self) -> None:
        """Begin to hold what runs here."""
        if self.holding is not None:
            self.database.start()
            self.holding.start()

    def stop(self) -> None:
        """Hold nothing more; all captures have ended."""
        if self.holding is not None:
            self.holding.stop()
            self.database.stop()

    def admit(
        self, id: str, identity: str, limits: ApiLimits, make: Callable[[], Capture], *, unattended: bool
    ) -> Deferred[Capture]:
        """Make a capture if there is room for it.

        Args:
            id: The capture's id.
            identity: Its user.
            make: Makes the capture, and adds it to `captures`.
            unattended: Whether it is a recording, which does not count for its user.

        Fails with a `RequestError`: LimitReached, or StateUnavailable if the database fails.
        """
        wanted = Held(id, identity, unattended)
        try:
            # First here: that needs no database.
            need_room(self.here(), wanted, limits.concurrent_captures, limits.per_user)
        except LimitReached as error:
            return fail(error)
        if self.holding is None or self.holding.alone:
            return maybeDeferred(make)
        admitted: Deferred[Any] = self.holding.admit(wanted, limits.concurrent_captures, limits.per_user)
        admitted.addCallback(lambda _: make())
        return admitted.addBoth(self._settle, id)

    def _settle(self, result: Any, id: str) -> Any:
        self.holding.settled(id)
        return result

    def release(self, capture: Capture) -> None:
        """Stop counting a capture."""
        if capture in self.captures:
            self.captures.discard(capture)
            if self.holding is not None:
                self.holding.ended(capture.facts.capture)

    @property
    def troubled(self) -> bool:
        """Whether new captures are refused because the database that apis share does not work."""
        return self.holding is not None and bool(self.holding.troubled)

    @property
    def holders(self) -> int:
        """How many processes hold captures in the same database, this one included."""
        return 1 if self.holding is None else int(self.holding.holders)

    def all(self) -> Deferred[list[Held]]:
        """The captures of all processes that share the database."""
        here = self.here()
        if self.holding is None or self.holding.alone:
            return succeed(here)
        others: Deferred[list[Held]] = self.holding.others()
        return others.addCallback(lambda elsewhere: here + elsewhere)

    def end(self, id: str, why: str) -> Deferred[None]:
        """End a capture in good order; one of another process soon afterwards."""
        if self._end(id, why) or self.holding is None or self.holding.alone:
            return succeed(None)
        asked: Deferred[None] = self.holding.ask_to_end(id, why)
        return asked

    def here(self) -> list[Held]:
        """The captures of this process."""
        return [
            Held(one.facts.capture, one.identity, one.unattended, _described(one)) for one in self.captures
        ]

    def _end(self, id: str, why: str) -> bool:
        chosen = [one for one in self.captures if one.facts.capture == id]
        for capture in chosen:
            capture.say(NoticeType.CAPTURE_STOPPED, f"the capture is {why}")
            capture.stop(EndReason.STOPPED, why)
        return bool(chosen)


def _described(capture: Capture) -> dict[str, Any]:
    started = capture.facts.started()
    # A recording that goes on after a restart was asked for by nobody.
    optional = ("origin", "purpose", "client")
    always = ("capture", "user", "targets", "interfaces", "filter", "headers_only")
    return {
        **{key: started[key] for key in always},
        **{key: started[key] for key in optional if key in started},
        "since_us": capture.facts.since_us,
    }
