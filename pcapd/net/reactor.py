"""The types of the reactor.

A function that only needs the time takes Twisted's `IReactorTime`, one that only reads
descriptors `IReactorFDSet`, and so on, which shows a test what it has to pass in.  `Reactor`
is for callers that pass the reactor on to several of them.
"""

from __future__ import annotations

from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFDSet,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
)

__all__ = ["Reactor", "SocketReactor"]


class SocketReactor(IReactorFDSet, IReactorTime):
    """A reactor with descriptors and timers: what a transport needs."""


class Reactor(
    SocketReactor,
    IReactorCore,
    IReactorThreads,
    IReactorTCP,
    IReactorPluggableNameResolver,
):
    """What the daemons need; each of Twisted's Unix reactors provides it."""
