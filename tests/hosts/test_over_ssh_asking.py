"""``pcapctl ssh`` at a terminal, where real ssh asks for passwords and about host keys."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from pathlib import Path
from typing import Iterator

import pytest

from demo.processes import end, wait_until
from tests.kit.hosts.chain import read_pcapng
from tests.kit.hosts.overssh import children
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.sshhosts import USER, Desk, new_key
from tests.kit.lab.terminals import Terminal

PASSWORD = re.compile(r"alice@(\S+)'s password:")


@pytest.fixture(scope="module", autouse=True)
def passwords(desk: Desk) -> None:
    """Each host has a user with a password of its own, and no key opens it."""
    for host in desk.hosts.values():
        host.password = f"of-{host.name}"
        host.sudoers = f"{USER} ALL=(ALL) NOPASSWD: ALL"
        host.serve(desk.key.with_suffix(".pub"))


def words(desk: Desk, *arguments: str, known: str = "accept-new") -> list[str]:
    """A command line of a user who has only passwords."""
    options = ["-l", USER, "-o", f"User={USER}", "-o", "PubkeyAuthentication=no"]
    options += ["-o", f"StrictHostKeyChecking={known}", "-o", "NumberOfPasswordPrompts=3"]
    given = [word for option in options for word in ("--ssh-option", option)]
    return desk.command(*given, "--device", "eth9", "--filter", FILTER, *arguments)


@contextlib.contextmanager
def running(argv: list[str]) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    """A process that has a terminal of its own, from which a person reads."""
    with Terminal(columns=160, lines=50) as terminal:
        process = terminal.log_in(argv)
        terminal.read()
        try:
            yield terminal, process
        finally:
            end(process)


def asked(terminal: Terminal) -> list[str]:
    """Whose password was asked for so far."""
    return PASSWORD.findall(terminal.text)


def answer(desk: Desk, terminal: Terminal, so_far: int, text: str = "") -> str:
    """Wait for the next question for a password, and answer it rightly, or with the text; return whose it is."""
    wait_until(
        lambda: len(asked(terminal)) > so_far and not terminal.echoes, "a password is asked for", timeout=20
    )
    address = asked(terminal)[so_far]
    (host,) = [host for host in desk.hosts.values() if host.address == address]
    terminal.type(f"{text or host.password}\n")
    return host.name


def table(terminal: Terminal) -> bool:
    """Whether the live table is shown."""
    return "web-0:eth9" in terminal.text or "web-1:eth9" in terminal.text


def test_two_passwords(desk: Desk, tmp_path: Path) -> None:
    """Questions come one after the other and name the host; the table comes after the last answer."""
    path = tmp_path / "both.pcapng"
    with running(words(desk, "web-0", "web-1", "--output", str(path))) as (terminal, process):
        first = answer(desk, terminal, 0)
        assert f"{first}: ssh may ask you" in terminal.text
        wait_until(lambda: len(asked(terminal)) == 2, "the second is asked for", timeout=20)
        assert not table(terminal)
        time.sleep(1.0)
        assert not table(terminal) and not terminal.echoes
        second = answer(desk, terminal, 1)
        assert f"{second}: ssh may ask you" in terminal.text
        terminal.wait_for("web-0:eth9", "web-1:eth9")
        assert terminal.echoes
        with Generator(desk.wire, count=20, rate=1000) as generator:
            generator.wait()
        time.sleep(1.5)
        terminal.type("\x03")
        assert process.wait(30) == 0, terminal.text
    assert {first, second} == {"web-0", "web-1"}
    assert len(read_pcapng(path).packets) == 40
    assert "of-web" not in terminal.text


@pytest.mark.long
def test_a_wrong_password(desk: Desk, tmp_path: Path) -> None:
    """Three wrong answers give up this host, which is named, and the other one is captured."""
    path = tmp_path / "one.pcapng"
    with running(words(desk, "web-0", "web-1", "--output", str(path))) as (terminal, process):
        wrong = {answer(desk, terminal, number, "wrong") for number in range(3)}
        (right,) = {"web-0", "web-1"} - wrong
        assert answer(desk, terminal, 3) == right
        (wrong_host,) = wrong
        terminal.wait_for(f"{right}:eth9", f"{wrong_host}: Permission denied")
        terminal.type("\x03")
        assert process.wait(30) == 3, terminal.text
        assert len(asked(terminal)) == 4


def test_ctrl_c_at_the_question(desk: Desk, tmp_path: Path) -> None:
    """Ctrl-C at a question leaves at once, with the terminal as it was, and nothing runs here or there."""
    path = tmp_path / "none.pcapng"
    with running(words(desk, "web-0", "web-1", "--output", str(path))) as (terminal, process):
        answer(desk, terminal, 0)
        wait_until(
            lambda: len(asked(terminal)) == 2 and not terminal.echoes, "the second is asked for", timeout=20
        )
        started = children(process.pid)
        assert started
        before = time.monotonic()
        terminal.type("\x03")
        assert process.wait(10) == 1, terminal.text
        assert time.monotonic() - before < 2
        assert terminal.echoes
        wait_until(
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), "no ssh is left", timeout=1
        )
    assert "interrupted before the capture started" in terminal.text
    assert not path.exists()
    wait_until(lambda: not any(host.processes() for host in desk.hosts.values()), "nothing runs", timeout=30)


@pytest.mark.long
def test_an_unknown_host(desk: Desk, tmp_path: Path) -> None:
    """An unknown host key is asked about, and with the answer the key is known."""
    known = tmp_path / "known_hosts"
    options = ("--ssh-option", "-o", "--ssh-option", f"UserKnownHostsFile={known}")
    argv = words(desk, *options, "web-0", "--count", "1", known="ask")
    with running([*argv, "--output", str(tmp_path / "a.pcapng")]) as (terminal, process):
        terminal.wait_for("web-0: ssh may ask you", "authenticity of host", "(yes/no")
        terminal.type("yes\n")
        answer(desk, terminal, 0)
        terminal.wait_for("web-0:eth9")
        with Generator(desk.wire, rate=100):
            assert process.wait(30) == 0, terminal.text
    assert desk.hosts["web-0"].address in known.read_text()


@pytest.mark.long(but=("ask",))
@pytest.mark.parametrize("checking", ["ask", "no"])
def test_a_host_key_that_changed(desk: Desk, tmp_path: Path, checking: str) -> None:
    """A host key that has changed is never asked away, and the message says what is wrong."""
    known = tmp_path / "known_hosts"
    new_key(tmp_path / "other")
    kind, key, _ = (tmp_path / "other.pub").read_text().split(" ", 2)
    line = f"{desk.hosts['web-0'].address} {kind} {key}\n"
    known.write_text(line)
    options = ("--ssh-option", "-o", "--ssh-option", f"UserKnownHostsFile={known}")
    argv = words(desk, *options, "web-0", known=checking)
    with running([*argv, "--output", str(tmp_path / "a.pcapng")]) as (terminal, process):
        terminal.wait_for("the key of this host has changed", "ssh web-0")
        assert process.wait(10) == 1
        assert "may ask you" not in terminal.text and not asked(terminal)
    assert known.read_text() == line


@pytest.mark.long(but=("quiet",))
@pytest.mark.parametrize("where", ["quiet", "background", "no terminal"])
def test_nobody_is_asked(desk: Desk, tmp_path: Path, where: str) -> None:
    """With --quiet, in the background and without a terminal ssh asks nothing, and the host is named."""
    argv = words(desk, "web-0", "--output", str(tmp_path / "a.pcapng"))
    if where == "no terminal":
        done = subprocess.run(
            ["setsid", "--wait", *argv],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=30,
        )
        status, text = done.returncode, done.stderr
    else:
        if where == "quiet":
            argv.append("--quiet")
        else:
            argv = ["sh", "-c", 'set -m; "$@" & wait $!', "sh", *argv]
        with running(argv) as (terminal, process):
            terminal.wait_for("Permission denied", "ssh web-0 true")
            status, text = process.wait(10), terminal.text
    assert status == 1
    assert "Permission denied" in text and "may ask you" not in text and "password:" not in text
