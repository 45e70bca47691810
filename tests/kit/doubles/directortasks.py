"""Tasks of a BOSH director, and the one that sets up ssh.

Follows the director's jobs/ssh.rb: one worker does one task after the other; the agents are
asked one after the other, and the first that fails ends the task, whose result is then lost,
although accounts have been made.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Optional, Protocol, Sequence

#: Seconds that a task waits before the worker takes it, and that it then takes.
QUEUED, PROCESSING = 0.4, 0.3


class Unresponsive(Exception):
    """An agent that does not answer."""


class SshAgent(Protocol):
    """The part of an agent that makes accounts (the agent's action/ssh.go)."""

    def set_up(self, user: str, public_key: str) -> Mapping[str, Any]:
        """Make an account; return the agent's part of the answer."""

    def clean_up(self, pattern: str) -> None:
        """Remove the accounts whose names match."""


@dataclass
class Task:
    """A task."""

    number: int
    work: Callable[[], Any] = field(repr=False)
    state: str = "queued"
    result: Optional[str] = None
    output: str = ""

    def facts(self) -> dict[str, Any]:
        """What ``GET /tasks/ID`` answers."""
        return {
            "id": self.number,
            "state": self.state,
            "description": "ssh: setup",
            "timestamp": 1764400000,
            "result": self.result,
            "user": "alice",
            "deployment": "cf",
            "context_id": "",
        }


class Tasks:
    """All tasks, and their worker.

    Attributes:
        pause: Seconds that the next tasks stay in the queue.
    """

    def __init__(self) -> None:
        self.pause = QUEUED
        self._tasks: dict[str, Task] = {}
        self._queue: queue.Queue[Task] = queue.Queue()
        threading.Thread(target=self._work, daemon=True).start()

    def start(self, work: Callable[[], Any]) -> int:
        """Put a task into the queue; return its number."""
        task = Task(len(self._tasks) + 41, work)
        self._tasks[str(task.number)] = task
        self._queue.put(task)
        return task.number

    def get(self, number: str) -> Optional[Task]:
        """Find a task."""
        return self._tasks.get(number)

    def idle(self) -> bool:
        """Whether all tasks have ended."""
        return all(task.state in ("done", "error") for task in self._tasks.values())

    def _work(self) -> None:
        while True:
            task = self._queue.get()
            time.sleep(self.pause)
            task.state = "processing"
            time.sleep(PROCESSING)
            try:
                task.output = json.dumps(task.work()) + "\n"
                task.state = "done"
            except Exception as error:
                task.result, task.state = str(error), "error"


def set_up_ssh(
    payload: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    agents: Mapping[str, SshAgent],
    gateway: Optional[tuple[str, str]],
) -> list[dict[str, Any]]:
    """The work of ``POST /deployments/NAME/ssh``.

    Args:
        entries: The instances that the request names.
    """
    if not entries:
        raise Unresponsive(f"No instance with a VM in deployment 'cf' matched filter {payload['target']}")
    answers = []
    params = payload["params"]
    for entry in entries:
        agent = agents[entry["id"]]
        if payload["command"] == "setup":
            facts = agent.set_up(params["user"], params["public_key"])
            answer = {"command": "setup", "status": "success", **facts}
        else:
            agent.clean_up(params["user_regex"])
            answer = {"command": "cleanup", "status": "success"}
        answer |= {"id": entry["id"], "index": entry["index"], "job": entry["job"]}
        if gateway is not None:
            answer |= {"gateway_user": gateway[0], "gateway_host": gateway[1]}
        answers.append(answer)
    return answers
