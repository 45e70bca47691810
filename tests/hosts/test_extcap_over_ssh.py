"""Wireshark's interface "hosts over ssh": real tshark, real ssh servers; in a home of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from demo.processes import end, wait_until
from tests.kit.hosts.wireshark import PATIENCE, User
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.readers import capinfos, require, tshark_fields
from tests.kit.lab.sshhosts import Desk
from tests.kit.lab.terminals import Terminal

require("tshark", "dumpcap")


@pytest.fixture
def bob(desk: Desk, user: User) -> User:
    """May log in to web-0 and web-1."""
    user.preferences = {
        "pcapctl_ssh.hosts": "web-0, web-1",
        "pcapctl_ssh.sshoptions": f"-F {desk.configuration}",
        "pcapctl_ssh.device": "eth9",
    }
    return user


def tshark(desk: Desk, user: User, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tshark at the desk."""
    return subprocess.run(
        desk.namespace.command(*user.command("-i", "pcapctl-ssh", *arguments)),
        cwd=user.home,
        env=user.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def test_capture(desk: Desk, bob: User, tmp_path: Path) -> None:
    """Ten packets of two hosts arrive, each with its interface, and nothing stays running here or there."""
    path = tmp_path / "web.pcapng"
    with Generator(desk.wire, rate=200):
        done = tshark(desk, bob, "-f", FILTER, "-c", "10", "-w", str(path))
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr and "pcapctl:" not in done.stderr
    names = tshark_fields(path, ["frame.interface_name"])
    assert len(names) == 10
    assert {name for (name,) in names} == {"web-0:eth9", "web-1:eth9"}
    capinfos(path)
    wait_until(lambda: not bob.left_behind(), "nothing is left running", timeout=20)
    wait_until(lambda: not any(host.processes() for host in desk.hosts.values()), "nothing runs", timeout=30)


@pytest.mark.parametrize(
    ("preference", "value", "words"),
    [
        ("hosts", "nowhere.invalid", "Could not resolve hostname nowhere.invalid"),
        ("hosts", "-oProxyCommand=id", "'-oProxyCommand=id' is not the name of a host"),
        ("sshoptions", "-J 'jump", "options of ssh: No closing quotation"),
        ("sshoptions", "-F /dev/null -o StrictHostKeyChecking=yes", "connect once with: ssh web-0"),
        ("device", "eth7", "eth7: No such device"),
        ("filter", "tcp port x", "unknown port 'x'"),
    ],
)
@pytest.mark.long(but=("device-eth7", "hosts--oProxy"))
def test_errors(desk: Desk, bob: User, preference: str, value: str, words: str) -> None:
    """Wireshark shows our error messages, and no capture stays running."""
    bob.preferences["pcapctl_ssh.hosts"] = "web-0"
    bob.preferences[f"pcapctl_ssh.{preference}"] = value
    if "StrictHost" in value:
        address = desk.hosts["web-0"].address
        bob.preferences["pcapctl_ssh.sshoptions"] += (
            f" -o Hostname={address} -o UserKnownHostsFile=/dev/null -i {desk.key}"
        )
    done = tshark(desk, bob, "-c", "1")
    assert "pcapctl: " in done.stderr, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    wait_until(lambda: not bob.left_behind(), "nothing is left running", timeout=20)


def test_no_question_is_asked(desk: Desk, bob: User) -> None:
    """Where ssh would ask for a password, the capture fails: a Wireshark has no terminal for the answer.

    tshark has one here, with pcapctl in its foreground.
    """
    bob.preferences["pcapctl_ssh.hosts"] = "web-0"
    bob.preferences["pcapctl_ssh.sshoptions"] += " -o PreferredAuthentications=password"
    with Terminal(columns=200) as terminal:
        argv = desk.namespace.command(*bob.command("-i", "pcapctl-ssh", "-c", "1"))
        process = terminal.log_in(argv, env=bob.environment, cwd=bob.home)
        terminal.read()
        try:
            terminal.wait_for("Permission denied", "ssh web-0 true")
            process.wait(20)
        finally:
            end(process)
    assert "password:" not in terminal.text
