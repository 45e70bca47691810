"""pcapctl against an api that lies, breaks off, or is none: a clear message, and a file that is whole."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Optional

import pytest
from chain_tools import SaveFile, read_pcapng
from wsproto.events import TextMessage

from demo.certificates import Authority, Credentials
from demo.configurations import LOCAL
from demo.daemons import environment
from pcapd.wire import Counters, End, EndReason, Error, Notice, NoticeType
from tests.doubles.stream_api import HEADER, Client, Script, StreamApi, frame, record
from tests.lab.readers import capinfos, require, tcpdump_lines

TOKEN = "token-of-alice-secret"
_PACKETS, _STATS = 4, 5


@pytest.fixture(scope="module")
def credentials(authority: Authority) -> Credentials:
    return authority.issue("stream-api", dns=("localhost",), ips=(LOCAL,))


class Done:
    """What pcapctl did."""

    def __init__(self, process: subprocess.CompletedProcess[str], path: Path) -> None:
        self.status = process.returncode
        self.stderr = process.stderr
        self.events: list[dict[str, Any]] = [json.loads(line) for line in process.stdout.splitlines()]
        self.path = path
        assert TOKEN not in process.stderr + process.stdout

    @property
    def end(self) -> dict[str, Any]:
        """The last event, of which there is one."""
        (end,) = [event for event in self.events if event["event"] == "end"]
        assert self.events[-1] is end
        return end

    @property
    def file(self) -> SaveFile:
        """The file, after independent readers took it."""
        require("capinfos", "tcpdump")
        capinfos(self.path)
        file = read_pcapng(self.path)
        packets = [line for line in tcpdump_lines(self.path) if not line.startswith("\t")]
        assert len(packets) == len(file.packets) and file.rest == 0
        return file


def pcapctl(
    url: str,
    tmp_path: Path,
    ca: Optional[Path],
    *arguments: str,
    json_lines: bool = True,
    timeout: float = 60,
) -> Done:
    """Capture from the api at ``url``."""
    path = tmp_path / "out.pcapng"
    argv = [sys.executable, "-m", "pcapd.ctl", "hosts", "web-0", "--api", url, "--output", str(path)]
    argv += ["--ca", str(ca)] if ca else []
    argv += ["--json"] if json_lines else []
    env = {**environment(), "PCAP_TOKEN": TOKEN}
    process = subprocess.run(
        [*argv, *arguments], env=env, capture_output=True, text=True, check=False, timeout=timeout
    )
    return Done(process, path)


def play(script: Script, credentials: Credentials, tmp_path: Path, *arguments: str, **options: Any) -> Done:
    """Let the script be the api of one capture."""
    with StreamApi(credentials, script) as api:
        done = pcapctl(api.url, tmp_path, credentials.ca, *arguments, **options)
    assert not api.failures, api.failures
    return done


def started(client: Client) -> None:
    """A capture with three packets, all of them due."""
    client.greet()
    client.open()
    client.packets(record(1) + record(2) + record(3))
    client.stats(3)


def ended(client: Client, count: int, reason: EndReason = EndReason.DURATION) -> None:
    """A proper end."""
    client.stats(count, final=True)
    client.say(client.callee.end(End(reason, "", (Counters(1, count, 0, 0, count),))))
    client.close()
    client.wait()


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
    """A source id is taken once."""

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
    """Between frames or within one: status 1, never a complete capture; whole packets are kept."""

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
    """A polite goodbye is no END."""

    def script(client: Client) -> None:
        started(client)
        client.close()
        client.wait()

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and "before the capture had ended" in done.end["error"]
    assert len(done.file.of("web-0:eth0")) == 3


def test_a_text_message(credentials: Credentials, tmp_path: Path) -> None:
    """It is not in this protocol."""

    def script(client: Client) -> None:
        started(client)
        client.message(TextMessage(data="hello"))
        client.wait()

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and "text message" in done.end["error"]


def test_an_older_api(credentials: Credentials, tmp_path: Path) -> None:
    """It is told to be upgraded, and asked for nothing."""

    def script(client: Client) -> None:
        client.upgrade()
        client.say(frame(1, b'{"level":0,"role":"api","id":"old","version":"0","time_us":5}'))
        assert list(client.heard()) == []

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and "upgrade" in done.end["error"]
    assert not done.path.exists()


def test_packets_that_are_missing_at_the_end(credentials: Credentials, tmp_path: Path) -> None:
    """The agent sent five and three came: status 3, and two are lost on the way."""

    def script(client: Client) -> None:
        started(client)
        ended(client, 5)

    done = play(script, credentials, tmp_path)
    assert done.status == 3
    assert done.end["lost"] == 2 and done.end["sources"][0]["lost_in_transit"] == 2


def test_an_api_that_does_not_cut(credentials: Credentials, tmp_path: Path) -> None:
    """With --headers-only not a packet of an api that is too old for it is written; otherwise it is the file's."""

    def script(client: Client) -> None:
        client.obedient = False
        started(client)
        ended(client, 3)

    done = play(script, credentials, tmp_path, "--headers-only")
    assert done.status == 1 and not done.path.exists()
    assert "does not know how to cut packets after their headers" in done.end["error"]
    assert play(script, credentials, tmp_path).status == 0


def test_an_agent_that_was_lost(credentials: Credentials, tmp_path: Path) -> None:
    """Nobody knows what it lost: status 3, and no number is made up."""

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
    """None is smaller than what came after the last counters; what nobody knows is not 0, in report and file."""

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
    """The api's words and hint, status 1, and no file."""

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
    """A web server that is no api is called so."""

    def script(client: Client) -> None:
        client.head()
        body = b"<html>welcome</html>"
        client.raw(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and "HTTP status 200" in done.end["error"] and "--api" in done.end["error"]


def test_garbage_instead_of_http(credentials: Credentials, tmp_path: Path) -> None:
    """Bytes that are no HTTP at all."""

    def script(client: Client) -> None:
        client.head()
        client.raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and "not a pcapd api" in done.end["error"]


def test_an_answer_without_an_end(credentials: Credentials, tmp_path: Path) -> None:
    """A head that goes on for ever is not kept."""

    def script(client: Client) -> None:
        client.head()
        for _ in range(1000):
            client.raw(b"X: " + b"y" * 65536)

    done = play(script, credentials, tmp_path)
    assert done.status == 1 and "has no end" in done.end["error"]


def test_a_server_without_tls(tmp_path: Path, credentials: Credentials) -> None:
    """https to a server that speaks http: no TLS, and the token was not sent."""
    seen: list[bytes] = []

    def script(client: Client) -> None:
        seen.append(client._socket.recv(65536))
        client.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with StreamApi(None, script) as api:
        done = pcapctl(api.url, tmp_path, credentials.ca)
    assert done.status == 1 and "no TLS with" in done.end["error"]
    assert not any(TOKEN.encode() in data for data in seen)


def test_certificates_that_are_not_good(authority: Authority, tmp_path: Path) -> None:
    """Another authority, another name, expired: refused with the reason, and the token was not sent."""
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
    """It captures from an api of an unknown authority, and warns; status does so too."""
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
    assert refused.returncode == 1 and "is not good" in refused.stderr
    assert taken.returncode == 0 and "well" in taken.stdout
    assert taken.stderr.startswith("warning: certificates are not checked (--insecure)")
    assert both.returncode == 2 and "exclude each other" in both.stderr


def test_nobody_listens(authority: Authority, tmp_path: Path) -> None:
    """Said at once, for people and scripts."""
    with StreamApi(None, lambda client: None) as api:
        pass
    done = pcapctl(api.url, tmp_path, authority.certificate_path)
    assert done.status == 1 and "Connection refused" in done.end["error"]
    assert "Connection refused" in done.stderr and done.end["file"] is None


def test_a_pipe_that_does_not_block(credentials: Credentials, tmp_path: Path) -> None:
    """Standard output that says EAGAIN is waited for: every byte comes, in order."""
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
