"""What the api does about an app while it is captured: it follows its instances, and checks the user's role.

With a client of the api's own (`pcapd.api.resolvers.base.Overseer`) both go on as long as the capture does.
Without one, an app is followed with the user's token, until that expires, and the role is not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from pcapd.api.capture.following import Following
from pcapd.api.capture.life import Capture
from pcapd.api.capture.rechecking import Rechecking
from pcapd.api.policy import still_permitted
from pcapd.api.resolvers.base import Resolved, Resolver, Standing
from pcapd.net.reactor import Reactor

__all__ = ["oversee"]


class _Ended(Protocol):
    def stop(self) -> None: ...


def oversee(
    reactor: Reactor,
    capture: Capture,
    resolver: Resolver,
    survey: Callable[[], Deferred[Resolved]] | None,
) -> Capture:
    """Begin with a capture that is about to start.

    Args:
        reactor: The reactor.
        capture: The capture.
        resolver: Has found its targets.
        survey: Looks up the targets with the user's token; None if the api no longer has this token.

    Returns:
        The capture.
    """
    request, standing, overseer = capture.request, capture.facts.resolved.standing, resolver.overseer
    if overseer is not None and standing is not None:
        known: Standing = standing
        own = overseer
        _until_end(capture, Rechecking(reactor, lambda: own.check(request, known), capture))
        survey = lambda: own.survey(request, known)  # noqa: E731
    if request.follow and survey is not None:
        look = survey

        def again() -> Deferred[Resolved]:
            return look().addCallback(lambda resolved: still_permitted(request, resolved))

        capture.watcher = following = Following(reactor, again, capture, patient=capture.unattended)
        _until_end(capture, following)
    return capture


def _until_end(capture: Capture, part: _Ended) -> None:
    capture.finished.addCallback(lambda _: part.stop())
