"""What a capture stands in: namespaces, routes, interfaces that go away, and privileges."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import struct
import subprocess
import sys
import time
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")
if os.geteuid() != 0:
    pytest.skip("captures and namespaces need root", allow_module_level=True)

from demo.namespaces import Link, Namespace
from demo.processes import ROOT, wait_until
from pcapd.capture import interfaces, kernelfilter
from pcapd.capture.interfaces import Interface, InterfaceWatch, addresses_here, way_to
from pcapd.capture.libpcap import libpcap_version
from pcapd.capture.namespaces import enter, identity, is_network_namespace, is_ours, open_namespace
from pcapd.errors import CaptureFailed, NamespaceGone
from tests.kit.hosts.source import HERE, Capture, inside


def test_a_namespace_that_is_not_there(tmp_path: Path) -> None:
    """The error for a namespace that does not exist names the path."""
    with pytest.raises(NamespaceGone, match=r"no network namespace at .*nowhere"):
        _enter(tmp_path / "nowhere")
    assert identity(str(tmp_path / "nowhere")) is None


def test_a_file_that_is_no_namespace(tmp_path: Path) -> None:
    """A file that is not a namespace is refused as such."""
    (tmp_path / "file").touch()
    with pytest.raises(NamespaceGone, match="file is not a network namespace"):
        _enter(tmp_path / "file")


def test_another_kind_of_namespace_is_refused() -> None:
    """A namespace of another kind is refused, whatever the configuration names."""
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
    """A namespace is entered by its descriptor as by its path, and the descriptor stays open."""
    descriptor = open_namespace(str(link.right.namespace.path))

    def there() -> frozenset[str]:
        enter(descriptor)
        return addresses_here()

    try:
        assert link.right.ipv4 in inside(link.left.namespace, there)
    finally:
        os.close(descriptor)


def test_the_namespace_that_a_thread_is_in(link: Link) -> None:
    """The namespace that a thread is in is distinguished from others, wherever they are looked at from."""
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
    """An interface's losses are its missed packets and queue overflows, as libpcap counts them."""
    counters = [10**number for number in range(16)]  # struct rtnl_link_stats64
    body = struct.pack("=BxHiII", 0, 1, 7, 1, 0)
    for kind, value in ((3, b"eth7\0"), (23, struct.pack("=16Q", *counters))):
        body += struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    assert interfaces._parse_link(body) == Interface(7, "eth7", True, False, 10**14 + 10**15)


def test_a_watch_reads_from_another_namespace(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch in another namespace counts its own interface."""
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
    """An attribute without a length ends the list, so that reading cannot loop."""
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
    """A user with the capabilities left by `become` can enter a namespace and capture there."""
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
    """A command is lent the one named capability of the user, if the user has it."""
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
    """The error for a user that does not exist names run_as and the user."""
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
    """The version of libpcap is the one that the library itself reports."""
    assert libpcap_version().startswith("libpcap version 1.")
