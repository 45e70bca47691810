"""An api without a network: scripted agents behind its links, and a sink that keeps everything."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from typing import Any, Callable, Optional

from twisted.internet.task import Clock

from demo.certificates import AGENT_NAME, Credentials
from pcapd import COMPATIBILITY_LEVEL
from pcapd.api.capture import agentlink as agentlink_module
from pcapd.api.capture.life import Capture
from pcapd.api.resolvers.base import Target
from pcapd.config.schema import (
    AgentsConfig,
    ApiConfig,
    ApiLimits,
    ClientTLS,
    StaticConfig,
    StaticTarget,
    StaticUser,
)
from pcapd.errors import RequestError
from pcapd.wire import (
    ApiTraffic,
    Callee,
    CaptureStart,
    Counters,
    End,
    EndReason,
    Error,
    Hello,
    Message,
    Notice,
    NoticeType,
    Ping,
    Source,
    Stats,
    Stop,
)
from tests.kit.unit.transport import Transport

#: Alice's; no log line may ever hold it.
TOKEN = "Tk-7f3a9c-very-secret"
BOB = "Tk-of-bob-also-secret"


def record(us: int, payload: bytes = b"12345678") -> bytes:
    return struct.pack("<4I", us // 10**6, us % 10**6, len(payload), len(payload)) + payload


class ScriptedAgent:
    """An agent at the other end of a link; it does what a test tells it."""

    def __init__(self, link: Any, transport: Transport) -> None:
        self.link = link
        self.transport = transport
        self.session = Callee(CaptureStart)
        self.heard: list[Message] = []

    @property
    def name(self) -> str:
        return str(self.link.target.name)

    def send(self, data: bytes) -> None:
        """Let bytes arrive at the api, which does not read on when it has aborted the connection."""
        if self.transport.connected and self.transport.closed != "aborted":
            self.link.dataReceived(data)

    def listen(self) -> list[Any]:
        """Take what the api has said; PINGs are answered."""
        new = [event.message for event in self.session.receive(self.transport.take())]
        self.heard += new
        for message in new:
            if isinstance(message, Ping):
                self.send(self.session.pong(message, message.sent_us + 5))
        return new

    def greet(self, level: int = COMPATIBILITY_LEVEL) -> None:
        """Say HELLO and hear what follows, until START is there."""
        self.link.handshakeCompleted()
        self.send(self.session.hello(Hello(level, "agent", f"agent-of-{self.name}", "1.0", 1)))
        self.listen()
        self.listen()

    def start(self, *interfaces: str) -> None:
        """Greet, and open sources."""
        self.greet()
        self.open(*interfaces)

    def open(self, *interfaces: str) -> None:
        """Open sources."""
        for number, interface in enumerate(interfaces or ("eth0",), start=1):
            source = Source(
                "a-name-of-its-own",
                interface,
                1,
                262144,
                "udp",
                agent=f"agent-of-{self.name}",
                excludes_api=True,
            )
            self.send(self.session.source(number, source))

    def deliver(self, records: bytes, number: int = 1) -> None:
        """Send a batch."""
        header, payload = self.session.packets(number, records)
        self.send(header + bytes(payload))

    def stats(self, received: int, dropped: int = 0, number: int = 1, *, final: bool = False) -> None:
        """Send counters."""
        self.send(self.session.stats(number, Stats(received, dropped, 0, received - dropped, 9, final)))

    def end(self, reason: EndReason = EndReason.STOPPED) -> None:
        """Say END."""
        self.send(self.session.end(End(reason, sources=(Counters(1, 0, 0, 0, 0),))))

    def refuse(self, code: str, message: str, hint: str = "") -> None:
        """Say ERROR."""
        self.send(self.session.end(Error(code, message, hint)))

    @property
    def started(self) -> Optional[CaptureStart]:
        """The START that it heard."""
        return next((m for m in self.heard if isinstance(m, CaptureStart)), None)

    @property
    def stopped(self) -> bool:
        """Whether it heard STOP."""
        self.listen()
        return any(isinstance(message, Stop) for message in self.heard)


class Network:
    """Stands for `connect_tls` and `outgoing_socket`: every dialled agent is a `ScriptedAgent`."""

    def __init__(self, monkeypatch: Any, reactor: Clock) -> None:
        self._reactor = reactor
        self._ports = iter(range(50_001, 60_000))
        self.agents: dict[str, ScriptedAgent] = {}
        #: Called when an agent is dialled.
        self.dialled: Callable[[], None] = lambda: None
        #: How many sockets the machine still gives.
        self.sockets = 10_000
        monkeypatch.setattr(agentlink_module, "connect_tls", self._connect)
        monkeypatch.setattr(agentlink_module, "outgoing_socket", self._reserve)

    def _reserve(self, host: str) -> Any:
        if not self.sockets:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.sockets -= 1
        port = next(self._ports)

        class Reserved:
            def getsockname(self) -> tuple[str, int]:
                return "0.0.0.0", port

        return Reserved()

    def _connect(
        self,
        reactor: Any,
        sock: Any,
        address: tuple[str, int],
        link: Any,
        context: Any,
        verify: Any,
        timeout: float,
    ) -> Transport:
        self.dialled()
        transport = Transport(self._reactor, link, here=("192.0.2.1", 41_000), there=address)
        self.agents[link.target.name] = ScriptedAgent(link, transport)
        link.makeConnection(transport)
        return transport

    def __getitem__(self, name: str) -> ScriptedAgent:
        return self.agents[name]


class Sink:
    """Keeps what a capture gives."""

    grace = 0.0
    unattended = False

    def __init__(self) -> None:
        self.sources: dict[int, Source] = {}
        self.records: dict[int, bytes] = {}
        self.last_stats: dict[int, Stats] = {}
        self.notices: list[Notice] = []
        self.ends: list[End] = []
        self.errors: list[RequestError] = []
        #: Packets are not taken any more.
        self.leaving = False

    @property
    def over(self) -> bool:
        return bool(self.ends or self.errors)

    def source(self, number: int, source: Source) -> None:
        assert not self.over and number not in self.sources
        self.sources[number] = source

    def packets(self, number: int, records: bytes) -> bool:
        assert not self.over and number in self.sources
        if self.leaving:
            return False
        self.records[number] = self.records.get(number, b"") + bytes(records)
        return True

    def stats(self, number: int, stats: Stats) -> None:
        assert not self.over and number in self.sources
        self.last_stats[number] = stats

    def notice(self, notice: Notice) -> None:
        assert not self.over
        self.notices.append(notice)

    def end(self, end: End) -> None:
        assert not self.over
        self.ends.append(end)

    def error(self, error: RequestError) -> None:
        assert not self.over
        self.errors.append(error)


def targets(*names: str) -> tuple[Target, ...]:
    """Targets on agents of their own."""
    return tuple(Target(name, f"198.51.100.{at}", 9494, name) for at, name in enumerate(names, start=1))


def config(credentials: Credentials, **limits: Any) -> ApiConfig:
    """An api with three targets; alice may name all, bob only web-0."""
    tls = ClientTLS(credentials.certificate, credentials.private_key, credentials.ca, AGENT_NAME)
    users = {"alice": (TOKEN, ("*",)), "bob": (BOB, ("web-0",))}
    return ApiConfig(
        id="api/0",
        agents=AgentsConfig(tls=tls),
        limits=ApiLimits(**limits),
        static=StaticConfig(
            users={
                name: StaticUser(hashlib.sha256(token.encode()).hexdigest(), allowed)
                for name, (token, allowed) in users.items()
            },
            targets={
                target.name: StaticTarget(target.host, target.port, target.namespace)
                for target in targets("web-0", "web-1", "web-2")
            },
        ),
    )


def notices(sink: Sink, origin: str) -> list[NoticeType]:
    return [notice.type for notice in sink.notices if notice.origin == origin]


#: The api's own addresses and ports, which every agent leaves out.
TRAFFIC = ApiTraffic(("192.0.2.1",), 8080, None, (9494,))

Make = Callable[..., Capture]
