"""Long filters are compiled one for each user, a few at once, and remembered."""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace
from typing import Any, Iterator

import pytest

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")

from demo.processes import wait_until
from pcapd.capture import compiling, kernelfilter
from pcapd.capture.compiling import FilterCompiler
from pcapd.errors import BadFilter, CaptureFailed
from pcapd.limits import COMPILED_FILTERS_KEPT, FILTER_QUICK, SNAPLEN_MAX

ETHERNET = SimpleNamespace(datalink=lambda: 1)


def long(number: int) -> str:
    return f"port {number} ".ljust(FILTER_QUICK + 1)


class Work:
    """Compilations that take until the test lets them end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at_once: int = 4) -> None:
        self.compiler = FilterCompiler(at_once)
        self.begun: list[str] = []
        self.go_on = threading.Event()
        self.failed: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        monkeypatch.setattr(compiling, "_try", lambda dlt, text: None)
        monkeypatch.setattr(compiling, "compile_filter", self._compile)

    def _compile(self, interface: str, text: str) -> bytes:
        self.begun.append(text)
        assert self.go_on.wait(30)
        return text.encode()

    def ask(self, user: str, number: int, **state: Any) -> SimpleNamespace:
        asker = SimpleNamespace(user=user, gone=False, **state)

        def run() -> None:
            try:
                asker.program = self.compiler.compile(ETHERNET, "eth0", long(number), asker)  # type: ignore[arg-type]
            except CaptureFailed as error:
                self.failed.append(error)

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()
        return asker

    def end(self) -> None:
        self.go_on.set()
        for thread in self._threads:
            thread.join(30)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    work = Work(monkeypatch)
    yield work
    work.end()


def test_one_for_each_user_and_a_few_at_once(work: Work) -> None:
    """Each user compiles one filter at a time, and all together a few; others go first."""
    for number in range(3):
        work.ask("alice", number)
    wait_until(lambda: len(work.begun) == 1, "alice's first")
    for number in range(10, 15):
        work.ask(f"user-{number}", number)
    wait_until(lambda: len(work.begun) == 4, "four at once")
    time.sleep(0.1)
    assert len(work.begun) == 4
    work.end()
    assert sorted(work.begun) == sorted(map(long, [0, 1, 2, *range(10, 15)])) and not work.failed


def test_the_same_filter_is_compiled_once(work: Work) -> None:
    """Equal filters are compiled once, as for seventy instances of an app on one cell."""
    askers = [work.ask("alice", 1) for _ in range(70)]
    work.end()
    assert work.begun == [long(1)] and {asker.program for asker in askers} == {long(1).encode()}


def test_some_filters_are_remembered(work: Work) -> None:
    """The oldest is forgotten, so that memory has a bound."""
    work.go_on.set()
    for number in [*range(COMPILED_FILTERS_KEPT + 1), 1, 0]:
        asker: Any = SimpleNamespace(user="alice", gone=False)
        work.compiler.compile(ETHERNET, "eth0", long(number), asker)  # type: ignore[arg-type]
    assert work.begun[-2:] == [long(COMPILED_FILTERS_KEPT), long(0)]


def test_who_has_left_does_not_wait_for_a_turn(work: Work) -> None:
    """An abandoned opening frees its thread, and its filter is never compiled."""
    work.ask("alice", 1)
    wait_until(lambda: work.begun == [long(1)], "the first one")
    second = work.ask("alice", 2)
    second.gone = True
    wait_until(lambda: len(work.failed) == 1, "the second one gives up")
    work.end()
    assert work.begun == [long(1)] and "given up" in str(work.failed[0])


def test_a_turn_that_does_not_come_in_time(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that does not come in time is an error with the reason."""
    monkeypatch.setattr(compiling, "FILTER_TURN_TIMEOUT", 0.05)
    work.ask("alice", 1)
    wait_until(lambda: work.begun == [long(1)], "the first one")
    work.ask("alice", 2)
    wait_until(lambda: len(work.failed) == 1, "the second one gives up")
    assert "busy compiling other long filters" in str(work.failed[0])


def test_a_long_filter_becomes_the_program_that_libpcap_would_attach() -> None:
    """A long filter compiled through ctypes equals the program of the capture's own handle."""
    if os.geteuid() != 0:
        pytest.skip("captures need root")
    reader = compiling.pcapy.create("lo")
    reader.set_snaplen(SNAPLEN_MAX)
    reader.activate()
    text = " or ".join(f"vlan {number} and inbound" for number in range(1, 20))
    assert len(text) > FILTER_QUICK
    asker: Any = SimpleNamespace(user="alice", gone=False)
    program = FilterCompiler().compile(reader, "lo", text, asker)
    reader.setfilter(text)
    assert program == kernelfilter.attached(reader.getfd())
    with pytest.raises(BadFilter, match="syntax error"):
        FilterCompiler().compile(reader, "lo", text + " and and", asker)
    reader.close()
