"""Which implementation pcapd.records takes, and that the compiled one keeps its memory tidy."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from contextlib import suppress

import pytest

from pcapd.errors import RecordError
from tests.kit.record_samples import meta, record

SHOW = "import pcapd.records; print(pcapd.records.IMPLEMENTATION, pcapd.records.pack.__module__)"


def chosen(**environment: str) -> list[str]:
    plain = {name: value for name, value in os.environ.items() if name != "PCAPD_PURE"}
    run = subprocess.run(
        [sys.executable, "-c", SHOW], env={**plain, **environment}, capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_the_environment_can_ask_for_the_reference() -> None:
    """PCAPD_PURE makes the reference run although a compiled module is there."""
    assert chosen(PCAPD_PURE="1") == ["reference", "pcapd.records._reference"]


def test_the_compiled_module_is_preferred() -> None:
    """Without PCAPD_PURE the compiled module runs where it was built."""
    pytest.importorskip("pcapd.records._native", reason="the compiled module is not built")
    assert chosen()[0] == "native"


def test_no_memory_stays_behind() -> None:
    """Thousands of calls, failing ones among them, leave neither memory nor references."""
    native = pytest.importorskip("pcapd.records._native", reason="the compiled module is not built")
    late, early = record(9, b"late"), record(5, b"early")
    broken = early + late[:-1]
    savefile = {"big_endian": False, "nanoseconds": False, "max_captured": 9, "limit": 99}

    def everything() -> None:
        native.pack(b"abcd", meta((1, 2, 0, 2), (1, 3, 2, 2)), 1, 17)
        native.check(early, 9)
        native.rows(late + early, 1, 1)
        native.from_savefile(broken, headers_of=1, **savefile)
        for call in (
            lambda: native.pack(b"abcd", meta((1, 2, 0, 2), (1, 3, 3, 2)), 1, 1),
            lambda: native.check(broken, 9),
            lambda: native.rows(broken, 1, 1),
            lambda: native.from_savefile(late, **{**savefile, "max_captured": 1}),
            lambda: native.from_savefile(late, **savefile, headers_of=2),
        ):
            with suppress(RecordError, ValueError, TypeError):
                call()

    everything()
    references = sys.getrefcount(late)
    tracemalloc.start()
    try:
        everything()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2000):
            everything()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 10_000
    assert sys.getrefcount(late) == references
