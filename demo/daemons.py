"""The agent and the api as separate processes, and `Lab`, which combines everything.

::

    with Lab(tmp_path) as lab, HttpTraffic(lab.link.left, lab.link.right):
        done = lab.pcapctl("hosts", "web-0", "web-1", "--duration", "2s", "--output", "x.pcapng")
        assert done.returncode == 0, done.stderr
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Mapping, Optional, Sequence

import yaml

from demo.certificates import Authority
from demo.configurations import LOCAL, Config, agent_config, api_config, free_port, merged
from demo.namespaces import Link, Namespace, connect, remove_stale
from demo.processes import ROOT, CommandFailed, Usage, end, usage, wait_until

#: Seconds in which a daemon must start to serve.
START_TIMEOUT = 15.0
#: Seconds in which a daemon must drain; more than its `drain_timeout`.
STOP_TIMEOUT = 20.0
#: Seconds that a pcapctl of a test may run.
CLIENT_TIMEOUT = 120.0
#: Of agents; other processes have 0.
_NICENESS = -10


def environment(**extra: str) -> dict[str, str]:
    """Return an environment in which ``python -m pcapd`` is the checkout's, from any directory."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PCAP_")}
    return {**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **extra}


def _prefer(pid: int) -> None:
    """Give a process and its session a higher priority, if this is allowed.

    An agent that gets no processor time for a quarter of a second loses packets, which
    it counts (docs/reliability.rst); on a busy machine, unrelated tests would fail.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, _NICENESS)
        Path(f"/proc/{pid}/autogroup").write_text(str(_NICENESS))


class Daemon:
    """One ``pcapd`` process, which starts on entering the context and ends on leaving it.

    Args:
        role: ``agent`` or ``api``.
        config: The content of its configuration file.
        directory: For its configuration and its log, named after its ``id``.
        namespace: Where it runs; on the machine itself if None.
        healthy: Whether an api must report that it is healthy before it counts as started.

    Attributes:
        log_path: Its stderr, of all starts.
        limits: Replace those of `pcapd.limits` from the next start, for tests that would
            otherwise take minutes.
        variables: Environment variables from the next start.
        below: A command that runs the daemon from the next start.
    """

    def __init__(
        self,
        role: str,
        config: Config,
        directory: Path,
        namespace: Optional[Namespace] = None,
        *,
        healthy: bool = True,
    ) -> None:
        self.role = role
        self.config = config
        stem = str(config.get("id", role)).replace("/", "-")
        self.config_path = directory / f"{stem}.yml"
        self.log_path = directory / f"{stem}.log"
        self._namespace = namespace
        self._healthy = healthy
        self.limits: Mapping[str, float] = {}
        self.variables: dict[str, str] = {}
        self.below: Sequence[str] = ()
        self._process: Optional[subprocess.Popen[Any]] = None

    @property
    def process(self) -> subprocess.Popen[Any]:
        """The most recently started process."""
        assert self._process is not None, f"{self.role} was not started"
        return self._process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def port(self) -> int:
        """The port in its configuration."""
        return int(self.config["listen"]["port"])

    def write_config(self) -> None:
        """Write the configuration file from `config`."""
        self.config_path.write_text(yaml.safe_dump(self.config, sort_keys=False))

    @staticmethod
    def module(name: str, limits: Mapping[str, float]) -> list[str]:
        """Return Python's arguments that run a module with limits that replace those of `pcapd.limits`."""
        if not limits:
            return ["-m", name]
        code = (
            f"import runpy, pcapd.limits as known; new = {dict(limits)!r}; "
            "assert new.keys() <= vars(known).keys(); vars(known).update(new); "
            f"runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"
        )
        return ["-c", code]

    def launch(self) -> None:
        """Start it without waiting, for example because it is expected to fail."""
        self.write_config()
        argv = [*self.below, sys.executable, *self.module("pcapd", self.limits)]
        argv += ["--role", self.role, "--config", str(self.config_path)]
        if self._namespace is not None:
            argv = self._namespace.command(*argv)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                cwd=self.config_path.parent,
                env=environment(**self.variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C goes to the program that runs the lab, which then ends this process.
                start_new_session=True,
            )
        if self.role == "agent":
            _prefer(self._process.pid)

    def start(self) -> None:
        """Start it and return once it serves."""
        self.launch()
        wait_until(self._serves, f"{self.role} serves on port {self.port}", timeout=START_TIMEOUT)

    def stop(self) -> None:
        """Ask it to drain with SIGTERM; it must end with status 0."""
        self.process.send_signal(signal.SIGTERM)
        assert self.wait() == 0, f"{self.role} ended with {self.process.returncode}:\n{self.log()}"

    def wait(self, timeout: float = STOP_TIMEOUT) -> int:
        """Wait for its end and return its exit status."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{self.role} did not end in {timeout:g} s:\n{self.log()}") from error

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGHUP, SIGSTOP, SIGCONT..."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL, like a machine that fails."""
        self.process.kill()
        self.process.wait()

    def usage(self) -> Usage:
        """Sample its resource usage."""
        return usage(self.pid)

    def log(self) -> str:
        """Return what it has written to stderr."""
        return self.log_path.read_text(errors="replace")

    def records(self) -> list[dict[str, Any]]:
        """Return its log as JSON objects; fails if a line is not JSON."""
        return [json.loads(line) for line in self.log().splitlines()]

    def _serves(self) -> bool:
        if self.process.poll() is not None:
            raise CommandFailed(f"{self.role} ended with {self.process.returncode}:\n{self.log()}")
        # /health is used only if it needs no certificate and is on this network.
        asks = self.role == "api" and self._namespace is None and self._healthy
        asks = asks and "client_cas" not in self.config["listen"].get("tls", {})
        return self._health() == 200 if asks else self._accepts()

    def _accepts(self) -> bool:
        # Not by connecting: the agent would log a peer without a certificate.
        argv = ["ss", "--no-header", "--listening", "--tcp", "--numeric", f"sport = :{self.port}"]
        if self._namespace is not None:
            argv = self._namespace.command(*argv)
        return bool(subprocess.run(argv, capture_output=True, check=True).stdout.strip())

    def _health(self) -> Optional[int]:
        """Return the status of GET /health, None while there is no answer."""
        tls = self.config["listen"].get("tls")
        # The tests of clients check its certificate.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        url = f"{'https' if tls else 'http'}://{LOCAL}:{self.port}/health"
        try:
            with urllib.request.urlopen(url, timeout=2, context=context) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def __enter__(self) -> Daemon:
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            # It may have been stopped by a test.
            self._process.send_signal(signal.SIGCONT)
            end(self._process, grace=STOP_TIMEOUT)


class Lab:
    """Two connected hosts, an agent that may capture on both, and an api; for user alice.

    Args:
        directory: For certificates, configurations, logs, and pcapctl's files.
        agent: Changes of the agent's configuration (`merged`).
        api: Changes of the api's.
        names: Of the two namespaces; unique ones if None.

    Attributes:
        authority: Issues more certificates.
        web0: The host behind target ``web-0``.
        web1: The host behind target ``web-1``.
        link: The link between them, ``eth0`` at both ends.
        agent: The agent's process.
        api: The api's process.
        token: Alice's.
        client_limits: Of pcapctl, as `Daemon.limits`.
    """

    web0: Namespace
    web1: Namespace
    link: Link

    def __init__(
        self,
        directory: Path,
        *,
        agent: Optional[Mapping[str, Any]] = None,
        api: Optional[Mapping[str, Any]] = None,
        names: Optional[Sequence[str]] = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.authority = Authority(directory / "certificates")
        self.token = secrets.token_urlsafe(24)
        self.client_limits: Mapping[str, float] = {}
        first, second = names or (None, None)
        self.web0 = Namespace(first) if first else Namespace.unique("web-0")
        self.web1 = Namespace(second) if second else Namespace.unique("web-1")
        self.agent = Daemon("agent", merged(self._agent_config(), agent or {}), directory)
        self.api = Daemon("api", merged(self._api_config(), api or {}), directory)
        self._resources = contextlib.ExitStack()

    def _agent_config(self) -> Config:
        namespaces = {"web-0": self.web0.path, "web-1": self.web1.path}
        return agent_config(self.authority.issue_agent(), free_port(), namespaces)

    def _api_config(self) -> Config:
        place = {"host": LOCAL, "port": self.agent.port}
        targets = {name: {**place, "namespace": name} for name in ("web-0", "web-1")}
        return api_config(self.authority.issue_api(), free_port(), targets, {"alice": self.token})

    @property
    def url(self) -> str:
        """The URL of the api."""
        scheme = "https" if self.api.config["listen"].get("tls") else "http"
        return f"{scheme}://{LOCAL}:{self.api.port}"

    def connect_hosts(self) -> None:
        """Create the two hosts and the link; they are removed with the lab."""
        remove_stale()
        self._resources.enter_context(self.web0)
        self._resources.enter_context(self.web1)
        self.link = connect(self.web0, self.web1)

    def start_daemons(self) -> None:
        """Start agent and api; they end with the lab."""
        self._resources.enter_context(self.agent)
        self._resources.enter_context(self.api)

    def client_command(self, *arguments: str) -> list[str]:
        """Return the command line of a pcapctl that trusts this lab's api."""
        argv = [sys.executable, *Daemon.module("pcapd.ctl", self.client_limits), *arguments]
        # Options of a command follow it: `pcapctl --version` takes none.
        if arguments and not arguments[0].startswith("-"):
            argv += ["--ca", str(self.authority.certificate_path)]
        return argv

    def client_environment(self) -> dict[str, str]:
        """Return the environment of a pcapctl that uses this lab's api as alice."""
        return environment(PCAP_API=self.url, PCAP_TOKEN=self.token)

    def pcapctl(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run pcapctl to its end, in the lab's directory; output is captured as text.

        Args:
            arguments: Its command line.
            options: Of ``subprocess.run``.  ``env`` extends its environment.
        """
        settings = {"capture_output": True, "text": True, "timeout": CLIENT_TIMEOUT, **options}
        return subprocess.run(self.client_command(*arguments), check=False, **self._client_options(settings))

    def start_pcapctl(self, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
        """Start pcapctl in the lab's directory; it ends at the latest with the lab."""
        process = subprocess.Popen(self.client_command(*arguments), **self._client_options(options))
        self._resources.callback(end, process)
        return process

    def _client_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        changed = {**self.client_environment(), **options.get("env", {})}
        return {"cwd": self.directory, **options, "env": changed}

    def close(self) -> None:
        """End all processes and remove all hosts of the lab."""
        self._resources.close()

    def __enter__(self) -> Lab:
        try:
            self.connect_hosts()
            self.start_daemons()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()
