"""Makes BPF programs that keep pcapd's own connections out of a capture.

The programs are classic BPF (the kernel's Documentation/networking/filter.rst); the kernel runs
them before the user's filter.  They are assembled here, not compiled by libpcap, for three
reasons.  A connection can be added while a capture runs, without compiling the user's filter
again.  The cost of a program grows only linearly with the number of rules.  And a packet
that is too short to belong to one of these connections is never dropped by mistake: a load
beyond the end of a packet would end a classic BPF program with "do not capture", so each load
is preceded by a check of the packet's length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, Union

__all__ = [
    "ACCEPT",
    "Connection",
    "OwnTraffic",
    "chain",
    "except_for",
    "except_what_passes",
    "only",
    "text",
]

Network = Union[IPv4Network, IPv6Network]
Address = Union[IPv4Address, IPv6Address]

_INSTRUCTION = struct.Struct("=HBBI")
#: A program that accepts all packets.
ACCEPT = _INSTRUCTION.pack(0x06, 0, 0, 0xFFFFFFFF)

# Instructions (linux/bpf_common.h, linux/filter.h).
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE, _LOAD_LENGTH = 0x20, 0x28, 0x30, 0x80
_LOAD_HALF_AT_X, _LOAD_IPV4_SIZE_INTO_X = 0x48, 0xB1
_LOAD_MEMORY, _STORE = 0x60, 0x02
_SUBTRACT, _AND = 0x14, 0x54
_JUMP, _EQUAL, _GREATER, _AT_LEAST, _ANY_BIT, _AT_LEAST_X = 0x05, 0x15, 0x25, 0x35, 0x45, 0x3D
_RETURN = 0x06
#: Ancillary load: the protocol of the packet's network header (SKF_AD_OFF + SKF_AD_PROTOCOL).
_PROTOCOL = 0xFFFFF000
_IP, _IPV6, _TCP = 0x0800, 0x86DD, 6

#: LINKTYPE → number of bytes before the network header in a packet socket's data.  libpcap
#: captures "cooked" interfaces (113, 276) with sockets that omit the link header.
_NETWORK_AT = {1: 14, 101: 0, 113: 0, 228: 0, 229: 0, 276: 0}

#: Indexes of BPF memory words for the ports of an IPv4 packet.
_SOURCE_PORT, _DESTINATION_PORT = 0, 1


class OwnTraffic(NamedTuple):
    """A rule that describes TCP connections of pcapd, including future ones.

    Attributes:
        networks: Networks that contain the address of one end.
        ports: TCP ports of that end, or of the other end if `far` is true.
        far: Whether `ports` are those of the other end.
    """

    networks: tuple[Network, ...]
    ports: tuple[int, ...]
    far: bool = False


class Connection(NamedTuple):
    """One TCP connection."""

    a: Address
    a_port: int
    b: Address
    b_port: int

    def __str__(self) -> str:
        return f"{_socket(self.a, self.a_port)} - {_socket(self.b, self.b_port)}"


def _socket(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def except_for(
    rules: Iterable[OwnTraffic], connections: Iterable[Connection], link_type: int, program: bytes
) -> bytes:
    """Put exclusions in front of a program.

    Args:
        rules: Connections to exclude, by address and port.
        connections: More connections to exclude, by both ends.
        link_type: LINKTYPE of the packets.  If it is not supported, nothing is excluded.
        program: The program that decides about all other packets.

    Returns:
        A program of struct sock_filter.
    """
    return _match(rules, connections, link_type, matched=_DROP) + program


def only(connections: Iterable[Connection], link_type: int, program: bytes) -> bytes:
    """The program that accepts the packets that `except_for` excludes from `program`."""
    return _match((), connections, link_type, matched=_ACCEPT, other=_DROP) + program


def except_what_passes(unwanted: bytes, program: bytes) -> bytes:
    """A program that drops the packets that `unwanted` accepts and runs `program` for the others.

    Args:
        unwanted: A filter compiled by libpcap, which returns only constants.
    """
    instructions = list(_INSTRUCTION.iter_unpack(unwanted))
    for place, (code, _, _, value) in enumerate(instructions):
        if code == _RETURN and value:
            instructions[place] = (_RETURN, 0, 0, 0)
        elif code == _RETURN:
            instructions[place] = (_JUMP, 0, 0, len(instructions) - place - 1)
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions) + program


def chain(unwanted: Sequence[bytes], program: bytes) -> bytes:
    """A program that drops packets that any of `unwanted` accepts and runs `program` for the others."""
    for one in reversed(unwanted):
        program = except_what_passes(one, program)
    return program


def text(rules: Iterable[OwnTraffic]) -> str:
    """The rules in the language of pcap-filter(7), to show to users; empty without rules."""
    terms = []
    for rule in rules:
        for near, far in (("src", "dst"), ("dst", "src")):
            ports = " or ".join(f"{far if rule.far else near} port {port}" for port in rule.ports)
            hosts = " or ".join(_network_text(near, network) for network in rule.networks)
            if ports and hosts:
                terms.append(f"(({hosts}) and ({ports}))")
    return f"not (tcp and ({' or '.join(terms)}))" if terms else ""


def _network_text(side: str, network: Network) -> str:
    if network.prefixlen == network.max_prefixlen:
        return f"{side} host {network.network_address}"
    return f"{side} net {network}"


# --- assembling ----------------------------------------------------------------

_DROP, _ACCEPT, _NEXT = "drop", "accept", "next"


class _Assembler:
    """Instructions with labels.  Only unconditional jumps, whose range is not limited, refer to labels."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, Union[int, str]]] = []
        self._places: dict[str, int] = {}
        self._names = 0

    def emit(self, code: int, value: int) -> None:
        self._code.append((code, 0, 0, value))

    def jump(self, place: str) -> None:
        self._code.append((_JUMP, 0, 0, place))

    def jump_if(self, code: int, value: int, place: str) -> None:
        self._code.append((code, 0, 1, value))
        self.jump(place)

    def jump_unless(self, code: int, value: int, place: str) -> None:
        self._code.append((code, 1, 0, value))
        self.jump(place)

    def new_place(self) -> str:
        self._names += 1
        return f"#{self._names}"

    def here(self, place: str) -> None:
        self._places[place] = len(self._code)

    def assembled(self) -> bytes:
        return b"".join(
            _INSTRUCTION.pack(code, yes, no, value if isinstance(value, int) else self._places[value] - at)
            for at, (code, yes, no, value) in enumerate(self._code, start=1)
        )


def _match(
    rules: Iterable[OwnTraffic],
    connections: Iterable[Connection],
    link_type: int,
    *,
    matched: str,
    other: str = _NEXT,
) -> bytes:
    """Code that jumps to one label for packets of these connections and to another for all others.

    Args:
        matched: The label for matching packets: `_DROP` (do not capture) or `_ACCEPT`.
        other: The label for other packets.  `_ACCEPT` and `_NEXT` are both the end of the code,
            where the next program begins.
    """
    rules, connections = tuple(rules), tuple(connections)
    network_at = _NETWORK_AT.get(link_type)
    if network_at is None or not (rules or connections):
        return b"" if other == _NEXT else _INSTRUCTION.pack(_RETURN, 0, 0, 0)
    code = _Assembler()
    for packet in (_IPv4(code, network_at), _IPv6(code, network_at)):
        not_this = code.new_place()
        packet.begin(not_this, other)
        for rule in rules:
            _match_rule(code, packet, rule, matched)
        for connection in connections:
            _match_connection(code, packet, connection, matched)
        code.jump(other)
        code.here(not_this)
    code.jump(other)
    code.here(_DROP)
    code.emit(_RETURN, 0)
    for place in (_ACCEPT, _NEXT):
        code.here(place)
    return code.assembled()


def _match_rule(code: _Assembler, packet: _Packet, rule: OwnTraffic, matched: str) -> None:
    networks = [network for network in rule.networks if network.version == packet.version]
    if not networks:
        return
    for near, far in ((_SOURCE, _DESTINATION), (_DESTINATION, _SOURCE)):
        right_port, no = code.new_place(), code.new_place()
        packet.load_port(far if rule.far else near)
        for port in rule.ports:
            code.jump_if(_EQUAL, port, right_port)
        code.jump(no)
        code.here(right_port)
        for network in networks:
            packet.match_network(near, network, matched)
        code.here(no)


def _match_connection(code: _Assembler, packet: _Packet, connection: Connection, matched: str) -> None:
    a, a_port, b, b_port = connection
    if a.version != packet.version:
        return
    for source, source_port, destination, destination_port in (connection, (b, b_port, a, a_port)):
        no, near = code.new_place(), code.new_place()
        packet.load_port(_SOURCE)
        code.jump_unless(_EQUAL, source_port, no)
        packet.load_port(_DESTINATION)
        code.jump_unless(_EQUAL, destination_port, no)
        packet.match_network(_SOURCE, _host(source), near)
        code.jump(no)
        code.here(near)
        packet.match_network(_DESTINATION, _host(destination), matched)
        code.here(no)


def _host(address: Address) -> Network:
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)


_SOURCE, _DESTINATION = "source", "destination"


class _Packet:
    """Emits code that reads the fields of a TCP packet."""

    version: int

    def __init__(self, code: _Assembler, network_at: int) -> None:
        self._code = code
        self._at = network_at

    def begin(self, not_this: str, no_tcp: str) -> None:
        """Jump to `not_this` unless the packet is of this IP version; to `no_tcp` if it has no TCP ports."""
        raise NotImplementedError

    def load_port(self, side: str) -> None:
        """Load the port of one side, `_SOURCE` or `_DESTINATION`."""
        raise NotImplementedError

    def match_network(self, side: str, network: Network, matched: str) -> None:
        """Jump to `matched` if the address of one side is in a network."""
        raise NotImplementedError


#: Bytes from the beginning of the network header to the addresses.
_IPV4_ADDRESS = {_SOURCE: 12, _DESTINATION: 16}
_IPV6_ADDRESS = {_SOURCE: 8, _DESTINATION: 24}


class _IPv4(_Packet):
    """RFC 791."""

    version = 4

    def begin(self, not_this: str, no_tcp: str) -> None:
        code, at = self._code, self._at
        code.emit(_LOAD_HALF, _PROTOCOL)
        code.jump_unless(_EQUAL, _IP, not_this)
        code.emit(_LOAD_LENGTH, 0)
        code.jump_unless(_AT_LEAST, at + 20, no_tcp)
        code.emit(_LOAD_BYTE, at + 9)
        code.jump_unless(_EQUAL, _TCP, no_tcp)
        code.emit(_LOAD_HALF, at + 6)
        code.jump_if(_ANY_BIT, 0x1FFF, no_tcp)  # a later fragment has no ports
        code.emit(_LOAD_IPV4_SIZE_INTO_X, at)
        code.emit(_LOAD_LENGTH, 0)
        code.emit(_SUBTRACT, at + 4)
        code.jump_unless(_AT_LEAST_X, 0, no_tcp)
        for offset, memory in ((0, _SOURCE_PORT), (2, _DESTINATION_PORT)):
            code.emit(_LOAD_HALF_AT_X, at + offset)
            code.emit(_STORE, memory)

    def load_port(self, side: str) -> None:
        self._code.emit(_LOAD_MEMORY, _SOURCE_PORT if side == _SOURCE else _DESTINATION_PORT)

    def match_network(self, side: str, network: Network, matched: str) -> None:
        self._code.emit(_LOAD_WORD, self._at + _IPV4_ADDRESS[side])
        if network.prefixlen < 32:
            self._code.emit(_AND, int(network.netmask))
        self._code.jump_if(_EQUAL, int(network.network_address), matched)


class _IPv6(_Packet):
    """RFC 8200; pcapd's connections have no extension headers."""

    version = 6

    def begin(self, not_this: str, no_tcp: str) -> None:
        code, at = self._code, self._at
        code.emit(_LOAD_HALF, _PROTOCOL)
        code.jump_unless(_EQUAL, _IPV6, not_this)
        code.emit(_LOAD_LENGTH, 0)
        code.jump_unless(_AT_LEAST, at + 44, no_tcp)
        code.emit(_LOAD_BYTE, at + 6)
        code.jump_unless(_EQUAL, _TCP, no_tcp)

    def load_port(self, side: str) -> None:
        self._code.emit(_LOAD_HALF, self._at + (40 if side == _SOURCE else 42))

    def match_network(self, side: str, network: Network, matched: str) -> None:
        no = self._code.new_place()
        parts = zip(
            struct.unpack("!4I", network.network_address.packed), struct.unpack("!4I", network.netmask.packed)
        )
        for number, (word, mask) in enumerate(parts):
            if not mask:
                break
            self._code.emit(_LOAD_WORD, self._at + _IPV6_ADDRESS[side] + 4 * number)
            if mask != 0xFFFFFFFF:
                self._code.emit(_AND, mask)
            self._code.jump_unless(_EQUAL, word, no)
        self._code.jump(matched)
        self._code.here(no)
