"""What each of Wireshark's calls does: answers, captures, and what is told where one cannot be."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from pcapd.ctl import run
from pcapd.ctl.extcap import choices, command
from pcapd.ctl.extcap.calls import Call
from pcapd.ctl.extcap.command import PREPARE, answer, options_of
from pcapd.ctl.extcap.configuration import Choice
from pcapd.ctl.login import bosh, cf
from pcapd.ctl.options import Access, CaptureTarget, UsageProblem
from pcapd.ctl.ssh import running
from pcapd.errors import PcapdError

CF = ("--extcap-interface", "pcapctl-cf")


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (["--extcap-interfaces"], "extcap {version="),
        ([*CF, "--extcap-dlts"], "dlt {number=1}"),
        ([*CF, "--extcap-config"], "arg {number=0}{call=--app}"),
        ([*CF, "--extcap-capture-filter", "(tcp"], "the ( at character 1 is not closed"),
        ([*CF, "--extcap-capture-filter", "tcp"], ""),
        ([*CF, "--extcap-cleanup-postkill"], ""),
    ],
)
def test_answers(capsys: pytest.CaptureFixture[str], arguments: List[str], begins: str) -> None:
    """Each extcap call has its own answer; a good filter and a clean-up print nothing."""
    assert answer(arguments) == 0
    said = capsys.readouterr().out
    assert said.startswith(begins) and bool(said) is bool(begins)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--extcap-dlts"], "no --extcap-interface"),
        (["--extcap-interface", "eth0", "--extcap-dlts"], "there is no interface 'eth0'"),
        ([*CF], "no extcap action"),
        ([*CF, "--fifo", "/nonexistent/fifo"], "no extcap action"),
        ([*CF, "--capture"], "--fifo is missing"),
    ],
)
def test_calls_that_cannot_be_answered(arguments: List[str], words: str) -> None:
    """An extcap call that cannot be answered starts no capture."""
    with pytest.raises(UsageProblem, match=words):
        answer(arguments)


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("app", "value {arg=0}{value=guid}{display=myapp}\n"),
        ("--app", "value {arg=0}{value=guid}{display=myapp}\n"),
        ("type", ""),
        ("nonsense", ""),
    ],
)
def test_reloaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, option: str, line: str
) -> None:
    """A reload looks up only the argument with the button."""
    monkeypatch.setattr(choices, "apps", lambda ca: [Choice("guid", "myapp")])
    assert answer([*CF, "--extcap-config", "--extcap-reload-option", option]) == 0
    assert capsys.readouterr().out == line


# --- what a capture lacks ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("interface", "values", "words"),
    [
        ("pcapctl-cf", {}, "no app"),
        ("pcapctl-bosh", {"--groups": "web"}, "no deployment"),
        ("pcapctl-bosh", {"--deployment": "cf"}, "no instance group"),
        ("pcapctl-bosh", {"--deployment": "cf", "--groups": ", ,"}, "no instance group"),
        ("pcapctl-bosh", {"--deployment": "cf", "--groups": "web"}, "no api"),
        ("pcapctl-hosts", {}, "no targets are named"),
        ("pcapctl-hosts", {"--targets": " , "}, "no targets are named"),
        ("pcapctl-hosts", {"--targets": "web-0"}, "no api"),
    ],
)
def test_what_the_dialog_lacks(
    monkeypatch: pytest.MonkeyPatch, interface: str, values: Dict[str, str], words: str
) -> None:
    """A value missing in the dialog is named, with where to set it, before any request."""

    def asked(*_: object) -> None:
        pytest.fail("somebody was asked")

    monkeypatch.setattr(cf, "prepare", asked)
    monkeypatch.setattr(bosh, "prepare", asked)
    monkeypatch.setenv("PCAP_TOKEN", "token")
    for name in ("PCAP_API", "BOSH_DEPLOYMENT"):
        monkeypatch.delenv(name, raising=False)
    call = Call(values=values)
    with pytest.raises(UsageProblem, match=f"^{words}.*interface's options"):
        PREPARE[interface](call, options_of(call))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "no hosts are named"),
        ({"--hosts": " , "}, "no hosts are named"),
        ({"--hosts": "web-0,-oProxyCommand=id"}, "'-oProxyCommand=id' is not the name of a host"),
        ({"--hosts": "web-0", "--ssh-options": "-J 'x"}, "options of ssh: No closing quotation"),
        ({"--hosts": "web-0", "--include-ssh": "perhaps"}, "--include-ssh must be true or false"),
    ],
)
def test_what_ssh_cannot_use(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, values: Dict[str, str], words: str
) -> None:
    """No ssh is started with a value that is missing or not valid."""
    monkeypatch.setattr(running, "capture", lambda *_, **__: pytest.fail("ssh was started"))
    with pytest.raises(UsageProblem, match=f"^{words}"):
        capture_over_ssh(pipe, values)


def test_hosts_over_ssh(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dialog's values become ssh's words; it never asks, whatever the hosts want."""
    asked: List[Any] = []

    def capture(hosts: Any, options: Any, target: CaptureTarget, **how: Any) -> int:
        asked.append((target, how["include_ssh"], options.interfaces))
        asked.extend(hosts)
        return 0

    monkeypatch.setattr(running, "capture", capture)
    values = {"--hosts": "web-0, bob@web-1 web-0", "--ssh-options": "-J 'jump host'", "--include-ssh": "true"}
    assert capture_over_ssh(pipe, {**values, "--device": "lo"}) == 0
    seen, *hosts = asked
    assert seen == (CaptureTarget(("web-0", "bob@web-1")), True, ("lo",))
    assert [host.place for host in hosts] == [
        ("-J", "jump host", "web-0"),
        ("-J", "jump host", "bob@web-1"),
    ]
    assert all("BatchMode=yes" in host.words() and not host.asking for host in hosts)


# --- the pipe of the packets -------------------------------------------------------------------


class Pipe:
    """A named pipe, and what stands for our standard output."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "fifo"
        os.mkfifo(self.path)
        self.stdout = os.open(os.devnull, os.O_WRONLY)
        self._reader = -1

    def open(self) -> None:
        """Wireshark comes."""
        self._reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def close(self) -> None:
        """And goes."""
        os.close(self._reader)
        self._reader = -1

    def end(self) -> None:
        for fd in (self.stdout, self._reader):
            with contextlib.suppress(OSError):
                os.close(fd)


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path)
    monkeypatch.setattr(command, "_STDOUT_FD", pipe.stdout)
    yield pipe
    pipe.end()


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 100, "it waits for ever"
        self.slept()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(command, "time", clock)
    return clock


def capture(pipe: Pipe, monkeypatch: pytest.MonkeyPatch, **behaviour: Any) -> int:
    """Capture on a host, as far as the pipe; what would run then is the test's."""

    def prepare(*_: object) -> Tuple[Access, CaptureTarget]:
        return Access("https://pcap.x", None), CaptureTarget(("web-0",))

    monkeypatch.setitem(PREPARE, "pcapctl-hosts", prepare)
    monkeypatch.setattr(run, "run", behaviour["run"])
    return answer(["--capture", "--extcap-interface", "pcapctl-hosts", "--fifo", str(pipe.path)])


def capture_over_ssh(pipe: Pipe, values: Dict[str, str]) -> int:
    """Capture on hosts over ssh."""
    pipe.open()
    words = [word for pair in values.items() for word in pair]
    return answer(["--capture", "--extcap-interface", "pcapctl-ssh", "--fifo", str(pipe.path), *words])


def test_captured(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe gets what the capture writes to standard output, and the exit status is the capture's."""
    pipe.open()

    def write(*_: object) -> int:
        os.write(pipe.stdout, b"packets")
        return 3

    assert capture(pipe, monkeypatch, run=write) == 3
    assert os.read(pipe._reader, 100) == b"packets"


@pytest.mark.parametrize("closed", [True, False])
def test_an_error_while_it_runs(pipe: Pipe, monkeypatch: pytest.MonkeyPatch, closed: bool) -> None:
    """An error during a capture is shown, unless Wireshark ended it by closing the pipe."""
    pipe.open()

    def break_off(*_: object) -> int:
        if closed:
            pipe.close()
        raise PcapdError("something broke")

    with contextlib.nullcontext() if closed else pytest.raises(PcapdError, match="something broke"):
        assert capture(pipe, monkeypatch, run=break_off) == 0


def test_nobody_opens_the_pipe(pipe: Pipe, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that no reader opens is given up after half a minute."""
    with pytest.raises(PcapdError, match="it has no reader"):
        capture(pipe, monkeypatch, run=lambda *_: pytest.fail("it was captured"))
    assert 30 <= clock.now < 31


def test_somebody_opens_the_pipe_late(pipe: Pipe, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that its reader opens late is waited for."""

    def late() -> None:
        if clock.now >= 29 and pipe._reader < 0:
            pipe.open()

    clock.slept = late  # type: ignore[assignment]
    assert capture(pipe, monkeypatch, run=lambda *_: 0) == 0


def test_a_pipe_that_is_not_there(pipe: Pipe, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that does not exist is an error at once."""
    pipe.path.unlink()
    with pytest.raises(PcapdError, match="No such file"):
        capture(pipe, monkeypatch, run=lambda *_: pytest.fail("it was captured"))
    assert clock.now == 0
