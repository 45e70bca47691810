"""Capture sources on real interfaces of real namespaces: counted to the packet, left clean."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Iterator, TypeVar

import pytest

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")
if os.geteuid() != 0:
    pytest.skip("captures and namespaces need root", allow_module_level=True)

from demo.namespaces import Link, Namespace, connect, remove_stale
from demo.processes import ROOT, CommandFailed, wait_until
from pcapd.capture import compiling, interfaces, kernelfilter, source
from pcapd.capture.compiling import FilterCompiler
from pcapd.capture.exclusion import Connection, OwnTraffic
from pcapd.capture.interfaces import Interface, InterfaceWatch, addresses_here, way_to
from pcapd.capture.libpcap import libpcap_version
from pcapd.capture.namespaces import enter, identity, is_network_namespace, is_ours, open_namespace
from pcapd.capture.source import CaptureSource, Filter, open_source
from pcapd.capture.trial import Trial
from pcapd.errors import BadFilter, CaptureFailed, NamespaceGone, NoSuchInterface
from pcapd.limits import BATCH_PACKETS, RING_BYTES, RING_LAG
from pcapd.records import pack
from tests.lab import generator
from tests.lab.generator import Generator

T = TypeVar("T")

HERE = Path("/proc/self/ns/net")

#: Smaller than libpcap makes it anyway: the ring gets its least size.
TINY_RING = 4096


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    """Two hosts on a wire; tests send from the left one and mostly capture on the right one."""
    remove_stale()
    with Namespace.unique("left") as left, Namespace.unique("right") as right:
        yield connect(left, right)


def inside(namespace: Namespace, function: Callable[[], T]) -> T:
    """Run a function in a namespace, on a thread of its own as the agent does."""
    results: list[Any] = []

    def run() -> None:
        try:
            enter(str(namespace.path))
            results.append(function())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


class Capture:
    """A source in a namespace, and what was read from it."""

    def __init__(
        self, namespace: Namespace, device: str = "eth0", *, start: bool = True, **options: Any
    ) -> None:
        wanted = Filter(
            options.pop("filter_text", generator.FILTER), options.pop("own", ()), options.pop("never", ())
        )
        settings = {
            "snaplen": 262144,
            "ring_bytes": RING_BYTES,
            "promiscuous": False,
            "compiler": FilterCompiler(),
            "asker": SimpleNamespace(user="alice", gone=False),
            **options,
        }
        self.source: CaptureSource = inside(namespace, lambda: open_source(device, wanted, **settings))
        if start:
            self.source.start()
        self.packets: list[bytes] = []

    def read(self) -> int:
        """Read until the ring is empty; returns how many packets there were."""
        before = len(self.packets)
        while True:
            data, meta = self.source.read(BATCH_PACKETS)
            if not meta:
                return len(self.packets) - before
            for payload in pack(data, meta, self.source.snaplen, 262144):
                self.packets += _records(payload)

    def stop(self) -> None:
        """Let nothing more in and read what is there, as a drain does."""
        self.source.stop()
        deadline = time.monotonic() + 2 * RING_LAG
        while self.read() or time.monotonic() < deadline:
            time.sleep(RING_LAG / 10)

    def read_for(self, seconds: float) -> None:
        """Read for a while without stopping."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.read()
            time.sleep(0.005)

    @property
    def ports(self) -> set[int]:
        """TCP ports of the packets, of both ends; they are Ethernet and IPv4 without options."""
        return {int.from_bytes(packet[at : at + 2], "big") for packet in self.packets for at in (34, 36)}

    @property
    def numbers(self) -> list[int]:
        """Of the generated packets, in the order in which they were read."""
        return [generator.stamp(packet).number for packet in self.packets]

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()


def _records(payload: bytes) -> list[bytes]:
    packets, at = [], 0
    while at < len(payload):
        end = at + 16 + int.from_bytes(payload[at + 8 : at + 12], "little")
        packets.append(payload[at + 16 : end])
        at = end
    return packets


# --- exact counting ------------------------------------------------------------


def test_every_packet_is_delivered_once_and_counted(link: Link) -> None:
    """What was sent is what the filter received is what was read, each packet once, in order."""
    with Capture(link.right.namespace) as capture:
        with Generator(link, rate=20_000, count=3000) as sender:
            while capture.read() or len(capture.packets) == 0:
                time.sleep(0.01)
            report = sender.wait()
        capture.stop()
        assert capture.source.counters() == (report.sent, 0, 0)
        assert capture.numbers == list(range(report.sent))


def test_a_flood_into_a_full_ring_is_counted_to_the_packet(link: Link) -> None:
    """Received is delivered plus dropped also when nobody reads and most packets are dropped."""
    with Capture(link.right.namespace, ring_bytes=TINY_RING) as capture:
        with Generator(link, count=60_000) as sender:
            report = sender.wait()
        capture.stop()
        received, dropped, _ = capture.source.counters()
        assert dropped > 0
        assert received == report.sent == len(capture.packets) + dropped
        assert len(set(capture.numbers)) == len(capture.numbers)


def test_a_flood_that_is_read_too_slowly_is_counted_to_the_packet(link: Link) -> None:
    """Reading now and then, while the ring overflows again and again, changes nothing in the sum."""
    with Capture(link.right.namespace, ring_bytes=TINY_RING) as capture:
        with Generator(link, count=60_000) as sender:
            for _ in range(8):
                time.sleep(0.01)
                capture.read()
            report = sender.wait()
        capture.stop()
        received, dropped, _ = capture.source.counters()
        assert received == report.sent == len(capture.packets) + dropped


def test_the_filter_is_in_force_from_the_first_packet(link: Link) -> None:
    """Opened in the middle of other traffic, a capture neither counts nor delivers any of it."""
    with Generator(link, rate=50_000):
        for _ in range(3):
            with Capture(link.right.namespace, filter_text="icmp or arp") as capture:
                capture.stop()
                assert capture.source.counters().received == len(capture.packets) == 0


def test_a_capture_in_the_middle_of_traffic_has_no_gap(link: Link) -> None:
    """From its first packet to its last one a capture holds every packet that was sent between them."""
    with Generator(link, rate=20_000) as sender:
        with Capture(link.right.namespace) as capture:
            time.sleep(0.1)
            capture.read()
            time.sleep(0.1)
            capture.stop()
            received, dropped, _ = capture.source.counters()
            assert received == len(capture.packets) > 0 and dropped == 0
            first, last = capture.numbers[0], capture.numbers[-1]
            assert capture.numbers == list(range(first, last + 1))
        sender.stop()


def test_nothing_gets_in_before_start(link: Link) -> None:
    """A ring of blocks of 4 ms would be full after such a time; nothing of it is seen, counted or dropped."""
    with Generator(link, rate=2000) as sender:
        with Capture(link.right.namespace, start=False) as capture:
            time.sleep(1)
            assert capture.read() == 0 and capture.source.counters() == (0, 0, 0)
            capture.source.start()
            time.sleep(0.1)
            capture.stop()
            received, dropped, _ = capture.source.counters()
            assert received == len(capture.packets) > 0 and dropped == 0
            assert capture.numbers[0] > 1000
        sender.stop()


def test_nothing_gets_in_after_stop(link: Link) -> None:
    """Once stopped and drained, the counters stand still and the ring stays empty, whatever passes."""
    with Generator(link, rate=20_000) as sender:
        with Capture(link.right.namespace) as capture:
            time.sleep(0.05)
            capture.stop()
            final = capture.source.counters()
            time.sleep(0.1)
            assert capture.read() == 0
            assert capture.source.counters() == final
        sender.stop()


def test_what_waits_in_the_ring_can_be_read_after_stop(link: Link) -> None:
    """Stopping does not throw away what nobody has read yet."""
    with Capture(link.right.namespace) as capture:
        with Generator(link, rate=50_000, count=500) as sender:
            sender.wait()
        capture.stop()
        assert capture.numbers == list(range(500))


def test_a_restart_of_counting_does_not_see_the_capture_before(link: Link) -> None:
    """Each capture counts from zero."""
    for count in (10, 20):
        with Capture(link.right.namespace) as capture:
            with Generator(link, rate=10_000, count=count) as sender:
                sender.wait()
            capture.stop()
            assert capture.source.counters().received == len(capture.packets) == count


@pytest.mark.parametrize(
    ("side", "direction", "seen"),
    [
        ("left", "inbound", False),
        ("left", "outbound", True),
        ("right", "inbound", True),
        ("right", "outbound", False),
    ],
)
def test_filters_by_direction(link: Link, side: str, direction: str, seen: bool) -> None:
    """`inbound` and `outbound` mean the interface that is captured, and are counted exactly."""
    namespace = getattr(link, side).namespace
    with Capture(namespace, filter_text=f"{direction} and {generator.FILTER}") as capture:
        with Generator(link, rate=10_000, count=100) as sender:
            sender.wait()
        capture.stop()
        assert capture.source.counters().received == len(capture.packets) == 100 * seen


def test_loopback_is_counted_once(link: Link) -> None:
    """A packet on lo passes twice, and is received and delivered once."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(50):
                sender.sendto(number.to_bytes(2, "big"), ("127.0.0.1", 9))

    with Capture(link.left.namespace, "lo", filter_text="udp dst port 9") as capture:
        inside(link.left.namespace, send)
        capture.stop()
        assert capture.source.counters() == (50, 0, 0)
        assert [int.from_bytes(packet[-2:], "big") for packet in capture.packets] == list(range(50))


def talk(server_port: int, client_port: int) -> None:
    """A short TCP connection between two ports of this machine, which can be had again at once."""
    with socket.create_server(("127.0.0.1", server_port)) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.bind(("127.0.0.1", client_port))
        client.connect(("127.0.0.1", server_port))
        client.sendall(b"x")
        accepted = server.accept()[0]
        assert accepted.recv(1) == b"x"
        client.close()
        accepted.close()


def test_the_captures_own_streams_are_excluded(link: Link) -> None:
    """A stream that is to be excluded is not seen, its neighbours are."""

    own = OwnTraffic((ipaddress.ip_network("127.0.0.1"),), (7001,))
    with Capture(link.left.namespace, "lo", filter_text="tcp", own=(own,)) as capture:
        inside(link.left.namespace, lambda: talk(7001, 7002))
        inside(link.left.namespace, lambda: talk(7003, 7004))
        capture.stop()
        assert capture.ports == {7003, 7004}
        assert capture.source.excluded == 0, "what is never captured is not counted"


def test_connections_are_excluded_while_a_capture_runs(link: Link) -> None:
    """From that moment on exactly these are not seen, each of their packets is counted, and nothing else is lost."""
    here = ipaddress.ip_address("127.0.0.1")
    with Capture(link.left.namespace, "lo", filter_text="tcp and not dst port 7002") as capture:
        inside(link.left.namespace, lambda: talk(7001, 7002))
        capture.read_for(0.05)
        before = capture.source.counters().received
        capture.source.exclude([Connection(here, 7002, here, 7001)])
        inside(link.left.namespace, lambda: talk(7001, 7002))
        inside(link.left.namespace, lambda: talk(7001, 7004))
        capture.stop()
        received, dropped, _ = capture.source.counters()
        # What went to port 7002 the user's filter would not have let through.
        assert before > 0 and capture.source.excluded == before
        assert dropped == 0 and received == len(capture.packets)
        assert capture.ports == {7001, 7002, 7004}


def test_long_packets_are_cut_and_keep_their_length(link: Link) -> None:
    """With a small snaplen the bytes are few and the original length is exact."""
    with Capture(link.right.namespace, snaplen=60) as capture:
        with Generator(link, size=1400, rate=10_000, count=5) as sender:
            sender.wait()
        time.sleep(2 * RING_LAG)
        data, meta = capture.source.read(BATCH_PACKETS)
        (payload,) = pack(data, meta, capture.source.snaplen, 262144)
    lengths = [int.from_bytes(payload[at + 12 : at + 16], "little") for at in range(0, len(payload), 76)]
    assert len(payload) == 5 * 76 and lengths == [1400] * 5


# --- left clean ----------------------------------------------------------------


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_thread_stays_in_a_foreign_namespace(link: Link) -> None:
    """After opening, reading and closing in a namespace every thread is where it was."""
    here = HERE.readlink()

    def all_here() -> bool:
        return {_namespace_of(task) for task in Path("/proc/self/task").iterdir()} <= {here, None}

    with Capture(link.right.namespace) as capture:
        capture.read()
        # A thread that was joined may be on its last steps still.
        wait_until(all_here, "every thread is in its namespace", timeout=2)


def _namespace_of(task: Path) -> Path | None:
    try:
        return (task / "ns/net").readlink()
    except FileNotFoundError:  # it has just ended
        return None


def test_promiscuous_mode_goes_with_the_capture(link: Link) -> None:
    """The interface is promiscuous while a capture asks for it, and not afterwards."""

    def promiscuity() -> int:
        (device,) = json.loads(link.right.namespace.ip("-d", "-j", "link", "show", "dev", "eth0"))
        return int(device["promiscuity"])

    assert promiscuity() == 0
    with Capture(link.right.namespace, promiscuous=True):
        assert promiscuity() == 1
    assert promiscuity() == 0


def test_a_failed_opening_leaves_nothing_open(link: Link) -> None:
    """Refused filters cost no descriptor, however many there are."""
    with pytest.raises(BadFilter):
        Capture(link.right.namespace, filter_text="udp and")
    before = open_descriptors()
    for _ in range(5):
        with pytest.raises(BadFilter):
            Capture(link.right.namespace, filter_text="udp and")
    assert open_descriptors() == before


def test_a_closed_capture_gives_its_descriptors_back(link: Link) -> None:
    """Neither the packet socket nor the watch's socket stays behind."""
    with Capture(link.right.namespace):
        pass
    before = open_descriptors()
    for _ in range(3):
        with Capture(link.right.namespace):
            pass
    assert open_descriptors() == before


# --- what cannot be opened -------------------------------------------------------


def test_a_missing_interface_is_named_with_those_that_are_there(link: Link) -> None:
    """The message lists the interfaces of that namespace, not of the host."""
    with pytest.raises(NoSuchInterface) as refused:
        Capture(link.right.namespace, "eth7")
    assert "'eth7'" in refused.value.message
    assert set(refused.value.hint.removeprefix("there are: ").split(", ")) >= {"eth0", "lo"}


@pytest.mark.parametrize("name", ["any", "", "/etc/passwd", "nflog", "rpcap://192.0.2.1/eth0", "eth0 "])
def test_only_interfaces_are_captured(link: Link, name: str) -> None:
    """What libpcap would take for something else than an interface is refused."""
    with pytest.raises(NoSuchInterface):
        Capture(link.right.namespace, name)


def test_an_interface_that_is_down_is_refused(link: Link) -> None:
    """The message says that it is down."""
    namespace = link.right.namespace
    namespace.ip("link", "add", "down0", "type", "veth", "peer", "down1")
    try:
        with pytest.raises(CaptureFailed, match="down0 is down"):
            Capture(namespace, "down0")
    finally:
        namespace.ip("link", "delete", "down0")


@contextlib.contextmanager
def interface_called(namespace: Namespace, name: str) -> Iterator[None]:
    """A veth of that name, up; it may be gone in the end."""
    namespace.ip("link", "add", name, "type", "veth", "peer", "name", "peer0")
    try:
        for device in (name, "peer0"):
            namespace.ip("link", "set", "dev", device, "up")
        yield
    finally:
        with contextlib.suppress(CommandFailed):
            namespace.ip("link", "delete", "peer0")


SPECIAL = ["any", "usbmon0", "usbmon+1", "bluetooth0", "nflog", "nfqueue", "dbus-system", "dbus-session"]


@pytest.mark.parametrize("known", [True, False])
def test_names_that_mean_something_else_to_libpcap(
    link: Link, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """An interface of such a name is refused, by the name or, where it is not listed, by what libpcap opened."""
    if not known:
        monkeypatch.setattr(source, "_NO_INTERFACE", re.compile("(?!)"))
    for name in SPECIAL:
        with interface_called(link.left.namespace, name):
            before = open_descriptors()
            # Some that libpcap looks for, it does not find here.
            with pytest.raises(CaptureFailed if known else (CaptureFailed, NoSuchInterface)) as refused:
                Capture(link.left.namespace, name)
            assert name in refused.value.message and ("not accept" in refused.value.message) is known
            assert open_descriptors() == before
    # The same with a name that means nothing.
    with interface_called(link.left.namespace, "any0"), Capture(link.left.namespace, "any0") as capture:
        capture.stop()


def test_an_interface_that_goes_away_while_it_is_opened(link: Link) -> None:
    """At every moment of the opening the error says that it is gone, and nothing stays open."""
    namespace = link.left.namespace
    before, gone, opened = open_descriptors(), 0, 0
    for attempt in range(40):
        with interface_called(namespace, "gone0"):
            timer = threading.Timer(attempt * 0.0015, namespace.ip, ("link", "delete", "gone0"))
            timer.start()
            try:
                with Capture(namespace, "gone0", filter_text="", start=False):
                    opened += 1
            except NoSuchInterface as error:
                assert "gone0" in error.message
                gone += 1
            finally:
                timer.join()
    assert gone > 10 and opened > 0
    assert open_descriptors() == before


def test_another_interface_of_the_same_name(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that took the name while the first was opened is not captured in its place."""
    namespace = link.left.namespace
    activated = source._activated

    def replaced(*arguments: Any) -> Any:
        for old, new in (("twin0", "other0"), ("peer0", "twin0")):
            namespace.ip("link", "set", "dev", old, "down")
            namespace.ip("link", "set", "dev", old, "name", new)
            namespace.ip("link", "set", "dev", new, "up")
        return activated(*arguments)

    with interface_called(namespace, "twin0"):
        monkeypatch.setattr(source, "_activated", replaced)
        with pytest.raises(CaptureFailed, match="something other than the interface 'twin0'"):
            Capture(namespace, "twin0")
        namespace.ip("link", "delete", "twin0")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("udp) or (tcp", r"syntax error.*at: '\) or \(tcp'"),
        ("udp and", "syntax error"),
        ("udp bogus", "where an address is expected"),
        ("tcp port 99999", "99999"),
        ("port nosuchservice", "nosuchservice"),
        ("host example.com", "host names are not looked up"),
        ("tcp and tcp and and udp", "at: 'and and udp'"),
        ("1 +", "syntax error"),
        ("ip host 192.0.2.1/24", "192.0.2.1"),
        ("tcp[", "syntax error"),
        # Long enough for a process of its own, which only says that it does not compile.
        ("tcp and " * 30 + "and udp", r"syntax error.*at: 'and and udp'"),
    ],
)
def test_bad_filters_are_refused_in_libpcaps_words(link: Link, text: str, words: str) -> None:
    """The user learns what libpcap does not understand, and where."""
    with pytest.raises(BadFilter, match=words):
        Capture(link.right.namespace, filter_text=text)


def test_filters_of_the_policy_are_refused_like_the_users(link: Link) -> None:
    """Whoever wrote it: a host's name never reaches libpcap, which would look it up."""
    with pytest.raises(BadFilter, match="host names are not looked up"):
        Capture(link.right.namespace, never=("tcp", "host example.com"))


def test_a_filter_that_takes_too_long_is_refused(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compiled elsewhere first, where that can be ended."""
    monkeypatch.setattr(compiling, "Trial", partial(Trial, seconds=0.05))
    slow = " or ".join(f"portrange {number}-{number + 5}" for number in range(80))
    with pytest.raises(BadFilter, match="takes too long to compile"):
        Capture(link.right.namespace, filter_text=slow)


def test_opening_throws_away_for_a_moment_only(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until what was under way is in the ring, with short pauses, and never much at once."""
    pauses: list[float] = []
    asked: list[int] = []
    create = source.pcapy.create

    class Reader:
        def __init__(self, name: str) -> None:
            self._reader = create(name)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._reader, name)

        def next_batch(self, most: int) -> tuple[bytes, bytes]:
            asked.append(most)
            batch: tuple[bytes, bytes] = self._reader.next_batch(most)
            return batch

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        assert sum(pauses) < 4 * RING_LAG
        time.sleep(seconds)

    monkeypatch.setattr(source, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    monkeypatch.setattr(source.pcapy, "create", Reader)
    with Capture(link.right.namespace, filter_text="", start=False):
        assert pauses and max(pauses) < RING_LAG
    assert set(asked) == {BATCH_PACKETS}


@pytest.mark.parametrize(
    "text", ["ip6 protochain 17", " or ".join(["host 1::2"] + [f"host 1::{n:x}" for n in range(350)])]
)
def test_a_filter_that_the_kernel_does_not_take_is_refused(link: Link, text: str) -> None:
    """A filter that libpcap would have to apply by itself would not count exactly: it is refused."""
    with pytest.raises(BadFilter, match="too complex for the kernel"):
        Capture(link.right.namespace, filter_text=text)


def test_a_namespace_that_is_not_there(tmp_path: Path) -> None:
    """The message names the path."""
    with pytest.raises(NamespaceGone, match=r"no network namespace at .*nowhere"):
        _enter(tmp_path / "nowhere")
    assert identity(str(tmp_path / "nowhere")) is None


def test_a_file_that_is_no_namespace(tmp_path: Path) -> None:
    """What cannot be entered is said to be none."""
    (tmp_path / "file").touch()
    with pytest.raises(NamespaceGone, match="file is not a network namespace"):
        _enter(tmp_path / "file")


def test_another_kind_of_namespace_is_refused() -> None:
    """Only network namespaces are entered, whatever the configuration points to."""
    with pytest.raises(NamespaceGone, match="is not a network namespace"):
        _enter(Path("/proc/self/ns/mnt"))


def _enter(path: Path) -> None:
    namespace = Namespace("unused")
    namespace.path = path
    inside(namespace, lambda: None)


def test_the_main_thread_stays_where_it_is(link: Link) -> None:
    """Entering a namespace on the main thread is a bug, and refused before anything happens."""
    here = HERE.readlink()
    with pytest.raises(RuntimeError, match="main thread"):
        enter(str(link.right.namespace.path))
    assert HERE.readlink() == here


def test_a_namespace_by_its_descriptor(link: Link) -> None:
    """It is entered as by its path, and the descriptor stays open."""
    descriptor = open_namespace(str(link.right.namespace.path))

    def there() -> frozenset[str]:
        enter(descriptor)
        return addresses_here()

    try:
        assert link.right.ipv4 in inside(link.left.namespace, there)
    finally:
        os.close(descriptor)


def test_the_namespace_that_a_thread_is_in(link: Link) -> None:
    """It is told from others, wherever they are looked at from."""
    descriptor = open_namespace(str(link.right.namespace.path))
    try:
        assert inside(link.right.namespace, partial(is_ours, descriptor))
        assert not inside(link.left.namespace, partial(is_ours, descriptor))
        assert is_network_namespace(descriptor) and not is_ours(descriptor)
    finally:
        os.close(descriptor)


def test_a_program_that_cannot_be_read() -> None:
    """The kernel's refusal is told; an empty program would be taken for a filter that is too complex."""
    with Path("/dev/null").open() as nothing, pytest.raises(OSError, match="SO_GET_FILTER"):
        kernelfilter.program(nothing.fileno())


# --- where packets go --------------------------------------------------------------


def test_the_way_to_an_address(link: Link) -> None:
    """An interface's index; none where the kernel says, in whatever way, that there is no way."""
    namespace = link.right.namespace
    for number, kind in enumerate(("unreachable", "blackhole", "prohibit", "throw"), start=1):
        namespace.ip("route", "add", kind, f"198.51.100.{number}")
    try:
        index = inside(namespace, lambda: socket.if_nametoindex("eth0"))
        assert inside(namespace, lambda: way_to(link.left.ipv4)) == index
        # The last of them is in no route.
        for number in range(1, 6):
            assert inside(namespace, partial(way_to, f"198.51.100.{number}")) is None
    finally:
        for number in range(1, 5):
            namespace.ip("route", "delete", f"198.51.100.{number}")


# --- what goes away --------------------------------------------------------------


def test_an_interface_that_goes_away(link: Link) -> None:
    """The watch sees that it is gone, the counters keep their last values, reading says so."""
    namespace = link.right.namespace
    namespace.ip("link", "add", "gone0", "type", "veth", "peer", "gone1")
    namespace.ip("link", "set", "gone0", "up")
    with Capture(namespace, "gone0", filter_text="") as capture:
        assert capture.source.interface_present
        before = capture.source.counters()
        namespace.ip("link", "delete", "gone0")
        wait_until(lambda: not capture.source.interface_present, "the interface is gone")
        assert capture.source.counters() == before
        with pytest.raises(CaptureFailed, match="gone0"):
            for _ in range(50):
                capture.read()
                time.sleep(0.02)


def test_what_an_interface_lost_is_what_libpcap_counts() -> None:
    """Missed packets and overflows of its queue, of all the counters that the kernel sends."""
    counters = [10**number for number in range(16)]  # struct rtnl_link_stats64
    body = struct.pack("=BxHiII", 0, 1, 7, 1, 0)
    for kind, value in ((3, b"eth7\0"), (23, struct.pack("=16Q", *counters))):
        body += struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    assert interfaces._parse_link(body) == Interface(7, "eth7", True, False, 10**14 + 10**15)


def test_a_watch_reads_from_another_namespace(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts its own interface; here rx_dropped, as a test can make no other counter grow."""
    monkeypatch.setattr(interfaces, "_RX_LOST", (6 * 8,))
    watch = inside(link.right.namespace, lambda: InterfaceWatch("eth0"))

    def send_to_nobody() -> None:
        # An EtherType that no protocol of the kernel takes.
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("eth0", 0))
            for _ in range(7):
                sender.send(b"\xff" * 6 + bytes(6) + b"\x88\xb5" + bytes(50))

    try:
        before = watch.dropped()
        assert before is not None
        inside(link.left.namespace, send_to_nobody)
        wait_until(lambda: watch.dropped() == before + 7, "seven drops are counted", timeout=3)
        assert watch.dropped() == link.right.namespace.counters()["rx_dropped"]
    finally:
        watch.close()


def test_a_watch_tells_addresses_and_state(link: Link) -> None:
    """The description has the addresses of that interface alone, with their prefixes."""
    watch = inside(link.right.namespace, lambda: InterfaceWatch("eth0"))
    watch.close()
    assert watch.interface.up and not watch.interface.loopback
    expected = {f"{link.right.ipv4}/24", f"{ipaddress.ip_address(link.right.ipv6)}/64"}
    assert set(watch.interface.addresses) == expected


def test_only_ip_addresses_are_told() -> None:
    """An interface may have others, such as a phone's, which nobody here could write down."""

    def told(family: int, address: bytes) -> bytes:
        body = struct.pack("=BBBBi", family, 8 * len(address), 0, 0, 7)
        body += struct.pack("=HH", 4 + len(address), 1) + address.ljust(4, b"\0")
        return struct.pack("=IHHII", 16 + len(body), 20, 0, 1, 0) + body

    done = struct.pack("=IHHIIi", 20, 3, 0, 1, 0, 0)
    dump = told(socket.AF_INET, bytes((192, 0, 2, 1))) + told(35, b"\x6c") + done
    kernel: Any = SimpleNamespace(send=lambda _: None, recv=lambda _: dump)
    assert list(interfaces._all_addresses(kernel)) == [(7, "192.0.2.1/32")]


def test_an_attribute_without_a_length_is_the_last_one() -> None:
    """Whoever looked for the next one behind it would find it again, for ever."""
    assert list(islice(interfaces._attributes(bytes(8)), 3)) == []


# --- privileges, each in a process of its own --------------------------------------


def script(text: str) -> Any:
    """Run a Python program and return what it prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_the_capability_the_message_names_it() -> None:
    """A process without CAP_NET_RAW learns what the agent needs."""
    error = script("""
import json, prctl
from types import SimpleNamespace
from pcapd.capture.compiling import FilterCompiler
from pcapd.capture.source import Filter, open_source
from pcapd.errors import CapturePermission
asker = SimpleNamespace(user="alice", gone=False)
prctl.cap_effective.limit()
try:
    open_source("lo", Filter(""), snaplen=96, ring_bytes=65536, promiscuous=False,
                compiler=FilterCompiler(), asker=asker)
except CapturePermission as error:
    print(json.dumps([error.message, error.hint]))
""")
    assert error == [
        "not allowed to capture on lo",
        "the agent needs CAP_NET_RAW, and CAP_SYS_ADMIN for other namespaces",
    ]


def test_without_the_capability_no_namespace_is_entered(link: Link) -> None:
    """A process without CAP_SYS_ADMIN learns what it needs to enter a namespace."""
    error = script(f"""
import json, prctl, threading
from pcapd.capture.namespaces import enter
from pcapd.errors import CapturePermission
prctl.cap_effective.limit(prctl.CAP_NET_RAW)
def run():
    try:
        enter({str(link.right.namespace.path)!r})
    except CapturePermission as error:
        print(json.dumps([error.message, error.hint]))
thread = threading.Thread(target=run); thread.start(); thread.join()
""")
    assert "CAP_SYS_ADMIN" in error[1] or "not allowed to open" in error[0]


@pytest.mark.parametrize(
    ("keep", "mask"), [(["net_raw"], 1 << 13), (["net_raw", "sys_admin"], 1 << 13 | 1 << 21)]
)
def test_becoming_a_user_keeps_exactly_the_capabilities(keep: list[str], mask: int) -> None:
    """Every thread afterwards is that user's, without groups, with these capabilities and no others."""
    threads = script(f"""
import json, threading, pathlib
from pcapd.capture import privileges
privileges.become("nobody", {keep!r})
assert privileges.missing({keep!r}) == [] and privileges.missing(["net_admin"]) == ["net_admin"]
stop = threading.Event()
thread = threading.Thread(target=stop.wait); thread.start()
found = []
for task in pathlib.Path("/proc/self/task").iterdir():
    lines = (line.split(":", 1) for line in (task / "status").read_text().splitlines())
    found.append({{key: value.split() for key, value in lines}})
stop.set()
print(json.dumps(found))
""")
    assert len(threads) == 2
    for status in threads:
        assert 0 not in map(int, status["Uid"] + status["Gid"])
        assert status["Groups"] == []
        assert int(status["CapPrm"][0], 16) == int(status["CapEff"][0], 16) == mask
        assert int(status["CapInh"][0], 16) == int(status["CapAmb"][0], 16) == 0


def test_a_user_who_captures_without_being_root(link: Link) -> None:
    """What become leaves is enough to enter a namespace and to capture there."""
    error = script(f"""
import json, threading
from pcapd.capture import privileges
from pcapd.capture.namespaces import enter
from types import SimpleNamespace
from pcapd.capture.compiling import FilterCompiler
from pcapd.capture.source import Filter, open_source
from pcapd.capture.hardening import harden
compiler = FilterCompiler()
privileges.become("nobody", ["net_raw", "sys_admin"])
harden()
def run():
    enter({str(link.right.namespace.path)!r})
    asker = SimpleNamespace(user="alice", gone=False)
    source = open_source("eth0", Filter(""), snaplen=96, ring_bytes=65536, promiscuous=True,
                         compiler=compiler, asker=asker)
    source.start()
    print(json.dumps(source.counters()))
    source.close()
thread = threading.Thread(target=run); thread.start(); thread.join()
""")
    assert error == [0, 0, 0]


@pytest.mark.parametrize(
    ("become", "lent"),
    [
        ("privileges.become('nobody', ['net_raw', 'dac_read_search'])", 1 << 2),
        ("privileges.become('nobody', ['net_raw'])", 0),
        ("", 0),
    ],
    ids=["a user", "a user without it", "root"],
)
def test_what_commands_are_lent(become: str, lent: int) -> None:
    """Of a user's capabilities the one that is named, where there is one; root's have everything anyway."""
    before, meanwhile, afterwards = script(f"""
import json, subprocess
from pcapd.capture import privileges
def of_a_command():
    status = subprocess.run(["/bin/cat", "/proc/self/status"], capture_output=True, text=True).stdout
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return [int(lines[name], 16) for name in ("CapInh", "CapAmb")]
{become}
before = of_a_command()
with privileges.lend("dac_read_search"):
    meanwhile = of_a_command()
print(json.dumps([before, meanwhile, of_a_command()]))
""")
    assert before == afterwards == [0, 0] and meanwhile == [lent, lent]


def test_a_user_that_does_not_exist() -> None:
    """The message names run_as and the user."""
    assert (
        script("""
import json
from pcapd.capture import privileges
from pcapd.errors import ConfigError
try:
    privileges.become("nosuchuser", [])
except ConfigError as error:
    print(json.dumps(str(error)))
""")
        == "run_as: there is no user 'nosuchuser'"
    )


def test_the_libpcap_that_is_loaded_is_named() -> None:
    """The version is libpcap's own word for itself."""
    assert libpcap_version().startswith("libpcap version 1.")
