"""One capture over hundreds of agents: the real api and pcapctl, and a process that plays the agents."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Iterator

from demo.configurations import LOCAL, free_port
from demo.daemons import Lab, environment
from demo.processes import usage
from tests.benchmarks.clients import Capture

__all__ = ["measure", "players"]

#: packets per second of each agent, and for how long.
RATE, SECONDS = 200, 5.0
#: seconds of packets that an agent sends at once.  Real agents send those of 4 ms (`BLOCK_TIMEOUT_MS`).
TURN = 0.1


def measure(agents: int, *, rate: int = RATE, seconds: float = SECONDS, turn: float = TURN) -> dict[str, Any]:
    """Whether nothing is lost or out of order, and what the api needs.

    Args:
        agents: How many.
        rate: Packets per second of each, of 100 bytes.
        seconds: For so long, from its start.
        turn: Seconds of packets that each sends at once; a multiple of ``1 / rate``.
    """
    port = free_port()
    targets = {f"agent-{number}": {"host": LOCAL, "port": port} for number in range(agents)}
    limits = {"max_targets": agents}
    with tempfile.TemporaryDirectory() as directory:
        lab = Lab(Path(directory), api={"static": {"targets": targets}, "limits": limits})
        with players(lab, port, rate, seconds, turn) as playing, lab:
            return _measure(lab, playing, sorted(targets), int(agents * rate * seconds))


@contextlib.contextmanager
def players(lab: Lab, port: int, rate: int, seconds: float, turn: float) -> Iterator[subprocess.Popen[str]]:
    """Play agents at a port; their certificate is the lab's."""
    credentials = lab.authority.issue_agent("players")
    players = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "tests.benchmarks.players",
                str(port),
                str(rate),
                str(seconds),
                str(turn),
            ),
            *(str(credentials.certificate), str(credentials.private_key), str(credentials.ca)),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield players
    finally:
        players.kill()
        players.wait()


def _measure(lab: Lab, players: subprocess.Popen[str], targets: list[str], packets: int) -> dict[str, Any]:
    began = time.monotonic()
    capture = Capture(lab, "fan-in", *targets, "--output", "/dev/null")
    capture.wait_for(len(targets))
    opened = time.monotonic() - began
    to_open = usage(lab.api.pid).cpu
    capture.wait_for(len(targets), packets=packets)
    used = usage(lab.api.pid)
    end = capture.stop()
    players.send_signal(signal.SIGTERM)
    sent = json.loads(players.communicate()[0])["sent"]
    lost = sent - end["packets"]
    late = sum(source["late"] for source in end["sources"])
    rss = used.peak_rss / 2**20
    return {
        "what": "fanin",
        "agents": len(targets),
        "sources": len(end["sources"]),
        "opened_seconds": opened,
        "sent": sent,
        "lost": lost,
        "late": late,
        "api_peak_rss_mib": rss,
        "api_cpu_seconds": used.cpu,
        "api_cpu_seconds_to_open": to_open,
        "text": (
            f"fan-in: {len(end['sources'])} of {len(targets)} agents, open after {opened:.1f} s, "
            f"{sent} packets in all: lost {lost}, late {late} ({100 * late / sent:.1f} %), "
            f"api {rss:.0f} MiB, {used.cpu:.1f} s CPU, {to_open:.1f} s of it until all were open"
        ),
    }
