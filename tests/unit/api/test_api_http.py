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

import pytest
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import FilteringLogObserver, PredicateResult, globalLogPublisher
from twisted.python.failure import Failure

from demo.certificates import Credentials
from pcapd import COMPATIBILITY_LEVEL
from pcapd.api.http.clientfiles import ClientFilesResource
from pcapd.api.http.web import ClientInfo
from pcapd.api.resolvers.base import Resolved
from pcapd.api.resolvers.static import StaticResolver
from pcapd.errors import LimitReached, TargetNotFound
from pcapd.limits import (
    ANSWER_RATE_MIN,
    ANSWER_TIMEOUT,
    AUDIT_CHECK_INTERVAL,
    CLIENT_SILENCE_TIMEOUT,
    LATE_GRACE,
    PIPELINED_MAX,
    REQUEST_TIMEOUT,
    TCP_USER_TIMEOUT,
)
from pcapd.net.logs import JsonLines
from pcapd.wire import App, EndReason, Request
from tests.kit.unit.api import BOB, TOKEN, Network, record, targets
from tests.kit.unit.front import GENEROUS, Front, limited
from tests.kit.unit.transport import HttpTransport


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
    """The health of a good api is public, and names version, level and resolvers."""
    answer = front.ask("/health", token=None)
    assert answer.status == 200
    body = json.loads(answer.body)
    assert body["healthy"] is True and body["compatibility_level"] == COMPATIBILITY_LEVEL
    assert body["resolvers"] == {"static": {"healthy": True, "message": "ready"}}
    assert set(body) == {"healthy", "compatibility_level", "version", "message", "resolvers"}


def test_health_of_an_api_whose_resolver_is_not_ready(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """An api whose resolver is not ready answers 503 with its name; the reason is in the log only."""
    monkeypatch.setattr(StaticResolver, "healthy", False)
    answer = front.ask("/health", token=None)
    body = json.loads(answer.body)
    assert answer.status == 503 and body["healthy"] is False
    assert body["message"] == "a resolver is not ready"
    assert body["resolvers"] == {"static": {"healthy": False, "message": "not ready"}}


def test_health_of_an_api_that_shuts_down(front: Front) -> None:
    """An api that drains answers 503 on /health, which takes it out of a load balancer."""
    front.api.drain()
    answer = front.ask("/health", token=None)
    assert answer.status == 503 and json.loads(answer.body)["message"] == "shutting down"


@pytest.mark.parametrize("path", ["/", "/nothing", "/v1", "/v1/nothing", "/metrics", "/..%2fetc"])
def test_pages_that_are_not_there(front: Front, path: str) -> None:
    """A page that does not exist gets 404 with the existing ones; metrics are not on this port."""
    answer = front.ask(path)
    assert answer.status == 404 and "/capture" in answer.error["detail"]


def test_the_stream_is_for_websockets(front: Front) -> None:
    """A plain GET of the stream page is answered with what the page is for."""
    answer = front.ask("/v1/stream")
    assert answer.status == 400 and "WebSocket" in answer.error["title"]


@pytest.mark.parametrize("path", ["/capture?target=web-0", "/health", "/nothing"])
def test_bodies_are_refused(front: Front, path: str) -> None:
    """A body is refused with 413 before a byte of it is stored, and the connection is closed."""
    answer = front.ask(path, method="POST", body=b"x" * 1000)
    assert answer.status == 413 and answer.raw.count(b"HTTP/1.1") == 1
    assert answer.transport.disconnecting


def test_a_request_that_takes_its_time(front: Front) -> None:
    """The head of a request has REQUEST_TIMEOUT as a whole, however steadily its bytes come."""
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
    """A client on a socket for both address families has the address that its packets carry."""
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
    """Each refused request has its status, code and record, and no agent is dialled."""
    answer = front.ask(path, token=token)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert network.agents == {}
    (audit,) = [event for event in events if event.get("audit") == "capture_refused"]
    assert (audit["code"], audit["client"], audit["count"]) == (code, "203.0.113.7:5555", 1)
    assert (audit["reason"], audit.get("user")) == (answer.error["title"], user)
    assert audit.get("targets", [])[:1] == ([path[16:21]] if "target" in path else [])
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_a_token_that_is_no_text(front: Front) -> None:
    """A token that is not text is an unknown token, not a malformed request."""
    answer = front.ask("/capture?target=web-0", token="\udcff")
    assert (answer.status, answer.error["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("header", [f"Basic {TOKEN}", TOKEN, f"bearer-{TOKEN}", "bearer", "bearer  "])
def test_a_token_is_a_bearers(front: Front, header: str) -> None:
    """A token is accepted with the bearer scheme only."""
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
    """A capture above the limit is refused with 429, and accepted when an earlier one is over."""
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
    """Each user has a limit of captures of their own."""
    front = limited(reactor, credentials, per_user=1)
    front.ask("/capture?target=web-1")
    assert front.ask("/capture?target=web-0", token=BOB).status == 0
    front.close()


def test_people_of_one_name(
    reactor: Clock, network: Network, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two users of one name from different authorities have a limit each; one with two names has one."""
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
    """An api that drains answers 503 without checking tokens or dialling agents."""
    monkeypatch.setattr(StaticResolver, "resolve", lambda *_: fail(AssertionError("it was asked")))
    front.api.drain()
    for path in ("/capture?target=web-0", "/v1/stream"):
        assert front.ask(path).status == 503
    assert network.agents == {}


def test_an_api_that_drains_starts_nothing_that_it_had_begun(
    front: Front, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that was being resolved when the drain began is refused."""
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
    """The first refusal of a client and cause is recorded at once, later ones are counted once a second."""
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
    """A method without meaning gets 405 with the supported ones; an attempt with a token is recorded."""
    for method in {"HEAD", "OPTIONS", "DELETE", "TRACE", "BREW"} - set(allowed.split(", ")):
        answer = front.ask(path, method=method)
        assert answer.status == 405 and f"\nallow: {allowed.lower()}" in answer.headers.replace("\r", "")
        assert method == "HEAD" or answer.error["code"] == "method_not_allowed"
    assert network.agents == {}
    assert bool(refusals(events)) == (path.startswith(("/capture", "/v1")))


@pytest.mark.parametrize("path", ["/health", "/capture", "/nothing", "/cli/pcapctl", "*"])
def test_no_answer_says_what_it_is_made_with(front: Front, client_file: Path, path: str) -> None:
    """Responses have no Server header."""
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
    """Only addresses added by trusted proxies count as the client's."""
    front.api.config = replace(front.api.config, trusted_proxies=trusted)
    front.ask("/capture?target=web-0", token=None, X_Forwarded_For=forwarded)
    (audit,) = refusals(events)
    assert (audit["client"], "proxy" in audit) == (client, ":5555" not in client)


def test_refusals_are_summed_up_for_the_client_and_not_its_proxy(
    front: Front, events: list[dict[str, Any]]
) -> None:
    """Refusals are summed up per client, also for clients behind one router."""
    front.api.config = replace(front.api.config, trusted_proxies=PROXIES)
    for client in ("198.51.100.5", "198.51.100.5", "198.51.100.6"):
        front.ask("/capture?target=web-0", token=None, X_Forwarded_For=client)
    assert [event["client"] for event in refusals(events)] == ["198.51.100.5", "198.51.100.6"]


@pytest.mark.parametrize(
    ("trusted", "given", "kept"),
    [
        (True, "router-7", True),
        (False, "router-7", False),
        *((True, bad, False) for bad in ("", "x" * 257, "caf\u00e9", "a\tb")),
    ],
)
def test_a_routers_request_id_is_kept(
    front: Front, network: Network, trusted: bool, given: str, kept: bool
) -> None:
    """A trusted router's id is in the agents' logs; one of others, too long or not printable is replaced."""
    front.api.config = replace(front.api.config, trusted_proxies=PROXIES if trusted else ())
    front.ask("/capture?target=web-0", X_Vcap_Request_Id=given)
    network["web-0"].start()
    start = network["web-0"].started
    assert start and (start.request_id == given if kept else len(start.request_id) == 36)


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
    """While a capture runs, only a bounded number of further bytes is read from its client."""
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
    """A file may be downloaded at 16 KiB a second."""
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
    """A running capture has no time limit; its remainder has one, and counts as running until it is read."""
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
    """Without audit records captures get 503, shown in health and a metric, until records can be written again."""
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
    """A capture that can no longer be recorded is stopped in good order, and is complete up to then."""
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


# --- the client for download ---------------------------------------------------------------


@pytest.fixture
def client_file(front: Front, tmp_path: Path) -> Path:
    """A file below ``/cli/``."""
    front.site.resource.putChild(b"cli", ClientFilesResource(tmp_path))
    (tmp_path / "pcapctl").write_bytes(b"a client")
    return tmp_path / "pcapctl"


def test_only_the_head_of_a_file(front: Front, client_file: Path) -> None:
    """HEAD is answered without reading a byte of the file."""
    answer = front.ask("/cli/pcapctl", method="HEAD", token=None)
    assert (answer.status, answer.body) == (200, b"")
    assert "content-length: 8" in answer.headers and answer.over


def test_a_file_that_the_client_has(front: Front, client_file: Path) -> None:
    """A file that the client has is answered with 304 and no body."""
    tag = front.ask("/cli/pcapctl", method="HEAD").headers.partition("etag: ")[2].split()[0]
    answer = front.ask("/cli/pcapctl", If_None_Match=tag)
    assert (answer.status, answer.body) == (304, b"") and answer.over


def test_what_is_no_regular_file_is_not_there(front: Front, client_file: Path) -> None:
    """A path that is not a regular file, such as a pipe, gets 404 without waiting."""
    os.mkfifo(client_file.with_name("pipe"))
    answer = front.ask("/cli/pipe")
    assert (answer.status, answer.error["code"]) == (404, "target_not_found")


@pytest.mark.parametrize("name", [".hidden", "link", "pcapctl/", "pcapctl/x", "below%2ffile"])
def test_nothing_but_files_of_harmless_names(front: Front, client_file: Path, name: str) -> None:
    """Hidden files, links and directories are not served."""
    directory = client_file.parent
    (directory / ".hidden").touch()
    (directory / "link").symlink_to("pcapctl")
    (directory / "below").mkdir()
    (directory / "below" / "file").touch()
    answer = front.ask(f"/cli/{name}")
    assert (answer.status, answer.error["code"]) == (404, "target_not_found")


# --- what a resolver says ------------------------------------------------------------------


def test_a_bug_is_not_told(front: Front, monkeypatch: pytest.MonkeyPatch, logged_failures: Any) -> None:
    """An unexpected exception is a plain failure to the client, with the traceback in the log."""
    monkeypatch.setattr(StaticResolver, "resolve", lambda *_: fail(ZeroDivisionError("inner workings")))
    answer = front.ask("/capture?target=web-0")
    assert answer.status == 502 and "its log has the details" in answer.error["title"]
    assert b"inner workings" not in answer.raw
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


@pytest.mark.parametrize("seconds", [None, 42])
def test_when_to_come_back(front: Front, monkeypatch: pytest.MonkeyPatch, seconds: Optional[int]) -> None:
    """Cloud Controller's Retry-After is passed on, and none is invented."""
    error = LimitReached("too often")
    error.retry_after = seconds
    monkeypatch.setattr(StaticResolver, "resolve", lambda *_: fail(error))
    answer = front.ask("/capture?target=web-0")
    assert answer.status == 429
    assert ("retry-after: 42" in answer.headers) == (seconds is not None)
    assert ("retry-after" in answer.headers) == (seconds is not None)


def test_only_apps_are_followed(front: Front, network: Network) -> None:
    """A follow request for a static target is refused."""
    client = ClientInfo("192.0.2.1:5", "request-1", TOKEN)
    refused: list[Failure] = []
    front.api.begin(Request(("web-0",), follow=True), TOKEN, client, object()).addErrback(refused.append)
    assert "only an app can be followed" in str(refused[0].value)
    assert network.agents == {}
