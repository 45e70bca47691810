"""An api with a UAA client of its own, from ``--follow`` to a role that is taken away.

The api and pcapctl are real; Cloud Controller, UAA and the cells' agents are doubles.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Iterator, Optional

import pytest

pytest.importorskip("obstore", reason="obstore is not installed")

from demo.certificates import Authority
from demo.processes import wait_until
from pcapd.wire import CaptureStart
from tests.kit.doubles.cloud_controller import CfApp, Instance, Process, User
from tests.kit.doubles.https import Answer
from tests.kit.hosts.overseen import SOON, Overseen, overseen_in

#: Seconds in which every check is made at least twice.
CHECKED = 4 * SOON["RECHECK_INTERVAL"]


@pytest.fixture
def world(tmp_path: Path, authority: Authority) -> Iterator[Overseen]:
    with overseen_in(tmp_path, authority) as foundation:
        yield foundation


@pytest.fixture
def app(world: Overseen) -> CfApp:
    return one_instance(world)


def one_instance(world: Overseen) -> CfApp:
    """An app on the first cell."""
    return world.cc.add(CfApp(processes=[Process(instances=[Instance(0, host=world.cells[0].host)])]))


def expire(world: Overseen, token: str) -> Callable[[], str]:
    """Let a token expire; the result logs in again."""
    user = world.cc.users.pop(token)
    world.cc.users[f"{token}-expired"] = user  # who has the same roles as before
    return lambda: world.cc.token(user)


def roles_asked(world: Overseen) -> int:
    return world.cc.paths().count("/v3/roles")


def handle_of(start: CaptureStart) -> Optional[str]:
    return start.container.handle if start.container is not None else None


def wait_for_checks(world: Overseen, number: int = 2) -> None:
    """Return when the api has asked for roles so many times more."""
    before = roles_asked(world)
    wait_until(lambda: roles_asked(world) >= before + number, "roles are asked for", timeout=10 * CHECKED)


def test_a_capture_is_followed_longer_than_its_token(world: Overseen, app: CfApp) -> None:
    """After the token has expired, instances are still followed; a lost role ends the capture, plainly."""
    first, second = world.cells
    alice = User(develops={app.space})
    token = world.cc.token(alice)
    client = world.pcapctl(app, token, "--follow", "--duration", "60s")
    first.wait()
    expire(world, token)
    wait_for_checks(world)
    world.restart(app, 0, second.host)
    second.wait()
    alice.develops.clear()
    done = client.done()
    assert done.returncode == 3, done.stderr
    assert (
        "you may not capture this any longer: the role that a capture of this app needs was taken away"
        in (done.stderr)
    )
    assert "not followed any more" not in done.stderr
    (ended,) = world.audit("capture_ended")
    assert (ended["reason"], ended["user"]) == ("forbidden", alice.name)


@pytest.mark.long
def test_a_recording_that_follows(world: Overseen, app: CfApp) -> None:
    """A recording follows its app for as long as it runs, also after a restart of the api, until its owner's role is lost."""
    first, second = world.cells
    alice = User(develops={app.space})
    token = world.cc.token(alice)
    done = world.ctl(app, token, "record", "cf", app.name, "--follow", "--quiet")
    assert done.returncode == 0, done.stderr
    id = done.stdout.strip()
    first.wait()
    log_in = expire(world, token)
    world.restart(app, 0, second.host)
    second.wait()
    token = log_in()
    wait_until(lambda: world.show(id, token)["packets"] >= 2, "packets of both are stored", timeout=20)
    # While the api is away, the instance moves; then Cloud Controller does not say at once where it is.
    world.api.kill()
    app.instances[0].restart(first.host)
    path = f"/v3/apps/{app.guid}"
    world.cc.canned[path] = Answer(503)
    before = world.cc.paths().count(path)
    world.api.start()
    wait_until(lambda: world.cc.paths().count(path) > before + 1, "the app is asked for", timeout=20)
    del world.cc.canned[path]
    wait_until(lambda: handle_of(first.started[-1]) == app.instances[0].handle, "it is found", timeout=30)
    assert len(second.started) == 1, "the container that is gone is not looked for"
    # And it goes on following.
    app.instances.append(Instance(1, host=second.host, uptime=1))
    second.wait(2)
    # Cloud Controller is away for a while: nobody has lost a role.
    world.cc.canned["/v3/roles"] = Answer(503)
    wait_for_checks(world, 4)
    del world.cc.canned["/v3/roles"]
    assert world.show(id, token)["state"] == "recording" and world.show(id, token)["follow"] is True
    alice.develops.clear()
    ended = world.await_state(id, token, "stopped")
    assert "you may not capture this any longer" in ended["message"]
    assert "forbidden" in [record["reason"] for record in world.audit("capture_ended")]
    alice.develops.add(app.space)
    assert world.ask("GET", f"/{id}/capture", token).body.count(b"myapp/0:eth0") >= 2


@pytest.mark.long
def test_the_owners_role_is_checked(world: Overseen, app: CfApp) -> None:
    """A recording that does not follow is checked too, and before it goes on after a restart of the api."""
    owners = [User(f"{name}@example.test", develops={app.space}) for name in ("alice", "bob", "admin")]
    owners[2].admin = True
    owners[2].scopes = ("cloud_controller.admin", "cloud_controller.read")
    owners[2].develops.clear()
    tokens = [world.cc.token(owner) for owner in owners]
    ids = [world.record(app, token) for token in tokens]
    wait_for_checks(world, 4)
    owners[0].develops.clear()
    world.await_state(ids[0], tokens[0], "stopped")
    started = len(world.cells[0].started)
    world.api.kill()
    owners[1].develops.clear()
    world.api.start()
    ended = world.await_state(ids[1], tokens[1], "stopped")
    assert "was taken away" in ended["message"]
    (record,) = world.audit("recording_ended")
    assert (record["recording"], record["user"], record["reason"]) == (ids[1], owners[1].name, "forbidden")
    # An administrator's right is no role that could be looked up.
    world.cells[0].wait(started + 1)
    world.await_state(ids[2], tokens[2], "recording")
    assert len(world.cells[0].started) == started + 1, "nothing was captured for bob"


@pytest.mark.long
@pytest.mark.parametrize("readers", ["owner", "permitted"])
def test_the_app_is_deleted(tmp_path: Path, authority: Authority, readers: str) -> None:
    """The owner may still fetch; others with the role in its space may fetch and delete, if others may read at all."""
    with overseen_in(tmp_path, authority, readers=readers) as world:
        app = one_instance(world)
        alice, carol = (User(f"{name}@example.test", develops={app.space}) for name in ("alice", "carol"))
        auditor = world.cc.auditor(app)
        mine, hers = world.cc.token(alice), world.cc.token(carol)
        id = world.record(app, mine)
        wait_until(lambda: world.show(id, mine)["packets"] > 0, "packets are stored")
        assert world.ask("DELETE", f"/{id}", hers).status == 404, (
            "the app is there: only its owner deletes it"
        )
        del world.cc.apps[app.guid]
        world.cells[0].lose(app.instances[0].handle)
        permitted = 200 if readers == "permitted" else 404
        assert world.ask("GET", f"/{id}/capture", mine).status == 200
        assert world.ask("GET", f"/{id}/capture", hers).status == permitted
        for method, path in (("GET", f"/{id}/capture"), ("DELETE", f"/{id}")):
            assert world.ask(method, path, auditor).status == 404
        alice.develops.clear()
        assert world.ask("GET", f"/{id}/capture", mine).status == 404
        assert world.ask("DELETE", f"/{id}", hers).status == permitted
        fetched = [record["user"] for record in world.audit("recording_fetched")]
        deleted = [(record["user"], record["owner"]) for record in world.audit("recording_deleted")]
        others = readers == "permitted"
        assert fetched == [alice.name, *([carol.name] if others else [])]
        assert deleted == ([(carol.name, alice.name)] if others else [])


@pytest.mark.long
def test_who_leaves_is_followed_on(world: Overseen, app: CfApp) -> None:
    """A live capture that is recorded besides goes on following when its client is gone and its token has expired."""
    first, second = world.cells
    alice = User(develops={app.space})
    token = world.cc.token(alice)
    client = world.pcapctl(app, token, "--follow", "--resumable")
    first.wait()
    client.process.kill()
    client.done()
    log_in = expire(world, token)
    world.restart(app, 0, second.host)
    second.wait()
    token = log_in()
    (one,) = json.loads(world.ask("GET", "", token).body)["recordings"]
    assert (one["state"], one["follow"]) == ("recording", True)
    alice.develops.clear()
    world.await_state(one["id"], token, "stopped")


@pytest.mark.long
def test_the_second_filter_follows_too(world: Overseen, app: CfApp) -> None:
    """With ``clip_on`` and a filter, packets of a new container make clips as those of the first one did."""
    first, second = world.cells
    token = world.cc.developer(app)
    wanted = {"follow": True, "clip_on": {"filter": "ether proto 0x88b5"}}
    id = world.record(app, token, **wanted)
    first.wait(2)
    expressions = {start.filter for start in first.started}
    world.restart(app, 0, second.host)
    second.wait(2)
    assert {start.filter for start in second.started} == expressions and len(expressions) == 2
    assert world.ask("DELETE", f"/{id}", token).status == 200


@pytest.mark.long
def test_without_a_client(tmp_path: Path, authority: Authority) -> None:
    """A recording cannot follow then, and says what the operator can do; one that does not is never checked."""
    with overseen_in(tmp_path, authority, client=False) as world:
        app = one_instance(world)
        alice = User(develops={app.space})
        token = world.cc.token(alice)
        done = world.ctl(app, token, "record", "cf", app.name, "--follow")
        assert done.returncode == 1 and "ask the operator to configure cloud_foundry.client" in done.stderr
        id = world.record(app, token)
        assert json.loads(world.ask("GET", f"/{id}", token).body)["follow"] is False
        assert not roles_asked(world)
