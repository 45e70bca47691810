"""A director's set-up of ssh: what is asked for, and what its answers may be."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Optional

import pytest

from pcapd.clouds.director import Vm
from pcapd.clouds.directorssh import (
    Account,
    Task,
    clean_up_request,
    parse_accounts,
    parse_task,
    set_up_request,
    ssh_refusal,
    task_id,
)
from pcapd.errors import Forbidden, ResolverUnavailable, TargetNotFound, Unauthenticated

ID = "37747b53-7a56-460f-bdc7-f991d373cd7f"
VM = Vm("router", ID, 0, "10.0.1.8", "z1")
KEY = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7"
ENTRY = {
    "command": "setup",
    "status": "success",
    "ip": "10.0.1.8",
    "host_public_key": f"{KEY} root@localhost\n",
    "id": ID,
    "index": 0,
    "job": "router",
    "gateway_user": "jumpbox",
    "gateway_host": "192.0.2.1",
}
ACCOUNT = Account(ID, "10.0.1.8", KEY, "jumpbox", "192.0.2.1")


def output(*entries: Any) -> bytes:
    """The result of a task, as the director writes it."""
    return json.dumps(entries).encode() + b"\n"


def changed(**changes: Any) -> bytes:
    """The output for one VM, with changes; an ellipsis removes the value."""
    return output({name: value for name, value in {**ENTRY, **changes}.items() if value is not ...})


def test_requests() -> None:
    """Each request names one instance, by its id; the clean-up matches exactly the one user."""
    target = {"job": "router", "indexes": [ID], "ids": [ID]}
    common = {"deployment_name": "cf", "target": target}
    assert set_up_request("cf", VM, "bosh_1", KEY) == {
        "command": "setup",
        "params": {"user": "bosh_1", "public_key": KEY},
        **common,
    }
    clean_up = {"command": "cleanup", "params": {"user_regex": "^bosh_1$"}, **common}
    assert clean_up_request("cf", VM, "bosh_1") == clean_up


@pytest.mark.parametrize(
    ("content", "accounts"),
    [
        (output(ENTRY), [ACCOUNT]),
        (output(), []),
        (b"", []),
        (output(ENTRY) + output({**ENTRY, "id": "b"}), [ACCOUNT, dataclasses.replace(ACCOUNT, id="b")]),
        (changed(status="failure"), []),
        (changed(gateway_user=..., gateway_host=...), [Account(ID, "10.0.1.8", KEY)]),
        (changed(gateway_user=None, gateway_host=None), [Account(ID, "10.0.1.8", KEY)]),
        (changed(host_public_key=""), [Account(ID, "10.0.1.8", "", "jumpbox", "192.0.2.1")]),
        (changed(host_public_key=...), [Account(ID, "10.0.1.8", "", "jumpbox", "192.0.2.1")]),
        (changed(ip="fd00::8"), [Account(ID, "fd00::8", KEY, "jumpbox", "192.0.2.1")]),
    ],
)
def test_accounts(content: bytes, accounts: list[Account]) -> None:
    """Each line is an array; an agent that failed has no account."""
    assert parse_accounts(content) == accounts


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"<html>",
        b"[7]",
        b"[[]]",
        b"[" * 6000,
        changed(ip="router.example"),
        changed(ip="-oProxyCommand=x"),
        changed(ip=...),
        changed(id=7),
        changed(host_public_key=f"{KEY}\n* {KEY}"),
        changed(host_public_key="@cert-authority * ssh-rsa"),
        changed(host_public_key=7),
        changed(gateway_user="-l"),
        changed(gateway_user="a b"),
        changed(gateway_host="-J"),
        changed(gateway_host="a;b"),
        changed(gateway_host="$(id)"),
    ],
)
def test_nonsense_accounts(content: bytes) -> None:
    """What could become another word of ssh, or another line of known hosts, is refused."""
    with pytest.raises(ResolverUnavailable, match="ssh makes no sense"):
        parse_accounts(content)


@pytest.mark.parametrize(
    ("state", "running", "done"),
    [
        ("queued", True, False),
        ("processing", True, False),
        ("cancelling", True, False),
        ("done", False, True),
        ("error", False, False),
        ("cancelled", False, False),
        ("timeout", False, False),
        ("something new", False, False),
    ],
)
def test_task(state: str, running: bool, done: bool) -> None:
    """A task runs, has succeeded, or has failed with a reason that is safe to show."""
    task = parse_task(json.dumps({"id": 7, "state": state, "result": "Timed out\x1b\n"}).encode())
    assert task == Task(state, "Timed out?") and (task.running, task.done) == (running, done)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"state": 7}'])
def test_nonsense_task(content: bytes) -> None:
    """A task without a state is not one."""
    with pytest.raises(ResolverUnavailable, match="task makes no sense"):
        parse_task(content)


@pytest.mark.parametrize(
    ("location", "number"),
    [
        ("https://10.0.0.6:25555/tasks/41", 41),
        ("http://127.0.0.1:25556/tasks/41", 41),
        ("/tasks/41", 41),
        ("/tasks/41/output", None),
        ("/tasks/../info", None),
        ("https://evil.example/login", None),
        ("http://[", None),
        ("", None),
        (None, None),
    ],
)
def test_location(location: Optional[str], number: Optional[int]) -> None:
    """Only the number of the task is taken from the redirect: tokens go to no other host."""
    if number is not None:
        assert task_id(location) == number
        return
    with pytest.raises(ResolverUnavailable):
        task_id(location)


def test_refusals() -> None:
    """A missing scope, an old token and a missing deployment are different errors."""
    scopes = "Require one of the scopes: bosh.admin, bosh.teams.blue.admin"
    body = json.dumps({"code": 600000, "description": scopes}).encode()
    error = ssh_refusal(401, body, "cf")
    assert isinstance(error, Forbidden) and "bosh.teams.blue.admin" in str(error)
    assert isinstance(ssh_refusal(401, b"Not authorized: '/x'\n", "cf"), Unauthenticated)
    assert isinstance(ssh_refusal(404, b'{"code": 70000}', "cf"), TargetNotFound)
    assert isinstance(ssh_refusal(500, b"", "cf"), ResolverUnavailable)
