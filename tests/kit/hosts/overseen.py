"""A foundation whose api has a UAA client of its own, and a store of recordings."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional

from demo.certificates import Authority
from demo.configurations import LOCAL, merged
from demo.daemons import environment
from demo.processes import wait_until
from tests.kit.doubles.cloud_controller import CfApp
from tests.kit.doubles.signing import SigningUaa
from tests.kit.hosts.foundation import PATIENCE, Foundation, Response

#: Limits with which the tests need seconds instead of minutes.
SOON: Mapping[str, float] = {
    "FOLLOW_INTERVAL": 0.5,
    "RECHECK_INTERVAL": 1.0,
    "RECHECK_RETRY": 0.5,
    "CLIENT_TOKEN_PAUSE": 0.5,
    "SEGMENT_SECONDS": 0.5,
    "REDIAL_MIN": 0.3,
}


class Overseen(Foundation):
    """See `overseen_in`.

    Attributes:
        uaa: Gives the api's client its tokens.
        client: Whether the api has one.
    """

    limits = SOON

    def __init__(
        self, directory: Path, authority: Authority, *, client: bool, recordings: Mapping[str, Any]
    ) -> None:
        store = {"store": f"file://{directory}/store", "reserve": "1MB", "per_user": 20, **recordings}
        super().__init__(
            directory,
            authority,
            2,
            {"recordings": store, "state": f"sqlite:///{directory}/state.db", "drain_timeout": "3s"},
        )
        credentials = authority.issue("uaa", dns=("localhost",), ips=(LOCAL,))
        self.uaa = SigningUaa(credentials, controller=self.cc)
        self.client = client

    def start(self) -> None:
        """Start everything."""
        self.resources.enter_context(self.uaa)
        self.cc.links = {"uaa": {"href": self.uaa.url}}
        if self.client:
            self._api_changes = merged(self._api_changes, {"cloud_foundry": {"client": self.uaa.client}})
        super().start()

    # --- recordings --------------------------------------------------------

    def ask(self, method: str, path: str, token: str, body: Any = None) -> Response:
        """Ask for a page of recordings."""
        connection = self.connection()
        data = None if body is None else json.dumps(body)
        connection.request(method, f"/v1/recordings{path}", data, {"Authorization": f"bearer {token}"})
        answer = connection.getresponse()
        found = Response(answer.status, dict(answer.getheaders()), answer.read(), True)
        connection.close()
        return found

    def record(self, app: CfApp, token: str, **wanted: Any) -> str:
        """Start a recording of an app; return its id once it records."""
        answer = self.ask("POST", "", token, {"app": {"guid": app.guid}, **wanted})
        assert answer.status == 201, answer.body
        id = str(json.loads(answer.body)["id"])
        self.await_state(id, token, "recording")
        return id

    def show(self, id: str, token: str) -> dict[str, Any]:
        """A recording."""
        answer = self.ask("GET", f"/{id}", token)
        assert answer.status == 200, answer.body
        return dict(json.loads(answer.body))

    def await_state(self, id: str, token: str, state: str) -> dict[str, Any]:
        """Wait until a recording has this state."""
        wait_until(lambda: self.show(id, token)["state"] == state, f"the recording is {state}", timeout=30)
        return self.show(id, token)

    def ctl(self, app: CfApp, token: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a pcapctl to its end, logged in with a token."""
        home = self.log_in(app, token)
        argv = [sys.executable, "-m", "pcapd.ctl", *words, "--api", self.url]
        argv += ["--ca", str(self.authority.certificate_path)]
        return subprocess.run(
            argv,
            cwd=self.directory,
            env=environment(CF_HOME=str(home)),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def restart(self, app: CfApp, index: int, host: Optional[str] = None) -> None:
        """Run an instance in a new container; the agent of the old one tells that it is gone."""
        instance = app.instances[index]
        cell = next(cell for cell in self.cells if cell.host == instance.host)
        old = instance.handle
        instance.restart(host)
        cell.lose(old)

    def assert_discreet(self) -> None:
        """Neither a token nor the client's secret is in any file of the api's."""
        super().assert_discreet()
        assert self.uaa.client["secret"] not in self.api.log()


@contextlib.contextmanager
def overseen_in(
    directory: Path, authority: Authority, *, client: bool = True, **recordings: Any
) -> Iterator[Overseen]:
    """A foundation that is up; afterwards neither a token nor the secret may be in the api's log.

    Args:
        client: Whether the api has a client of its own.
        recordings: Changes of the section ``recordings``.
    """
    foundation = Overseen(directory, authority, client=client, recordings=recordings)
    with foundation.resources:
        foundation.start()
        yield foundation
    foundation.assert_discreet()
