"""Several apis that share a PostgreSQL and a bucket, behind a real nginx; and a user who asks any of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, Mapping

from demo.configurations import LOCAL, free_port, merged
from demo.daemons import Daemon
from demo.processes import end, wait_until
from tests.kit.hosts.recordings import RecordingLab
from tests.kit.lab import forwarder, objects
from tests.kit.lab.nginx import nginx
from tests.kit.lab.postgres import Postgres

#: Real leases, and small segments.
LIMITS: Mapping[str, float] = {
    "SEGMENT_SECONDS": 0.5,
    "SEGMENT_BYTES": 64 * 1024,
    "STORE_RETRY": 0.5,
    "QUIET_INTERVAL": 1.0,
}


class SeveralApis(RecordingLab):
    """A lab with several apis; `api` is the first one.

    Args:
        directory: As for `Lab`.
        postgres: The database.
        port: Of the bucket.
        faults: Of the proxy before the bucket.
        count: Number of apis.

    Attributes:
        apis: All of them, by their names.
    """

    def __init__(
        self, directory: Path, postgres: Postgres, port: int, faults: objects.Faults, count: int = 2
    ) -> None:
        directory.mkdir()
        credentials = directory / "credentials.json"
        credentials.write_text(json.dumps(objects.s3_settings(port)))
        store = {"store": "s3://lab/several", "reserve": "1MB", "credentials_file": str(credentials)}
        shared = {"id": "api-0", "state": postgres.url}
        super().__init__(directory, store=store, api=shared, limits=LIMITS)
        self.postgres = postgres
        self.faults = faults
        self.apis = {"api-0": self.api}
        for number in range(1, count):
            place = {"id": f"api-{number}", "listen": {"port": free_port()}}
            more = Daemon("api", merged(self.api.config, place), directory)
            more.limits = LIMITS
            self.apis[f"api-{number}"] = more
        self._front = free_port()
        self.ask_port = self._front

    def start_daemons(self) -> None:
        """Start everything."""
        super().start_daemons()
        for api in list(self.apis.values())[1:]:
            self._resources.enter_context(api)
        ports = [api.port for api in self.apis.values()]
        front = nginx(self.directory, self.authority, self._front, ports, self._front_answers)
        self._resources.enter_context(front)

    def _front_answers(self) -> bool:
        try:
            return self.ask("GET", "/health")[0] == 200
        except OSError:
            return False

    @contextlib.contextmanager
    def behind_forwarder(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """Let an api reach the database only through a process, which can be stopped."""
        api, port = self.apis[name], free_port()
        argv = [sys.executable, str(Path(forwarder.__file__)), str(port), LOCAL, str(self.postgres.port)]
        direct = api.config["state"]
        process = subprocess.Popen(argv)
        try:
            api.config["state"] = direct.replace(f":{self.postgres.port}/", f":{port}/")
            api.stop()
            api.start()
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            api.config["state"] = direct
            api.stop()
            api.start()
            end(process)

    # --- who records -----------------------------------------------------------

    def holder(self, id: str) -> str:
        """The name of the api that holds a recording; empty if none does."""
        return self.postgres.sql(
            f"SELECT h.name FROM recordings r JOIN holders h ON h.id = r.holder WHERE r.id = '{id}'"
        )

    def epoch(self, id: str) -> int:
        """The present epoch of a recording."""
        return int(self.postgres.sql(f"SELECT epoch FROM recordings WHERE id = '{id}'"))

    def other(self, name: str) -> str:
        """The name of another api that runs."""
        return next(one for one, api in self.apis.items() if one != name and api.process.poll() is None)

    def captures(self) -> int:
        """Number of connections of apis to the agent: each recording has one."""
        argv = ["ss", "-Htn", "state", "established", f"dport = :{self.agent.port}"]
        return len(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines())

    @contextlib.contextmanager
    def asking(self, name: str) -> Iterator[None]:
        """Ask this api, and not nginx."""
        self.ask_port = self.apis[name].port
        try:
            yield
        finally:
            self.ask_port = self._front

    def all_answer(self) -> bool:
        """Whether each api reads the index."""
        answers = []
        for name in self.apis:
            with self.asking(name):
                answers.append(self.ask("GET", "/v1/recordings")[0])
        return answers == [200] * len(answers)

    def spooled(self, name: str) -> int:
        """Number of files without a name that an api has open: segments that wait on the disk."""
        count = 0
        for link in Path(f"/proc/{self.apis[name].pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                count += "/#" in os.readlink(link)
        return count

    def goes_on(self, id: str, within: float = 30.0) -> float:
        """Wait until more packets are stored; return the seconds that it took."""
        began = time.monotonic()
        before = self.show(id)["packets"]
        wait_until(lambda: self.show(id)["packets"] > before, "the recording goes on", timeout=within)
        return time.monotonic() - began

    # --- what is stored ----------------------------------------------------------

    def rows(self) -> dict[str, int]:
        """The name of each segment's object, with its bytes, as the index has them."""
        found = self.postgres.sql("SELECT recording, epoch, number, size FROM segments").splitlines()
        rows = [line.split("|") for line in found]
        return {
            f"{id}/{int(epoch):04}/{int(number):08}.pcapng": int(size) for id, epoch, number, size in rows
        }

    def rows_of(self, id: str) -> set[str]:
        """The objects that the index has of a recording."""
        return {name for name in self.rows() if name.startswith(id)}

    def objects_of(self, id: str) -> int:
        """Number of objects of a recording."""
        return sum(1 for name in self.objects() if name.startswith(id))


@contextlib.contextmanager
def several_apis(directory: Path, count: int = 2) -> Iterator[SeveralApis]:
    """Everything, running."""
    faults = objects.Faults()
    with (
        Postgres() as postgres,
        objects.s3(objects.versitygw(directory), directory, "lab") as server,
        objects.proxy(server, faults) as port,
    ):
        lab: Any = SeveralApis(directory / "lab", postgres, port, faults, count)
        lab.store = directory / "root" / "lab" / "several"
        with lab:
            yield lab
