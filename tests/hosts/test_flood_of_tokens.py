"""Many clients with tokens that are worth nothing, beside one whose token is good and one who captures.

Cloud Controller is a double that counts; agent, api, clients and packets are real.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import secrets
import ssl
import statistics
import threading
import time
from pathlib import Path
from typing import Iterator

import pytest

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")

from demo.configurations import LOCAL, free_port
from demo.processes import usage, wait_until
from pcapd.limits import AUTHORITY_CALLERS, AUTHORITY_WAITING_EACH
from tests.kit.doubles.agent import AgentDouble
from tests.kit.doubles.cloud_controller import (
    INVALID_TOKEN,
    CfApp,
    CloudController,
    Instance,
    Process,
    unsigned_token,
)
from tests.kit.hosts.chain import MIB, Chain, assert_accounted
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.leavers import Leavers

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="captures and namespaces need root"),
]

#: Seconds of each attack; ten, when it matters.
SECONDS = float(os.environ.get("PCAPD_TEST_ATTACK_SECONDS", "3"))


#: Seconds that Cloud Controller takes for a question of a stranger, when it is slow.
SLOW = 3.0
#: MiB that the api may grow by meanwhile.
GROWTH = 32


class Town(Chain):
    """A chain whose api asks Cloud Controller about one app, which alice develops."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.cc = CloudController(self.authority.issue("cloud-controller", ips=(LOCAL,)))
        port = free_port()
        self.cell = AgentDouble(self.authority.issue_agent("cell"), "127.0.0.2", port)
        self.app = self.cc.add(CfApp(processes=[Process(instances=[Instance(0, host=self.cell.host)])]))
        self.wanted = f"/capture?appid={self.app.guid}"
        self.api.config["agents"]["port"] = port

    def start_daemons(self) -> None:
        for double in (self.cc, self.cell):
            self._resources.enter_context(double)
        self.api.config["cloud_foundry"] = {"api": self.cc.url, "ca": str(self.authority.certificate_path)}
        super().start_daemons()

    def get(self, path: str, token: str = "", source: str = LOCAL) -> float:
        """Seconds until a good answer to a GET begins, over a connection of its own."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate_path))
        began = time.monotonic()
        connection = http.client.HTTPSConnection(
            LOCAL, self.api.port, timeout=60, context=context, source_address=(source, 0)
        )
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"bearer {token}"} if token else {})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
        return time.monotonic() - began


class Watch:
    """Looks at an api again and again, on a thread.

    Attributes:
        slowest: Seconds of the slowest answer of /health.
        growth: Bytes of memory more than in the beginning, at the most.
    """

    def __init__(self, town: Town) -> None:
        self._town = town
        self._over = threading.Event()
        self._before = usage(town.api.pid).rss
        self._thread = threading.Thread(target=self._look)
        self.slowest = self.growth = 0.0

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.slowest = max(self.slowest, self._town.get("/health"))
            self.growth = max(self.growth, usage(self._town.api.pid).rss - self._before)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with Town(tmp_path_factory.mktemp("town")) as town:
        town.get(town.wanted, town.cc.developer(town.app))
        yield town
        assert not any(token in town.api.log() for token in town.cc.users)


def tokens(kind: str) -> list[str]:
    """Some of a kind."""
    if kind == "garbage":
        return ["garbage", "a.b.c", secrets.token_hex(16)]
    ends = time.time() + (-60 if kind == "expired" else 600)
    return [unsigned_token(user_name="mallory", exp=ends) for _ in range(50)]


@pytest.mark.parametrize("kind", ["nobody", "garbage", "expired", "unsigned"])
def test_who_leaves_early(town: Town, kind: str) -> None:
    """A capture loses nothing, another one starts at once, and Cloud Controller hears of real questions only.

    That of ``nobody`` is what it is like without the others.
    """
    alice = town.cc.developer(town.app)
    town.cc.asked.clear()
    town.cc.connections = 0
    ca = town.authority.certificate_path
    leavers = Leavers(town.api.port, ca, town.wanted, tokens(kind), seconds=SECONDS, leave=0.01)
    starts = []
    with Generator(town.link, rate=1000) as generator:
        victim = town.begin("web-0", "--filter", FILTER)
        victim.wait_for("web-0:eth0", packets=100)
        with Watch(town) as watch, leavers if kind != "nobody" else contextlib.nullcontext():
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                starts.append(town.get(town.wanted, alice))
            did = leavers.wait() if kind != "nobody" else {}
        result = victim.stop()
        generator.stop()
    strangers = [
        asked
        for asked in town.cc.asked
        if asked.headers.get("authorization") not in (None, f"bearer {alice}")
    ]
    print(
        f"\n{kind}: {did}, {len(starts)} starts in {max(starts):.2f} s at most, /health in {watch.slowest:.2f} s, "
        f"{watch.growth / MIB:.1f} MiB, {len(strangers)} questions, {town.cc.connections} connections"
    )
    assert_accounted(result)
    assert result.status == 0, result.report
    assert statistics.median(starts) < 1.0 and max(starts) < 5.0  # 30 s, when strangers could delay it
    assert watch.slowest < 1.0
    assert watch.growth < GROWTH * MIB
    assert town.cc.connections <= AUTHORITY_CALLERS // 2 + 1
    if kind != "unsigned":
        assert not strangers


def test_who_waits(town: Town) -> None:
    """Cloud Controller is slow with the questions of one address: those of another one do not wait for them."""
    alice = town.cc.developer(town.app)
    town.cc.asked.clear()
    town.cc.refusal = dataclasses.replace(INVALID_TOKEN, delay=SLOW)
    ca, starts = town.authority.certificate_path, []
    crowd = AUTHORITY_CALLERS // 2 + AUTHORITY_WAITING_EACH
    with Leavers(town.api.port, ca, town.wanted, tokens("unsigned"), seconds=SECONDS, clients=crowd):
        wait_until(lambda: len(town.cc.asked) >= AUTHORITY_CALLERS // 2, "strangers are asked about")
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            starts.append(town.get(town.wanted, alice, "127.0.0.9"))
    town.cc.refusal = INVALID_TOKEN
    print(f"\n{len(starts)} starts in {max(starts):.2f} s at most")
    assert max(starts) < SLOW / 2
