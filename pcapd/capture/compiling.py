"""Compiles filter text to the program for the kernel, without blocking the agent.

libpcap's optimizer takes more than quadratic time, and pcapy-ng holds the interpreter's lock
while libpcap compiles.  So a long text is

1. compiled in a separate process with limited processor time, as a trial (`pcapd.capture.trial`),
2. compiled in this process by libpcap through ctypes, which releases the lock,
3. cached, because all instances of an app have the same filter.

At most `limits.TRIALS_MAX` texts are tried and compiled at a time, at most one of each user; the
others wait for their turn.  Short texts are compiled directly with the handle that will
capture: the slowest known one takes 25 ms.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Protocol

import pcapy

from pcapd.capture import kernelfilter
from pcapd.capture.bpf import failing_part
from pcapd.capture.libpcap import compile_filter, libpcap_path
from pcapd.capture.trial import Trial
from pcapd.errors import BadFilter, CaptureFailed
from pcapd.limits import (
    COMPILED_FILTERS_KEPT,
    FILTER_LOOK_INTERVAL,
    FILTER_QUICK,
    FILTER_TURN_TIMEOUT,
    TRIALS_MAX,
)

__all__ = ["Asker", "FilterCompiler"]


class Asker(Protocol):
    """The requester of a filter."""

    @property
    def user(self) -> str:
        """Opaque id of the user; one filter of each user is tried at a time."""

    @property
    def gone(self) -> bool:
        """Whether the capture for which the filter is needed has ended."""


class FilterCompiler:
    """Compiles the filters of all captures of an agent.  Safe to use from several threads.

    Args:
        at_once: Number of long filters that are tried and compiled at the same time.
    """

    def __init__(self, at_once: int = TRIALS_MAX) -> None:
        self._at_once = at_once
        self._turn = threading.Condition()
        self._users: set[str] = set()
        self._programs: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        libpcap_path()  # cached: /proc/self/maps is not readable after `privileges.become`

    def compile(self, reader: pcapy.Reader, interface: str, text: str, asker: Asker) -> bytes:
        """Compile a filter for an interface in the calling thread's network namespace.  Blocks.

        Args:
            reader: An activated capture of that interface; the method may change its filter.
            interface: The interface's name.
            text: Filter text that `pcapd.capture.bpf.check_text` accepted.
            asker: The requester; the wait for a turn ends when `asker.gone` is true.

        Returns:
            The program that libpcap would attach, as instructions of struct sock_filter.

        Raises:
            BadFilter: The filter does not compile, takes too long, or is too large for the kernel.
            CaptureFailed: The filter did not get its turn in time, or its requester has left.
        """
        if len(text) <= FILTER_QUICK:
            return _compile_at_once(reader, text)
        key = (reader.datalink(), text)
        deadline = time.monotonic() + FILTER_TURN_TIMEOUT
        with self._my_turn(asker, deadline):
            program = self._programs.get(key)
            if program is None:
                _try(key[0], text)
                program = self._programs[key] = compile_filter(interface, text)
                while len(self._programs) > COMPILED_FILTERS_KEPT:
                    self._programs.popitem(last=False)
        return program

    @contextlib.contextmanager
    def _my_turn(self, asker: Asker, deadline: float) -> Iterator[None]:
        with self._turn:
            while asker.user in self._users or len(self._users) >= self._at_once:
                if asker.gone:
                    raise CaptureFailed("the capture was given up before its filter was compiled")
                if time.monotonic() >= deadline:
                    raise CaptureFailed(
                        "the agent is busy compiling other long filters",
                        "try again, or write a shorter filter",
                    )
                self._turn.wait(FILTER_LOOK_INTERVAL)
            self._users.add(asker.user)
        try:
            yield
        finally:
            with self._turn:
                self._users.remove(asker.user)
                self._turn.notify_all()


def _compile_at_once(reader: pcapy.Reader, text: str) -> bytes:
    problem = _problem(reader, text)
    if problem:
        raise _refused(problem, text, lambda piece: not _problem(reader, piece))
    return kernelfilter.attached(reader.getfd())


def _problem(reader: pcapy.Reader, text: str) -> str:
    try:
        reader.setfilter(text)
    except (pcapy.PcapError, ValueError) as error:
        return str(error) or "the filter does not compile"
    return ""


def _try(dlt: int, text: str) -> None:
    with Trial(dlt) as trial:
        problem = trial.problem(text)
        if problem:
            raise _refused(problem, text, lambda piece: not trial.problem(piece))


def _refused(problem: str, text: str, compiles: Callable[[str], bool]) -> BadFilter:
    with contextlib.suppress(BadFilter):  # raised if it takes too long to find the position
        problem += f", at: {failing_part(text, compiles)!r}"
    return BadFilter(problem, "see pcap-filter(7) for the syntax")
