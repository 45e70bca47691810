"""Many captures at once, and a slow client beside a fast one: generator → agent → api → pcapctl."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Iterator

from demo.daemons import Lab
from demo.processes import end, usage, wait_until
from tests.kit.lab.generator import FILTER, Generator

__all__ = ["Capture", "Download", "beside", "concurrent", "excess"]

_RAM = "/dev/shm"
_MIB = 2**20
_SETTLE = 0.5  # seconds until what has ended is closed
_SIZE = 100  # bytes of a packet
_PCAP_HEADER, _PCAP_RECORD = 24, 16
#: Each capture has a ring of its own.
_RING = "4MB"
#: bytes per turn and seconds between them, of a reader of 100 kB/s.
_SIP, _PAUSE = 10_000, 0.1


class Capture:
    """A running ``pcapctl hosts --json``, whose events go to a file: a pipe would fill up in a long run.

    Args:
        lab: Where.
        name: Of that file.
        arguments: Of ``pcapctl hosts``.
        options: Of ``subprocess.Popen``.
    """

    def __init__(self, lab: Lab, name: str, *arguments: str, **options: Any) -> None:
        self._events = lab.directory / f"{name}.events"
        self._stderr = lab.directory / f"{name}.stderr"
        with self._events.open("wb") as events, self._stderr.open("wb") as stderr:
            streams = {"stdout": events, "stderr": stderr}
            if "stdout" in options:  # packets go there, and events to stderr
                streams["stderr"] = events
            self.process = lab.start_pcapctl("hosts", *arguments, "--json", **{**streams, **options})

    def events(self) -> list[dict[str, Any]]:
        """What it has said so far."""
        lines = self._events.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def sources(self) -> list[dict[str, Any]]:
        """The sources that it has shown last."""
        shown = [event for event in self.events() if event["event"] == "progress"]
        return shown[-1]["sources"] if shown else []

    def check(self) -> None:
        """Fail, with what it said last, when it has ended."""
        status = self.process.poll()
        if status is not None:
            said = "".join(self._events.read_text().splitlines(keepends=True)[-3:])
            raise AssertionError(f"pcapctl ended with {status}: {said}{self._stderr.read_text()}")

    def wait_for(self, sources: int = 1, *, packets: int = 0, timeout: float = 60.0) -> None:
        """Return when so many sources are open, and so many packets of all are here or counted as dropped."""

        def there() -> bool:
            self.check()
            shown = self.sources()
            return (
                len(shown) >= sources
                and sum(source["packets"] + source["dropped"] for source in shown) >= packets
            )

        wait_until(there, f"{sources} sources, {packets} packets", timeout=timeout)

    def wait(self, timeout: float = 60.0) -> dict[str, Any]:
        """Wait for its end, and return its report."""
        self.process.wait(timeout)
        last: dict[str, Any] = self.events()[-1]
        assert last["event"] == "end", last
        return last

    def stop(self) -> dict[str, Any]:
        """Ctrl-C, and the report."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()


def excess(report: dict[str, Any]) -> int:
    """Packets that the report cannot account for: neither written nor dropped at a place it names."""
    return sum(
        abs(source["received"] - source["written"] - source["dropped_kernel"]) + source["lost_in_transit"]
        for source in report["sources"]
    )


@contextlib.contextmanager
def _lab(captures: int) -> Iterator[Lab]:
    agent = {"capture": {"max_captures": captures, "ring_bytes": _RING}}
    api = {"limits": {"concurrent_captures": captures, "per_user": captures}}
    with (
        tempfile.TemporaryDirectory(dir=_RAM) as directory,
        Lab(Path(directory), agent=agent, api=api) as lab,
    ):
        yield lab


class Download:
    """A running curl, which costs a fifth of what a pcapctl costs to start."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._path = lab.directory / f"{name}.pcap"
        ca = str(lab.authority.certificate_path)
        query = f"target=web-1&filter={FILTER.replace(' ', '+')}"
        header = f"Authorization: bearer {lab.token}"
        options = ("--silent", "--no-buffer", "--cacert", ca, "--header", header, "--output", str(self._path))
        self._process = subprocess.Popen(["curl", *options, f"{lab.url}/capture?{query}"])

    def packets(self, each: int = _SIZE) -> int:
        """Packets of so many bytes in its file."""
        size = self._path.stat().st_size if self._path.exists() else 0
        return max(0, size - _PCAP_HEADER) // (_PCAP_RECORD + each)

    def leave(self) -> None:
        """Go without a word."""
        end(self._process)


def concurrent(captures: int, rate: int, seconds: float, *, downloads: int = 0) -> dict[str, Any]:
    """So many captures of the same interface at once: each must get every packet.

    Args:
        captures: One more is tried, and must be refused.
        rate: Packets per second, of 100 bytes, that each of them is to get.
        seconds: For so long.
        downloads: Of the captures, how many are curl's; the others are a pcapctl each.
    """
    arguments = ("web-1", "--output", "/dev/null", "--filter", FILTER)
    with _lab(captures) as lab:
        # The first one makes what is made only once.
        Capture(lab, "first", *arguments, "--duration", "100ms").wait()
        time.sleep(_SETTLE)
        pids = {"agent": lab.agent.pid, "api": lab.api.pid}
        idle = {name: usage(pid).fds for name, pid in pids.items()}
        already = _begun(lab)
        began = time.monotonic()
        curls = [Download(lab, f"download-{number}") for number in range(downloads)]
        running = [Capture(lab, f"capture-{number}", *arguments) for number in range(captures - downloads)]
        try:
            wait_until(lambda: _begun(lab) == already + captures, "every capture has begun", timeout=60)
            opened = time.monotonic() - began
            refused = Capture(lab, "refused", *arguments).wait()
            before = {name: usage(pid) for name, pid in pids.items()}
            with Generator(lab.link, size=_SIZE, rate=rate, count=int(rate * seconds)) as generator:
                sent = generator.wait()
            for capture in running:
                capture.wait_for(packets=sent.sent)
            # Nothing tells a download's end but its packets: that they are missing is the result.
            with contextlib.suppress(AssertionError):
                wait_until(
                    lambda: all(curl.packets() >= sent.sent for curl in curls), "downloads", timeout=10
                )
            after = {name: usage(pid) for name, pid in pids.items()}
            reports = [capture.stop() for capture in running]
        finally:
            for curl in curls:
                curl.leave()

        def left() -> dict[str, int]:
            return {name: usage(pid).fds - idle[name] for name, pid in pids.items()}

        with contextlib.suppress(AssertionError):
            wait_until(lambda: not any(left().values()), "every descriptor is closed", timeout=5)
        leaked = left()
        written = [source["written"] for report in reports for source in report["sources"]]
        written += [curl.packets() for curl in curls]
    cpu = {name: after[name].cpu - before[name].cpu for name in after}
    rss = {name: after[name].peak_rss / _MIB for name in after}
    lost = sum(sent.sent - each for each in written)
    return {
        "what": "clients",
        "captures": len(written),
        "rate": sent.rate,
        "sent": sent.sent,
        "lost": lost,
        "excess": sum(excess(report) for report in reports),
        "exit_statuses": sorted({report["exit_status"] for report in reports}),
        "refused": refused["error"],
        "opened_seconds": opened,
        "cpu_seconds": cpu,
        "peak_rss_mib": rss,
        "leaked_descriptors": leaked,
        "text": (
            f"clients: {len(written)} captures of {sent.rate:.0f} packets/s each, open after {opened:.1f} s: "
            f"lost {lost} of {captures * sent.sent}; CPU agent {cpu['agent']:.1f} s, api {cpu['api']:.1f} s "
            f"for {sent.seconds:.1f} s; peak MiB: agent {rss['agent']:.0f}, api {rss['api']:.0f}; "
            f"one more is refused: {refused['error']}; descriptors left: {sum(leaked.values())}"
        ),
    }


def _begun(lab: Lab) -> int:
    return sum("capturing" in record["message"] for record in lab.agent.records())


def beside(size: int, rate: int, seconds: float) -> dict[str, Any]:
    """A client that reads 100 kB/s beside one that keeps up, at the same interface, agent and api.

    Args:
        size: Bytes of a packet.
        rate: Packets per second.
        seconds: For so long.
    """
    read_fd, write_fd = os.pipe()
    done = threading.Event()
    reader = threading.Thread(target=_sip, args=(read_fd, done))
    with _lab(2) as lab:
        arguments = ("web-1", "--filter", FILTER)
        fast = Capture(lab, "fast", *arguments, "--output", "/dev/null")
        slow = Capture(lab, "slow", *arguments, "--output", "-", stdout=write_fd)
        os.close(write_fd)
        reader.start()
        fast.wait_for()
        slow.wait_for()
        with Generator(lab.link, size=size, rate=rate, seconds=seconds) as generator:
            sent = generator.wait().sent
        fast.wait_for(packets=sent)
        rss = {"agent": lab.agent.usage().peak_rss / _MIB, "api": lab.api.usage().peak_rss / _MIB}
        fast_report = fast.stop()
        slow.process.send_signal(signal.SIGINT)
        done.set()  # the rest is read at once
        slow_report = slow.wait()
        reader.join()
    fast_lost = sum(sent - source["written"] for source in fast_report["sources"])
    (source,) = slow_report["sources"]
    return {
        "what": "beside",
        "sent": sent,
        "fast_lost": fast_lost,
        "fast_late": sum(source["late"] for source in fast_report["sources"]),
        "fast_dropped": sum(source["dropped_kernel"] for source in fast_report["sources"]),
        "fast_excess": excess(fast_report),
        "fast_status": fast_report["exit_status"],
        "slow_lost": sent - source["written"],
        "slow_dropped": source["dropped_kernel"],
        "slow_excess": excess(slow_report),
        "slow_status": slow_report["exit_status"],
        "peak_rss_mib": rss,
        "text": (
            f"a slow client (100 kB/s) beside a fast one, {size} B, {rate} packets/s: the fast one lost "
            f"{fast_lost} of {sent}; the slow one {sent - source['written']}, of which "
            f"{source['dropped_kernel']} are counted in its report; "
            f"peak MiB: agent {rss['agent']:.0f}, api {rss['api']:.0f}"
        ),
    }


def _sip(fd: int, done: threading.Event) -> None:
    while os.read(fd, _SIP if not done.is_set() else _MIB):
        done.wait(_PAUSE)
    os.close(fd)
