"""What the tests of containers share: a cell with two instances of one app, and agents on it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import Any, Iterator, Optional

from demo.certificates import Authority
from demo.configurations import Config, agent_config, free_port, merged
from demo.daemons import Daemon
from demo.namespaces import remove_stale
from tests.kit.lab.callers import AgentCaller
from tests.kit.lab.containers import Cell

#: The agents' user: as good as vcap is on a cell.
USER = "nobody"
APP = "a1b2c3d4-0000-4000-8000-000000000001"


@contextlib.contextmanager
def cell_in(directory: Path, subnet: int = 93) -> Iterator[Cell]:
    """A cell whose store `USER` may read."""
    remove_stale()
    with Cell(directory, subnet) as cell:
        cell.store.give_to(pwd.getpwnam(USER).pw_uid)
        yield cell


@contextlib.contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that everybody may enter, unlike pytest's."""
    directory = Path(tempfile.mkdtemp(prefix="pcapd-cell-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class CellAgent:
    """An agent on a cell, and calls to it.

    Args:
        run_as: The user it becomes; None stays root.
        containers: Laid over its ``containers`` section; None leaves it out.
    """

    def __init__(
        self,
        cell: Cell,
        authority: Authority,
        name: str,
        *,
        run_as: Optional[str] = USER,
        containers: Optional[Config] = None,
        **changes: Any,
    ) -> None:
        section = None if containers is None else cell.config(**containers)
        base = agent_config(authority.issue_agent(), free_port(), {}, name)
        settings: Config = {"containers": section, "run_as": run_as, "namespaces": None, **changes}
        self.daemon = Daemon("agent", merged(base, settings), cell.directory, cell.namespace)
        self._credentials = authority.issue_api()
        self._cell = cell

    def call(self) -> AgentCaller:
        """Connect as the api does."""
        return AgentCaller(self._credentials, self.daemon.port, self._cell.namespace.path)

    def status(self) -> list[dict[str, str]]:
        """``/proc/PID/status`` of each of its threads."""
        found = []
        for task in Path(f"/proc/{self.daemon.pid}/task").iterdir():
            # A thread may end between its listing and its reading.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                lines = (line.partition(":") for line in (task / "status").read_text().splitlines())
                found.append({key: value.strip() for key, _, value in lines})
        return found


def needs() -> Optional[str]:
    """Why the tests of containers cannot run here, None when they can."""
    if os.geteuid() != 0:
        return "containers and namespaces need root"
    missing = [name for name in ("runc", "busybox", "nsenter") if not shutil.which(name)]
    return f"{', '.join(missing)} not installed" if missing else None
