"""One capture over hundreds of agents: the real api and pcapctl, and a process that plays the agents."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.lab.configurations import LOCAL, free_port
from tests.lab.daemons import Lab, environment
from tests.lab.processes import usage, wait_until

__all__ = ["measure"]

#: packets per second of each agent, and for how long.
RATE, SECONDS = 200, 5.0


def measure(agents: int) -> dict[str, Any]:
    """Whether nothing is lost, and what the api needs."""
    port = free_port()
    targets = {f"agent-{number}": {"host": LOCAL, "port": port} for number in range(agents)}
    limits = {"max_targets": agents}
    with tempfile.TemporaryDirectory() as directory:
        lab = Lab(Path(directory), api={"static": {"targets": targets}, "limits": limits})
        players = _start_agents(lab, port)
        try:
            with lab:
                return _measure(lab, players, sorted(targets))
        finally:
            players.kill()
            players.wait()


def _start_agents(lab: Lab, port: int) -> subprocess.Popen[str]:
    credentials = lab.authority.issue_agent("players")
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.benchmarks.players", str(port), str(RATE), str(SECONDS)),
            *(str(credentials.certificate), str(credentials.private_key), str(credentials.ca)),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )


def _measure(lab: Lab, players: subprocess.Popen[str], targets: list[str]) -> dict[str, Any]:
    client = lab.start_pcapctl(
        *("hosts", *targets, "--output", "/dev/null", "--json"), stdout=subprocess.PIPE, text=True
    )
    time.sleep(SECONDS + 4)
    used = usage(lab.api.pid)
    wait_until(lambda: client.poll() is None, "pcapctl still captures", timeout=1)
    client.send_signal(signal.SIGINT)
    end = json.loads(client.communicate()[0].splitlines()[-1])
    players.send_signal(signal.SIGTERM)
    sent = json.loads(players.communicate()[0])["sent"]
    lost = sent - end["packets"]
    late = sum(source["late"] for source in end["sources"])
    rss = used.peak_rss / 2**20
    return {
        "what": "fanin",
        "agents": len(targets),
        "sources": len(end["sources"]),
        "sent": sent,
        "lost": lost,
        "late": late,
        "api_peak_rss_mib": rss,
        "api_cpu_seconds": used.cpu,
        "text": (
            f"fan-in: {len(end['sources'])} of {len(targets)} agents at {RATE} packets/s: "
            f"lost {lost} of {sent}, late {late}, api {rss:.0f} MiB, {used.cpu:.1f} s CPU"
        ),
    }
