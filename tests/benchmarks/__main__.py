"""``bin/bench``: the table of docs/performance.rst.

::

    bin/bench                                   everything but workers and the soak, some ten minutes
    bin/bench loss --size 100 --rate 400000     one load, against tcpdump in the same run
    bin/bench client                            pcapctl alone, fed from a socket
    bin/bench latency | fanin | idle            one of the others
    bin/bench workers                           two workers of an api beside one, capped by cgroups; not part of everything
    bin/bench clients                           many captures at once, and a slow client beside a fast one
    bin/bench recording                         what a recording costs, how fast it is fetched, and many at once
    bin/bench matching                          the same packet at two places, and flows, against tcptrace and tshark
    bin/bench explain                           what explain finds in the scenarios, and how fast it is; some minutes
    bin/bench ssh                               pcapctl ssh, beside ssh host tcpdump -w -
    bin/bench filter                            how long libpcap takes to compile one
    bin/bench start                             the one file of pcapctl, until it says its version
    bin/bench soak --minutes 10                 one capture for long; not part of everything
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable

from tests.benchmarks import (
    client,
    clients,
    explaining,
    fanin,
    filters,
    latency,
    loss,
    matching,
    overssh,
    recordings,
    soak,
    start,
    workers,
)

#: What docs/performance.rst promises, packets per second by size.
RATES = {100: (100_000, 200_000, 400_000), 1400: (10_000, 64_000, 150_000, 190_000)}

#: Bytes and packets per second of a slow client beside a fast one: far from what the fast one alone can take.
BESIDE = ((100, 100_000), (1400, 40_000))

#: Bytes, and packets per second, over ssh.
SSH_RATES = ((100, 100_000), (400, 50_000))
#: Packets per second of each of many captures.
MANY_RATE = 1_000
#: Bytes and packets per second of a recording; megabytes of one that is fetched; number of many.
RECORDED = 400, 100_000
FETCHED = 512
RECORDINGS = 20


def run_loss(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One rate and size, ordered or not."""
    return [
        loss.measure(options.size, options.rate, options.seconds, ordered=options.order, runs=options.runs)
    ]


def run_client(options: argparse.Namespace) -> list[dict[str, Any]]:
    """With the compiled module and without."""
    facts = {"ordered": options.order, "python": options.python}
    return [client.measure(options.size, options.seconds, pure=pure, **facts) for pure in (False, True)]


def run_clients(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Many, and unequal ones."""
    # The clients are on this machine too: mostly curl, which leaves more of it to the daemons.
    downloads = options.captures * 4 // 5
    many = clients.concurrent(options.captures, MANY_RATE, options.seconds, downloads=downloads)
    return [many, *run_beside(options)]


def run_beside(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Small packets and large ones."""
    return [clients.beside(size, rate, options.seconds) for size, rate in BESIDE]


def run_recording(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Their cost, their fetch, a week of them, and many beside many captures."""
    return [
        recordings.cost(*RECORDED, options.seconds, runs=options.runs),
        recordings.fetch(FETCHED, runs=options.runs),
        recordings.week(),
        recordings.beside(RECORDINGS, MANY_RATE, options.seconds),
    ]


def run_ssh(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Small packets and larger ones."""
    return [overssh.measure(size, rate, options.seconds) for size, rate in SSH_RATES]


def run_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Everything."""
    rows = [
        loss.measure(size, rate, options.seconds, ordered=True, runs=options.runs)
        for size, rates in RATES.items()
        for rate in rates
    ]
    rows += run_client(options)
    rows += [latency.measure(ordered=False), latency.measure(ordered=True)]
    rows += [fanin.measure(options.agents, turn=options.turn), loss.idle()]
    rows += run_clients(options)
    rows += run_recording(options)
    rows += filters.measure()
    rows += matching.measure()
    rows += run_ssh(options)
    rows += start.measure()
    return rows


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="bin/bench", description="Benchmarks of pcapd.")
    parser.add_argument(
        "what",
        nargs="?",
        default="all",
        choices=[
            "all",
            "loss",
            "client",
            "latency",
            "fanin",
            "idle",
            "clients",
            "recording",
            "filter",
            "matching",
            "explain",
            "ssh",
            "start",
            "soak",
            "workers",
        ],
    )
    parser.add_argument("--size", type=int, default=100, help="bytes of a packet on the wire")
    parser.add_argument("--rate", type=int, default=400_000, help="packets per second that are offered")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument(
        "--runs", type=int, default=loss.RUNS, help="of each load of `loss`: it prints the median"
    )
    parser.add_argument("--agents", type=int, default=500)
    parser.add_argument(
        "--turn",
        type=float,
        default=fanin.TURN,
        help="seconds of packets that an agent of `fanin` sends at once",
    )
    parser.add_argument("--captures", type=int, default=50, help="at once, of `clients`")
    parser.add_argument("--minutes", type=float, default=10.0, help="of `soak`")
    parser.add_argument("--no-order", dest="order", action="store_false")
    parser.add_argument("--python", default=sys.executable, help="runs the client of `client`")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    runs: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "all": lambda: run_all(options),
        "loss": lambda: run_loss(options),
        "client": lambda: run_client(options),
        "latency": lambda: [latency.measure(ordered=options.order)],
        "fanin": lambda: [fanin.measure(options.agents, turn=options.turn)],
        "idle": lambda: [loss.idle()],
        "clients": lambda: run_clients(options),
        "recording": lambda: run_recording(options),
        "filter": filters.measure,
        "matching": matching.measure,
        "explain": explaining.measure,
        "ssh": lambda: run_ssh(options),
        "start": lambda: start.measure(options.python),
        "workers": workers.measure,
        "soak": lambda: [soak.measure(60 * options.minutes)],
    }
    rows = runs[options.what]()
    for row in rows:
        print(row["text"])
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))


main()
