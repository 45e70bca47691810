"""Capture sources on real interfaces of real namespaces: counted to the packet, left clean."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import socket
import struct
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator

import pytest

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")
if os.geteuid() != 0:
    pytest.skip("captures and namespaces need root", allow_module_level=True)

from demo.namespaces import Link, Namespace
from demo.processes import CommandFailed, wait_until
from pcapd.capture import compiling, source
from pcapd.capture.exclusion import Connection, OwnTraffic
from pcapd.capture.trial import Trial
from pcapd.errors import BadFilter, CaptureFailed, NoSuchInterface
from pcapd.limits import BATCH_PACKETS, RING_LAG
from pcapd.records import pack
from tests.kit.hosts.source import HERE, TINY_RING, Capture, inside, open_descriptors
from tests.kit.lab import generator
from tests.kit.lab.generator import Generator

# --- exact counting ------------------------------------------------------------


def test_every_packet_is_delivered_once_and_counted(link: Link) -> None:
    """Packets sent, received by the filter and read are the same, each once and in order."""
    with Capture(link.right.namespace) as capture:
        with Generator(link, rate=20_000, count=3000) as sender:
            while capture.read() or len(capture.packets) == 0:
                time.sleep(0.01)
            report = sender.wait()
        capture.stop()
        assert capture.source.counters() == (report.sent, 0, 0)
        assert capture.numbers == list(range(report.sent))


def test_a_flood_into_a_full_ring_is_counted_to_the_packet(link: Link) -> None:
    """In a flood into a full ring, received equals delivered plus dropped."""
    with Capture(link.right.namespace, ring_bytes=TINY_RING) as capture:
        with Generator(link, count=60_000) as sender:
            report = sender.wait()
        capture.stop()
        received, dropped, _ = capture.source.counters()
        assert dropped > 0
        assert received == report.sent == len(capture.packets) + dropped
        assert len(set(capture.numbers)) == len(capture.numbers)


def test_a_flood_that_is_read_too_slowly_is_counted_to_the_packet(link: Link) -> None:
    """In a flood that is read too slowly, received equals delivered plus dropped."""
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
    """Packets that pass between opening and start are not seen, counted or dropped, however long that takes."""
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
    """After stop and drain the counters stand still and the ring stays empty, whatever passes."""
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
    """A restarted count begins at zero."""
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
    """Connections that are excluded while a capture runs disappear from it, are counted, and nothing else is lost."""
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
    """A closed capture leaves neither the packet socket nor the watch's socket open."""
    with Capture(link.right.namespace):
        pass
    before = open_descriptors()
    for _ in range(3):
        with Capture(link.right.namespace):
            pass
    assert open_descriptors() == before


# --- what cannot be opened -------------------------------------------------------


def test_a_missing_interface_is_named_with_those_that_are_there(link: Link) -> None:
    """The error for a missing interface lists the interfaces of its namespace, not of the host."""
    with pytest.raises(NoSuchInterface) as refused:
        Capture(link.right.namespace, "eth7")
    assert "'eth7'" in refused.value.message
    assert set(refused.value.hint.removeprefix("there are: ").split(", ")) >= {"eth0", "lo"}


@pytest.mark.parametrize("name", ["any", "", "/etc/passwd", "nflog", "rpcap://192.0.2.1/eth0", "eth0 "])
def test_only_interfaces_are_captured(link: Link, name: str) -> None:
    """A device that is not an interface, although libpcap would capture it, is refused."""
    with pytest.raises(NoSuchInterface):
        Capture(link.right.namespace, name)


def test_an_interface_that_is_down_is_refused(link: Link) -> None:
    """An interface that is down is refused as such."""
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
    """An interface that took the name of the one being opened is not captured."""
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
    """A bad filter is refused with libpcap's message and the place of the error."""
    with pytest.raises(BadFilter, match=words):
        Capture(link.right.namespace, filter_text=text)


def test_filters_of_the_policy_are_refused_like_the_users(link: Link) -> None:
    """A filter of the policy that holds a host's name is refused like a user's, before libpcap looks it up."""
    with pytest.raises(BadFilter, match="host names are not looked up"):
        Capture(link.right.namespace, never=("tcp", "host example.com"))


def test_a_filter_that_takes_too_long_is_refused(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that takes too long to compile is ended in its own process, and refused."""
    monkeypatch.setattr(compiling, "Trial", partial(Trial, seconds=0.05))
    slow = " or ".join(f"portrange {number}-{number + 5}" for number in range(80))
    with pytest.raises(BadFilter, match="takes too long to compile"):
        Capture(link.right.namespace, filter_text=slow)


def test_opening_throws_away_for_a_moment_only(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening discards packets only until those under way are in the ring, with short pauses between reads."""
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
