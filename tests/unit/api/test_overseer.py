"""What the api asks with a client of its own: where instances are, and whether a user still has the role."""

from __future__ import annotations

from typing import Any, Iterator, Optional
from urllib.parse import urlencode

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from demo.certificates import Authority, Credentials
from pcapd.api.resolvers import cloudfoundry as cloudfoundry_module
from pcapd.api.resolvers import ownclient as ownclient_module
from pcapd.api.resolvers.base import Overseer, Resolved, Standing
from pcapd.api.resolvers.cloudfoundry import CloudFoundryResolver
from pcapd.config.schema import CloudFoundryClient, CloudFoundryConfig, OptInConfig, Permission
from pcapd.errors import Forbidden, ResolverUnavailable, TargetNotFound
from pcapd.limits import AUTHORITY_PAGES_MAX, CLIENT_TOKEN_MARGIN, CLIENT_TOKEN_PAUSE
from pcapd.wire import App, Request
from tests.kit.doubles.cloud_controller import CfApp, CloudController, Instance, Process, User
from tests.kit.doubles.https import Answer, Asked
from tests.kit.doubles.signing import CLIENT, SigningUaa
from tests.kit.doubles.uaa import ACCESS_VALIDITY
from tests.kit.unit.authorities import Authorities, outcome

#: The client's address.
HOME = "203.0.113.7"


class Scene:
    """A resolver with a client of its own, a Cloud Controller with one app, and a UAA."""

    def __init__(self, credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.cc = CloudController(credentials, port=443)
        self.uaa = SigningUaa(credentials, 8443, controller=self.cc)
        self.cc.links = {"uaa": {"href": self.uaa.url}}
        self.app = self.cc.add(CfApp(processes=[Process(instances=[Instance(0, host="192.0.2.10")])]))
        self.alice = User(develops={self.app.space})
        self.authorities = Authorities(self.cc, self.uaa)
        for module in (cloudfoundry_module, ownclient_module):
            monkeypatch.setattr(module, "Authority", self.authorities)
        self.request = Request(app=App(self.app.guid))
        self.configure()

    def configure(
        self,
        required: Permission = "read_sensitive_data",
        headers_only: Optional[Permission] = None,
        opt_in: Optional[OptInConfig] = None,
        client: Optional[CloudFoundryClient] = None,
    ) -> None:
        """Start another resolver."""
        client = client or CloudFoundryClient(**self.uaa.client)
        config = CloudFoundryConfig(self.cc.url, None, required, headers_only, opt_in, client)
        self.resolver = CloudFoundryResolver(config, 9494, self.clock)

    @property
    def overseer(self) -> Overseer:
        assert self.resolver.overseer is not None
        return self.resolver.overseer

    def standing(self, user: Optional[User] = None) -> Standing:
        """Why somebody may capture, according to their own token, which is of no use afterwards."""
        token = self.cc.token(user or self.alice)
        standing = outcome(self.resolver.resolve(self.request, token, HOME)).standing
        self.cc.users[token + "-expired"] = self.cc.users.pop(token)
        self.cc.asked.clear()
        assert standing is not None
        return standing

    def check(self, standing: Standing) -> None:
        outcome(self.overseer.check(self.request, standing))

    def survey(self, standing: Standing) -> Deferred[Resolved]:
        return self.overseer.survey(self.request, standing)

    def client_tokens(self) -> int:
        """How many UAA was asked for."""
        return sum(asked.path == "/oauth/token" for asked in self.uaa.asked)


@pytest.fixture(scope="module")
def cc_credentials(authority: Authority) -> Credentials:
    return authority.issue("cloud-controller", dns=("localhost",))


@pytest.fixture
def scene(
    cc_credentials: Credentials, monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]]
) -> Iterator[Scene]:
    scene = Scene(cc_credentials, monkeypatch)
    yield scene
    assert not scene.authorities.asking and not scene.clock.getDelayedCalls()
    log = repr(events)
    assert not any(secret in log for secret in (*scene.cc.users, *scene.uaa.clients.values()) if secret)


# --- instances -----------------------------------------------------------------


def test_instances_without_the_users_token(scene: Scene) -> None:
    """After the user's token has expired, the instances are found with the api's own."""
    standing = scene.standing()
    scene.app.instances[0].restart("192.0.2.11")
    found = outcome(scene.survey(standing))
    assert [target.host for target in found.targets] == ["192.0.2.11"]
    tokens = {asked.headers["authorization"] for asked in scene.cc.asked if asked.path != "/"}
    assert len(tokens) == 1 and scene.cc.users[tokens.pop().split()[1]].name == CLIENT


def test_an_app_that_was_deleted(scene: Scene) -> None:
    """The instances of a deleted app cannot be found; its user still has the role in its space."""
    standing = scene.standing()
    del scene.cc.apps[scene.app.guid]
    with pytest.raises(TargetNotFound):
        outcome(scene.survey(standing))
    scene.check(standing)


# --- roles ---------------------------------------------------------------------


def taken(scene: Scene, user: User) -> None:
    """The user has no roles any longer."""
    for places in (user.develops, user.audits, user.manages):
        places.clear()


@pytest.mark.parametrize(
    ("required", "user"),
    [
        ("read_sensitive_data", {"develops": "space"}),
        ("read_basic_data", {"develops": "space"}),
        ("read_basic_data", {"audits": "space"}),
        ("read_basic_data", {"manages": "organization"}),
    ],
    ids=str,
)
def test_a_role_that_is_taken_away(scene: Scene, required: Permission, user: dict[str, str]) -> None:
    """Whoever the permission was granted to passes each check, until the role is gone; other spaces are no help."""
    scene.configure(required)
    places = {"space": scene.app.space, "organization": scene.cc.organization}
    bob = User("bob", **{kind: {places[place]} for kind, place in user.items()})
    standing = scene.standing(bob)
    scene.check(standing)
    taken(scene, bob)
    bob.develops.add("another-space")
    with pytest.raises(Forbidden, match="was taken away"):
        scene.check(standing)


def test_a_weaker_role(scene: Scene) -> None:
    """An auditor may go on with headers where that is allowed, and not with whole packets."""
    scene.configure(headers_only="read_basic_data")
    standing = scene.standing()
    scene.alice.develops.clear()
    scene.alice.audits.add(scene.app.space)
    outcome(scene.overseer.check(Request(app=App(scene.app.guid), headers_only=True), standing))
    with pytest.raises(Forbidden):
        scene.check(standing)


def test_roles_of_others(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that ignores the question's filter grants nothing."""
    standing = scene.standing()
    taken(scene, scene.alice)
    others = [
        scene.cc._role(*role)
        for role in (
            ("space_developer", {"user": "mallory", "space": scene.app.space, "organization": None}),
            ("space_developer", {"user": scene.alice.id, "space": "another", "organization": None}),
            ("space_auditor", {"user": scene.alice.id, "space": scene.app.space, "organization": None}),
        )
    ]
    scene.cc.canned["/v3/roles"] = Answer(body={"pagination": {"next": None}, "resources": others})
    with pytest.raises(Forbidden):
        scene.check(standing)


def test_roles_on_a_later_page(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages are read, but there is an end to asking for the next one, and another host is not asked."""
    standing = scene.standing()
    roles, hosts, last = scene.cc._roles, [scene.cc.url], 3

    def paged(asked: Asked, user: User) -> Answer:
        page = int(asked.query.pop("page", ["1"])[0])
        if page == last:
            return roles(asked, user)
        query = urlencode({name: values[0] for name, values in asked.query.items()} | {"page": page + 1})
        following = {"href": f"{hosts[0]}/v3/roles?{query}"}
        return Answer(body={"pagination": {"next": following}, "resources": []})

    monkeypatch.setattr(scene.cc, "_roles", paged)
    scene.check(standing)
    last = 2 * AUTHORITY_PAGES_MAX
    with pytest.raises(ResolverUnavailable, match="does not end"):
        scene.check(standing)
    hosts[0] = "https://evil.example.com"
    with pytest.raises(ResolverUnavailable, match="on another host"):
        scene.check(standing)


def test_an_administrator_has_no_role(scene: Scene) -> None:
    """A right that is a scope of the user's token cannot be looked up: it is not taken for a lost role."""
    admin = User("admin", admin=True, scopes=("cloud_controller.admin",))
    standing = scene.standing(admin)
    assert standing.by_scope
    scene.check(standing)


def test_an_app_that_opts_out(scene: Scene) -> None:
    """An app whose label was removed may not be captured any longer."""
    label = ("pcap.example.com/capture", "allowed")
    scene.configure(opt_in=OptInConfig(label=label))
    scene.cc.labels[scene.app.guid] = {label[0]: label[1]}
    standing = scene.standing()
    scene.check(standing)
    scene.cc.labels.clear()
    for ask in (lambda: scene.check(standing), lambda: outcome(scene.survey(standing))):
        with pytest.raises(Forbidden, match="has not opted in"):
            ask()


# --- what is not a lost role -----------------------------------------------------


@pytest.mark.parametrize(
    "answer", [Answer(503), Answer(200, b"{}"), Answer(200, b'{"resources": 1}'), Answer(302), Answer(429)]
)
def test_trouble_is_not_a_lost_role(scene: Scene, answer: Answer) -> None:
    """While Cloud Controller fails, nobody is told that they may not."""
    standing = scene.standing()
    scene.cc.canned["/v3/roles"] = answer
    with pytest.raises(Exception) as failed:
        scene.check(standing)
    assert failed.type.__name__ in ("ResolverUnavailable", "LimitReached")
    scene.cc.canned.clear()
    scene.check(standing)


@pytest.mark.parametrize("scopes", [["cloud_controller.read"], ["uaa.none"]])
def test_a_client_that_may_not_read_roles(scene: Scene, scopes: list[str], events: list[Any]) -> None:
    """Without the authority, Cloud Controller would show no roles: the client is not used at all."""
    standing = scene.standing()
    scene.uaa.authorities[CLIENT] = scopes
    for _ in range(2):
        with pytest.raises(ResolverUnavailable, match="lacks the authority"):
            scene.check(standing)
        scene.clock.advance(2 * CLIENT_TOKEN_PAUSE)
    assert "/v3/roles" not in scene.cc.paths()
    assert [str(event).count("no token for the api's own client") for event in events].count(1) == 1


# --- the client's token -----------------------------------------------------------


def test_the_token_is_kept_and_renewed(scene: Scene) -> None:
    """One token serves many questions, and is replaced shortly before it expires."""
    standing = scene.standing()
    for _ in range(3):
        scene.check(standing)
    assert scene.client_tokens() == 1
    scene.clock.advance(ACCESS_VALIDITY - 1 - CLIENT_TOKEN_MARGIN)
    scene.check(standing)
    assert scene.client_tokens() == 2


def test_a_token_that_is_refused(scene: Scene) -> None:
    """Cloud Controller may refuse it early, as after a rotation of keys: then there is another one."""
    standing = scene.standing()
    scene.check(standing)
    for token in [token for token, user in scene.cc.users.items() if user.name == CLIENT]:
        del scene.cc.users[token]
    scene.check(standing)
    assert scene.client_tokens() == 2
    scene.cc.canned["/v3/roles"] = Answer(401)
    with pytest.raises(ResolverUnavailable, match="does not accept the api's own client"):
        scene.check(standing)


def test_a_wrong_secret(scene: Scene) -> None:
    """UAA is not asked again at once; a new secret helps after SIGHUP."""
    standing = scene.standing()
    right, scene.uaa.clients[CLIENT] = scene.uaa.clients[CLIENT], "another"
    for _ in range(3):
        with pytest.raises(ResolverUnavailable, match="UAA does not accept the api's own client"):
            scene.check(standing)
    assert scene.client_tokens() == 1
    scene.uaa.clients[CLIENT] = right
    scene.clock.advance(CLIENT_TOKEN_PAUSE)
    scene.check(standing)


def test_a_secret_in_a_file(scene: Scene, tmp_path: Any) -> None:
    """The first line of the file is the secret; it is read again when the configuration is."""
    file = tmp_path / "secret"
    file.write_text("wrong\n")
    scene.configure(client=CloudFoundryClient(CLIENT, secret_file=file))
    standing = scene.standing()
    with pytest.raises(ResolverUnavailable):
        scene.check(standing)
    file.write_text(f"{scene.uaa.clients[CLIENT]}\n")
    use = scene.resolver.prepare()
    with pytest.raises(ResolverUnavailable):
        scene.check(standing)
    use()
    scene.check(standing)


# --- an app that was deleted --------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "may"),
    [
        ({"develops": True}, True),
        ({"audits": True}, False),
        ({}, False),
        ({"scopes": ("cloud_controller.admin",), "admin": True}, True),
        ({"scopes": ("cloud_controller.global_auditor",)}, False),
    ],
    ids=str,
)
def test_who_is_permitted_in_the_space_of_a_deleted_app(
    scene: Scene, user: dict[str, Any], may: bool
) -> None:
    """Whoever could capture the app, if it were still there, by their own token."""
    standing = scene.standing()
    del scene.cc.apps[scene.app.guid]
    places = {name: {scene.app.space} for name in ("develops", "audits") if user.get(name)}
    carol = User("carol", **{**user, **places})
    vouched = scene.resolver.vouch(scene.request, standing, scene.cc.token(carol), HOME)
    if may:
        outcome(vouched)
    else:
        with pytest.raises(TargetNotFound, match="there is no app"):
            outcome(vouched)
