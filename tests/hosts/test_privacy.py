"""What an operator keeps from users, and users from their own files: payloads, interfaces, traffic."""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from demo.certificates import Authority
from demo.configurations import free_port, merged
from demo.daemons import Daemon
from demo.processes import ROOT
from pcapd.errors import Forbidden
from tests.kit.doubles.cloud_controller import CfApp, Instance, Process
from tests.kit.hosts.chain import Chain, Result, read_pcapng
from tests.kit.hosts.foundation import foundation_in
from tests.kit.lab.containers import in_namespace
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.readers import capinfos, require, tshark_fields

SECRET = b"nobody-elses-business"
PORT, OTHER_PORT = 7707, 7708
#: Ethernet, IPv4, UDP.
HEADERS = 14 + 20 + 8
#: <linux/if_tun.h>, <linux/if_arp.h>.
TUNSETIFF, TUNSETLINK, IFF_TUN, ARPHRD_IEEE80211 = 0x400454CA, 0x400454CD, 0x1001, 801


@contextlib.contextmanager
def ruled(chain: Chain, name: str, policy: dict[str, Any], **users: Any) -> Iterator[Daemon]:
    """An api with a policy, before the same agents."""
    change = {
        "id": name,
        "listen": {"port": free_port()},
        "metrics": None,
        "policy": policy,
        "static": {"users": users},
    }
    with Daemon("api", merged(chain.api.config, change), chain.directory) as api:
        yield api


def captured(chain: Chain, api: Daemon, *arguments: str, rate: int = 500) -> Result:
    """A capture of generated packets at that api."""
    env = {"PCAP_API": f"https://127.0.0.1:{api.port}"}
    with Generator(chain.link, size=200, rate=rate):
        return chain.begin(*arguments, "--duration", "1s", env=env).wait()


def started(api: Daemon) -> dict[str, Any]:
    """The audit record of the last capture."""
    return [record for record in api.records() if record.get("audit") == "capture_started"][-1]


def talk(chain: Chain, port: int) -> None:
    """Say the secret over TCP from one host to the other."""
    address = chain.link.right.ipv4
    server = in_namespace(Path(chain.web1.path), lambda: socket.create_server((address, port)))
    with (
        server,
        in_namespace(Path(chain.web0.path), lambda: socket.create_connection((address, port))) as client,
    ):
        connection, _ = server.accept()
        with connection:
            client.sendall(SECRET * 10)
            while len(connection.recv(65536)) == 0:
                pass
            connection.sendall(SECRET)
            client.recv(65536)


def assert_headers_only(result: Result) -> None:
    """No byte behind the UDP header; lengths as they were on the wire."""
    packets = result.file.packets
    assert packets and {(len(packet.data), packet.length) for packet in packets} == {(HEADERS, 200)}
    rows = tshark_fields(result.path, ["udp.dstport", "frame.len", "frame.cap_len"])
    assert set(map(tuple, rows)) == {("9999", "200", str(HEADERS))}


def test_headers_only_as_asked(chain: Chain) -> None:
    """Every packet of both hosts is cut after its UDP header; file, report and audit say so."""
    require("tshark")
    result = captured(chain, chain.api, "web-0", "web-1", "--filter", FILTER, "--headers-only")
    assert result.status == 0, result.stderr
    assert_headers_only(result)
    assert all(source["headers_only"] for source in result.sources.values())
    assert not result.notices
    assert {interface.name for interface in result.file.interfaces} == {"web-0:eth0", "web-1:eth0"}
    assert b", headers only" in result.path.read_bytes()
    assert started(chain.api)["headers_only"] is True


def test_no_payload_of_a_conversation(chain: Chain) -> None:
    """With --headers-only the handshake and all acknowledgements are there, and no payload byte."""
    require("tshark")
    client = chain.begin("web-0", "--filter", f"tcp port {PORT}", "--headers-only")
    client.wait_for("web-0:eth0")
    talk(chain, PORT)
    result = client.stop()
    assert result.status == 0, result.stderr
    content = result.path.read_bytes()
    assert SECRET not in content and SECRET[:6] not in content
    rows = tshark_fields(result.path, ["tcp.flags.syn", "tcp.flags.fin", "tcp.len"])
    assert sum(row[0] in ("1", "True") for row in rows) == 2
    assert sum(int(row[2]) for row in rows) == 11 * len(SECRET)  # lengths are headers


def test_packets_that_cannot_be_taken_apart(chain: Chain) -> None:
    """An interface whose headers we do not know is refused rather than given in whole; without the option it is."""
    chain.web0.ip("tuntap", "add", "odd0", "mode", "tun")

    def change() -> None:
        with open("/dev/net/tun", "wb", buffering=0) as device:
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", b"odd0", IFF_TUN))
            fcntl.ioctl(device, TUNSETLINK, ARPHRD_IEEE80211)

    try:
        in_namespace(Path(chain.web0.path), change)
        chain.web0.ip("link", "set", "odd0", "up")
        asked = ("web-0", "--device", "odd0", "--duration", "500ms")
        refused = chain.capture(*asked, "--headers-only")
        taken = chain.capture(*asked)
    finally:
        chain.web0.ip("link", "delete", "odd0")
    assert refused.status == 1 and "cannot be cut after their headers" in refused.report["error"]
    assert taken.status == 0, taken.stderr
    assert capinfos(taken.path)["File encapsulation"] == "ieee-802-11"


def test_snaplen_and_headers_only(chain: Chain) -> None:
    """With --snaplen and --headers-only the shorter length counts."""
    result = captured(chain, chain.api, "web-0", "--filter", FILTER, "--headers-only", "--snaplen", "20")
    assert {(len(packet.data), packet.length) for packet in result.file.packets} == {(20, 200)}


def test_by_curl(chain: Chain, tmp_path: Path) -> None:
    """GET /capture supports headers only as well."""
    require("curl")
    path = tmp_path / "headers.pcapng"
    with Generator(chain.link, size=200, rate=500):
        done = chain.curl(
            "target=web-0&filter=udp+dst+port+9999&duration=1s&headers_only=true",
            *("--output", str(path), "--header", "Accept: application/x-pcapng"),
        )
    assert done.returncode == 0, done.stderr
    assert {len(packet.data) for packet in read_pcapng(path).packets} == {HEADERS}


@pytest.mark.parametrize("arguments", [(), ("--snaplen", "262144"), ("--headers-only",)])
@pytest.mark.long(but=("arguments0",))
def test_everybody_gets_headers_only(chain: Chain, arguments: tuple[str, ...]) -> None:
    """A policy of headers only applies to every request, and users who asked for more get a notice."""
    require("tshark")
    with ruled(chain, "headers", {"headers_only": True}) as api:
        result = captured(chain, api, "web-0", "--filter", FILTER, *arguments)
        assert started(api)["headers_only"] is True
    assert result.status == 0, result.stderr
    assert_headers_only(result)
    told = [notice for notice in result.notices if notice["type"] == "LIMIT_REACHED"]
    assert len(told) == (0 if arguments == ("--headers-only",) else 1)
    assert all("packets are cut after their headers" in notice["message"] for notice in told)


@pytest.mark.parametrize("query", ["", "&headers_only=false", "&snaplen=9999"])
@pytest.mark.long(but=("headers_only=false",))
def test_everybody_gets_headers_only_by_curl(chain: Chain, tmp_path: Path, query: str) -> None:
    """No parameter of curl gets payloads under a policy of headers only."""
    require("curl")
    path = tmp_path / "headers.pcap"
    with ruled(chain, "headers", {"headers_only": True}) as api, Generator(chain.link, size=200, rate=500):
        asked = f"target=web-0&filter=udp+dst+port+9999&duration=1s{query}"
        command = chain.curl_command(asked, "--output", str(path), "--header", "Accept: application/x-pcapng",
                                     url=f"https://127.0.0.1:{api.port}")  # fmt: skip
        subprocess.run(command, check=True, timeout=60)
    assert {len(packet.data) for packet in read_pcapng(path).packets} == {HEADERS}


def test_one_user_gets_headers_only(chain: Chain) -> None:
    """A policy of headers only for one user leaves others at the same api unaffected."""
    alice = {**chain.api.config["static"]["users"]["alice"], "headers_only": True}
    with ruled(chain, "alice-only", {}, alice=alice) as api:
        less = captured(chain, api, "web-1", "--filter", FILTER)
        env = {"PCAP_API": f"https://127.0.0.1:{api.port}", "PCAP_TOKEN": chain.bob}
        with Generator(chain.link, size=200, rate=500):
            more = chain.begin("web-1", "--filter", FILTER, "--duration", "1s", env=env).wait()
    assert {len(packet.data) for packet in less.file.packets} == {HEADERS}
    (notice,) = less.notices
    assert "your permissions allow nothing else" in notice["message"]
    assert {len(packet.data) for packet in more.file.packets} == {200} and not more.notices


def test_interfaces_that_are_allowed(chain: Chain) -> None:
    """The first allowed interface is the default; another one is refused with the list."""
    with ruled(chain, "devices", {"devices": ["lo"]}) as api:
        env = {"PCAP_API": f"https://127.0.0.1:{api.port}"}
        taken = chain.begin("web-0", "--duration", "200ms", env=env).wait()
        assert [interface.name for interface in taken.file.interfaces] == ["web-0:lo"]
        for devices in (("eth0",), ("lo", "eth0")):
            named = [word for device in devices for word in ("--device", device)]
            refused = chain.begin("web-0", *named, "--duration", "1s", env=env).wait()
            assert refused.status == 1
            assert "interface 'eth0' may not be captured (allowed are: lo)" in refused.report["error"]
        done = subprocess.run(
            chain.curl_command("target=web-0&device=eth0", url=env["PCAP_API"]),
            capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        (error,) = json.loads(done.stdout)["errors"]
        assert error["code"] == Forbidden.code
        assert sum(record.get("audit") == "capture_started" for record in api.records()) == 1


def test_a_reason_that_the_operator_wants(chain: Chain) -> None:
    """Without a reason nothing is captured; with one, by option, variable or query, it is in the audit record."""
    with ruled(chain, "reasons", {"require_reason": True}) as api:
        env = {"PCAP_API": f"https://127.0.0.1:{api.port}"}
        refused = chain.begin("web-0", "--duration", "1s", env=env).wait()
        assert refused.status == 1 and "--reason" in refused.report["error"]
        for reason, arguments, variables in (
            ("TICKET-7: resets", ("--reason", "TICKET-7: resets"), {}),
            ("TICKET-8", (), {"PCAP_REASON": "TICKET-8"}),
        ):
            begun = chain.begin("web-0", "--duration", "200ms", *arguments, env={**env, **variables})
            assert begun.wait().status == 0
            assert started(api)["purpose"] == reason
        command = chain.curl_command("target=web-0&duration=200ms&reason=TICKET-9", url=env["PCAP_API"])
        subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
        assert started(api)["purpose"] == "TICKET-9"


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"tcp port {PORT} or tcp port {OTHER_PORT}",
        "tcp or not tcp",
        f"not (tcp port {PORT}) or tcp",
    ],
)
@pytest.mark.long(but=("tcp port 7707 or tcp port",))
def test_an_exclusion_cannot_be_escaped(chain: Chain, text: str) -> None:
    """Traffic that the policy excludes is not captured, whatever the user's filter is; other traffic is."""
    with ruled(chain, "exclude", {"exclude": [f"port {PORT}", "icmp6"]}) as api:
        env = {"PCAP_API": f"https://127.0.0.1:{api.port}"}
        client = chain.begin("web-0", "--filter", text, env=env)
        client.wait_for("web-0:eth0")
        talk(chain, PORT)
        talk(chain, OTHER_PORT)
        result = client.stop()
        assert started(api)["exclude"] == [f"port {PORT}", "icmp6"]
    assert result.status == 0, result.stderr
    ports = {
        port for row in tshark_fields(result.path, ["tcp.srcport", "tcp.dstport"]) for port in row if port
    }
    assert str(PORT) not in ports
    assert str(OTHER_PORT) in ports
    (source,) = result.sources.values()
    assert f"not (port {PORT}) and not (icmp6)" in source["filter"]


def documented_exclusions() -> list[str]:
    """Return the filters of docs/operations.rst that close an exclusion's gaps."""
    page = (ROOT / "docs" / "operations.rst").read_text()
    return re.findall(r'^ +- "(ip.*?)" +#', page, re.MULTILINE)


def send(chain: Chain, family: int, port: int, size: int, options: bytes = b"") -> None:
    """Say the secret over UDP from one host to the other, `options` in an extension header of IPv6."""

    def say() -> None:
        with socket.socket(family, socket.SOCK_DGRAM) as udp:
            if options:
                udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, options)
            udp.sendto(SECRET.ljust(size, b".") + SECRET, (address, port))

    right = chain.link.right
    address = right.ipv6 if family == socket.AF_INET6 else right.ipv4
    # Said in advance: with many namespaces on a machine, the kernel has forgotten it, or does not find it out.
    (link,) = json.loads(right.namespace.ip("-j", "link", "show", "dev", right.device))
    neighbour = (address, "lladdr", link["address"], "dev", chain.link.left.device)
    chain.link.left.namespace.ip("neighbour", "replace", *neighbour)
    in_namespace(Path(chain.web0.path), say)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.long
def test_the_gaps_of_an_exclusion(chain: Chain, closed: bool) -> None:
    """A port does not exclude later fragments, nor what follows an extension header; the manual's filters do."""
    closing = documented_exclusions()
    assert len(closing) == 2
    with ruled(chain, "gaps", {"exclude": [f"port {PORT}", *(closing if closed else [])]}) as api:
        env = {"PCAP_API": f"https://127.0.0.1:{api.port}"}
        client = chain.begin("web-1", "--filter", "not icmp and not icmp6", env=env)
        client.wait_for("web-1:eth0")
        send(chain, socket.AF_INET, PORT, 4000)
        send(chain, socket.AF_INET6, PORT, 0)
        send(chain, socket.AF_INET6, PORT, 0, bytes((0, 0, 1, 4, 0, 0, 0, 0)))  # RFC 8200: PadN
        for family in (socket.AF_INET, socket.AF_INET6):
            send(chain, family, OTHER_PORT, 0)
        client.wait_for("web-1:eth0", packets=2)
        result = client.stop()
    assert result.status == 0, result.stderr
    found = [packet.data for packet in result.file.packets if SECRET in packet.data]
    # Everything to the other port, and of the excluded port what the filter does not see.
    kinds = sorted(
        (packet[12:14], packet[20] if packet[12:14] == b"\x86\xdd" else packet[23]) for packet in found
    )
    seen = [(b"\x08\x00", 17), (b"\x86\xdd", 17)]
    assert kinds == (seen if closed else sorted([*seen, (b"\x08\x00", 17), (b"\x86\xdd", 60)]))


@pytest.mark.parametrize(
    ("exclusion", "text", "words"),
    [
        (f"port {PORT}", f"tcp port {PORT}", "rejects all packets"),
        (f"port {PORT}", f") or (tcp port {PORT}", "syntax error"),
        (f"port {PORT}", f"tcp port {PORT}) or (tcp", "syntax error"),
        ("port fish-and-chips-7", "", "fish-and-chips-7"),
    ],
    ids=["nothing is left", "parentheses", "other parentheses", "no filter"],
)
def test_a_policy_that_refuses(chain: Chain, exclusion: str, text: str, words: str) -> None:
    """Filters that leave nothing, or try to escape by parentheses, and an invalid exclusion are refused by name."""
    with ruled(chain, "refusing", {"exclude": [exclusion]}) as api:
        env = {"PCAP_API": f"https://127.0.0.1:{api.port}"}
        refused = chain.begin("web-0", "--filter", text, "--duration", "1s", env=env).wait()
    assert refused.status == 1 and not refused.path.exists()
    assert words in refused.report["error"]


# --- Cloud Foundry ---------------------------------------------------------------


@pytest.mark.long
def test_a_weaker_permission(tmp_path: Path, authority: Authority) -> None:
    """With a weaker permission, viewers of the app get headers, readers of its secrets everything, others nothing."""
    settings = {"headers_only_permission": "read_basic_data"}
    with foundation_in(tmp_path, authority, cloud_foundry=settings) as foundation:
        app = foundation.cc.add(CfApp(processes=[Process(instances=[Instance(0, host="127.0.0.2")])]))
        (cell,) = [cell for cell in foundation.cells if cell.host == "127.0.0.2"]
        assert foundation.capture(app, foundation.cc.auditor(app)).whole
        assert foundation.capture(app, foundation.cc.auditor(app), ("headers_only", "false")).whole
        assert foundation.capture(app, foundation.cc.developer(app)).whole
        assert [start.headers_only for start in cell.started] == [True, True, False]
        records = foundation.audit("capture_started")
        assert [record["headers_only"] for record in records] == [True, True, False]


@pytest.mark.long
def test_an_agent_that_cannot_cut(tmp_path: Path, authority: Authority) -> None:
    """No packet of an agent that is too old to cut headers is passed on."""
    settings = {"headers_only_permission": "read_basic_data"}
    with foundation_in(tmp_path, authority, cloud_foundry=settings) as foundation:
        for cell in foundation.cells:
            cell.obedient = False
        app = foundation.cc.add(CfApp(processes=[Process(instances=[Instance(0, host="127.0.0.2")])]))
        answer = foundation.capture(app, foundation.cc.auditor(app))
        assert answer.status == 502
        assert "its agent cannot cut packets after their headers" in answer.error["title"]
