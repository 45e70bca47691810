"""What the installed commands make of packets in every encapsulation, as tshark sees them.

The packets, and each place on their way, are those of
``tests/unit/analysis/test_tunnels.py``.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from demo.certificates import Authority
from demo.configurations import LOCAL
from demo.processes import ROOT
from pcapd.savefile import blocks
from pcapd.wire import Counters, End, EndReason
from tests.kit.doubles.stream_api import Client, now_us
from tests.kit.files import interface, obsolete, section, simple
from tests.kit.hosts.scripted import Done, play
from tests.kit.lab.readers import require, tshark_fields
from tests.kit.packets import ipv4, tcp
from tests.kit.tunnels import PACKETS, places

PCAPCTL = ROOT / ".venv" / "bin" / "pcapctl"
PLACES = places(PACKETS["TCP"])
IMPLEMENTATIONS = pytest.mark.parametrize("pure", ["", "1"], ids=["compiled", "plain Python"])


def script(client: Client) -> None:
    """A capture with a source for each place, at which each packet passes."""
    client.greet()
    for number, (name, link_type, _) in enumerate(PLACES, start=1):
        client.open(number, name, link_type)
    time_us = now_us()
    for number in range(1, len(PLACES) + 1):
        records = b""
        for step, packet in enumerate(PACKETS.values()):
            frame = places(packet)[number - 1][2]
            seconds, micros = divmod(time_us + 100_000 * step + 1000 * number, 1_000_000)
            records += struct.pack("<4I", seconds, micros, len(frame), len(frame)) + frame
        client.packets(records, number)
        client.stats(len(PACKETS), number=number, final=True)
    count = len(PACKETS)
    counters = (Counters(number, count, 0, 0, count) for number in range(1, len(PLACES) + 1))
    client.say(client.callee.end(End(EndReason.DURATION, "", tuple(counters))))
    client.close()
    client.wait()


@pytest.fixture(scope="module")
def captured(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """What pcapctl printed of them, and its file."""
    credentials = authority.issue("encapsulations-api", dns=("localhost",), ips=(LOCAL,))
    directory = tmp_path_factory.mktemp("encapsulations")
    return play(script, credentials, directory, "--print", "--packet-ids")


def flows(path: Path, pure: str = "") -> list[dict[str, Any]]:
    """What ``pcapctl flows`` says of a file."""
    environment = {**os.environ, "PCAPD_PURE": pure}
    done = subprocess.run(
        [str(PCAPCTL), "flows", "--json", str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@IMPLEMENTATIONS
def test_the_same_flow_at_every_place(captured: Done, pure: str) -> None:
    """Each packet has its flow and its ports at every place, and none is missed anywhere."""
    assert captured.status == 0, captured.stderr
    found: dict[tuple[str, str, str], dict[str, int]] = {}
    for hop in flows(captured.path, pure):
        assert hop["lost"] == 0, hop
        seen = found.setdefault((hop["protocol"], hop["from"], hop["to"]), {})
        for end in ("a", "b"):
            seen[hop[end]["source"].partition(":")[0]] = hop[end]["packets"]
    names = [name for name, _, _ in PLACES]
    assert found == {
        ("TCP", "192.0.2.1:40000", "192.0.2.2:80"): dict.fromkeys(names, 1),
        ("UDP", "192.0.2.1:40000", "192.0.2.2:9"): dict.fromkeys(names, 2),
        ("TCP", "[2001:db8::1]:40000", "[2001:db8::2]:80"): dict.fromkeys(names, 3),
    }


def test_printed_as_tshark_sees_it(captured: Done) -> None:
    """Addresses and ports of every packet at every place, in the file's order."""
    require("tshark")
    wanted = []
    fields = [
        "ip.src",
        "ip.dst",
        "ipv6.src",
        "ipv6.dst",
        "tcp.srcport",
        "tcp.dstport",
        "udp.srcport",
        "udp.dstport",
    ]
    for row in tshark_fields(captured.path, fields):
        source, destination = (address for address in row[:4] if address)
        # tshark shows the first fragment, which is all that there is, without ports.
        ports = [port for port in row[4:] if port] or ["40000", "9"]
        ends = zip((source, destination), ports)
        wanted.append(tuple(f"[{end}]:{port}" if ":" in end else f"{end}:{port}" for end, port in ends))
    printed = [(event["from"], event["to"]) for event in captured.events if event["event"] == "packet"]
    assert len(printed) == len(PLACES) * len(PACKETS)
    assert printed == wanted


def test_reordercap_takes_our_files(captured: Done, tmp_path: Path) -> None:
    """reordercap reads our files, although it refuses name blocks between interface blocks."""
    require("reordercap")
    out = tmp_path / "ordered.pcapng"
    done = subprocess.run(["reordercap", captured.path, out], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    frames = len(PLACES) * len(PACKETS)
    assert done.stdout.split() == f"{frames} frames, 0 out of order".split()
    kinds = [kind for kind, _, _ in blocks.own_blocks(captured.path.read_bytes())]
    assert kinds[1 : 1 + len(PLACES)] == [1] * len(PLACES)


@IMPLEMENTATIONS
@pytest.mark.parametrize("order", ["<", ">"], ids=["little endian", "big endian"])
def test_flows_in_blocks_of_other_programs(tmp_path: Path, order: str, pure: str) -> None:
    """Simple and obsolete packet blocks count as enhanced ones do."""
    packet = ipv4(tcp(b"abc"), 6)
    path = tmp_path / "old.pcapng"
    path.write_bytes(
        section(order) + interface(order, b"eth0") + simple(order, packet) + obsolete(order, 0, 0, 5, packet)
    )
    (flow,) = flows(path, pure)
    assert (flow["from"], flow["to"], flow["a"]) == (
        "192.0.2.1:40000", "192.0.2.2:80", {"source": "eth0", "packets": 2},
    )  # fmt: skip
