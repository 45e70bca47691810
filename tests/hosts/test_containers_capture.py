"""Real containers of one app on one cell: each way to find them, and nobody else's packets."""

from __future__ import annotations

import pwd
import re
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator

import pytest

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")

from demo.certificates import Authority
from pcapd.wire import Container, End, EndReason, Error, Notice, NoticeType, Source
from tests.kit.hosts.containers import APP, USER, CellAgent, cell_in, needs, public_directory
from tests.kit.lab.callers import AgentCaller
from tests.kit.lab.containers import Cell, Instance, entry

if needs():
    pytest.skip(str(needs()), allow_module_level=True)

CAP = {"dac_read_search": 2, "net_raw": 13, "sys_ptrace": 19, "sys_admin": 21}


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    with public_directory() as directory, cell_in(directory) as cell:
        yield cell


@pytest.fixture(scope="module")
def pair(cell: Cell) -> list[Instance]:
    """Two instances of one app."""
    return [cell.run(APP, index) for index in range(2)]


@pytest.fixture(scope="module")
def inside(cell: Cell, authority: Authority) -> Iterator[CellAgent]:
    """An agent that enters namespaces."""
    agent = CellAgent(cell, authority, "inside", containers={})
    with agent.daemon:
        yield agent


@pytest.fixture(scope="module")
def outside(cell: Cell, authority: Authority) -> Iterator[CellAgent]:
    """An agent that stays on the cell."""
    agent = CellAgent(cell, authority, "outside", containers={"access": "host-veth"})
    with agent.daemon:
        yield agent


@pytest.fixture
def spare(cell: Cell) -> Iterator[Instance]:
    """A container to break."""
    instance = cell.run(APP, 7)
    yield instance
    cell.delete(instance)


def by_handle(instance: Instance) -> Container:
    return Container(instance.app, instance.index, handle=instance.handle)


def by_address(instance: Instance) -> Container:
    return Container(instance.app, instance.index, address=instance.address)


def by_index(instance: Instance) -> Container:
    return Container(instance.app, instance.index)


def refusal(agent: CellAgent, container: Container, **settings: object) -> Error:
    with agent.call() as call:
        call.start(container, **settings)
        return call.wait(Error)


def check_alone(call: AgentCaller, cell: Cell, pair: list[Instance], index: int) -> None:
    """Both instances talk; only one is captured."""
    call.wait(Source)
    for instance in pair:
        cell.ping(instance, f"to-instance-{instance.index}".encode(), 5)
    call.wait_for(f"to-instance-{index}".encode(), 10)
    end = call.stop()
    assert end.reason is EndReason.STOPPED
    assert len(call.seen(f"to-instance-{index}".encode())) == 10
    assert not call.seen(f"to-instance-{1 - index}".encode())
    (counters,) = end.sources
    assert counters.delivered == counters.received == len(call.packets())


@pytest.mark.parametrize("way", [by_handle, by_address, by_index])
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_two_instances_are_told_apart(
    cell: Cell, pair: list[Instance], request: pytest.FixtureRequest, where: str, index: int, way: object
) -> None:
    """Each of two instances of an app is captured alone, in every way to name it."""
    agent: CellAgent = request.getfixturevalue(where)
    with agent.call() as call:
        call.start(way(pair[index]))  # type: ignore[operator]
        check_alone(call, cell, pair, index)
        (source,) = call.all(Source)
        assert source.interface == "eth0"
        assert source.addresses == (f"{pair[index].address}/32",)


def test_a_bind_mounted_namespace_is_preferred(
    cell: Cell, pair: list[Instance], authority: Authority
) -> None:
    """A bind-mounted namespace is used without asking runc, although its directory is root's alone."""
    for instance in pair:
        cell.bind_mount(instance)
    agent = CellAgent(cell, authority, "mounts", containers={"runc": "/bin/false"})
    try:
        with agent.daemon, agent.call() as call:
            call.start(by_handle(pair[1]))
            check_alone(call, cell, pair, 1)
    finally:
        for instance in pair:
            cell.unmount(instance)


def test_a_stale_file_in_place_of_a_mount_is_not_entered(
    cell: Cell, pair: list[Instance], inside: CellAgent
) -> None:
    """A stale file in place of a mount, as a reboot leaves it, is not entered; runc is asked instead."""
    stale = cell.netns_dir / pair[0].handle
    stale.touch()
    try:
        with inside.call() as call:
            call.start(by_handle(pair[0]))
            check_alone(call, cell, pair, 0)
    finally:
        stale.unlink()


def test_without_runc_its_state_file_tells(cell: Cell, pair: list[Instance], authority: Authority) -> None:
    """Without runc its state file gives the container's process."""
    agent = CellAgent(cell, authority, "no-runc", containers={"runc": "/nonexistent/runc"})
    with agent.daemon, agent.call() as call:
        call.start(by_handle(pair[0]))
        check_alone(call, cell, pair, 0)


def test_loopback_beside_eth0(cell: Cell, pair: list[Instance], inside: CellAgent) -> None:
    """Clear text between Envoy and the app is captured on the container's loopback interface."""
    with inside.call() as call:
        call.start(by_handle(pair[0]), interfaces=("eth0", "lo"))
        call.wait(Source, 2)
        assert [source.interface for source in call.all(Source)] == ["eth0", "lo"]
        cell.whisper(pair[0], b"in clear")
        cell.whisper(pair[1], b"of another")
        cell.ping(pair[0], b"on the wire!")
        call.wait_for(b"in clear")
        call.wait_for(b"on the wire!", 2)
        call.stop()
        assert call.seen(b"in clear", 2)
        assert not call.seen(b"in clear", 1)
        assert not call.seen(b"of another")


def test_directions_are_the_containers_from_both_sides(
    cell: Cell, pair: list[Instance], inside: CellAgent, outside: CellAgent
) -> None:
    """`inbound` and `outbound` are the container's directions, whichever side is captured."""
    seen: dict[str, dict[str, list[bytes]]] = {}
    for name, agent in (("inside", inside), ("outside", outside)):
        seen[name] = {}
        for filter_text in ("", "inbound", "outbound and icmp", "not (outbound) or arp"):
            with agent.call() as call:
                call.start(by_handle(pair[0]), filter=filter_text)
                call.wait(Source)
                cell.ping(pair[0], b"which way is it?", 3)
                call.wait_for(b"which way is it?", 3)
                call.stop()
                seen[name][filter_text] = call.seen(b"which way is it?")
    # Identification and time to live of two runs differ: the kinds are what counts.
    kinds = {
        name: {text: [packet[34] for packet in found] for text, found in all_.items()}
        for name, all_ in seen.items()
    }
    assert kinds["inside"] == kinds["outside"]
    assert sorted(kinds["inside"][""]) == [0, 0, 0, 8, 8, 8]
    assert kinds["inside"]["inbound"] == kinds["inside"]["not (outbound) or arp"] == [8, 8, 8]
    assert kinds["inside"]["outbound and icmp"] == [0, 0, 0]


def test_both_sides_see_the_same_packets(
    cell: Cell, pair: list[Instance], inside: CellAgent, outside: CellAgent
) -> None:
    """Captures inside and outside a container hold the same packets."""
    with inside.call() as there, outside.call() as here:
        for call in (there, here):
            call.start(by_handle(pair[0]))
            call.wait(Source)
        cell.ping(pair[0], b"the same packets", 20)
        for call in (there, here):
            call.wait_for(b"the same packets", 40)
            call.stop()
        assert sorted(there.packets()) == sorted(here.packets())
        sources = [call.all(Source)[0] for call in (there, here)]
        assert [source.interface for source in sources] == ["eth0", "eth0"]


@pytest.mark.parametrize("name", ["lo", "s-010255093002", "eth1"])
def test_from_outside_only_eth0(pair: list[Instance], outside: CellAgent, name: str) -> None:
    """From the cell's side only eth0 can be captured, and the hint names the setting for more."""
    error = refusal(outside, by_handle(pair[0]), interfaces=(name,))
    assert error.code == "no_such_interface"
    assert "access: namespace" in error.hint


def test_a_bad_filter_is_quoted_as_it_was_written(
    pair: list[Instance], inside: CellAgent, outside: CellAgent
) -> None:
    """The error for a bad filter quotes it as the user wrote it, on either side."""
    for agent in (inside, outside):
        error = refusal(agent, by_handle(pair[0]), filter="tcp or outbound inbound")
        assert error.code == "bad_filter"
        assert "inbound" in error.message
        assert "outbound" not in error.message


def test_refusals(cell: Cell, pair: list[Instance], inside: CellAgent, outside: CellAgent) -> None:
    """Each container that cannot be found or is contradicted is refused with its code and reason."""
    handle, address = pair[0].handle, pair[0].address
    cases = [
        (Container(APP, 0, handle="no-such-handle"), "target_not_found", "no container no-such-handle"),
        (Container(APP, 5), "target_not_found", "instance 5"),
        (Container(APP, 0, address="10.255.93.250"), "target_not_found", "10.255.93.250"),
        (Container(APP, 0, handle="../../etc/passwd"), "bad_request", "characters"),
        (Container(APP, 0, handle="--root"), "bad_request", "characters"),
        (Container(APP, 0, handle=handle, address=pair[1].address), "capture_failed", "its address is"),
        (Container(APP, 1, handle=handle), "capture_failed", "it is instance 0, not 1"),
        (Container("another-app", 0, handle=handle), "capture_failed", "another app"),
        (Container("another-app", 0, address=address), "capture_failed", "another app"),
    ]
    for container, code, words in cases:
        for agent in (inside, outside):
            error = refusal(agent, container)
            assert error.code == code
            assert words in error.message


def test_an_ambiguous_index_is_refused(cell: Cell, pair: list[Instance], inside: CellAgent) -> None:
    """Two containers with one index, as during a deployment or evacuation, are refused."""
    double = cell.run(APP, 0)
    try:
        error = refusal(inside, by_index(pair[0]))
        assert (error.code, error.hint != "") == ("capture_failed", True)
        assert pair[0].handle in error.message
        assert double.handle in error.message
        with inside.call() as call:  # a handle still tells
            call.start(by_handle(double))
            call.wait(Source)
            call.stop()
    finally:
        cell.delete(double)


GONE = "5f0c2b7e-91aa-4c1e-6d3b-2f10"


def by_everything(instance: Instance) -> Container:
    return Container(
        instance.app, instance.index, handle=instance.handle, address=instance.address, process=instance.app
    )


@pytest.mark.parametrize("way", [by_handle, by_address, by_index, by_everything])
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_an_entry_of_a_container_that_is_gone(
    cell: Cell, spare: Instance, request: pytest.FixtureRequest, where: str, way: Any
) -> None:
    """A store entry whose address now belongs to another container leads to no capture until it is removed."""
    agent: CellAgent = request.getfixturevalue(where)
    gone = replace(spare, handle=GONE, app="another-app", index=3)
    cell.store.entries[GONE] = entry(GONE, gone.app, gone.index, gone.address)
    cell.store.write()
    try:
        for instance in (gone, spare):
            error = refusal(agent, way(instance))
            assert error.code == "capture_failed"
            assert f"{spare.address} for more than one container" in error.message
            assert "restart the instance" in error.hint
            assert GONE not in error.message and spare.handle not in error.message
    finally:
        del cell.store.entries[GONE]
        cell.store.write()
    with agent.call() as call:
        call.start(way(spare))
        call.wait(Source)
        cell.ping(spare, b"it is there")
        call.wait_for(b"it is there", 2)
        call.stop()


@pytest.mark.parametrize("address", ["the same", "another"])
def test_a_container_that_takes_over_an_address(
    cell: Cell, spare: Instance, outside: CellAgent, address: str
) -> None:
    """A capture for a stale entry ends when a new container's entry takes over the address."""
    mine = cell.store.entries.pop(spare.handle)
    cell.store.entries[GONE] = entry(GONE, APP, 7, spare.address)
    cell.store.write()
    try:
        with outside.call() as call:
            call.start(Container(APP, 7, handle=GONE))
            call.wait(Source)
            cell.store.entries[spare.handle] = (
                mine if address == "the same" else {**mine, "ip": "10.255.93.251"}
            )
            cell.store.write()
            if address == "the same":
                end = call.wait(End)
                assert end.reason is EndReason.SOURCES_GONE
                assert "more than one container" in call.all(Notice)[0].message
            else:
                cell.ping(spare, b"it goes on..")
                call.wait_for(b"it goes on..", 2)
                call.stop()
    finally:
        del cell.store.entries[GONE]
        cell.store.entries[spare.handle] = mine
        cell.store.write()


def test_a_container_without_log_config_is_no_instance_0(cell: Cell, inside: CellAgent) -> None:
    """A container without log config, or of a task, is not taken for instance 0."""
    old = cell.run("old-app", 0, log_config=None)
    task = cell.run("task-app", 0, container_workload="task")
    try:
        assert refusal(inside, by_index(old)).code == "capture_failed"
        assert refusal(inside, by_index(task)).code == "target_not_found"
        assert "runs task" in refusal(inside, by_address(task)).message
    finally:
        cell.delete(old)
        cell.delete(task)


def test_a_machine_without_containers(cell: Cell, pair: list[Instance], authority: Authority) -> None:
    """An agent without a containers section refuses apps, and its hint names the section."""
    agent = CellAgent(cell, authority, "no-containers")
    with agent.daemon:
        error = refusal(agent, by_handle(pair[0]))
    assert error.code == "target_not_found"
    assert "containers" in error.hint


def test_the_store_is_rewritten_all_the_time(
    cell: Cell, pair: list[Instance], inside: CellAgent, outside: CellAgent
) -> None:
    """A store that is rewritten under its lock all the time leads to the right container."""
    over = threading.Event()

    def rewrite() -> None:
        while not over.is_set():
            cell.store.entries["other"] = entry("other", "other-app", 0, "10.255.93.99")
            cell.store.write()
            cell.store.entries.pop("other")
            cell.store.write()

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for attempt in range(3):
            for agent in (inside, outside):
                with agent.call() as call:
                    call.start(by_index(pair[attempt % 2]))
                    check_alone(call, cell, pair, attempt % 2)
    finally:
        over.set()
        writer.join()
        cell.store.write()


def test_half_a_store_is_read_again(cell: Cell, pair: list[Instance], inside: CellAgent) -> None:
    """A writer that holds the lock and never lets go: read without it, once it makes sense."""
    whole = cell.store.path.read_bytes()
    with cell.store.locked():
        cell.store.put(whole[:100])
        with inside.call() as call:
            call.start(by_handle(pair[0]))
            time.sleep(1.03)  # the wait for the lock, and one attempt
            cell.store.put(whole)
            call.wait(Source)
            call.stop()
        cell.store.put(whole[:100])
        error = refusal(inside, by_handle(pair[0]))
        cell.store.put(whole)
    assert error.code == "capture_failed"
    assert "is not valid" in error.message


def test_no_store(cell: Cell, pair: list[Instance], authority: Authority) -> None:
    """A missing store is refused with its path, and a hint that the agent must be on a Diego cell."""
    agent = CellAgent(cell, authority, "no-store", containers={"store": "/nonexistent/store.json"})
    with agent.daemon:
        error = refusal(agent, by_handle(pair[0]))
    assert "/nonexistent/store.json" in error.message
    assert "Diego cell" in error.hint


RUNCS = {
    "fails": ("echo 'level=error no such luck' >&2; exit 1", "capture_failed", "no such luck"),
    "hangs": ("sleep 60 & sleep 60", "capture_failed", "did not answer"),
    "babbles": ("yes", "capture_failed", "more than"),
    "lies": ("echo '[]'", "capture_failed", "is not valid"),
    "other": ('echo \'{"id":"x","pid":1,"status":"running"}\'', "capture_failed", "container other than"),
    "stopped": (
        'echo "{\\"id\\":\\"$4\\",\\"pid\\":0,\\"status\\":\\"stopped\\"}"',
        "namespace_gone",
        "stopped",
    ),
    "unknown": ("echo 'container does not exist' >&2; exit 1", "namespace_gone", "does not know container"),
    # Containers of a host's network must not open the cell to an app's developers.
    "cell": (
        'echo "{\\"id\\":\\"$4\\",\\"pid\\":AGENT,\\"status\\":\\"running\\"}"',
        "capture_failed",
        "of its own",
    ),
    # A pid that is another container's: what runc says is not what is there.
    "reused": (
        'echo "{\\"id\\":\\"$4\\",\\"pid\\":OTHER,\\"status\\":\\"running\\"}"',
        "capture_failed",
        "the address",
    ),
}


@pytest.mark.long
def test_runc_that_is_not_to_be_trusted(cell: Cell, pair: list[Instance], authority: Authority) -> None:
    """Wrong answers of runc lead to no capture, each with its code and message."""
    runc = cell.directory / "false-runc"
    runc.write_text("#!/bin/sh\n")
    runc.chmod(0o755)
    agent = CellAgent(cell, authority, "false-runc", containers={"runc": str(runc)})
    with agent.daemon:
        for name, (script, code, words) in RUNCS.items():
            known = script.replace("AGENT", str(agent.daemon.pid)).replace("OTHER", str(pair[1].pid))
            runc.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{known}\n")
            error = refusal(agent, by_handle(pair[0]))
            assert (name, error.code) == (name, code), error
            assert words in error.message
        # Nothing of them is left.
        children = subprocess.run(["pgrep", "-P", str(agent.daemon.pid)], capture_output=True, check=False)
        assert not children.stdout


def test_a_pid_that_changes_hands_during_the_look_up(
    cell: Cell, pair: list[Instance], authority: Authority
) -> None:
    """A pid that changes hands between runc's answers is not captured."""
    runc, count = cell.directory / "fickle-runc", cell.directory / "asked"
    count.write_text("")
    count.chmod(0o666)
    runc.write_text(
        f"""#!/bin/sh
PATH=/usr/bin:/bin
pid={pair[0].pid}
[ -s {count} ] || pid={pair[1].pid}
echo x >> {count}
echo "{{\\"id\\":\\"$4\\",\\"pid\\":$pid,\\"status\\":\\"running\\"}}"
"""
    )
    runc.chmod(0o755)
    agent = CellAgent(cell, authority, "fickle-runc", containers={"runc": str(runc)})
    with agent.daemon:
        error = refusal(agent, by_handle(pair[0]))
    assert error.code == "namespace_gone"
    assert "restarted" in error.message


def test_a_reused_pid_in_the_state_file(cell: Cell, pair: list[Instance], authority: Authority) -> None:
    """A pid in runc's state file that now belongs to another process is not used."""
    real = cell.runc_root / pair[0].handle / "state.json"
    left = cell.directory / "left" / pair[0].handle / "state.json"
    left.parent.mkdir(parents=True)
    text = re.sub(r'("init_process_start":)\d+', r"\g<1>12345", real.read_text())
    left.write_text(text)
    changes = {"runc": "/nonexistent/runc", "runc_root": str(cell.directory / "left")}
    agent = CellAgent(cell, authority, "left", containers=changes)
    with agent.daemon:
        error = refusal(agent, by_handle(pair[0]))
    assert error.code == "namespace_gone"


# --- containers that go --------------------------------------------------------


def check_gone(call: AgentCaller, words: str) -> None:
    end = call.wait(End)
    assert end.reason is EndReason.SOURCES_GONE
    notice = call.all(Notice)[0]
    assert notice.type is NoticeType.INSTANCE_UNAVAILABLE
    assert words in notice.message
    assert call.seen(b"last words")
    assert sum(counters.delivered for counters in end.sources) == len(call.packets())


def test_a_container_that_is_killed(cell: Cell, spare: Instance, inside: CellAgent) -> None:
    """A container that is killed during a capture ends it, after its last packets are delivered."""
    with inside.call() as call:
        call.start(by_handle(spare), interfaces=("eth0", "lo"))
        call.wait(Source, 2)
        cell.ping(spare, b"last words..")
        cell.kill(spare)
        check_gone(call, "container has ended")


def test_a_mount_that_is_taken_away(cell: Cell, spare: Instance, inside: CellAgent) -> None:
    """A mount that is removed during a capture ends it, after its last packets are delivered."""
    cell.bind_mount(spare)
    with inside.call() as call:
        call.start(by_handle(spare))
        call.wait(Source)
        cell.ping(spare, b"last words..")
        cell.unmount(spare)
        check_gone(call, "namespace is gone")


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_wire_that_is_cut(cell: Cell, spare: Instance, request: pytest.FixtureRequest, where: str) -> None:
    """A wire that is deleted during a capture ends it, after its last packets are delivered."""
    agent: CellAgent = request.getfixturevalue(where)
    with agent.call() as call:
        call.start(by_handle(spare))
        call.wait(Source)
        cell.ping(spare, b"last words..")
        call.wait_for(b"last words")
        cell.namespace.ip("link", "delete", spare.device)
        check_gone(call, "eth0 is gone")


def test_a_container_that_ended_before(cell: Cell, spare: Instance, inside: CellAgent) -> None:
    """A container that ended before the capture is refused with a hint."""
    cell.kill(spare)
    time.sleep(0.1)
    error = refusal(inside, by_handle(spare))
    assert error.code == "namespace_gone"
    assert error.hint


@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.long
def test_a_container_that_goes_while_it_is_opened(
    cell: Cell, request: pytest.FixtureRequest, where: str
) -> None:
    """A container that goes away while it is opened is reported as gone, without a traceback in the log."""
    agent: CellAgent = request.getfixturevalue(where)
    told = set()
    for attempt in range(12):
        instance = cell.run(APP, 8)
        with agent.call() as call:
            ending = threading.Timer(0.01 * attempt, cell.delete, (instance,))
            ending.start()
            call.start(by_handle(instance))
            call.wait_for_the_end()
            told |= {event.message.code for event in call.events if isinstance(event.message, Error)}
            told |= {event.message.reason.value for event in call.events if isinstance(event.message, End)}
            ending.join()
    assert told <= {
        "namespace_gone",
        "target_not_found",
        "no_such_interface",
        "capture_failed",
        "sources_gone",
    }
    assert not [record for record in agent.daemon.records() if "failure" in record]


# --- privileges ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "needed"),
    [("inside", {"dac_read_search", "net_raw", "sys_ptrace", "sys_admin"}), ("outside", {"net_raw"})],
)
def test_it_has_the_privileges_that_it_needs_and_no_others(
    cell: Cell, pair: list[Instance], request: pytest.FixtureRequest, where: str, needed: set[str]
) -> None:
    """Every thread has exactly the needed privileges, while it captures and afterwards."""
    agent: CellAgent = request.getfixturevalue(where)
    mask = sum(1 << CAP[name] for name in needed)
    uid = str(pwd.getpwnam(USER).pw_uid)
    with agent.call() as call:
        call.start(by_handle(pair[0]))
        call.wait(Source)
        while_capturing = agent.status()
        check_alone(call, cell, pair, 0)
    for status in while_capturing + agent.status():
        assert status["Uid"].split() == [uid] * 4
        assert status["Groups"] == ""
        assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == mask
        assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
        assert status["NoNewPrivs"] == "1"


def test_it_leaves_nothing_behind(cell: Cell, pair: list[Instance], inside: CellAgent) -> None:
    """A capture leaves no descriptor open, since an open namespace would keep a container's wire alive."""

    def descriptors() -> int:
        return len(list(Path(f"/proc/{inside.daemon.pid}/fd").iterdir()))

    with inside.call():
        before = descriptors()
    for _ in range(3):
        with inside.call() as call:
            call.start(by_handle(pair[0]), interfaces=("eth0", "lo"))
            call.wait(Source, 2)
            call.stop()
        refusal(inside, by_handle(pair[0]), interfaces=("eth9",))
        refusal(inside, Container(APP, 1, handle=pair[0].handle))
    time.sleep(0.5)
    with inside.call():
        assert descriptors() <= before
