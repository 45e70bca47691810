"""The composition root: from options to a service."""

from __future__ import annotations

import gc
import os
import signal
import sys
from dataclasses import replace
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
            daemon = build(options)
            if getattr(daemon.config, "workers", 1) > 1:
                raise ConfigError("workers", ["needs the command pcapd instead of twistd"])
            return daemon
    except ConfigError as error:
        raise SystemExit("\n".join(f"{error.source}: {problem}" for problem in error.problems)) from None


def build(options: Any, worker: int | None = None) -> Any:
    """Build the daemon of the chosen role; for an api with several workers, their supervisor.

    Args:
        worker: The number of this process if it is such a worker.

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
    daemon = _agent(options, reactor) if options["role"] == "agent" else _api(options, reactor, worker)
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


def _agent(options: Any, reactor: Reactor) -> Any:
    from pcapd.agent.agent import Agent
    from pcapd.config.load import load_agent

    return Agent(load_agent(options["config"]), reactor, partial(load_agent, options["config"]))


def _api(options: Any, reactor: Any, number: int | None) -> Any:
    from pcapd.config.load import load_api

    reread = partial(load_api, options["config"])
    config = reread()
    if config.state is not None:
        # Libraries make the files of databases and stores, which are only for the owner.
        os.umask(0o077)
    if number is None and config.workers > 1:
        from pcapd.workers.supervisor import Supervisor

        # The same command again; sys.orig_argv[0] may be relative to a directory in PATH.
        return Supervisor(config, reactor, reread, [sys.executable, *sys.orig_argv[1:]])
    from pcapd.api.service import Api

    if number is None:
        return Api(config, reactor, reread)
    from pcapd.workers.worker import Worker

    # The supervisor has logged the warnings.
    api = Api(replace(config, worker=number, warnings=()), reactor, reread)
    api.serve_registry = Worker(reactor).serve
    return api
