"""pcapctl against an api that lies, breaks off, or is none: a clear message, and a file that is whole."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from wsproto.events import TextMessage

from demo.certificates import Authority, Credentials
from demo.configurations import LOCAL
from demo.daemons import environment
from pcapd.wire import End, EndReason, Error, Notice, NoticeType
from tests.kit.doubles.stream_api import HEADER, Client, Script, StreamApi, frame, record
from tests.kit.hosts.chain import read_pcapng
from tests.kit.hosts.scripted import _PACKETS, _STATS, TOKEN, ended, pcapctl, play, started


@pytest.fixture(scope="module")
def credentials(authority: Authority) -> Credentials:
    return authority.issue("stream-api", dns=("localhost",), ips=(LOCAL,))


def test_a_good_api(credentials: Credentials, tmp_path: Path) -> None:
    """The double can be honest: status 0, nothing lost."""

    def script(client: Client) -> None:
        started(client)
        ended(client, 3)

    done = play(script, credentials, tmp_path)
    assert done.status == 0, done.stderr
    assert done.end["packets"] == 3 and done.end["lost"] == 0
    assert len(done.file.of("web-0:eth0")) == 3


LIES = {
    "unknown type": (frame(200, b""), "unknown type 200"),
    "oversized": (HEADER.pack(2**31, _PACKETS, 0, 1), "exceeds the bound"),
    "oversized control": (HEADER.pack(65537, _STATS, 0, 1), "exceeds the bound"),
    "no JSON": (frame(_STATS, b"nonsense", 1), "not json"),
    "source never opened": (frame(_PACKETS, record(4), 9), "source 9"),
    "counters of nobody": (
        frame(
            _STATS,
            b'{"received":1,"dropped_kernel":0,"dropped_interface":0,"delivered":1,"captured_up_to_us":1}',
            9,
        ),
        "source 9",
    ),
    "record cut off": (frame(_PACKETS, record(4)[:-1], 1), "record"),
    "record longer than its frame": (frame(_PACKETS, struct.pack("<4I", 1, 1, 2**30, 2**30) + b"x", 1), "record"),
    "captured more than there was": (
        frame(_PACKETS, struct.pack("<4I", 1, 1, 60, 10) + bytes(60), 1),
        "record",
    ),
    "impossible microseconds": (frame(_PACKETS, struct.pack("<4I", 1, 10**6, 1, 1) + b"x", 1), "record"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.long(
    but=(
        "no JSON",
        "record cut",
        "counters of nobody",
    )
)
def test_an_api_that_lies(lie: str, credentials: Credentials, tmp_path: Path) -> None:
    """The capture fails with the reason; what came before it is in the file, and not a byte of the lie."""
    data, words = LIES[lie]

    def script(client: Client) -> None:
        started(client)
        client.say(data)
        client.wait()

    done = play(script, credentials, tmp_path)
    assert done.status == 1
    assert words in done.end["error"].lower(), done.end["error"]
    assert len(done.file.of("web-0:eth0")) == done.end["packets"] == 3


def test_the_second_source_of_one_number(credentials: Credentials, tmp_path: Path) -> None:
    """A second source with an id in use is refused."""

    def script(client: Client) -> None:
        started(client)
        client.open(1, "web-1")
        client.wait()

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and "SOURCE frame for id 1" in done.end["error"]
    assert [interface.name for interface in done.file.interfaces] == ["web-0:eth0"]


@pytest.mark.parametrize(
    "rest", [b"", HEADER.pack(5000, _PACKETS, 0, 1) + record(4)], ids=["between-frames", "within-a-frame"]
)
def test_a_connection_that_breaks_off(rest: bytes, credentials: Credentials, tmp_path: Path) -> None:
    """A connection that breaks, between frames or within one, gives status 1, and whole packets are kept."""

    def script(client: Client) -> None:
        started(client)
        if rest:
            client.say(rest)
        time.sleep(0.3)

    done = play(script, credentials, tmp_path)
    assert done.status == 1
    assert "connection" in done.end["error"] or "middle of a frame" in done.end["error"]
    assert len(done.file.of("web-0:eth0")) == 3


def test_a_close_without_an_end(credentials: Credentials, tmp_path: Path) -> None:
    """A WebSocket close without END gives no complete capture."""

    def script(client: Client) -> None:
        started(client)
        client.close()
        client.wait()

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and "before the capture had ended" in done.end["error"]
    assert len(done.file.of("web-0:eth0")) == 3


def test_a_text_message(credentials: Credentials, tmp_path: Path) -> None:
    """A text message from the api is a protocol error."""

    def script(client: Client) -> None:
        started(client)
        client.message(TextMessage(data="hello"))
        client.wait()

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and "text message" in done.end["error"]


def test_an_older_api(credentials: Credentials, tmp_path: Path) -> None:
    """An older api is named as too old, and receives no request."""

    def script(client: Client) -> None:
        client.upgrade()
        client.say(frame(1, b'{"level":0,"role":"api","id":"old","version":"0","time_us":5}'))
        assert list(client.heard()) == []

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and "upgrade" in done.end["error"]
    assert not done.path.exists()


def test_packets_that_are_missing_at_the_end(credentials: Credentials, tmp_path: Path) -> None:
    """Missing packets at the end are counted as lost on the way, with status 3."""

    def script(client: Client) -> None:
        started(client)
        ended(client, 5)

    done = play(script, credentials, tmp_path)
    assert done.status == 3
    assert done.end["lost"] == 2 and done.end["sources"][0]["lost_in_transit"] == 2


def test_an_api_that_does_not_cut(credentials: Credentials, tmp_path: Path) -> None:
    """With --headers-only no packet of an api that is too old for the option is written."""

    def script(client: Client) -> None:
        client.obedient = False
        started(client)
        ended(client, 3)

    done = play(script, credentials, tmp_path, "--headers-only")
    assert done.status == 1 and not done.path.exists()
    assert "cannot cut packets after their headers" in done.end["error"]
    assert play(script, credentials, tmp_path).status == 0


def test_an_agent_that_was_lost(credentials: Credentials, tmp_path: Path) -> None:
    """Losses of an agent that was lost are reported as unknown, with status 3."""

    def script(client: Client) -> None:
        started(client)
        client.stats(3, final=True, exact=False)
        client.say(client.callee.end(End(EndReason.SOURCES_GONE, "no target is left")))
        client.close()
        client.wait()

    done = play(script, credentials, tmp_path)
    assert done.status == 3 and done.end["sources"][0]["lost_in_transit"] is None


def api_lost(client: Client) -> None:
    """It breaks off."""


def agent_lost(client: Client) -> None:
    """The api says so, with the counters that it heard last."""
    client.stats(2, final=True, exact=False)
    client.say(client.callee.end(End(EndReason.SOURCES_GONE, "no target is left")))


def nothing_lost(client: Client) -> None:
    """The control."""
    ended(client, 3)


@pytest.mark.parametrize("then", [api_lost, agent_lost, nothing_lost])
@pytest.mark.long(but=("nothing_lost",))
def test_counters_after_a_cut(then: Script, credentials: Credentials, tmp_path: Path) -> None:
    """After a broken connection no counter is smaller than the last known one, and unknown ones are not 0."""

    def script(client: Client) -> None:
        client.greet()
        client.open()
        client.packets(record(1) + record(2))
        client.stats(2)
        client.packets(record(3))
        then(client)

    done = play(script, credentials, tmp_path, "--verbose", json_lines=False)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("web-0:eth0: 3 written")]
    done.path.unlink()
    done = play(script, credentials, tmp_path)
    (source,) = done.end["sources"]
    assert source["received"] == source["delivered"] == source["received_here"] == source["written"] == 3
    assert done.file.interfaces[0].received == 3
    exact = then is nothing_lost
    assert source["exact"] is exact and done.end["lost_at_least"] == 0
    if exact:
        assert done.end["lost"] == 0 and source["drops"]["agent"] == 0
        assert "3 received by the filter, 0 dropped by the kernel" in line and "unknown" not in line
    else:
        assert done.end["lost"] is None and source["drops"]["agent"] is None
        assert source["lost_in_transit"] is None
        assert "at least 3 received by the filter, at least 0 dropped by the kernel" in line
        assert "unknown by the agent" in line


def test_a_refusal_is_told(credentials: Credentials, tmp_path: Path) -> None:
    """A refusal is printed with its hint, with status 1 and without a file."""

    def script(client: Client) -> None:
        client.greet()
        client.say(client.callee.end(Error("bad_filter", "syntax error", "see pcap-filter(7)")))
        client.close()
        client.wait()

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and done.end["error"] == "syntax error (see pcap-filter(7))"
    assert not done.path.exists()


def test_terminal_escapes_in_what_the_api_says(credentials: Credentials, tmp_path: Path) -> None:
    """Notices, names and reasons cannot drive the terminal, nor forge lines."""
    evil = "a\x1b]0;owned\x07\r\nb\x9bc"

    def script(client: Client) -> None:
        started(client)
        client.say(client.callee.notice(Notice(NoticeType.UNKNOWN, evil, evil)))
        client.stats(3, final=True)
        client.say(client.callee.end(End(EndReason.DURATION, evil)))
        client.close()
        client.wait()

    with StreamApi(credentials, script) as api:
        argv = [sys.executable, "-m", "pcapd.ctl", "hosts", "web-0", "--api", api.url]
        argv += ["--ca", str(credentials.ca), "--output", str(tmp_path / "x.pcapng"), "--verbose"]
        done = subprocess.run(
            argv, env={**environment(), "PCAP_TOKEN": TOKEN}, capture_output=True, check=False, timeout=60
        )
    assert not api.failures
    text = done.stderr.decode()
    assert "owned" in text, "it is shown, harmlessly"
    assert not set(text) & {"\x1b", "\x07", "\r", "\x9b"}
    assert not any(line.startswith("b") for line in text.splitlines())


def test_a_page_instead_of_an_api(credentials: Credentials, tmp_path: Path) -> None:
    """A web page in place of an api is reported as such."""

    def script(client: Client) -> None:
        client.head()
        body = b"<html>welcome</html>"
        client.raw(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and "HTTP status 200" in done.end["error"] and "--api" in done.end["error"]


def test_garbage_instead_of_http(credentials: Credentials, tmp_path: Path) -> None:
    """An answer that is not HTTP is reported as such."""

    def script(client: Client) -> None:
        client.head()
        client.raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and "not a pcapd api" in done.end["error"]


def test_an_answer_without_an_end(credentials: Credentials, tmp_path: Path) -> None:
    """An answer whose head never ends is not kept in memory."""

    def script(client: Client) -> None:
        client.head()
        for _ in range(1000):
            client.raw(b"X: " + b"y" * 65536)

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and "is too long" in done.end["error"]


def test_a_server_without_tls(tmp_path: Path, credentials: Credentials) -> None:
    """An api without TLS is reported, and the token is not sent."""
    seen: list[bytes] = []

    def script(client: Client) -> None:
        seen.append(client._socket.recv(65536))
        client.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with StreamApi(None, script) as api:
        done = pcapctl(api.url, tmp_path, credentials.ca)
    assert done.status == 1 and "TLS with" in done.end["error"]
    assert not any(TOKEN.encode() in data for data in seen)


def test_certificates_that_are_not_good(authority: Authority, tmp_path: Path) -> None:
    """A certificate of another CA or name, or an expired one, is refused with the reason before the token is sent."""
    other = Authority(tmp_path / "other", "another CA")
    cases = [
        (other.issue("stranger", ips=(LOCAL,)), "certificate", "--ca"),
        (authority.issue("elsewhere", dns=("elsewhere.example",)), "IP address mismatch", "use a name"),
        (authority.issue_expired("late", ips=(LOCAL,)), "expired", "its operator"),
    ]
    for credentials, *words in cases:
        asked: list[bytes] = []
        with StreamApi(credentials, lambda client, asked=asked: asked.append(client.head())) as api:  # type: ignore[misc]
            done = pcapctl(api.url, tmp_path, authority.certificate_path)
        assert done.status == 1 and not asked
        assert all(word in done.end["error"] for word in words), done.end["error"]


def test_insecure_asks_for_no_certificate(tmp_path: Path, authority: Authority) -> None:
    """With --insecure pcapctl and status accept an api of an unknown CA, and warn."""
    stranger = Authority(tmp_path / "other", "another CA").issue("stranger", dns=("elsewhere.example",))

    def script(client: Client) -> None:
        started(client)
        ended(client, 3)

    with StreamApi(stranger, script) as api:
        done = pcapctl(api.url, tmp_path, None, "--insecure")
    assert done.status == 0 and done.end["packets"] == 3
    assert json.loads(done.stderr.splitlines()[0])["event"] == "warning"

    def health(client: Client) -> None:
        client.head()
        body = b'{"healthy":true,"message":"well"}'
        client.raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with StreamApi(stranger, health) as api:
        argv = [sys.executable, "-m", "pcapd.ctl", "status", "--api", api.url]
        options: dict[str, Any] = {"capture_output": True, "text": True, "env": environment(), "timeout": 60}
        refused = subprocess.run(argv, check=False, **options)
        taken = subprocess.run([*argv, "--insecure"], check=False, **options)
        both = subprocess.run([*argv, "--insecure", "--ca", str(stranger.ca)], check=False, **options)
    assert refused.returncode == 1 and "is not accepted" in refused.stderr
    assert taken.returncode == 0 and "well" in taken.stdout
    assert taken.stderr.startswith("warning: certificates are not checked (--insecure)")
    assert both.returncode == 2 and "exclude each other" in both.stderr


def test_nobody_listens(authority: Authority, tmp_path: Path) -> None:
    """An api that does not listen is reported at once, to people and scripts."""
    with StreamApi(None, lambda client: None) as api:
        pass
    done = pcapctl(api.url, tmp_path, authority.certificate_path)
    assert done.status == 1 and "Connection refused" in done.end["error"]
    assert "Connection refused" in done.stderr and done.end["file"] is None


def test_a_pipe_that_does_not_block(credentials: Credentials, tmp_path: Path) -> None:
    """When standard output returns EAGAIN, pcapctl waits, and every byte arrives in order."""
    count = 3000

    def script(client: Client) -> None:
        client.greet()
        client.open()
        for first in range(0, count, 100):
            client.packets(b"".join(record(number, bytes(1000)) for number in range(first, first + 100)))
        client.stats(count)
        ended(client, count)

    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    with StreamApi(credentials, script) as api:
        argv = [sys.executable, "-m", "pcapd.ctl", "hosts", "web-0", "--api", api.url, "--output", "-"]
        process = subprocess.Popen(
            [*argv, "--ca", str(credentials.ca)],
            env={**environment(), "PCAP_TOKEN": TOKEN},
            stdout=write_fd,
            stderr=subprocess.PIPE,
        )
        os.close(write_fd)
        time.sleep(1.5)  # the pipe holds 64 KiB: it is full by now
        path = tmp_path / "piped.pcapng"
        with open(read_fd, "rb") as pipe:
            path.write_bytes(pipe.read())
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    numbers = [struct.unpack_from("!I", packet.data, 14)[0] for packet in read_pcapng(path).packets]
    assert numbers == list(range(count))
