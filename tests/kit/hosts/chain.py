"""The whole chain for the tests: a lab with a second agent, and what is read back from files and reports."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence

from demo.configurations import LOCAL, agent_config, free_port, merged
from demo.daemons import CLIENT_TIMEOUT, Daemon, Lab
from demo.processes import wait_until
from tests.kit.lab import interfacedrops
from tests.kit.lab.generator import stamp

MIB = 1024 * 1024
#: bytes; the least that an agent's configuration takes: drops come easily.
TINY_RING = 1024 * 1024


# --- files -----------------------------------------------------------------


@dataclass
class Packet:
    """One packet of a file."""

    interface: int
    time_us: int
    length: int  # on the wire
    data: bytes
    #: epb_dropcount: lost between the one before and this one; 0 where it is not said.
    drops: int = 0


@dataclass
class Interface:
    """One interface of a pcapng file, with the counters of its last statistics block."""

    name: str
    description: str
    filter: str
    snaplen: int
    received: Optional[int] = None
    dropped_interface: Optional[int] = None
    dropped_os: Optional[int] = None
    remarks: str = ""


@dataclass
class SaveFile:
    """A pcapng file as an independent reader sees it: `read_pcapng`."""

    interfaces: list[Interface] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    statistics: int = 0
    #: Bytes behind the last whole block.
    rest: int = 0
    #: The comment of each section.
    comments: list[str] = field(default_factory=list)
    #: Number of the present section's first interface in `interfaces`.
    base: int = 0

    def of(self, name: str) -> list[Packet]:
        """The packets of the interface of that name."""
        return [packet for packet in self.packets if self.interfaces[packet.interface].name == name]

    def numbers(self, name: str) -> list[int]:
        """The generator's numbers of the packets of an interface, in the order of the file."""
        return [stamp(packet.data).number for packet in self.of(name)]

    @property
    def times(self) -> list[int]:
        """Every packet's time, in the order of the file."""
        return [packet.time_us for packet in self.packets]


def read_pcapng(path: Path) -> SaveFile:
    """Read a little-endian pcapng file block by block; shares no code with what wrote it."""
    data = path.read_bytes()
    file = SaveFile()
    offset = 0
    while len(data) - offset >= 12:
        kind, length = struct.unpack_from("<II", data, offset)
        assert length >= 12 and length % 4 == 0, f"block at {offset} has length {length}"
        if offset + length > len(data):
            break
        assert struct.unpack_from("<I", data, offset + length - 4)[0] == length, f"block at {offset}"
        _block(file, kind, data[offset + 8 : offset + length - 4])
        offset += length
    file.rest = len(data) - offset
    return file


def _block(file: SaveFile, kind: int, body: bytes) -> None:
    if kind == 6:
        interface, high, low, captured, length = struct.unpack_from("<IIIII", body)
        interface += file.base
        packet = Packet(interface, high << 32 | low, length, body[20 : 20 + captured])
        said = _options(body[20 + (captured + 3 & ~3) :]).get(4)
        packet.drops = struct.unpack("<Q", said)[0] if said else 0
        assert interface < len(file.interfaces) and len(packet.data) == captured
        file.packets.append(packet)
    elif kind == 1:
        options = _options(body[8:])
        text = {code: value.decode() for code, value in options.items() if code in (2, 3)}
        snaplen = struct.unpack_from("<I", body, 4)[0]
        filter_text = options.get(11, b"\0")[1:].decode()
        file.interfaces.append(Interface(text[2], text.get(3, ""), filter_text, snaplen))
    elif kind == 5:
        file.statistics += 1
        interface = file.interfaces[file.base + struct.unpack_from("<I", body)[0]]
        options = _options(body[12:])
        counters = {code: struct.unpack("<Q", value)[0] for code, value in options.items() if code > 1}
        interface.remarks = options.get(1, b"").decode()
        interface.received = counters.get(6)
        interface.dropped_interface = counters.get(5)
        interface.dropped_os = counters.get(7)
    elif kind == 4:
        offset = 0
        while (record := struct.unpack_from("<HH", body, offset))[0]:
            value = body[offset + 4 : offset + 4 + record[1]]
            size = 4 if record[0] == 1 else 16
            family = socket.AF_INET if record[0] == 1 else socket.AF_INET6
            file.names[socket.inet_ntop(family, value[:size])] = value[size:].rstrip(b"\0").decode()
            offset += 4 + (record[1] + 3 & ~3)
    else:
        assert kind == 0x0A0D0D0A, f"block of type {kind:#x}"
        file.base = len(file.interfaces)
        file.comments.append(_options(body[16:]).get(1, b"").decode())


def _options(data: bytes) -> dict[int, bytes]:
    options = {}
    while len(data) >= 4:
        code, length = struct.unpack_from("<HH", data)
        if code == 0:
            break
        options[code] = data[4 : 4 + length]
        data = data[4 + (length + 3 & ~3) :]
    return options


def read_pcap(path: Path) -> list[Packet]:
    """Read a little-endian pcap file of microseconds; a rest that is no whole record fails."""
    data = path.read_bytes()
    assert struct.unpack_from("<I", data)[0] == 0xA1B2C3D4
    packets = []
    offset = 24
    while offset < len(data):
        seconds, micros, captured, length = struct.unpack_from("<IIII", data, offset)
        content = data[offset + 16 : offset + 16 + captured]
        assert len(content) == captured
        packets.append(Packet(0, seconds * 1_000_000 + micros, length, content))
        offset += 16 + captured
    return packets


# --- pcapctl ----------------------------------------------------------------


@dataclass
class Result:
    """What a pcapctl with ``--json`` did."""

    status: int
    events: list[dict[str, Any]]
    stderr: str
    path: Path

    @property
    def report(self) -> dict[str, Any]:
        """The last event."""
        assert self.events and self.events[-1]["event"] == "end", f"no report: {self.stderr}"
        return self.events[-1]

    @property
    def sources(self) -> dict[str, dict[str, Any]]:
        """The report's sources by name."""
        return {source["name"]: source for source in self.report["sources"]}

    @property
    def notices(self) -> list[dict[str, Any]]:
        """What the api said on the way."""
        return [event for event in self.events if event["event"] == "notice"]

    @property
    def file(self) -> SaveFile:
        """The file, as pcapng."""
        return read_pcapng(self.path)


def assert_accounted(result: Result) -> None:
    """Every packet that a filter let through is in the file, or counted as dropped."""
    assert result.sources
    for name, source in result.sources.items():
        assert source["received"] == source["delivered"] + source["dropped_kernel"], (name, source)
        assert source["delivered"] == source["received_here"] == source["written"], (name, source)
        assert source["lost_in_transit"] == 0, (name, source)
        assert_explained(source)
        if result.path.suffix == ".pcapng" and result.path.exists():  # not where it went to stdout
            assert_drops_told(result, name)


def assert_explained(source: Mapping[str, Any]) -> None:
    """Each packet that passed the filter is in the file, left out on purpose, or lost at a place."""
    drops = source["drops"]
    left_out = source["duplicates"] + source["unwanted"]
    lost = drops["kernel"] + drops["agent"] + drops["api"] + drops["client"]
    assert source["exact"], source
    assert source["received"] == source["written"] + left_out + lost, source


def assert_drops_told(result: Result, name: str) -> None:
    """The packets of a source tell (epb_dropcount) what its interface and kernel dropped."""
    source = result.sources[name]
    told = sum(packet.drops for packet in result.file.of(name))
    drops = source["drops"]
    assert told + source["lost_after_last"] == drops["kernel"] + drops["interface"], source


class Client:
    """A running pcapctl with ``--json``; its events are read when it has ended."""

    def __init__(self, process: subprocess.Popen[Any], path: Path, output: Path, stderr: Path) -> None:
        self.process = process
        self.path = path
        self._output = output
        self._stderr = stderr

    def events(self) -> list[dict[str, Any]]:
        """What it has said so far."""
        lines = self._output.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def notices(self) -> list[dict[str, Any]]:
        """What it was told so far."""
        return [event for event in self.events() if event["event"] == "notice"]

    def packets(self) -> dict[str, int]:
        """Packets per source that it has shown so far."""
        shown = [event for event in self.events() if event["event"] == "progress"]
        return {source["name"]: source["packets"] for source in shown[-1]["sources"]} if shown else {}

    def wait_for(self, *names: str, packets: int = 0, timeout: float = 30.0) -> None:
        """Return when these sources are open (and have so many packets each)."""

        def there() -> bool:
            assert self.process.poll() is None, self._stderr.read_text()
            shown = self.packets()
            return all(shown.get(name, -1) >= packets for name in names)

        wait_until(there, f"{', '.join(names)} captured", timeout=timeout)

    def signal(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ctrl-C, or another signal."""
        self.process.send_signal(number)

    def wait(self, timeout: float = CLIENT_TIMEOUT) -> Result:
        """Wait for its end."""
        status = self.process.wait(timeout)
        return Result(status, self.events(), self._stderr.read_text(), self.path)

    def stop(self) -> Result:
        """Ctrl-C, and wait."""
        self.signal()
        return self.wait()


# --- the lab ----------------------------------------------------------------


class Chain(Lab):
    """A lab with more users and targets, and a second agent that is easily overrun or stopped.

    Targets: ``web-0`` and ``web-1`` at the agent; ``tiny-0`` and ``tiny-1``, the same
    hosts at a second agent whose rings are as small as can be; ``machine``, the
    first agent's own machine; ``gone``, a namespace that is not there; ``nobody``,
    where nobody listens; ``silent``, where somebody listens and never answers;
    ``card-1``, web-1 at a third agent, which only the test that wants it starts
    (`tests.kit.lab.interfacedrops`).
    """

    def __init__(self, directory: Path, **changes: Any) -> None:
        super().__init__(directory, **changes)
        self._serial = itertools.count()
        self.bob = secrets.token_urlsafe(24)
        self.agent.config["namespaces"]["gone"] = "/run/netns/pcapd-test-not-there"
        namespaces = {"web-0": self.web0.path, "web-1": self.web1.path}
        second = agent_config(self.authority.issue_agent("second"), free_port(), namespaces, "second")
        self.second = Daemon("agent", merged(second, {"capture": {"ring_bytes": TINY_RING}}), directory)
        third = agent_config(self.authority.issue_agent("third"), free_port(), namespaces, "third")
        self.third = Daemon("agent", third, directory)
        self.third.below = interfacedrops.COMMAND
        self._silent = socket.create_server((LOCAL, 0), backlog=64)
        place = {"host": LOCAL, "port": self.agent.port}
        tiny = {"host": LOCAL, "port": self.second.port}
        static = self.api.config["static"]
        static["users"]["bob"] = {
            "token_sha256": hashlib.sha256(self.bob.encode()).hexdigest(),
            "targets": ["web-1"],
        }
        static["targets"] |= {
            "tiny-0": {**tiny, "namespace": "web-0"},
            "tiny-1": {**tiny, "namespace": "web-1"},
            "card-1": {"host": LOCAL, "port": self.third.port, "namespace": "web-1"},
            "machine": place,
            "gone": {**place, "namespace": "gone"},
            "unknown-there": {**place, "namespace": "nowhere"},
            "nobody": {"host": LOCAL, "port": free_port()},
            "silent": {"host": LOCAL, "port": self._silent.getsockname()[1]},
        }
        self.api.config["metrics"] = {"host": LOCAL, "port": free_port()}
        self.api.config["trusted_proxies"] = [LOCAL]

    def start_daemons(self) -> None:
        """Start both agents and the api."""
        self._resources.enter_context(contextlib.closing(self._silent))
        super().start_daemons()
        self._resources.enter_context(self.second)

    def path(self, suffix: str = ".pcapng") -> Path:
        """A new file's path."""
        return self.directory / f"capture-{next(self._serial)}{suffix}"

    def begin(self, *arguments: str, suffix: str = ".pcapng", **options: Any) -> Client:
        """Start ``pcapctl hosts`` with ``--json`` into a new file (or ``--output -`` as given)."""
        path = self.path(suffix)
        output, stderr = path.with_suffix(".events"), path.with_suffix(".stderr")
        given: tuple[str, ...] = ("--json",)
        if "--output" not in arguments:
            given += ("--output", str(path))
        with output.open("wb") as out, stderr.open("wb") as err:
            streams = {"stdout": out, "stderr": err}
            if "-" in arguments:  # packets on stdout, events on stderr
                streams["stderr"] = out
            process = self.start_pcapctl("hosts", *arguments, *given, **{**streams, **options})
        return Client(process, path, output, stderr)

    def capture(self, *arguments: str, **options: Any) -> Result:
        """Run ``pcapctl hosts`` to its end."""
        return self.begin(*arguments, **options).wait()

    def settled(self) -> bool:
        """Whether no agent is busy with a capture."""
        return not any(self.promiscuity().values())

    def promiscuity(self) -> dict[str, int]:
        """How many captures want each host's interface promiscuous."""
        found = {}
        for host in (self.web0, self.web1):
            (link,) = json.loads(host.ip("-d", "-j", "link", "show", "dev", "eth0"))
            found[host.name] = int(link["promiscuity"])
        return found

    def curl(
        self, query: str, *arguments: str, token: Optional[str] = None
    ) -> subprocess.CompletedProcess[Any]:
        """Run curl on ``/capture?query`` as alice; stdout ends with the status."""
        return subprocess.run(
            self.curl_command(query, *arguments, token=token), capture_output=True, check=False, timeout=60
        )

    def curl_command(
        self, query: str, *arguments: str, token: Optional[str] = None, url: Optional[str] = None
    ) -> list[str]:
        """The command line of `curl`."""
        ca = str(self.authority.certificate_path)
        token = self.token if token is None else token
        header = ["--header", f"Authorization: bearer {token}"] if token else []
        return ["curl", "--silent", "--show-error", "--globoff", "--cacert", ca, *header, *arguments,
                f"{url or self.url}/capture?{query}"]  # fmt: skip


def ordered(times: Sequence[int]) -> bool:
    """Whether no time is before the one in front of it."""
    return all(before <= after for before, after in zip(times, times[1:]))


@contextlib.contextmanager
def chatter(lab: Lab, rate: float = 500.0) -> Iterator[None]:
    """A little UDP on both hosts' loopback interfaces, to port 9998."""
    code = (
        "import socket,time\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        f"while True: s.sendto(b'x'*64,('127.0.0.1',9998)); time.sleep({1 / rate})"
    )
    import sys

    processes = [host.popen(sys.executable, "-c", code) for host in (lab.web0, lab.web1)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def usage_of(daemons: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Descriptors and threads of processes, by name."""
    found = {}
    for name, pid in daemons.items():
        threads = len(os.listdir(f"/proc/{pid}/task"))
        found[name] = (len(os.listdir(f"/proc/{pid}/fd")), threads)
    return found


def elapsed(since: float) -> float:
    """Seconds since a moment of `time.monotonic`."""
    return time.monotonic() - since
