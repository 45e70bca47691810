"""Whatever fails, on real machines: who is told what, within what time, and what remains is exact.

The tables below are the tests; docs/reliability.rst says the same to users.
"""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

import pytest

from demo.processes import run, wait_until
from pcapd.limits import AGENT_SILENCE_TIMEOUT
from tests.kit.hosts.chain import Client
from tests.kit.hosts.faults import (
    CELLS,
    SHORT,
    SHORT_CLIENT,
    SOURCES,
    Plant,
    Stopwatch,
    assert_complete,
    assert_gapless,
    assert_readable,
    assert_success,
)
from tests.kit.lab.readers import require

#: Seconds that something takes which needs no time: processes on a busy machine.
SOON = 4.0
#: Seconds between two signs of life (counters, pings): silence began so much before it was made.
BEAT = 2.0


@pytest.fixture(scope="module")
def plant_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """The machines, for all tests."""
    require("tshark", "capinfos", "tcpdump")
    with Plant(tmp_path_factory.mktemp("faults")) as plant:
        yield plant


@pytest.fixture
def plant(plant_of_module: Plant) -> Iterator[Plant]:
    """The machines, with nothing broken and nothing captured."""
    wait_until(plant_of_module.idle, "earlier captures are gone", timeout=20)
    yield plant_of_module
    plant_of_module.repair()


def assert_good_as_new(plant: Plant) -> None:
    """Without anything being restarted by hand, a capture of both cells is complete."""
    with plant.traffic():
        result = plant.capture(*CELLS, "--duration", "300ms")
    assert_success(result)
    for source in SOURCES:
        assert_complete(result, source)


# --- an agent, its machine, what it captures ------------------------------------


@dataclass(frozen=True)
class AgentFault:
    """One of two targets fails.

    Attributes:
        breaks: Does it.
        notice: Its type, and words of it.
        within: Seconds, from and to, until the user is told.
        target: The one that fails, beside cell-0.
        devices: What is captured at both.
        exact: The counters of the one that fails are final.
        status: Of pcapctl: an interface that is waited for is no failure.
    """

    breaks: Callable[[Plant], object]
    notice: tuple[str, ...]
    within: tuple[float, float] = (0.0, SOON)
    target: str = "cell-1"
    devices: tuple[str, ...] = ("wire0",)
    exact: bool = False
    status: int = 3


SILENCE = (AGENT_SILENCE_TIMEOUT - BEAT, AGENT_SILENCE_TIMEOUT + SOON)
SPARE = ("wire0", "spare0")
AGENT_FAULTS = {
    "killed": AgentFault(
        lambda plant: plant.agents["cell-1"].kill(), ("CONNECTION_ERROR", "agent 10.97.0.3:9494", "closed")
    ),
    "stopped": AgentFault(
        lambda plant: plant.agents["cell-1"].signal(signal.SIGSTOP),
        ("CONNECTION_ERROR", "agent 10.97.0.3:9494", f"nothing was heard for {AGENT_SILENCE_TIMEOUT:g} s"),
        SILENCE,
    ),
    "cut off": AgentFault(
        lambda plant: plant.unplug("cell-1"),
        ("CONNECTION_ERROR", "agent 10.97.0.3:9494", f"nothing was heard for {AGENT_SILENCE_TIMEOUT:g} s"),
        SILENCE,
    ),
    "drained": AgentFault(
        lambda plant: plant.agents["cell-1"].stop(),
        ("INSTANCE_UNAVAILABLE", "its agent is shutting down"),
        exact=True,
    ),
    "interface removed": AgentFault(
        lambda plant: plant.machines["cell-1"].ip("link", "delete", "spare0"),
        ("INSTANCE_UNAVAILABLE", "spare0 is gone"),
        devices=SPARE,
        exact=True,
    ),
    "interface down": AgentFault(
        lambda plant: plant.machines["cell-1"].ip("link", "set", "spare0", "down"),
        ("CAPTURE_STOPPED", "spare0", "down"),
        devices=SPARE,
        exact=True,
        status=0,
    ),
    "namespace removed": AgentFault(
        lambda plant: plant.inner.delete(),
        ("INSTANCE_UNAVAILABLE", "network namespace is gone"),
        target="inner",
        exact=True,
    ),
}


@pytest.fixture
def extras(plant: Plant) -> Iterator[None]:
    """What may be lost: an interface spare0 in each cell, and a namespace with a wire0 in it."""
    for cell in CELLS:
        plant.machines[cell].ip("link", "add", "spare0", "type", "veth", "peer", "name", "spare1")
        plant.machines[cell].ip("link", "set", "spare1", "up")
        plant.machines[cell].ip("link", "set", "spare0", "up")
    plant.make_inner()
    plant.inner.ip("link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
    plant.inner.ip("link", "set", "wire1", "up")
    plant.inner.ip("link", "set", "wire0", "up")
    yield
    plant.inner.delete()
    for cell in CELLS:
        with contextlib.suppress(AssertionError):  # one of them is gone
            plant.machines[cell].ip("link", "delete", "spare1")


@pytest.mark.parametrize("name", AGENT_FAULTS)
@pytest.mark.usefixtures("extras")
@pytest.mark.long(but=("killed",))
def test_a_target_fails(plant: Plant, name: str) -> None:
    """A failing target is reported in time with the reason, the other goes on without a gap, the file is good."""
    fault = AGENT_FAULTS[name]
    devices = [word for device in fault.devices for word in ("--device", device)]
    sources = [f"{cell}:{device}" for cell in ("cell-0", fault.target) for device in fault.devices]
    with plant.traffic():
        client = plant.begin("cell-0", fault.target, *devices)
        client.wait_for(*sources)
        client.wait_for("cell-0:wire0", packets=300)
        watch = Stopwatch()
        fault.breaks(plant)
        wait_until(lambda: bool(client.notices()), "the user is told", timeout=30)
        told_after = watch.seconds
        client.wait_for("cell-0:wire0", packets=client.packets()["cell-0:wire0"] + 500)
        watch = Stopwatch()
        result = client.stop()
        stopped_after = watch.seconds
    assert fault.within[0] <= told_after <= fault.within[1]
    assert stopped_after < SOON
    assert result.status == fault.status, result.stderr
    (notice,) = result.notices
    assert (notice["type"], notice["origin"]) == (fault.notice[0], fault.target)
    for word in fault.notice[1:]:
        assert word in notice["message"]
    assert_complete(result, "cell-0:wire0")
    assert_readable(result.path)
    lost = result.sources[sources[-1]]
    assert lost["received_here"] == lost["written"] == len(result.file.of(sources[-1]))
    assert lost["lost_in_transit"] == (0 if fault.exact else None)
    if "cell-1:wire0" in sources:
        assert_gapless(result.file, "cell-1:wire0")
        assert result.sources["cell-1:wire0"]["written"] >= 200

    plant.repair()
    wait_until(plant.idle, "the agents have let go", timeout=AGENT_SILENCE_TIMEOUT + SOON)
    assert_good_as_new(plant)


@pytest.mark.long
def test_a_short_outage_of_the_network(plant: Plant) -> None:
    """Three seconds without a network cost nothing: nobody is told, and every packet is there."""
    with plant.traffic():
        client = plant.begin(*CELLS)
        client.wait_for(*SOURCES, packets=300)
        with plant.unplugged("cell-1"):
            watch = Stopwatch()
            before = client.packets()["cell-0:wire0"]
            client.wait_for("cell-0:wire0", packets=before + 2000)
            wait_until(lambda: watch.seconds >= 3, "three seconds")
            missing = client.packets()["cell-0:wire0"] - client.packets()["cell-1:wire0"]
            assert missing >= 1500, "cell-1 was not cut off"
        # TCP sends again after a while that it doubles each time.
        client.wait_for("cell-1:wire0", packets=client.packets()["cell-0:wire0"], timeout=20)
        result = client.stop()
    assert_success(result)
    assert not result.notices
    for source in SOURCES:
        assert_complete(result, source)


# --- the api ----------------------------------------------------------------------


@dataclass(frozen=True)
class ApiFault:
    """The api fails, under a capture of both cells.

    Attributes:
        breaks: Does it.
        words: What pcapctl says.
        status: Its exit status.
        within: Seconds, from and to, until it ends.
        agents: Seconds until both agents have let go.
    """

    breaks: Callable[[Plant], object]
    words: str
    status: int = 1
    within: tuple[float, float] = (0.0, SOON)
    agents: float = SOON


def restart(plant: Plant) -> None:
    """What monit does with an api that died."""
    plant.api.kill()
    plant.api.start()


SHORT_SILENCE = SHORT_CLIENT["API_SILENCE_TIMEOUT"]
LOST = "the connection to the api was lost before the capture had ended"
API_FAULTS = {
    "killed": ApiFault(lambda plant: plant.api.kill(), LOST),
    # Its start is within these seconds.
    "restarted": ApiFault(restart, LOST, within=(0.0, 15.0)),
    "drained": ApiFault(lambda plant: plant.api.stop(), "", status=3),
    "cut off": ApiFault(
        lambda plant: plant.unplug("api"),
        f"the api sent nothing for {SHORT_SILENCE:g} s",
        within=(SHORT_SILENCE - 1, SHORT_SILENCE + SOON),
        agents=AGENT_SILENCE_TIMEOUT + SOON,
    ),
}


@pytest.mark.parametrize("name", API_FAULTS)
@pytest.mark.long(but=("killed",))
def test_the_api_fails(plant: Plant, name: str) -> None:
    """pcapctl ends in time and says why, its file is good up to there, and the agents let go."""
    fault = API_FAULTS[name]
    with plant.traffic():
        client = plant.begin(*CELLS, limits=SHORT_CLIENT)
        client.wait_for(*SOURCES, packets=300)
        watch = Stopwatch()
        fault.breaks(plant)
        result = client.wait()
        ended_after = watch.seconds
        wait_until(plant.idle, "the agents have let go", timeout=max(SOON, fault.agents - ended_after))
    assert fault.within[0] <= ended_after <= fault.within[1]
    assert result.status == fault.status, result.stderr
    if fault.words:
        assert fault.words in result.report["error"]
    else:
        assert result.report["error"] is None
        assert "shutting down" in result.report["reason"]
    for source in SOURCES:
        assert len(result.file.of(source)) >= 300
        assert_gapless(result.file, source)
        if fault.status == 3:
            assert_complete(result, source)
    assert_readable(result.path)

    plant.repair()
    assert_good_as_new(plant)


# --- the client -------------------------------------------------------------------


@dataclass(frozen=True)
class ClientFault:
    """A client fails, beside another one of the same api.

    Attributes:
        breaks: Does it.
        mends: Undoes it.
        within: Seconds, from and to, until the api and the agents have let go.
        status: Its exit status.
        words: What it says; nothing when it cannot.
        reason: How its capture ended, in the audit record.
        api: Why, in the audit record.
        torn: Its file may end within a block.
    """

    breaks: Callable[[Plant, Client], object]
    mends: Callable[[Plant, Client], object]
    within: tuple[float, float]
    status: int
    words: str = ""
    reason: str = "abandoned"
    api: str = "the client is gone"
    torn: bool = False


def nothing(plant: Plant, client: Client) -> None:
    """It needs no doing."""


#: What `SHORT` leaves of two minutes.
PATIENCE = SHORT["CLIENT_SILENCE_TIMEOUT"]
CLIENT_FAULTS = {
    "killed": ClientFault(
        lambda plant, client: client.signal(signal.SIGKILL), nothing, (0.0, SOON), -9, torn=True
    ),
    "stopped": ClientFault(
        lambda plant, client: client.signal(signal.SIGSTOP),
        lambda plant, client: client.signal(signal.SIGCONT),
        (PATIENCE - BEAT, PATIENCE + BEAT + SOON),
        1,
        LOST,
    ),
    "cut off": ClientFault(
        lambda plant, client: plant.unplug("desk"),
        nothing,
        (PATIENCE - BEAT, PATIENCE + BEAT + SOON),
        1,
        f"the api sent nothing for {SHORT_SILENCE:g} s",
    ),
    # The disk takes two seconds of packets.  The client stops its capture, so that nothing is unknown.
    "disk full": ClientFault(nothing, nothing, (0.0, 2.0 + SOON), 1, "No space left", "stopped", ""),
}


@pytest.fixture
def small_disk(plant: Plant) -> Iterator[Path]:
    """A directory of 400 KiB."""
    directory = plant.directory / "small"
    directory.mkdir(exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(directory)])
    yield directory
    run(["umount", str(directory)])


@pytest.mark.parametrize("name", CLIENT_FAULTS)
@pytest.mark.long(but=("killed",))
def test_a_client_fails(plant: Plant, small_disk: Path, name: str) -> None:
    """A failing client's capture ends in time on api and agents, and another client loses nothing."""
    fault = CLIENT_FAULTS[name]
    ended = len(plant.audit())
    with plant.traffic():
        other = plant.begin(*CELLS, machine="api")
        other.wait_for(*SOURCES, packets=1)
        alone = [plant.held(cell) for cell in CELLS]
        path = small_disk / "full.pcapng" if name == "disk full" else None
        client = plant.begin(*CELLS, limits=SHORT_CLIENT, path=path)
        client.wait_for(*SOURCES, packets=300)
        watch = Stopwatch()
        fault.breaks(plant, client)
        wait_until(lambda: len(plant.audit()) > ended, "the api has let go", timeout=fault.within[1] + 5)
        wait_until(lambda: [plant.held(cell) for cell in CELLS] == alone, "the agents have, too")
        let_go_after = watch.seconds
        fault.mends(plant, client)
        status = client.process.wait(30)
        packets = other.packets()["cell-1:wire0"]
        other.wait_for(*SOURCES, packets=packets + 1000)
        undisturbed = other.stop()
    assert fault.within[0] <= let_go_after <= fault.within[1]
    record = plant.audit()[ended]
    assert (record["reason"], record["detail"]) == (fault.reason, fault.api)
    assert status == fault.status
    result = client.wait()
    if fault.words:
        assert fault.words in result.report["error"]
    for source in SOURCES:
        assert len(result.file.of(source)) >= 200
        assert_gapless(result.file, source)
    if not fault.torn:
        assert_readable(result.path)
    assert_success(undisturbed)
    for source in SOURCES:
        assert_complete(undisturbed, source)
