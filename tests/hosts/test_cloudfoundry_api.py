"""The api as a process, with Cloud Controller's double behind it and agents' doubles on the cells.

Every test ends by looking for tokens in the api's log, which is at debug level
(`tests.kit.hosts.foundation.foundation_in`).
"""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path
from typing import Any, Iterator, Optional

import pytest

from demo.certificates import Authority
from demo.configurations import LOCAL, api_config, free_port, merged
from demo.daemons import Daemon
from demo.processes import wait_until
from pcapd.limits import (
    AUTHORITY_BODY_MAX,
    AUTHORITY_CALL_TIMEOUT,
    AUTHORITY_PAGES_MAX,
    FOLLOW_INTERVAL,
    PROCESSES_MAX,
)
from pcapd.wire import Error
from tests.kit.doubles import cloud_controller as cc
from tests.kit.doubles.cloud_controller import CfApp, CloudController, Instance, Process, User
from tests.kit.doubles.https import Answer
from tests.kit.hosts.foundation import Foundation, foundation_in
from tests.kit.lab.readers import capinfos, require, tshark_fields

#: More than any answer may have.
ENDLESS_HEADERS = (("X-Filler", "x" * 16000),) * (AUTHORITY_BODY_MAX // 16000 + 10)


@pytest.fixture
def foundation(tmp_path: Path, authority: Authority) -> Iterator[Foundation]:
    with foundation_in(tmp_path, authority) as foundation:
        yield foundation


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Foundation]:
    """For tests that leave nothing behind but requests: there are many, and an api takes its time to start."""
    with foundation_in(tmp_path_factory.mktemp("foundation"), authority) as foundation:
        yield foundation


@pytest.fixture
def untouched(lasting: Foundation) -> Foundation:
    """Nothing was asked for yet, beyond what the api asks on its own."""
    lasting.cc.asked.clear()
    lasting.cc.canned.clear()
    for cell in lasting.cells:
        cell.started.clear()
        cell.connections = 0
    return lasting


@pytest.fixture
def app(foundation: Foundation) -> CfApp:
    """Two instances, on different cells."""
    return two_instances(foundation)


def two_instances(foundation: Foundation) -> CfApp:
    first, second = foundation.cells
    instances = [Instance(0, host=first.host), Instance(1, host=second.host, address="10.255.93.170")]
    return foundation.cc.add(CfApp(processes=[Process(instances=instances)]))


@pytest.fixture
def token(foundation: Foundation, app: CfApp) -> str:
    return foundation.cc.developer(app)


# --- what is captured --------------------------------------------------------


def test_default_index(foundation: Foundation, app: CfApp, token: str) -> None:
    """Without an index, as in 2022, instance 0 of type web is captured and nothing else is looked up."""
    answer = foundation.capture(app, token)
    assert (answer.status, answer.whole) == (200, True), answer.body
    assert answer.body.count(b"myapp/0") == 1 and b"myapp/1" not in answer.body
    (start,) = foundation.cells[0].started
    instance = app.instances[0]
    assert start.container is not None and start.namespace is None
    assert start.container.app == app.guid
    assert start.container.handle == instance.handle
    assert start.container.address == instance.address
    assert (start.container.index, start.container.process) == (0, app.processes[0].guid)
    assert not foundation.cells[1].started


def test_indices(foundation: Foundation, app: CfApp, token: str) -> None:
    """Several indices are captured; the 2022 client's empty values mean the defaults."""
    answer = foundation.capture(
        app, token, ("index", 0), ("index", 1), ("type", ""), ("device", ""), ("filter", "")
    )
    assert answer.whole and b"myapp/0" in answer.body and b"myapp/1" in answer.body
    assert foundation.cells[0].started[0].interfaces == ()


def test_all_instances(foundation: Foundation, app: CfApp, token: str) -> None:
    """pcapctl without --instance captures all, each as an interface named APP/INDEX:DEVICE."""
    require("tshark")
    client = foundation.pcapctl(app, token, "--duration", "1s", "--device", "eth0", "--device", "lo")
    done = client.done()
    assert done.returncode == 0, done.stderr
    rows = tshark_fields(client.output, ["frame.interface_name"])
    names = {f"myapp/{index}:{device}" for index in (0, 1) for device in ("eth0", "lo")}
    assert {row[0] for row in rows} == names


def test_other_type(foundation: Foundation, app: CfApp, token: str) -> None:
    """A worker's instances are not captured as web's."""
    worker = Process("worker", [Instance(0, host=foundation.cells[1].host)])
    app.processes.append(worker)
    assert foundation.capture(app, token, ("type", "worker")).whole
    (start,) = foundation.cells[1].started
    assert start.container is not None and start.container.process == worker.guid
    assert not foundation.cells[0].started


@pytest.mark.parametrize("page_size", [None, 1])
def test_rolling(foundation: Foundation, app: CfApp, token: str, page_size: Optional[int]) -> None:
    """During a rolling deployment instances of both processes are captured, also from pages of one entry."""
    foundation.cc.page_size = page_size
    first = foundation.cells[0]
    newer = Process(instances=[Instance(0, host=first.host)], created_at="2026-02-01T00:00:00Z")
    app.processes.append(newer)
    answer = foundation.capture(app, token)
    assert answer.whole
    older = f"myapp/0@{app.processes[0].guid[:8]}"
    assert {start.instance for start in first.started} == {"myapp/0", older}
    by_name = {start.instance: start.container for start in first.started}
    assert by_name["myapp/0"].process == newer.guid  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("version", "handle", "address"),
    [("3.191.0", False, True), ("3.148.0", False, False), ("3.192.0", True, True)],
)
@pytest.mark.long(but=("3.191.0",))
def test_older_api(
    foundation: Foundation, app: CfApp, token: str, version: str, handle: bool, address: bool
) -> None:
    """An older Cloud Controller says less about containers; index and process are always there."""
    foundation.cc.api_version = version
    assert foundation.capture(app, token).whole
    container = foundation.cells[0].started[0].container
    assert container is not None
    assert (container.handle is not None, container.address is not None) == (handle, address)
    assert (container.index, container.process) == (0, app.processes[0].guid)


def test_without_metrics(foundation: Foundation, app: CfApp, token: str) -> None:
    """Trouble of log-cache alone (empty usage, X-Cf-Warnings) does not matter here."""
    foundation.cc.log_cache = False
    assert foundation.capture(app, token).whole


# --- what of it cannot be ----------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Instance.crash, "CRASHED"),
        (Instance.start_up, "STARTING"),
        (lambda instance: instance.go_down("insufficient resources: memory"), "insufficient resources"),
    ],
    ids=["crashed", "starting", "down"],
)
@pytest.mark.long(but=("crashed",))
def test_unavailable_instance(
    foundation: Foundation, app: CfApp, token: str, change: Any, words: str
) -> None:
    """An instance that is not running is reported, the rest is captured, and pcapctl exits with 3."""
    change(app.instances[1])
    done = foundation.pcapctl(app, token, "--duration", "1s").done()
    assert done.returncode == 3, done.stderr
    assert "myapp/1" in done.stderr and words in done.stderr
    # A file over plain HTTP has no place for the words, so it does not end properly.
    answer = foundation.capture(app, token, ("index", 0), ("index", 1))
    assert answer.status == 200 and not answer.whole and b"myapp/0" in answer.body


def test_none_running(foundation: Foundation, app: CfApp, token: str) -> None:
    """When no instance is running, the answer says so with the reasons."""
    app.instances[0].crash()
    app.instances[1].go_down("no compatible cell")
    answer = foundation.capture(app, token, ("index", 0), ("index", 1))
    assert (answer.status, answer.error["code"]) == (404, "target_not_found")
    assert "CRASHED" in answer.error["title"] and "no compatible cell" in answer.error["title"]
    foundation.assert_no_agent_was_asked()


def test_unknown_index(foundation: Foundation, app: CfApp, token: str) -> None:
    """An index that does not exist is named; alone it is a 404, beside others a notice."""
    answer = foundation.capture(app, token, ("index", 7))
    assert answer.status == 404 and "myapp/7 does not exist" in answer.error["title"]
    assert "has 2 of type web" in answer.error["title"]
    done = foundation.pcapctl(app, token, "--instance", "0,7", "--duration", "1s").done()
    assert done.returncode == 3 and "myapp/7" in done.stderr


@pytest.mark.long
def test_many_instances(tmp_path: Path, authority: Authority) -> None:
    """Of 20 instances on 3 cells, the unreachable and stopped ones are named, the rest is captured, status 3."""
    require("tshark")
    with foundation_in(tmp_path, authority, cells=2) as foundation:
        hosts = [cell.host for cell in foundation.cells] + ["127.0.0.99"]
        instances = [Instance(index, host=hosts[index % 3]) for index in range(20)]
        instances[4].go_down()
        app = foundation.cc.add(CfApp(processes=[Process(instances=instances)]))
        client = foundation.pcapctl(app, foundation.cc.developer(app), "--duration", "2s")
        done = client.done()
        assert done.returncode == 3, done.stderr
        missing = [4, *range(2, 20, 3)]
        for index in missing:
            assert re.search(rf"myapp/{index}[:, ]", done.stderr), done.stderr
        got = {row[0] for row in tshark_fields(client.output, ["frame.interface_name"])}
        assert got == {f"myapp/{index}:eth0" for index in range(20) if index not in missing}
        capinfos(client.output)


# --- who may -----------------------------------------------------------------


def test_auditor(foundation: Foundation, app: CfApp) -> None:
    """A user who sees the app but not its secrets gets 403, and no agent opens anything."""
    answer = foundation.capture(app, foundation.cc.auditor(app))
    assert (answer.status, answer.error["code"]) == (403, "forbidden")
    assert "read_sensitive_data" in answer.error["title"]
    foundation.assert_no_agent_was_asked()
    (record,) = foundation.audit("capture_refused")
    assert app.guid in record["reason"] and "auditor@example.test" in record["reason"]
    # Where instances run was not even asked.
    assert not any(path.endswith("/stats") for path in foundation.cc.paths())


def test_basic_permission(tmp_path: Path, authority: Authority) -> None:
    """An operator can require a weaker permission."""
    settings = {"required_permission": "read_basic_data"}
    with foundation_in(tmp_path, authority, cloud_foundry=settings) as foundation:
        app = foundation.cc.add(CfApp(processes=[Process(instances=[Instance(0, host="127.0.0.2")])]))
        assert foundation.capture(app, foundation.cc.auditor(app)).whole


def test_invisible(foundation: Foundation, app: CfApp) -> None:
    """An app of another space looks exactly like one that does not exist."""
    stranger = foundation.cc.token(User("mallory@example.test", develops={cc.new_guid()}))
    hidden = foundation.capture(app, stranger)
    missing = foundation.capture(CfApp(guid=cc.new_guid()), stranger)
    assert hidden.status == missing.status == 404
    assert hidden.body.replace(app.guid.encode(), b"") == missing.body.replace(
        missing.error["title"].split()[4].rstrip(",").encode(), b""
    )
    foundation.assert_no_agent_was_asked()


@pytest.mark.parametrize(
    ("token", "words", "asked"),
    [
        ("nonsense", "not a JWT", False),
        (secrets.token_hex(16), "not a JWT", False),
        ("a.b.c", "not a JWT", False),
        (cc.unsigned_token(user_name="admin"), "no expiry time", False),
        (cc.unsigned_token(user_name="admin", exp=time.time() - 60), "has expired", False),
        (cc.unsigned_token(user_name="admin", exp=time.time() + 600), "does not accept", True),
    ],
    ids=["word", "opaque", "dots", "without an end", "expired", "unsigned"],
)
def test_bad_token(untouched: Foundation, token: str, words: str, asked: bool) -> None:
    """A bad token gets a 401; Cloud Controller is asked only about strings that could be a token."""
    foundation, app = untouched, two_instances(untouched)
    answer = foundation.capture(app, token)
    assert (answer.status, answer.error["code"]) == (401, "unauthenticated")
    assert words in answer.error["title"] and answer.error["detail"] == "log in again: cf login"
    assert "www-authenticate" in answer.headers
    assert any(path != "/" for path in foundation.cc.paths()) is asked
    assert token not in foundation.api.log()
    foundation.assert_no_agent_was_asked()


def test_no_token(foundation: Foundation, app: CfApp) -> None:
    """Without a token Cloud Controller is not asked."""
    before = len(foundation.cc.asked)
    assert foundation.get("/capture", query=[("appid", app.guid)]).status == 401
    assert all(path == "/" for path in foundation.cc.paths()[before:])


def test_hostile_token(foundation: Foundation, app: CfApp) -> None:
    """A hostile token does not become a header."""
    spaced = foundation.capture(app, "one two")
    assert spaced.status == 401
    assert all(path == "/" for path in foundation.cc.paths())


def test_scope(foundation: Foundation, app: CfApp) -> None:
    """A token without the scope to read is a 403."""
    poor = foundation.cc.token(User("poor@example.test", develops={app.space}, scopes=("openid",)))
    answer = foundation.capture(app, poor)
    assert answer.status == 403 and "cloud_controller.read" in answer.error["detail"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ([("appid", "../../v2/info")], "not the GUID"),
        ([("appid", "a b")], "not the GUID"),
        ([("appid", cc.new_guid()), ("type", "web,worker")], "is not a process type"),
        ([("appid", cc.new_guid()), ("type", "../x")], "is not a process type"),
        ([("appid", cc.new_guid()), ("index", "-1")], "index"),
        ([("appid", cc.new_guid()), ("index", "first")], "index"),
        ([("appid", cc.new_guid()), ("index", "99999")], "index"),
        ([("appid", cc.new_guid()), ("index", "0"), ("index", "0")], "twice"),
        ([("appid", cc.new_guid()), ("target", "cell")], "only one of targets, app and deployment"),
        ([("index", "0"), ("target", "cell")], "appid"),
        ([], "nothing to capture is named"),
        ([("appid", cc.new_guid()), ("token", "x")], "not a known argument"),
    ],
)
def test_bad_query(untouched: Foundation, query: list[tuple[str, str]], words: str) -> None:
    """A query that makes no sense is a 400, and Cloud Controller is not troubled with it."""
    answer = untouched.get("/capture", untouched.static_token, query)
    assert answer.status == 400 and words in answer.error["title"], answer.body
    assert all(path == "/" for path in untouched.cc.paths())


def test_per_user(tmp_path: Path, authority: Authority) -> None:
    """The limit per user counts whom the token is for, not tokens."""
    with foundation_in(tmp_path, authority, limits={"per_user": 1}) as foundation:
        app = foundation.cc.add(CfApp(processes=[Process(instances=[Instance(0, host="127.0.0.2")])]))
        first = foundation.pcapctl(app, foundation.cc.developer(app), "--duration", "30s")
        foundation.cells[0].wait()
        answer = foundation.capture(app, foundation.cc.developer(app))
        assert answer.status == 429 and "already run" in answer.error["title"]
        assert foundation.capture(app, foundation.cc.developer(app, "carol@example.test")).status == 200
        first.process.terminate()
        first.done()


def test_static_beside_it(foundation: Foundation) -> None:
    """Static targets and apps have nothing to do with each other."""
    query = [("target", "cell"), ("duration", "300ms")]
    assert foundation.get("/capture", foundation.static_token, query).status == 200
    assert foundation.get("/capture", "unknown", query).status == 401
    assert all(path == "/" for path in foundation.cc.paths())


def test_no_cloud_foundry(tmp_path: Path, authority: Authority) -> None:
    """An api without Cloud Foundry says so."""
    with foundation_in(tmp_path, authority, cloud_foundry=None) as foundation:
        answer = foundation.capture(CfApp(), "token")
        assert answer.status == 404 and "does not capture Cloud Foundry apps" in answer.error["title"]


# --- the audit log -----------------------------------------------------------


def test_audit(foundation: Foundation, app: CfApp, token: str) -> None:
    """Before the first packet the audit log holds user, app, instances, cells and request id."""
    foundation.capture(app, token, ("index", 0), ("index", 1), X_Vcap_Request_Id="request-4711")
    (started,) = foundation.audit("capture_started")
    assert (started["user"], started["origin"]) == ("alice@example.test", "uaa")
    assert (started["app"], started["process_type"], started["instances"]) == (app.guid, "web", [0, 1])
    assert started["request_id"] == "request-4711"
    for instance, cell, text in zip(app.instances, foundation.cells, started["targets"]):
        assert cell.host in text and instance.handle in text and f"myapp/{instance.index}" in text
        assert cell.started[0].request_id == "request-4711"
    (ended,) = foundation.audit("capture_ended")
    assert ended["request_id"] == "request-4711" and ended["packets"] == 2


def test_hostile_name(foundation: Foundation, app: CfApp, token: str) -> None:
    """An app's name and a token's claims are only text: nothing of them controls a terminal or a log."""
    app.name = "my\x1b[2Japp\n{evil}" + "x" * 300
    assert foundation.capture(app, token).whole
    name = foundation.cells[0].started[0].instance
    assert name.isprintable() and name.endswith("/0") and len(name) <= 256
    hostile = foundation.cc.token(User("x", develops={app.space}), user_name="eve\x1b]0;{token}\n")
    assert foundation.capture(app, hostile).whole
    assert foundation.audit("capture_started")[1]["user"] == "eve?]0;{token}?"


# --- Cloud Controller in trouble ---------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (cc.rate_limited(), 429, "37 s"),
        (cc.rate_limited("Fri, 31 Dec 2026 23:59:59 GMT"), 429, "later"),
        (cc.cc_error(429, 20008, "UaaRateLimited", "", ("Retry-After", "5")), 429, "5 s"),
        (cc.NO_AUTHENTICATION, 401, "cf login"),
        (cc.NOT_AUTHORIZED, 403, "cloud_controller.read"),
        (cc.cc_error(503, 10015, "ServiceUnavailable"), 503, "(503)"),
        (cc.STATS_UNAVAILABLE, 503, "(503)"),
        (cc.cc_error(500, 10001, "UnknownError"), 503, "(500)"),
        (Answer(502, b"502 Bad Gateway: Registered endpoint failed to handle the request."), 503, "(502)"),
        (Answer(302, headers=(("Location", "https://evil.example.test/"),)), 503, "redirect"),
        (Answer(200, b"<html>Maintenance</html>"), 503, "makes no sense"),
        (Answer(200, b"[" * 100_000), 503, "makes no sense"),
        (Answer(200, b'{"resources": 7}'), 503, "makes no sense"),
        (Answer(200, b'{"resources": [], "x": ', length=500), 503, "cut off"),
        (Answer(200, b"x" * 1024 * 1024, repeat=AUTHORITY_BODY_MAX // 1024**2 + 1), 503, "more than"),
        (Answer(200, b"{}", ENDLESS_HEADERS), 503, "cannot be reached"),
    ],
    ids=lambda value: None,
)
@pytest.mark.parametrize("where", ["app", "permissions", "processes", "stats"])
@pytest.mark.long(
    but=(
        "app-answer0-",
        "app-answer10-",
        "stats-answer0-",
    )
)
def test_trouble(untouched: Foundation, where: str, answer: Answer, status: int, words: str) -> None:
    """Each failure of Cloud Controller has its own clear answer, and no agent opens anything."""
    foundation, app = untouched, two_instances(untouched)
    token = foundation.cc.developer(app)
    path = {
        "app": f"/v3/apps/{app.guid}",
        "permissions": f"/v3/apps/{app.guid}/permissions",
        "processes": f"/v3/apps/{app.guid}/processes",
        "stats": f"/v3/processes/{app.processes[0].guid}/stats",
    }[where]
    foundation.cc.canned[path] = answer
    if where == "permissions" and answer.content == b'{"resources": 7}':
        status, words = 403, "does not grant"  # an object that grants nothing
    got = foundation.capture(app, token)
    error = got.error
    assert got.status == status, got.body
    assert words in f"{error['title']} {error['detail']}"
    foundation.assert_no_agent_was_asked()
    if words.endswith(" s") and status == 429:
        assert got.headers["retry-after"] == words.split()[0]
    # Whoever asks again when it is over is served.
    foundation.cc.canned.clear()
    assert foundation.capture(app, token).status == 200


@pytest.mark.parametrize(
    "answer",
    [Answer(200, b"{}", delay=AUTHORITY_CALL_TIMEOUT + 2), Answer(200, b" " * 2000, trickle=0.1)],
    ids=["silent", "trickle"],
)
@pytest.mark.long
def test_slow(foundation: Foundation, app: CfApp, token: str, answer: Answer) -> None:
    """An answer that does not come, or not to its end, is given up in time."""
    foundation.cc.canned[f"/v3/apps/{app.guid}"] = answer
    began = time.monotonic()
    got = foundation.capture(app, token)
    assert got.status == 503 and "did not answer within" in got.error["title"]
    assert time.monotonic() - began < AUTHORITY_CALL_TIMEOUT + 3


def test_next_page_elsewhere(foundation: Foundation, app: CfApp, token: str) -> None:
    """The token is shown to nobody but the configured host."""
    with CloudController(foundation.authority.issue("other", dns=("localhost",), ips=(LOCAL,))) as other:
        page = {
            "pagination": {"next": {"href": f"{other.url}/v3/apps/{app.guid}/processes?page=2"}},
            "resources": [],
        }
        foundation.cc.canned[f"/v3/apps/{app.guid}/processes"] = Answer(200, page)
        got = foundation.capture(app, token)
        assert got.status == 503 and "on another host" in got.error["title"]
        assert not other.asked


def test_too_many_processes(untouched: Foundation) -> None:
    """An app has one process of a type, two while it rolls; what goes beyond all sense is not asked for."""
    foundation, app = untouched, two_instances(untouched)
    token = foundation.cc.developer(app)
    app.processes += [Process(instances=[]) for _ in range(PROCESSES_MAX - 1)]
    assert foundation.capture(app, token).status == 200
    app.processes.append(Process(instances=[]))
    foundation.cc.asked.clear()
    got = foundation.capture(app, token)
    assert (got.status, got.error["title"]) == (503, "the app has more than 8 processes of that type")
    assert not any(path.endswith("/stats") for path in foundation.cc.paths())


def test_pages_without_end(untouched: Foundation) -> None:
    """Pages with nothing on them that lead to themselves."""
    foundation, app = untouched, two_instances(untouched)
    path = f"/v3/apps/{app.guid}/processes"
    page = {"pagination": {"next": {"href": f"{foundation.cc.url}{path}?page=2"}}, "resources": []}
    foundation.cc.canned[path] = Answer(200, page)
    got = foundation.capture(app, foundation.cc.developer(app))
    assert got.status == 503 and "more than" in got.error["title"]
    assert foundation.cc.paths().count(path) == AUTHORITY_PAGES_MAX + 1


def test_v3_link_elsewhere(tmp_path: Path, authority: Authority) -> None:
    """The path alone of the root document's links is used, so that the token goes nowhere else."""
    with foundation_in(tmp_path, authority) as foundation:
        foundation.cc.links = {"cloud_controller_v3": {"href": "https://evil.example.test/v3"}}
        foundation.api.stop()
        foundation.api.start()
        app = foundation.cc.add(CfApp(processes=[Process(instances=[Instance(0, host="127.0.0.2")])]))
        assert foundation.capture(app, foundation.cc.developer(app)).whole


# --- is it there? ------------------------------------------------------------


def test_recovery(foundation: Foundation, app: CfApp, token: str) -> None:
    """The api starts without Cloud Controller, says so, serves static targets, and recovers alone."""
    foundation.api.stop()
    foundation.cc.stop()
    foundation.api.launch()
    wait_until(lambda: _health(foundation) is not None, "the api answers")
    status, health = foundation.health()
    assert status == 503 and health["healthy"] is False
    assert health["resolvers"]["static"]["healthy"] is True
    assert health["resolvers"]["cloud_foundry"]["healthy"] is False
    got = foundation.capture(app, token)
    assert (got.status, got.error["code"]) == (503, "resolver_unavailable")
    assert "Cloud Controller" in got.error["title"]
    query = [("target", "cell"), ("duration", "300ms")]
    assert foundation.get("/capture", foundation.static_token, query).status == 200
    # What comes with a status of trouble is not believed, whatever it says.
    foundation.cc.canned["/"] = Answer(503, foundation.cc.root())
    foundation.cc.start()
    got = foundation.capture(app, token)
    assert got.status == 503 and "(503)" in got.error["title"]
    foundation.cc.canned.clear()
    # A request needs not wait for the next look.
    assert foundation.capture(app, token).status == 200
    assert foundation.wait_for_health(True) == {"healthy": True, "message": "ready"}
    assert foundation.health()[0] == 200
    assert "3.228.0" in foundation.api.log()


def _health(foundation: Foundation) -> Any:
    try:
        return foundation.health()
    except OSError:
        return None


@pytest.mark.parametrize("wrong", ["authority", "name", "expired"])
def test_untrusted(tmp_path: Path, authority: Authority, wrong: str) -> None:
    """A Cloud Controller with a certificate of another CA receives no token."""
    elsewhere = Authority(tmp_path / "other", "pcapd lab CA")
    credentials = {
        "authority": lambda: elsewhere.issue("cc", dns=("localhost",), ips=(LOCAL,)),
        "name": lambda: authority.issue("cc", dns=("api.example.test",)),
        "expired": lambda: authority.issue_expired("cc", ips=(LOCAL,)),
    }[wrong]()
    with CloudController(credentials) as controller:
        section = {"api": controller.url, "ca": str(authority.certificate_path)}
        base = api_config(authority.issue_api(), free_port(), {}, {})
        config = merged(base, {"cloud_foundry": section, "static": None})
        api = Daemon("api", config, tmp_path)
        foundation = Foundation(tmp_path, authority, 1, {})
        foundation.api = api
        api.launch()
        try:
            wait_until(lambda: _health(foundation) is not None, "the api answers")
            got = foundation.capture(CfApp(), cc.unsigned_token(exp=time.time() + 600))
            assert got.status == 503, got.body
            assert not controller.asked
            assert foundation.health()[0] == 503
        finally:
            api.kill()
            foundation.cells[0].close()


# --- agents ------------------------------------------------------------------


def test_agent_refuses(foundation: Foundation, app: CfApp, token: str) -> None:
    """The agent's message about a container reaches the user."""
    foundation.cells[0].refuse = Error("namespace_gone", "the container is gone", "try again")
    answer = foundation.capture(app, token)
    assert answer.status == 502 and answer.error["title"] == "the container is gone"


# --- following ---------------------------------------------------------------


@pytest.mark.long
def test_follow(foundation: Foundation, app: CfApp, token: str) -> None:
    """Instances that restart, move or are added are captured as new interfaces, and gaps are reported."""
    require("tshark")
    first, second = foundation.cells
    client = foundation.pcapctl(app, token, "--follow", "--duration", "60s")
    first.wait()
    second.wait()
    # Instance 0 moves to the other cell, and instance 2 is new.
    old = app.instances[0].handle
    app.instances[0].restart(second.host)
    app.instances.append(Instance(2, host=first.host, uptime=1))
    first.lose(old)
    second.wait(2)
    first.wait(2)
    assert {start.instance for start in second.started} == {"myapp/0", "myapp/1"}
    assert first.started[1].instance == "myapp/2"
    # All go away at once, as on a restart; there are none for a while, and the capture goes on.
    for instance in app.instances:
        cell = first if instance.host == first.host else second
        cell.lose(instance.handle)
        instance.start_up()
    wait_until(lambda: not first.running and not second.running, "all are gone")
    before = _stats_asked(foundation)
    wait_until(lambda: _stats_asked(foundation) > before, "stats are asked for", timeout=2 * FOLLOW_INTERVAL)
    for instance in app.instances:
        instance.restart(second.host)
    second.wait(5)
    client.process.terminate()
    done = client.done()
    assert done.returncode == 3, done.stderr
    for index in (0, 1, 2):
        assert f"myapp/{index}: was not captured from 2" in done.stderr, done.stderr
    names = [row[0] for row in tshark_fields(client.output, ["frame.interface_name"])]
    assert sorted(names) == ["myapp/0:eth0"] * 3 + ["myapp/1:eth0"] * 2 + ["myapp/2:eth0"] * 2
    extended = foundation.audit("capture_extended")
    assert len(extended) == 5 and app.instances[0].handle in str(extended)


def _stats_asked(foundation: Foundation) -> int:
    return sum(path.endswith("/stats") for path in foundation.cc.paths())


@pytest.mark.long
def test_follow_ends_with_the_token(foundation: Foundation, app: CfApp, token: str) -> None:
    """A token that is not accepted any more ends the following, plainly, and not the capture."""
    client = foundation.pcapctl(app, token, "--follow", "--duration", "25s")
    foundation.cells[0].wait()
    del foundation.cc.users[token]
    try:
        done = client.done()
    finally:
        foundation.cc.users[token] = User()  # to be looked for in the log
    assert done.returncode == 3, done.stderr
    assert "not followed any more" in done.stderr
    (ended,) = foundation.audit("capture_ended")
    assert ended["reason"] in ("duration", "stopped")
    assert sum(path.endswith(app.guid) for path in foundation.cc.paths()) == 2


def test_not_followed(foundation: Foundation, app: CfApp, token: str) -> None:
    """Without `follow`, a restart ends that instance's part of the capture."""
    client = foundation.pcapctl(app, token, "--instance", "0", "--duration", "30s")
    foundation.cells[0].wait()
    old = app.instances[0].handle
    app.instances[0].restart()
    foundation.cells[0].lose(old)
    done = client.done()
    assert done.returncode == 3 and "the container is gone" in done.stderr
    assert len(foundation.cells[0].started) == 1
