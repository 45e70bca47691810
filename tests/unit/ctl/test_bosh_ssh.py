"""Accounts for one capture: tasks that fail or never end, and what is always undone."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path
from typing import Any, Callable

import pytest

from pcapd.clouds.director import Vm
from pcapd.clouds.directorssh import Account, Task
from pcapd.ctl.display.messages import Messages
from pcapd.ctl.login import boshssh
from pcapd.ctl.login.boshssh import SshAccounts
from pcapd.errors import PcapdError, ResolverUnavailable
from tests.kit.lab.readers import require

VMS = [Vm("router", f"id-{number}", number, f"10.0.1.{number + 8}") for number in range(2)]
KEY = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7"


class FakeDirector:
    """Has one task for each request; tasks are done unless a test says otherwise.

    Attributes:
        states: Of tasks, by number.
        failures: How often the next questions about tasks fail.
        asked: The commands and the instances of the requests.
    """

    def __init__(self) -> None:
        self.states: dict[int, Task] = {}
        self.failures = 0
        self.asked: list[tuple[str, str]] = []
        self.at_request: Callable[[], Any] = lambda: None

    def ssh(self, deployment: str, request: dict[str, Any], *, timeout: float = 30.0) -> int:
        self.at_request()
        self.asked.append((request["command"], request["target"]["ids"][0]))
        return len(self.asked) - 1

    def task(self, number: int) -> Task:
        if self.failures:
            self.failures -= 1
            raise ResolverUnavailable("the director does not answer")
        return self.states.get(number, Task("done"))

    def accounts(self, number: int) -> list[Account]:
        vm = VMS[number]
        return [Account(vm.id, str(vm.address), KEY)]


@pytest.fixture
def director(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDirector:
    """Return a director; temporary files are in the test's directory, and nobody waits long."""
    require("ssh-keygen")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(boshssh, "_KEY_TYPE", ("-t", "ed25519"))
    monkeypatch.setattr(boshssh, "_POLL", 0.01)
    monkeypatch.setattr(boshssh, "_POLL_MAX", 0.02)
    monkeypatch.setattr(boshssh, "_TASK_TIMEOUT", 0.2)
    monkeypatch.setattr(boshssh, "_SETTLE_TIMEOUT", 0.2)
    return FakeDirector()


def accounts(director: FakeDirector) -> SshAccounts:
    return SshAccounts("cf", director, Messages(json=False), {})  # type: ignore[arg-type]


CLEAN_UPS = [("cleanup", vm.id) for vm in VMS]


def test_the_key_is_private_and_short_lived(director: FakeDirector, tmp_path: Path) -> None:
    """Only the user can read the key; directory and key are gone at the end."""
    with accounts(director) as made:
        hosts, failures = made.set_up(VMS)
        (directory,) = tmp_path.iterdir()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "key").stat().st_mode) == 0o600
        assert (directory / "known_hosts").read_text() == f"id-0 {KEY}\nid-1 {KEY}\n"
    assert [host.name for host in hosts] == [vm.name for vm in VMS] and not failures
    assert list(tmp_path.iterdir()) == []


def test_an_exception(director: FakeDirector, tmp_path: Path) -> None:
    """After any exception the key is deleted and the users are removed."""
    with pytest.raises(ZeroDivisionError), accounts(director) as made:
        made.set_up(VMS)
        raise ZeroDivisionError
    assert director.asked[2:] == CLEAN_UPS and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("failures", "error"), [(2, False), (3, True)])
def test_a_director_that_is_away_for_a_moment(director: FakeDirector, failures: int, error: bool) -> None:
    """Two failed looks at the tasks are tolerated, three are not; the clean-up follows in any case."""
    director.failures = failures
    with accounts(director) as made:
        if error:
            with pytest.raises(ResolverUnavailable):
                made.set_up(VMS)
        else:
            assert len(made.set_up(VMS)[0]) == 2
    assert director.asked[2:] == CLEAN_UPS


def test_a_task_without_end(director: FakeDirector, capsys: pytest.CaptureFixture[str]) -> None:
    """The VM of the task fails and the other goes on; a warning says that a user may be left there."""
    director.states[0] = Task("processing")
    with accounts(director) as made:
        hosts, (failure,) = made.set_up(VMS)
    assert [host.name for host in hosts] == ["router/id-1"]
    assert failure.origin == "router/id-0" and "has not ended in time" in failure.message
    said = capsys.readouterr().err
    assert f"the user {made.user} may be left on router/id-0: the director was still making it" in said
    assert director.asked[2:] == CLEAN_UPS


def test_a_signal_between_two_requests(director: FakeDirector) -> None:
    """No further account is made, and those that may have been made are removed."""
    director.at_request = lambda: director.asked or os.kill(os.getpid(), signal.SIGTERM)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(PcapdError, match="interrupted before"), accounts(director) as made:
        made.set_up(VMS)
    assert director.asked == [("setup", "id-0"), ("cleanup", "id-0")]
    # pcapctl exits now; a test goes on.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        assert signal.getsignal(number) is signal.SIG_IGN
        signal.signal(number, before if number == signal.SIGTERM else signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_without_ssh_keygen(director: FakeDirector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenSSH nothing is asked of the director."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PcapdError, match="ssh-keygen is not installed"), accounts(director) as made:
        made.set_up(VMS)
    assert director.asked == []
