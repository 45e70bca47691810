"""``pcapd``: the daemon in the foreground, as monit and bpm want it.

Exit status 0 after a drain, 1 on any failure, so that monit can distinguish them.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any, cast

from pcapd.errors import ConfigError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT, then drain; ends with `SystemExit`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] in (["certificates"], ["example-config"]):
        from pcapd.starter import run

        raise SystemExit(run(given))
    # Before the imports, which take a while.  Until the daemon handles it, a SIGHUP would end
    # the process; blocked, it waits for the handler.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from twisted.python import usage

    from pcapd.options import ForegroundOptions
    from pcapd.workers.worker import number_of_worker

    worker = number_of_worker()
    options = ForegroundOptions()
    try:
        options.parseOptions(given)
    except usage.UsageError as error:
        print(f"{options}\npcapd: {error}", file=sys.stderr)  # str has the synopsis too
        raise SystemExit(1) from None
    try:
        from pcapd.preflight import of_file

        with of_file(options["config"]):
            raise SystemExit(_check(options) if options["check-config"] else _run(options, worker))
    except ConfigError as error:
        for problem in error.problems:
            print(f"pcapd: {error.source}: {problem}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:  # before the reactor handles SIGINT
        print("pcapd: interrupted before it listened", file=sys.stderr)
        raise SystemExit(1) from None


def _load(options: Any) -> Any:
    from pcapd.config.load import load_agent, load_api

    return (load_agent if options["role"] == "agent" else load_api)(options["config"])


def _check(options: Any) -> int:
    from pcapd.preflight import preflight

    config = _load(options)
    for warning in (*config.warnings, *preflight(config, options["config"])):
        print(f"pcapd: {options['config']}: warning: {warning}", file=sys.stderr)
    print(f"{options['config']}: good configuration of an {options['role']}{_shared(config)}")
    return 0


def _shared(config: Any) -> str:
    """What several workers need besides, for `_check`."""
    from pcapd.config.parse_recordings import STATE

    workers = getattr(config, "workers", 1)  # only an api has it
    if workers == 1:
        return ""
    # Without the URL of a database that is not the default: it may contain a password.
    return (
        f" with {workers} workers, which share {STATE if config.state == STATE else 'the database in state'}"
    )


def _run(options: Any, worker: int | None) -> int:
    from twisted.internet import reactor as installed
    from twisted.internet.error import CannotListenError

    from pcapd.net.logs import start_logging
    from pcapd.net.reactor import Reactor
    from pcapd.records import keep_memory
    from pcapd.tap import build

    reactor = cast(Reactor, installed)
    keep_memory()
    service = build(options, worker)
    audit = getattr(service, "audit", None)  # only an api has it
    who = {"role": service.role, "id": service.config.id}
    if worker is not None:
        who["worker"] = str(worker)
    start_logging(service.config.log_level, audit, **who)
    try:
        service.startService()
    except CannotListenError as error:
        raise ConfigError("listen", [str(error)]) from error
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
    if audit is not None:
        audit.close()
    return int(getattr(service, "status", 0))  # only a supervisor of workers has it
