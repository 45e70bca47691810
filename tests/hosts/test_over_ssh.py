"""``pcapctl ssh``: real ssh servers, tcpdump, dumpcap and sudo, on hosts in namespaces of their own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from typing import Any, Iterator

import pytest

from demo.processes import wait_until
from tests.kit.hosts.chain import Client, assert_accounted, ordered
from tests.kit.hosts.overssh import begin, capture, children
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.sshhosts import USER, Desk, SshHost

TCPDUMP, DUMPCAP = "/usr/bin/tcpdump", "/usr/bin/dumpcap"
#: The line of docs/over-ssh.rst.
NARROW = rf"{USER} ALL=(root) NOPASSWD: {TCPDUMP} ^-U -p -B 16384 -i [a-z0-9.]+ -s [0-9]+ -w - -- [^-]*$"
EVERYTHING = f"{USER} ALL=(ALL) NOPASSWD: ALL"
#: Seconds after which nothing of a capture runs on a host, however the capture ended.
GONE = 30.0

_serial = itertools.count()


@pytest.fixture
def web0(desk: Desk) -> Iterator[SshHost]:
    """A host whose settings a test changes."""
    host = desk.hosts["web-0"]
    yield host
    if host.sudoers or host.hidden or host.ahead or host.server.poll() is not None:
        host.sudoers, host.hidden, host.ahead = "", (), 0.0
        host.serve(desk.key.with_suffix(".pub"))


def as_user(desk: Desk) -> tuple[str, ...]:
    """Options to log in as a user without rights."""
    return ("--ssh-option", "-l", "--ssh-option", USER, "--ssh-option", "-o", "--ssh-option", f"User={USER}")


# --- what arrives ------------------------------------------------------------


def test_two_hosts(desk: Desk) -> None:
    """A capture of two hosts has every packet twice, in order, by name, and tcpdump's numbers."""
    client = begin(desk, "web-0", "web-1", "--device", "eth9", "--filter", FILTER)
    client.wait_for("web-0:eth9", "web-1:eth9")
    with Generator(desk.wire, size=400, rate=20000, seconds=2) as generator:
        sent = generator.wait().sent
    result = client.stop()
    assert result.status == 0, result.stderr
    assert_accounted(result)
    file = result.file
    for name in ("web-0:eth9", "web-1:eth9"):
        assert result.sources[name]["written"] == sent
        assert file.numbers(name) == list(range(sent))
    assert ordered(file.times)
    description = file.interfaces[0].description
    assert description.startswith("over ssh, clock offset ") and "±" in description
    assert file.interfaces[0].filter == f"not tcp port 22 and ({FILTER})"


def test_clocks_that_differ(desk: Desk, web0: SshHost) -> None:
    """The offset of a host's clock is measured, and with --align no packet arrives before it was sent."""
    web0.ahead = 0.2
    web0.serve(desk.key.with_suffix(".pub"))
    client = begin(desk, "web-0", "web-1", "--device", "eth9", "--filter", FILTER, "--align", "--packet-ids")
    client.wait_for("web-0:eth9", "web-1:eth9")
    with Generator(desk.wire, size=400, rate=20000, seconds=2) as generator:
        sent = generator.wait().sent
    result = client.stop()
    assert result.status == 0, result.stderr
    offset = result.sources["web-0:eth9"]["clock_offset_us"] - result.sources["web-1:eth9"]["clock_offset_us"]
    assert abs(offset - 200_000) < 10_000
    assert_accounted(result)
    file = result.file
    assert ordered(file.times)
    assert all(source["late"] == 0 for source in result.sources.values())
    for name in ("web-0:eth9", "web-1:eth9"):
        assert file.numbers(name) == list(range(sent))
    left, right = file.of("web-0:eth9"), file.of("web-1:eth9")
    assert max(abs(a.time_us - b.time_us) for a, b in zip(left, right)) < 10_000


@pytest.mark.parametrize(
    ("sudoers", "hidden"),
    [
        (EVERYTHING, ()),
        (f"Defaults use_pty\n{EVERYTHING}", ()),
        (NARROW, ()),
        (f"Defaults use_pty\n{NARROW}", ()),
        (EVERYTHING, (TCPDUMP,)),
    ],
    ids=["sudo sh", "sudo sh in a terminal", "only tcpdump", "only tcpdump in a terminal", "dumpcap"],
)
def test_with_sudo(desk: Desk, web0: SshHost, sudoers: str, hidden: tuple[str, ...]) -> None:
    """Whatever sudo permits, the capture is complete, and afterwards nothing runs on the host."""
    web0.sudoers, web0.hidden = sudoers, hidden
    web0.serve(desk.key.with_suffix(".pub"))
    result = capture(desk, "web-0", *as_user(desk))
    assert result.status == 0, result.stderr
    assert_accounted(result)
    assert result.sources["web-0:eth9"]["written"] == 20
    wait_until(lambda: web0.processes() == [], "nothing runs", timeout=GONE)


def test_several_devices_share_a_connection(desk: Desk, web0: SshHost) -> None:
    """Two interfaces of a host are two sources, and there is one login."""
    before = logins(web0)
    result = capture(desk, "web-0", "--device", "lo")
    assert result.status == 0, result.stderr
    assert set(result.sources) == {"web-0:eth9", "web-0:lo"}
    assert logins(web0) == before + 1


def test_the_ssh_port_is_left_out(desk: Desk) -> None:
    """The interface that carries the ssh connection shows nothing of it, unless asked."""
    quiet = begin(desk, "web-0", "--device", "eth0", "--filter", "tcp", "--duration", "2").wait()
    assert quiet.status == 0 and quiet.report["packets"] == 0, quiet.stderr
    loud = begin(
        desk, "web-0", "--device", "eth0", "--filter", "tcp", "--include-ssh", "--count", "20"
    ).wait()
    assert loud.status == 0 and loud.report["packets"] == 20, loud.stderr


def test_headers_only_and_snaplen(desk: Desk) -> None:
    """Packets are cut here after their headers; with --snaplen they are cut on the host."""
    cut = capture(desk, "web-0", "--headers-only")
    assert {len(packet.data) for packet in cut.file.packets} == {42}
    assert {packet.length for packet in cut.file.packets} == {100}
    assert "headers only" in cut.file.interfaces[0].description
    short = capture(desk, "web-0", "--snaplen", "60")
    assert {len(packet.data) for packet in short.file.packets} == {60}


def test_a_jump_host(desk: Desk, web0: SshHost) -> None:
    """A host behind another one is captured through it."""
    line = f"Host behind\n    HostName {desk.wire.right.ipv4}\n    ProxyJump web-0\n"
    configuration = desk.directory / "jump_config"
    configuration.write_text(line + desk.configuration.read_text())
    # The jump itself reads the same configuration.
    result = capture(desk, "behind", "--ssh", f"ssh -F {configuration}")
    assert result.status == 0, result.stderr
    assert result.sources["behind:eth9"]["written"] == 20


def test_interfaces_are_listed(desk: Desk) -> None:
    """-D lists the interfaces of each host."""
    done = desk.pcapctl("web-0", "web-1", "-D")
    assert done.returncode == 0, done.stderr
    assert {"web-0: eth9", "web-0: lo", "web-1: eth1", "web-1: any"} <= set(done.stdout.splitlines())


# --- what goes wrong ---------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "hidden", "message"),
    [
        (("web-0", "--device", "eth7"), (), "eth7: No such device"),
        (("web-0", "--filter", "tcp port x"), (), "unknown port 'x'"),
        (("web-0",), (TCPDUMP, DUMPCAP), "there is neither tcpdump nor dumpcap (install one"),
        (("nowhere.invalid",), (), "Could not resolve hostname"),
        (("web-0", "--ssh-option", "-l", "--ssh-option", USER), (), "you may not capture there"),
        (("web-0", "--ssh-option", "-l", "--ssh-option", "bob"), (), "check that this works: ssh web-0 true"),
        (("web-0", "--ssh", "nossh -x"), (), "the program nossh is not installed"),
    ],
    ids=["device", "filter", "no program", "name", "permission", "login", "ssh"],
)
def test_a_problem_has_a_remedy(
    desk: Desk, web0: SshHost, arguments: tuple[str, ...], hidden: tuple[str, ...], message: str
) -> None:
    """Each failure says in one line what is wrong, and nothing is left behind."""
    if hidden:
        web0.hidden = hidden
        web0.serve(desk.key.with_suffix(".pub"))
    done = desk.pcapctl(*arguments, "--duration", "5", "--output", str(desk.directory / "none.pcapng"))
    assert done.returncode == 1, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (desk.directory / "none.pcapng").exists()
    wait_until(lambda: web0.processes() == [], "nothing runs", timeout=GONE)


def test_one_failure_leaves_the_others_alone(desk: Desk) -> None:
    """A host that cannot be reached is named, and the other one is captured."""
    result = capture(desk, "web-0", "nowhere.invalid")
    assert result.status == 3
    assert result.sources["web-0:eth9"]["written"] == 20
    assert [notice["origin"] for notice in result.notices] == ["nowhere.invalid"]


@pytest.mark.parametrize(
    "text",
    [
        "port 1; touch {file}",
        "port 1' ; touch {file}; '",
        'port 1" ; touch {file}; "',
        "port 1 $(touch {file})",
        "port 1 `touch {file}`",
        "port 1 | touch {file}",
        "port 1 & touch {file} &",
        "port 1 \\",
        "-w {file}",
        "-z/bin/sh",
    ],
)
def test_a_filter_is_only_a_filter(desk: Desk, text: str) -> None:
    """No filter becomes a command or an option on the host."""
    file = desk.directory / "touched"
    done = desk.pcapctl("web-0", "--device", "eth9", "--filter", text.format(file=file), "--duration", "5")
    assert done.returncode in (1, 2), done.stderr
    assert not file.exists()


# --- the end -----------------------------------------------------------------


def kill_pcapctl(client: Client, host: SshHost) -> None:
    client.signal(signal.SIGKILL)


def kill_ssh(client: Client, host: SshHost) -> None:
    for pid in children(client.process.pid):
        os.kill(pid, signal.SIGKILL)


def cut_the_network(client: Client, host: SshHost) -> None:
    host.namespace.ip("link", "set", "eth0", "down")


def power_off(client: Client, host: SshHost) -> None:
    host.kill_processes()


@pytest.mark.long(but=("root-kill_pcapctl",))
@pytest.mark.parametrize(
    "end", [kill_pcapctl, kill_ssh, cut_the_network, power_off], ids=lambda end: end.__name__
)
@pytest.mark.parametrize(
    ("user", "sudoers"),
    [("root", ""), (USER, EVERYTHING), (USER, NARROW)],
    ids=["root", "sudo sh", "only tcpdump"],
)
def test_nothing_runs_after_any_end(desk: Desk, web0: SshHost, user: str, sudoers: str, end: Any) -> None:
    """However a capture ends, thirty seconds later nothing runs on the host, and a loss is told."""
    web0.sudoers = sudoers
    web0.serve(desk.key.with_suffix(".pub"))
    client = begin(desk, "web-0", "--ssh-option", "-l", "--ssh-option", user, "--device", "eth9")
    client.wait_for("web-0:eth9")
    try:
        end(client, web0)
        wait_until(lambda: web0.processes() == [], "nothing runs", timeout=GONE)
        if end is not kill_pcapctl:
            result = client.wait(60)
            assert result.status == 3, result.stderr
            (source,) = result.report["sources"]
            assert not source["exact"] and source["drops"]["agent"] is None
            assert "cut off" in result.notices[-1]["message"]
    finally:
        web0.namespace.ip("link", "set", "eth0", "up")


def test_ctrl_c_drains(desk: Desk) -> None:
    """Ctrl-C at a terminal, which all its processes get, loses nothing that was captured before."""
    client = begin(desk, "web-0", "web-1", "--device", "eth9", "--filter", FILTER)
    client.wait_for("web-0:eth9", "web-1:eth9")
    with Generator(desk.wire, size=400, rate=20000) as generator:
        time.sleep(1.0)
        for pid in (client.process.pid, *children(client.process.pid)):
            os.kill(pid, signal.SIGINT)
        result = client.wait()
        generator.stop()
    assert result.status == 0, result.stderr
    assert_accounted(result)
    for name in ("web-0:eth9", "web-1:eth9"):
        numbers = result.file.numbers(name)
        assert numbers == list(range(len(numbers))) and len(numbers) > 20000


def test_a_slow_reader_does_not_end_the_capture(desk: Desk) -> None:
    """While the output is blocked the heartbeat goes on, and the kernel counts what it drops."""
    report = desk.directory / f"slow-{next(_serial)}.json"
    process = desk.start(
        "web-0", "--device", "eth9", "--filter", FILTER, "--output", "-", "--report", str(report), "--quiet"
    )
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 100)
    with Generator(desk.wire, size=1400, rate=20000, seconds=3) as generator:
        sent = generator.wait().sent
    threading_reader = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    threading_reader.wait(10)
    (source,) = json.loads(report.read_text())["sources"]
    assert first and source["exact"]
    assert source["dropped_kernel"] > 0
    assert source["received"] == sent == source["written"] + source["dropped_kernel"]


def logins(host: SshHost) -> int:
    """How often somebody has logged in."""
    return (host.directory / "sshd.log").read_text().count("Accepted publickey")
