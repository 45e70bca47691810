"""pcapctl as one file: the same bytes each time, and at home in a Python that has nothing else."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

import pcapd
from demo.certificates import Authority
from demo.configurations import LOCAL
from demo.daemons import Lab
from demo.processes import ROOT, CommandFailed, run
from demo.traffic import HttpTraffic
from pcapd.wire import End, EndReason
from tests.kit.doubles.stream_api import Client, StreamApi, record
from tests.kit.lab.readers import capinfos, require, tcpdump_lines, tshark_fields
from tests.kit.lab.terminals import Terminal
from tests.packaging.client_file import MINORS, Builder, bare, find_python

SIZE_MAX = 4_000_000
#: What is compiled for one version of Python.
VERSION_SIZE_MAX = 2_500_000
VERSION = f"pcapctl, version {pcapd.__version__}\n"


def version_of(client_file: Path, name: Path) -> str:
    """Return what a client file prints that runs by this name."""
    return f"{VERSION}SHA-256 {hashlib.sha256(client_file.read_bytes()).hexdigest()} {name}\n"


def compiled_for(client_file: Path) -> set[str]:
    """Directories of compiled modules."""
    with zipfile.ZipFile(client_file) as archive:
        return {name.partition("/")[0] for name in archive.namelist() if name.startswith("pyc-")}


@pytest.fixture(params=MINORS, ids=lambda minor: f"python3.{minor}")
def python(request: pytest.FixtureRequest) -> str:
    """Return each Python that this machine has of those the file is for."""
    found = find_python(request.param)
    if found is None:
        pytest.skip(f"there is no python3.{request.param} on this machine")
    return found


@pytest.mark.long
def test_the_same_sources_make_the_same_bytes(builder: Builder, client_file: Path, tmp_path: Path) -> None:
    """The client file does not depend on directory, times, permissions, time zone or hash seed."""
    copy = tmp_path / "elsewhere"
    leave = shutil.ignore_patterns("*.so", ".*")
    for name in ("bin", "pcapd"):
        shutil.copytree(ROOT / name, copy / name, ignore=leave)
    shutil.copy(ROOT / "LICENSE", copy)
    for path in copy.rglob("*"):
        os.utime(path, (1_234_567_890, 1_234_567_890))
        if path.suffix == ".py":
            path.chmod(0o600)
    again = builder.build(
        tmp_path / "again", copy, env={"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}, cwd=tmp_path, umask=0o077
    )
    assert again.read_bytes() == client_file.read_bytes()


def test_what_is_in_it(client_file: Path) -> None:
    """The client file is executable, small and pure Python, holds all licences and nothing of the daemon."""
    assert stat.S_IMODE(client_file.stat().st_mode) == 0o755
    assert client_file.stat().st_size < SIZE_MAX + VERSION_SIZE_MAX * len(compiled_for(client_file))
    assert client_file.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(client_file) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    assert not [name for name in names if name.endswith(".so")]
    assert all(name.startswith("pyc-") for name in names if name.endswith(".pyc"))
    top = {name.partition("/")[0] for name in names}
    for package in ("click", "h11", "hpack", "pyyaml", "rich", "wsproto"):
        assert {"pyyaml": "yaml"}.get(package, package) in top
        assert [name for name in names if name.startswith(f"{package}-") and "LICENSE" in name]
    ours = {name.split("/")[1] for name in names if name.startswith("pcapd/")}
    assert not ours & {"agent", "api", "capture", "net", "main.py", "tap.py"}


@pytest.mark.long
def test_wheels_with_other_bytes_are_refused(tmp_path: Path, builder: Builder) -> None:
    """A hash that does not fit stops the build, and nothing is made."""
    copy = tmp_path / "checkout"
    for name in ("bin", "pcapd"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.so"))
    shutil.copy(ROOT / "LICENSE", copy)
    requirements = copy / "bin" / "client-requirements.txt"
    head, _, _ = requirements.read_text().partition("sha256:")
    requirements.write_text(f"{head}sha256:{'0' * 64}\n")
    out = tmp_path / "out"
    with pytest.raises(CommandFailed, match="pip could not fetch"):
        builder.build(out, copy)
    assert not out.exists()


@pytest.mark.long(but=("python3.9",))
def test_a_bare_python_runs_it(client_file: Path, python: str, tmp_path: Path) -> None:
    """--version and --help of everything, and every module in it can be imported."""
    assert bare(python, client_file, "--version").stdout == version_of(client_file, client_file)
    assert "pcapctl" in bare(python, client_file, "--help").stdout
    for command in ("cf", "bosh", "hosts", "status"):
        done = bare(python, client_file, command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert command in done.stdout
    everything = (
        "import importlib, pkgutil, sys; sys.path.insert(0, sys.argv[1]); import pcapd\n"
        "for found in pkgutil.walk_packages(pcapd.__path__, 'pcapd.'):\n"
        "    print(importlib.import_module(found.name).__name__)\n"
    )
    command_line = [python, "-I", "-S", "-c", everything, str(client_file)]
    done = subprocess.run(command_line, env={}, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pcapd.ctl.run" in done.stdout.split()


@pytest.mark.long(but=("python3.9",))
def test_the_table_with_a_bare_python(
    client_file: Path, python: str, tmp_path: Path, authority: Authority
) -> None:
    """The live table needs nothing of rich that was left out of the file."""
    go = threading.Event()

    def script(client: Client) -> None:
        client.greet()
        client.open()
        client.packets(record(1))
        client.stats(1)
        assert go.wait(60)
        client.stats(1, final=True)
        client.say(client.callee.end(End(EndReason.DURATION)))
        client.close()
        client.wait()

    credentials = authority.issue("bare-api", ips=(LOCAL,))
    with StreamApi(credentials, script) as api, Terminal(80, 24) as terminal:
        terminal.read()
        arguments = ["hosts", "web-0", "--api", api.url, "--ca", str(credentials.ca)]
        process = terminal.start(
            [python, "-I", "-S", str(client_file), *arguments, "--output", str(tmp_path / "x.pcapng")],
            env={"PCAP_TOKEN": "token", "TERM": "xterm"},
        )
        terminal.hang_up()
        terminal.wait_for("web-0:eth0 open", "1 packets written")
        go.set()
        assert process.wait(60) == 0
        terminal.wait_for("stopped: duration")
        assert "Traceback" not in terminal.text
    assert not api.failures


def test_a_fast_start(client_file: Path) -> None:
    """--version and --help import neither rich, nor TLS, nor WebSockets, which take most of the time."""
    for option in ("--version", "--help"):
        program = (
            "import runpy, sys\n"
            f"sys.argv = ['pcapctl', {option!r}]\n"
            "try:\n"
            f"    runpy.run_path({str(client_file)!r}, run_name='__main__')\n"
            "finally:\n"
            "    print(sorted({'hpack', 'rich', 'ssl', 'wsproto'} & set(sys.modules)))\n"
        )
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"


def test_nothing_is_compiled_at_the_start(client_file: Path) -> None:
    """Every module of ours and of click comes compiled for the Python that built the file."""
    program = (
        "import runpy, sys\n"
        "sys.argv = ['pcapctl', '--version']\n"
        "try:\n"
        f"    runpy.run_path({str(client_file)!r}, run_name='__main__')\n"
        "finally:\n"
        "    files = [getattr(m, '__file__', None) or '' for n, m in sys.modules.items()"
        " if n.split('.')[0] in ('pcapd', 'click')]\n"
        "    print(sorted({name.rpartition('.')[2] for name in files}))\n"
    )
    assert f"pyc-{importlib.util.MAGIC_NUMBER.hex()}" in compiled_for(client_file)
    assert run([sys.executable, "-I", "-S", "-c", program]).stdout.splitlines()[-1] == "['pyc']"


@pytest.mark.parametrize("module", ["pcapd", "click", "pcapd.ctl.options"])
def test_ctrl_c_while_it_starts(client_file: Path, module: str) -> None:
    """Ctrl-C while the client starts ends it silently, by the signal."""
    program = (
        "import os, runpy, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(name, *rest):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder)\n"
        "sys.argv = ['pcapctl', '--version']\n"
        f"runpy.run_path({str(client_file)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_it_runs_by_its_name(client_file: Path, tmp_path: Path) -> None:
    """The client runs by its name, from any directory, through a link, and without files in HOME."""
    link = tmp_path / "pcapctl"
    link.symlink_to(client_file)
    environ = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(
        [link, "--version"], env=environ, cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout == version_of(client_file, link)


def test_a_python_that_is_too_old_is_told_so(client_file: Path) -> None:
    """A Python version that is too old is reported without a traceback."""
    old = find_python(8) or find_python(7) or find_python(6)
    if old is None:
        pytest.skip("there is no Python older than 3.9 on this machine")
    done = bare(old, client_file, "--version")
    assert done.returncode == 1
    assert done.stderr.startswith("pcapctl needs Python 3.9 or later; this is Python 3.")


def test_a_real_capture_with_it(client_file: Path, tmp_path: Path) -> None:
    """Packets of two hosts, through agent and api, written by the one file in the oldest Python there is."""
    pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
    if os.geteuid() != 0:
        pytest.skip("captures and namespaces need root")
    require("tshark", "capinfos", "tcpdump")
    python = next(filter(None, map(find_python, MINORS)))
    with Lab(tmp_path / "lab") as lab, HttpTraffic(lab.link.left, lab.link.right):
        arguments = ("hosts", "web-0", "web-1", "--duration", "2s", "--output", str(tmp_path / "x.pcapng"))
        done = bare(
            python,
            client_file,
            *arguments,
            *("--ca", str(lab.authority.certificate_path), "--api", lab.url),
            env={"PCAP_TOKEN": lab.token},
        )
    assert done.returncode == 0, done.stderr
    file = tmp_path / "x.pcapng"
    names = {row[0] for row in tshark_fields(file, ["frame.interface_name"])}
    assert names == {"web-0:eth0", "web-1:eth0"}
    assert int(capinfos(file)["Number of packets"]) == len(tcpdump_lines(file)) > 0


@pytest.mark.long(but=("python3.9",))
def test_completion_and_manual(client_file: Path, python: str) -> None:
    """Completion and manual come from the client file alone, with its own click, unchanged."""
    page = bare(python, client_file, "man")
    assert (page.returncode, page.stderr) == (0, "")
    assert page.stdout == (ROOT / "docs" / "pcapctl.1").read_text()
    for shell, line in (("bash", "COMP_WORDS"), ("zsh", "#compdef pcapctl"), ("fish", "complete --no-files")):
        script = bare(python, client_file, "completion", shell)
        assert script.returncode == 0 and line in script.stdout
    typed = {"_PCAPCTL_COMPLETE": "bash_complete", "COMP_WORDS": "pcapctl ho", "COMP_CWORD": "1"}
    assert bare(python, client_file, env=typed).stdout == "plain,hosts\n"


@pytest.mark.parametrize("how", ["launcher", "link", "copy"])
@pytest.mark.long
def test_in_wiresharks_directory(client_file: Path, tmp_path: Path, how: str) -> None:
    """tshark finds the extcap launcher whether it was installed, copied or linked under another name."""
    require("tshark")
    folder = tmp_path / ".config" / "wireshark" / "extcap"
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / ".config")}
    if how == "launcher":
        done = subprocess.run(
            [client_file, "extcap", "--install"], env=environ, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout.split(";")[0]) == (0, f"installed {folder / 'pcapctl'}"), (
            done.stderr
        )
    else:
        folder.mkdir(parents=True)
        if how == "link":
            (folder / "clouds").symlink_to(client_file)
        else:
            shutil.copy(client_file, folder / "clouds")
    said = {}
    for question in (["-D"], ["-G", "currentprefs"]):
        done = subprocess.run(
            ["tshark", *question], env=environ, cwd="/", capture_output=True, text=True, check=True
        )
        said[question[0]] = done.stdout
    for name in (
        "pcapctl-cf (Cloud Foundry app)",
        "pcapctl-bosh (BOSH VMs)",
        "pcapctl-hosts (pcapd hosts)",
        "pcapctl-ssh (hosts over ssh)",
        "pcapctl-recordings (pcapd recordings)",
    ):
        assert said["-D"].count(f". {name}\n") == 1
    assert "\n#extcap.pcapctl_cf.type: web\n" in said["-G"]
    for kind in ("cf", "bosh", "hosts", "ssh", "recordings"):
        assert f"\n#extcap.pcapctl_{kind}." in said["-G"]
    assert [path.name for path in folder.iterdir()] == ["pcapctl" if how == "launcher" else "clouds"]
