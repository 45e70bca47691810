"""Captures with ``pcapctl ssh`` in tests."""

from __future__ import annotations

import itertools
from pathlib import Path

from demo.processes import wait_until
from tests.kit.hosts.chain import Client, Result
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.sshhosts import Desk

_serial = itertools.count()


def begin(desk: Desk, *arguments: str) -> Client:
    """Start ``pcapctl ssh`` with ``--json`` into a new file."""
    path = desk.directory / f"capture-{next(_serial)}.pcapng"
    output, stderr = path.with_suffix(".events"), path.with_suffix(".stderr")
    with output.open("wb") as out, stderr.open("wb") as err:
        process = desk.start(*arguments, "--json", "--output", str(path), stdout=out, stderr=err)
    return Client(process, path, output, stderr)


def capture(desk: Desk, *arguments: str, packets: int = 20) -> Result:
    """Capture these packets, which web-0 sends to web-1, until a second after the last one."""
    client = begin(desk, *arguments, "--device", "eth9", "--filter", FILTER)
    wait_until(lambda: bool(client.packets()), "the capture runs", timeout=20)
    with Generator(desk.wire, count=packets, rate=1000) as generator:
        generator.wait()
    return client.stop()


def children(pid: int) -> list[int]:
    """The ids of a process's children."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]
