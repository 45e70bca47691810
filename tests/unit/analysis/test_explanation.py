"""Files become findings: what is read, what is said, and that nobody's packet can forge or break it."""

from __future__ import annotations

import gzip
import json
import random
import re
import struct
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from click.testing import CliRunner

from pcapd.analysis import explanation as explanation_module
from pcapd.analysis.exchanges import log as log_module
from pcapd.analysis.findings.kinds import KINDS
from pcapd.analysis.findings.page import page
from pcapd.analysis.page.charts import Mark, rates
from pcapd.analysis.report import as_dict
from pcapd.ctl.display.explain import as_lines, explain, write_page
from pcapd.ctl.main import cli
from pcapd.errors import PcapdError
from tests.kit.segments import ACK, CLIENT, FIN, RST, SERVER, START, SYN, Packet, ipv4, pcap, tables, tcp

ROOT = Path(__file__).resolve().parents[3]


def udp(source: int, destination: int, data: bytes) -> bytes:
    return struct.pack("!4H", source, destination, 8 + len(data), 0) + data


def talk(
    port: int = 40000, *, request: bytes = b"", answer: bytes = b"", status: int = 200, wait: int = 900
) -> List[Packet]:
    """A connection with one request and its answer."""
    request = request or b"GET /items/7?token=secret HTTP/1.1\r\nHost: a\r\nX-Request-Id: 1\r\n\r\n"
    answer = answer or b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status
    up, down = (port, 80), (80, port)
    seq, ack = 100 + len(request), 300 + len(answer)
    steps = [
        (0, up, tcp(up, 99, 0, SYN)), (200, down, tcp(down, 299, 100, SYN | ACK)), (400, up, tcp(up, 100, 300, ACK)),
        (500, up, tcp(up, 100, 300, ACK, request)), (600, down, tcp(down, 300, seq, ACK)),
        (600 + wait, down, tcp(down, 300, seq, ACK, answer)), (700 + wait, up, tcp(up, seq, ack, ACK)),
        (800 + wait, up, tcp(up, seq, ack, FIN | ACK)), (900 + wait, down, tcp(down, ack, seq + 1, FIN | ACK)),
        (1000 + wait, up, tcp(up, seq + 1, ack + 1, ACK)),
    ]  # fmt: skip
    return [
        (us, ipv4(*((CLIENT, SERVER) if ports == up else (SERVER, CLIENT)), 6, segment, number))
        for number, (us, ports, segment) in enumerate(steps)
    ]


def at_once(count: int, requests: int, status: int = 503) -> List[Packet]:
    """Connections side by side, of which each makes some requests; every answer has the status."""
    request, answer = b"GET /a HTTP/1.1\r\n\r\n", b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status
    steps: List[Tuple[bool, int, int, int, bytes]] = [
        (True, 99, 0, SYN, b""),
        (False, 299, 100, SYN | ACK, b""),
    ]
    for number in range(requests):
        seq, ack = 100 + number * len(request), 300 + number * len(answer)
        steps.append((True, seq, ack, ACK, request))
        steps.append((False, ack, seq + len(request), ACK, answer))
    packets: List[Packet] = []
    for first in range(0, len(steps), 2):
        for port in range(40000, 40000 + count):
            for up, seq, ack, flags, data in steps[first : first + 2]:
                ports, ends = ((port, 80), (CLIENT, SERVER)) if up else ((80, port), (SERVER, CLIENT))
                number = len(packets)
                packets.append((1000 * number, ipv4(*ends, 6, tcp(ports, seq, ack, flags, data), number)))
    return packets


def test_more_connections_than_are_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forgotten between two requests is read on later, and no failure is lost or counted twice."""
    monkeypatch.setattr(log_module, "EXCHANGES_MAX", 2)
    explained = explain([pcap(tmp_path / "a.pcap", at_once(9, 4))])
    report = as_dict(explained)
    assert [(one["kind"], one["count"]) for one in report["findings"]] == [("http_errors", 36)]
    (group,) = report["requests"]["groups"]
    assert (group["count"], group["errors"]) == (36, 36)


def test_more_requests_under_way_than_are_read_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests without an answer are forgotten too when there are too many, and this is said."""
    monkeypatch.setattr(log_module, "EXCHANGES_MAX", 2)
    packets = at_once(9, 1)
    del packets[19::2]  # the answers
    report = as_dict(explain([pcap(tmp_path / "a.pcap", packets)]))
    assert [one["summary"] for one in report["findings"] if one["kind"] == "capture_incomplete"] == [
        "5 conversations were not read to the end, because there were too many at a time."
    ]


def test_more_conversations_than_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation that is closed to make room is not taken for one without an answer."""
    monkeypatch.setattr(explanation_module, "FOLLOWED", 3)
    packets = sorted((us * 1000 if us % 2000 else us * 1000 + 10**8, data) for us, data in at_once(9, 1, 200))
    assert [
        kind for kind, severity in kinds([pcap(tmp_path / "a.pcap", packets)]) if severity == "error"
    ] == []


def question(name: bytes, number: int = 1) -> bytes:
    return struct.pack("!6H", number, 0x100, 1, 0, 0, 0) + bytes([len(name)]) + name + b"\0\0\1\0\1"


def nxdomain(name: bytes) -> List[Packet]:
    """A name that does not exist."""
    asked = question(name)
    return [
        (0, ipv4(CLIENT, SERVER, 17, udp(5000, 53, asked), 1)),
        (300, ipv4(SERVER, CLIENT, 17, udp(53, 5000, asked[:2] + b"\x81\x83" + asked[4:]), 2)),
    ]


def kinds(names: List[str]) -> List[Tuple[str, str]]:
    return [(one["kind"], one["severity"]) for one in as_dict(explain(names))["findings"]]


@pytest.mark.parametrize(("order", "fine"), [("<", 1), (">", 1), ("<", 1000), (">", 1000)])
def test_files_of_anybody(tmp_path: Path, order: str, fine: int) -> None:
    """Files of either byte order, with microseconds or nanoseconds, are read; a cut last packet is passed over."""
    name = pcap(tmp_path / "a.pcap", talk(status=503), order, fine)
    with Path(name).open("ab") as file:
        file.write(bytes(9))
    report = as_dict(explain([name]))
    (finding,) = report["findings"]
    assert (report["packets"], report["first_us"], report["last_us"]) == (10, START, START + 1900)
    assert (finding["kind"], finding["count"], finding["frames"]) == (
        "http_errors",
        1,
        [{"file": 0, "number": 4}],
    )
    assert finding["display_filter"] == (
        "ip.addr == 192.0.2.1 && ip.addr == 192.0.2.2 && tcp.port == 40000 && tcp.port == 80"
    )


def test_a_time_with_more_microseconds_than_a_second(tmp_path: Path) -> None:
    """Other programs read such files, so they are read here too."""
    name = Path(pcap(tmp_path / "a.pcap", talk(status=503)))
    content = bytearray(name.read_bytes())
    struct.pack_into("<II", content, 24, START // 1_000_000 - 1, 1_000_000)  # the first packet
    name.write_bytes(content)
    report = as_dict(explain([str(name)]))
    assert (report["packets"], report["first_us"], len(report["findings"])) == (10, START, 1)


def test_the_object(tmp_path: Path) -> None:
    """The keys of the JSON object are pinned."""
    report = as_dict(explain([pcap(tmp_path / "a.pcap", talk(wait=2_000_000))]))
    assert list(report) == [
        "version", "files", "packets", "first_us", "last_us", "sources", "findings", "conversations", "requests",
    ]  # fmt: skip
    assert set(report["sources"][0]) == {
        "name", "instance", "file", "packets", "dropped", "clock_offset_us", "clock_error_us",
    }  # fmt: skip
    assert set(report["findings"][0]) == {
        "kind", "severity", "client", "server", "sources", "count", "first_us", "last_us", "frames",
        "display_filter", "summary", "advice",
    }  # fmt: skip
    assert set(report["conversations"][0]) == {
        "client", "server", "protocol", "sources", "packets", "bytes", "retransmissions", "lost_between", "rtt_us",
    }  # fmt: skip
    (group,) = report["requests"]["groups"]
    assert (group["method"], group["path"], group["count"], group["errors"], group["p50_us"]) == (
        "GET", "/items", 1, 0, 2_000_100,
    )  # fmt: skip
    assert set(report["requests"]["slowest"][0]) == {
        "client", "server", "sources", "method", "path", "status", "first_us", "duration_us",
        "network_us", "envoy_us", "app_us",
    }  # fmt: skip
    assert "secret" not in json.dumps(report)


def test_ipv6(tmp_path: Path) -> None:
    """Addresses, a filter, and what an ICMPv6 error quotes."""
    here, there = (
        bytes([0x20, 1, 0xD, 0xB8]) + bytes(11) + b"\1",
        bytes([0x20, 1, 0xD, 0xB8]) + bytes(11) + b"\2",
    )

    def ipv6(source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + source + destination + payload

    syn = ipv6(here, there, 6, tcp((40000, 80), 99, 0, SYN))
    error = ipv6(there, here, 58, bytes([1, 1]) + bytes(6) + syn)
    (finding,) = as_dict(explain([pcap(tmp_path / "a.pcap", [(0, syn), (90, error)])]))["findings"]
    assert (finding["kind"], finding["server"]) == (
        "connection_unreachable",
        {"address": "2001:db8::2", "port": 80},
    )
    assert finding["display_filter"].startswith(
        "ipv6.addr == 2001:db8::1 && ipv6.addr == 2001:db8::2 && tcp.port == 40000"
    )
    assert "administratively prohibited" in finding["summary"]


def test_two_places(tmp_path: Path) -> None:
    """A healthy connection that two places saw has no finding, whatever the clocks are apart."""
    seen = talk() + [(us + 3_000_000, data) for us, data in talk(40001)]
    for apart in (0, 300_000, 5_000_000):
        names = [pcap(tmp_path / "a.pcap", seen)]
        # What the client sends takes 70 µs, and what the server sends came 70 µs before.
        later = [(us + apart + (70 if data[12:16] == CLIENT else -70), data) for us, data in seen]
        names.append(pcap(tmp_path / "b.pcap", later))
        report = as_dict(explain(names))
        loud = [
            one for one in report["findings"] if one["severity"] != "note" and one["kind"] != "clocks_apart"
        ]
        assert not loud, loud
        assert abs(report["sources"][1]["clock_offset_us"] - apart) <= 100
        assert report["requests"]["slowest"][0]["network_us"] == 140


def test_segments_that_a_network_card_cuts(tmp_path: Path) -> None:
    """The sender's place sees large ones, the receiver's small ones: nothing was lost."""
    before, after = talk()[:3], talk()[:3]
    for number in range(30):
        us, seq = 1000 + 200 * number, 300 + 2000 * number
        large = ipv4(SERVER, CLIENT, 6, tcp((80, 40000), seq, 100, ACK, bytes(2000)), 100 + number)
        before.append((us, large))
        for half in (0, 1):
            small = tcp((80, 40000), seq + 1000 * half, 100, ACK, bytes(1000))
            after.append((us + 50 + half, ipv4(SERVER, CLIENT, 6, small, 500 + 2 * number + half)))
        confirmed = ipv4(CLIENT, SERVER, 6, tcp((40000, 80), 100, seq + 2000, ACK), 900 + number)
        before.append((us + 100, confirmed))
        after.append((us + 70, confirmed))
    other = [(us + 3_000_000, data) for us, data in talk(41000)]
    names = [pcap(tmp_path / "server.pcap", before + other), pcap(tmp_path / "client.pcap", after + other)]
    assert kinds(names) == []


@pytest.mark.parametrize("lost", [1, 4, 9])
def test_a_response_with_many_losses_is_read(tmp_path: Path, lost: int) -> None:
    """Every second segment of a response is lost and sent again, the first last: the response is still read."""
    size, request = 100, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    head = b"HTTP/1.1 503 X\r\nContent-Length: %06d\r\n\r\n"
    body = bytes(2 * lost * size - len(head % 0))
    answer = head % len(body) + body
    before, after = talk(request=request, answer=answer)[:5], talk(request=request, answer=answer)[6:]
    sent = []
    for number, part in enumerate([*range(1, 2 * lost, 2), *reversed(range(0, 2 * lost, 2))]):
        data = answer[size * part :][:size]
        segment = tcp((80, 40000), 300 + size * part, 100 + len(request), ACK, data)
        sent.append((1500 + 10 * number, ipv4(SERVER, CLIENT, 6, segment, 50 + number)))
    packets = before + sent + [(us + 5000, data) for us, data in after]
    assert ("http_errors", "error") in kinds([pcap(tmp_path / "a.pcap", packets)])


def test_an_interface_that_shows_everything_twice(tmp_path: Path) -> None:
    """An interface that shows each packet twice, as ``any`` on a router, causes no warning of retransmissions."""
    seen = talk()[:3]
    for burst in range(5):
        segments = []
        for number in range(20 * burst, 20 * burst + 20):
            segment = tcp((80, 40000), 300 + 1000 * number, 100, ACK, bytes(1000))
            segments.append(ipv4(SERVER, CLIENT, 6, segment, 100 + number))
        for again in (0, 1):
            seen += [
                (1000 + 3000 * burst + 500 * again + 10 * place, data) for place, data in enumerate(segments)
            ]
    assert kinds([pcap(tmp_path / "any.pcap", seen)]) == []


@pytest.mark.parametrize("queue", [10, 400_000])
def test_a_place_that_sees_packets_twice_is_not_before_a_loss(tmp_path: Path, queue: int) -> None:
    """Packets that wait between two sightings at ``any`` of a router arrived at the other place."""
    router, server = talk(), talk()
    for number in range(100):
        datagram = ipv4(CLIENT, SERVER, 17, struct.pack("!HHHH", 5000, 9, 8, 0), 1000 + number)
        us = 2000 + 1000 * number
        router += [(us, datagram), (us + queue, datagram)]
        server.append((us + queue + 20, datagram))
    tail = [(us + 3_000_000, data) for us, data in talk(41000)]
    names = [
        pcap(tmp_path / f"{name}.pcap", sorted(seen + tail, key=lambda pair: pair[0]))
        for name, seen in (("any", router), ("server", server))
    ]
    assert kinds(names) == []


def _upload(again_us: int, explained_us: int) -> List[Tuple[int, bytes]]:
    """Segments that are sent again at times, and an ICMP message about the size of the first."""
    packets = talk()[:3]
    segments = [
        ipv4(CLIENT, SERVER, 6, tcp((40000, 80), 100 + 1400 * number, 300, ACK, bytes(1400)), 50 + number)
        for number in range(8)
    ]
    packets += [(1000 + number, segment) for number, segment in enumerate(segments)]
    if explained_us:
        quoted = struct.pack("!BBHHH", 3, 4, 0, 0, 1300) + segments[0][:28]
        packets.append((explained_us, ipv4(SERVER, CLIENT, 1, quoted, 70)))
    for number in range(8):
        again = tcp((40000, 80), 100 + 1400 * number, 300, ACK, bytes(1400))
        packets.append((again_us + number, ipv4(CLIENT, SERVER, 6, again, 80 + number)))
    packets.append((again_us + 300, ipv4(SERVER, CLIENT, 6, tcp((80, 40000), 300, 100 + 8 * 1400, ACK), 71)))
    return packets


@pytest.mark.parametrize(
    ("explained_us", "again_us", "severity"),
    [(2000, 3000, "note"), (0, 300_000, "warning"), (2000, 3_000_000, "warning")],
)
def test_a_path_mtu_that_is_learned(tmp_path: Path, explained_us: int, again_us: int, severity: str) -> None:
    """Retransmissions just after ICMP said that packets are too large are no problem; later ones are."""
    found = kinds([pcap(tmp_path / "a.pcap", _upload(again_us, explained_us))])
    assert found == [("retransmissions", severity)]


@pytest.mark.parametrize(
    "name", [b"\x1b[2J\x07boo", b"<script>alert(1)", b"a\nerror: forged", "a\u202eb".encode()]
)
def test_a_name_cannot_forge_anything(tmp_path: Path, name: bytes) -> None:
    """A question's name holds what somebody sent: no line of its own, nothing that drives a terminal."""
    found = explain([pcap(tmp_path / "a.pcap", nxdomain(name))])
    lines = as_lines(found, everything=True)
    assert sum(line.startswith(("error:", "warning:", "note:")) for line in lines) == 1
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("name", [b"<script>alert(1)", b'"><img src=x>', b"&amp;<!--"])
def test_the_page(tmp_path: Path, name: bytes) -> None:
    """The page is readable by its owner alone, loads nothing, and escapes all text of packets."""
    script = b"GET /<svg/onload=1> HTTP/1.1\r\nHost: a\r\n\r\n"
    file = pcap(tmp_path / "<b>.pcap", nxdomain(name) + talk(status=500, request=script))
    done = CliRunner().invoke(cli, ["explain", file, "--html", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    page_ = tmp_path / "page.html"
    assert page_.stat().st_mode & 0o777 == 0o600 and page_.stat().st_size < 300_000
    tags = set(re.findall(r"<[/!]?([a-zA-Z]+|--)", page_.read_text()))
    assert tags <= {
        "doctype", "html", "head", "meta", "title", "style", "body", "h", "p", "span", "table", "tr", "th", "td",
        "div", "b", "br", "code", "svg", "text", "path", "polyline", "rect", "circle",
    }, tags  # fmt: skip
    assert "http:" not in page_.read_text() and "url(" not in page_.read_text()


@pytest.mark.parametrize("option", [(), ("--show-contents",)])
def test_contents(tmp_path: Path, option: Tuple[str, ...]) -> None:
    """Query strings, hosts and responses are shown only if they are asked for, and are escaped everywhere."""
    request = b"GET /a/b?token=<i>\x1b]0;x\x07 HTTP/1.1\r\nHost: <b>host\r\nCookie: biscuit\r\n\r\n"
    answer = b"HTTP/1.1 500 Bad\r\nContent-Length: 14\r\nServer: own\r\n\r\n<hr> it\r\n broke"
    waits = talk(40001, request=b"GET /slow?q=1 HTTP/1.1\r\n\r\n", wait=3_000_000)
    file = pcap(tmp_path / "a.pcap", talk(request=request, answer=answer) + waits)
    arguments = ["explain", file, "--html", str(tmp_path / "page.html"), *option]
    text = CliRunner().invoke(cli, arguments).output
    report = CliRunner().invoke(cli, [*arguments, "--json"]).output
    page_ = (tmp_path / "page.html").read_text()
    for output in (text, report, page_):
        assert "biscuit" not in output and "\x1b" not in output and "Server" not in output
        for secret in ("token=", "q=1", "it broke", "500 Bad"):
            assert (secret in output) is bool(option), (secret, output)
    assert not re.search("<(i|hr)>|<b>host", page_)
    if option:
        assert "GET <b>host/a/b?token=<i>\\x1b]0;x\\x07 (500 Bad: <hr> it broke)" in text
        assert ("--show-contents" in page_) and (tmp_path / "page.html").stat().st_mode & 0o777 == 0o600
        assert {one["path"] for one in json.loads(report)["requests"]["groups"]} == {"/a", "/slow"}


def test_a_compressed_file(tmp_path: Path) -> None:
    """Files that pcapctl compressed are read; one that was cut is refused."""
    plain = Path(pcap(tmp_path / "a.pcap", talk(status=503)))
    packed = tmp_path / "a.pcap.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert kinds([str(packed)]) == kinds([str(plain)]) == [("http_errors", "error")]
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(PcapdError, match="not a complete gzip file"):
        kinds([str(packed)])


def test_the_ladder_marks_what_is_meant(tmp_path: Path) -> None:
    """The diagram of the conversation marks the packets that the finding names, far into a conversation too."""
    up, down, packets = (40000, 80), (80, 40000), talk()[:3]
    seq, ack = 100, 300
    for number in range(100):
        answer = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (503 if number == 70 else 200)
        request = b"GET /a HTTP/1.1\r\n\r\n"
        at = 1000 + number * 1000
        packets.append((at, ipv4(CLIENT, SERVER, 6, tcp(up, seq, ack, ACK, request), 2 * number)))
        seq += len(request)
        packets.append((at + 500, ipv4(SERVER, CLIENT, 6, tcp(down, ack, seq, ACK, answer), 2 * number)))
        ack += len(answer)
    write_page([pcap(tmp_path / "a.pcap", packets)], str(tmp_path / "page.html"))
    diagram = (tmp_path / "page.html").read_text().rpartition("<h2>Packets of")[2]
    assert diagram.count('class="band"') == 1 and diagram.count('class="arrow') == 36
    rows = re.findall(r'(class="band".*?)?<text [^>]*class="dim"[^>]*>([0-9.]+) ms', diagram)
    assert [index for index, (band, _) in enumerate(rows) if band] == [12]


@pytest.mark.parametrize("seconds", [0, 0.0004, 0.7, 8, 61, 3600, 400_000])
def test_the_axis_of_time(seconds: float) -> None:
    """A capture of any length has some round times on its axis, and not too many."""
    line = [(START, 1.0), (START + int(seconds * 1e6), 2.0)]
    drawn = rates([("a", line)], [Mark(START, "error", "<b>")])
    ticks = re.findall(r">([0-9.e+-]+) s</text>", drawn)
    assert ticks[0] == "0" and len(ticks) in range(1 if seconds < 0.001 else 4, 10)
    assert "<b>" not in drawn


def test_the_command(tmp_path: Path) -> None:
    """Exit 0 with findings, 1 for what cannot be read, and it says so."""
    name = pcap(
        tmp_path / "a.pcap",
        [(0, talk()[0][1]), (100, ipv4(SERVER, CLIENT, 6, tcp((80, 40000), 0, 100, RST | ACK), 9))],
    )
    done = CliRunner().invoke(cli, ["explain", name])
    assert (
        done.exit_code == 0 and "error: connection_refused: 192.0.2.2:80 refused 1 connection" in done.output
    )
    assert json.loads(CliRunner().invoke(cli, ["explain", "--json", name]).output)["version"] == 1
    (tmp_path / "b").write_bytes(b"no capture")
    assert CliRunner().invoke(cli, ["explain", str(tmp_path / "b")]).exception is not None


def test_findings_page() -> None:
    """docs/findings.rst equals the texts of the kinds, as bin/build-findings writes them."""
    assert (ROOT / "docs" / "findings.rst").read_text() == page()
    assert len({kind.name for kind in KINDS}) == len(KINDS) == 20


def hostile(seed: int) -> List[Packet]:
    """Real packets, damaged, cut, repeated and mixed."""
    random_ = random.Random(seed)
    packets = (
        talk()
        + nxdomain(b"name")
        + talk(request=b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    )
    packets += talk(
        443, request=b"\x16\x03\x01\0\x30\x01\0\0\x2c\3\3" + bytes(60), answer=b"\x15\3\3\0\2\2\x28"
    )
    quote = talk()[3][1][:48]
    packets.append((50, ipv4(SERVER, CLIENT, 1, bytes([3, random_.randrange(16)]) + bytes(6) + quote, 4)))
    out = []
    us = 0
    for _ in range(300):
        _, data = random_.choice(packets)
        us += random_.choice((1, 100, 10_000, 3_000_000))
        if random_.random() < 0.5:
            changed = bytearray(data)
            for _ in range(random_.randrange(1, 6)):
                changed[random_.randrange(20, len(changed))] = random_.randrange(256)
            data = bytes(changed)
        if random_.random() < 0.1:
            data = data[: random_.randrange(len(data))]
        out.append((us, data))
    return out


@pytest.mark.parametrize("seed", range(10))
def test_hostile_packets(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile packets raise no exception, and both implementations agree."""
    names = [
        pcap(tmp_path / name, hostile(seed + shift))
        for name, shift in (("a.pcap", 0), ("b.pcap", 0), ("c.pcap", 99))
    ]
    said: List[Any] = []
    for table in tables():
        monkeypatch.setattr(explanation_module, "ConversationTable", table)
        found = explain(names[: 1 + seed % 3])
        said.append((as_dict(found), as_lines(found, everything=True)))
    assert all(one == said[0] for one in said)
