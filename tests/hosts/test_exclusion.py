"""The kernel runs our exclusions on packets that a raw socket sends: our own are left out, others never."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from typing import Iterable, Iterator

import pytest

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
if os.geteuid() != 0:
    pytest.skip("packet sockets and namespaces need root", allow_module_level=True)

from demo.namespaces import Namespace
from pcapd.capture import kernelfilter
from pcapd.capture.exclusion import (
    ACCEPT,
    Connection,
    OwnTraffic,
    except_for,
    except_what_passes,
    only,
)
from pcapd.capture.interfaces import Interface
from pcapd.capture.kernelfilter import DROP_ALL
from pcapd.capture.tally import Tally
from pcapd.limits import AGENT_PORTS_MAX, EXCLUDED_CONNECTIONS_MAX, OWN_ADDRESSES_MAX
from tests.kit.hosts.source import inside

ETHERNET = 1
_ALL_PROTOCOLS = 3

RULES = (
    OwnTraffic(
        tuple(map(ipaddress.ip_network, ("10.0.0.1", "127.0.0.0/8", "fd00::1", "fd01::/16"))), (9494,)
    ),
    OwnTraffic(tuple(map(ipaddress.ip_network, ("10.0.0.9", "fd00::9"))), (9494, 9495), far=True),
)
CONNECTIONS = (
    Connection(ipaddress.ip_address("10.1.1.1"), 443, ipaddress.ip_address("10.2.2.2"), 5555),
    Connection(ipaddress.ip_address("fd02::1"), 443, ipaddress.ip_address("fd02::2"), 5555),
)


def ethernet(payload: bytes, protocol: int = 0x0800) -> bytes:
    return b"\x02\0\0\0\0\1\x02\0\0\0\0\2" + struct.pack("!H", protocol) + payload


def ipv4(source: str, source_port: int, destination: str, destination_port: int, **changes: int) -> bytes:
    """A TCP packet; ``words`` of header, ``protocol``, ``fragment`` offset, and how many bytes are there."""
    words = changes.get("words", 5)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | words,
        0,
        words * 4 + 20,
        0,
        changes.get("fragment", 0),
        64,
        changes.get("protocol", 6),
        0,
        ipaddress.ip_address(source).packed,
        ipaddress.ip_address(destination).packed,
    )
    packet = header + bytes(words * 4 - 20) + struct.pack("!HH16x", source_port, destination_port)
    return ethernet(packet[: changes.get("size", len(packet))])


def ipv6(source: str, source_port: int, destination: str, destination_port: int, following: int = 6) -> bytes:
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    packet = struct.pack("!IHBB", 0x60000000, 20, following, 64) + addresses
    return ethernet(packet + struct.pack("!HH16x", source_port, destination_port), 0x86DD)


OURS = {
    "to the listener": ipv4("192.0.2.3", 5, "10.0.0.1", 9494),
    "from the listener": ipv4("10.0.0.1", 9494, "192.0.2.3", 5),
    "in the network": ipv4("127.9.9.9", 9494, "192.0.2.3", 5),
    "with IP options": ipv4("10.0.0.1", 9494, "192.0.2.3", 5, words=8),
    "to an agent": ipv4("10.0.0.9", 5, "192.0.2.3", 9495),
    "from an agent": ipv4("192.0.2.3", 9494, "10.0.0.9", 5),
    "the connection": ipv4("10.1.1.1", 443, "10.2.2.2", 5555),
    "the connection, back": ipv4("10.2.2.2", 5555, "10.1.1.1", 443),
    "IPv6 from the listener": ipv6("fd00::1", 9494, "fd00::2", 5),
    "IPv6 to the listener": ipv6("fd00::2", 5, "fd00::1", 9494),
    "IPv6 in the network": ipv6("fd01:7::7", 9494, "fd00::2", 5),
    "IPv6 to an agent": ipv6("fd00::9", 5, "fd00::2", 9494),
    "the IPv6 connection": ipv6("fd02::2", 5555, "fd02::1", 443),
}
OTHERS = {
    "another port": ipv4("192.0.2.3", 5, "10.0.0.1", 9495),
    "our address, their port": ipv4("10.0.0.1", 5, "192.0.2.3", 9494),
    "an agent's port at our end": ipv4("192.0.2.3", 5, "10.0.0.9", 9494),
    "another connection": ipv4("10.2.2.2", 5556, "10.1.1.1", 443),
    "UDP": ipv4("10.0.0.1", 9494, "192.0.2.3", 5, protocol=17),
    "a later fragment": ipv4("10.0.0.1", 9494, "192.0.2.3", 5, fragment=3),
    "only an IP header": ipv4("10.0.0.1", 9494, "192.0.2.3", 5, size=20),
    "half an IP header": ipv4("10.0.0.1", 9494, "192.0.2.3", 5, size=10),
    "half of the ports": ipv4("10.0.0.1", 9494, "192.0.2.3", 5, size=22),
    "options that are not there": ipv4("10.0.0.1", 9494, "192.0.2.3", 5, words=15, size=30),
    "another IPv6 address": ipv6("fd00::3", 9494, "fd00::2", 5),
    "IPv6 UDP": ipv6("fd00::1", 9494, "fd00::2", 5, following=17),
    "half an IPv6 header": ethernet(b"\x60" + bytes(15), 0x86DD),
    "ARP": ethernet(bytes(28), 0x0806),
    "nothing": ethernet(b""),
}


class Wire:
    """Frames go in at one end, and a filter decides at the other one."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def passed(self, frames: Iterable[bytes], program: bytes) -> list[bytes]:
        """Send frames, and return those that the program lets through."""
        return inside(self._namespace, lambda: self._passed(frames, program))

    def _passed(self, frames: Iterable[bytes], program: bytes) -> list[bytes]:
        with (
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender,
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as receiver,
        ):
            sender.bind(("out0", 0))
            kernelfilter.attach(receiver.fileno(), program)
            receiver.bind(("in0", _ALL_PROTOCOLS))
            passed = []
            for frame in [*frames, LAST]:
                sender.send(frame)
            receiver.settimeout(5)
            while (frame := receiver.recv(65536)) != LAST:
                passed.append(frame)
            return passed


#: It is nobody's, and passes last.
LAST = ethernet(b"the last one", 0x88B5)


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Namespace.unique("exclusion") as namespace:
        namespace.ip("link", "add", "out0", "type", "veth", "peer", "name", "in0")
        for device in ("out0", "in0"):
            namespace.ip("link", "set", device, "addrgenmode", "none")
            namespace.ip("link", "set", device, "up")
        yield Wire(namespace)


def test_our_own_is_left_out_and_nothing_else(wire: Wire) -> None:
    """Our own traffic is left out by address and port, both ways; a cut packet is never mistaken for it."""
    program = except_for(RULES, CONNECTIONS, ETHERNET, ACCEPT)
    assert wire.passed([*OURS.values(), *OTHERS.values()], program) == list(OTHERS.values())


def test_without_the_rules_everything_passes(wire: Wire) -> None:
    """The control: it is the rules that leave something out."""
    everything = [*OURS.values(), *OTHERS.values()]
    assert wire.passed(everything, except_for((), (), ETHERNET, ACCEPT)) == everything


def test_what_is_left_out_can_be_counted(wire: Wire) -> None:
    """The program for the counter lets through exactly the connections; only what the user's filter would have, too."""
    everything = [*OURS.values(), *OTHERS.values(), LAST]
    ours = [OURS[name] for name in ("the connection", "the connection, back", "the IPv6 connection")]
    accepted = only(CONNECTIONS, ETHERNET, ACCEPT)
    counted = inside(wire._namespace, lambda: count(everything, accepted))
    assert counted == len(ours)
    assert inside(wire._namespace, lambda: count(everything, only(CONNECTIONS, ETHERNET, DROP_ALL))) == 0


def count(frames: Iterable[bytes], program: bytes) -> int:
    tally = Tally(Interface(0, "in0", True, False, 0))
    tally.count_only(program)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind(("out0", 0))
        for frame in frames:
            sender.send(frame)
    tally.stop()
    counted = tally.count()
    tally.close()
    return counted


def test_what_a_filter_lets_through_is_dropped_by_its_inversion(wire: Wire) -> None:
    """A policy's filter stands before the user's as a program of its own."""
    ours = except_for(RULES, (), ETHERNET, DROP_ALL)  # lets nothing through
    assert wire.passed(OTHERS.values(), except_what_passes(ours, ACCEPT)) == list(OTHERS.values())
    instructions = (0x28, 0, 0, 12), (0x15, 0, 1, 0x0806), (6, 0, 0, 1), (6, 0, 0, 0)
    arp = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    passed = wire.passed(OTHERS.values(), except_what_passes(arp, ACCEPT))
    assert passed == [frame for name, frame in OTHERS.items() if name != "ARP"]


def test_as_many_rules_as_there_can_be(wire: Wire) -> None:
    """The kernel takes the largest program that an api and a busy router can make, and it does what it says."""
    addresses = [f"10.3.0.{number}" for number in range(OWN_ADDRESSES_MAX - 1)] + ["fd03::1"]
    rule = OwnTraffic(tuple(map(ipaddress.ip_network, addresses)), tuple(range(1000, 1000 + AGENT_PORTS_MAX)))
    program = except_for([rule, rule, rule], CONNECTIONS * (EXCLUDED_CONNECTIONS_MAX // 2), ETHERNET, ACCEPT)
    last = ipv4("192.0.2.3", 5, addresses[-2], 1000 + AGENT_PORTS_MAX - 1)
    assert wire.passed([last, OTHERS["another port"]], program) == [OTHERS["another port"]]
