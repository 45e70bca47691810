"""A real PostgreSQL server in a directory of its own, which can be restarted, killed and cut off.

It runs Debian's programs as an unprivileged user, because initdb refuses root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Iterator, Optional

import pytest

from demo.certificates import Credentials
from demo.configurations import LOCAL, free_port
from demo.processes import CommandFailed, run, wait_until

_USER = "nobody"
_START_TIMEOUT = 30.0
#: Without fsync a machine that fails loses data; processes that are killed lose nothing.
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
shared_buffers = 8MB
max_connections = 40
log_line_prefix = '%m [%p] '
"""


def programs() -> Path:
    """The directory of the newest PostgreSQL's programs; the test is skipped without one."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True
    )
    given = shutil.which("initdb")
    if given is None and not found:
        pytest.skip("there is no PostgreSQL (apt-get install postgresql)")
    return found[0] if found else Path(given or "").resolve().parent


class Postgres:
    """One server with one database; it runs from entering the context to leaving it.

    Args:
        credentials: Its certificate, if it takes only connections with TLS.

    Attributes:
        port: On 127.0.0.1; the same after each start.
        password: Of the user ``pcapd``.
    """

    def __init__(self, credentials: Optional[Credentials] = None) -> None:
        self._programs = programs()
        self._credentials = credentials
        self.port = free_port()
        self.password = secrets.token_urlsafe(12)
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._resources = contextlib.ExitStack()

    @property
    def url(self) -> str:
        """The configuration's ``state``."""
        return f"postgresql+pg8000://pcapd:{self.password}@{LOCAL}:{self.port}/postgres"

    def _options(self) -> dict[str, Any]:
        """Of a process that does not run as root."""
        if os.geteuid() != 0:
            return {"cwd": self._directory}
        user = pwd.getpwnam(_USER)
        return {"cwd": self._directory, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def _make(self) -> None:
        # Not below a test's own directory, which only its user may enter.
        self._directory = Path(
            self._resources.enter_context(tempfile.TemporaryDirectory(prefix="pcapd-postgres-"))
        )
        self._data = self._directory / "data"
        password = self._directory / "password"
        password.write_text(self.password)
        if os.geteuid() == 0:
            for path in (self._directory, password):
                shutil.chown(path, _USER)
        argv = [str(self._programs / "initdb"), "--pgdata", str(self._data), "--username", "pcapd"]
        argv += ["--pwfile", str(password), "--auth", "scram-sha-256", "--no-sync", "--locale", "C.UTF-8"]
        run(argv, **self._options())
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS)
        if self._credentials is not None:
            self._serve_tls(self._credentials)

    def _serve_tls(self, credentials: Credentials) -> None:
        for source, name in (
            (credentials.certificate, "server.crt"),
            (credentials.private_key, "server.key"),
        ):
            shutil.copy(source, self._data / name)
            (self._data / name).chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(self._data / name, _USER)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write("ssl = on\n")
        access = self._data / "pg_hba.conf"
        access.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")

    # --- life ------------------------------------------------------------------

    def start(self) -> None:
        """Start it, and return once it answers."""
        argv = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._options()
            )
        wait_until(self._answers, "PostgreSQL answers", timeout=_START_TIMEOUT)

    def _answers(self) -> bool:
        if self._running.poll() is not None:
            raise CommandFailed(f"PostgreSQL ended:\n{self.log()}")
        argv = [str(self._programs / "pg_isready"), "--host", LOCAL, "--port", str(self.port), "--quiet"]
        return subprocess.run(argv, check=False).returncode == 0

    def stop(self) -> None:
        """End it as a restart does: connections are cut, transactions undone."""
        self._running.send_signal(signal.SIGINT)
        self._running.wait(_START_TIMEOUT)

    def restart(self) -> None:
        """Stop it and start it."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End it with all its processes, like a machine that fails."""
        pid = self._running.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for process in (pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._running.wait()
        wait_until(lambda: not any(map(_alive, children)), "PostgreSQL's processes have ended")

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It accepts connections, and answers nothing."""
        pid = self._running.pid
        stopped = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[None]:
        """Nothing reaches it and nothing comes from it: its packets are dropped (nftables)."""
        if not shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin"):
            pytest.skip("nft is not installed (apt-get install nftables)")
        table = f"pcapd_test_{self.port}"
        rules = f"""
            table inet {table} {{
                chain both {{
                    type filter hook input priority 0;
                    tcp dport {self.port} drop
                    tcp sport {self.port} drop
                }}
            }}
        """
        run(["nft", "-f", "-"], input=rules)
        try:
            yield
        finally:
            run(["nft", "delete", "table", "inet", table])

    def sql(self, statement: str) -> str:
        """Run a statement; return what it finds, one row a line."""
        argv = [str(self._programs / "psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--host", LOCAL]
        argv += ["--port", str(self.port), "--username", "pcapd", "--command", statement, "postgres"]
        return run(argv, env={**os.environ, "PGPASSWORD": self.password}).stdout.strip()

    def clear(self) -> None:
        """Remove all tables."""
        self.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    def log(self) -> str:
        """What the server has written."""
        return (self._directory / "log").read_text(errors="replace")

    def __enter__(self) -> Postgres:
        try:
            self._make()
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
        try:
            if self._process is not None and self._process.poll() is None:
                self.kill()
        finally:
            self._resources.close()


def _alive(pid: str) -> bool:
    # A process that has ended and that nobody waited for yet holds nothing any more.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
