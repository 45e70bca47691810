"""The command line of the far side: what every login shell makes of it, and filters that are refused."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from pcapd.ctl.ssh.farside import MARK, FilterProblem, check_filter, command, effective_filter

SHELLS = {
    "sh": ("sh", "-c"),
    "dash": ("dash", "-c"),
    "bash": ("bash", "-c"),
    "zsh": ("zsh", "-f", "-c"),
    "fish": ("fish", "--no-config", "-c"),
    "tcsh": ("tcsh", "-f", "-c"),
    "csh": ("csh", "-f", "-c"),
    "busybox": ("busybox", "ash", "-c"),
}

#: Filters that a shell could understand in another way.
FILTERS = (
    "",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and not port 22",
    "!(tcp port 80) && host ::1 || ip[6:2] & 0x1fff = 0",
    "'; touch touched; '",
    '"; touch touched; "',
    "$(touch touched) `touch touched` ${HOME} $$ %s %n",
    "a & touch touched & | > touched < /dev/null",
    "* ? [a-z] ~ {a,b} # comment ^x %1",
    "-w touched -z /bin/sh",
    "é ü 日本",
    "it's \"quoted\" it''s",
)
#: fish reads these otherwise, if they are quoted.
BACKSLASHES = (
    "\\",
    "tcp\\",
    "ip proto \\tcp",
    "a\\\\b \\' \\n",
    "\\'; touch touched; '\\",
    "\\\\'$(touch touched)",
)

#: Stands for tcpdump, and writes its arguments.
TOOL = """#!/bin/sh
case " $* " in
*" -L "*|*" -D "*) echo "1.eth0 [Up]"; exit 0;;
*" --version "*) echo "tcpdump version 4.99.3"; exit 0;;
esac
for word; do printf '%s\\0' "$word"; done > "$FAKE/arguments"
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with a tcpdump that only writes its arguments."""
    tool = tmp_path / "tcpdump"
    tool.write_text(TOOL)
    tool.chmod(0o755)
    return tmp_path


def run(shell: str, directory: Path, device: str, text: str, *, include_ssh: bool = True) -> list[str]:
    """Have a login shell run the line, as sshd does; return the arguments that tcpdump got."""
    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"there is no {shell} on this machine")
    environ = {
        "PATH": f"{directory}:{os.environ['PATH']}",
        "FAKE": str(directory),
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 2222",
    }
    line = command(device, 128, text, include_ssh=include_ssh)
    stdout, stderr = directory / "stdout", directory / "stderr"
    with stdout.open("wb") as out, stderr.open("wb") as err:
        process = subprocess.Popen(
            [*SHELLS[shell], line], cwd=directory, env=environ, stdin=subprocess.PIPE, stdout=out, stderr=err
        )
        assert process.stdin is not None
        with process.stdin as told:  # at its end, the program would be interrupted
            told.write(b"t 1\ngo\n")
            told.flush()
            assert process.wait(20) == 0, stderr.read_text()
    said = stderr.read_text()
    assert f"{MARK} tool direct Linux {directory}/tcpdump 4.99.3 eth0\n" in said or device != "eth0"
    assert f"{MARK} hello 2222\n" in said and f"{MARK} time 1 " in said and f"{MARK} end 0\n" in said, said
    assert stdout.read_text() == f"{MARK}\n"
    assert not (directory / "touched").exists()
    return (directory / "arguments").read_text().split("\0")[:-1]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell(directory: Path, shell: str) -> None:
    """The user's words reach tcpdump as they are, through every login shell, and nothing else runs."""
    for text in FILTERS:
        given = run(shell, directory, "eth0", text)
        assert given == ["-U", "-p", "-B", "16384", "-i", "eth0", "-s", "128", "-w", "-", "--", text]


@pytest.mark.parametrize("shell", SHELLS)
def test_backslashes(directory: Path, shell: str) -> None:
    """Backslashes are kept by every shell, and end no quotation."""
    for text in BACKSLASHES:
        assert run(shell, directory, "eth0", text)[-1] == text


def test_the_ssh_port_is_left_out(directory: Path) -> None:
    """The port of SSH_CONNECTION is excluded in front of the user's filter."""
    given = run("sh", directory, "a'b", "udp or tcp", include_ssh=False)
    assert given[-1] == "not tcp port 2222 and (udp or tcp)" == effective_filter("udp or tcp", 2222)
    assert given[5] == "a'b"
    assert run("sh", directory, "", "", include_ssh=False)[-1] == effective_filter("", 2222)


def test_the_line_has_no_newline() -> None:
    """csh ends a line at a newline, and fish has escapes in quotation marks."""
    line = command("eth0", 262144, "tcp")
    assert "\n" not in line and "\\\\" not in line and "\\'" not in line


@pytest.mark.parametrize(
    "text",
    ["tcp) or (udp", ")(", "(tcp", "tcp)", "((tcp)", "tcp\nudp", "tcp\tudp", "a\0b", "\x1b[2J", "\udcff"],
)
def test_filters_that_are_refused(text: str) -> None:
    """A filter cannot undo the exclusion in front of it, and has no control characters."""
    with pytest.raises(FilterProblem):
        check_filter(text)


@pytest.mark.parametrize("text", ["", "tcp", "(tcp)", "(a) or ((b) and c)", "port 80 and not (host é)"])
def test_filters_that_are_accepted(text: str) -> None:
    """Balanced parentheses are accepted."""
    check_filter(text)


def test_a_container_s_ssh_server_goes_on(tmp_path: Path) -> None:
    """In a container the script kills itself and a stubborn cf-pcap, but not the ssh server of its process group."""
    tool = tmp_path / "cf-pcap"
    tool.write_text(
        "#!/bin/sh\n[ $1 = -interface ] || exit 2\ntrap '' INT\nprintf header\nwhile :; do sleep 1; done\n"
    )
    tool.chmod(0o755)
    line = command("eth0", 96, "", include_ssh=True, tool=str(tool))
    # The server: it starts the line without a process group of its own, and goes on.
    server = f"sh -c {shlex.quote(line)}; sleep 0.2; echo goes on"
    process = subprocess.Popen(
        ["sh", "-c", server],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(b"t 1\ngo\n")
    process.stdin.flush()
    assert process.stdout is not None
    assert process.stdout.readline() == f"{MARK}\n".encode()
    process.stdin.close()
    assert process.stdout.read() == b"headergoes on\n"
    process.wait(10)
    assert not [pid for pid in pids_of_group(process.pid) if pid != process.pid]


def pids_of_group(group: int) -> list[int]:
    """The processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            # A sleep of at most two seconds may be left, and zombies for a moment.
            if int(fields[2]) == group and fields[0] != "Z" and "(sleep)" not in path.read_text():
                found.append(int(path.parent.name))
    return found
