"""A wire with faults: ``python faulty.py LEFT RIGHT FAULTS``.

Passes Ethernet frames between two interfaces of its namespace and does to them what
FAULTS (JSON) says; at its end it prints what it did, which is the truth that tests compare with.
FAULTS is a list of rules; the first one that fits a packet counts::

    {"way": "up"|"down"|null, "port": 80|null, "protocol": 6|17|null, "larger": 600, "flags": 2,
     "with": "abc", "after": 3.0, "until": 9.0, "share": 0.1, "every": 10, "first": 3,
     "do": "drop"|"delay"|"double"|"reset"|"unreachable"|"too-big"|"damage", "ms": 20, "jitter_ms": 5, "name": "x"}

``way`` up is from LEFT to RIGHT; ``port`` is either one of them; ``larger`` is in bytes of the IP packet;
``flags`` must all be set (TCP); ``with`` is a text in the packet; ``after`` and ``until`` are seconds
since the start; ``share`` is a probability, drawn from ``SEED``.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import random
import selectors
import signal
import socket
import struct
import sys
import time
from typing import Any, Optional

ETH_ALL = 3
#: <asm-generic/socket.h>
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Packet:
    """What the rules look at."""

    def __init__(self, frame: bytes) -> None:
        self.frame = frame
        self.ip = frame[14:] if frame[12:14] == b"\x08\x00" else b""
        self.protocol = self.ip[9] if self.ip else -1
        self.size = (self.ip[0] & 15) * 4 if self.ip else 0
        self.ports: tuple[int, ...] = ()
        if self.protocol in (6, 17):
            self.ports = struct.unpack_from("!HH", self.ip, self.size)
        self.flags = self.ip[self.size + 13] if self.protocol == 6 else 0


def ipv4(source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), random.randrange(65536), 0, 64, protocol, 0)
    head += source + destination
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def reset(packet: Packet) -> bytes:
    """A RST in the name of the packet's receiver."""
    seq, ack = struct.unpack_from("!II", packet.ip, packet.size + 4)
    syn = packet.flags >> 1 & 1
    own = 0 if syn else ack
    length = len(packet.ip) - packet.size - (packet.ip[packet.size + 12] >> 4) * 4
    body = struct.pack(
        "!HHIIBBHHH",
        packet.ports[1],
        packet.ports[0],
        own,
        (seq + max(syn, length)) & 0xFFFFFFFF,
        0x50,
        0x14,
        0,
        0,
        0,
    )
    source, destination = packet.ip[16:20], packet.ip[12:16]
    pseudo = source + destination + struct.pack("!BBH", 0, 6, 20)
    body = body[:16] + struct.pack("!H", checksum(pseudo + body)) + body[18:]
    return packet.frame[6:12] + packet.frame[:6] + b"\x08\x00" + ipv4(source, destination, 6, body)


def icmp(packet: Packet, code: int, mtu: int = 0) -> bytes:
    """A "destination unreachable" in the name of the packet's receiver."""
    body = struct.pack("!BBHHH", 3, code, 0, 0, mtu) + packet.ip[: packet.size + 8]
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return (
        packet.frame[6:12]
        + packet.frame[:6]
        + b"\x08\x00"
        + ipv4(packet.ip[16:20], packet.ip[12:16], 1, body)
    )


class Rule:
    """One of the faults, and how often it was done."""

    def __init__(self, given: dict[str, Any], draw: random.Random) -> None:
        self.given = given
        self.count = self.seen = 0
        self._draw = draw

    def fits(self, packet: Packet, way: str, now: float) -> bool:
        given = self.given
        if given.get("way") not in (None, way) or not packet.ip:
            return False
        if given.get("port") is not None and given["port"] not in packet.ports:
            return False
        if given.get("protocol") is not None and given["protocol"] != packet.protocol:
            return False
        if len(packet.ip) <= given.get("larger", 0) or packet.flags & given.get("flags", 0) != given.get(
            "flags", 0
        ):
            return False
        if not given.get("after", 0) <= now < given.get("until", 1e9):
            return False
        if "with" in given and given["with"].encode() not in packet.ip:
            return False
        self.seen += 1
        if "first" in given and self.seen > given["first"]:
            return False
        if "every" in given and self.seen % given["every"]:
            return False
        return self._draw.random() < given.get("share", 1)


class Wire:
    """Two sockets and what happens between."""

    def __init__(self, left: str, right: str, rules: list[dict[str, Any]], seed: int) -> None:
        draw = random.Random(seed)
        self._draw = draw
        self.rules = [Rule(given, draw) for given in rules]
        self._sockets = {"up": _open(left), "down": _open(right)}
        self._late: list[tuple[float, int, str, bytes]] = []
        self._number = 0
        self._start = time.monotonic()
        self.passed = 0

    def run(self) -> None:
        selector = selectors.DefaultSelector()
        for way, one in self._sockets.items():
            selector.register(one, selectors.EVENT_READ, way)
        while True:
            wait = max(0.0, self._late[0][0] - time.monotonic()) if self._late else None
            for key, _ in selector.select(wait):
                for _ in range(64):
                    frame = self._receive(key.fileobj)
                    if frame is None:
                        break
                    self._take(frame, key.data)
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, way, frame = heapq.heappop(self._late)
                self._send(way, frame)

    def _receive(self, one: Any) -> Optional[bytes]:
        try:
            frame, address = one.recvfrom(65600)
        except BlockingIOError:
            return None
        return b"" if address[2] == socket.PACKET_OUTGOING else frame

    def _take(self, frame: bytes, way: str) -> None:
        if not frame:
            return
        packet = Packet(frame)
        for rule in self.rules:
            if rule.fits(packet, way, time.monotonic() - self._start):
                rule.count += 1
                self._do(rule.given, packet, way)
                return
        self._send(way, frame)

    def _do(self, given: dict[str, Any], packet: Packet, way: str) -> None:
        what, back = given["do"], "down" if way == "up" else "up"
        if what == "delay":
            ms = given["ms"] + self._draw.uniform(0, given.get("jitter_ms", 0))
            self._number += 1
            heapq.heappush(self._late, (time.monotonic() + ms / 1000, self._number, way, packet.frame))
        elif what == "double":
            self._send(way, packet.frame)
            self._send(way, packet.frame)
        elif what == "reset":
            self._send(back, reset(packet))
        elif what == "unreachable":
            self._send(back, icmp(packet, given.get("code", 13)))
        elif what == "too-big":
            self._send(back, icmp(packet, 4, given["mtu"]))
        elif what == "damage":
            self._send(way, packet.frame[:-1] + bytes([packet.frame[-1] ^ 0x55]))

    def _send(self, way: str, frame: bytes) -> None:
        self.passed += 1
        with contextlib.suppress(OSError):  # a full queue loses packets, as on any wire
            self._sockets["down" if way == "up" else "up"].send(frame)


def _open(device: str) -> socket.socket:
    one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_ALL))
    one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    one.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 32 << 20)
    one.bind((device, ETH_ALL))
    one.setblocking(False)
    return one


def main() -> None:
    wire = Wire(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]))

    def leave(*_: object) -> None:
        counts = [
            {"name": rule.given.get("name", rule.given["do"]), "count": rule.count} for rule in wire.rules
        ]
        print(json.dumps({"passed": wire.passed, "rules": counts}), flush=True)
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    print("ready", flush=True)
    wire.run()


if __name__ == "__main__":
    main()
