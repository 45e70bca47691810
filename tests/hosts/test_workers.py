"""An api of several processes (``workers``), with real captures: drain, reload, and processes that die."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from demo.processes import wait_until
from tests.kit.hosts.chain import Chain, Result, assert_accounted
from tests.kit.hosts.scraping import page, samples
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.readers import require
from tests.kit.lab.workers import active, all_ready, configured, of_each, pids, value

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")
pytest.importorskip("sqlalchemy", reason="pcapd[recordings] is not installed")

LIMITS = {"per_user": 40, "concurrent_captures": 40}
CAPTURE = ("web-0", "--filter", FILTER)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain whose api has two workers and an audit file."""
    if os.geteuid() != 0:
        pytest.skip("captures and namespaces need root")
    directory = tmp_path_factory.mktemp("workers")
    chain = Chain(directory)
    audit = {"file": str(directory / "audit.log")}
    chain.api.config.update(configured(directory, 2, limits=LIMITS, audit=audit, drain_timeout="5s"))
    chain.api.limits = {"METRICS_TIMEOUT": 1.0}
    with chain:
        yield chain


@pytest.fixture
def two(lab: Chain) -> Chain:
    """Both workers listen; a test that ends the api is repaired."""
    if lab.api.process.poll() is not None:
        lab.api.start()
    all_ready(lab.api)
    return lab


def whole(result: Result) -> int:
    """Packets of a file that ended well, although its user did not want the end."""
    assert (result.status, result.file.rest) == (3, 0), result.stderr
    assert_accounted(result)
    return len(result.file.packets)


def intact(result: Result) -> None:
    """A capture that its user ended; a busy machine may have lost packets, which are counted."""
    assert result.report["reason"] == "interrupted" and result.status in (0, 3), result.report
    assert_accounted(result)


def gone(pid: int) -> bool:
    """Whether there is no such process."""
    return not Path(f"/proc/{pid}").exists()


def test_captures_are_divided(two: Chain) -> None:
    """Each worker has captures, all are complete, and the audit file has two lines of each, none mixed."""
    with Generator(two.link, rate=2000):
        clients = of_each(two, *CAPTURE)
        done = [client.stop() for worker in clients.values() for client in worker]
    for result in done:
        intact(result)
        assert result.file.packets
    records = [json.loads(line) for line in (two.directory / "audit.log").read_text().splitlines()]
    begun = {
        record["capture"]: record["worker"] for record in records if record["audit"] == "capture_started"
    }
    ended = {record["capture"]: record["worker"] for record in records if record["audit"] == "capture_ended"}
    assert begun == ended and set(begun.values()) == {"0", "1"} and len(begun) >= len(done)


def test_limits_count_over_all(two: Chain) -> None:
    """With a capture in each worker, a limit of that many refuses more, whichever worker is asked."""
    clients = of_each(two, *CAPTURE)
    running = sum(active(two.api).values())
    reloaded(two, {**LIMITS, "per_user": int(running)}, "pcapd_limit_captures_per_user", int(running))
    before = value(two.api, "pcapd_captures_refused_total", 'code="limit_reached"')
    for _ in range(20):
        refused = two.capture(*CAPTURE, "--duration", "1s")
        assert refused.status == 1 and f"you already run {running:.0f} captures" in str(refused.events)
        after = value(two.api, "pcapd_captures_refused_total", 'code="limit_reached"')
        if all(after.get(worker, 0) > before.get(worker, 0) for worker in ("0", "1")):
            break
    else:
        raise AssertionError("only one worker was asked")
    for client in itertools.chain(*clients.values()):
        assert client.stop().status == 0
    reloaded(two, LIMITS, "pcapd_limit_captures_per_user", LIMITS["per_user"])


def reloaded(two: Chain, limits: dict[str, int], name: str, expected: int) -> None:
    """Change the limits of all workers with SIGHUP to the supervisor."""
    two.api.config["limits"] = limits
    two.api.write_config()
    two.api.signal(signal.SIGHUP)
    wait_until(lambda: value(two.api, name) == {"0": expected, "1": expected}, "both use the new limit")


def test_one_page_of_metrics(two: Chain) -> None:
    """The supervisor's page has the samples of both workers, passes Prometheus's linter, and adds up."""
    require("promtool")
    before = value(two.api, "pcapd_captures_started_total")
    with Generator(two.link, rate=1000):
        for _ in range(3):
            two.capture(*CAPTURE, "--duration", "200ms")
    after = value(two.api, "pcapd_captures_started_total")
    assert set(after) == {"0", "1"} and sum(after.values()) - sum(before.values()) == 3
    resident = value(two.api, "process_resident_memory_bytes")
    assert set(resident) == {"0", "1"}
    assert samples(two.api)['process_resident_memory_bytes{worker="supervisor"}'] > 2**20
    served = page(two.api)
    arguments = ("promtool", "check", "metrics")
    done = subprocess.run(arguments, input=served, text=True, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_worker_that_does_not_answer(two: Chain) -> None:
    """A worker that is stopped is missing on the page; the others are there."""
    stopped = pids(two.api)["1"]
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert set(active(two.api)) == {"0"}
    finally:
        os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: set(active(two.api)) == {"0", "1"}, "it answers again")


def test_a_reload_reaches_all(two: Chain) -> None:
    """SIGHUP to the supervisor reloads both workers; a bad file changes nothing and is reported once."""
    name = "pcapd_limit_capture_targets"
    reloaded(two, {**LIMITS, "max_targets": 7}, name, 7)
    two.api.config_path.write_text("nonsense: true\n")
    two.api.signal(signal.SIGHUP)
    wait_until(lambda: "not reloaded" in two.api.log(), "the bad file is reported")
    assert value(two.api, name) == {"0": 7, "1": 7} and two.api.log().count("not reloaded") == 1
    two.api.write_config()


def test_a_killed_worker(two: Chain) -> None:
    """After SIGKILL of one worker the captures of the other go on, and the killed one is started again."""
    with Generator(two.link, rate=1000):
        clients = of_each(two, *CAPTURE)
        before = pids(two.api)
        os.kill(before["0"], signal.SIGKILL)
        for client in clients["0"]:
            assert client.wait(30).status in (1, 3)
        all_ready(two.api)
        after = pids(two.api)
        assert after["1"] == before["1"] and after["0"] != before["0"] and len(after) == 2
        for client in clients["1"]:
            shown = client.packets()["web-0:eth0"]
            client.wait_for("web-0:eth0", packets=shown + 1000)
            intact(client.stop())
    assert samples(two.api)['pcapd_worker_restarts_total{worker="0"}'] == 1
    assert "worker 0 has ended: signal 9; it is started again in 1.0 s" in two.api.log()


def test_drain(two: Chain) -> None:
    """At SIGTERM, with one live capture in each worker at least, all files end whole, and the status is 0."""
    with Generator(two.link, rate=1000):
        clients = of_each(two, *CAPTURE)
        workers = pids(two.api)
        # systemd sends the signal to every process, beside what the supervisor does.
        for pid in workers.values():
            os.kill(pid, signal.SIGTERM)
        two.api.stop()
        for client in itertools.chain(*clients.values()):
            assert whole(client.wait(30)) > 0
    assert all(gone(pid) for pid in workers.values())
    assert "Traceback" not in two.api.log()


@pytest.mark.long
def test_a_killed_supervisor(two: Chain) -> None:
    """After SIGKILL of the supervisor the workers drain and end: the files end whole, and no process is left."""
    with Generator(two.link, rate=1000):
        clients = of_each(two, *CAPTURE)
        workers = pids(two.api)
        two.api.kill()
        for client in itertools.chain(*clients.values()):
            assert whole(client.wait(30)) > 0
    wait_until(lambda: all(gone(pid) for pid in workers.values()), "no worker is left", timeout=20)


@pytest.mark.long
def test_a_worker_that_does_not_drain(two: Chain) -> None:
    """A worker that is still there some seconds after drain_timeout is killed, and the status is 1."""
    workers = pids(two.api)
    os.kill(workers["1"], signal.SIGSTOP)
    two.api.signal(signal.SIGTERM)
    try:
        assert two.api.wait() == 1
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(workers["1"], signal.SIGKILL)
    assert all(gone(pid) for pid in workers.values())
    assert "worker 1 has not drained: signal 9" in two.api.log()
