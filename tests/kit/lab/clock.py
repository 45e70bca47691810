"""A wall clock of its own for one process, which a test can set.

The machine's clock is everybody's: no namespace has its own (a time namespace
shifts only the steady clocks), and to step it would disturb whatever else runs
there.  So `clock.c` is preloaded.  Time stamps of packets come from the kernel
and are not changed.

::

    clock = Clock(tmp_path / "clock")
    process = subprocess.Popen(argv, env={**os.environ, **clock.variables})
    clock.step(3600)
"""

from __future__ import annotations

import struct
from pathlib import Path

from tests.kit.lab.generator import compiled

SOURCE = Path(__file__).with_suffix(".c")


class Clock:
    """One clock; it is right until it is stepped.

    Args:
        path: A file of its own.

    Attributes:
        variables: For the environment of the processes that are to have it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(bytes(8))
        self.variables = {"LD_PRELOAD": str(compiled(SOURCE, "-shared", "-fPIC")), "LAB_CLOCK": str(path)}

    def step(self, seconds: float) -> None:
        """Set it so far ahead of the right time, or back behind it."""
        with self._path.open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", int(seconds * 1e9)))
