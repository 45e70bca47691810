"""The resolver for BOSH deployments, with a director and a UAA that need no network.

What the whole api makes of it, over HTTPS, is in tests/hosts/test_bosh_api.py.
"""

from __future__ import annotations

from typing import Any, Iterator

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from demo.certificates import Authority, Credentials
from pcapd.api.resolvers import bosh as bosh_module
from pcapd.api.resolvers.base import Resolved, Target
from pcapd.api.resolvers.bosh import BoshResolver
from pcapd.config.schema import BoshConfig
from pcapd.errors import BadRequest, Forbidden, ResolverUnavailable, TargetNotFound, Unauthenticated
from pcapd.limits import KEYS_AGE_MAX, KEYS_INTERVAL, TOKEN_MAX
from pcapd.wire import Deployment, Request
from tests.kit.doubles import director as double
from tests.kit.doubles.director import Director, Instance
from tests.kit.doubles.https import Answer
from tests.kit.doubles.uaa import Key, Uaa
from tests.kit.unit.authorities import Authorities, outcome

INFO, KEYS, DEPLOYMENTS, INSTANCES = "/info", "/token_keys", "/deployments", "/deployments/cf/instances"
CLIENT = "203.0.113.7"
#: Made once: each takes a while.
NEW_KEY = Key("key-9")


class Scene:
    """A resolver, and what it asks; the deployment cf belongs to the team blue."""

    def __init__(self, credentials: Credentials, uaa: Uaa, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.uaa = uaa
        self.director = Director(credentials, uaa, port=25555)
        instances = [
            Instance("router", 0, ["192.0.2.10", "192.0.2.77"], "r0"),
            Instance("router", 1, ["192.0.2.11"], "r1"),
            Instance("smoke-tests", 0, [], "s0", expects_vm=False),
        ]
        self.director.add(double.Deployment("cf", instances, ["blue"]))
        self.authorities = Authorities(self.director, uaa)
        monkeypatch.setattr(bosh_module, "Authority", self.authorities)
        self.resolver = BoshResolver(BoshConfig(self.director.url, agent_port=9496), self.clock)

    def ask(self, token: str, name: str = "cf", *groups: str) -> Deferred[Resolved]:
        """As for a capture."""
        return self.resolver.resolve(Request(deployment=Deployment(name, groups)), token, CLIENT)

    def survey(self, token: str, *groups: str) -> Deferred[Resolved]:
        """As for one that runs."""
        return self.resolver.survey(Request(deployment=Deployment("cf", groups)), token, CLIENT)

    def signed_with(self, key: str) -> str:
        """An admin's token that says it is signed with this key."""
        return self.uaa.forge(self.uaa.access_tokens[self.director.token("bosh.admin")], kid=key)

    def keys_asked(self) -> int:
        return sum(asked.path == KEYS for asked in self.uaa.asked)


@pytest.fixture(scope="module")
def director_credentials(authority: Authority) -> Credentials:
    return authority.issue("director", dns=("localhost",))


@pytest.fixture(scope="module")
def lasting_uaa(director_credentials: Credentials) -> Uaa:
    return Uaa(director_credentials, port=8443)


@pytest.fixture
def scene(
    director_credentials: Credentials,
    lasting_uaa: Uaa,
    monkeypatch: pytest.MonkeyPatch,
    events: list[dict[str, Any]],
) -> Iterator[Scene]:
    keys = lasting_uaa.keys[:]
    scene = Scene(director_credentials, lasting_uaa, monkeypatch)
    yield scene
    assert not scene.authorities.asking
    assert not scene.clock.getDelayedCalls()
    log = repr(events)
    assert not any(token in log for token in scene.uaa.access_tokens)
    lasting_uaa.keys = keys
    lasting_uaa.asked.clear()
    lasting_uaa.access_tokens.clear()


# --- who may -----------------------------------------------------------------


@pytest.mark.parametrize("scope", ["bosh.admin", "bosh.teams.blue.admin"])
def test_an_admin_gets_the_vms(scene: Scene, scope: str) -> None:
    """An admin gets all VMs of a deployment, each at the first of its addresses."""
    token = scene.director.token(scope)
    expected = (Target("router/r0", "192.0.2.10", 9496), Target("router/r1", "192.0.2.11", 9496))
    found = outcome(scene.ask(token))
    assert (found.user, found.targets, found.origin) == ("alice", expected, "uaa")
    assert scene.director.uuid in found.identity and "alice-id" in found.identity


def test_who_a_token_is(scene: Scene) -> None:
    """A token is verified with UAA's keys, and the director never sees it; one of another UAA is unknown."""
    token = scene.director.token("bosh.admin")
    found = outcome(scene.resolver.identify(token, CLIENT))
    assert (found.user, found.origin, found.targets) == ("alice", "uaa", ())
    assert {asked.path for asked in scene.director.asked} == {INFO}
    with pytest.raises(Unauthenticated):
        outcome(scene.resolver.identify(scene.signed_with("key-77"), CLIENT))


@pytest.mark.parametrize("scope", ["bosh.read", "bosh.teams.red.admin"])
def test_who_may_only_read_may_not_capture(scene: Scene, scope: str) -> None:
    """A director that would tell them everything is not even asked where the VMs are."""
    scene.director.deployments["cf"].teams.append("green")
    with pytest.raises(Forbidden, match="alice may not capture"):
        outcome(scene.ask(scene.director.token(scope, "bosh.teams.green.read")))
    assert INSTANCES not in scene.director.paths()


# --- what is not believed ----------------------------------------------------


@pytest.mark.parametrize("path", [INFO, KEYS, DEPLOYMENTS, INSTANCES])
def test_a_status_of_trouble(scene: Scene, path: str) -> None:
    """An answer with an error status is not used, however right its body looks."""
    scene.authorities.statuses[path] = 500
    with pytest.raises(ResolverUnavailable, match=r"an error \(500\)"):
        outcome(scene.ask(scene.director.token("bosh.teams.blue.admin")))


@pytest.mark.parametrize("name", ["..", "cf/../x", "cf?format=full", "cf#"])
def test_no_name_leads_elsewhere(scene: Scene, name: str) -> None:
    """A deployment or group with characters of URLs is refused before any request."""
    token = scene.director.token("bosh.admin")
    for asked in (scene.ask(token, name), scene.ask(token, "cf", name)):
        with pytest.raises(BadRequest):
            outcome(asked)
    assert not scene.director.asked and not scene.uaa.asked


def test_no_token_becomes_two_headers(scene: Scene) -> None:
    """A token with line ends is refused, although base64 decoders ignore them and its signature is good."""
    with pytest.raises(Unauthenticated, match="invalid characters"):
        outcome(scene.ask(scene.director.token("bosh.admin") + "\r\n\r\n"))
    assert not scene.director.asked and not scene.uaa.asked


def test_no_token_is_longer_than_a_header_may_be(scene: Scene) -> None:
    """A token longer than a header may be is refused, even with a good signature."""
    token = scene.director.token("bosh.admin", comment="x" * TOKEN_MAX)
    with pytest.raises(Unauthenticated, match="too many"):
        outcome(scene.ask(token))
    assert not scene.director.asked and not scene.uaa.asked


def test_nothing_there(scene: Scene) -> None:
    """A capture of nothing does not begin; one that runs waits for what will be there."""
    token = scene.director.token("bosh.admin")
    with pytest.raises(TargetNotFound, match="smoke-tests/s0 has no VM"):
        outcome(scene.ask(token, "cf", "smoke-tests"))
    assert outcome(scene.survey(token, "smoke-tests")).targets == ()


def test_who_has_left_asks_nothing_more(scene: Scene) -> None:
    """After a client has left, the answer under way is discarded, and nothing else is asked."""
    token = scene.director.token("bosh.teams.blue.admin")
    outcome(scene.ask(token))
    scene.director.asked.clear()
    scene.authorities.silent = True
    left = scene.ask(token)
    left.addErrback(lambda failure: failure.trap(CancelledError))
    left.cancel()
    scene.authorities.speak()
    assert scene.director.paths() == [DEPLOYMENTS]


# --- keys --------------------------------------------------------------------


def test_unknown_keys_are_no_flood(scene: Scene) -> None:
    """UAA is asked once in a while for keys that it does not show, however many tokens name such."""
    outcome(scene.ask(scene.director.token("bosh.admin")))
    for number in range(5):
        scene.clock.advance(KEYS_INTERVAL - 0.1 if number == 0 else 0)
        with pytest.raises(Unauthenticated, match="one of UAA's keys"):
            outcome(scene.ask(scene.signed_with(f"key-{number + 10}")))
    assert scene.keys_asked() == 1
    scene.clock.advance(0.2)
    for number in range(5):
        with pytest.raises(Unauthenticated, match="one of UAA's keys"):
            outcome(scene.ask(scene.signed_with(f"key-{number + 10}")))
    assert scene.keys_asked() == 2


def test_a_new_key_is_found(scene: Scene) -> None:
    """A new key is found with the first token that it signed, as soon as UAA may be asked again."""
    outcome(scene.ask(scene.director.token("bosh.admin")))
    scene.uaa.keys = [NEW_KEY]
    scene.clock.advance(KEYS_INTERVAL)
    assert outcome(scene.ask(scene.director.token("bosh.admin"))).user == "alice"


def test_keys_are_asked_for_once(scene: Scene) -> None:
    """Requests that need keys while UAA is asked wait for the same answer."""
    outcome(scene.ask(scene.director.token("bosh.admin")))
    scene.uaa.keys = [NEW_KEY]
    scene.clock.advance(KEYS_INTERVAL)
    scene.authorities.silent = True
    both = [scene.ask(scene.director.token("bosh.admin", user=user)) for user in ("alice", "bob")]
    scene.authorities.speak()
    assert [outcome(one).user for one in both] == ["alice", "bob"]
    assert scene.keys_asked() == 2


def test_no_key_is_believed_for_ever(scene: Scene) -> None:
    """While UAA is away its keys are used for a limited time, and then no token can be checked."""
    token = scene.director.token("bosh.admin")
    outcome(scene.ask(token))
    scene.authorities.statuses[KEYS] = 503
    scene.clock.advance(KEYS_AGE_MAX - 1)
    assert outcome(scene.ask(token)).user == "alice"
    scene.clock.advance(1)
    # The second one is told the same, although nobody is asked for it.
    for _ in range(2):
        with pytest.raises(ResolverUnavailable, match=r"UAA answered with an error \(503\)"):
            outcome(scene.ask(token))
    assert scene.keys_asked() == 2


def test_who_leaves_while_keys_are_fetched(scene: Scene) -> None:
    """The keys are there for the next one: nobody can keep UAA's keys unknown by leaving early."""
    token = scene.director.token("bosh.admin")
    outcome(scene.ask(token))
    scene.uaa.keys = [NEW_KEY]
    scene.clock.advance(KEYS_INTERVAL)
    scene.authorities.silent = True
    left = scene.ask(scene.director.token("bosh.admin"))
    left.addErrback(lambda _: None)
    left.cancel()
    scene.authorities.speak()
    assert outcome(scene.ask(scene.director.token("bosh.admin"))).user == "alice"
    assert scene.keys_asked() == 2


def test_a_slow_uaa_is_waited_for_once(scene: Scene) -> None:
    """When UAA's keys do not come, all waiting requests fail with the cause, without asking again."""
    outcome(scene.ask(scene.director.token("bosh.admin")))
    scene.clock.advance(KEYS_INTERVAL)
    scene.authorities.silent = True
    scene.authorities.statuses[KEYS] = 503
    asked = [scene.ask(scene.signed_with(f"key-{number + 10}")) for number in range(5)]
    scene.clock.advance(KEYS_INTERVAL + 1)
    scene.authorities.speak()
    for one in asked:
        with pytest.raises(ResolverUnavailable, match=r"an error \(503\)"):
            outcome(one)
    assert scene.keys_asked() == 2


def test_a_key_that_cannot_be_read(scene: Scene, events: list[dict[str, Any]]) -> None:
    """The others count, and the log says once what is left out."""
    keys = [{"kty": "RSA", "kid": "broken"}, scene.uaa.keys[0].public()]
    scene.uaa.canned[KEYS] = Answer(body={"keys": keys})
    for _ in range(2):
        assert outcome(scene.ask(scene.director.token("bosh.admin"))).user == "alice"
        scene.clock.advance(KEYS_AGE_MAX)
    scene.uaa.canned.clear()
    assert [event["problems"] for event in events if "problems" in event] == [("key 1 cannot be read",)]
