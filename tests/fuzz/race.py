"""Merge a batch that another thread changes meanwhile; as a program, with the module that is fuzzed."""

from __future__ import annotations

import itertools
import struct
import sys
import threading
from typing import Any

from pcapd.errors import RecordError
from pcapd.merge import Source

__all__ = ["CHANGES", "race"]

#: What is changed: offset in the first record, the other value, and what a merge says to it.
CHANGES = {"time": (0, 9, RuntimeError), "length": (8, 2**32 - 1, RecordError)}


def race(native: Any, what: str) -> int:
    """How often a merge was refused, because the batch was not what it had been.

    Args:
        native: The compiled module of `pcapd.merge`.
        what: One of `CHANGES`.
    """
    at, value, refusal = CHANGES[what]
    # Many, so that the other thread asks for its turn while merge is at work.
    records = [struct.pack("<4I3s", 1, 0, 3, 3, b"due"), *[struct.pack("<4I", 1, 1, 0, 0)] * 20_000]
    batch = bytearray(b"".join([*records, struct.pack("<4I5s", 9, 0, 5, 5, b"later")]))
    states = bytes(batch[at : at + 4]), struct.pack("<I", value)
    over = threading.Event()

    def change() -> None:
        for state in itertools.cycle(states):  # Python switches threads between two turns only
            batch[at : at + 4] = state
            if over.is_set():
                break

    thread = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    refused = 0
    try:
        for _ in range(1000):
            batch[at : at + 4] = states[0]
            try:
                merged = native.merge([Source(0, [batch])], 5_000_000, 0, 0, 2**62, 2**62)
                assert len(merged.data) + len(merged.rests[0]) == len(batch)
            except refusal:
                refused += 1
            if refused == 10:
                break
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)
    return refused


if __name__ == "__main__":
    from tests.fuzz.targets import NATIVE_MODULES

    print({what: race(NATIVE_MODULES["merge"], what) for what in CHANGES})
