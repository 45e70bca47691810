"""Three apis with one PostgreSQL: limits and lists over all, whatever becomes of an api or of the database."""

from __future__ import annotations

import itertools
import signal
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator

import pytest

from demo.configurations import LOCAL
from demo.processes import wait_until
from pcapd.limits import STATE_TIMEOUT
from tests.kit.hosts.chain import Client
from tests.kit.hosts.several import LEASE, LEASE_INTERVAL, PER_USER, Apis
from tests.kit.lab.generator import Generator
from tests.kit.lab.postgres import Postgres

pytestmark = pytest.mark.long
pytest.importorskip("pg8000", reason="pg8000 is not installed")

RATE = 200
#: seconds without the database, several leases long.
CUT = 30.0
#: seconds that a busy machine may add.
SLACK = 5.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apis]:
    """The database, the daemons, and packets all the time."""
    with Postgres() as database, Apis(tmp_path_factory.mktemp("several") / "lab", database) as lab:
        with Generator(lab.link, rate=RATE):
            yield lab
        for api in lab.apis:
            assert lab.database.password not in api.log() and lab.token not in api.log()
            assert api.records()  # each line is JSON: no traceback of a library is between them


@pytest.fixture(autouse=True)
def clean(lab: Apis) -> Iterator[None]:
    """Nothing is left of a test: no capture runs or counts."""
    yield
    for client in lab.clients:
        if client.process.poll() is None:
            client.signal()
            client.wait()
    for api in lab.apis:
        if api.process.poll() is not None:
            api.start()
    wait_until(lambda: lab.counted() == 0, "none is counted", timeout=20)


def whole(client: Client) -> None:
    """End a capture; every packet is there, from its beginning to its end."""
    numbers = client.stop().file.numbers("web-0:eth0")
    assert len(numbers) > RATE
    assert all(after == before + 1 for before, after in itertools.pairwise(numbers))


def test_limits_and_lists_over_all(lab: Apis) -> None:
    """A user's captures count wherever nginx sends them; each api lists all, and ends one of another."""
    clients = lab.run(lab.behind, PER_USER)
    holders = "SELECT count(DISTINCT holder), count(*) FROM captures"
    assert lab.database.sql(holders) == f"{PER_USER}|{PER_USER}", "nginx asked each api"
    for number in range(3):
        assert lab.refusal(lab.at(number))[0]["code"] == "limit_reached"
    for number in (0, 1):
        shown = lab.listed(lab.at(number))
        assert len(shown) == PER_USER and {one["user"] for one in shown} == {"alice"}
    chosen = lab.database.sql(
        "SELECT c.id FROM captures c JOIN holders h ON c.holder = h.id WHERE h.name = 'api-2'"
    )
    lab.end(lab.at(0), chosen)
    began = time.monotonic()
    wait_until(lambda: any(one.process.poll() is not None for one in clients), "it ended", timeout=15)
    assert time.monotonic() - began < LEASE_INTERVAL + SLACK
    (stopped,) = [one for one in clients if one.process.poll() is not None]
    told = [notice["message"] for notice in stopped.wait().notices if "an operator" in notice["message"]]
    assert told == ["the capture is ended by an operator of the api (bob)"]
    lab.await_room(lab.behind, SLACK)


def test_a_killed_api(lab: Apis) -> None:
    """What it held counts until its lease ends, and no longer."""
    clients = lab.run(lab.at(1), PER_USER)
    lab.apis[1].kill()
    assert lab.refusal(lab.behind)[0]["code"] == "limit_reached"
    assert lab.await_room(lab.at(0), LEASE + SLACK) > 2
    for client in clients:
        client.wait()
    lab.apis[1].start()
    assert not lab.refusal(lab.at(1))[0]


def test_an_api_that_wakes_up_late(lab: Apis) -> None:
    """Stopped for longer than its lease, it does not count; awake, it counts again, and its captures go on."""
    clients = lab.run(lab.at(1), PER_USER)
    lab.apis[1].signal(signal.SIGSTOP)
    try:
        lab.await_room(lab.at(0), LEASE + SLACK)
        lab.run(lab.at(0))
    finally:
        lab.apis[1].signal(signal.SIGCONT)
    wait_until(lambda: bool(lab.refusal(lab.at(0))[0]), "they count again", timeout=LEASE_INTERVAL + SLACK)
    assert len(lab.listed(lab.at(2))) == PER_USER + 1
    seen = [client.packets()["web-0:eth0"] for client in clients]
    for client, packets in zip(clients, seen):
        client.wait_for("web-0:eth0", packets=packets + RATE)


def test_the_database_is_restarted(lab: Apis) -> None:
    """Captures lose nothing, and the next ones are admitted by each api."""
    (client,) = lab.run(lab.at(0))
    lab.database.restart()
    assert [lab.refusal(lab.at(number))[0] for number in range(3)] == [{}, {}, {}]
    lab.database.kill()
    assert lab.refusal(lab.at(0))[0]["code"] == "state_unavailable"
    lab.database.start()
    assert [lab.refusal(lab.at(number))[0] for number in range(3)] == [{}, {}, {}]
    whole(client)


def test_the_database_is_cut_off(lab: Apis) -> None:
    """Live captures lose nothing, new ones are refused in time with the reason, and all is well soon after."""
    first, second = lab.run(lab.at(0), 2)
    mine = {one["capture"] for one in lab.listed(lab.at(0))}
    with lab.database.cut_off():
        began = time.monotonic()
        with ThreadPoolExecutor(30) as many:
            answers = list(many.map(lab.refusal, [lab.at(number % 3) for number in range(30)]))
        assert {error["code"] for error, _ in answers} == {"state_unavailable"}
        assert max(taken for _, taken in answers) < STATE_TIMEOUT + SLACK
        error, taken = lab.refusal(lab.at(0))
        assert "the database failed" in error["title"] and taken < 2
        health = lab.curl_health(lab.at(0))
        assert health["healthy"] and health["message"].startswith("ready, but new captures are refused")
        page = urllib.request.urlopen(f"http://{LOCAL}:{lab.api.config['metrics']['port']}/metrics").read()
        assert b"\npcapd_state_healthy 0.0\n" in page and b"\npcapd_state_holders 3.0\n" in page
        lab.end(lab.at(0), mine.pop())
        wait_until(lambda: first.process.poll() is not None or second.process.poll() is not None, "it ended")
        time.sleep(max(0.0, CUT - (time.monotonic() - began)))
        assert lab.refusal(lab.at(1))[0]["code"] == "state_unavailable"
    assert lab.await_room(lab.at(0), 2 * STATE_TIMEOUT + SLACK) < 2 * STATE_TIMEOUT + SLACK
    wait_until(lambda: lab.counted() == 1, "one is counted", timeout=20)
    assert lab.curl_health(lab.at(0))["message"] == "ready"
    (goes_on,) = [one for one in (first, second) if one.process.poll() is None]
    whole(goes_on)
