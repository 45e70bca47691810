"""Who may see and stop running captures; no token is shown to an authority that did not make it."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from pcapd.api.capture.audit import Trail
from pcapd.api.http.web import ClientInfo
from pcapd.api.known import KnownAgent
from pcapd.api.metrics import Metrics
from pcapd.api.operators import Operators
from pcapd.api.resolvers.base import Resolved
from pcapd.errors import AuditUnavailable, Forbidden, RequestError, ResolverUnavailable, Unauthenticated
from tests.kit.unit.api import BOB, TOKEN, Network
from tests.kit.unit.authorities import outcome
from tests.kit.unit.front import Front


def recorded(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event.get("audit") == kind]


def running(front: Front, network: Network) -> str:
    """Alice's capture of web-0; return its id."""
    front.ask("/capture?target=web-0&filter=udp&reason=TICKET-7")
    network["web-0"].start()
    (capture,) = front.api._captures
    return capture.facts.capture


@pytest.mark.parametrize("operator", [True, False])
def test_what_bob_sees_and_stops(
    front: Front, network: Network, events: list[dict[str, Any]], operator: bool
) -> None:
    """An operator sees and stops a capture of somebody else, on record; another user neither sees nor stops it."""
    front.api.config = replace(front.api.config, operators=("static/bob",) if operator else ("static/carol",))
    capture = running(front, network)
    listed = json.loads(front.ask("/v1/captures", token=BOB).body)
    stop = front.ask(f"/v1/captures/{capture}/stop", method="POST", token=BOB)
    assert listed["operator"] is operator
    if not operator:
        assert listed["captures"] == [] and not recorded(events, "captures_listed")
        assert (stop.status, stop.error["code"]) == (404, "target_not_found")
        assert not network["web-0"].stopped and not recorded(events, "capture_stop_requested")
        return
    (entry,) = listed["captures"]
    assert (entry["capture"], entry["user"], entry["mine"]) == (capture, "alice", False)
    assert (entry["filter"], entry["purpose"]) == ("udp", "TICKET-7") and "web-0 at " in entry["targets"][0]
    (look,) = recorded(events, "captures_listed")
    assert (look["user"], look["captures"], look["client"]) == ("bob", [capture], "203.0.113.7:5555")
    assert json.loads(stop.body) == {"stopped": capture} and network["web-0"].stopped
    (record,) = recorded(events, "capture_stop_requested")
    assert (record["user"], record["owner"], record["capture"]) == ("bob", "alice", capture)


def test_what_is_ones_own(front: Front, network: Network, events: list[dict[str, Any]]) -> None:
    """A user sees and stops their own capture; to look is not on record."""
    capture = running(front, network)
    listed = json.loads(front.ask("/v1/captures").body)
    assert [(entry["capture"], entry["mine"]) for entry in listed["captures"]] == [(capture, True)]
    assert not recorded(events, "captures_listed")
    assert front.ask(f"/v1/captures/{capture}/stop", method="POST").status == 200
    assert network["web-0"].stopped


def test_without_a_record_nothing_is_shown_or_stopped(
    front: Front, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator whose look or stop cannot be recorded gets 503."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AuditUnavailable("no room")

    front.api.config = replace(front.api.config, operators=("static/bob",))
    capture = running(front, network)
    monkeypatch.setattr(front.api._trail, "record", refuse)
    assert front.ask("/v1/captures", token=BOB).status == 503
    assert front.ask(f"/v1/captures/{capture}/stop", method="POST", token=BOB).status == 503
    assert not network["web-0"].stopped


@pytest.mark.parametrize(
    ("path", "method", "token", "status"),
    [
        ("/v1/captures", "GET", None, 401),
        ("/v1/captures", "GET", "unknown", 401),
        ("/v1/captures", "POST", TOKEN, 405),
        ("/v1/captures/x/stop", "GET", TOKEN, 405),
        ("/v1/captures/x/stop", "POST", TOKEN, 404),
        ("/v1/captures/x", "POST", TOKEN, 404),
        ("/v1/captures/%ff/stop", "POST", TOKEN, 404),
    ],
)
def test_what_is_refused(front: Front, path: str, method: str, token: str, status: int) -> None:
    """No token, an unknown one, a method or a path that there is not: each has its status."""
    assert front.ask(path, method=method, token=token).status == status


class Scripted:
    """A resolver that accepts a token, or refuses with an error."""

    def __init__(self, name: str, asked: list[str], error: RequestError | None) -> None:
        self.name = name
        self._asked = asked
        self._error = error

    def identify(self, token: str, client: str) -> Deferred[Resolved]:
        self._asked.append(self.name)
        return fail(self._error) if self._error else succeed(Resolved("x", (), identity="x", origin="uaa"))


@pytest.mark.parametrize(
    ("director", "asked"),
    [
        (None, ["static", "bosh"]),
        (Unauthenticated("not of this UAA"), ["static", "bosh", "cloud_foundry"]),
        (ResolverUnavailable("the director is gone"), ["static", "bosh"]),
    ],
)
def test_the_order_of_resolvers(director: RequestError | None, asked: list[str]) -> None:
    """Cloud Controller is shown only tokens of which it is known that they are not the director's."""
    seen: list[str] = []
    resolvers: Any = [
        Scripted("cloud_foundry", seen, None),
        Scripted("bosh", seen, director),
        Scripted("static", seen, Unauthenticated("unknown")),
    ]
    trail: Any = None
    running: Any = SimpleNamespace(all=lambda: succeed([]))
    operators = Operators(resolvers, running, tuple, trail)
    listed = operators.list(ClientInfo("192.0.2.1:5", "request-1", TOKEN))
    if isinstance(director, ResolverUnavailable):
        with pytest.raises(ResolverUnavailable):
            outcome(listed)
    else:
        assert outcome(listed) == {"operator": False, "captures": []}
    assert seen == asked


def test_agents_for_a_user_of_a_cloud(events: list[dict[str, Any]]) -> None:
    """A user whom Cloud Controller knows sees agents only as an operator, and that is on record."""
    agents: Any = SimpleNamespace(agents=[KnownAgent("192.0.2.1", 9494)])
    client = ClientInfo("192.0.2.9:5555", "request", "token")

    def asked(*named: str) -> Any:
        running: Any = None
        resolvers: Any = [Scripted("cloud_foundry", [], None)]
        trail = Trail(Clock(), None, Metrics().audit_failures)
        return outcome(Operators(resolvers, running, lambda: named, trail).agents(client, agents))

    with pytest.raises(Forbidden, match="only operators"):
        asked("cloud_foundry/uaa/someone-else")
    assert not recorded(events, "agents_listed")
    (record,) = asked("cloud_foundry/uaa/x")["agents"]
    assert (record["host"], record["state"]) == ("192.0.2.1", "unasked")
    assert len(recorded(events, "agents_listed")) == 1
