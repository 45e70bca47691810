"""The HTTP front: every answer has its status and its words, and an incomplete file never looks complete."""

from __future__ import annotations

import errno
import json
import os
import socket
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Iterator, Optional
from urllib.parse import quote

import pytest
from api_doubles import BOB, TOKEN, HttpTransport, Network, config, record, targets
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import FilteringLogObserver, PredicateResult, globalLogPublisher
from twisted.python.failure import Failure

from demo.certificates import Credentials
from pcapd import COMPATIBILITY_LEVEL
from pcapd.api.http.clientfiles import ClientFilesResource
from pcapd.api.http.download import parse_query
from pcapd.api.http.web import ClientInfo
from pcapd.api.resolvers.base import Resolved
from pcapd.api.resolvers.static import StaticResolver
from pcapd.api.service import Api
from pcapd.config.schema import ApiLimits
from pcapd.errors import BadRequest, LimitReached, TargetNotFound
from pcapd.limits import (
    ANSWER_RATE_MIN,
    ANSWER_TIMEOUT,
    AUDIT_CHECK_INTERVAL,
    CLIENT_SILENCE_TIMEOUT,
    HOLD_BACK_TIME,
    LATE_GRACE,
    PIPELINED_MAX,
    REQUEST_TIMEOUT,
    SNAPLEN_MAX,
    TCP_USER_TIMEOUT,
)
from pcapd.net.logs import JsonLines
from pcapd.wire import App, EndReason, Request, Source

GENEROUS = {"per_user": 5, "concurrent_captures": 50}


class Answer:
    """One exchange with the site, in memory."""

    def __init__(
        self, front: Front, path: str, method: str, token: Optional[str], headers: dict[str, str], body: bytes
    ) -> None:
        self.transport = HttpTransport()
        self._channel = front.site.buildProtocol(self.transport.getPeer())
        self._channel.makeConnection(self.transport)
        lines = [f"{method} {path} HTTP/1.1", "Host: api"]
        if token is not None:
            lines.append(f"Authorization: bearer {token}")
        if body:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._channel.dataReceived("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body)

    @property
    def raw(self) -> bytes:
        return self.transport.value()

    @property
    def status(self) -> int:
        """0 while there is none."""
        return int(self.raw.split()[1]) if self.raw else 0

    @property
    def headers(self) -> str:
        return self.raw.partition(b"\r\n\r\n")[0].decode().lower()

    @property
    def body(self) -> bytes:
        """Without the marks of the chunks."""
        rest = self.raw.partition(b"\r\n\r\n")[2]
        if "transfer-encoding: chunked" not in self.headers:
            return rest
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        return body

    @property
    def complete(self) -> bool:
        """Whether the last chunk has come."""
        return self.raw.endswith(b"\r\n0\r\n\r\n")

    @property
    def error(self) -> dict[str, str]:
        """The one error of an error body."""
        assert "content-type: application/json" in self.headers
        (error,) = json.loads(self.body)["errors"]
        assert set(error) == {"code", "title", "detail"}
        return dict(error)

    @property
    def over(self) -> bool:
        """Whether the connection is free for another request."""
        return not self._channel.requests

    def leave(self) -> None:
        """The client goes."""
        self._channel.connectionLost(Failure(ConnectionDone()))


class Front:
    """An api and its site."""

    def __init__(self, reactor: Clock, credentials: Credentials, **limits: Any) -> None:
        self.reactor = reactor
        self.api = Api(config(credentials, **limits), reactor)
        self.site = self.api._site
        self._answers: list[Answer] = []

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        token: Optional[str] = TOKEN,
        body: bytes = b"",
        **headers: str,
    ) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = Answer(self, path, method, token, named, body)
        self._answers.append(answer)
        return answer

    def close(self) -> None:
        for answer in self._answers:
            answer.leave()
        self.reactor.advance(0)
        for call in self.reactor.getDelayedCalls():
            call.cancel()


@pytest.fixture
def front(reactor: Clock, network: Network, credentials: Credentials) -> Iterator[Front]:
    front = Front(reactor, credentials)
    yield front
    front.close()


def limited(reactor: Clock, credentials: Credentials, **limits: Any) -> Front:
    return Front(reactor, credentials, **limits)


def fired(deferred: Any) -> bool:
    return bool(deferred.called)


def test_an_app_is_refused_where_no_resolver_knows_apps(front: Front) -> None:
    """A request for an app never becomes a capture of nothing."""
    client = ClientInfo("192.0.2.1:5", "request-1", TOKEN)
    begun = front.api.begin(Request((), app=App("a-guid")), TOKEN, client, object())
    failures: list[Failure] = []
    begun.addErrback(failures.append)
    (failure,) = failures
    assert isinstance(failure.value, TargetNotFound) and "Cloud Foundry apps" in failure.value.message


# --- pages -------------------------------------------------------------------------


def test_health_of_an_api_that_is_well(front: Front) -> None:
    """Anybody may ask; the answer names version, level and resolvers."""
    answer = front.ask("/health", token=None)
    assert answer.status == 200
    body = json.loads(answer.body)
    assert body["healthy"] is True and body["compatibility_level"] == COMPATIBILITY_LEVEL
    assert body["resolvers"] == {"static": {"healthy": True, "message": "ready"}}
    assert set(body) == {"healthy", "compatibility_level", "version", "message", "resolvers"}


def test_health_of_an_api_whose_resolver_is_not_ready(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, and it says which one; the reason is in the log only."""
    monkeypatch.setattr(StaticResolver, "healthy", False)
    answer = front.ask("/health", token=None)
    body = json.loads(answer.body)
    assert answer.status == 503 and body["healthy"] is False
    assert body["message"] == "a resolver is not ready"
    assert body["resolvers"] == {"static": {"healthy": False, "message": "not ready"}}


def test_health_of_an_api_that_shuts_down(front: Front) -> None:
    """503 takes it out of a load balancer while it drains."""
    front.api.drain()
    answer = front.ask("/health", token=None)
    assert answer.status == 503 and json.loads(answer.body)["message"] == "shutting down"


@pytest.mark.parametrize("path", ["/", "/nothing", "/v1", "/v1/nothing", "/metrics", "/..%2fetc"])
def test_pages_that_are_not_there(front: Front, path: str) -> None:
    """404 says what there is; metrics are not on this port."""
    answer = front.ask(path)
    assert answer.status == 404 and "/capture" in answer.error["detail"]


def test_the_stream_is_for_websockets(front: Front) -> None:
    """A plain GET is told what this is."""
    answer = front.ask("/v1/stream")
    assert answer.status == 400 and "WebSocket" in answer.error["title"]


@pytest.mark.parametrize("path", ["/capture?target=web-0", "/health", "/nothing"])
def test_bodies_are_refused(front: Front, path: str) -> None:
    """413 comes before a byte of the body is stored, and the connection is closed."""
    answer = front.ask(path, method="POST", body=b"x" * 1000)
    assert answer.status == 413 and answer.raw.count(b"HTTP/1.1") == 1
    assert answer.transport.disconnecting


def test_a_request_that_takes_its_time(front: Front) -> None:
    """However steadily its bytes come: the head has REQUEST_TIMEOUT as a whole."""
    transport = HttpTransport()
    channel = front.site.buildProtocol(transport.getPeer())
    channel.makeConnection(transport)
    for byte in b"GET /health HTT":
        assert not transport.disconnecting
        channel.dataReceived(bytes([byte]))
        front.reactor.advance(REQUEST_TIMEOUT / 15)
    assert transport.disconnecting
    channel.connectionLost(Failure(ConnectionDone()))


def test_a_client_on_a_socket_for_both_families(
    front: Front, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address is the one that its packets carry."""
    monkeypatch.setattr(HttpTransport, "getPeer", lambda _: IPv6Address("TCP", "::ffff:203.0.113.7", 5555))
    front.ask("/capture?target=web-0")
    network["web-0"].start()
    (capture,) = front.api._captures
    assert capture.facts.asked_from == {"client": "203.0.113.7:5555"}


def test_a_client_is_given_up_by_tcp(front: Front) -> None:
    """The kernel is told how long it may take nothing, in milliseconds."""
    answer = front.ask("/capture?target=web-0")
    assert answer.transport.options == {
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 1000 * int(TCP_USER_TIMEOUT)
    }


# --- who may, and how much -----------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "token", "status", "code", "user"),
    [
        ("/capture?target=web-0", None, 401, "unauthenticated", None),
        ("/capture?target=web-0", "wrong", 401, "unauthenticated", None),
        ("/capture?target=web-1", BOB, 403, "forbidden", "bob"),
        ("/capture?target=web-9", TOKEN, 404, "target_not_found", "alice"),
        ("/capture?target=web-0&target=web-0", TOKEN, 400, "bad_request", "alice"),
        ("/capture", TOKEN, 400, "bad_request", None),
        ("/capture?target=web-0&snaplen=x", TOKEN, 400, "bad_request", None),
    ],
)
def test_requests_that_are_refused(
    front: Front,
    network: Network,
    events: list[dict[str, Any]],
    path: str,
    token: Optional[str],
    status: int,
    code: str,
    user: Optional[str],
) -> None:
    """Each has its status and code, no agent is dialled, and the user, the target and the client are recorded."""
    answer = front.ask(path, token=token)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert network.agents == {}
    (audit,) = [event for event in events if event.get("audit") == "capture_refused"]
    assert (audit["code"], audit["client"], audit["count"]) == (code, "203.0.113.7:5555", 1)
    assert (audit["reason"], audit.get("user")) == (answer.error["title"], user)
    assert audit.get("targets", [])[:1] == ([path[16:21]] if "target" in path else [])
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_a_token_that_is_no_text(front: Front) -> None:
    """It is nobody's, which is another answer than to a request that makes no sense."""
    answer = front.ask("/capture?target=web-0", token="\udcff")
    assert (answer.status, answer.error["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("header", [f"Basic {TOKEN}", TOKEN, f"bearer-{TOKEN}", "bearer", "bearer  "])
def test_a_token_is_a_bearers(front: Front, header: str) -> None:
    """What comes under another scheme, or under none, is no token."""
    answer = front.ask("/capture?target=web-0", token=None, Authorization=header)
    assert answer.status == 401 and "no token was given" in answer.error["title"]


def test_the_token_is_not_taken_from_the_url(front: Front) -> None:
    """An argument named token is an unknown argument, for routers log URLs."""
    answer = front.ask("/capture?target=web-0&token=abc", token=None)
    assert answer.status == 400 and "token is not a known argument" in answer.error["title"]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"per_user": 1}, "you already run 1"),
        ({"concurrent_captures": 1}, "1 captures run already"),
    ],
)
def test_too_many_captures(
    reactor: Clock, network: Network, credentials: Credentials, limits: dict[str, int], words: str
) -> None:
    """One more than the limit is refused with 429, and let in when the first is over."""
    front = limited(reactor, credentials, **{**GENEROUS, **limits})
    first = front.ask("/capture?target=web-0")
    second = front.ask("/capture?target=web-1")
    assert second.status == 429 and words in second.error["title"]
    first.leave()
    assert front.ask("/capture?target=web-1").status == 0  # it waits for its agent
    front.close()


def test_the_limit_per_user_is_each_users_own(
    reactor: Clock, network: Network, credentials: Credentials
) -> None:
    """What alice runs does not keep bob from running his."""
    front = limited(reactor, credentials, per_user=1)
    front.ask("/capture?target=web-1")
    assert front.ask("/capture?target=web-0", token=BOB).status == 0
    front.close()


def test_people_of_one_name(
    reactor: Clock, network: Network, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two users whom different authorities call alice have a limit each; one with two names has one."""
    front = limited(reactor, credentials, per_user=1)
    for name, identity, status in (("alice", "a", 0), ("alice", "b", 0), ("alison", "a", 429)):
        found = Resolved(name, targets("web-0"), identity=identity)
        monkeypatch.setattr(StaticResolver, "resolve", lambda *_, found=found: succeed(found))
        assert front.ask("/capture?target=web-0").status == status
    front.close()


def test_too_many_targets(reactor: Clock, network: Network, credentials: Credentials) -> None:
    """A request for more targets than allowed is refused as a whole."""
    front = limited(reactor, credentials, max_targets=2)
    answer = front.ask("/capture?target=web-0&target=web-1&target=web-2")
    assert answer.status == 429 and "more than 2 targets" in answer.error["title"]
    assert network.agents == {}
    front.close()


def drain(front: Front) -> list[Any]:
    """Let the api drain; the list gets something when it has drained."""
    drained: list[Any] = []
    front.api.drain().addBoth(drained.append)
    return drained


def test_an_api_that_drains_takes_nothing_new(
    front: Front, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503; nobody is asked about the token, and no agent is dialled."""
    monkeypatch.setattr(StaticResolver, "resolve", lambda *_: fail(AssertionError("it was asked")))
    front.api.drain()
    for path in ("/capture?target=web-0", "/v1/stream"):
        assert front.ask(path).status == 503
    assert network.agents == {}


def test_an_api_that_drains_starts_nothing_that_it_had_begun(
    front: Front, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was still being resolved when the drain began is refused, too."""
    resolved: Deferred[Resolved] = Deferred()
    monkeypatch.setattr(StaticResolver, "resolve", lambda *_: resolved)
    answer = front.ask("/capture?target=web-0")
    front.api.drain()
    resolved.callback(Resolved("alice", targets("web-0"), identity="static:alice"))
    assert (answer.status, answer.error["code"]) == (503, "draining") and network.agents == {}


def test_an_api_that_drains_ends_what_runs(front: Front, network: Network, reactor: Clock) -> None:
    """Running captures are stopped in good order, and their files are complete."""
    answer = front.ask("/capture?target=web-0")
    network["web-0"].start()
    network["web-0"].deliver(record(1_000_000))
    drained = drain(front)
    assert network["web-0"].stopped and not drained
    network["web-0"].end()
    assert answer.complete
    answer.leave()
    reactor.pump([0.1] * 2)
    assert drained


@pytest.mark.parametrize(("timeout", "until"), [(10.0, 10.0), (1.0, 3.5)])
def test_an_api_that_drains_waits_for_its_readers(
    front: Front, network: Network, reactor: Clock, timeout: float, until: float
) -> None:
    """A slow client has the rest of the time to read the end, and 3 s at least; then it is left alone."""
    front.api.config = replace(front.api.config, drain_timeout=timeout)
    answer = front.ask("/capture?target=web-0")
    network["web-0"].start()
    network["web-0"].deliver(record(1_000_000))
    drained = drain(front)
    reactor.advance(0.5)
    network["web-0"].end()
    reactor.pump([0.05] * round((until - 0.5) / 0.05 - 2))
    assert answer.complete and answer.transport.disconnecting and not drained
    reactor.pump([0.05] * 4)
    assert drained


def test_an_api_that_drains_lets_answers_end(front: Front, network: Network, reactor: Clock) -> None:
    """An idle connection is closed; one whose answer is under way only after its last byte."""
    idle, busy = front.ask("/health"), front.ask("/capture?target=web-0")
    network["web-0"].start()
    network["web-0"].deliver(record(1_000_000))
    front.api.config = replace(front.api.config, drain_timeout=0.0)  # its capture goes on
    drain(front)
    reactor.advance(0.0)
    assert idle.transport.disconnecting and not busy.transport.disconnecting
    network["web-0"].end()
    reactor.pump([0.05] * 2)
    assert busy.complete and busy.transport.disconnecting


# --- refusals ---------------------------------------------------------------------------


def refusals(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event.get("audit") == "capture_refused"]


def test_refusals_are_summed_up(front: Front, events: list[dict[str, Any]]) -> None:
    """The first of a client and cause is recorded at once, then one record a second has the number."""
    for _ in range(100):
        front.ask("/capture?target=web-0", token=None)
    assert [event["count"] for event in refusals(events)] == [1]
    front.ask("/capture?target=web-1", token=BOB)
    assert [event["count"] for event in refusals(events)] == [1, 1]
    front.reactor.pump([0.25] * 16)
    front.ask("/capture?target=web-0", token=None)
    found = [(event["code"], event["count"]) for event in refusals(events)]
    assert found == [
        ("unauthenticated", 1),
        ("forbidden", 1),
        ("unauthenticated", 99),
        ("unauthenticated", 1),
    ]


def test_nothing_is_left_unwritten_by_an_api_that_drains(front: Front, events: list[dict[str, Any]]) -> None:
    """Counted refusals are written before the daemon ends."""
    for _ in range(3):
        front.ask("/capture?target=web-0", token=None)
    front.api.drain()
    assert [event["count"] for event in refusals(events)] == [1, 2]


# --- methods ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/health", "GET, HEAD"),
        ("/capture?target=web-0", "GET"),
        ("/v1/stream", "GET"),
        ("/cli/pcapctl", "GET, HEAD"),
    ],
)
def test_methods_that_have_no_meaning(
    front: Front, network: Network, client_file: Path, path: str, allowed: str, events: list[dict[str, Any]]
) -> None:
    """405 lists the supported ones; nothing starts, and an attempt with a token is recorded."""
    for method in {"HEAD", "OPTIONS", "DELETE", "TRACE", "BREW"} - set(allowed.split(", ")):
        answer = front.ask(path, method=method)
        assert answer.status == 405 and f"\nallow: {allowed.lower()}" in answer.headers.replace("\r", "")
        assert method == "HEAD" or answer.error["code"] == "method_not_allowed"
    assert network.agents == {}
    assert bool(refusals(events)) == (path.startswith(("/capture", "/v1")))


@pytest.mark.parametrize("path", ["/health", "/capture", "/nothing", "/cli/pcapctl", "*"])
def test_no_answer_says_what_it_is_made_with(front: Front, client_file: Path, path: str) -> None:
    """There is no Server header."""
    answer = front.ask(path)
    assert answer.status and "\nserver:" not in answer.headers


# --- proxies ------------------------------------------------------------------------------


PROXIES = (ip_network("203.0.113.0/24"), ip_network("192.0.2.9"), ip_network("2001:db8::/64"))


@pytest.mark.parametrize(
    ("trusted", "forwarded", "client"),
    [
        ((), "198.51.100.5", "203.0.113.7:5555"),
        (PROXIES, "", "203.0.113.7:5555"),
        (PROXIES, "198.51.100.5", "198.51.100.5"),
        (PROXIES, "6.6.6.6, 198.51.100.5", "198.51.100.5"),
        (PROXIES, "6.6.6.6, 198.51.100.5, 192.0.2.9, 2001:db8::1", "198.51.100.5"),
        (PROXIES, "198.51.100.5:40123, 203.0.113.9", "198.51.100.5"),
        (PROXIES, "[2001:db8:1::5]:443", "2001:db8:1::5"),
        (PROXIES, "::ffff:198.51.100.5", "198.51.100.5"),
        (PROXIES, "198.51.100.5, unknown, 192.0.2.9", "192.0.2.9"),
        (PROXIES, "fe80::1%evil", "203.0.113.7:5555"),
        (PROXIES, ", ".join(["192.0.2.9"] * 200), "192.0.2.9"),
    ],
)
def test_the_client_behind_a_proxy(
    front: Front, events: list[dict[str, Any]], trusted: Any, forwarded: str, client: str
) -> None:
    """Only what trusted proxies added is used."""
    front.api.config = replace(front.api.config, trusted_proxies=trusted)
    front.ask("/capture?target=web-0", token=None, X_Forwarded_For=forwarded)
    (audit,) = refusals(events)
    assert (audit["client"], "proxy" in audit) == (client, ":5555" not in client)


def test_refusals_are_summed_up_for_the_client_and_not_its_proxy(
    front: Front, events: list[dict[str, Any]]
) -> None:
    """Behind one router a flood of one client does not hide the refusals of another."""
    front.api.config = replace(front.api.config, trusted_proxies=PROXIES)
    for client in ("198.51.100.5", "198.51.100.5", "198.51.100.6"):
        front.ask("/capture?target=web-0", token=None, X_Forwarded_For=client)
    assert [event["client"] for event in refusals(events)] == ["198.51.100.5", "198.51.100.6"]


@pytest.mark.parametrize("trusted", [True, False])
def test_a_routers_request_id_is_kept(front: Front, network: Network, trusted: bool) -> None:
    """A trusted router's id is in the agents' logs; the id of any other client is replaced."""
    front.api.config = replace(front.api.config, trusted_proxies=PROXIES if trusted else ())
    front.ask("/capture?target=web-0", X_Vcap_Request_Id="router-7")
    network["web-0"].start()
    assert network["web-0"].started
    assert (network["web-0"].started.request_id == "router-7") == trusted


@pytest.mark.parametrize("given", ["", "x" * 257, "caf\u00e9", "a\tb"])
def test_a_request_id_that_is_none_is_replaced(front: Front, network: Network, given: str) -> None:
    """Too long or not printable: we make our own."""
    front.api.config = replace(front.api.config, trusted_proxies=PROXIES)
    front.ask("/capture?target=web-0", X_Vcap_Request_Id=given)
    network["web-0"].start()
    assert network["web-0"].started and len(network["web-0"].started.request_id) == 36


# --- the connection -----------------------------------------------------------------------


def test_one_request_at_a_time(front: Front) -> None:
    """The next one is answered in another turn, and not before the client has read the answer."""
    answer = front.ask("/health")
    more = b"GET /health HTTP/1.1\r\nHost: api\r\n\r\n" * 3
    answer._channel.dataReceived(more)
    assert answer.raw.count(b"HTTP/1.1 200") == 1
    answer.transport.producer.pauseProducing()
    front.reactor.pump([0.1] * 5)
    assert answer.raw.count(b"HTTP/1.1 200") == 1
    answer.transport.producer.resumeProducing()
    front.reactor.pump([0.1] * 5)
    assert answer.raw.count(b"HTTP/1.1 200") == 4


def test_what_waits_to_be_answered_is_bounded(front: Front, network: Network) -> None:
    """While a capture runs, only a few more bytes are read from its client."""
    answer = front.ask("/capture?target=web-0")
    network["web-0"].start()
    assert answer.transport.producerState == "producing"
    answer._channel.dataReceived(b"GET /health HTTP/1.1\r\n" * (PIPELINED_MAX // 22 + 1))
    assert answer.transport.producerState == "paused"


def test_an_answer_has_a_time(front: Front) -> None:
    """A client that does not read it in time is disconnected."""
    answer = front.ask("/health")
    answer.transport.producer.pauseProducing()
    front.reactor.pump([ANSWER_TIMEOUT / 10] * 9)
    assert not answer.transport.aborted
    # The clock jumps: a deadline that fires late leaves time to read first.
    front.reactor.pump([ANSWER_TIMEOUT / 10] * 2 + [LATE_GRACE])
    assert answer.transport.aborted


@pytest.mark.parametrize("mebibytes", [0, 1])
def test_a_file_has_more_time(front: Front, client_file: Path, mebibytes: int) -> None:
    """A slow line is enough: 16 KiB a second."""
    size = mebibytes * 1024 * 1024
    client_file.write_bytes(bytes(size))
    answer = front.ask("/cli/pcapctl")
    answer.transport.producer.pauseProducing()
    front.reactor.advance(ANSWER_TIMEOUT + size / ANSWER_RATE_MIN - 1)
    assert not answer.transport.aborted
    front.reactor.pump([2, LATE_GRACE])
    assert answer.transport.aborted
    answer.leave()


def test_a_capture_has_all_the_time(front: Front, network: Network) -> None:
    """It has no time limit while it runs; its rest has one, and counts as running until it is read."""
    answer = front.ask("/capture?target=web-0")
    network["web-0"].start()
    assert answer.transport.keeps_its_place
    answer.transport.producer.pauseProducing()
    front.reactor.advance(ANSWER_TIMEOUT * 20)
    assert not answer.transport.aborted
    (capture,) = front.api._captures
    capture.stop(EndReason.STOPPED)
    network["web-0"].end()
    assert not answer.transport.keeps_its_place and front.api._captures == {capture}
    front.reactor.advance(CLIENT_SILENCE_TIMEOUT)
    assert answer.transport.aborted
    answer.leave()
    assert front.api._captures == set()


# --- no record, no capture ---------------------------------------------------------------


class Disk:
    """Where the audit records go, which may be full."""

    def __init__(self) -> None:
        self.full = False
        self.lines: list[dict[str, Any]] = []

    def write(self, line: str) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.lines.append(json.loads(line))

    def flush(self) -> None:
        pass

    def names(self) -> list[str]:
        return [line["audit"] for line in self.lines]


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    observer = FilteringLogObserver(
        JsonLines(disk),
        [lambda event: PredicateResult.maybe if "audit" in event else PredicateResult.no],
    )
    globalLogPublisher.addObserver(observer)
    yield disk
    globalLogPublisher.removeObserver(observer)


def test_no_record_no_capture(front: Front, network: Network, disk: Disk) -> None:
    """503 says why, health and a metric show it, and it is noticed when records can be written again."""
    front.api._trail.start()
    disk.full = True
    refused = front.ask("/capture?target=web-0")
    assert (refused.status, refused.error["code"]) == (503, "audit_unavailable")
    assert "No space left on device" in refused.error["title"]
    assert network.agents == {} and front.api._captures == set()
    health = front.ask("/health")
    assert health.status == 503
    assert json.loads(health.body)["message"] == "audit records cannot be written"
    assert front.api.metrics.audit_failures._value.get() > 0
    disk.full = False
    front.reactor.advance(AUDIT_CHECK_INTERVAL)
    assert front.ask("/health").status == 200
    assert disk.names() == ["audit_resumed"] and disk.lines[0]["lost"] == 1
    assert front.ask("/capture?target=web-0").status == 0
    assert disk.names() == ["audit_resumed", "capture_started"]
    front.api._trail.stop()


def test_a_capture_ends_when_nothing_can_be_recorded_any_more(
    front: Front, network: Network, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In good order, and complete up to then."""
    answer = front.ask("/capture?target=web-0")
    network["web-0"].start()
    network["web-0"].deliver(record(1_000_000))
    disk.full = True
    assert front.ask("/capture?target=web-1").status == 503
    assert network["web-0"].stopped
    network["web-0"].end()
    assert answer.complete and answer.body[24:] == record(1_000_000)


def test_no_record_no_extension(front: Front, network: Network, disk: Disk) -> None:
    """A target that appears while a capture runs is not captured without a record."""
    front.ask("/capture?target=web-0")
    network["web-0"].start()
    (capture,) = front.api._captures
    disk.full = True
    assert not capture.add_target(targets("web-0", "web-1")[1])
    assert "web-1" not in network.agents


# --- a capture as a file -----------------------------------------------------------------


def test_the_status_waits_for_the_first_agent(front: Front, network: Network) -> None:
    """Nothing is answered before a capture runs; then 200 and the file's header."""
    answer = front.ask("/capture?target=web-0")
    network["web-0"].greet()
    assert answer.raw == b""
    network["web-0"].open()
    front.reactor.advance(0.05)
    assert answer.status == 200 and "application/vnd.tcpdump.pcap" in answer.headers
    assert answer.body[:4] == b"\xd4\xc3\xb2\xa1"


def test_a_bad_filter_is_an_honest_400(front: Front, network: Network) -> None:
    """The agent's words reach the user with the status that says whose fault it is."""
    answer = front.ask("/capture?filter=udp+and&target=web-0")
    network["web-0"].greet()
    network["web-0"].refuse("bad_filter", "syntax error, at: 'and'")
    assert answer.status == 400
    assert answer.error == {"code": "bad_filter", "title": "syntax error, at: 'and'", "detail": ""}


def test_nobody_there_is_502(front: Front, network: Network) -> None:
    """An agent that cannot be reached is not the user's fault."""
    answer = front.ask("/capture?target=web-0")
    network["web-0"].transport.leave()
    assert answer.status == 502 and answer.error["code"] == "agent_unavailable"


def test_a_file_that_ends_well_is_complete(front: Front, network: Network) -> None:
    """All packets are in it, and the response has its end."""
    answer = front.ask("/capture?target=web-0&duration=5")
    network["web-0"].start()
    network["web-0"].deliver(record(1_000_000) + record(2_000_000))
    front.reactor.advance(5)
    assert network["web-0"].stopped
    network["web-0"].end()
    assert answer.complete and answer.body[24:] == record(1_000_000) + record(2_000_000)


def test_pcapng_by_accept(front: Front, network: Network) -> None:
    """Who asks for pcapng gets it."""
    answer = front.ask("/capture?target=web-0", Accept="application/x-pcapng")
    network["web-0"].start()
    front.reactor.advance(0.05)
    assert "application/x-pcapng" in answer.headers and answer.body[:4] == b"\x0a\x0d\x0d\x0a"


def test_a_count_is_exact(front: Front, network: Network) -> None:
    """The file has so many packets, the agents are stopped, and the response ends."""
    answer = front.ask("/capture?target=web-0&count=2&order=false")
    network["web-0"].start()
    network["web-0"].deliver(b"".join(record(us) for us in range(5)))
    front.reactor.advance(0.05)
    assert network["web-0"].stopped
    network["web-0"].end()
    assert answer.complete and answer.body[24:] == record(0) + record(1)


@pytest.mark.parametrize("size", ["1", "100"])
def test_a_small_limit_of_bytes_ends_the_response(front: Front, network: Network, size: str) -> None:
    """However small it is, the response ends as soon as it is reached."""
    answer = front.ask(f"/capture?target=web-0&max_bytes={size}")
    network["web-0"].start()
    for us in range(8):
        network["web-0"].deliver(record(us))
    assert network["web-0"].stopped
    network["web-0"].end()
    assert answer.complete and len(answer.body) <= max(24, int(size))


@pytest.mark.parametrize(
    "how",
    [
        "the last agent is lost",
        "one of two is lost",
        "one of two is lost, and the time is up",
        "one of two lies",
        "all end by themselves",
    ],
)
def test_a_file_that_lacks_something_does_not_look_complete(front: Front, network: Network, how: str) -> None:
    """After the first byte only a broken connection can tell, and it does."""
    names = ["web-0"] if "last" in how else ["web-0", "web-1"]
    answer = front.ask("/capture?duration=5&" + "&".join(f"target={name}" for name in names))
    for name in names:
        network[name].start()
    front.reactor.advance(0.05)
    if how == "one of two lies":
        network["web-1"].deliver(b"nonsense")
        front.reactor.advance(0)
    elif how == "all end by themselves":
        network["web-1"].end()
    else:
        network[names[-1]].transport.leave()
    if "time is up" in how:
        front.reactor.advance(5)
    if len(names) == 2:
        network["web-0"].end()
    front.reactor.advance(0)
    assert answer.status == 200 and not answer.complete
    assert answer.transport.disconnecting or answer.transport.aborted


def test_mixed_link_types_break_a_classic_file_off(front: Front, network: Network) -> None:
    """A second source that does not fit into the file ends the response without its end."""
    answer = front.ask("/capture?target=web-0")
    agent = network["web-0"]
    agent.start()
    front.reactor.advance(0.05)
    other = Source("web-0", "tun0", 101, 96, "", excludes_api=True)
    agent.send(agent.session.source(2, other))
    assert answer.status == 200 and not answer.complete and answer.transport.aborted


def test_what_follows_mixed_link_types_is_nothing(
    front: Front, network: Network, events: list[dict[str, Any]]
) -> None:
    """It may come before the client's connection is gone: the capture is over, for the reason that is true."""
    answer = front.ask("/capture?target=web-0&target=web-1")
    agent = network["web-0"]
    agent.start()
    network["web-1"].start()
    front.reactor.advance(0.05)
    before = answer.raw
    agent.send(
        agent.session.source(2, Source("web-0", "tun0", 101, 96, "", excludes_api=True))
        + b"".join(agent.session.packets(2, record(1)))
    )
    front.reactor.advance(5)
    assert answer.raw == before
    assert {network[name].transport.closed for name in ("web-0", "web-1")} == {"aborted"}
    *_, ended = [event for event in events if event.get("audit") == "capture_ended"]
    assert "link type" in ended["detail"]


def test_a_client_that_leaves_ends_its_capture(front: Front, network: Network) -> None:
    """Every agent is left at once."""
    answer = front.ask("/capture?target=web-0")
    network["web-0"].start()
    answer.leave()
    front.reactor.advance(0)
    assert network["web-0"].transport.closed == "aborted" and front.api._captures == set()
    assert front.reactor.getDelayedCalls() == []


def test_a_client_that_leaves_before_its_capture(
    front: Front, network: Network, monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]]
) -> None:
    """Nothing is resolved for it any more; nothing is started or counted, and it takes nobody's place."""
    left: list[Any] = []
    monkeypatch.setattr(StaticResolver, "resolve", lambda *_: Deferred(left.append))
    answer = front.ask("/capture?target=web-0")
    answer.leave()
    assert len(left) == 1
    assert network.agents == {} and front.api._captures == set()
    assert front.api.metrics.captures_active.collect()[0].samples[0].value == 0
    (record,) = [event for event in events if "audit" in event]
    assert record["audit"] == "capture_refused" and "left before" in record["reason"]
    assert answer.raw == b""


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [("5 s are over", 502, "capture_failed"), ("the api is shutting down", 503, "draining")],
)
def test_a_capture_that_ends_before_it_begins_is_no_file(
    front: Front, network: Network, reason: str, status: int, code: str
) -> None:
    """An agent that still opens when all is over leaves nothing that could be taken for a capture."""
    front.api.config = replace(front.api.config, limits=ApiLimits(max_duration=5.0))
    answer = front.ask("/capture?target=web-0")
    network["web-0"].greet()
    if "api" in reason:
        front.api.drain()
    else:
        front.reactor.advance(5)
    assert network["web-0"].stopped
    network["web-0"].end()
    assert (answer.status, answer.error["code"]) == (status, code)
    assert reason in answer.error["title"]


def test_a_slow_client_slows_the_agents(front: Front, network: Network) -> None:
    """When its connection is full, the agents' are not read; when it is not, they are."""
    answer = front.ask("/capture?target=web-0")
    network["web-0"].start()
    answer.transport.producer.pauseProducing()
    assert network["web-0"].transport.pressure == ["pause"]
    answer.transport.producer.resumeProducing()
    assert network["web-0"].transport.pressure == ["pause", "resume"]


def test_the_order_does_not_suffer_from_a_slow_client(front: Front, network: Network) -> None:
    """While the agents are not read none is waited for in vain: what comes after the pause is put in order."""
    answer = front.ask("/capture?target=web-0&target=web-1&duration=5")
    for name in ("web-0", "web-1"):
        network[name].start()
    network["web-0"].deliver(record(2_000_000))
    answer.transport.producer.pauseProducing()
    front.reactor.pump([0.05] * round(3 * HOLD_BACK_TIME / 0.05))
    answer.transport.producer.resumeProducing()
    network["web-1"].deliver(record(1_000_000))
    front.reactor.advance(5)
    for name in ("web-0", "web-1"):
        network[name].end()
    assert answer.complete and answer.body[24:] == record(1_000_000) + record(2_000_000)


# --- the client for download ---------------------------------------------------------------


@pytest.fixture
def client_file(front: Front, tmp_path: Path) -> Path:
    """A file below ``/cli/``."""
    front.site.resource.putChild(b"cli", ClientFilesResource(tmp_path))
    (tmp_path / "pcapctl").write_bytes(b"a client")
    return tmp_path / "pcapctl"


def test_only_the_head_of_a_file(front: Front, client_file: Path) -> None:
    """It is there at once: not a byte of the file is read for it."""
    answer = front.ask("/cli/pcapctl", method="HEAD", token=None)
    assert (answer.status, answer.body) == (200, b"")
    assert "content-length: 8" in answer.headers and answer.over


def test_a_file_that_the_client_has(front: Front, client_file: Path) -> None:
    """304, and that is all."""
    tag = front.ask("/cli/pcapctl", method="HEAD").headers.partition("etag: ")[2].split()[0]
    answer = front.ask("/cli/pcapctl", If_None_Match=tag)
    assert (answer.status, answer.body) == (304, b"") and answer.over


def test_what_is_no_regular_file_is_not_there(front: Front, client_file: Path) -> None:
    """Nobody waits for the writer of a pipe."""
    os.mkfifo(client_file.with_name("pipe"))
    answer = front.ask("/cli/pipe")
    assert (answer.status, answer.error["code"]) == (404, "target_not_found")


@pytest.mark.parametrize("name", [".hidden", "link", "pcapctl/", "pcapctl/x", "below%2ffile"])
def test_nothing_but_files_of_harmless_names(front: Front, client_file: Path, name: str) -> None:
    """Nothing hidden, no links, no way down."""
    directory = client_file.parent
    (directory / ".hidden").touch()
    (directory / "link").symlink_to("pcapctl")
    (directory / "below").mkdir()
    (directory / "below" / "file").touch()
    answer = front.ask(f"/cli/{name}")
    assert (answer.status, answer.error["code"]) == (404, "target_not_found")


# --- what a resolver says ------------------------------------------------------------------


def test_a_bug_is_not_told(front: Front, monkeypatch: pytest.MonkeyPatch, logged_failures: Any) -> None:
    """The client learns that the api failed; how, is in the log."""
    monkeypatch.setattr(StaticResolver, "resolve", lambda *_: fail(ZeroDivisionError("inner workings")))
    answer = front.ask("/capture?target=web-0")
    assert answer.status == 502 and "its log has the details" in answer.error["title"]
    assert b"inner workings" not in answer.raw
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


@pytest.mark.parametrize("seconds", [None, 42])
def test_when_to_come_back(front: Front, monkeypatch: pytest.MonkeyPatch, seconds: Optional[int]) -> None:
    """What Cloud Controller says of that is passed on; nothing is made up."""
    error = LimitReached("too often")
    error.retry_after = seconds
    monkeypatch.setattr(StaticResolver, "resolve", lambda *_: fail(error))
    answer = front.ask("/capture?target=web-0")
    assert answer.status == 429
    assert ("retry-after: 42" in answer.headers) == (seconds is not None)
    assert ("retry-after" in answer.headers) == (seconds is not None)


def test_only_apps_are_followed(front: Front, network: Network) -> None:
    client = ClientInfo("192.0.2.1:5", "request-1", TOKEN)
    refused: list[Failure] = []
    front.api.begin(Request(("web-0",), follow=True), TOKEN, client, object()).addErrback(refused.append)
    assert "only an app can be followed" in str(refused[0].value)
    assert network.agents == {}


# --- the query -----------------------------------------------------------------------------


def query(**arguments: Any) -> dict[bytes, list[bytes]]:
    """Arguments as Twisted hands them over."""
    return {
        name.encode(): [str(value).encode() for value in (values if isinstance(values, list) else [values])]
        for name, values in arguments.items()
    }


def test_every_argument_is_understood() -> None:
    """Units, repeated names and flags mean what the documentation says."""
    request, count, ordered = parse_query(
        query(
            target=["web-0", "web-1"],
            device=["eth0", "lo"],
            filter="udp",
            snaplen=96,
            duration="5m",
            max_bytes="1MB",
            count=7,
            order="off",
        )
    )
    assert (request.targets, request.interfaces) == (("web-0", "web-1"), ("eth0", "lo"))
    assert (request.filter, request.snaplen, request.duration) == ("udp", 96, 300.0)
    assert (request.max_bytes, count, ordered) == (1_000_000, 7, False)


def test_without_arguments_there_are_defaults() -> None:
    """Whole packets, in order, without an end of their own."""
    request, count, ordered = parse_query(query(target="web-0"))
    assert (request.snaplen, request.duration, request.max_bytes, ordered) == (SNAPLEN_MAX, None, None, True)
    assert count > 10**18 and request.interfaces == ()


def test_an_empty_device_is_none() -> None:
    """The 2022 clients send ``device=`` for the default."""
    assert parse_query(query(target="web-0", device=["", "lo"]))[0].interfaces == ("lo",)


@pytest.mark.parametrize(
    ("words", "means"), [(("1", "true", "YES", "on"), True), (("0", "False", "no", "off"), False)]
)
def test_flags(words: tuple[str, ...], means: bool) -> None:
    """Each has four spellings, in upper and lower case."""
    for word in words:
        wanted, _, ordered = parse_query(query(target="web-0", headers_only=word, order=word))
        assert (wanted.headers_only, ordered) == (means, means)


def test_plain_numbers_are_seconds() -> None:
    """The duration of the 2022 clients has no unit."""
    assert parse_query(query(target="web-0", duration="30"))[0].duration == 30.0


def test_all_problems_are_named_at_once() -> None:
    """Nobody has to repair a query one mistake at a time."""
    with pytest.raises(BadRequest) as refused:
        parse_query(
            query(
                target="web-0",
                snaplen="x",
                count="many",
                order="maybe",
                duration="soon",
                max_bytes="big",
                colour="red",
                filter=["udp", "tcp"],
            )
        )
    for name in (
        "snaplen",
        "count",
        "order",
        "duration",
        "max_bytes",
        "colour is not a known argument",
        "filter is given twice",
    ):
        assert name in refused.value.message


@pytest.mark.parametrize("wanted", [{"target": "web-0"}, {"appid": "a-guid"}, {"deployment": "cf"}])
def test_one_thing_to_capture_is_enough(wanted: dict[str, str]) -> None:
    request, _, _ = parse_query(query(**wanted))
    assert [request.targets != (), request.app is not None, request.deployment is not None].count(True) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "nothing to capture is named"),
        ({"filter": "udp"}, "nothing to capture is named"),
        ({"target": "web-0", "index": 1}, "index and type need an appid"),
        ({"target": "web-0", "type": "worker"}, "index and type need an appid"),
        ({"target": "web-0", "group": "router"}, "group and instance need a deployment"),
        ({"target": "web-0", "instance": "0"}, "group and instance need a deployment"),
        ({"appid": "a-guid", "index": "-1"}, "is not the number of an instance"),
        ({"appid": "a-guid", "index": "1.0"}, "is not the number of an instance"),
        ({"appid": "a-guid", "index": "\u0661"}, "is not the number of an instance"),
        ({"appid": "a-guid", "index": "9" * 5000}, "is not the number of an instance"),
    ],
)
def test_queries_that_name_too_little_or_nonsense(wrong: dict[str, Any], words: str) -> None:
    """What is missing, or belongs to something else, is said."""
    with pytest.raises(BadRequest, match=words):
        parse_query(query(**wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"count": -1},
        {"snaplen": 0},
        {"snaplen": SNAPLEN_MAX + 1},
        {"duration": "0"},
        {"device": ["eth0", "eth0"]},
        {"filter": "x" * 5001},
        {"target": [""]},
        {"target": []},
        {"duration": "\u00b2"},
        {"duration": "9" * 400},
        {"snaplen": "9" * 5000},
    ],
)
def test_values_that_make_no_sense(wrong: dict[str, Any]) -> None:
    """Each is a bad request, never another error."""
    with pytest.raises(BadRequest):
        parse_query(query(**{"target": "web-0", **wrong}))


@pytest.mark.parametrize("value", ["\u00b2", "9" * 400])
def test_hostile_numbers_are_bad_requests_over_http(front: Front, value: str) -> None:
    """What Python takes for a digit, or no float holds, is answered with 400."""
    assert front.ask(f"/capture?target=web-0&duration={quote(value)}").status == 400
