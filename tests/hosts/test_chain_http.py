"""GET /capture for curl, and the other pages."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from demo.processes import wait_until
from tests.kit.hosts.chain import Chain, ordered, read_pcap, read_pcapng
from tests.kit.lab.generator import Generator
from tests.kit.lab.readers import capinfos, require, tcpdump_lines, tshark_fields

QUERY = "filter=udp+dst+port+9999"
PARTIAL_FILE = 18  # curl's exit status


def errors(body: bytes) -> dict[str, Any]:
    """The one error of an answer, whose form is Cloud Controller's."""
    (error,) = json.loads(body)["errors"]
    assert set(error) == {"code", "title", "detail"}
    return dict(error)


def refused(chain: Chain, query: str, token: Any = None) -> tuple[int, dict[str, Any]]:
    """Status and error of a request that is refused."""
    require("curl")
    done = chain.curl(query, "--write-out", "\n%{http_code}", token=token)
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), errors(body)


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
@pytest.mark.long(but=("pcapng",))
def test_a_capture_by_curl(chain: Chain, tmp_path: Path, form: str) -> None:
    """The Accept header chooses the format; the file is complete and in order; curl sees a whole answer."""
    require("curl", "tshark", "capinfos", "tcpdump")
    path = tmp_path / f"curl.{form}"
    accept = ("--header", "Accept: application/x-pcapng") if form == "pcapng" else ()
    with Generator(chain.link, rate=2000):
        done = chain.curl(
            f"target=web-0&target=web-1&duration=2&{QUERY}",
            *("--output", str(path), "--write-out", "%{http_code} %{content_type}", *accept),
        )
    assert done.returncode == 0, done.stderr
    kind = "application/x-pcapng" if form == "pcapng" else "application/vnd.tcpdump.pcap"
    assert done.stdout.decode() == f"200 {kind}"
    rows = tshark_fields(path, ["frame.interface_name"])
    assert len(rows) == len(tcpdump_lines(path)) > 2000
    assert capinfos(path)["Strict time order"] == "True"
    if form == "pcapng":
        file = read_pcapng(path)
        assert {row[0] for row in rows} == {"web-0:eth0", "web-1:eth0"}
        for interface in file.interfaces:
            assert interface.received == len(file.of(interface.name)) and interface.dropped_os == 0


def test_count_and_snaplen(chain: Chain, tmp_path: Path) -> None:
    """count ends the answer after exactly that many packets; snaplen cuts them and keeps their lengths."""
    path = tmp_path / "count.pcap"
    with Generator(chain.link, size=500, rate=2000):
        done = chain.curl(f"target=web-0&target=web-1&count=123&snaplen=70&{QUERY}", "--output", str(path))
    assert done.returncode == 0, done.stderr
    packets = read_pcap(path)
    assert len(packets) == 123
    assert {(len(packet.data), packet.length) for packet in packets} == {(70, 500)}


def test_max_bytes(chain: Chain, tmp_path: Path) -> None:
    """max_bytes ends the answer; the file is whole and no larger."""
    path = tmp_path / "bytes.pcap"
    with Generator(chain.link, size=500, rate=2000):
        done = chain.curl(f"target=web-0&max_bytes=50kB&{QUERY}", "--output", str(path))
    assert done.returncode == 0, done.stderr
    assert 40_000 < path.stat().st_size <= 50_000
    read_pcap(path)


def test_without_order(chain: Chain, tmp_path: Path) -> None:
    """order=false is taken, and every packet is there."""
    path = tmp_path / "unordered.pcapng"
    with Generator(chain.link, rate=2000):
        done = chain.curl(
            f"target=web-0&target=web-1&order=false&duration=1s&{QUERY}",
            *("--output", str(path), "--header", "Accept: application/x-pcapng"),
        )
    assert done.returncode == 0, done.stderr
    file = read_pcapng(path)
    for interface in file.interfaces:
        assert interface.received == len(file.of(interface.name)) > 0


REFUSALS = {
    "bad filter": ("target=web-0&filter=udp+and+and+tcp", 400, "bad_filter", "syntax error"),
    "escape": ("target=web-0&filter=udp)+or+(tcp", 400, "bad_filter", "syntax error"),
    "host name": ("target=web-0&filter=host+example.com", 400, "bad_filter", "'example.com'"),
    "interface": ("target=web-0&device=eth7", 400, "no_such_interface", "eth7"),
    "argument": ("target=web-0&color=red&snaplen=x", 400, "bad_request", "color is not a known argument"),
    "nothing": ("", 400, "bad_request", "nothing to capture is named"),
    "snaplen": ("target=web-0&snaplen=0", 400, "bad_request", "snaplen"),
    "count": ("target=web-0&count=0", 400, "bad_request", "count"),
    "duration": ("target=web-0&duration=soon", 400, "bad_request", "duration"),
    "target": ("target=web-7", 404, "target_not_found", "web-7"),
    "nobody": ("target=nobody", 502, "agent_unavailable", "refused"),
    "all": ("target=nobody&target=gone", 502, "capture_failed", "no target could be captured"),
    "namespace": ("target=gone", 502, "namespace_gone", "no network namespace"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_an_honest_status(chain: Chain, case: str) -> None:
    """A request that cannot be served gets its status and message before anything else is sent."""
    query, status, code, words = REFUSALS[case]
    found, error = refused(chain, query)
    assert (found, error["code"]) == (status, code), error
    assert words in error["title"]


def test_every_problem_of_a_query_is_named(chain: Chain) -> None:
    """Two mistakes in one query are named in one answer."""
    _, error = refused(chain, "target=web-0&color=red&snaplen=x&duration=soon")
    assert all(word in error["title"] for word in ("color", "snaplen", "duration"))


def test_who_asks(chain: Chain) -> None:
    """A missing or wrong token is a 401, a target of others a 403, whether it exists or not."""
    for token, words in (("", "no token"), ("wrong", "not known")):
        status, error = refused(chain, "target=web-0", token)
        assert (status, error["code"]) == (401, "unauthenticated") and words in error["title"]
    for target in ("web-0", "web-7"):
        status, error = refused(chain, f"target={target}", chain.bob)
        assert (status, error["code"]) == (403, "forbidden"), error


@pytest.mark.long
def test_a_target_that_dies_makes_the_answer_incomplete(chain: Chain, tmp_path: Path) -> None:
    """When an agent is killed in the middle, curl ends with 18: the file it has is valid but not complete."""
    require("curl", "tshark")
    path = tmp_path / "partial.pcapng"
    with Generator(chain.link, rate=1000):
        done = subprocess.Popen(
            chain.curl_command(
                f"target=tiny-0&target=web-1&duration=4s&{QUERY}",
                *("--output", str(path), "--header", "Accept: application/x-pcapng"),
            ),
            stderr=subprocess.PIPE,
        )
        wait_until(lambda: path.exists() and path.stat().st_size > 20_000, "packets", timeout=20)
        chain.second.kill()
        done.communicate(timeout=60)
    assert done.returncode == PARTIAL_FILE
    names = [row[0] for row in tshark_fields(path, ["frame.interface_name"])]
    assert set(names) == {"tiny-0:eth0", "web-1:eth0"}
    assert names.count("web-1:eth0") > 2 * names.count("tiny-0:eth0"), "the other target went on"


def test_the_only_target_dies(chain: Chain, tmp_path: Path) -> None:
    """When nothing is left to capture the answer ends at once, and curl knows that it is not whole."""
    path = tmp_path / "partial.pcap"
    with Generator(chain.link, rate=1000):
        done = subprocess.Popen(chain.curl_command(f"target=tiny-0&{QUERY}", "--output", str(path)))
        wait_until(lambda: path.exists() and path.stat().st_size > 20_000, "packets", timeout=20)
        chain.second.kill()
        assert done.wait(30) == PARTIAL_FILE
    assert ordered([packet.time_us for packet in read_pcap(path)])


def test_a_client_that_leaves(chain: Chain, tmp_path: Path) -> None:
    """When curl is killed the capture ends on the agents by itself."""
    path = tmp_path / "left.pcap"
    wait_until(chain.settled, "earlier captures are gone", timeout=20)
    with Generator(chain.link, rate=1000):
        client = subprocess.Popen(
            chain.curl_command(f"target=web-0&target=web-1&{QUERY}", "--output", str(path))
        )
        wait_until(lambda: path.exists() and path.stat().st_size > 20_000, "packets", timeout=20)
        assert not chain.settled()
        client.kill()
        client.wait()
        wait_until(chain.settled, "the captures ended", timeout=20)


@pytest.mark.long
def test_a_stuck_curl_and_then_all_is_accounted_for(chain: Chain, tmp_path: Path) -> None:
    """curl under SIGSTOP for three seconds of flood: received is in the file or counted as dropped."""
    path = tmp_path / "stuck.pcapng"
    with Generator(chain.link, size=1000, rate=30_000):
        client = subprocess.Popen(
            chain.curl_command(
                f"target=tiny-0&target=tiny-1&duration=5s&{QUERY}",
                *("--output", str(path), "--header", "Accept: application/x-pcapng"),
            )
        )
        wait_until(lambda: path.exists() and path.stat().st_size > 20_000, "packets", timeout=20)
        client.send_signal(signal.SIGSTOP)
        time.sleep(3)
        client.send_signal(signal.SIGCONT)
        assert client.wait(60) == 0
    file = read_pcapng(path)
    assert ordered(file.times)
    assert sum(interface.dropped_os or 0 for interface in file.interfaces) > 0, "no pressure: no test"
    for interface in file.interfaces:
        assert interface.received == len(file.of(interface.name)) + (interface.dropped_os or 0)


def test_health_metrics_and_other_pages(chain: Chain) -> None:
    """/health says what is pinned, /metrics is only on its own listener, anything else is 404 in the same form."""
    health = json.loads(get(chain, "/health")[1])
    assert set(health) == {"healthy", "compatibility_level", "version", "message", "resolvers"}
    assert health["healthy"] is True
    for page in ("/metrics", "/", "/v1", "/v1/other", "/capture/x/../../etc"):
        status, body = get(chain, page)
        assert status in (400, 404), page
        assert errors(body)["title"]
    status, body = get(chain, "/v1/stream")
    assert status == 400 and "WebSocket" in errors(body)["title"]


def get(chain: Chain, page: str) -> tuple[int, bytes]:
    """Status and body of a page."""
    done = subprocess.run(
        ["curl", "--silent", "--path-as-is", "--cacert", str(chain.authority.certificate_path),
         "--write-out", "\n%{http_code}", f"{chain.url}{page}"],  # fmt: skip
        capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body
