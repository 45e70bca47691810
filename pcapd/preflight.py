"""Checks for ``--check-config``, beyond the file: everything that would fail at the start.

Nothing is changed: no port stays open, no user is changed, no file is made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pcapd.api.recordings.optional import check_recordings
from pcapd.api.resolvers.ownclient import check_client
from pcapd.api.state.optional import check_state
from pcapd.config.schema import AgentConfig, ApiConfig, AuditConfig, SyslogConfig
from pcapd.errors import BadFilter, CaptureFailed, ConfigError
from pcapd.net.syslog import UnixSyslog, context_of
from pcapd.net.tls import ClientContext, ServerContext

__all__ = ["of_file", "preflight"]

_ETHERNET = 1  # DLT_EN10MB


@contextlib.contextmanager
def of_file(path: str) -> Iterator[None]:
    """Make each `ConfigError` inside name the file, with the key in each problem."""
    try:
        yield
    except ConfigError as error:
        if error.source == path:
            raise
        raise ConfigError(path, [f"{error.source}: {problem}" for problem in error.problems]) from error


def preflight(config: AgentConfig | ApiConfig, path: str) -> list[str]:
    """Try everything that the start does.

    Args:
        config: The configuration.
        path: The configuration's file, for messages.

    Returns:
        Warnings, one sentence each.

    Raises:
        ConfigError: The start would fail; has all problems that were found.
    """
    trial = _Trial()
    if isinstance(config, AgentConfig):
        trial.do("listen.tls", lambda: ServerContext(config.listen.tls))
        trial.do("run_as", lambda: _check_user(config.run_as))
        if config.privileges == "prctl":
            trial.do("privileges", _check_prctl)
    else:
        tls = config.listen.tls
        trial.do("listen.tls", lambda: None if tls is None else ServerContext(tls))
        trial.do("agents.tls", lambda: ClientContext(config.agents.tls))
        audit = config.audit or AuditConfig()
        trial.do("audit.file", lambda: None if audit.file is None else _check_writable(audit.file))
        trial.do("audit.syslog", lambda: None if audit.syslog is None else _check_syslog(audit.syslog))
        trial.do("", lambda: check_state(config.state))
        trial.do("", lambda: check_recordings(config.recordings))
        apps = config.cloud_foundry
        trial.do("", lambda: None if apps is None else check_client(apps.client))
        trial.check_filters("policy.exclude", config.policy.exclude)
    if config.metrics is not None:
        trial.check_port("metrics", config.metrics.host, config.metrics.port)
    trial.check_port("listen", config.listen.host, config.listen.port)
    if trial.problems:
        raise ConfigError(path, trial.problems)
    return trial.warnings


class _Trial:
    """Collects problems and warnings, each beginning with its key."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def do(self, key: str, attempt: Callable[[], object]) -> None:
        """Attempt something; an empty key means that its problems have theirs already."""
        try:
            attempt()
        except ConfigError as error:
            self.problems += [f"{key}: {problem}" if key else problem for problem in error.problems]
        except ValueError as error:
            self.problems.append(f"{key}: {error}")

    def check_port(self, key: str, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, port))
            except OSError as error:
                message = f"{key}: {host} port {port}: {error.strerror}"
                # The daemon with this configuration may be running.
                found = self.warnings if error.errno == errno.EADDRINUSE else self.problems
                found.append(message)

    def check_filters(self, key: str, filters: tuple[str, ...]) -> None:
        if not filters:
            return
        try:
            self.problems += [f"{key}: {problem}" for problem in _filter_problems(filters)]
        except (ImportError, CaptureFailed):
            self.warnings.append(
                f"{key}: not checked, because libpcap is not installed here; agents compile it"
            )


def _filter_problems(filters: tuple[str, ...]) -> Iterator[str]:
    # The api may run without libpcap.
    from pcapd.capture.bpf import check_text  # noqa: PLC0415
    from pcapd.capture.trial import Trial  # noqa: PLC0415

    with Trial(_ETHERNET) as trial:
        for text in filters:
            try:
                check_text(text)
                problem = trial.problem(text)
            except BadFilter as error:
                problem = str(error)
            if problem:
                yield f"{text!r}: {problem}"


def _check_user(user: str | None) -> None:
    if user is None:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ValueError(f"there is no user {user!r}") from None
    if os.geteuid() not in (0, entry.pw_uid):
        raise ValueError(f"not allowed to change to user {user!r}; start as root")


def _check_prctl() -> None:
    # Not at the top: the api runs without pcapd.capture.
    from pcapd.capture import privileges  # noqa: PLC0415

    privileges.load()


def _check_syslog(syslog: SyslogConfig) -> None:
    if syslog.socket is not None:
        UnixSyslog(syslog.socket).open()
        return
    try:
        context_of(syslog)  # the server need not be there yet
    except OSError as error:
        raise ValueError(str(error)) from error


def _check_writable(file: Path) -> None:
    try:
        if file.exists():
            os.close(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
        else:
            tempfile.TemporaryFile(dir=file.parent).close()  # it never has a name
    except OSError as error:
        raise ValueError(f"{file} cannot be written: {error.strerror}") from error
