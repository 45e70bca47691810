"""The states of a capture.

::

    NEW ──START──▶ STARTING ──OPENED──▶ RUNNING ──STOP──▶ STOPPING ──OVER──▶ ENDED
     │                └───────STOP────────────────────────▲                   ▲
     └── any: OVER: abandoned, failed, no target is left ─────────────────────┘
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

__all__ = ["Machine", "State", "Step"]


class State(Enum):
    """A state of a capture; see the module."""

    NEW = auto()
    STARTING = auto()
    RUNNING = auto()
    STOPPING = auto()
    ENDED = auto()


class Step(Enum):
    """An event in the life of a capture."""

    START = auto()  #: the audit record is written; the api connects to the agents
    OPENED = auto()  #: a source is open
    STOP = auto()
    OVER = auto()  #: all agents have ended, or the client is gone


#: The state after a step; any other step changes nothing.
_NEXT: Mapping[tuple[State, Step], State] = {
    (State.NEW, Step.START): State.STARTING,
    (State.NEW, Step.OVER): State.ENDED,
    (State.STARTING, Step.OPENED): State.RUNNING,
    (State.STARTING, Step.STOP): State.STOPPING,
    (State.STARTING, Step.OVER): State.ENDED,
    (State.RUNNING, Step.STOP): State.STOPPING,
    (State.RUNNING, Step.OVER): State.ENDED,
    (State.STOPPING, Step.OVER): State.ENDED,
}


class Machine:
    """Holds the state of a capture."""

    def __init__(self) -> None:
        self.state = State.NEW

    def step(self, step: Step) -> bool:
        """Make a step, and return whether it changed the state."""
        following = _NEXT.get((self.state, step))
        if following is not None:
            self.state = following
        return following is not None
