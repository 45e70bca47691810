"""Other programs' files and output: bounded in size and time, whatever they are."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Optional

import pytest

from pcapd.agent.containers import commands, files, lookup
from pcapd.agent.containers.files import read_bounded, read_store, start_of
from pcapd.agent.containers.lookup import first_process
from pcapd.agent.containers.namespace import open_container
from pcapd.agent.containers.runtime import Process
from pcapd.config.schema import ContainersConfig
from pcapd.errors import CaptureFailed, NamespaceGone, PcapdError
from pcapd.limits import (
    RUNC_OUTPUT_MAX,
    STORE_ATTEMPT_INTERVAL,
    STORE_ATTEMPTS,
    STORE_LOCK_TIMEOUT,
    STORE_MAX,
)
from pcapd.wire import Container

ENTRY = b'{"h":{"handle":"h","ip":"10.0.0.1","metadata":null}}\n'


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """A file at the bound is read, and one above it is refused."""
    (tmp_path / "x").write_bytes(b"12345")
    assert read_bounded(tmp_path / "x", 5) == b"12345"
    with pytest.raises(ValueError, match="more than 4"):
        read_bounded(tmp_path / "x", 4)


def test_what_is_no_file(tmp_path: Path) -> None:
    """A pipe or device is refused without being read."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match="regular"):
            read_bounded(path, 5)


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """A store that cannot be parsed leaves no open descriptor."""
    (tmp_path / "s").write_bytes(b"{")
    (tmp_path / "s_lock").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(CaptureFailed):
            read_store(tmp_path / "s")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_store_under_its_lock_is_believed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store under its lock is parsed at once, also when it is empty."""
    (tmp_path / "s").touch()
    (tmp_path / "s_lock").touch()
    monkeypatch.setattr(files.time, "sleep", lambda seconds: pytest.fail("it waits"))
    assert read_store(tmp_path / "s") == ()


def test_a_reader_waits_for_the_writer(tmp_path: Path) -> None:
    """A reader waits until the writer releases the lock."""
    store = tmp_path / "s"
    store.touch()
    lock = os.open(tmp_path / "s_lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)

    def write() -> None:
        store.write_bytes(ENTRY)
        os.close(lock)

    threading.Timer(0.1, write).start()
    assert [container.handle for container in read_store(store)] == ["h"]


@pytest.mark.parametrize("before", [b"", ENTRY[:20]])
def test_without_a_lock_it_is_read_again(tmp_path: Path, before: bytes) -> None:
    """Without a lock an incomplete store is read again until it parses."""
    store = tmp_path / "s"
    store.write_bytes(before)
    threading.Timer(0.03, store.write_bytes, (ENTRY,)).start()
    assert [container.handle for container in read_store(store)] == ["h"]


class Waits:
    """A clock that only waiting moves; who waits for too long has failed."""

    def __init__(self, most: float) -> None:
        self._most = most
        self.each: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.each.append(seconds)
        assert self.monotonic() < self._most

    def monotonic(self) -> float:
        return sum(self.each)


def test_without_a_lock_an_empty_store_is_empty_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty store without a lock is read several times before it counts as empty."""
    waits = Waits(most=1)
    monkeypatch.setattr(files, "time", waits)
    (tmp_path / "s").touch()
    assert read_store(tmp_path / "s") == ()
    assert waits.each == [STORE_ATTEMPT_INTERVAL] * (STORE_ATTEMPTS - 1)


def test_a_lock_that_nobody_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose lock is never released is read without it after some time."""
    waits = Waits(most=2 * STORE_LOCK_TIMEOUT)
    monkeypatch.setattr(files, "time", waits)
    (tmp_path / "s").write_bytes(ENTRY)
    with (tmp_path / "s_lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert [container.handle for container in read_store(tmp_path / "s")] == ["h"]
    assert waits.monotonic() >= STORE_LOCK_TIMEOUT


def test_a_store_that_is_too_large(tmp_path: Path) -> None:
    """A store that is too large is not read."""
    (tmp_path / "s_lock").touch()
    with (tmp_path / "s").open("wb") as store:
        store.truncate(STORE_MAX + 1)
    with pytest.raises(CaptureFailed, match=f"more than {STORE_MAX} bytes"):
        read_store(tmp_path / "s")


def test_start_of_a_process() -> None:
    """A process has one start time, and a missing process none."""
    assert start_of(os.getpid()) == start_of(os.getpid()) is not None
    assert start_of(2**22 + 1) is None


# --- commands ------------------------------------------------------------------


def shell(script: str, seconds: float = 5, most: int = 1000) -> commands.Finished:
    return commands.run(["/bin/sh", "-c", script], seconds=seconds, most=most)


def test_what_a_command_says() -> None:
    """A command's exit status, output and errors are returned apart."""
    assert shell("echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")


def test_a_command_gets_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command gets no input, environment or directory of ours."""
    monkeypatch.setenv("SECRET", "x")
    assert shell("cat; echo $SECRET; pwd").output == b"\n/\n"


@pytest.mark.parametrize(
    "script", ["sleep 9", "sleep 9 & sleep 9", "sleep 9 & exit", "exec >&- 2>&-; sleep 9"]
)
def test_a_command_that_does_not_end(script: str) -> None:
    """A command that does not end, nor close its output, is killed at its time limit."""
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        shell(script, seconds=0.2)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("script", ["yes", "yes >&2"])
def test_a_command_that_says_too_much(script: str) -> None:
    """A command with too much output is refused."""
    with pytest.raises(ValueError, match="more than"):
        shell(script)


def test_no_command() -> None:
    """A missing command raises an OSError."""
    with pytest.raises(OSError, match="No such file"):
        commands.run(["/nonexistent"], seconds=1, most=1)


# --- the first process ----------------------------------------------------------


def runc_that(tmp_path: Path, script: str) -> ContainersConfig:
    """Where runc is a shell script."""
    runc = tmp_path / "runc"
    runc.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    runc.chmod(0o700)
    return ContainersConfig(runc=runc, netns_dir=tmp_path / "netns")


def says(pid: int) -> str:
    return f"""echo '{{"id": "a-handle", "status": "running", "pid": {pid}}}'"""


def without_runc(tmp_path: Path, pid: int, start: Optional[int]) -> ContainersConfig:
    """Where runc's file tells of a process."""
    place = tmp_path / "a-handle"
    place.mkdir()
    state = {"id": "a-handle", "init_process_pid": pid, "init_process_start": start}
    (place / "state.json").write_text(json.dumps(state))
    return ContainersConfig(runc=tmp_path / "no-runc", runc_root=tmp_path, netns_dir=tmp_path / "netns")


def test_the_process_that_runc_names(tmp_path: Path) -> None:
    """A process named by runc is identified together with its start time."""
    pid, start = os.getpid(), start_of(os.getpid())
    assert start is not None
    assert first_process(runc_that(tmp_path, says(pid)), "a-handle") == Process(pid, start)
    assert first_process(without_runc(tmp_path, pid, start), "a-handle") == Process(pid, start)


def test_a_process_that_ended_after_runc_named_it(tmp_path: Path) -> None:
    """A process that ended after runc named it is not looked at again."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(NamespaceGone, match="has ended"):
        first_process(runc_that(tmp_path, says(ended.pid)), "a-handle")


def test_a_number_that_became_another_processs(tmp_path: Path) -> None:
    """A process that started at another time than runc's file states is not used."""
    start = start_of(os.getpid())
    assert start is not None
    with pytest.raises(NamespaceGone, match="has ended"):
        first_process(without_runc(tmp_path, os.getpid(), start - 1), "a-handle")


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        (f"{says(1)}; exit 3", CaptureFailed, "failed with status 3: no error message"),
        ("echo first >&2; echo no luck >&2; exit 1", CaptureFailed, "failed with status 1: no luck$"),
        ("echo container does not exist >&2; exit 1", NamespaceGone, "does not know container a-handle"),
        ("printf %10000s | tr ' ' x >&2; exit 1", CaptureFailed, f": {'x' * 200}$"),
        (f"head -c {RUNC_OUTPUT_MAX + 1} /dev/zero", CaptureFailed, "it wrote more than"),
    ],
    ids=["a state", "words", "unknown", "long words", "too much"],
)
def test_a_runc_that_fails(tmp_path: Path, script: str, kind: type[PcapdError], words: str) -> None:
    """The output of a runc that fails is ignored, and one line of its error is shown."""
    with pytest.raises(kind) as refused:
        first_process(runc_that(tmp_path, script), "a-handle")
    assert type(refused.value) is kind and re.search(words, refused.value.message)


def test_a_runc_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runc that does not end is abandoned after its time limit."""
    monkeypatch.setattr(lookup, "RUNC_TIMEOUT", 0.1)
    with pytest.raises(CaptureFailed, match=r"runc did not answer within 0\.1 s"):
        first_process(runc_that(tmp_path, "sleep 5"), "a-handle")


def test_a_state_file_that_is_too_large(tmp_path: Path) -> None:
    """A state file that is too large is not read."""
    config = without_runc(tmp_path, 1, 1)
    with (tmp_path / "a-handle" / "state.json").open("r+b") as file:
        file.truncate(RUNC_OUTPUT_MAX + 1)
    with pytest.raises(CaptureFailed, match=f"more than {RUNC_OUTPUT_MAX} bytes"):
        first_process(config, "a-handle")


# --- its network namespace --------------------------------------------------------


def test_a_container_in_our_own_network(tmp_path: Path) -> None:
    """A container in the cell's own network is refused, whichever way its namespace is found."""
    by_process = without_runc(tmp_path, os.getpid(), start_of(os.getpid()))
    with pytest.raises(CaptureFailed, match="has no network of its own"):
        open_container(by_process, "a-handle")
    by_process.netns_dir.mkdir()
    (by_process.netns_dir / "a-mount").symlink_to("/proc/self/ns/net")
    with pytest.raises(CaptureFailed, match="has no network of its own"):
        open_container(by_process, "a-mount")


@pytest.mark.parametrize("target", ["/dev/null", "/proc/self/ns/mnt"])
def test_what_lies_where_a_mount_was(tmp_path: Path, target: str) -> None:
    """A file in place of a mount is passed over, and the process is looked up instead."""
    config = without_runc(tmp_path, os.getpid(), 1)
    config.netns_dir.mkdir()
    (config.netns_dir / "a-handle").symlink_to(target)
    with pytest.raises(NamespaceGone, match="the first process of container a-handle has ended"):
        open_container(config, "a-handle")


def test_a_process_that_is_another_one_afterwards(tmp_path: Path) -> None:
    """A namespace is closed again when its process id changed hands between the two looks."""
    asked = tmp_path / "asked"
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        script = f"if [ -e {asked} ]; then {says(os.getpid())}; else {says(other.pid)}; fi; touch {asked}"
        with pytest.raises(NamespaceGone, match="is being restarted"):
            open_container(runc_that(tmp_path, script), "a-handle")


# --- while it is captured --------------------------------------------------------


class Cell:
    """A store that a watch looks at; what a change of it says is waited for."""

    def __init__(self, store: Path) -> None:
        self._config = ContainersConfig(store=store)
        self.write(h="10.0.0.1")
        wanted = Container("an-app", 0, handle="h")
        self.watch = lookup.StoreWatch(self._config, wanted, lookup.find_container(self._config, wanted))

    def write(self, **addresses: str) -> None:
        entries = {handle: {"handle": handle, "ip": ip} for handle, ip in addresses.items()}
        self._config.store.write_text(json.dumps(entries))

    def look(self) -> Optional[str]:
        """What the watch says after it has looked."""
        self.watch()
        if self.watch._looking is not None:
            self.watch._looking.join()
        return self.watch()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"h": "10.0.0.1", "other": "10.0.0.1"}, "more than one container"),
        ({"h": "10.0.0.2"}, "is being replaced"),
        ({"other": "10.0.0.1"}, "no container h"),
        ({"h": "10.0.0.1", "other": "10.0.0.2"}, None),
    ],
    ids=["another has its address", "it has another address", "it is deleted", "another comes"],
)
def test_a_store_that_changes_during_a_capture(
    tmp_path: Path, entries: dict[str, str], words: Optional[str]
) -> None:
    """A container that is not the only one of its address any more is not captured any longer."""
    cell = Cell(tmp_path / "s")
    assert cell.look() is None and cell.look() is None
    cell.write(**entries)
    why = cell.look()
    assert why is None if words is None else words in (why or "")


def test_a_store_that_cannot_be_read_during_a_capture(tmp_path: Path) -> None:
    """A store that cannot be read during a capture is read again at the next look."""
    cell = Cell(tmp_path / "s")
    (tmp_path / "s").rename(tmp_path / "away")
    assert cell.look() is None
    (tmp_path / "away").rename(tmp_path / "s")
    assert cell.look() is None
    cell.write(other="10.0.0.1")
    assert "no container h" in (cell.look() or "")


def test_a_watch_reads_a_store_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch reads an unchanged store once."""
    cell, reads = Cell(tmp_path / "s"), []
    monkeypatch.setattr(lookup, "read_store", lambda path: reads.append(path) or read_store(path))
    for _ in range(5):
        assert cell.look() is None
    assert len(reads) == 1
