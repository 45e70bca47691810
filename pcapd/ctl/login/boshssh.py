"""``pcapctl bosh --via ssh``: the director makes an account on each VM, for one capture.

A new key, in a directory of its own, is authorized for a user with a random name.  At the end,
whatever the end is, the directory is deleted and the director is asked to remove the user.
Signals are postponed until then; only SIGKILL leaves both behind.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Dict, Final, List, Mapping, Optional, Sequence, Tuple

from pcapd.clouds.director import Vm
from pcapd.clouds.directorssh import Account, account_of, clean_up_request, set_up_request
from pcapd.ctl.display.messages import Messages
from pcapd.ctl.login.bosh import BoshArguments, check, find
from pcapd.ctl.login.boshdirector import DirectorClient
from pcapd.ctl.login.boshhosts import KEY, KNOWN_HOSTS, bosh_host, known_hosts
from pcapd.ctl.options import CaptureOptions
from pcapd.ctl.ssh.farside import check_filter
from pcapd.ctl.ssh.hosts import HOSTS_MAX, Host
from pcapd.ctl.ssh.running import capture
from pcapd.ctl.stopping import Postponed
from pcapd.errors import PcapdError, ResolverUnavailable
from pcapd.limits import LISTED_MAX
from pcapd.wire import Notice, NoticeType

__all__ = ["SshAccounts", "capture_over_ssh"]

#: The type of key that the BOSH CLI makes too: sshd of FIPS stemcells accepts no Ed25519.
_KEY_TYPE: Final = ("-t", "rsa", "-b", "3072")
_KEY_TIMEOUT: Final = 60.0
#: Seconds in which at least one of the director's tasks must end.  An agent that does not answer
#: fails its task after 45 seconds.
_TASK_TIMEOUT: Final = 120.0
#: Seconds between two looks at the tasks: at first, and at most.
_POLL, _POLL_MAX = 0.25, 2.0
#: Seconds until it is said what pcapctl waits for, and between two such lines.
_PROGRESS: Final = 5.0
#: Failed looks at tasks, one after another, after which the director is given up.
_FAILURES: Final = 3
#: Seconds to wait for tasks that still run, when the set-up is interrupted: a clean-up before
#: their end would be too early.
_SETTLE_TIMEOUT: Final = 15.0
#: Seconds for each request of the clean-up.
_CLEAN_UP_TIMEOUT: Final = 10.0


def capture_over_ssh(asked: BoshArguments, options: CaptureOptions) -> int:
    """Find the VMs, show them, and capture on them with ssh; return the exit status.

    Raises:
        PcapdError: Nothing could be captured; the hint suggests a remedy.
    """
    check_filter(options.filter)
    target = check(asked, options)
    found = find(asked, options)
    with SshAccounts(asked.deployment, found.director, found.messages) as accounts:
        hosts, failures = accounts.set_up(found.vms)
        return capture(hosts, options, target, unavailable=(*found.notices, *failures))


class SshAccounts:
    """The accounts for one capture; they are removed when the context ends.

    Args:
        deployment: The name of the deployment.
        director: The director, with the user's login.
        messages: Shows progress and warnings.
        environ: The environment, with the variables of the BOSH CLI.
    """

    def __init__(
        self,
        deployment: str,
        director: DirectorClient,
        messages: Messages,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.user = f"bosh_{secrets.token_hex(8)}"
        self._deployment = deployment
        self._director = director
        self._messages = messages
        self._environ = environ
        self._signals = Postponed()
        self._directory: Optional[Path] = None
        self._asked: List[Vm] = []  # where an account may be
        self._running: Dict[int, Vm] = {}  # by the number of the task
        self._moved = self._told = 0.0

    def __enter__(self) -> SshAccounts:
        self._signals.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        # All of them are called, in reverse order, even if one raises an exception.
        with contextlib.ExitStack() as stack:
            stack.push(self._signals)
            stack.callback(self._clean_up)
            stack.callback(self._settle)
            stack.callback(self._delete_key)

    # --- set-up -----------------------------------------------------------------

    def set_up(self, vms: Sequence[Vm]) -> Tuple[List[Host], List[Notice]]:
        """Make the accounts; return the hosts, and notices about VMs without an account.

        Raises:
            PcapdError: There is no account at all, or a signal came.
        """
        if len(vms) > HOSTS_MAX:
            raise PcapdError(f"more than {HOSTS_MAX} VMs", "agents are made for that many")
        key = self._make_key()
        for vm in vms:
            self._check_signals()
            self._asked.append(vm)
            task = self._director.ssh(self._deployment, set_up_request(self._deployment, vm, self.user, key))
            self._running[task] = vm
        made, failed = self._await(len(vms))
        notices = [
            Notice(NoticeType.START_CAPTURE_FAILED, failed[vm.name], vm.name)
            for vm in vms
            if vm.name in failed
        ]
        if not made:
            raise _nothing(notices)
        assert self._directory is not None
        (self._directory / KNOWN_HOSTS).write_text(known_hosts(list(made.values())))
        hosts = [
            bosh_host(
                vm,
                made[vm.name],
                deployment=self._deployment,
                user=self.user,
                files=self._directory,
                environ=self._environ,
            )
            for vm in vms
            if vm.name in made
        ]
        self._check_signals()
        return hosts, notices

    def _make_key(self) -> str:
        """Make the key; return its public part."""
        program = shutil.which("ssh-keygen")
        if program is None:
            raise PcapdError("the program ssh-keygen is not installed", "install the OpenSSH client")
        self._directory = Path(tempfile.mkdtemp(prefix="pcapctl-"))
        path = self._directory / KEY
        try:
            done = subprocess.run(  # noqa: S603  # fixed words, no shell
                [program, "-q", *_KEY_TYPE, "-N", "", "-C", self.user, "-f", str(path)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_KEY_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PcapdError(f"cannot make a key with ssh-keygen: {error}") from error
        self._check_signals()  # Ctrl-C at a terminal also reaches ssh-keygen
        if done.returncode:
            raise PcapdError(f"cannot make a key with ssh-keygen: {done.stderr.strip() or done.returncode}")
        return path.with_suffix(".pub").read_text().strip()

    def _check_signals(self) -> None:
        if self._signals.count:
            raise PcapdError("interrupted before the capture started")

    # --- the director's tasks ------------------------------------------------------

    def _await(self, count: int) -> Tuple[Dict[str, Account], Dict[str, str]]:
        """Wait for all tasks; return the accounts, and the reasons of failures, by VM."""
        made: Dict[str, Account] = {}
        failed: Dict[str, str] = {}
        self._moved = self._told = time.monotonic()
        pause, failures = _POLL, 0
        while self._running:
            self._check_signals()
            self._signals.wait(pause)
            pause = min(_POLL_MAX, pause * 1.5)
            try:
                self._look(made, failed)
                failures = 0
            except (ResolverUnavailable, OSError):
                failures += 1
                if failures == _FAILURES:
                    raise
            if time.monotonic() - self._moved >= _TASK_TIMEOUT:
                for number, vm in self._running.items():
                    failed[vm.name] = f"the director's task {number} has not ended in time"
                break
            self._tell(count - len(self._running), count)
        return made, failed

    def _look(self, made: Dict[str, Account], failed: Dict[str, str]) -> None:
        """Look at each task once."""
        for number, vm in list(self._running.items()):
            if self._signals.count:
                return
            task = self._director.task(number)
            if task.running:
                continue
            account = account_of(vm, self._director.accounts(number)) if task.done else None
            if not task.done:
                reason = f": {task.result}" if task.result else ""
                failed[vm.name] = f"the director's task {number} ended with state {task.state}{reason}"
            elif account is None:
                failed[vm.name] = "the director's answer does not contain it"
            elif not account.host_key:
                failed[vm.name] = "the director does not tell its host key, so it cannot be trusted"
            else:
                made[vm.name] = account
            del self._running[number]
            self._moved = time.monotonic()

    def _tell(self, ready: int, count: int) -> None:
        now = time.monotonic()
        if now - self._told >= _PROGRESS:
            self._told = now
            self._messages.progress(f"waiting for the director: {ready} of {count} VMs are set up")

    # --- clean-up --------------------------------------------------------------------

    def _delete_key(self) -> None:
        if self._directory is None:
            return
        try:
            shutil.rmtree(self._directory)
        except OSError as error:
            self._messages.warn(
                f"the key of this capture could not be deleted: {self._directory}: {error.strerror}"
            )

    def _settle(self) -> None:
        """Wait a while for tasks that still run; a further signal ends the waiting."""
        count, until = self._signals.count, time.monotonic() + _SETTLE_TIMEOUT
        if self._running:
            self._messages.progress("waiting for the director, which still makes accounts")
        try:
            while self._running and self._signals.count == count and time.monotonic() < until:
                self._signals.wait(_POLL_MAX / 4)
                for number in list(self._running):
                    if not self._director.task(number).running:
                        del self._running[number]
        except PcapdError:
            return  # the clean-up says what is left

    def _clean_up(self) -> None:
        """Ask the director to remove the user; it does so in a task that is not waited for."""
        left = list(self._asked)
        reason = ""
        try:
            while left:
                request = clean_up_request(self._deployment, left[0], self.user)
                self._director.ssh(self._deployment, request, timeout=_CLEAN_UP_TIMEOUT)
                del left[0]
        except PcapdError as error:
            reason = error.message
        unsettled = [vm for vm in self._running.values() if vm not in left]
        if unsettled:
            self._warn(unsettled, "the director was still making it")
        if left:
            self._warn(left, reason)

    def _warn(self, vms: Sequence[Vm], reason: str) -> None:
        more = f" and {len(vms) - LISTED_MAX} more" if len(vms) > LISTED_MAX else ""
        names = ", ".join(vm.name for vm in vms[:LISTED_MAX])
        self._messages.warn(
            f"the user {self.user} may be left on {names}{more}: {reason}; its key is deleted; "
            f"remove it there with: sudo userdel -rf {self.user}"
        )


def _nothing(notices: Sequence[Notice]) -> PcapdError:
    """The error if no VM has an account."""
    reasons = "; ".join(f"{notice.origin}: {notice.message}" for notice in notices[:LISTED_MAX])
    more = f"; and {len(notices) - LISTED_MAX} more" if len(notices) > LISTED_MAX else ""
    return PcapdError(f"no VM can be reached with ssh: {reasons}{more}", "check: bosh instances --details")
