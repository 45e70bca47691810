"""Filters that libpcap takes long for are refused by a process that can be stopped."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest

from pcapd.errors import BadFilter
from pcapd.limits import FILTER_COMPILE_TIMEOUT, FILTER_MAX

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")

from pcapd.capture import trial as trial_module
from pcapd.capture.trial import Trial

ETHERNET = 1
#: Takes libpcap 1.10 some 11 s.
SLOW = " or ".join(f"portrange {number}-{number + 5}" for number in range(220))


def children() -> set[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return set(file.read().split())


def test_good_and_bad_filters() -> None:
    """One trial process answers for good and bad filters, with libpcap's message."""
    with Trial(ETHERNET) as trial:
        assert trial.problem("inbound and tcp port 80") == ""
        assert trial.problem("vlan 7 and ip") == ""
        assert "syntax error" in trial.problem("tcp and and")
        assert trial.problem(" or ".join(f"host 192.0.2.{n}" for n in range(100))) == ""


def test_another_link_type() -> None:
    """The trial uses the link type of its request."""
    with Trial(113) as trial:
        assert "ethernet addresses supported only" in trial.problem("ether host 00:11:22:33:44:55")
        assert trial.problem("ip host 192.0.2.1") == ""


def test_a_filter_that_takes_too_long() -> None:
    """A filter that takes too long is refused in bounded time, and no process stays behind."""
    assert len(SLOW) < FILTER_MAX
    before = children()
    began = time.process_time()
    with Trial(ETHERNET, seconds=0.2) as trial:
        with pytest.raises(BadFilter, match="takes too long to compile"):
            trial.problem(SLOW)
        with pytest.raises(BadFilter, match="takes too long to compile"):  # it is gone by now
            trial.problem("ip")
    assert children() == before
    assert time.process_time() - began < FILTER_COMPILE_TIMEOUT


def test_a_process_that_does_not_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial process that does not answer in time, on a busy machine, refuses the filter."""
    monkeypatch.setattr(trial_module, "FILTER_COMPILE_TIMEOUT", 0.01)
    late = "import sys, time\nfor _ in sys.stdin: time.sleep(0.3), print('\"\"', flush=True)"
    monkeypatch.setattr(trial_module, "_PROGRAM", late)
    with Trial(ETHERNET) as trial, pytest.raises(BadFilter, match="takes too long to compile"):
        trial.problem("ip")


def test_a_process_that_ends_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial process that ends without an answer is noticed at once."""
    reads: list[bytes] = []

    def read(fd: int, size: int) -> bytes:
        reads.append(os.read(fd, size))
        assert len(reads) < 100
        return reads[-1]

    monkeypatch.setattr(trial_module, "os", SimpleNamespace(read=read))
    monkeypatch.setattr(trial_module, "_PROGRAM", "input()")
    with Trial(ETHERNET) as trial, pytest.raises(BadFilter, match="takes too long to compile"):
        trial.problem("ip")
    assert reads == [b""]
