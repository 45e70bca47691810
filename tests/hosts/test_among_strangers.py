"""During each attack at full speed a capture loses nothing, and the daemons answer and stay small.

``PCAPD_ATTACK_SECONDS=10`` makes each attack last 10 s instead of 2.
"""

from __future__ import annotations

import dataclasses
import json
import os
import ssl
import sys
import threading
import time
import urllib.request
from typing import Any, Iterator

import pytest

from demo import processes
from demo.daemons import environment
from demo.processes import ROOT, usage, wait_until
from tests.kit.hosts.chain import MIB, Chain, Client, assert_accounted
from tests.kit.lab.attacks import ATTACKS, CROWD, Place
from tests.kit.lab.generator import FILTER, Generator

pytestmark = pytest.mark.long

#: Seconds that an attack lasts.
SECONDS = float(os.environ.get("PCAPD_ATTACK_SECONDS", "2"))
#: Packets per second of the victim.
RATE = 1000
#: bytes that a daemon may grow by in one attack, the rings of captures aside, which users may have; in all of them together twice as many,
#: because memory that an allocator keeps hides what the next attack takes.
GROWTH = 32 * MIB
#: Seconds within which ``/health`` answers.
ANSWER = 1.0


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Daemons of their own, which serve a file of 4 MiB under ``/cli/``."""
    pytest.importorskip("pcapy")
    if os.geteuid() != 0:
        pytest.skip("captures and namespaces need root")
    directory = tmp_path_factory.mktemp("strangers")
    (directory / "cli").mkdir()
    (directory / "cli" / "client").write_bytes(os.urandom(4 * MIB))
    chain = Chain(directory, api={"cli": {"directory": str(directory / "cli")}, "log_level": "info"})
    chain.agent.config["capture"] = {**chain.agent.config.get("capture", {}), "max_captures": 100}
    static = chain.api.config["static"]
    static["users"]["bob"]["targets"] += CROWD
    static["targets"] |= dict.fromkeys(CROWD, static["targets"]["web-1"])
    with chain:
        yield chain


class Watch:
    """Measures how long ``/health`` takes, and how much the daemons grow, until it is closed."""

    _first: dict[int, int] = {}  # noqa: RUF012  # bytes, by process: before the first attack

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._pids = (chain.api.pid, chain.agent.pid)
        self._before = {pid: usage(pid).own for pid in self._pids}
        for pid, size in self._before.items():
            self._first.setdefault(pid, size)
        self._over = threading.Event()
        self.answers: list[float] = []
        #: bytes, of the daemon that grew most: in this attack, and since the first one.
        self.growth = self.growth_in_all = 0
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        context = ssl.create_default_context(cafile=str(self._chain.authority.certificate_path))
        while not self._over.wait(0.1):
            began = time.monotonic()
            try:
                with urllib.request.urlopen(
                    f"{self._chain.url}/health", timeout=20, context=context
                ) as answer:
                    answer.read()
                self.answers.append(time.monotonic() - began)
            except OSError:
                self.answers.append(float("inf"))
            for pid in self._pids:
                size = usage(pid).own
                self.growth = max(self.growth, size - self._before[pid])
                self.growth_in_all = max(self.growth_in_all, size - self._first[pid])

    def close(self) -> None:
        self._over.set()
        self._thread.join()


def run(chain: Chain, name: str) -> int:
    """Attack from another process; returns how often it did."""
    credentials = chain.authority.issue_agent("stranger")
    place = Place(
        chain.api.port,
        chain.agent.port,
        str(chain.authority.certificate_path),
        chain.bob,
        "web-1",
        str(credentials.certificate),
        str(credentials.private_key),
    )
    words = [name, str(SECONDS), json.dumps(dataclasses.asdict(place))]
    done = processes.run(
        [sys.executable, "-m", "tests.kit.lab.attacks", *words],
        cwd=ROOT,
        env=environment(),
        timeout=SECONDS + 60,
    )
    times = int(done.stdout)
    assert times > 0, "no attack: no test"
    return times


def victim(chain: Chain) -> tuple[Client, Generator]:
    """Alice's running capture, and the packets that it must have."""
    client = chain.begin("web-0", "--filter", FILTER)
    client.wait_for("web-0:eth0")
    return client, Generator(chain.link, rate=RATE)


@pytest.mark.parametrize("name", ["nobody", *ATTACKS])
def test_a_capture_beside_an_attack(strangers: Chain, name: str) -> None:
    """A capture beside an attack has every packet, ``/health`` answers within a second, and neither daemon grows."""
    chain = strangers
    client, packets = victim(chain)
    watch = Watch(chain)
    with packets:
        if name == "nobody":
            time.sleep(SECONDS)
        else:
            run(chain, name)
        sent = packets.stop().sent
    watch.close()
    wait_until(lambda: client.packets()["web-0:eth0"] >= sent, "all packets are there", timeout=10)
    result = client.stop()
    assert_accounted(result)
    assert (result.status, result.file.numbers("web-0:eth0")) == (0, list(range(sent)))
    assert max(watch.answers) < ANSWER
    assert watch.growth < GROWTH and watch.growth_in_all < 2 * GROWTH


@pytest.mark.parametrize(
    ("name", "daemon", "words"),
    [
        ("no token", "api", "audit: capture_refused"),
        ("bad tokens", "api", "audit: capture_refused"),
        ("strangers at the agent", "agent", "left without START"),
    ],
)
def test_what_a_flood_writes(strangers: Chain, name: str, daemon: str, words: str) -> None:
    """A flood of events causes two log lines a second, which say how often each event happened."""
    log = {"api": strangers.api, "agent": strangers.agent}[daemon]
    before = len(log.records())

    def lines() -> list[dict[str, Any]]:
        return [line for line in log.records()[before:] if words in line["message"]]

    times = run(strangers, name)
    wait_until(lambda: sum(line["count"] for line in lines()) >= times - 2, "all are counted")
    assert len(lines()) <= 2 * (SECONDS + 2)
    if daemon == "api":
        assert {line["client"].partition(":")[0] for line in lines()} == {"127.0.0.1"}
