"""An api with recordings, without a network and without threads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.internet.task import Clock

from demo.certificates import Credentials
from pcapd.api.service import Api
from pcapd.config.schema import RecordingsConfig
from pcapd.wire import Stats
from tests.kit.unit.api import Network, config, record
from tests.kit.unit.front import Answer, Front


class Inline:
    """Stands for `deferToThreadPool`: work is done at once, or when `run` is called.

    Attributes:
        waiting: Whether work waits for `run`.
    """

    def __init__(self) -> None:
        self.waiting = False
        self._work: list[tuple[defer.Deferred[Any], Callable[[], Any]]] = []

    def __call__(self, _: Any, __: Any, work: Callable[[], Any]) -> defer.Deferred[Any]:
        if not self.waiting:
            return defer.execute(work)
        done: defer.Deferred[Any] = defer.Deferred()
        self._work.append((done, work))
        return done

    def run(self) -> None:
        """Do what waits, in order."""
        self.waiting = False
        while self._work:
            done, work = self._work.pop(0)
            defer.execute(work).chainDeferred(done)


class RecordingFront(Front):
    """An api with a store in a directory, and its site; bob may be an operator.

    Args:
        reactor: Its clock.
        credentials: Of the api.
        network: The scripted agents.
        directory: For the store and the database.
        monkeypatch: Replaces the threads.
        operators: As in the configuration.
        section: Changes of `RecordingsConfig`.
    """

    def __init__(
        self,
        reactor: Clock,
        credentials: Credentials,
        network: Network,
        directory: Path,
        monkeypatch: Any,
        *,
        operators: tuple[str, ...] = (),
        **section: Any,
    ) -> None:
        self.index, self.store = Inline(), Inline()
        monkeypatch.setattr("pcapd.api.state.database.deferToThreadPool", self.index)
        monkeypatch.setattr("pcapd.api.recordings.store.deferToThreadPool", self.store)
        self.reactor = reactor
        self.network = network
        self.directory = directory
        self.delivered = 0
        self._answers: list[Answer] = []
        options = {"reserve": 1, "per_user": 2, **section}
        recordings = RecordingsConfig(f"file://{directory}/store", **options)
        given = config(credentials, per_user=5, concurrent_captures=50)
        self._config = dataclasses.replace(
            given, operators=operators, state=f"sqlite:///{directory}/state.db", recordings=recordings
        )
        self.boot()

    def boot(self) -> None:
        """Start an api, as after the end of the one before."""
        self.api = Api(self._config, self.reactor)
        self.site = self.api._site
        self.recordings = self.api._recordings
        self.recordings.start()

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """Ask for a page of recordings."""
        data = b"" if body is None else json.dumps(body).encode()
        return self.ask(f"/v1/recordings{path}", method=method, body=data, **options)

    def start(self, target: str = "web-0", **wanted: Any) -> str:
        """Start a recording whose agent opens a source; return its id."""
        answer = self.call("POST", "", {"targets": [target], **wanted})
        assert answer.status == 201, answer.body
        self.network[target].start("eth0")
        return str(json.loads(answer.body)["id"])

    def fill(self, *times: int, target: str = "web-0") -> None:
        """Let packets of these microseconds arrive, and store them as one segment."""
        agent = self.network[target]
        for us in times:
            agent.deliver(record(us))
        self.delivered += len(times)
        up_to = Stats(self.delivered, 0, 0, self.delivered, max(times))
        agent.send(agent.session.stats(1, up_to))
        self.pass_time(8.0)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, while the agents live."""
        for _ in range(int(seconds / 0.5)):
            self.reactor.advance(0.5)
            for agent in self.network.agents.values():
                if agent.transport.connected:
                    agent.listen()

    def show(self, id: str) -> dict[str, Any]:
        """A recording."""
        return dict(json.loads(self.call("GET", f"/{id}").body))

    def close(self) -> None:
        for capture in list(self.api._captures):
            capture.abandon("the test is over")
        self.recordings._sweeper.stop()
        self.recordings._resuming.stop()
        super().close()
