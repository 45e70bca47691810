"""The types of the reactor.

A function that only needs the time has a parameter of Twisted's type `IReactorTime`; one that
only reads descriptors has `IReactorFDSet`, and so on.  So a test can pass an object with just
these methods.  `Reactor` is for callers that pass the reactor to several such functions.
"""

from __future__ import annotations

from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFDSet,
    IReactorPluggableNameResolver,
    IReactorProcess,
    IReactorSocket,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
)

__all__ = ["ProcessReactor", "Reactor", "SocketReactor"]


class SocketReactor(IReactorFDSet, IReactorTime):
    """A reactor with descriptors and timers, as transports need it."""


class Reactor(
    SocketReactor,
    IReactorCore,
    IReactorThreads,
    IReactorTCP,
    IReactorPluggableNameResolver,
):
    """The interfaces that the daemons need; each of Twisted's Unix reactors provides them."""


class ProcessReactor(Reactor, IReactorProcess, IReactorSocket):
    """A reactor that also starts processes and takes over sockets."""
