"""An agent without a network and without libpcap: what its session touches, as small classes."""

from __future__ import annotations

import struct
from collections import Counter, deque
from dataclasses import replace
from functools import partial
from typing import Any, Callable, Optional, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from demo.certificates import API_NAME, Credentials
from pcapd import COMPATIBILITY_LEVEL
from pcapd.agent import presence as presence_module
from pcapd.agent import session as session_module
from pcapd.agent.agent import Agent
from pcapd.agent.containers.namespace import mount_gone
from pcapd.agent.opening import Opened, Opening
from pcapd.agent.session import AgentSession
from pcapd.capture.exclusion import Connection
from pcapd.capture.interfaces import Interface
from pcapd.capture.namespaces import identity
from pcapd.capture.source import KernelCounters
from pcapd.config.schema import AgentConfig, AgentListenConfig, CaptureConfig, ServerTLS
from pcapd.errors import CaptureFailed
from pcapd.wire import Caller, CaptureStart, Error, Event, Hello, Message, Packets, encode_message
from tests.kit.unit.transport import Transport

API = Hello(COMPATIBILITY_LEVEL, "api", "api/0", "1.0", 1)
START = CaptureStart("capture-1", "request-1", "web-0", ("eth0",), "udp", 96)


class Reactor(Clock):
    """A clock, and a set of readers that the test wakes up."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self._timers_at: Counter[float] = Counter()

    def callLater(self, when: float, what: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
        self._timers_at[self.seconds()] += 1
        # Time does not pass while one sets the next: that would be a test without end.
        assert self._timers_at[self.seconds()] < 1000, what
        return super().callLater(when, what, *args, **kwargs)

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def wake(self) -> None:
        """Tell every reader that it can read."""
        for reader in list(self.readers):
            reader.doRead()


class Source:
    """A capture source whose ring a test fills."""

    link_type = 1
    taken_down = False
    excluded = 0

    def __init__(self, name: str, filter_text: str, snaplen: int) -> None:
        self.interface = Interface(1, name, True, False, 0, ("192.0.2.1/24",))
        self.filter = filter_text
        self.snaplen = snaplen
        self.ring: deque[tuple[bytes, bytes]] = deque()
        self.received = 0
        self.dropped = 0
        self.calls: list[str] = []
        self.error: Optional[CaptureFailed] = None
        self.refused: Optional[CaptureFailed] = None
        self.exclusions: tuple[Connection, ...] = ()

    def fill(self, *payloads: bytes) -> None:
        """Let the interface see packets."""
        for payload in payloads:
            self.received += 1
            at = 1_700_000_000 + self.received
            self.ring.append((payload, struct.pack("=4I", at, 0, 0, len(payload))))

    def fileno(self) -> int:
        return 99

    def read(self, max_packets: int) -> tuple[bytes, bytes]:
        self.calls.append("read")
        if self.ring:
            batch = [self.ring.popleft() for _ in range(min(max_packets, len(self.ring)))]
            return b"".join(data for data, _ in batch), b"".join(meta for _, meta in batch)
        if self.error is not None:
            error, self.error = self.error, None  # the kernel says it once
            raise error
        return b"", b""

    def counters(self) -> KernelCounters:
        return KernelCounters(self.received + self.dropped, self.dropped, 0)

    def exclude(self, connections: Sequence[Connection]) -> None:
        self.exclusions = tuple(connections)

    def start(self) -> None:
        self.calls.append("start")
        if self.refused is not None:
            raise self.refused

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")


class Links:
    """Which interfaces are up, by a test's will."""

    def __init__(self, **names: int) -> None:
        self.names = names
        self.closed = 0

    def up(self) -> dict[int, str]:
        return {index: name for name, index in self.names.items()}

    def close(self) -> None:
        self.closed += 1


class World:
    """An agent, the sources that it opens, and whether opening has come to its end.

    Attributes:
        slow: Opening waits for `finish_opening`.
        failure: Raised by opening.
        addresses: Of every interface.
        refusals: Raised by starting an interface, by its name.
        links: Of the network namespace, where interfaces may be opened later.
        indexes: Of interfaces.
    """

    def __init__(self, monkeypatch: Any, credentials: Credentials, **settings: Any) -> None:
        self.reactor = Reactor()
        tls = ServerTLS(credentials.certificate, credentials.private_key, credentials.ca, (API_NAME,))
        config = AgentConfig(
            id="agent/0",
            listen=AgentListenConfig(tls=tls),
            capture=CaptureConfig(max_captures=settings.pop("max_captures", 16)),
            **settings,
        )
        self.agent = Agent(config, self.reactor)
        self.sources: list[Source] = []
        self.opened: list[tuple[CaptureStart, Any, Optional[str]]] = []
        self.slow = False
        self.failure: Optional[Exception] = None
        self.addresses: tuple[str, ...] = ("192.0.2.1/24",)
        self.refusals: dict[str, CaptureFailed] = {}
        self.links: Optional[Links] = None
        self.indexes: dict[str, int] = {}
        self._waiting: list[Callable[[], None]] = []
        for module in (session_module, presence_module):
            monkeypatch.setattr(module, "open_capture", self._open)
        monkeypatch.setattr(self.agent.threads, "run", self._in_new_thread)

    def _open(self, opening: Opening) -> Opened:
        start, config, namespace = opening.start, opening.config, opening.namespace
        self.opened.append((start, opening.ends, namespace))
        if self.failure is not None:
            raise self.failure
        names = opening.names or start.interfaces or (config.capture.default_device,)
        opened = [Source(name, start.filter, start.snaplen) for name in names]
        for source in opened:
            source.interface = replace(
                source.interface, addresses=self.addresses, index=self.indexes.get(source.interface.name, 1)
            )
            source.refused = self.refusals.get(source.interface.name)
        self.sources += opened
        gone = partial(mount_gone, namespace, identity(namespace)) if namespace else lambda: None
        return Opened(opened, gone, links=self.links)  # type: ignore[arg-type]

    def _in_new_thread(self, user: str, function: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()

        def run() -> None:
            try:
                result = function()
            except Exception:
                done.errback()
            else:
                done.callback(result)

        if self.slow:
            self._waiting.append(run)
        else:
            run()
        return done

    def finish_opening(self) -> None:
        """Let what waits to be opened (or closed) come to its end."""
        self.slow = False
        while self._waiting:
            self._waiting.pop(0)()


class Conversation:
    """An api that talks with one session of an agent."""

    def __init__(self, world: World, *, greet: bool = True) -> None:
        self.session = AgentSession(world.agent)
        self.transport = Transport(world.reactor, self.session)
        self.session.makeConnection(self.transport)  # type: ignore[arg-type]
        self.session.handshakeCompleted()
        self._api = Caller()
        self.log: list[Event] = []
        self.hear()
        if greet:
            self.say(API)

    def say(self, *messages: Message) -> list[Message | Packets]:
        """Say something and return what is answered at once."""
        for message in messages:
            if isinstance(message, CaptureStart):
                self._api.start(message)
            self.session.dataReceived(encode_message(message))
        return self.hear()

    def hear(self) -> list[Message | Packets]:
        """What the agent has said since the last time."""
        new = list(self._api.receive(self.transport.take()))
        self.log += new
        return [event.message for event in new]

    @property
    def payloads(self) -> list[bytes]:
        """The packets that came so far, one per frame."""
        return [bytes(event.message.records)[16:] for event in self.log if isinstance(event.message, Packets)]

    @property
    def over(self) -> bool:
        """Whether END or ERROR was said."""
        return self._api.ended


def errors(messages: list[Any]) -> list[Error]:
    return [message for message in messages if isinstance(message, Error)]
