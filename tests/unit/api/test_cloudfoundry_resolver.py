"""The resolver for apps, with a Cloud Controller that needs no network.

What the whole api makes of it, over HTTPS, is in tests/hosts/test_cloudfoundry_api.py.
"""

from __future__ import annotations

from typing import Any, Iterator, Optional

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from demo.certificates import Authority, Credentials
from pcapd.api.resolvers import cloudfoundry as cloudfoundry_module
from pcapd.api.resolvers.base import Resolved
from pcapd.api.resolvers.cloudfoundry import CloudFoundryResolver
from pcapd.config.schema import CloudFoundryConfig, OptInConfig, Permission
from pcapd.errors import (
    BadRequest,
    Forbidden,
    LimitReached,
    ResolverUnavailable,
    TargetNotFound,
    Unauthenticated,
)
from pcapd.limits import AUTHORITY_CALLERS, AUTHORITY_PAGES_MAX, PROCESSES_MAX, TOKEN_MAX
from pcapd.wire import App, Request
from tests.kit.doubles.cloud_controller import CfApp, CloudController, Instance, Process, User, rate_limited
from tests.kit.doubles.https import Answer, Asked
from tests.kit.unit.authorities import Authorities, outcome


class Scene:
    """A resolver, a Cloud Controller with one app of one instance, and who may what."""

    def __init__(self, credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.cc = CloudController(credentials, port=443)
        self.app = self.cc.add(CfApp(processes=[Process(instances=[Instance(0, host="192.0.2.10")])]))
        self.developer, self.auditor = self.cc.developer(self.app), self.cc.auditor(self.app)
        self.authorities = Authorities(self.cc)
        monkeypatch.setattr(cloudfoundry_module, "Authority", self.authorities)
        self.configure()

    def configure(
        self,
        required: Permission = "read_sensitive_data",
        headers_only: Optional[Permission] = None,
        opt_in: Optional[OptInConfig] = None,
    ) -> None:
        """What Cloud Controller must grant."""
        config = CloudFoundryConfig(self.cc.url, None, required, headers_only, opt_in)
        self.resolver = CloudFoundryResolver(config, 9494, self.clock)

    def ask(self, token: str, app: Optional[App] = None, client: str = "203.0.113.7") -> Deferred[Resolved]:
        """As for a capture."""
        return self.resolver.resolve(Request(app=app or App(self.app.guid)), token, client)

    def paths(self) -> list[str]:
        """What was asked about the app, below its URL, and about its processes, without their GUIDs."""
        own = [path.removeprefix(f"/v3/apps/{self.app.guid}") for path in self.cc.paths()]
        return ["stats" if path.endswith("/stats") else path for path in own]


@pytest.fixture(scope="module")
def cc_credentials(authority: Authority) -> Credentials:
    return authority.issue("cloud-controller", dns=("localhost",))


@pytest.fixture
def scene(
    cc_credentials: Credentials, monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]]
) -> Iterator[Scene]:
    scene = Scene(cc_credentials, monkeypatch)
    yield scene
    assert not scene.authorities.asking
    assert not scene.clock.getDelayedCalls()
    log = repr(events)
    assert not any(token in log for token in scene.cc.users)


# --- who may -----------------------------------------------------------------


def test_a_developer_gets_the_instances(scene: Scene) -> None:
    """A developer gets all instances, each on its cell, with all of its packets."""
    found = outcome(scene.ask(scene.developer))
    assert (found.user, found.headers_only) == ("alice@example.test", False)
    assert [(target.name, target.host) for target in found.targets] == [("myapp/0", "192.0.2.10")]


def test_who_sees_the_app_may_not_capture_it(scene: Scene) -> None:
    """A user who sees the app but lacks the permission is refused before instances are looked up."""
    with pytest.raises(Forbidden, match="does not grant read_sensitive_data"):
        outcome(scene.ask(scene.auditor))
    assert scene.paths() == ["/", "", "/permissions"]


@pytest.mark.parametrize("weaker", ["read_basic_data", "read_sensitive_data"])
def test_a_weaker_permission(scene: Scene, weaker: Permission) -> None:
    """A weaker permission allows headers to its holder only; a holder of the stronger one gets everything."""
    scene.configure(headers_only=weaker)
    assert not outcome(scene.ask(scene.developer)).headers_only
    if weaker == "read_basic_data":
        assert outcome(scene.ask(scene.auditor)).headers_only
    else:
        with pytest.raises(Forbidden):
            outcome(scene.ask(scene.auditor))


def test_who_a_token_is(scene: Scene) -> None:
    """Cloud Controller's acceptance of a token makes its claims the user's name and origin."""
    found = outcome(scene.resolver.identify(scene.developer, "203.0.113.7"))
    assert (found.user, found.origin, found.targets) == ("alice@example.test", "uaa", ())
    assert found.identity == outcome(scene.ask(scene.developer)).identity
    forged = scene.cc.token(User("admin"))
    del scene.cc.users[forged]
    with pytest.raises(Unauthenticated):
        outcome(scene.resolver.identify(forged, "203.0.113.7"))


LABEL = ("pcap.example.com/capture", "allowed")


def labelled(scene: Scene, place: str, value: str = LABEL[1]) -> None:
    guid = {"app": scene.app.guid, "space": scene.app.space, "organization": scene.cc.organization}[place]
    scene.cc.labels[guid] = {LABEL[0]: value}


@pytest.mark.parametrize("place", ["app", "space", "organization"])
def test_a_label_opts_in(scene: Scene, place: str) -> None:
    """The label with its value opts in on the app, its space or its organization, and only where it counts."""
    scene.configure(opt_in=OptInConfig(label=LABEL))
    with pytest.raises(Forbidden, match="has not opted in") as refused:
        outcome(scene.ask(scene.developer))
    assert refused.value.user == "alice@example.test"
    assert refused.value.hint == "set it with: cf set-label app NAME pcap.example.com/capture=allowed"
    labelled(scene, place, "no")
    with pytest.raises(Forbidden):
        outcome(scene.ask(scene.developer))
    labelled(scene, place)
    assert outcome(scene.ask(scene.developer)).targets
    # Without the permission, a label is of no use.
    with pytest.raises(Forbidden, match="does not grant"):
        outcome(scene.ask(scene.auditor))
    others = tuple(one for one in ("app", "space", "organization") if one != place)
    scene.configure(opt_in=OptInConfig(label=LABEL, label_on=others))
    with pytest.raises(Forbidden, match="has not opted in"):
        outcome(scene.ask(scene.developer))


@pytest.mark.parametrize("place", ["app", "space", "organization"])
def test_a_list_opts_in(scene: Scene, place: str) -> None:
    """An app is allowed by its own GUID, its space's or its organization's in the list of that kind; no other list."""
    guids = {"app": scene.app.guid, "space": scene.app.space, "organization": scene.cc.organization}
    keys = {"app": "apps", "space": "spaces", "organization": "organizations"}
    for kind, key in keys.items():
        scene.configure(opt_in=OptInConfig(**{key: (guids[place],)}))
        if kind == place:
            assert outcome(scene.ask(scene.developer)).targets
        else:
            with pytest.raises(Forbidden, match="allows only listed apps"):
                outcome(scene.ask(scene.developer))


def test_a_label_that_is_removed(scene: Scene) -> None:
    """A followed capture asks again, and gets no further instance after the label is gone."""
    scene.configure(opt_in=OptInConfig(label=LABEL))
    labelled(scene, "space")
    request = Request(app=App(scene.app.guid))
    assert outcome(scene.resolver.survey(request, scene.developer, "203.0.113.7")).targets
    scene.cc.labels.clear()
    with pytest.raises(Forbidden, match="has not opted in"):
        outcome(scene.resolver.survey(request, scene.developer, "203.0.113.7"))


def test_places_that_the_app_does_not_name(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A label on a space that is not the app's own does not count: such an answer is an error."""
    scene.configure(opt_in=OptInConfig(label=LABEL))
    place = scene.cc._place

    def other(entry: dict[str, Any]) -> dict[str, Any]:
        labels = {"labels": {LABEL[0]: LABEL[1]}, "annotations": {}}
        return {**place(entry), "guid": "another", "metadata": labels}

    monkeypatch.setattr(scene.cc, "_place", other)
    with pytest.raises(ResolverUnavailable, match="makes no sense"):
        outcome(scene.ask(scene.developer))


# --- what is not believed ----------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v3/apps/{app}",
        "/v3/apps/{app}/permissions",
        "/v3/apps/{app}/processes",
        "/v3/processes/{web}/stats",
    ],
)
def test_a_status_of_trouble(scene: Scene, path: str) -> None:
    """An answer with an error status is not used, however right its body looks."""
    scene.authorities.statuses[path.format(app=scene.app.guid, web=scene.app.processes[0].guid)] = 500
    with pytest.raises(ResolverUnavailable, match=r"an error \(500\)"):
        outcome(scene.ask(scene.developer))


@pytest.mark.parametrize(
    "wanted",
    [App("../info"), App("a?b"), App("1cb006ee", "web,worker"), App("1cb006ee", "web&per_page=1")],
    ids=lambda app: f"{app.guid} {app.type}",
)
def test_no_name_leads_elsewhere(scene: Scene, wanted: App) -> None:
    """An app name or GUID with characters of URLs is refused before any request."""
    with pytest.raises(BadRequest):
        outcome(scene.ask(scene.developer, wanted))
    assert not scene.cc.asked


@pytest.mark.parametrize("more", ["\r\nX-Evil: 1", " ", "x" * TOKEN_MAX], ids=["header", "space", "long"])
def test_what_is_no_token_becomes_no_header(scene: Scene, more: str) -> None:
    """A string that cannot be a token is refused before any request."""
    with pytest.raises(Unauthenticated, match="invalid characters, or too many"):
        outcome(scene.ask(scene.developer + more))
    assert not scene.cc.asked


def test_nothing_there(scene: Scene) -> None:
    """A capture of nothing does not begin; one that runs waits for what will be there."""
    scene.app.instances[0].crash()
    with pytest.raises(TargetNotFound, match="is CRASHED"):
        outcome(scene.ask(scene.developer))
    surveyed = outcome(
        scene.resolver.survey(Request(app=App(scene.app.guid)), scene.developer, "203.0.113.7")
    )
    assert surveyed.targets == () and len(surveyed.notices) == 1


def test_too_many_processes(scene: Scene) -> None:
    """An app has one process of a type, two while it rolls; what goes beyond all sense is not asked about."""
    scene.app.processes += [Process(instances=[]) for _ in range(PROCESSES_MAX - 1)]
    assert len(outcome(scene.ask(scene.developer)).targets) == 1
    scene.app.processes.append(Process(instances=[]))
    scene.cc.asked.clear()
    with pytest.raises(ResolverUnavailable, match="more than 8 processes"):
        outcome(scene.ask(scene.developer))
    assert "stats" not in scene.paths()


def test_pages_without_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages with nothing on them: there is an end to asking for the next one."""

    def empty(app: CfApp, asked: Asked) -> Answer:
        number = int(asked.query.get("page", ["1"])[0])
        following = {"href": f"{scene.cc.url}{asked.path}?page={number + 1}"}
        # It comes to an end after all, for a resolver without one.
        pagination = {"next": following if number < 5 * AUTHORITY_PAGES_MAX else None}
        return Answer(body={"pagination": pagination, "resources": []})

    monkeypatch.setattr(scene.cc, "_processes", empty)
    with pytest.raises(ResolverUnavailable, match="more than"):
        outcome(scene.ask(scene.developer))
    assert scene.paths().count("/processes") <= AUTHORITY_PAGES_MAX + 1


# --- for whom, how long ------------------------------------------------------


def test_who_has_left_asks_nothing_more(scene: Scene) -> None:
    """After a client has left, the answer under way is discarded, and the next client is served as usual."""
    scene.authorities.silent = True
    left = scene.ask(scene.developer)
    left.cancel()
    with pytest.raises(CancelledError):
        outcome(left)
    scene.authorities.speak()
    assert scene.paths() == ["/"]
    assert len(outcome(scene.ask(scene.developer)).targets) == 1


def test_who_asks_often_delays_nobody_else(scene: Scene) -> None:
    """A client that asks often never occupies every place."""
    outcome(scene.ask(scene.developer))
    scene.authorities.silent = True
    often = [scene.ask(scene.developer) for _ in range(AUTHORITY_CALLERS)]
    before = scene.authorities.asking
    once = scene.ask(scene.developer, client="203.0.113.8")
    assert before < AUTHORITY_CALLERS and scene.authorities.asking == before + 1
    scene.authorities.speak()
    assert {outcome(one).user for one in [*often, once]} == {"alice@example.test"}


# --- the log -----------------------------------------------------------------


@pytest.mark.parametrize("length", [36, 9999])
def test_cloud_controllers_own_id_of_a_request_is_logged(
    scene: Scene, events: list[dict[str, Any]], length: int
) -> None:
    """Cloud Controller's request id is logged, cut to a bound."""
    headers = (("X-VCAP-Request-ID", "x" * length),)
    scene.cc.canned[f"/v3/apps/{scene.app.guid}"] = Answer(404, b"", headers)
    with pytest.raises(TargetNotFound):
        outcome(scene.ask(scene.developer))
    assert [event["cc_request_id"] for event in events if "cc_request_id" in event] == [
        "x" * min(length, 256)
    ]


def test_when_to_come_back(scene: Scene) -> None:
    """Cloud Controller's Retry-After reaches the user."""
    for path in ("/", f"/v3/apps/{scene.app.guid}"):
        scene.cc.canned = {path: rate_limited("37")}
        with pytest.raises(LimitReached) as refused:
            outcome(scene.ask(scene.developer))
        assert refused.value.retry_after == 37
        scene.cc.canned.clear()
        outcome(scene.ask(scene.developer))
