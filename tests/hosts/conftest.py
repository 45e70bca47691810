"""One chain of daemons for all tests that leave it as they found it."""

from __future__ import annotations

import os
from typing import Iterator

import pytest

from demo.namespaces import Link, Namespace, connect, remove_stale


@pytest.fixture(scope="session")
def chain_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Start the daemons once."""
    pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
    pytest.importorskip("prctl", reason="python-prctl is not installed")
    if os.geteuid() != 0:
        pytest.skip("captures and namespaces need root")
    from tests.kit.hosts.chain import Chain

    with Chain(tmp_path_factory.mktemp("chain")) as lab:
        yield lab
        for daemon in (lab.agent, lab.second, lab.api):
            daemon.stop()
        for daemon in (lab.agent, lab.second, lab.api):
            for token in (lab.token, lab.bob):
                assert token not in daemon.log(), f"a token is in the {daemon.role}'s log"


@pytest.fixture
def chain(chain_session: object) -> Iterator[object]:
    """The daemons, all alive; a test that ends one of them is repaired."""
    from tests.kit.hosts.chain import Chain

    assert isinstance(chain_session, Chain)
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
