"""An api that records, beside those of a chain, and its pages as functions."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Optional

from demo.configurations import LOCAL, free_port, merged
from demo.daemons import Daemon
from demo.processes import wait_until
from tests.kit.hosts.chain import Chain, SaveFile, read_pcapng

#: Segments are short, so that a test sees many of them; two clips of one cause may follow each other soon.
LIMITS: Mapping[str, float] = {
    "SEGMENT_SECONDS": 0.5,
    "STATISTICS_INTERVAL": 1.0,
    "CLIP_INTERVAL": 3.0,
}


class Answer(NamedTuple):
    """One answer of the api."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON values."""
        return json.loads(self.body)


class Recording(Daemon):
    """An api with recordings in a directory; for alice, unless another token is given.

    Args:
        chain: Whose agents and users.
        directory: For the store and the index.
        extra: More of its configuration.
    """

    def __init__(self, chain: Chain, directory: Path, **extra: Any) -> None:
        self.store = directory / "store"
        change = {
            "id": "recording",
            "listen": {"port": free_port()},
            "metrics": None,
            "state": f"sqlite:///{directory}/state.db",
            "recordings": {"store": f"file://{self.store}", "reserve": "1MB", **extra},
        }
        super().__init__("api", merged(chain.api.config, change), directory)
        self.limits = dict(LIMITS)
        self._token = chain.token
        self._tls = ssl.create_default_context(cafile=str(chain.authority.certificate_path))

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: Optional[str] = None,
    ) -> Answer:
        """Send a request."""
        request = urllib.request.Request(
            f"https://{LOCAL}:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"bearer {self._token if token is None else token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:
                return Answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read())

    def record(self, *targets: str, **order: Any) -> str:
        """Start a recording, and return its id when it records."""
        answers: list[Answer] = []

        def answered() -> bool:
            answers.append(self.ask("POST", "/v1/recordings", {"targets": list(targets), **order}))
            return answers[-1].status != 503  # the api reads its index

        wait_until(answered, "the api takes orders")
        assert answers[-1].status == 201, answers[-1].body
        id = str(answers[-1].json["id"])
        wait_until(lambda: self.show(id)["state"] == "recording", "it records")
        return id

    def show(self, id: str) -> dict[str, Any]:
        """One recording."""
        answer = self.ask("GET", f"/v1/recordings/{id}")
        assert answer.status == 200, answer.body
        return dict(answer.json)

    def clips(self, id: str) -> list[dict[str, Any]]:
        """The clips of a recording."""
        return list(self.show(id)["clips"])

    def finished(self, id: str, number: int, timeout: float = 30.0) -> dict[str, Any]:
        """Wait until a clip is not open any longer, and return it."""

        def there() -> bool:
            return any(one["number"] == number and one["state"] != "open" for one in self.clips(id))

        wait_until(there, f"clip {number} is finished", timeout=timeout)
        return next(one for one in self.clips(id) if one["number"] == number)

    def fetch(self, id: str, query: str, path: Path) -> SaveFile:
        """Fetch packets into a file, and read it."""
        answer = self.ask("GET", f"/v1/recordings/{id}/capture?{query}")
        assert answer.status == 200, answer.body
        path.write_bytes(answer.body)
        return read_pcapng(path)

    def audited(self) -> list[dict[str, Any]]:
        """The audit records so far."""
        return [record for record in self.records() if "audit" in record]
