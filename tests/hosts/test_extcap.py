"""pcapctl as a capture interface of Wireshark: real tshark, real daemons; in a home of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Iterator, Sequence

import pytest

from demo.certificates import Authority
from demo.processes import end, wait_until
from pcapd.ctl.extcap.control import Controls, Kind, Message, encode
from tests.kit.doubles.cloud_controller import CfApp, new_guid
from tests.kit.hosts.apps import Apps, apps_in
from tests.kit.hosts.chain import Chain, read_pcapng
from tests.kit.hosts.wireshark import PATIENCE, User
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.readers import capinfos, require, tshark_fields

require("tshark", "dumpcap")

# --- what Wireshark sees --------------------------------------------------------


def test_listed(user: User) -> None:
    """tshark -D has the four, and finds nothing wrong with what they answer."""
    done = user.tshark("-D")
    assert done.returncode == 0
    listed = [line.split(". ", 1)[1] for line in done.stdout.splitlines()]
    for name in (
        "pcapctl-cf (Cloud Foundry app)",
        "pcapctl-bosh (BOSH VMs)",
        "pcapctl-hosts (pcapd hosts)",
        "pcapctl-ssh (hosts over ssh)",
    ):
        assert listed.count(name) == 1
    assert "invalid" not in done.stdout + done.stderr


def test_preferences(user: User) -> None:
    """Each argument of each interface is a preference of tshark, with its default."""
    done = user.tshark("-G", "currentprefs")
    found = dict(
        line.removeprefix("#extcap.pcapctl_").split(": ", 1)
        for line in done.stdout.splitlines()
        if line.startswith("#extcap.pcapctl_")
    )
    names = [
        "device",
        "filter",
        "snaplen",
        "headersonly",
        "duration",
        "order",
        "explain",
        "showcontents",
        "reason",
    ]
    expected = {
        "cf": ["app", "instances", "type", "follow", "api", "ca"],
        "bosh": ["deployment", "groups", "instances", "yes", "environment", "api", "ca"],
        "hosts": ["targets", "tokenfile", "api", "ca"],
        "ssh": ["hosts", "sshoptions", "includessh"],
    }
    assert set(found) == {f"{kind}.{name}" for kind, more in expected.items() for name in [*names, *more]}
    assert (found["cf.type"], found["cf.snaplen"], found["hosts.order"]) == ("web", "262144", "true")


def test_capture(chain: Chain, alice: User, tmp_path: Path) -> None:
    """Ten packets of two hosts arrive, each with its interface, and nothing stays running."""
    path = tmp_path / "web.pcapng"
    with Generator(chain.link, rate=200):
        done = alice.tshark("-i", "pcapctl-hosts", "-f", FILTER, "-c", "10", "-w", str(path))
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr and "pcapctl:" not in done.stderr
    names = tshark_fields(path, ["frame.interface_name"])
    assert len(names) == 10
    assert {name for (name,) in names} == {"web-0:eth0", "web-1:eth0"}
    capinfos(path)
    wait_until(lambda: not alice.left_behind(), "nothing is left running")
    wait_until(chain.settled, "the agents have stopped")


@pytest.mark.long
def test_ctrl_c(chain: Chain, alice: User, tmp_path: Path) -> None:
    """Ctrl-C on the terminal, which reaches all of them: the file is whole, nothing is left running."""
    path = tmp_path / "web.pcapng"
    with Generator(chain.link, rate=200):
        process = subprocess.Popen(
            alice.command("-i", "pcapctl-hosts", "-f", FILTER, "-w", str(path)),
            env=alice.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            wait_until(
                lambda: path.exists() and path.stat().st_size > 20_000, "packets are captured", timeout=30
            )
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            end(process)
    assert process.returncode == 0, said
    assert "Error" not in said and "interrupted" not in said
    assert len(tshark_fields(path, ["frame.number"])) > 10
    wait_until(lambda: not alice.left_behind(), "nothing is left running")
    wait_until(chain.settled, "the agents have stopped")


@pytest.mark.long
def test_killed(chain: Chain, alice: User, tmp_path: Path) -> None:
    """A tshark and a dumpcap that are killed tell nothing; the capture ends all the same."""
    path = tmp_path / "web.pcapng"
    process = subprocess.Popen(
        alice.command("-i", "pcapctl-hosts", "-f", "udp port 9", "-w", str(path)),
        env=alice.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: all(chain.promiscuity().values()), "the agents capture", timeout=30)
        wait_until(lambda: _children(process.pid, "dumpcap"), "dumpcap runs")
        for pid in [process.pid, *_children(process.pid, "dumpcap")]:
            os.kill(pid, signal.SIGKILL)
    finally:
        end(process)
    wait_until(lambda: not alice.left_behind(), "nothing is left running", timeout=3)
    wait_until(chain.settled, "the agents have stopped", timeout=3)


def _children(pid: int, name: str) -> list[int]:
    """Children of a process, by the name of their program."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if name in Path(f"/proc/{child}/comm").read_text():
            found.append(int(child))
    return found


# --- what goes wrong is in Wireshark's dialog ---------------------------------------


@pytest.mark.long
def test_broken_token(alice: User) -> None:
    """A token that the api does not know: its words, and how to go on."""
    (alice.home / "token").write_text("wrong")
    done = alice.tshark("-i", "pcapctl-hosts", "-c", "1")
    assert "pcapctl: " in done.stderr and "token" in done.stderr
    assert not alice.left_behind()


@pytest.mark.parametrize(
    ("preference", "value", "words"),
    [
        ("targets", "web-9", "web-9"),
        ("targets", "", "no targets are named (name them in the interface's options"),
        ("tokenfile", "/nonexistent/token", "cannot read the token from /nonexistent/token"),
        ("api", "", "no api is given (name its URL in the interface's options"),
        ("api", "https://127.0.0.1:1", "cannot connect to 127.0.0.1 port 1"),
        ("ca", "", "the certificate of 127.0.0.1 is not accepted"),
        ("duration", "30", "'30' must be a duration such as"),
        ("duration", "0s", "must be more than 0"),
        ("device", "eth7", "eth7"),
        ("filter", "tcp prot 80", "prot"),
        ("filter", "(tcp", "the ( at character 1 is not closed"),
    ],
)
@pytest.mark.long(
    but=(
        "syntax",
        "filter-tcp prot",
        "ca--",
    )
)
def test_errors(chain: Chain, alice: User, preference: str, value: str, words: str) -> None:
    """Wireshark shows our error messages, and no capture stays running."""
    alice.preferences[f"pcapctl_hosts.{preference}"] = value
    done = alice.tshark("-i", "pcapctl-hosts", "-c", "1")
    assert "pcapctl: " in done.stderr, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    wait_until(lambda: not alice.left_behind(), "nothing is left running")


@pytest.mark.long
def test_agents_words_for_a_filter(alice: User) -> None:
    """tshark's own capture filter is refused with the agent's libpcap message."""
    done = alice.tshark("-i", "pcapctl-hosts", "-f", "tcp port nonsense", "-c", "1")
    assert "pcapctl: " in done.stderr and "nonsense" in done.stderr


@pytest.mark.long
def test_a_host_that_is_not_there(chain: Chain, alice: User, tmp_path: Path) -> None:
    """When one of two hosts cannot be captured, the other's packets come, and the end names the missing one."""
    alice.preferences["pcapctl_hosts.targets"] = "web-0,gone"
    path = tmp_path / "web.pcapng"
    with Generator(chain.link, rate=200):
        done = alice.tshark("-i", "pcapctl-hosts", "-f", FILTER, "-c", "10", "-w", str(path))
    assert len(tshark_fields(path, ["frame.number"])) == 10
    assert "gone: " in done.stderr


@pytest.mark.long
def test_headers_only(chain: Chain, alice: User, tmp_path: Path) -> None:
    """With headers only, the UDP payload does not reach Wireshark, and the original length stays."""
    alice.preferences["pcapctl_hosts.headersonly"] = "true"
    path = tmp_path / "web.pcapng"
    with Generator(chain.link, size=300, rate=200):
        alice.tshark("-i", "pcapctl-hosts", "-f", FILTER, "-c", "10", "-w", str(path))
    assert tshark_fields(path, ["frame.cap_len", "frame.len"]) == [["42", "300"]] * 10


@pytest.mark.long
def test_both_filters(chain: Chain, alice: User, tmp_path: Path) -> None:
    """tshark's capture filter and that of the options both apply."""
    alice.preferences["pcapctl_hosts.filter"] = "port 1 or port 2"
    path = tmp_path / "web.pcapng"
    done = alice.tshark("-i", "pcapctl-hosts", "-f", "udp or tcp", "-a", "duration:2", "-w", str(path))
    assert "pcapctl" not in done.stderr.replace("pcapctl-hosts", "")
    started = [one for one in chain.api.records() if one.get("audit") == "capture_started"][-1]
    assert started["filter"] == "(udp or tcp) and (port 1 or port 2)"


# --- the toolbar: tshark has none, so the test is Wireshark -----------------------------


class Wireshark:
    """Wireshark's side of a capture: the pipe of the packets, and the two of the toolbar.

    Args:
        through: A program that starts the extcap in our place.
        after: Seconds until the window opens its pipe.
    """

    def __init__(
        self, user: User, directory: Path, *arguments: str, through: Sequence[str] = (), after: float = 0.0
    ) -> None:
        self.pipes = {name: directory / name for name in ("fifo", "control-in", "control-out")}
        for path in self.pipes.values():
            os.mkfifo(path)
        self._controls = Controls()
        self.messages: list[Message] = []
        self.data = bytearray()
        self._fds = {
            name: os.open(self.pipes[name], os.O_RDONLY | os.O_NONBLOCK) for name in ("fifo", "control-out")
        }
        argv = [str(user.folder / "pcapctl"), "--capture", "--extcap-interface", "pcapctl-hosts"]
        argv += ["--fifo", str(self.pipes["fifo"])]
        argv += [f"--extcap-control-{way}={self.pipes[f'control-{way}']}" for way in ("in", "out")]
        for name, value in user.preferences.items():
            option = name.removeprefix("pcapctl_hosts.").replace("tokenfile", "token-file")
            argv += [f"--{option}", value]
        self.process = subprocess.Popen(
            [*through, *argv, *arguments],
            env=user.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(after)
        # Wireshark's window begins so: it stands still until somebody has the other end.
        opener = ThreadPoolExecutor(1)
        try:
            self._press = opener.submit(os.open, str(self.pipes["control-in"]), os.O_WRONLY).result(PATIENCE)
        except FutureTimeout:
            # Let the thread go, which nothing else can end.
            os.close(os.open(self.pipes["control-in"], os.O_RDONLY | os.O_NONBLOCK))
            end(self.process)
            pytest.fail("Wireshark's window stands still for ever")
        finally:
            opener.shutdown(wait=False)
        self.press(0, Kind.INITIALIZED)

    def press(self, control: int, kind: Kind = Kind.SET, payload: bytes = b"") -> None:
        """Send a message."""
        os.write(self._press, encode(Message(control, kind, payload)))

    def read(self) -> None:
        """Take what is in the pipes."""
        for name, fd in self._fds.items():
            try:
                data = os.read(fd, 1 << 20)
            except BlockingIOError:
                continue
            if name == "fifo":
                self.data += data
            else:
                self.messages += self._controls.receive(data)

    def shown(self, control: int) -> str:
        """What a control shows."""
        self.read()
        texts = [one.payload for one in self.messages if (one.control, one.kind) == (control, Kind.SET)]
        return texts[-1].decode() if texts else ""

    def log(self) -> str:
        """What the log has."""
        self.read()
        return b"".join(
            one.payload for one in self.messages if (one.control, one.kind) == (3, Kind.ADD)
        ).decode()

    def wait(self) -> str:
        """Wait for the end; returns what is for the dialog."""

        def ended() -> bool:
            self.read()
            return self.process.poll() is not None

        wait_until(ended, "pcapctl ends", timeout=30)
        self.read()
        assert self.process.stderr is not None
        return str(self.process.stderr.read())

    def close(self) -> None:
        """Leave."""
        end(self.process)
        self.read()
        for fd in [self._press, *self._fds.values()]:
            os.close(fd)
        self._fds.clear()


def test_toolbar(chain: Chain, alice: User, tmp_path: Path) -> None:
    """Counters and the log come while it captures; Stop ends it in good order, with all packets and findings."""
    with Generator(chain.link, rate=500) as generator:
        wireshark = Wireshark(alice, tmp_path, "--extcap-capture-filter", FILTER, "--explain", "true")
        try:
            wait_until(lambda: int(wireshark.shown(1) or "0") > 300, "packets are counted", timeout=30)
            assert wireshark.shown(2) == "0" and wireshark.shown(4) == "none so far"
            log = wireshark.log()
            assert (
                "targets: web-0, web-1" in log
                and f"filter: {FILTER}" in log
                and "web-1:eth0: Ethernet" in log
            )
            wireshark.press(0)
            said = wireshark.wait()
        finally:
            wireshark.close()
        generator.stop()
    assert wireshark.process.returncode == 0, said
    assert said == ""
    assert "stopped: stopped in Wireshark" in wireshark.log()
    assert f"{wireshark.shown(1)} packets in " in wireshark.log() and "nothing to report" in wireshark.log()
    path = tmp_path / "web.pcapng"
    path.write_bytes(wireshark.data)
    file = read_pcapng(path)
    assert file.rest == 0
    assert str(len(file.packets)) == wireshark.shown(1)
    assert [interface.received for interface in file.interfaces] == [
        len(file.of(interface.name)) for interface in file.interfaces
    ]


@pytest.mark.parametrize("after", [0.0, 1.0])
@pytest.mark.parametrize(
    ("preference", "value", "words"),
    [
        ("targets", "web-9", "web-9"),
        ("targets", "", "no targets are named (name them in the interface's options"),
        ("tokenfile", "/nonexistent/token", "cannot read the token from /nonexistent/token"),
        ("api", "https://127.0.0.1:1", "cannot connect to 127.0.0.1 port 1"),
        ("duration", "soon", "'soon' must be a duration such as"),
    ],
)
@pytest.mark.long(but=("targets-web-9",))
def test_a_capture_that_cannot_start(
    alice: User, tmp_path: Path, preference: str, value: str, words: str, after: float
) -> None:
    """Wireshark's window goes on, however early we fail and however late it comes; dialog and log say why."""
    alice.preferences[f"pcapctl_hosts.{preference}"] = value
    wireshark = Wireshark(alice, tmp_path, after=after)
    try:
        assert words in wireshark.wait()
        assert words in wireshark.log()
    finally:
        wireshark.close()
    assert wireshark.process.returncode != 0


#: Starts a program and waits for it.
STARTER = (sys.executable, "-c", "import subprocess, sys; subprocess.call(sys.argv[1:])")


def test_the_program_that_started_it_is_killed(chain: Chain, alice: User, tmp_path: Path) -> None:
    """The reader of the pipe lives on, as dumpcap may: the capture stops soon, drained and finished."""
    before = len(chain.api.records())
    with Generator(chain.link, rate=500):
        wireshark = Wireshark(alice, tmp_path, "--filter", FILTER, through=STARTER)
        try:
            wait_packets(wireshark)
            wireshark.process.kill()
            assert wireshark.process.stderr is not None
            wireshark.process.stderr.close()  # nobody reads its pipe any more, either
            wait_until(lambda: not (wireshark.read() or alice.left_behind()), "it ends", timeout=3)
        finally:
            wireshark.close()
    path = tmp_path / "web.pcapng"
    path.write_bytes(wireshark.data)
    file = read_pcapng(path)
    assert file.rest == 0 and len(file.packets) > 0
    assert [interface.received for interface in file.interfaces] == [
        len(file.of(interface.name)) for interface in file.interfaces
    ]
    (ended,) = [line for line in chain.api.records()[before:] if line.get("audit") == "capture_ended"]
    assert ended["reason"] == "stopped" and all(source["exact"] for source in ended["sources"])


@pytest.mark.long
def test_toolbar_shows_drops(chain: Chain, alice: User, tmp_path: Path) -> None:
    """A ring that is too small for what comes: the place and the number, and the end says so in the dialog."""
    alice.preferences["pcapctl_hosts.targets"] = "tiny-0"
    with Generator(chain.link, size=1400, rate=60_000):
        wireshark = Wireshark(alice, tmp_path, "--filter", FILTER)
        try:
            wait_packets(wireshark)
            chain.second.signal(signal.SIGSTOP)
            time.sleep(1.0)
            chain.second.signal(signal.SIGCONT)
            wait_until(lambda: wireshark.shown(2).startswith("kernel "), "drops are shown", timeout=30)
            wireshark.press(0)
            said = wireshark.wait()
        finally:
            chain.second.signal(signal.SIGCONT)
            wireshark.close()
    assert wireshark.process.returncode == 0
    assert "dropped by the kernel" in said and said.startswith("tiny-0:eth0: ")


def wait_packets(wireshark: Wireshark) -> None:
    """Return when some have come."""
    wait_until(lambda: int(wireshark.shown(1) or "0") > 0, "packets are counted", timeout=30)


@pytest.mark.long
def test_toolbar_tells_of_a_host_that_is_not_there(alice: User, tmp_path: Path) -> None:
    """The toolbar shows a host that cannot be captured in the status bar and the log at once."""
    alice.preferences["pcapctl_hosts.targets"] = "web-0,gone"
    wireshark = Wireshark(alice, tmp_path, "--filter", FILTER)
    try:
        wait_until(lambda: "gone: " in wireshark.log(), "the log tells", timeout=30)
        status = [one.payload.decode() for one in wireshark.messages if one.kind == Kind.STATUS_BAR]
        assert any(words.startswith("gone: ") for words in status)
        wireshark.press(0)
        assert wireshark.wait().startswith("gone: ")
    finally:
        wireshark.close()


@pytest.mark.long
def test_garbage_on_the_control_pipe(chain: Chain, alice: User, tmp_path: Path) -> None:
    """Garbage on the control pipe ends the toolbar but not the capture."""
    with Generator(chain.link, rate=200):
        wireshark = Wireshark(alice, tmp_path, "--filter", FILTER)
        try:
            os.write(wireshark._press, b"GET / HTTP/1.1\r\n\r\n")
            wait_packets(wireshark)
            wireshark.process.send_signal(signal.SIGTERM)
            said = wireshark.wait()
        finally:
            wireshark.close()
    assert (wireshark.process.returncode, said) == (0, "")
    assert "stopped: interrupted" in wireshark.log()


# --- the list of apps -----------------------------------------------------------------


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Apps]:
    """Containers on cells, Cloud Controller, UAA and an api."""
    with apps_in(tmp_path_factory.mktemp("apps"), authority) as apps:
        yield apps


@pytest.fixture
def developer(apps: Apps, tmp_path: Path) -> User:
    """Is logged in with the cf CLI, and has Wireshark."""
    user = User(apps.log_in())
    done = user.pcapctl("extcap", "--install")
    assert done.returncode == 0, done.stderr
    user.preferences = {"pcapctl_cf.api": apps.url, "pcapctl_cf.ca": str(apps.authority.certificate_path)}
    return user


def reloaded(user: User, *arguments: str) -> list[str]:
    """What the button beside the list of apps brings."""
    done = user.extcap(
        *("--extcap-interface", "pcapctl-cf", "--extcap-config", "--extcap-reload-option", "app"),
        *("--ca", user.preferences["pcapctl_cf.ca"], *arguments),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.long
def test_list_of_apps(apps: Apps, developer: User) -> None:
    """The apps of the space by name, all pages; what a sentence cannot carry goes by its GUID."""
    space = apps.app.space
    odd = CfApp(name="odd} {value=x", space=space)
    others = [CfApp(name=f"app-{number:03d}", space=space) for number in range(120)]
    elsewhere = CfApp(name="elsewhere", space=new_guid())
    before = dict(apps.cc.apps)
    try:
        for app in [odd, *others, elsewhere]:
            apps.cc.add(app)
        lines = reloaded(developer)
    finally:
        apps.cc.apps = before
    assert len(lines) == 122
    assert sum("{default=true}" in line for line in lines) == 1
    assert "value {arg=0}{value=myapp}{display=myapp}" in [
        line.removesuffix("{default=true}") for line in lines
    ]
    assert f"value {{arg=0}}{{value={odd.guid}}}{{display=odd) (value=x}}" in [
        line.removesuffix("{default=true}") for line in lines
    ]
    assert not any("elsewhere" in line for line in lines)


@pytest.mark.long
def test_list_without_a_login(apps: Apps, developer: User) -> None:
    """Wireshark shows no error of this call: the list tells what helps."""
    (developer.home / ".cf" / "config.json").unlink()
    remedy, problem = reloaded(developer)
    assert remedy == "value {arg=0}{value=}{display=log in with: cf login}{default=true}"
    assert problem.startswith("value {arg=0}{value=}{display=there is no cf login: ")


@pytest.mark.long
def test_list_refreshes_the_login(apps: Apps, developer: User) -> None:
    """An expired login is refreshed, as by every command."""
    home = apps.log_in(access=apps.uaa.token(user=apps.alice.name, exp=int(time.time()) - 10))
    config = home / ".cf" / "config.json"
    before = config.read_text()
    (developer.home / ".cf" / "config.json").write_text(before)
    assert any("{value=myapp}" in line for line in reloaded(developer))
    assert (developer.home / ".cf" / "config.json").read_text() != before


def test_an_app(apps: Apps, developer: User, tmp_path: Path) -> None:
    """The app of the list, two of its instances: each packet says which instance it is from."""
    developer.preferences |= {"pcapctl_cf.app": "myapp", "pcapctl_cf.instances": "0, 2"}
    path = tmp_path / "myapp.pcapng"
    done = developer.tshark("-i", "pcapctl-cf", "-f", "icmp", "-c", "30", "-w", str(path))
    assert done.returncode == 0 and "pcapctl: " not in done.stderr, done.stderr
    names = tshark_fields(path, ["frame.interface_name"])
    assert {name for (name,) in names} == {"myapp/0:eth0", "myapp/2:eth0"}
    assert len(names) == 30
    capinfos(path)
    wait_until(lambda: not developer.left_behind(), "nothing is left running")


@pytest.mark.parametrize(
    ("preferences", "words"),
    [
        ({"app": "nosuchapp"}, "there is no app 'nosuchapp' in space dev of org acme"),
        ({}, "no app is chosen (choose one in the interface's options"),
        ({"app": "myapp", "instances": "one"}, "'one' is not an instance"),
        ({"app": "myapp", "type": "clock"}, "clock"),
    ],
)
@pytest.mark.long(but=("preferences0",))
def test_errors_of_apps(apps: Apps, developer: User, preferences: dict[str, str], words: str) -> None:
    """Errors of apps are shown by tshark."""
    developer.preferences |= {f"pcapctl_cf.{name}": value for name, value in preferences.items()}
    done = developer.tshark("-i", "pcapctl-cf", "-c", "1")
    assert "pcapctl: " in done.stderr and words in done.stderr
