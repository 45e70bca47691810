"""The stage of a scenario: a client, a server, and a wire with faults between them, captured at both ends."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Iterator, Optional

from demo import offloads
from demo.namespaces import Namespace
from demo.processes import wait_until
from tests.kit.lab import faulty
from tests.kit.lab.inside import inside

CLIENT, SERVER = "10.98.0.1", "10.98.0.2"
#: KiB; with less, tcpdump loses packets when the test machine is busy.
CAPTURE_BUFFER = "32768"


class Stage:
    """Both hosts, the wire and the captures.

    Args:
        directory: Of the captures.
        seed: Of all that is drawn.
        faults: Rules of `tests.kit.lab.faulty`.
    """

    def __init__(self, directory: Path, seed: int, faults: list[dict[str, Any]]) -> None:
        self.draw = random.Random(seed)
        self._seed, self._faults = seed, faults
        self.files = [directory / "client.pcap", directory / "server.pcap"]
        self._stack = contextlib.ExitStack()
        self._threads: list[threading.Thread] = []
        self._captures: list[subprocess.Popen[bytes]] = []
        self.truth: dict[str, Any] = {}
        #: Files that are explained instead of the two, by name.
        self.looks: dict[str, list[Path]] = {}
        self.loopback = directory / "loopback.pcap"

    def __enter__(self) -> Stage:
        enter = self._stack.enter_context
        self.client, self.middle, self.server = (enter(Namespace.unique(name)) for name in ("c", "m", "s"))
        for host, side, address in ((self.client, "left", CLIENT), (self.server, "right", SERVER)):
            host.ip("link", "add", "eth0", "type", "veth", "peer", "name", side, "netns", self.middle.name)
            host.ip("link", "set", "eth0", "addrgenmode", "none")
            host.ip("address", "add", f"{address}/24", "dev", "eth0")
            self.middle.ip("link", "set", side, "addrgenmode", "none")
            self.middle.ip("link", "set", side, "up")
            host.ip("link", "set", "eth0", "up")
            host.run(sys.executable, offloads.__file__, "eth0")
        self._wire = self.middle.popen(
            sys.executable, faulty.__file__, "left", "right", json.dumps(self._faults), str(self._seed),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._wire.stdout is not None and self._wire.stdout.readline() == "ready\n"
        macs = [
            json.loads(host.ip("-j", "link", "show", "eth0"))[0]["address"]
            for host in (self.client, self.server)
        ]
        self.client.ip("neigh", "add", SERVER, "lladdr", macs[1], "dev", "eth0")
        self.server.ip("neigh", "add", CLIENT, "lladdr", macs[0], "dev", "eth0")
        for host, file in zip((self.client, self.server), self.files):
            self._capture(host, file)
        return self

    def capture_loopback(self) -> None:
        """Capture what the server's processes say to each other too."""
        self._capture(self.server, self.loopback, "lo")

    def capture_middle(self) -> None:
        """Capture on all interfaces of the middle too: each packet comes and goes."""
        file = self.files[0].with_name("middle.pcap")
        self._capture(self.middle, file, "any")
        both = self.files
        self.looks = {"both": [*both, file], "client": both[:1], "server": both[1:], "middle": [file]}

    def _capture(self, host: Namespace, file: Path, device: str = "eth0") -> None:
        process = host.popen(
            "tcpdump", "-U", "-n", "-B", CAPTURE_BUFFER, "-s", "65535", "-Z", "root", "--immediate-mode",
            "-i", device, "-w", str(file),
            stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None and any(b"listening" in line for line in process.stderr)
        self._captures.append(process)

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        time.sleep(0.15)  # what is on its way
        for process in self._captures:
            process.send_signal(signal.SIGINT)
            process.wait(10)
        self._wire.terminate()
        with contextlib.suppress(ValueError, OSError):
            self.truth = json.loads(self._wire.communicate(timeout=10)[0] or "{}")
        self._stack.close()

    def done(self, name: str) -> int:
        """How often a fault happened."""
        return sum(rule["count"] for rule in self.truth.get("rules", []) if rule["name"] == name)

    # --- traffic -----------------------------------------------------------------

    def serve(
        self, handle: Callable[[socket.socket], None], port: int = 8080, *, address: str = SERVER
    ) -> None:
        """Accept connections at the server; `handle` gets each in a thread of its own."""
        ready = threading.Event()

        def run() -> None:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(64)
            ready.set()
            while True:
                one, _ = listener.accept()
                self._threads.append(inside(self.server, _quietly, handle, one))

        inside(self.server, run)
        assert ready.wait(5)

    def serve_udp(self, handle: Callable[[socket.socket, bytes, Any], None], port: int) -> None:
        """Answer datagrams at the server."""
        ready = threading.Event()

        def run() -> None:
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.bind((SERVER, port))
            ready.set()
            while True:
                data, peer = one.recvfrom(65536)
                handle(one, data, peer)

        inside(self.server, run)
        assert ready.wait(5)

    def ask(self, *functions: Callable[[], None], timeout: float = 20) -> None:
        """Run functions at the client, all at once, to their ends."""
        threads = [inside(self.client, function) for function in functions]
        for thread in threads:
            thread.join(timeout)


def _quietly(handle: Callable[[socket.socket], None], one: socket.socket) -> None:
    with contextlib.suppress(OSError), one:
        handle(one)


@contextlib.contextmanager
def connection(port: int = 8080, timeout: float = 4) -> Iterator[socket.socket]:
    """A client's connection to the server."""
    with contextlib.closing(socket.create_connection((SERVER, port), timeout)) as one:
        yield one


def read_head(one: socket.socket) -> bytes:
    """Read until the end of a head; what was read is empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = one.recv(65536)
        if not more:
            return b""
        data += more
    return data


def get(one: socket.socket, path: str = "/", extra: str = "") -> bytes:
    """Ask, and read the answer with its body."""
    one.sendall(f"GET {path} HTTP/1.1\r\nHost: app\r\n{extra}\r\n".encode())
    return read_answer(one)


def read_answer(one: socket.socket) -> bytes:
    """An answer with a Content-Length."""
    data = read_head(one)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or b"0")
    while len(body) < length:
        more = one.recv(1 << 20)
        if not more:
            break
        body += more
    return head


def answer(status: int = 200, body: bytes = b"ok", extra: str = "") -> bytes:
    """An answer of HTTP."""
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def web(reply: Callable[[int, bytes], Optional[bytes]]) -> Callable[[socket.socket], None]:
    """A server of HTTP/1.1 with keep-alive: `reply` gets each request's number and head; None closes."""

    def handle(one: socket.socket) -> None:
        number = 0
        while True:
            head = read_head(one)
            said = reply(number, head) if head else None
            if said is None:
                return
            one.sendall(said)
            number += 1

    return handle


__all__ = [
    "CLIENT", "SERVER", "Stage", "answer", "connection", "get", "inside", "read_answer", "read_head", "wait_until", "web",
]  # fmt: skip
