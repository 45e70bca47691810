"""What tests of hosts share: one chain of daemons, a wire between two hosts, a user with
Wireshark, and hosts with an ssh server."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Iterator

import pytest

from demo.namespaces import Link, Namespace, connect, remove_stale
from tests.kit.hosts.chain import Chain
from tests.kit.hosts.wireshark import User
from tests.kit.lab.sshhosts import Desk, ssh_hosts


@pytest.fixture(scope="session")
def chain_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Start the daemons once."""
    pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
    pytest.importorskip("prctl", reason="python-prctl is not installed")
    if os.geteuid() != 0:
        pytest.skip("captures and namespaces need root")
    with Chain(tmp_path_factory.mktemp("chain")) as lab:
        yield lab
        for daemon in (lab.agent, lab.second, lab.api):
            daemon.stop()
        for daemon in (lab.agent, lab.second, lab.api):
            for token in (lab.token, lab.bob):
                assert token not in daemon.log(), f"a token is in the {daemon.role}'s log"


@pytest.fixture
def chain(chain_session: Chain) -> Iterator[Chain]:
    """The daemons, all alive; a test that ends one of them is repaired."""
    yield chain_session
    for daemon in (chain_session.agent, chain_session.second, chain_session.api):
        if daemon.process.poll() is not None:
            daemon.start()


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    """Two hosts on a wire; tests send from the left one and mostly capture on the right one."""
    remove_stale()
    with Namespace.unique("left") as left, Namespace.unique("right") as right:
        yield connect(left, right)


@pytest.fixture
def user(tmp_path: Path) -> User:
    """Pcapctl is installed for Wireshark, and nothing is set."""
    user = User(tmp_path / "home")
    user.home.mkdir()
    done = user.pcapctl("extcap", "--install")
    assert done.returncode == 0, done.stderr
    return user


@pytest.fixture
def alice(chain: Chain, user: User) -> User:
    """May capture on web-0 and web-1."""
    token = user.home / "token"
    token.write_text(chain.token)
    user.preferences = {
        "pcapctl_hosts.targets": "web-0, web-1",
        "pcapctl_hosts.api": chain.url,
        "pcapctl_hosts.ca": str(chain.authority.certificate_path),
        "pcapctl_hosts.tokenfile": str(token),
    }
    return user


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Two hosts, web-0 and web-1."""
    if os.geteuid() != 0 or not shutil.which("sudo") or not Path("/usr/sbin/sshd").exists():
        pytest.skip("needs root, sudo and sshd")
    remove_stale()
    with ssh_hosts(tmp_path_factory.mktemp("desk")) as desk:
        yield desk
