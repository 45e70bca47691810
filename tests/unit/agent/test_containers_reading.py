"""Other programs' files and output: bounded in size and time, whatever they are."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from pcapd.agent.containers import commands, files
from pcapd.agent.containers.files import read_bounded, read_store, start_of
from pcapd.agent.containers.lookup import first_process
from pcapd.config.schema import ContainersConfig
from pcapd.errors import CaptureFailed, NamespaceGone

ENTRY = b'{"h":{"handle":"h","ip":"10.0.0.1","metadata":null}}\n'


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_bounded(tmp_path / "x", 5) == b"12345"
    with pytest.raises(ValueError, match="more than 4"):
        read_bounded(tmp_path / "x", 4)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match="regular"):
            read_bounded(path, 5)


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"{")
    (tmp_path / "s_lock").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(CaptureFailed):
            read_store(tmp_path / "s")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_store_under_its_lock_is_believed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s").touch()
    (tmp_path / "s_lock").touch()
    monkeypatch.setattr(files.time, "sleep", lambda seconds: pytest.fail("it waits"))
    assert read_store(tmp_path / "s") == ()


def test_a_reader_waits_for_the_writer(tmp_path: Path) -> None:
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
    store = tmp_path / "s"
    store.write_bytes(before)
    threading.Timer(0.03, store.write_bytes, (ENTRY,)).start()
    assert [container.handle for container in read_store(store)] == ["h"]


def test_without_a_lock_an_empty_store_is_empty_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    assert read_store(tmp_path / "s") == ()


def test_start_of_a_process() -> None:
    assert start_of(os.getpid()) == start_of(os.getpid()) is not None
    assert start_of(2**22 + 1) is None


# --- commands ------------------------------------------------------------------


def shell(script: str, seconds: float = 5, most: int = 1000) -> commands.Finished:
    return commands.run(["/bin/sh", "-c", script], seconds=seconds, most=most)


def test_a_process_that_ended_after_runc_named_it(tmp_path: Path) -> None:
    """Its number can be another process's any moment: it is not looked at again."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    runc = tmp_path / "runc"
    runc.write_text(f"""#!/bin/sh\necho '{{"id": "a-handle", "status": "running", "pid": {ended.pid}}}'\n""")
    runc.chmod(0o700)
    with pytest.raises(NamespaceGone, match="has ended"):
        first_process(ContainersConfig(runc=runc), "a-handle")


def test_what_a_command_says() -> None:
    assert shell("echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")


def test_a_command_gets_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    assert shell("cat; echo $SECRET; pwd").output == b"\n/\n"


@pytest.mark.parametrize(
    "script", ["sleep 9", "sleep 9 & sleep 9", "sleep 9 & exit", "exec >&- 2>&-; sleep 9"]
)
def test_a_command_that_does_not_end(script: str) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        shell(script, seconds=0.2)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("script", ["yes", "yes >&2"])
def test_a_command_that_says_too_much(script: str) -> None:
    with pytest.raises(ValueError, match="more than"):
        shell(script)


def test_no_command() -> None:
    with pytest.raises(OSError, match="No such file"):
        commands.run(["/nonexistent"], seconds=1, most=1)
