"""How ssh reaches the VMs of a deployment: its words, the jump host, and the proxies."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pcapd.clouds.director import Vm
from pcapd.clouds.directorssh import Account
from pcapd.ctl.login.boshhosts import bosh_host, known_hosts, proxy_command
from pcapd.ctl.stream.proxy import ProxyProblem

ID = "37747b53-7a56-460f-bdc7-f991d373cd7f"
KEY = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7"
ACCOUNT = Account(ID, "10.0.1.8", KEY, "jumpbox", "192.0.2.1")


def test_words() -> None:
    """Only the key of the capture and the host key of the answer count; no question is ever asked."""
    account = Account(ID, "10.0.1.8", KEY)
    files = Path("/tmp/a b")
    vm = Vm("router", ID, 0, "10.0.1.8")
    host = bosh_host(vm, account, deployment="cf", user="bosh_1", files=files, environ={})
    words = host.words("-o", "ControlPath=socket")
    assert host.name == f"router/{ID}" and not host.asking
    assert words[:2] == ("ssh", "-T") and words[-1] == "10.0.1.8"
    options = {words[place + 1] for place, word in enumerate(words) if word == "-o"}
    assert {
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "StrictHostKeyChecking=yes",
        'UserKnownHostsFile="/tmp/a b/known_hosts"',
        "GlobalKnownHostsFile=/dev/null",
        f"HostKeyAlias={ID}",
    } <= options
    assert not any(option.startswith("ProxyCommand") for option in options)
    # ssh takes the first value: the capture's own socket, if there is one.
    assert words.index("ControlPath=socket") < words.index("ControlPath=none")
    assert known_hosts([account]) == f"{ID} {KEY}\n"
    assert host.check == f"bosh -d cf ssh router/{ID}"


@pytest.mark.parametrize(
    ("environ", "user", "host", "key"),
    [
        ({}, "jumpbox", "192.0.2.1", ""),
        ({"BOSH_GW_HOST": "jump.example", "BOSH_GW_USER": "ops"}, "ops", "jump.example", ""),
        ({"BOSH_GW_USER": "ops"}, "ops", "192.0.2.1", ""),
        ({"BOSH_GW_PRIVATE_KEY": "/k/a '$(id) 100%h"}, "jumpbox", "192.0.2.1", "/k/a '$(id) 100%h"),
        ({"BOSH_ALL_PROXY": "ssh+socks5://j@jump.example:2222?private-key=/k"}, "j", "jump.example", "/k"),
    ],
)
def test_jump_host(environ: dict[str, str], user: str, host: str, key: str) -> None:
    """The environment takes precedence over the director; every word survives ssh's tokens and the shell."""
    command = proxy_command(ACCOUNT, environ)
    # As ssh does it, before it gives the text to a shell.
    tokens = {"%%": "%", "%h": "10.0.1.8", "%p": "22"}
    text, place = "", 0
    while place < len(command):
        token = command[place : place + 2]
        text += tokens.get(token, command[place])
        place += 2 if token in tokens else 1
    words = shlex.split(text)
    assert words[0] == "ssh" and words[-4:] == ["-W", "[10.0.1.8]:22", "--", host]
    assert words[words.index("-l") + 1] == user
    assert ("-i" in words and words[words.index("-i") + 1] == key) if key else "-i" not in words
    assert ("-p" in words) == ("BOSH_ALL_PROXY" in environ)


@pytest.mark.parametrize(
    "environ",
    [
        {"BOSH_GW_DISABLE": "true"},
        {"BOSH_GW_DISABLE": "1", "BOSH_GW_HOST": "jump.example"},
    ],
)
def test_without_jump_host(environ: dict[str, str]) -> None:
    """BOSH_GW_DISABLE means that the VM is reached as the user's configuration says."""
    assert proxy_command(ACCOUNT, environ) == ""


@pytest.mark.parametrize(
    ("proxy", "installed", "command"),
    [
        ("socks5://p.example:1080", ["nc", "connect-proxy"], "connect-proxy -S p.example:1080 %h %p"),
        ("socks5://p.example:1080", ["nc"], "nc -X 5 -x p.example:1080 %h %p"),
        ("http://p.example:3128", ["nc", "connect-proxy"], "nc -X connect -x p.example:3128 %h %p"),
    ],
)
def test_socks(
    proxy: str, installed: list[str], command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The programs are those of the BOSH CLI; hosts in NO_PROXY are reached through the jump host."""
    for name in installed:
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert proxy_command(ACCOUNT, {"BOSH_ALL_PROXY": proxy}) == command
    assert "-W" in proxy_command(ACCOUNT, {"BOSH_ALL_PROXY": proxy, "NO_PROXY": "10.0.0.0/8"})


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("socks5://u:p@p.example:1080", "cannot use the user and password"),
        ("socks5://p.example:1080", "needs the program nc"),
        ("gopher://p.example", "not name a proxy"),
    ],
)
def test_unusable_proxy(proxy: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that ssh cannot use is an error, not a direct connection."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProxyProblem, match=message):
        proxy_command(ACCOUNT, {"BOSH_ALL_PROXY": proxy})
