"""The one file as a plugin of the cf CLI, driven by Go's own net/rpc and encoding/gob.

The real cf CLI is used by the tests marked ``realcf``, where PCAPD_TEST_CF names one.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

import pcapd
from demo.certificates import Authority
from demo.configurations import LOCAL
from demo.processes import run, wait_until
from pcapd.wire import App, End, EndReason, Stop
from tests.kit.doubles.stream_api import Client, Script, StreamApi, record
from tests.kit.hosts.cf import GUID, Foundation
from tests.kit.hosts.cfssh import app_over_ssh
from tests.kit.lab.readers import capinfos, require, tcpdump_lines, tshark_fields
from tests.kit.lab.terminals import Terminal
from tests.packaging.client_file import PATIENCE

pytestmark = pytest.mark.long


class Cf:
    """A cf CLI with a home of its own, and the foundation that it is logged in to."""

    def __init__(self, binary: Path, foundation: Foundation, directory: Path) -> None:
        self.foundation = foundation
        self.home = directory / "cf-home"
        (self.home / ".cf").mkdir(parents=True)
        self._binary = binary
        self._login = directory / "login.json"
        self._site = directory / "site"
        self.log_in()

    def log_in(self, **changes: Any) -> None:
        """Say who is logged in."""
        state = self.foundation.state
        login = {"LoggedIn": True, "Api": self.foundation.url(), "Token": state.new_access()}
        login |= {"OrgGuid": "org-guid", "OrgName": "acme", "SpaceGuid": "space-guid", "SpaceName": "dev"}
        self._login.write_text(json.dumps({**login, **changes}))

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._binary), *arguments],
            **self._options,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(self, *arguments: str, env: Any = None, **options: Any) -> subprocess.Popen[bytes]:
        """Start it as a shell does that has job control: in a process group of its own."""
        argv = [str(self._binary), *arguments, "--ca", str(self.foundation.ca)]
        options = {**self._options, **options}
        options["env"] |= env or {}
        return subprocess.Popen(argv, **options, start_new_session=True)

    @property
    def _options(self) -> dict[str, Any]:
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        environ = {"PATH": path, "HOME": "/nonexistent", "CF_HOME": str(self.home)}
        environ |= {"STANDIN_LOGIN": str(self._login), "PYTHONPATH": str(self._site)}
        return {"env": environ, "cwd": self.foundation.work}

    def pcap(self, *arguments: str, command: str = "pcap") -> subprocess.CompletedProcess[str]:
        """Capture, trusting the foundation's authority."""
        done = self(command, *arguments, "--ca", str(self.foundation.ca))
        assert "Traceback" not in done.stderr
        for secret in self.foundation.state.secrets:
            assert secret not in done.stdout + done.stderr
        return done


@pytest.fixture
def cf(standin: Path, client_file: Path, tmp_path: Path, authority: Authority) -> Iterator[Cf]:
    """Return a cf CLI that has the plugin."""
    with Foundation(tmp_path, authority) as foundation:
        # What is told comes from the cf CLI, and nothing from its files.
        foundation.config_path.unlink()
        cf = Cf(standin, foundation, tmp_path)
        done = cf("install-plugin", str(client_file))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"Plugin pcap {pcapd.__version__} successfully installed.\n"
        yield cf


def test_install_upgrade_help_uninstall(cf: Cf, client_file: Path) -> None:
    """The plugin can be installed, upgraded, asked for help, and uninstalled."""
    installed = cf.home / ".cf" / "plugins" / "pcap"
    assert installed.read_bytes() == client_file.read_bytes()
    help_text = cf("help", "pcap").stdout
    assert "pcap - Capture a Cloud Foundry app" in help_text
    assert "cf pcap APP [OPTIONS]" in help_text and "tcpdump" in help_text
    for option in ("--file", "--filter", "--instance", "--type", "--device", "--follow", "--duration"):
        assert option in help_text
    assert cf("install-plugin", str(client_file)).returncode == 0
    assert installed.exists()
    assert cf("uninstall-plugin", "pcap").returncode == 0
    assert not installed.exists()
    assert "is not a registered command" in cf("pcap", "myapp").stderr


def test_a_capture(cf: Cf) -> None:
    """The plugin captures an app by its name with the cf CLI's token, and every reader accepts the file."""
    require("tshark", "capinfos", "tcpdump")
    done = cf.pcap("myapp", "--file", "x.pcapng")
    assert done.returncode == 0, done.stderr
    file = cf.foundation.work / "x.pcapng"
    assert {row[0] for row in tshark_fields(file, ["frame.interface_name"])} == {
        "myapp/0:eth0",
        "myapp/1:eth0",
    }
    assert capinfos(file)["Number of packets"] == "2"
    assert len([line for line in tcpdump_lines(file) if not line.startswith("\t")]) == 2


LONG = ("--file", "x.pcap", "--filter", "tcp", "--instance", "0,2", "--type", "worker", "--device", "lo")
SHORT = ("-o", "x.pcap", "-f", "tcp", "-i", "0", "-i", "2", "-t", "worker", "-d", "lo")
#: As tcpdump has it: -i names an interface, where it is no number.
MIXED = ("--file", "x.pcap", "-f", "tcp", "-i", "lo", "-i", "0,2", "-t", "worker")


@pytest.mark.parametrize(
    ("command", "options"),
    [("pcap", LONG), ("tcpdump", LONG), ("pcapd", LONG), ("pcap", SHORT), ("tcpdump", MIXED)],
)
def test_the_options_of_2022(cf: Cf, command: str, options: tuple[str, ...]) -> None:
    """The options of 2022 work under all names, long and short."""
    done = cf.pcap("myapp", *options, command=command)
    assert done.returncode == 0, done.stderr
    request = cf.foundation.state.captures[-1]
    assert request.app == App(GUID, "worker", (0, 2))
    assert (request.filter, request.interfaces) == ("tcp", ("lo",))
    assert (cf.foundation.work / "x.pcap").read_bytes()[:4] == b"\xd4\xc3\xb2\xa1"


def test_another_name(cf: Cf, client_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cf CLI takes a plugin with none of its names taken, or nothing: ``pcapctl cfplugin`` writes one."""
    assert cf("uninstall-plugin", "pcap").returncode == 0
    options = cf._options
    options["env"] |= {"STANDIN_CORE": "pcap"}
    monkeypatch.setattr(Cf, "_options", options)
    refused = cf("install-plugin", str(client_file))
    assert refused.returncode == 1 and "already used" in refused.stderr
    written = cf.foundation.work / "plugin"
    done = run([sys.executable, str(client_file), "cfplugin", "--name", "pcapd", "--output", str(written)])
    assert f"cf install-plugin {written} -f" in done.stdout
    installed = cf("install-plugin", str(written))
    assert installed.stdout == f"Plugin pcapd {pcapd.__version__} successfully installed.\n", installed.stderr
    done = cf.pcap("myapp", "-i", "0", "--file", "x.pcapng", command="pcapd")
    assert done.returncode == 0, done.stderr
    assert cf.foundation.state.captures[-1].app == App(GUID, "web", (0,))
    assert "is not a registered command" in cf("pcap", "myapp").stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"LoggedIn": False}, "is not logged in (log in with: cf login)"),
        ({"Api": ""}, "has no api"),
        ({"SpaceGuid": ""}, "no targeted space"),
        ({"TokenError": "the token\x1b[2J is secret-r"}, "did not provide a token (log in with: cf login)"),
        ({"Token": ""}, "did not provide a token"),
    ],
)
def test_what_the_login_lacks_is_said(cf: Cf, changes: dict[str, Any], words: str) -> None:
    """A missing part of the login is reported in one line with a remedy, and no file is left."""
    cf.log_in(**changes)
    done = cf.pcap("myapp")
    assert done.returncode == 1
    assert words in done.stderr and len(done.stderr.splitlines()) == 1
    assert "secret-r" not in done.stderr and "\x1b" not in done.stderr
    assert not list(cf.foundation.work.iterdir())


def test_insecure_warns_each_time(cf: Cf) -> None:
    """--insecure works for the plugin, with a warning each time."""
    done = cf("pcap", "myapp", "--quiet", "--insecure")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: certificates are not checked (--insecure)")


def test_skipped_validation_is_not_implied(cf: Cf) -> None:
    """With a login by --skip-ssl-validation the plugin still checks certificates."""
    cf.log_in(SSLDisabled=True)
    done = cf("pcap", "myapp")
    assert done.returncode == 1
    assert "which does not apply here" in done.stderr
    assert "the certificate of api.sys.example.test is not accepted" in done.stderr
    assert not cf.foundation.state.asked


def until_it_is_stopped(stopped: threading.Event, over: threading.Event) -> Script:
    """An api that captures until it is asked to stop, drains, and ends; or ends because it wants to."""

    def script(client: Client) -> None:
        client.greet()
        client.open(1, "myapp/0")
        client.packets(record(1) + record(2) + record(3))
        client.stats(3)
        count = 3
        while not over.is_set():
            if select.select([client._socket], [], [], 0.05)[0]:
                assert isinstance(next(client.heard()), Stop)
                stopped.set()
                client.packets(record(4) + record(5))
                count = 5
                break
        client.stats(count, final=True)
        client.say(client.callee.end(End(EndReason.STOPPED, "over")))
        client.close()
        client.wait()

    return script


def terminate(process: subprocess.Popen[bytes]) -> None:
    process.terminate()


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()


def ctrl_c(process: subprocess.Popen[bytes]) -> None:
    """The whole process group gets SIGINT, of which the cf CLI dies at once."""
    os.killpg(process.pid, signal.SIGINT)


def nothing(process: subprocess.Popen[bytes]) -> None:
    """The control: it lives on."""


@pytest.mark.parametrize(
    ("end_cf", "reason", "packets"),
    [
        (terminate, "the cf CLI is gone", 5),
        (kill, "the cf CLI is gone", 5),
        (ctrl_c, "interrupted", 5),
        (nothing, "over", 3),
    ],
)
def test_the_end_of_the_cf_cli_is_a_stop(
    cf: Cf, authority: Authority, end_cf: Callable[[Any], None], reason: str, packets: int
) -> None:
    """The plugin, which nobody sees any more, drains, finishes its file and reports; once, with Ctrl-C too."""
    stopped, over = threading.Event(), threading.Event()
    credentials = authority.issue("plugin-api", ips=(LOCAL,))
    work = cf.foundation.work
    with StreamApi(credentials, until_it_is_stopped(stopped, over)) as api:
        process = cf.start(
            *("pcap", "myapp", "--api", api.url, "--output", "x.pcapng", "--report", "report.json")
        )
        wait_until((work / "x.pcapng").exists, "it captures", timeout=30)
        end_cf(process)
        if end_cf is nothing:
            assert not stopped.wait(1.0)
            over.set()
        wait_until((work / "report.json").exists, "it reports", timeout=2)
        process.wait(10)
        with pytest.raises(ProcessLookupError):  # nobody is left of the group
            for _ in range(100):
                os.killpg(process.pid, 0)
                time.sleep(0.05)
    assert not api.failures, api.failures
    report = json.loads((work / "report.json").read_text())
    assert (report["reason"], report["outcome"], report["packets"]) == (reason, "complete", packets)
    assert capinfos(work / "x.pcapng")["Number of packets"] == str(packets)


def test_ctrl_c_at_a_terminal(cf: Cf, authority: Authority) -> None:
    """The cf CLI dies at once and the shell prompts; the plugin draws no table over it, and ends with lines.

    A real shell with job control has the terminal: only so the prompt comes when the real one would.
    """
    require("bash")
    stopped, over = threading.Event(), threading.Event()
    credentials = authority.issue("plugin-api", ips=(LOCAL,))
    options = cf._options
    options["env"] |= {"TERM": "xterm", "PS1": "prompt> "}
    with StreamApi(credentials, until_it_is_stopped(stopped, over)) as api, Terminal(100, 40) as terminal:
        terminal.read()
        terminal.log_in(["bash", "--norc", "--noprofile", "-i"], **options)
        terminal.wait_for("prompt>")
        words = ["pcap", "myapp", "--ca", str(cf.foundation.ca), "--api", api.url, "--output", "x.pcapng"]
        terminal.type(shlex.join([str(cf._binary), *words]) + "\n")
        terminal.wait_for("3 packets written")
        drawn = len(terminal.raw)
        terminal.type("\x03")
        terminal.wait_for("stopping: interrupted", "5 packets", "stopped: interrupted")
        terminal.type("echo status $?\n")
        terminal.wait_for("status 130")
        after = terminal.raw[drawn:].partition(b"stopping: interrupted")[2]
        terminal.type("exit\n")
    assert b"\x1b[J" not in after and "\n\r\n" in after.decode().partition("stopped: interrupted")[2]
    assert not api.failures, api.failures


@pytest.mark.parametrize(
    ("end_cf", "reason"), [(ctrl_c, "interrupted"), (kill, "the cf CLI is gone"), (nothing, "10 packets")]
)
def test_over_ssh(cf: Cf, authority: Authority, end_cf: Callable[[Any], None], reason: str) -> None:
    """``cf pcap --via ssh`` runs the same cf CLI again; the end of the first one is a stop that drains."""
    work = cf.foundation.work
    words = ("pcap", "myapp", "--via", "ssh", "-f", "udp", "--output", "x.pcapng", "--report", "report.json")
    with app_over_ssh(work.parent, authority, cf.foundation) as app:
        app.stop_seconds = 1.0
        variables = {name: value for name, value in app.variables.items() if name != "PATH"}
        with app.said.open("wb") as said:
            process = cf.start(*words, "--count", "10", "--verbose", env=variables, stdout=said, stderr=said)
        app.wait_for("myapp/0:eth0: ", "myapp/1:eth0: ")
        app.send(5 if end_cf is nothing else 4)
        wait_until(lambda: (work / "x.pcapng").stat().st_size > 1000, "packets are written")
        end_cf(process)
        wait_until((work / "report.json").exists, "it reports", timeout=10)
        process.wait(10)
        wait_until(lambda: not app.processes(), "the containers are quiet")
        assert len(app.calls) == 2
    report = json.loads((work / "report.json").read_text())
    packets = 10 if end_cf is nothing else 8
    assert (report["reason"], report["outcome"], report["packets"]) == (reason, "complete", packets)


def test_without_a_cli(client_file: Path) -> None:
    """A plugin started at a port that nobody serves prints an error."""
    done = subprocess.run(
        [sys.executable, str(client_file), "1", "pcap", "x"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("pcapctl: cannot connect to the cf CLI on port 1: ")


@pytest.mark.realcf
def test_the_real_cf_cli(client_file: Path, tmp_path: Path) -> None:
    """The real cf CLI installs the plugin, shows its help, and uninstalls it."""
    binary = os.environ.get("PCAPD_TEST_CF")
    if not binary:
        pytest.skip("PCAPD_TEST_CF names no cf CLI")
    environ = {**os.environ, "CF_HOME": str(tmp_path)}
    installed = run([binary, "install-plugin", str(client_file), "-f"], env=environ)
    assert "successfully installed" in installed.stdout
    assert "Capture a Cloud Foundry app" in run([binary, "help", "pcap"], env=environ).stdout
    removed = run([binary, "uninstall-plugin", "pcap"], env=environ)
    assert "successfully uninstalled" in removed.stdout
    assert not (tmp_path / ".cf" / "plugins" / "pcap").exists()
