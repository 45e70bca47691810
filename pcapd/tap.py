"""The composition root: from options to a service."""

from __future__ import annotations

import gc
import signal
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pcapd.errors import ConfigError
from pcapd.options import Options

if TYPE_CHECKING:
    from pcapd.net.reactor import Reactor

__all__ = ["Options", "build", "makeService"]


def makeService(options: Any) -> Any:
    """Make the service for ``twistd pcapd`` (`twisted.application.service.IServiceMaker`).

    Raises:
        SystemExit: The configuration cannot be used; twistd would show a traceback.
    """
    # As in `pcapd.main`: a SIGHUP waits until the daemon handles it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from pcapd.preflight import of_file

    try:
        with of_file(options["config"]):
            return build(options)
    except ConfigError as error:
        raise SystemExit("\n".join(f"{error.source}: {problem}" for problem in error.problems)) from None


def build(options: Any) -> Any:
    """Build the daemon of the chosen role.

    Raises:
        ConfigError: The configuration cannot be used.
    """
    # Each role imports only what it needs: the api may run without libpcap.
    # The reactor is chosen by now, so this is where it may be imported.
    from twisted.internet import reactor as installed

    from pcapd.capture.hardening import harden
    from pcapd.net.clock import keep_steady

    reactor = cast("Reactor", installed)
    keep_steady(reactor)
    daemon = _daemon(options, reactor)
    daemon.harden = harden
    reactor.callWhenRunning(_leave_what_stays_uncollected)
    return daemon


def _leave_what_stays_uncollected() -> None:
    """Let the garbage collector look only at what is made from now on.

    Python collects the oldest generation when a quarter as many objects have been added to it.
    With the modules in it, that is some 30 MB of closed connections.
    """
    gc.freeze()
    gc.collect()


def _daemon(options: Any, reactor: Reactor) -> Any:
    if options["role"] == "agent":
        from pcapd.agent.agent import Agent
        from pcapd.config.load import load_agent

        return Agent(load_agent(options["config"]), reactor, partial(load_agent, options["config"]))
    from pcapd.api.service import Api
    from pcapd.config.load import load_api

    return Api(load_api(options["config"]), reactor, partial(load_api, options["config"]))
