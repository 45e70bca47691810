"""The api as a process, with doubles of a director and its UAA behind it and agents' doubles on the VMs.

Every test ends by looking for tokens in the api's log, which is at debug level
(`tests.kit.hosts.bosh.environment_in`).
"""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from demo.certificates import Authority
from demo.configurations import LOCAL
from demo.processes import wait_until
from pcapd.limits import AUTHORITY_BODY_MAX, AUTHORITY_CALL_TIMEOUT, KEYS_INTERVAL
from tests.kit.doubles import director as double
from tests.kit.doubles.director import DIRECTOR_UUID, Deployment, Instance
from tests.kit.doubles.https import Answer
from tests.kit.doubles.uaa import Key
from tests.kit.hosts.bosh import Environment, environment_in
from tests.kit.lab.readers import require, tshark_fields

INFO, KEYS = "/info", "/token_keys"
INSTANCES, DEPLOYMENTS = "/deployments/cf/instances", "/deployments"


@pytest.fixture
def environment(tmp_path: Path, authority: Authority) -> Iterator[Environment]:
    with environment_in(tmp_path, authority) as environment:
        yield environment


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Environment]:
    """For tests that leave nothing behind but requests."""
    with environment_in(tmp_path_factory.mktemp("bosh"), authority) as environment:
        yield environment


@pytest.fixture
def untouched(lasting: Environment) -> Environment:
    """Nothing was asked for yet, beyond what the api asks on its own."""
    for server in (lasting.director, lasting.uaa, lasting.evil):
        server.asked.clear()
    for cell in lasting.cells:
        cell.started.clear()
        cell.connections = 0
    return lasting


# --- what is captured --------------------------------------------------------


def test_group(untouched: Environment) -> None:
    """All VMs of a group are captured, each at the first of its addresses, on the host itself."""
    answer = untouched.vms(untouched.admin(), Accept="application/x-pcapng")
    assert (answer.status, answer.whole) == (200, True), answer.body
    for cell, instance in zip(untouched.cells, untouched.cf.instances):
        (start,) = cell.started
        assert start.instance == instance.name == f"router/{instance.id}"
        assert start.namespace is None and start.container is None
        assert f"router/{instance.id}:eth0".encode() in answer.body


def test_readable(untouched: Environment, tmp_path: Path) -> None:
    """An independent reader finds each VM's packets under its BOSH name."""
    require("tshark")
    answer = untouched.vms(untouched.admin(), Accept="application/x-pcapng")
    file = tmp_path / "out.pcapng"
    file.write_bytes(answer.body)
    names = {row[0] for row in tshark_fields(file, ["frame.interface_name"])}
    assert names == {f"{instance.name}:eth0" for instance in untouched.cf.instances[:2]}


@pytest.mark.parametrize(
    "named",
    [
        lambda vm: [("group", "router"), ("instance", vm.id)],
        lambda vm: [("group", "router"), ("instance", "1")],
        lambda vm: [("instance", f"router/{vm.id}")],
        lambda vm: [("instance", "router/1")],
    ],
    ids=["id", "index", "slug", "slug-index"],
)
def test_instance(untouched: Environment, named: Callable[[Instance], list[tuple[str, str]]]) -> None:
    """One instance of a group is captured, by its id or its index."""
    second = untouched.cf.instances[1]
    answer = untouched.vms(untouched.admin(), *named(second), Accept="application/x-pcapng")
    assert answer.whole and second.name.encode() in answer.body
    assert [start.instance for start in untouched.cells[1].started] == [second.name]
    assert not untouched.cells[0].started


def test_whole_deployment(untouched: Environment) -> None:
    """Without a group all VMs of the deployment are captured; an errand that is not running is not a failure."""
    query = [("deployment", "cf"), ("duration", "500ms")]
    answer = untouched.get("/capture", untouched.admin(), query)
    assert (answer.status, answer.whole) == (200, True)
    assert all(len(cell.started) == 1 for cell in untouched.cells)


def test_partly_there(untouched: Environment) -> None:
    """Instances that are named but do not exist make the file incomplete; the others are captured."""
    answer = untouched.vms(untouched.admin(), ("group", "router"), ("group", "haproxy"))
    assert (answer.status, answer.whole) == (200, False)
    assert all(len(cell.started) == 1 for cell in untouched.cells)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ([("group", "haproxy"), ("group", "nats")], ["group haproxy", "group nats"]),
        ([("group", "router"), ("instance", "7"), ("instance", "x-y")], ["instance 7", "instance x-y"]),
        ([("group", "smoke-tests")], ["smoke-tests/", "has no VM"]),
        ([("instance", "haproxy/0")], ["instance haproxy/0"]),
    ],
)
def test_nothing_there(untouched: Environment, query: list[tuple[str, str]], words: list[str]) -> None:
    """When nothing matches, the answer names everything that was not found."""
    answer = untouched.vms(untouched.admin(), *query)
    assert (answer.status, answer.error["code"]) == (404, "target_not_found")
    assert all(word in answer.error["title"] for word in words), answer.error
    assert "bosh -d cf instances" in answer.error["detail"]
    untouched.assert_no_agent_was_asked()


def test_no_such_deployment(untouched: Environment) -> None:
    """A deployment that does not exist is a 404 that names it."""
    answer = untouched.vms(untouched.admin(), ("deployment", "cf2"))
    assert answer.status == 404 and "no deployment cf2" in answer.error["title"]


@pytest.mark.parametrize(
    "query",
    [
        [("deployment", "../info")],
        [("deployment", "cf/../x")],
        [("deployment", "cf?format=full")],
        [("deployment", "cf#")],
        [("deployment", "c f")],
        [("deployment", "cf\r\nX: y")],
        [("group", "rou/ter")],
        [("group", "..")],
        [("instance", "../0")],
        [("instance", "a/b/c")],
        [("deployment", "x" * 300)],
        [("group", "router"), ("group", "router")],
        [("deployment", "cf"), ("appid", "x")],
        [("deployment", "cf"), ("target", "cell")],
        [("deployment", ""), ("group", "router")],
    ],
)
def test_bad_query(untouched: Environment, query: list[tuple[str, str]]) -> None:
    """A name that BOSH would not allow is refused before the director is asked."""
    answer = untouched.vms(untouched.admin(), *query)
    assert answer.status == 400, answer.body
    untouched.assert_no_question()


# --- who may -----------------------------------------------------------------


@pytest.mark.parametrize(
    "scope",
    ["bosh.admin", f"bosh.{DIRECTOR_UUID}.admin", "bosh.teams.blue.admin"],
    ids=["all", "own", "team"],
)
def test_may(untouched: Environment, scope: str) -> None:
    """Users who may use `bosh ssh` may capture."""
    answer = untouched.vms(untouched.director.token("openid", scope))
    assert (answer.status, answer.whole) == (200, True), answer.body
    # The list of deployments is only asked for where teams decide.
    assert (DEPLOYMENTS in untouched.director.paths()) is ("teams" in scope)


@pytest.mark.parametrize(
    "scope",
    [
        "bosh.read",
        f"bosh.{DIRECTOR_UUID}.read",
        "bosh.teams.blue.read",
        "bosh.other-director.admin",
        "bosh.teams.red.admin",
        "openid",
    ],
)
def test_may_not(untouched: Environment, scope: str) -> None:
    """Read access does not allow captures; nor do admin rights for another team or another director."""
    answer = untouched.vms(untouched.director.token("openid", scope))
    assert (answer.status, answer.error["code"]) == (403, "forbidden"), answer.body
    assert "alice" in answer.error["title"] and "bosh.admin" in answer.error["detail"]
    assert INSTANCES not in untouched.director.paths()
    untouched.assert_no_agent_was_asked()


def test_other_team_that_sees_it(environment: Environment) -> None:
    """A director that lists too much changes nothing: the teams it names decide, here."""
    listed = json.dumps([{"name": "cf", "teams": ["blue"]}]).encode()
    environment.director.canned[DEPLOYMENTS] = Answer(body=listed)
    asked = environment.director.paths().count(INSTANCES)
    assert environment.vms(environment.director.token("bosh.teams.red.admin")).status == 403
    assert environment.director.paths().count(INSTANCES) == asked, "nobody but us refused it"
    assert environment.vms(environment.director.token("bosh.teams.blue.admin")).status == 200


def test_unknown_deployment_of_a_team(untouched: Environment) -> None:
    """A team's admin gets the same answer for a deployment of others as for one that does not exist."""
    untouched.director.add(Deployment("secret", [], ["red"]))
    token = untouched.director.token("bosh.teams.blue.admin")
    answers = [untouched.vms(token, ("deployment", name)) for name in ("secret", "absent")]
    assert [answer.status for answer in answers] == [403, 403]
    texts = [answer.error["title"].replace(n, "N") for answer, n in zip(answers, ("secret", "absent"))]
    assert texts[0] == texts[1]


def test_token_scope(tmp_path: Path, authority: Authority) -> None:
    """A configured scope decides instead: an admin without it may not, a reader with it may."""
    with environment_in(tmp_path, authority, bosh={"token_scope": "pcap.capture"}) as environment:
        assert environment.vms(environment.admin()).status == 403
        assert environment.vms(environment.director.token("bosh.read", "pcap.capture")).status == 200
        # The scope is for us; the director has rules of its own about its lists.
        answer = environment.vms(environment.director.token("pcap.capture"))
        assert answer.status == 403 and "director does not let" in answer.error["title"]


def test_no_token(untouched: Environment) -> None:
    """A request without a token is a 401, and neither the director nor UAA is asked."""
    answer = untouched.get("/capture", None, [("deployment", "cf")])
    assert answer.status == 401
    untouched.assert_no_question()


# --- attacks -----------------------------------------------------------------


def claims(environment: Environment, **changes: Any) -> dict[str, Any]:
    given = {"scope": ["bosh.admin"], "aud": ["bosh", "bosh_cli"], **changes}
    return environment.uaa.claims(client="bosh_cli", **given)


def forge(environment: Environment, key: Any = None, header: Any = None, **changes: Any) -> str:
    """Make a token and remember it, so that it is looked for in the log."""
    token = environment.uaa.forge(claims(environment, **changes), key, **(header or {}))
    environment.uaa.access_tokens[token] = claims(environment, **changes)
    return token


ATTACKS: dict[str, tuple[Callable[[Environment], str], str]] = {
    "alg-none": (lambda e: forge(e, header={"alg": "none"}), "RS256"),
    "hs256-with-the-public-key": (lambda e: forge(e, header={"alg": "HS256"}), "RS256"),
    "jku-elsewhere": (
        lambda e: forge(
            e, e.evil.keys[0], {"jku": f"{e.evil.url}/token_keys"}, iss=f"{e.evil.url}/oauth/token"
        ),
        "key address other than UAA's",
    ),
    "jku-prefix": (
        lambda e: forge(e, e.evil.keys[0], {"jku": f"{e.uaa.url}.evil.localhost:{e.evil.port}/token_keys"}),
        "key address other than UAA's",
    ),
    "jku-user": (
        lambda e: forge(e, e.evil.keys[0], {"jku": f"{e.uaa.url}@{LOCAL}:{e.evil.port}/token_keys"}),
        "key address other than UAA's",
    ),
    "jku-path": (
        lambda e: forge(e, e.evil.keys[0], {"jku": f"{e.uaa.url}/x/token_keys"}),
        "key address other than UAA's",
    ),
    "attackers-key": (lambda e: forge(e, e.evil.keys[0]), "not UAA's"),
    "key-in-the-header": (lambda e: forge(e, e.evil.keys[0], {"jwk": e.evil.keys[0].public()}), "not UAA's"),
    "expired": (lambda e: forge(e, exp=int(time.time()) - 1), "has expired"),
    "not-yet-valid": (lambda e: forge(e, nbf=int(time.time()) + 600), "not valid yet"),
    "wrong-audience": (lambda e: forge(e, aud=["cloud_controller", "cf"]), "not meant for BOSH"),
    "wrong-issuer": (lambda e: forge(e, iss=f"{e.evil.url}/oauth/token"), "another UAA"),
    "issuer-prefix": (lambda e: forge(e, iss=f"{e.uaa.url}.evil.example/oauth/token"), "another UAA"),
    "refresh-token": (
        lambda e: e.uaa.refresh_token(client="bosh_cli", scope=["bosh.admin"], aud=["bosh", "bosh_cli"]),
        "refresh token",
    ),
    "unknown-kid": (lambda e: forge(e, header={"kid": "key-3"}), "one of UAA's keys"),
    "other-keys-kid": (lambda e: forge(e, e.uaa.keys[1], {"kid": "key-1"}), "not UAA's"),
    "opaque": (lambda e: secrets.token_hex(16), "not one of UAA's"),
    "static-token": (lambda e: e.static_token, "not one of UAA's"),
}


@pytest.mark.parametrize("name", list(ATTACKS))
def test_attack(untouched: Environment, name: str) -> None:
    """Each attack gets a 401 with the reason; the director, agents and the attacker's server receive nothing."""
    make, words = ATTACKS[name]
    answer = untouched.vms(make(untouched))
    assert (answer.status, answer.error["code"]) == (401, "unauthenticated"), answer.body
    assert words in answer.error["title"]
    assert answer.headers["www-authenticate"].startswith("Bearer")
    untouched.assert_no_question()


def test_missing_scope(untouched: Environment) -> None:
    """A good token without permissions gets a 403, and the director is not asked."""
    answer = untouched.vms(untouched.director.token("openid"))
    assert (answer.status, answer.error["code"]) == (403, "forbidden")
    untouched.assert_no_question()


@pytest.mark.parametrize(
    "value", ["bearer a b", "bearer \xe4", "Basic YTpi", "bearer", "bearer " + "x" * 15000]
)
def test_hostile_header(untouched: Environment, value: str) -> None:
    """A header that is not a bearer token is a 401, and neither the director nor UAA is asked."""
    connection = untouched.connection()
    connection.putrequest("GET", "/capture?deployment=cf")
    connection.putheader("Authorization", value.encode("latin-1"))
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()
    untouched.assert_no_question()


def keys_asked(environment: Environment) -> int:
    return sum(asked.path == KEYS for asked in environment.uaa.asked)


@pytest.mark.long
def test_unknown_kids_are_no_flood(environment: Environment) -> None:
    """UAA is asked once per interval, however many tokens with unknown key ids come."""
    time.sleep(KEYS_INTERVAL)  # the api's own look is over as long
    before, began = keys_asked(environment), time.monotonic()
    for number in range(12):
        assert environment.vms(forge(environment, header={"kid": f"k{number}"})).status == 401
    intervals = int((time.monotonic() - began) / KEYS_INTERVAL)
    assert 1 <= keys_asked(environment) - before <= 1 + intervals
    # Those with known keys are served meanwhile.
    assert environment.vms(environment.admin()).status == 200


@pytest.mark.long
def test_rotation(environment: Environment) -> None:
    """A new key of UAA's is found by the first token that it signed; one that is gone is forgotten."""
    old = environment.admin()
    assert environment.vms(old).status == 200
    time.sleep(KEYS_INTERVAL)
    gone = environment.uaa.keys[0]
    environment.uaa.keys = [Key("key-9")]
    assert environment.vms(environment.admin()).status == 200
    answer = environment.vms(forge(environment, gone))
    assert answer.status == 401 and "one of UAA's keys" in answer.error["title"]


@pytest.mark.long
def test_other_key_under_the_same_id(environment: Environment) -> None:
    """A new key under a known id counts from the next look at UAA's keys on; until then the old one does."""
    time.sleep(KEYS_INTERVAL)
    gone = environment.uaa.keys[0]
    environment.uaa.keys[0] = Key(gone.name)
    assert environment.vms(environment.admin()).status == 401
    assert environment.vms(forge(environment, header={"kid": "unknown"})).status == 401  # makes it look
    assert environment.vms(environment.admin()).status == 200
    assert environment.vms(forge(environment, gone)).status == 401


@pytest.mark.long
def test_uaa_named_anew(environment: Environment) -> None:
    """When the director names another UAA, keys of the old one no longer count."""
    old = environment.admin()
    assert environment.vms(old).status == 200
    environment.director.info = {
        "user_authentication": {"type": "uaa", "options": {"url": environment.evil.url}}
    }
    # The api looks once a minute; a restart is a look.
    environment.api.stop()
    environment.api.start()
    environment.wait_for_health(True)
    assert f"its UAA is {environment.evil.url}" in environment.api.log()
    assert environment.vms(old).status == 401


# --- trouble -----------------------------------------------------------------

#: More than any answer may have.
ENDLESS = Answer(200, b"x" * 1024 * 1024, repeat=AUTHORITY_BODY_MAX // 1024**2 + 1)


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (double.not_authorized(INSTANCES), 401, "bosh log-in"),
        (double.director_error(401, 600000, "Require one of the scopes: x"), 403, "does not let this token"),
        (Answer(403, b"Forbidden"), 403, "does not let this token"),
        (double.director_error(404, 70000, "Deployment 'cf' doesn't exist"), 404, "no deployment cf"),
        (Answer(404, b"Endpoint '/x' not found.\n"), 503, "(404)"),
        (Answer(500), 503, "(500)"),
        (Answer(502, b"<html>Bad Gateway</html>"), 503, "(502)"),
        (Answer(503), 503, "(503)"),
        (Answer(429), 429, "limits"),
        (Answer(302, headers=(("Location", "https://evil.example.test/"),)), 503, "redirect"),
        (Answer(200, b"<html>Maintenance</html>"), 503, "makes no sense"),
        (Answer(200, b""), 503, "makes no sense"),
        (Answer(200, b"{}"), 503, "makes no sense"),
        (Answer(200, b"[" * 100_000), 503, "makes no sense"),
        (Answer(200, b'[{"name": "cf"', length=500), 503, "cut off"),
        (ENDLESS, 503, "more than"),
    ],
    ids=lambda value: None,
)
@pytest.mark.parametrize("where", [DEPLOYMENTS, INSTANCES])
@pytest.mark.long(
    but=(
        "answer0-",
        "answer13",
    )
)
def test_trouble(untouched: Environment, where: str, answer: Answer, status: int, words: str) -> None:
    """Each failure of director or UAA has its own clear answer, and no agent opens anything."""
    token = untouched.director.token("bosh.teams.blue.admin")
    untouched.director.canned[where] = answer
    try:
        got = untouched.vms(token)
    finally:
        untouched.director.canned.clear()
    assert got.status == status, got.body
    assert words in f"{got.error['title']} {got.error['detail']}"
    untouched.assert_no_agent_was_asked()
    assert not untouched.evil.asked
    # Whoever asks again when it is over is served.
    assert untouched.vms(token).status == 200


@pytest.mark.parametrize(
    "answer",
    [Answer(200, b"[]", delay=AUTHORITY_CALL_TIMEOUT + 2), Answer(200, b" " * 2000, trickle=0.1)],
    ids=["silent", "trickle"],
)
@pytest.mark.long
def test_slow(untouched: Environment, answer: Answer) -> None:
    """An answer that does not come, or not to its end, is given up in time."""
    untouched.director.canned[INSTANCES] = answer
    try:
        got = untouched.vms(untouched.admin())
    finally:
        untouched.director.canned.clear()
    assert got.status == 503 and "did not answer within" in got.error["title"]


@pytest.mark.parametrize(
    ("where", "answer", "words"),
    [
        (INFO, Answer(500), "(500)"),
        (INFO, Answer(200, b"<html>"), "makes no sense"),
        (INFO, Answer(200, {"name": "x", "uuid": "y", "user_authentication": {"type": "basic"}}), "basic"),
        (KEYS, Answer(500), "(500)"),
        (KEYS, Answer(200, b"<html>"), "makes no sense"),
        (KEYS, Answer(200, {"keys": [{"kty": "RSA"}]}), "makes no sense"),
    ],
)
@pytest.mark.long(but=("answer0",))
def test_starts_in_trouble(
    tmp_path: Path, authority: Authority, where: str, answer: Answer, words: str
) -> None:
    """The api starts, is unhealthy, refuses with a 503, and recovers on its own."""
    with Away(tmp_path, authority) as environment:
        server = environment.director if where == INFO else environment.uaa
        server.canned[where] = answer
        environment.begin()
        assert environment.wait_for_health(False)["message"] == "not ready"
        token = environment.admin()
        assert environment.vms(token).status == 503
        environment.assert_no_agent_was_asked()
        wait_until(lambda: words in environment.api.log(), "the reason is logged", timeout=60)
        server.canned.clear()
        assert environment.wait_for_health(True)["message"] == "ready"
        assert "is director lab" in environment.api.log()
        assert environment.vms(token).status == 200


def test_starts_alone(tmp_path: Path, authority: Authority) -> None:
    """The api starts while the director is away, and serves once it is back."""
    with Away(tmp_path, authority) as environment:
        environment.begin()
        environment.director.stop()
        environment.api.stop()
        environment.api.start()
        environment.wait_for_health(False)
        assert environment.health()[0] == 503
        assert environment.vms(environment.admin()).status == 503
        environment.director.start()
        environment.wait_for_health(True)
        body = json.dumps(environment.health()[1])  # it is public
        assert DIRECTOR_UUID not in body and environment.uaa.url not in body
        assert environment.vms(environment.admin()).status == 200


@pytest.mark.long
def test_uaa_away(environment: Environment) -> None:
    """While UAA is away, tokens of known keys are still checked and taken; others cannot be."""
    environment.uaa.stop()
    assert environment.vms(environment.admin()).status == 200
    time.sleep(KEYS_INTERVAL)
    assert environment.vms(forge(environment, header={"kid": "key-5"})).status == 503
    assert environment.vms(forge(environment, environment.evil.keys[0])).status == 401


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_impostor(tmp_path: Path, authority: Authority, wrong: str) -> None:
    """A director, and a UAA, whose certificate is not good, is told nothing."""
    with Away(tmp_path, authority) as environment:
        other = Authority(tmp_path / "other") if wrong == "authority" else authority
        ips = (LOCAL,) if wrong == "authority" else ("192.0.2.9",)
        credentials = other.issue("impostor", dns=("impostor.example",), ips=ips)
        impostor = type(environment.uaa)(credentials)
        with impostor:
            environment.director.info = {
                "user_authentication": {"type": "uaa", "options": {"url": impostor.url}}
            }
            environment.begin()
            state = environment.wait_for_health(False)
            token = forge(
                environment, header={"jku": f"{impostor.url}/token_keys"}, iss=f"{impostor.url}/oauth/token"
            )
            assert environment.vms(token).status == 503
            assert not impostor.asked
            assert state["message"] == "not ready"
            assert "UAA" in environment.api.log()
            environment.assert_no_agent_was_asked()


# --- the rest ----------------------------------------------------------------


def test_health(untouched: Environment) -> None:
    """The health answer shows only that the resolver is ready."""
    status, body = untouched.health()
    assert status == 200 and body["resolvers"]["bosh"] == {"healthy": True, "message": "ready"}


def test_audit(environment: Environment) -> None:
    """Before the first packet the audit log holds user, deployment, groups, instances and addresses."""
    token = environment.director.token("bosh.admin", user="bob", user_name="bob\x1b[2J")
    query = [("group", "router"), ("instance", "0")]
    environment.vms(token, *query, X_Vcap_Request_Id="request-4711")
    (started,) = environment.audit("capture_started")
    first = environment.cf.instances[0]
    assert (started["user"], started["request_id"]) == ("bob?[2J", "request-4711")
    assert (started["deployment"], started["groups"], started["instances"]) == ("cf", ["router"], ["0"])
    assert len(started["targets"]) == 1
    assert first.name in started["targets"][0] and first.ips[0] in started["targets"][0]
    environment.vms(environment.director.token("bosh.read", user="eve"))
    (refused,) = environment.audit("capture_refused")
    assert refused["code"] == "forbidden" and "eve" in refused["reason"] and "cf" in refused["reason"]


def test_per_user(tmp_path: Path, authority: Authority) -> None:
    """The limit per user counts the user of the token."""
    with environment_in(tmp_path, authority, limits={"per_user": 1}) as environment:
        connection = environment.connection()
        path = "/capture?deployment=cf&group=router&duration=30s"
        connection.request("GET", path, headers={"Authorization": f"bearer {environment.admin()}"})
        assert connection.getresponse().status == 200
        assert environment.vms(environment.admin()).status == 429
        assert environment.vms(environment.admin(user="carol")).status == 200
        connection.close()


def test_static_beside_it(untouched: Environment) -> None:
    """Static targets and VMs have nothing to do with each other."""
    token = untouched.admin()
    assert untouched.get("/capture", token, [("target", "cell"), ("duration", "300ms")]).status == 401
    untouched.assert_no_question()


def test_no_bosh(tmp_path: Path, authority: Authority) -> None:
    """An api without a director says so."""
    with Away(tmp_path, authority, bosh=None) as environment:
        environment.begin()
        answer = environment.vms("token")
        assert answer.status == 404 and "does not capture BOSH deployments" in answer.error["title"]


class Away(Environment):
    """An environment that is not waited for: `begin` starts it."""

    healthy = False

    def __init__(self, directory: Path, authority: Authority, **api: Any) -> None:
        super().__init__(directory, authority, api)

    def begin(self) -> None:
        self.start()

    def __enter__(self) -> Away:
        self.resources.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.resources.__exit__(*error)
        if error[0] is None:
            self.assert_discreet()
