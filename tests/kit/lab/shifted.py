"""tcpdump on a host whose clock is wrong: the real one, with other times in its output.

::

    python -m tests.kit.lab.shifted MICROSECONDS TCPDUMP [argument...]

The kernel's clock cannot be set for one namespace.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from pcapd.records import shift
from pcapd.savefile.pcap import FILE_HEADER_SIZE
from pcapd.savefile.stream import PcapStream


def main(us: int, *command: str) -> int:
    """Run it to its end, pass its signals on, and change the times."""
    if "-w" not in command:
        os.execv(command[0], command)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda number, _: process.send_signal(number))
        assert process.stdout is not None
        stream = PcapStream()
        header = process.stdout.read(FILE_HEADER_SIZE)
        _write(header)
        for _ in stream.feed(header):
            pass
        while data := os.read(process.stdout.fileno(), 1024 * 1024):
            for made in stream.feed(data):
                _write(shift(made.batch, us))
    return process.returncode


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), *sys.argv[2:]))
