"""``pcapctl completion``: what real shells make of a line and the tab key."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest
from click.shell_completion import get_completion_class

from demo.processes import ROOT
from pcapd.ctl.commands.completion import SHELLS, completion, script
from pcapd.ctl.main import cli

PATIENCE = 60.0
PROMPT = "READY> "
DIRECTORS = "environments:\n- {url: 'https://10.0.0.6:25555', alias: prod}\n- {url: x, alias: 'two words'}\n"

#: What is typed before the tab key, and the arguments that pcapctl is started with after it.
LINES = {
    "command": ("ho", ["hosts"]),
    "option": ("hosts web-0 --spl", ["hosts", "web-0", "--split-by"]),
    "choice": ("hosts --format pcapn", ["hosts", "--format", "pcapng"]),
    "device": ("cf myapp -i l", ["cf", "myapp", "-i", "lo"]),
    "director": ("bosh -e p", ["bosh", "-e", "prod"]),
    "host": ("ssh web-1.ex", ["ssh", "web-1.example.com"]),
    "user's host": ("ssh web-0 alice@web-1.ex", ["ssh", "web-0", "alice@web-1.example.com"]),
    "any host of a user": ("ssh alice@", ["ssh", "alice@web-1.example.com"]),
    "file": ("flows some-f", ["flows", "some-file.pcapng"]),
    "option's file": ("hosts web-0 -o some-f", ["hosts", "web-0", "-o", "some-file.pcapng"]),
    "shell": ("completion z", ["completion", "zsh"]),
}


class User:
    """Somebody with a home directory, a file in it, and pcapctl in PATH.

    Started by hand, that pcapctl only notes its arguments.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._noted = home / "noted"
        (home / "some-file.pcapng").touch()
        (home / ".bosh").mkdir()
        (home / ".bosh" / "config").write_text(DIRECTORS)
        (home / ".ssh").mkdir()
        (home / ".ssh" / "config").write_text("Host web-1.example.com\n")
        tools = home / "tools"
        tools.mkdir()
        launcher = tools / "pcapctl"
        launcher.write_text(
            f'#!/bin/sh\nif [ -n "$_PCAPCTL_COMPLETE" ]; then exec {sys.executable} -m pcapd.ctl "$@"; fi\n'
            f"printf '%s\\n' \"$@\" > {self._noted}.new && mv {self._noted}.new {self._noted}\n"
        )
        launcher.chmod(0o755)
        self.environ = {
            "HOME": str(home),
            "PATH": f"{tools}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "TERM": "dumb",
            "PS1": PROMPT,
            "LANG": "C.UTF-8",
        }

    def install(self, shell: str) -> Path:
        """Put the script that pcapctl prints into a file."""
        printed = subprocess.run(
            [sys.executable, "-m", "pcapd.ctl", "completion", shell],
            env=self.environ, check=True, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert printed.stderr == ""
        path = self.home / f"script.{shell}"
        path.write_text(printed.stdout)
        return path

    def type(self, argv: list[str], lines: list[str]) -> list[str]:
        """Type lines into a shell on a terminal of its own; the arguments that pcapctl got at last."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.home)
            os.execvpe(argv[0], argv, self.environ)
        seen, deadline = b"", time.monotonic() + PATIENCE
        try:
            for line in lines:
                while PROMPT.encode() not in seen:  # zsh puts more behind it
                    assert time.monotonic() < deadline, seen
                    if select.select([terminal], [], [], 0.1)[0]:
                        seen += os.read(terminal, 4096)
                seen = b""
                os.write(terminal, f"{line}\n".encode())
            while not self._noted.exists():
                assert time.monotonic() < deadline, seen
                if select.select([terminal], [], [], 0.1)[0]:
                    seen += os.read(terminal, 4096)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.close(terminal)
            os.waitpid(pid, 0)
        return self._noted.read_text().splitlines()


@pytest.fixture
def user(tmp_path: Path) -> User:
    """Return somebody with an empty home."""
    return User(tmp_path)


def need(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} on this machine")


@pytest.mark.parametrize("line", LINES)
@pytest.mark.long(
    but=(
        "command",
        "device",
        "option]",
        "user's host",
        "any host of a user",
    )
)
def test_bash(user: User, line: str) -> None:
    """An interactive bash that has read the script completes each line at the tab key."""
    need("bash")
    typed, arguments = LINES[line]
    lines = [f". {user.install('bash')}", f"pcapctl {typed}\t"]
    assert user.type(["bash", "--norc", "--noprofile", "-i"], lines) == arguments


@pytest.mark.parametrize("line", LINES)
@pytest.mark.long(
    but=(
        "command",
        "device",
        "option]",
    )
)
def test_zsh(user: User, line: str) -> None:
    """An interactive zsh completes each line."""
    need("zsh")
    typed, arguments = LINES[line]
    begin = f"autoload -Uz compinit; compinit -u -D; . {user.install('zsh')}"
    assert user.type(["zsh", "-f", "-i"], [begin, f"pcapctl {typed}\t"]) == arguments


@pytest.mark.parametrize("line", LINES)
@pytest.mark.long(
    but=(
        "command",
        "device",
        "option]",
    )
)
def test_fish(user: User, line: str) -> None:
    """fish finds what completes each line, and nothing else."""
    need("fish")
    typed, arguments = LINES[line]
    directory = user.home / ".config" / "fish" / "completions"
    directory.mkdir(parents=True)
    user.install("fish").rename(directory / "pcapctl.fish")
    done = subprocess.run(
        ["fish", "--command", f"complete --do-complete 'pcapctl {typed}'"],
        env=user.environ, cwd=user.home, check=True, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert [found.partition("\t")[0] for found in done.stdout.splitlines()] == arguments[-1:]


def test_every_shell_is_tested_and_explained() -> None:
    """Every shell that --help offers is tested and documented."""
    assert SHELLS == ("bash", "zsh", "fish")
    epilog = completion.epilog
    assert epilog is not None and all(f"completion {shell}" in epilog for shell in SHELLS)
    assert all(script(shell, cli).startswith(("_", "#compdef", "function")) for shell in SHELLS)


# --- values, without a shell -----------------------------------------------------


def complete(arguments: list[str], incomplete: str) -> list[str]:
    maker = get_completion_class("bash")
    assert maker is not None
    found = maker(cli, {}, "pcapctl", "_PCAPCTL_COMPLETE").get_completions(arguments, incomplete)
    return [item.value for item in found]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a BOSH CLI's configuration that is to be read, where there is no network."""

    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise AssertionError("completion asks the network")

    path = tmp_path / "config"
    monkeypatch.setenv("BOSH_CONFIG", str(path))
    monkeypatch.setenv("PCAP_API", "https://pcap.example.com")
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (DIRECTORS, ["prod"]),
        ("environments: [{alias: b, url: x}, {alias: a, url: y}, {url: z}]\n", ["b", "a"]),
        (
            "environments: [{alias: '$(id)', url: x}, {alias: \"a\\nb\", url: y}, {alias: 'x,y', url: z}]\n",
            [],
        ),
        ("environments: 7\n", []),
        ("{", []),
        ("\x00", []),
        ("", []),
    ],
)
def test_directors(config: Path, text: str, names: list[str]) -> None:
    """Directors are completed by aliases that need no quoting; without any, nothing is printed."""
    config.write_text(text)
    assert complete(["bosh", "-e"], "") == names


@pytest.mark.parametrize(
    ("arguments", "incomplete", "values"),
    [
        (["bosh", "-e"], "pr", ["prod", "pre"]),
        (["bosh", "-e"], "two", []),
        (["cf", "myapp", "--device"], "e", ["eth0"]),
        (["cf", "myapp", "--device"], "x", []),
    ],
)
def test_only_what_begins_with_what_is_typed(
    config: Path, arguments: list[str], incomplete: str, values: list[str]
) -> None:
    """Only candidates that begin with the typed word are printed."""
    config.write_text("environments: [{alias: prod, url: x}, {alias: lab, url: y}, {alias: pre, url: z}]\n")
    assert complete(arguments, incomplete) == values


def test_no_directors_without_a_configuration(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory, a missing file or a missing HOME gives no directors and no error."""
    assert complete(["bosh", "--environment"], "") == []
    config.mkdir()
    assert complete(["bosh", "--environment"], "") == []
    monkeypatch.delenv("BOSH_CONFIG")
    monkeypatch.delenv("HOME")
    assert complete(["bosh", "--environment"], "") == []


@pytest.mark.parametrize("arguments", [["cf"], ["hosts"], ["cf", "myapp", "--filter"], ["bosh", "-d"]])
def test_nothing_that_only_others_know(config: Path, arguments: list[str]) -> None:
    """Apps, targets and deployments, which need a request, are not completed."""
    assert complete(arguments, "") == []
