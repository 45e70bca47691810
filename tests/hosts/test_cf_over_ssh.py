"""``pcapctl cf --via ssh``: cf-pcap in the containers of an app, reached with ``cf ssh``.

With PCAPD_TEST_CF_PCAP, the program that it names takes the place of cf-pcap's double.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from demo.certificates import Authority
from demo.processes import wait_until
from tests.kit.hosts.cf import GUID, SYSTEM_DOMAIN, Canned
from tests.kit.hosts.cfssh import SSHD_PROXY, Instances, app_over_ssh
from tests.kit.lab.readers import capinfos, require, tcpdump_lines, tshark_fields
from tests.kit.lab.terminals import Terminal


@pytest.fixture
def app(tmp_path: Path, authority: Authority) -> Iterator[Instances]:
    """Return an app with two instances."""
    pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
    require("setpriv", "tcpdump", "capinfos", "tshark")
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    with app_over_ssh(tmp_path, authority) as app:
        yield app


def opened(*devices: str, instances: tuple[int, ...] = (0, 1)) -> list[str]:
    """What pcapctl says when it captures."""
    return [f"myapp/{index}:{device}: " for device in devices for index in instances]


def finish(process: subprocess.Popen[bytes], app: Instances) -> str:
    """Ctrl-C once; returns what it has said."""
    process.send_signal(signal.SIGINT)
    process.wait(30)
    return app.said.read_text()


def report_of(app: Instances) -> Any:
    return json.loads((app.foundation.work / "report.json").read_text())


def interfaces_of(path: Path) -> list[str]:
    """The interface of each packet, in the order of the file."""
    return [row[0] for row in tshark_fields(path, ["frame.interface_name"])]


def assert_quiet(app: Instances) -> None:
    """Nothing is left in the containers."""
    wait_until(lambda: not app.processes(), "the containers are quiet", timeout=30)


def test_two_instances_in_one_file(app: Instances) -> None:
    """All packets of both instances are in one file; Ctrl-C once drains, and nothing is left running."""
    app.stop_seconds = 2.0
    process = app.start("myapp", "--filter", "udp", "--output", "x.pcapng", "--report", "report.json")
    app.wait_for(*opened("eth0"))
    app.send(30)
    said = finish(process, app)
    assert process.returncode == 0, said
    path = app.foundation.work / "x.pcapng"
    names = interfaces_of(path)
    assert (names.count("myapp/0:eth0"), names.count("myapp/1:eth0"), len(names)) == (30, 30, 60)
    assert_quiet(app)
    assert "60 packets" in said and "it is unknown whether packets were lost" in said
    assert "over ssh, clock " in said
    assert sorted(call[:4] for call in app.calls) == [
        ["myapp", "-i", "0", "--disable-pseudo-tty"],
        ["myapp", "-i", "1", "--disable-pseudo-tty"],
    ]
    report = report_of(app)
    assert report["asked"]["app"] == {"name": "myapp", "guid": GUID, "type": "web", "instances": "all"}


def test_loss_is_unknown(app: Instances) -> None:
    """The loss is unknown in the text, the report, the events and the file; the exit status is still 0."""
    process = app.start("myapp", "--json", "--output", "x.pcapng", "--report", "report.json")
    app.wait_for(*(f'"name": "myapp/{index}:eth0"' for index in (0, 1)))
    finish(process, app)
    assert process.returncode == 0
    report = report_of(app)
    assert (report["lost"], report["lost_at_least"], report["outcome"]) == (None, 0, "complete")
    unknown = ("received", "dropped_kernel", "dropped_interface", "lost_after_last")
    for source in report["sources"]:
        assert [source[key] for key in unknown] == [None] * 4
        assert (source["drops"]["kernel"], source["drops"]["interface"]) == (None, None)
        assert source["drops"]["api"] == source["drops"]["client"] == source["lost_in_transit"] == 0
    events = [json.loads(line) for line in app.said.read_text().splitlines()]
    assert any(event["event"] == "end" and event["lost"] is None for event in events), events
    statistics = capinfos(app.foundation.work / "x.pcapng")
    assert not any("dropped" in key.lower() for key in statistics)


def test_the_table_shows_no_zero(app: Instances) -> None:
    """The live table shows a question mark where the program that captures does not count."""
    argv, options = app.foundation.command("myapp", "--via", "ssh", "--output", "x.pcapng", **app.variables)
    with Terminal(120, 30) as terminal:
        terminal.read()
        options["env"] |= {"TERM": "xterm"}
        terminal.log_in(argv, **options)
        terminal.wait_for("myapp/0:eth0", "myapp/1:eth0", "Ctrl-C stops")
        rows = [line.split() for line in terminal.rows if line.startswith(("myapp/", "all "))]
        assert len(rows) == 3 and all(row.count("?") == 2 for row in rows), rows
        terminal.type("\x03")
        terminal.wait_for("it is unknown whether packets were lost")
    assert_quiet(app)


def test_devices_and_the_ssh_session(app: Instances) -> None:
    """Each device is a source of its own, and none captures the ports that carry ssh."""
    devices = ("eth0", "lo", "any")
    words = [word for device in devices for word in ("--device", device)]
    process = app.start("myapp", *words, "--filter", "tcp", "--output", "x.pcapng", "--report", "report.json")
    app.wait_for(*opened(*devices))
    app.knock(2222, SSHD_PROXY, 8080)
    said = finish(process, app)
    assert process.returncode == 0, said
    rows = tshark_fields(app.foundation.work / "x.pcapng", ["frame.interface_name", "tcp.dstport"])
    seen = {name for name, _ in rows}
    assert seen == {"myapp/0:eth0", "myapp/0:any", "myapp/1:eth0", "myapp/1:any"}
    assert not {port for _, port in rows} & {"2222", str(SSHD_PROXY)}
    expected = f"not tcp port 2222 and not tcp port {SSHD_PROXY} and (tcp)"
    assert {source["filter"] for source in report_of(app)["sources"]} == {expected}
    assert len(app.calls) == 6
    assert_quiet(app)


def test_one_instance_of_a_worker(app: Instances) -> None:
    """An instance and a process type are chosen, packets are cut, and the count ends the capture."""
    app.stats("RUNNING", "RUNNING", type="worker", ports=None)
    words = ("--instance", "1", "--type", "worker", "--snaplen", "60", "--count", "5")
    process = app.start("myapp", *words, "--output", "x.pcap", "--filter", "udp")
    app.wait_for(*opened("eth0", instances=(1,)))
    app.send(5)
    assert process.wait(30) == 0, app.said.read_text()
    (call,) = app.calls
    assert call[:6] == ["myapp", "--process", "worker", "-i", "1", "--disable-pseudo-tty"]
    path = app.foundation.work / "x.pcap"
    assert capinfos(path)["Number of packets"] == "5" and len(tcpdump_lines(path)) == 5
    assert_quiet(app)


def test_instances_that_cannot_be_captured(app: Instances) -> None:
    """An instance that does not run is named, the others are captured, and the exit status is 3."""
    app.stats("RUNNING", "CRASHED")
    done = app.pcapctl("myapp", "--duration", "1s", "--instance", "0,1,7", "--output", "x.pcapng")
    assert done.returncode == 3, done.stderr
    assert "myapp/1: is CRASHED" in done.stderr and "myapp/7: does not exist" in done.stderr
    assert len(app.calls) == 1


def test_interfaces_are_listed(app: Instances) -> None:
    """The interfaces of each container are listed."""
    done = app.pcapctl("myapp", "-D")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {f"myapp/{n}: {name}" for n in (0, 1) for name in ("eth0", "lo")}


def test_a_clock_without_fractions(app: Instances) -> None:
    """Where date knows no fractions of a second, the offset is unknown and the capture works."""
    app.coarse_clock()
    process = app.start("myapp", "--output", "x.pcapng", "--report", "report.json", "--filter", "udp")
    app.wait_for(*opened("eth0"))
    app.send(10)
    assert "clock" not in finish(process, app)
    report = report_of(app)
    assert (report["packets"], report["outcome"]) == (20, "complete")
    assert [source["clock_offset_us"] for source in report["sources"]] == [None, None]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Disabled for app", ("for the app myapp", "cf enable-ssh myapp; then: cf restart myapp")),
        ("Disabled for space dev", ("for the space dev", "cf allow-space-ssh dev; then: cf restart myapp")),
        ("Disabled globally", ("for all apps of this foundation", "only the operator can enable it")),
        ("Something new\x1b[2J", ("Something new?[2J", "cf ssh-enabled myapp")),
    ],
)
def test_ssh_is_disabled(app: Instances, reason: str, words: tuple[str, ...]) -> None:
    """The switch that is off is named with the command that turns it on, before anything is started."""
    app.ssh_enabled(False, reason)
    done = app.pcapctl("myapp")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("pcapctl: ssh is disabled") and all(word in line for word in words), line
    assert not app.calls and not list(app.foundation.work.iterdir())


def hide(app: Instances) -> None:
    app.hide_cf_pcap()


def disarm(app: Instances) -> None:
    app.capable = False


def refuse(app: Instances) -> None:
    app.refuse = True


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (hide, ("the container has no cf-pcap", "diego-release 2.130", "enable_cf_pcap", "cf restart")),
        (disarm, ("permission", "enable_cf_pcap", "cf restart", "diego-release#1117")),
        (refuse, ("You are not authorized", "role of a space developer", "cf ssh myapp -i 0 -c true")),
    ],
)
def test_what_the_container_lacks(app: Instances, spoil: Any, words: tuple[str, ...]) -> None:
    """What cf ssh and cf-pcap refuse is reported with its remedy, and no file is left."""
    spoil(app)
    done = app.pcapctl("myapp", "--instance", "0")
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr, done.stderr
    assert "level=" not in done.stderr
    assert not list(app.foundation.work.iterdir())
    assert_quiet(app)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("myapp", "--follow"), 2, ("--follow needs the pcap api",)),
        (("myapp", "--api", "https://x.test"), 2, ("exclude each other",)),
        (("myapp", "--include-ssh"), 2, ("No such option",)),
        (("myapp", "--filter", "tcp) or (udp"), 1, ("parentheses",)),
        (("myapp", "--type", "cron"), 1, ("myapp has no process of type cron", "cf app myapp")),
        (("other",), 1, ("there is no app 'other' in space dev",)),
    ],
)
def test_refusals(app: Instances, arguments: tuple[str, ...], status: int, words: tuple[str, ...]) -> None:
    """What does not exist over ssh, or not at all, is refused in a clear sentence before anything starts."""
    done = app.pcapctl(*arguments)
    assert done.returncode == status, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert not app.calls


def test_by_guid(app: Instances) -> None:
    """An app that is given by its GUID is captured under its name, if it is in the targeted space."""
    done = app.pcapctl(GUID, "--duration", "1s", "--output", "x.pcapng", "--verbose")
    assert done.returncode == 0, done.stderr
    assert "myapp/0:eth0" in done.stderr
    app.foundation.log_in(SpaceFields={"GUID": "another", "Name": "prod"})
    done = app.pcapctl(GUID)
    assert done.returncode == 1 and "is not in the targeted space" in done.stderr


def test_without_the_cf_cli(app: Instances) -> None:
    """Without a cf CLI, the user is told so."""
    done = app.pcapctl("myapp", PATH="/nonexistent")
    assert done.returncode == 1 and "the cf CLI is not installed" in done.stderr


def test_one_that_dies(app: Instances) -> None:
    """A cf ssh that is killed leaves the other instance alone, is named, and leaves nothing behind."""
    process = app.start("myapp", "--output", "x.pcapng", "--report", "report.json", "--filter", "udp")
    app.wait_for(*opened("eth0"))
    app.send(10)
    wait_until(lambda: len(children(process.pid)) == 2, "both run")
    victim = next(pid for pid in children(process.pid) if b"\x000\x00--disable" in command_of(pid))
    os.kill(victim, signal.SIGKILL)
    app.wait_for("myapp/0: the capture was cut off: the connection ended")
    app.send(10)
    said = finish(process, app)
    assert process.returncode == 3, said
    names = interfaces_of(app.foundation.work / "x.pcapng")
    assert names.count("myapp/1:eth0") == 20 and names.count("myapp/0:eth0") <= 10
    assert {source["exact"] for source in report_of(app)["sources"]} == {True, False}
    assert_quiet(app)


def test_a_container_without_memory(app: Instances) -> None:
    """A cf-pcap that the kernel kills is named with the likely cause, and leaves the other instance alone."""
    process = app.start("myapp", "--output", "x.pcapng", "--report", "report.json")
    app.wait_for(*opened("eth0"))
    os.kill(next(pid for pid in app.namespaces[0].pids() if is_cf_pcap(pid)), signal.SIGKILL)
    app.wait_for("myapp/0: the capture ended: cf-pcap was killed (in a container")
    finish(process, app)
    assert process.returncode == 3
    assert_quiet(app)


def test_killed(app: Instances) -> None:
    """Nothing is left in the containers when pcapctl is killed."""
    process = app.start("myapp", "--output", "x.pcapng")
    app.wait_for(*opened("eth0"))
    assert len([line for line in app.processes() if "-interface eth0" in line]) == 2
    process.kill()
    process.wait()
    assert_quiet(app)


@pytest.mark.parametrize(
    ("unknown", "words"),
    [
        ("", "the api answered with HTTP status 404"),
        (f"pcap.{SYSTEM_DOMAIN}", "cannot be resolved"),
    ],
    ids=["a router that answers for every name", "an unknown name"],
)
def test_without_an_api(app: Instances, unknown: str, words: str) -> None:
    """Where no pcap api is found, cf names --via ssh, and does not fall back by itself."""
    app.foundation.state.canned["/v1/stream"] = Canned(404, b"404 Not Found: Requested route does not exist.")
    done = app.foundation.pcapctl("myapp", **app.variables, UNKNOWN_HOST=unknown)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert words in line and line.endswith("over ssh: --via ssh)"), line
    assert not app.calls
    named = app.foundation.pcapctl("myapp", "--api", app.foundation.url("pcap"), **app.variables)
    assert named.returncode == 1 and "--via ssh" not in named.stderr


def children(pid: int) -> list[int]:
    """The ids of a process's children."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_cf_pcap(pid: int) -> bool:
    """Whether a process is cf-pcap, or its double."""
    return b"\0-interface\0" in command_of(pid)


def command_of(pid: int) -> bytes:
    """A process's command line."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()
