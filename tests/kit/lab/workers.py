"""The workers of an api: their processes and metrics, and captures that each of them has."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
from pathlib import Path
from typing import Any

from demo.configurations import LOCAL, free_port
from demo.daemons import Daemon
from demo.processes import wait_until
from tests.kit.hosts.scraping import samples

__all__ = ["active", "all_ready", "configured", "of_each", "pids", "value"]


def configured(directory: Path, count: int, **more: Any) -> dict[str, Any]:
    """Changes of an api's configuration for so many workers."""
    metrics = {"host": LOCAL, "port": free_port()}
    return {"workers": count, "state": f"sqlite:///{directory}/state.db", "metrics": metrics, **more}


def pids(api: Daemon) -> dict[str, int]:
    """The process of each worker, by its label in the metrics."""
    found = {}
    for pid in Path(f"/proc/{api.pid}/task/{api.pid}/children").read_text().split():
        variables = Path(f"/proc/{pid}/environ").read_bytes()
        number = re.search(rb"(?:^|\0)PCAPD_WORKER=(\d+)", variables)
        if number is not None:
            found[number[1].decode()] = int(pid)
    return found


def all_ready(api: Daemon) -> None:
    """Wait until all workers listen."""

    def ready() -> bool:
        assert api.process.poll() is None, api.log()
        with contextlib.suppress(OSError):  # the supervisor does not listen yet
            return samples(api).get('pcapd_workers{state="ready"}') == api.config["workers"]
        return False

    wait_until(ready, "all workers listen", timeout=60)


def value(api: Daemon, name: str, labels: str = "") -> dict[str, float]:
    """A metric by worker; the labels that it has besides, as the page shows them."""
    pattern = re.compile(rf'{name}{{{labels + "," if labels else ""}worker="(\d+)"}}')
    return {match[1]: found for text, found in samples(api).items() if (match := pattern.fullmatch(text))}


def active(api: Daemon) -> dict[str, float]:
    """The number of captures of each worker."""
    return value(api, "pcapd_captures_active")


def of_each(chain: Any, *arguments: str) -> dict[str, list[Any]]:
    """Begin captures until each worker has one; the kernel chooses the worker of a connection.

    Args:
        chain: The `Chain`.
        arguments: Of ``pcapctl hosts``; their first one is the target.
    """
    clients: dict[str, list[Any]] = {worker: [] for worker in active(chain.api)}
    for _ in range(20):
        before = active(chain.api)
        client = chain.begin(*arguments)
        client.wait_for(f"{arguments[0]}:eth0")
        after = active(chain.api)
        (worker,) = [worker for worker, count in after.items() if count > before[worker]]
        clients[worker].append(client)
        if all(clients.values()):
            return clients
    for client in itertools.chain(*clients.values()):
        client.signal(signal.SIGKILL)
    raise AssertionError(f"the connections are not divided among the workers: {clients}")
