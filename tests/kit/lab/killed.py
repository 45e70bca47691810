"""A daemon that is killed at a step: ``python -m tests.kit.lab.killed POINT COUNT PYTHON -c CODE ...``.

POINT is ``MODULE:CLASS.METHOD:before`` or ``…:after``; the process sends itself SIGKILL there at the call
number COUNT, as if its machine had failed.  ``after`` waits for the method's Deferred.  ``torn`` stands for a
half written file of the store.  It is the value of `demo.daemons.Daemon.below`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def install(point: str, count: int) -> None:
    """Replace the method."""
    if point == "torn":
        _tear(count)
        return
    module, path, when = point.split(":")
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)
    calls = 0

    def counted() -> bool:
        nonlocal calls
        calls += 1
        return calls == count

    def replaced(*args: Any, **named: Any) -> Any:
        now = counted()
        if now and when == "before":
            die()
        result = original(*args, **named)
        if now and hasattr(result, "addCallback"):
            result.addCallback(die)
        elif now and not inspect.iscoroutine(result):
            die()
        return result

    async def awaited(*args: Any, **named: Any) -> Any:
        now = counted()
        if now and when == "before":
            die()
        result = await original(*args, **named)
        if now:
            die()
        return result

    setattr(owner, name, awaited if inspect.iscoroutinefunction(original) else replaced)


def _tear(count: int) -> None:
    import obstore

    original = obstore.put
    calls = 0

    def put(store: Any, name: str, data: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            path = Path(str(store.prefix), f"{name}#1")
            whole = data if isinstance(data, bytes) else b"".join(data)
            path.write_bytes(whole[: len(whole) // 2])
            die()
        return original(store, name, data, **options)

    obstore.put = put


def main() -> None:
    point, count, _, option, code, *rest = sys.argv[1:]
    assert option == "-c", "with limits, as `Daemon.limits` has them"
    run = runpy.run_module

    def run_module(*args: Any, **named: Any) -> Any:
        install(point, int(count))  # now the limits are replaced
        return run(*args, **named)

    runpy.run_module = run_module  # type: ignore[assignment]
    sys.argv = ["-c", *rest]
    exec(code, {"__name__": "__main__"})


if __name__ == "__main__":
    main()
