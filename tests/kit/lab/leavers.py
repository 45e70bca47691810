"""Clients that ask an api for captures with tokens of their own making, and may leave before the answer.

A program of its own, because it must not slow down what is measured beside it::

    with Leavers(port, ca, tokens, seconds=3.0, leave=0.01) as leavers:
        ...
        report = leavers.wait()
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import ssl
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Optional, Sequence

from demo.configurations import LOCAL
from demo.processes import ROOT, end


class Leavers:
    """Such clients, all from 127.0.0.1.  They start on entering and end by themselves.

    Args:
        path: What they ask for.
        tokens: Taken one after another, and again from the first.
        seconds: They go on for.
        clients: At once.
        leave: Seconds after which each of them leaves; None waits for the answer.
    """

    def __init__(
        self,
        port: int,
        ca: Path,
        path: str,
        tokens: Sequence[str],
        *,
        seconds: float,
        clients: int = 16,
        leave: Optional[float] = None,
    ) -> None:
        orders = {"port": port, "ca": str(ca), "path": path, "tokens": tokens}
        self._orders = json.dumps({**orders, "seconds": seconds, "clients": clients, "leave": leave})
        self._longest = seconds + 60
        self._process: Optional[subprocess.Popen[Any]] = None

    def wait(self) -> dict[str, int]:
        """Wait for their end: how many were answered with which status, or ``left``."""
        assert self._process is not None, "not started"
        output, _ = self._process.communicate(timeout=self._longest)
        assert self._process.returncode == 0
        found: dict[str, int] = json.loads(output)
        return found

    def __enter__(self) -> Leavers:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.lab.leavers"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(self._orders)
        self._process.stdin.close()
        self._process.stdin = None
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if self._process is not None:
            end(self._process)


async def _ask(orders: dict[str, Any], context: ssl.SSLContext, token: str) -> str:
    reader, writer = await asyncio.open_connection(LOCAL, orders["port"], ssl=context)
    head = f"GET {orders['path']} HTTP/1.1\r\nHost: api\r\nAuthorization: bearer {token}\r\n\r\n"
    writer.write(head.encode())
    try:
        line = await asyncio.wait_for(reader.readline(), orders["leave"])
    except asyncio.TimeoutError:
        return "left"
    finally:
        writer.transport.abort()
    return line.split()[1].decode() if line else "closed"


async def _all(orders: dict[str, Any]) -> collections.Counter[str]:
    context = ssl.create_default_context(cafile=orders["ca"])
    tokens, found = orders["tokens"], collections.Counter[str]()
    until = time.monotonic() + orders["seconds"]
    asked = 0

    async def client() -> None:
        nonlocal asked
        while time.monotonic() < until:
            asked += 1
            with contextlib.suppress(OSError):
                found[await _ask(orders, context, tokens[asked % len(tokens)])] += 1

    await asyncio.gather(*(client() for _ in range(orders["clients"])))
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_all(json.load(sys.stdin)))))
