"""Recordings for tests: a lab whose api has a store, and a user who asks over HTTP."""

from __future__ import annotations

import http.client
import itertools
import json
import sqlite3
import ssl
import time
from pathlib import Path
from typing import Any, Mapping, Optional

from demo.configurations import LOCAL, merged
from demo.daemons import Lab
from demo.processes import wait_until
from tests.kit.hosts.chain import SaveFile, read_pcapng
from tests.kit.lab.generator import FILTER, stamp

#: Packets per second of the tests.
RATE = 400
#: Limits with which the tests need seconds instead of hours.
SOON: Mapping[str, float] = {
    "SEGMENT_SECONDS": 0.5,
    "STORE_RETRY": 0.2,
    "QUIET_INTERVAL": 1.0,
    "SWEEP_INTERVAL": 0.5,
    "ORPHAN_AGE": 1.0,
}


class RecordingLab(Lab):
    """A lab whose api records.

    Args:
        directory: As for `Lab`.
        store: Changes of the section ``recordings``.
        api: More changes of the api's configuration.
        agent: Changes of the agent's.
        limits: Replace `SOON`.

    Attributes:
        store: The directory of the store, by default.
        state: The database.
    """

    def __init__(
        self,
        directory: Path,
        *,
        store: Mapping[str, Any] = {},
        api: Mapping[str, Any] = {},
        agent: Mapping[str, Any] = {},
        limits: Mapping[str, float] = SOON,
    ) -> None:
        self.store = directory / "store"
        self.state = directory / "state.db"
        section = {"store": f"file://{self.store}", "reserve": "1MB", **store}
        changes = {"state": f"sqlite:///{self.state}", "recordings": section, "drain_timeout": "5s"}
        super().__init__(directory, agent=agent, api=merged(changes, api))
        self.api.limits = limits

    # --- HTTP ----------------------------------------------------------------

    def send(
        self, method: str, path: str, body: Any = None, token: Optional[str] = None, **headers: str
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Ask the api; the answer is not read yet."""
        connection: http.client.HTTPConnection
        if self.api.config["listen"].get("tls"):
            context = ssl.create_default_context(cafile=str(self.authority.certificate_path))
            context.check_hostname = False
            connection = http.client.HTTPSConnection(LOCAL, self.api.port, context=context, timeout=60)
        else:
            connection = http.client.HTTPConnection(LOCAL, self.api.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Authorization": f"bearer {token or self.token}", **named})
        return connection, connection.getresponse()

    def ask(self, method: str, path: str, body: Any = None, **options: str) -> tuple[int, Any]:
        """Ask the api; return the status, and the answer's JSON."""
        connection, answer = self.send(method, path, body, **options)
        try:
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def record(self, *targets: str, **wanted: Any) -> str:
        """Start a recording of the generator's packets; return its id."""
        body = {"targets": list(targets) or ["web-0"], "filter": FILTER, **wanted}
        status, found = self.ask("POST", "/v1/recordings", body)
        assert status == 201, found
        return str(found["id"])

    def show(self, id: str) -> dict[str, Any]:
        """A recording."""
        status, found = self.ask("GET", f"/v1/recordings/{id}")
        assert status == 200, found
        return dict(found)

    def stop(self, id: str) -> dict[str, Any]:
        """End a recording, and return it when it has ended."""
        status, found = self.ask("POST", f"/v1/recordings/{id}/stop", {})
        assert status == 200, found
        return self.await_state(id, "stopped", "failed")

    def await_state(self, id: str, *states: str, timeout: float = 20) -> dict[str, Any]:
        """Wait until a recording has one of these states."""
        wait_until(lambda: self.show(id)["state"] in states, f"the recording is {states}", timeout=timeout)
        return self.show(id)

    def await_packets(self, id: str, packets: int, timeout: float = 20) -> None:
        """Wait until so many packets are stored."""

        def enough() -> bool:
            found = self.show(id)
            return int(found["packets"]) + int(found["deleted_packets"]) >= packets

        wait_until(enough, f"{packets} packets are stored", timeout=timeout)

    def fetch(self, id: str, query: str = "", **headers: str) -> SaveFile:
        """Fetch the packets of a recording."""
        path = self.directory / f"fetched-{time.monotonic_ns()}.pcapng"
        connection, answer = self.send("GET", f"/v1/recordings/{id}/capture{query}", **headers)
        try:
            assert answer.status == 200, answer.read()
            path.write_bytes(answer.read())
        finally:
            connection.close()
        file = read_pcapng(path)
        assert not file.rest
        return file

    # --- what is stored ------------------------------------------------------

    def objects(self) -> set[str]:
        """The names of all files in the store."""
        return {path.relative_to(self.store).as_posix() for path in self.store.rglob("*") if path.is_file()}

    def rows(self) -> dict[str, int]:
        """The name of each segment's object, with its bytes, as the index has them."""
        with sqlite3.connect(f"file:{self.state}?mode=ro", uri=True) as database:
            found = database.execute("SELECT recording, epoch, number, size FROM segments").fetchall()
        return {f"{id}/{epoch:04}/{number:08}.pcapng": size for id, epoch, number, size in found}

    def assert_index_right(self, *, orphans: bool = False) -> None:
        """Each segment of the index is in the store, whole; and no other objects are, unless `orphans`."""
        rows, objects = self.rows(), self.objects()
        sizes = {name: (self.store / name).stat().st_size for name in rows if name in objects}
        assert sizes == rows
        assert orphans or objects == rows.keys()
        with sqlite3.connect(f"file:{self.state}?mode=ro", uri=True) as database:
            sums = database.execute(
                "SELECT r.id, r.bytes, r.packets, "
                "(SELECT coalesce(sum(size), 0) FROM segments s WHERE s.recording = r.id), "
                "(SELECT coalesce(sum(packets), 0) FROM segments s WHERE s.recording = r.id) "
                "FROM recordings r"
            ).fetchall()
        for id, size, packets, *found in sums:
            assert [size, packets] == found, id


def assert_one_of_each(file: SaveFile, *, gaps: int) -> None:
    """Each packet is there once, in order, without more gaps than these; each gap is stated."""
    numbers = [stamp(packet.data).number for packet in file.packets]
    assert len(set(numbers)) == len(numbers) and sorted(numbers) == numbers
    missing = [pair for pair in itertools.pairwise(numbers) if pair[1] != pair[0] + 1]
    stated = [comment for comment in file.comments if "nothing was recorded from" in comment]
    stated += [one.remarks for one in file.interfaces if "it was not captured from" in one.remarks]
    assert len(missing) <= gaps and len(missing) <= len(stated), (missing, file.comments)
