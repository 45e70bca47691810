"""The screens in docs/for-app-developers.rst: ``python -m tests.screens`` makes them anew.

What a user sees is made by pcapctl's own code, from captures that are made up here, so
that the same sources give the same text.  ``--check`` only says whether it is so.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import tempfile
from pathlib import Path
from typing import Callable, Sequence

from demo.processes import ROOT
from pcapd.ctl.display import report
from pcapd.ctl.display.progress import Meter, Totals, view
from pcapd.ctl.display.table import Look, places, render
from pcapd.ctl.options import CaptureOptions, CaptureTarget
from pcapd.ctl.sinks.inventory import Written
from pcapd.ctl.sinks.opening import Sinks
from pcapd.ctl.stream.session import CaptureSession
from pcapd.merge.muxer import Muxer
from pcapd.savefile.form import Form
from pcapd.wire import App, Source, Stats

DOCUMENT = ROOT / "docs" / "for-app-developers.rst"

_LOOK = Look(80, 24, color=False)
_GUID = "1cb006ee-fb05-47e1-b541-c34179ddc446"
_FILTER = "(not (host 10.0.1.12 and tcp port 9494)) and (tcp port 8080)"
_SAMPLES = 9
_HALF = 0.5  # seconds between samples


class Scene:
    """A capture of an app, some seconds after its start.

    Args:
        instances: That are captured.
        rate: Packets per second of an instance at a time in seconds.
        options: As on the command line.
    """

    def __init__(
        self, instances: Sequence[int], rate: Callable[[int, float], int], options: CaptureOptions
    ) -> None:
        self.options = options
        self.wanted = CaptureTarget(app=App(_GUID), name="myapp")
        self.muxer = Muxer(Form.PCAPNG, options.snaplen)
        self.capture = CaptureSession(options.request(self.wanted), self.muxer, options.duration, 0.0)
        self.capture.started = 0.0
        self.meter = Meter()
        for index in instances:
            clock = 1200 - 350 * (index % 7)
            source = Source(
                f"myapp/{index}",
                "eth0",
                1,
                options.snaplen,
                _FILTER,
                agent="diego-cell/0",
                clock_offset_us=clock,
            )
            self.muxer.source(index + 1, source, 0)
        self.accounts = self.muxer.accounts
        for sample in range(_SAMPLES):
            self.meter.sample(self.accounts, sample * _HALF)
            for number, account in self.accounts.items():
                packets = int(rate(number - 1, sample * _HALF) * _HALF)
                self.count(number, packets, 0)
                account.bytes += packets * 640
                account.written += packets
        self.seconds = _SAMPLES * _HALF
        self.meter.sample(self.accounts, self.seconds)

    def count(self, number: int, packets: int, dropped: int, *, final: bool = False) -> None:
        """More packets of a source, and how many were dropped."""
        account = self.accounts[number]
        received, gone = account.stats.received + packets + dropped, account.stats.dropped_kernel + dropped
        account.received += packets
        account.stats = Stats(received, gone, 0, received - gone, 0, final=final)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return 2000 + sum(account.bytes for account in self.accounts.values())

    def before(self) -> list[str]:
        """What stands above the table."""
        return report.plan(self.options, self.wanted)

    def table(self, look: Look = _LOOK, findings: str = "") -> list[str]:
        """The table at this moment.

        Args:
            findings: See `Totals`.
        """
        progress = Totals(
            self.seconds,
            self.options.duration,
            self.size,
            self.options.max_bytes,
            self.capture.written,
            self.options.count,
            self.capture.awaited,
            self.capture.reason,
            findings=findings,
        )
        shown = view(self.accounts, self.capture.failed, self.meter, progress, places(look))
        return [line.text for line in render(shown, look)]

    def after(self) -> list[str]:
        """The report."""
        for number in self.accounts:
            self.count(number, 0, 0, final=True)
        assert self.options.duration is not None
        self.capture.reason = f"{self.options.duration:g} s are over"
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / self.options.output
            sinks = Sinks(dataclasses.replace(self.options, output=str(path)), self.muxer.closing)
            sinks.inventory.kept.append(Written(str(path), ""))
            sinks.inventory.size = self.size
            lines = report.as_text(self.capture, sinks, self.options.duration, self.options)
            return [line.replace(f"{directory}/", "") for line in lines]


def few() -> Scene:
    """Three instances, of which one is not captured, and one drops packets."""
    options = CaptureOptions(
        "myapp.pcapng", Form.PCAPNG, "tcp port 8080", duration=30.0, max_bytes=100_000_000
    )
    scene = Scene((0, 1), lambda index, at: 400 * (index + 1) + int(at * 130) % 330, options)
    scene.count(2, 0, 12)
    scene.capture.failed["myapp/2"] = None
    return scene


def many() -> Scene:
    """200 instances."""
    options = CaptureOptions("myapp.pcapng", Form.PCAPNG)
    scene = Scene(range(200), lambda index, at: 20 + (index * 37 + int(at * 7) * 11) % 90, options)
    scene.count(43, 0, 7)
    return scene


def screens() -> dict[str, list[str]]:
    """The lines of each screen by its name in the document."""
    scene, crowd = few(), many()
    failure = "myapp/2: is CRASHED"
    return {
        "table": [*scene.before(), failure, *scene.table()],
        "many": crowd.table(),
        "report": scene.after(),
    }


def updated(document: str) -> str:
    """The document with its screens made anew.

    Raises:
        LookupError: It does not have the place of each screen exactly once.
    """
    for name, lines in screens().items():
        begin, end = (
            rf"\.\. screen {name}, made by python -m tests\.screens\n\n::\n\n",
            r"\.\. end of the screen\n",
        )
        block = "".join(f"    {line}".rstrip() + "\n" for line in lines)
        document, count = re.subn(
            f"({begin}).*?(\n{end})", lambda match, block=block: match[1] + block + match[2], document, flags=re.DOTALL
        )  # fmt: skip
        if count != 1:
            raise LookupError(f"screen {name} has {count} places")
    return document


def main() -> None:
    """Write, or check."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.screens", description="Make the screens in the docs."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when something would change"
    )
    check = parser.parse_args().check
    document = DOCUMENT.read_text()
    fresh = updated(document)
    if check and fresh != document:
        sys.exit(f"{DOCUMENT.name}: its screens are old: python -m tests.screens")
    DOCUMENT.write_text(fresh)


if __name__ == "__main__":
    main()
