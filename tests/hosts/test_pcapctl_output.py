"""pcapctl and its surroundings: where it writes to, how it is ended, what it says."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from demo.processes import run, wait_until
from tests.kit.hosts.chain import Chain, ordered, read_pcapng
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.readers import require, tshark_fields
from tests.kit.lab.terminals import Terminal


def test_an_existing_file_is_not_overwritten(chain: Chain) -> None:
    """An existing file is refused before anything starts, and replaced only with --force."""
    path = chain.path()
    path.write_text("mine")
    before = len(chain.api.records())
    refused = chain.pcapctl("hosts", "web-0", "--output", str(path), "--duration", "100ms")
    assert refused.returncode == 1
    assert "exists" in refused.stderr and "--force" in refused.stderr
    assert path.read_text() == "mine"
    assert len(chain.api.records()) == before, "the api was asked"
    forced = chain.pcapctl("hosts", "web-0", "--output", str(path), "--duration", "100ms", "--force")
    assert forced.returncode == 0, forced.stderr
    assert read_pcapng(path).interfaces


def test_places_that_cannot_be_written(chain: Chain) -> None:
    """A missing directory, a directory and a terminal are refused in words."""
    for output, words in (
        ("nowhere/x.pcapng", "the directory nowhere does not exist"),
        (".", "is a directory"),
    ):
        done = chain.pcapctl("hosts", "web-0", "--output", output, "--duration", "100ms")
        assert done.returncode == 1
        assert words in done.stderr
    leader, follower = pty.openpty()
    done = chain.pcapctl(
        *("hosts", "web-0", "--output", "-"), capture_output=False, stdout=follower, stderr=subprocess.PIPE
    )
    os.close(leader)
    os.close(follower)
    assert done.returncode == 1 and "not written to a terminal" in done.stderr


@pytest.mark.parametrize("suffix", ["pcapng", "pcap"])
def test_a_full_disk(chain: Chain, tmp_path: Path, suffix: str) -> None:
    """The capture stops with 1 and says why; the file so far is whole for every reader."""
    require("tshark")
    run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(tmp_path)])
    try:
        path = tmp_path / f"full.{suffix}"
        with Generator(chain.link, size=1000, rate=2000):
            done = chain.pcapctl("hosts", "web-0", "--filter", FILTER, "--output", str(path))
        assert done.returncode == 1
        assert "No space left" in done.stderr and "is valid" in done.stderr
        assert "or to the api was lost" not in done.stderr
        assert len(tshark_fields(path, ["frame.number"])) > 100
    finally:
        run(["umount", str(tmp_path)])


@pytest.mark.parametrize("reader", [("tshark", "-nr", "-", "-c", "5"), ("head", "-c", "1000")], ids=" ".join)
def test_the_reader_of_stdout_leaves(chain: Chain, reader: tuple[str, ...]) -> None:
    """A reader that has enough ends the capture in good order: one line, status 0, nothing lost."""
    require(reader[0])
    with Generator(chain.link, rate=2000):
        process = chain.start_pcapctl(
            *("hosts", "web-0", "--filter", FILTER, "--output", "-"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None and process.stderr is not None
        subprocess.run(reader, stdin=process.stdout, check=True, capture_output=True, timeout=30)
        process.stdout.close()
        words = process.stderr.read().decode()
        assert process.wait(30) == 0
    assert words.count("closed the pipe") == 1 and "nothing was lost" in words and "Traceback" not in words


def test_ctrl_c_twice(chain: Chain) -> None:
    """A second Ctrl-C exits with 1 at once, also while a full pipe blocks the write; written blocks are whole."""
    read_fd, write_fd = os.pipe()
    fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, 65536)
    with Generator(chain.link, size=1000, rate=20_000):
        client = chain.begin("web-0", "--filter", FILTER, "--output", "-", stdout=write_fd)
        os.close(write_fd)
        state = Path(f"/proc/{client.process.pid}/wchan")
        wait_until(lambda: "pipe" in state.read_text(), "it is blocked on the pipe", timeout=20)
        client.signal()
        time.sleep(0.5)
        assert client.process.poll() is None, "the first one waits for the reader"
        client.signal()
        result = client.wait(timeout=20)
    os.close(read_fd)
    assert result.status == 1
    assert result.report["reason"] == "interrupted twice"


def test_ctrl_c_twice_into_a_file(chain: Chain) -> None:
    """A second Ctrl-C leaves a whole file."""
    with Generator(chain.link, rate=20_000):
        client = chain.begin("tiny-0", "web-0", "--filter", FILTER)
        client.wait_for("tiny-0:eth0", "web-0:eth0", packets=100)
        # The end takes a while: this one does not answer to the first.
        chain.second.signal(signal.SIGSTOP)
        try:
            client.signal()
            time.sleep(0.3)
            client.signal()
            result = client.wait(timeout=20)
        finally:
            chain.second.signal(signal.SIGCONT)
    assert result.status == 1
    assert result.file.rest == 0 and ordered(result.file.times)


def test_the_table_on_a_terminal(chain: Chain) -> None:
    """On a terminal a table shows packets and drops of each source while they come, and the report follows."""
    with Terminal(80, 24) as terminal, Generator(chain.link, rate=500):
        terminal.read()
        process = chain.start_pcapctl(
            *(
                "hosts",
                "web-0",
                "web-1",
                "--filter",
                FILTER,
                "--duration",
                "3s",
                "--output",
                str(chain.path()),
            ),
            stderr=terminal.slave,
            stdout=subprocess.DEVNULL,
            env={"TERM": "xterm"},
        )
        terminal.hang_up()
        terminal.wait_for("web-0:eth0 open", "web-1:eth0 open", "all  ", "left)")
        assert b"filter in force" not in terminal.raw  # that is for --verbose
        # 500 packets per second come to one of the two.
        wait_until(
            lambda: re.search(r"web-1:eth0 open +[1-9]\d{2,} .* 0 +0", terminal.text) is not None,
            "the packets are shown",
        )
        assert process.wait(30) == 0
        terminal.wait_for("nothing was lost", "stopped: 3 s are over")


@pytest.mark.long
def test_what_is_said_without_a_terminal(chain: Chain) -> None:
    """Text has no escapes, --quiet says nothing when all went well, --json is JSON lines on stdout."""
    plain = chain.pcapctl("hosts", "web-0", "--duration", "200ms", "--output", str(chain.path()))
    assert plain.returncode == 0 and "\x1b" not in plain.stderr and plain.stdout == ""
    quiet = chain.pcapctl("hosts", "web-0", "--duration", "200ms", "--quiet", "--output", str(chain.path()))
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    done = chain.pcapctl("hosts", "web-0", "--duration", "200ms", "--json", "--output", str(chain.path()))
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert events[0] == "start" and events[-1] == "end" and done.stderr == ""


USAGE = {
    "no target": ((), "NAME"),
    "snaplen": (("web-0", "--snaplen", "-1"), "--snaplen"),
    "duration": (("web-0", "--duration", "soon"), "--duration"),
    "size without a unit": (("web-0", "--max-bytes", "100"), "needs a unit"),
    "format": (("web-0", "--format", "txt"), "--format"),
    "unknown option": (("web-0", "--colour"), "--colour"),
    "token file": (("web-0", "--token-file", "/nowhere/token"), "/nowhere/token"),
    "authority": (("web-0", "--ca", "/nowhere/ca"), "/nowhere/ca"),
    "url": (("web-0", "--api", "ftp://example.com"), "not the URL of an api"),
    "in clear": (("web-0", "--api", "http://example.com"), "not sent in clear"),
    "too many interfaces": (("web-0", *(word for n in range(9) for word in ("-i", f"e{n}"))), "interfaces"),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage(chain: Chain, case: str) -> None:
    """Wrong usage gives status 2 with a message, and nothing is written."""
    arguments, words = USAGE[case]
    argv = [word for word in chain.client_command("hosts") if word != "--ca"][:-1]
    if "--ca" not in arguments:
        argv += ["--ca", str(chain.authority.certificate_path)]
    before = set(chain.directory.iterdir())
    done = subprocess.run(
        [*argv, *arguments], capture_output=True, text=True, check=False, timeout=60,
        env=chain.client_environment(), cwd=chain.directory,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert set(chain.directory.iterdir()) == before


def test_no_api_and_no_token(chain: Chain) -> None:
    """A missing api and a missing token are named."""
    for missing in ("PCAP_API", "PCAP_TOKEN"):
        done = chain.pcapctl("hosts", "web-0", env={missing: ""})
        assert done.returncode == 2 and missing in done.stderr


def test_a_token_file(chain: Chain, tmp_path: Path) -> None:
    """--token-file reads the token without the line's end."""
    path = tmp_path / "token"
    path.write_text(f"{chain.token}\n")
    done = chain.pcapctl(
        *("hosts", "web-0", "--duration", "100ms", "--token-file", str(path), "--output", str(chain.path())),
        env={"PCAP_TOKEN": ""},
    )
    assert done.returncode == 0, done.stderr


def test_the_default_name(chain: Chain, tmp_path: Path) -> None:
    """Without --output the file is named after the first target and the time, readable by nobody else."""
    done = chain.pcapctl("hosts", "web-0", "--duration", "100ms", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    assert path.match("web-0-????????T??????Z.pcapng")
    assert path.stat().st_mode & 0o777 == 0o600


def test_unreachable_apis(chain: Chain) -> None:
    """An api that cannot be reached gives status 1, with its name and what to check."""
    port = chain.api.config["static"]["targets"]["nobody"]["port"]
    for url, words in (
        (f"https://127.0.0.1:{port}", "refused"),
        ("https://api.invalid", "the host name 'api.invalid' cannot be resolved"),
    ):
        done = chain.pcapctl("hosts", "web-0", "--output", str(chain.path()), env={"PCAP_API": url})
        assert done.returncode == 1
        assert words in done.stderr and "--api" in done.stderr


def test_status(chain: Chain) -> None:
    """status describes the api and its resolvers, as text and JSON, and fails when the api does not answer."""
    done = chain.pcapctl("status")
    assert done.returncode == 0 and done.stdout.startswith("healthy") and "static: ok" in done.stdout
    body = json.loads(chain.pcapctl("status", "--json").stdout)
    assert body["healthy"] is True
    port = chain.api.config["static"]["targets"]["nobody"]["port"]
    assert chain.pcapctl("status", env={"PCAP_API": f"https://127.0.0.1:{port}"}).returncode == 1


def test_help_and_version(chain: Chain) -> None:
    """--help names every pinned option and the exit statuses; --version says who it is."""
    text = chain.pcapctl("hosts", "--help").stdout
    for option in ("--output", "--format", "--filter", "--device", "--snaplen", "--count", "--duration",
                   "--max-bytes", "--order", "--no-order", "--force", "--api", "--ca", "--token-file",
                   "--quiet", "--verbose", "--json"):  # fmt: skip
        assert option in text
    assert "Exit status" in text and "Ctrl-C" in text
    assert chain.pcapctl("--version").stdout.startswith("pcapctl")


def test_the_pure_client_writes_the_same(chain: Chain) -> None:
    """With PCAPD_PURE=1 (nothing compiled) the packets of a file are the same, in the same order."""
    clients = [
        chain.begin("web-0", "web-1", "--filter", FILTER, env=env) for env in ({}, {"PCAPD_PURE": "1"})
    ]
    for client in clients:
        client.wait_for("web-0:eth0", "web-1:eth0")
    with Generator(chain.link, rate=2000, count=3000) as generator:
        generator.wait()
    compiled, pure = (client.stop() for client in clients)
    assert compiled.status == pure.status == 0
    for name in ("web-0:eth0", "web-1:eth0"):
        assert compiled.file.numbers(name) == pure.file.numbers(name) == list(range(3000))
    assert ordered(pure.file.times)
