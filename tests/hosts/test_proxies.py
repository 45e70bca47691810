"""Pcapctl behind proxies: tinyproxy and OpenSSH; only they know the name of the api."""

from __future__ import annotations

from pathlib import Path
from typing import ContextManager, Dict

import pytest

from demo.certificates import API_NAME
from tests.kit.hosts.chain import Chain, read_pcapng
from tests.kit.lab.generator import FILTER, Generator
from tests.kit.lab.proxies import Proxies
from tests.kit.lab.readers import require

#: Of whoever runs the tests.
CLEARED = {
    name: "" for word in ("HTTPS", "HTTP", "ALL", "NO") for name in (f"{word}_PROXY", f"{word}_PROXY".lower())
}


@pytest.fixture
def proxies(tmp_path: Path) -> Proxies:
    """Ready to be started."""
    require("unshare", "ssh-keygen")
    return Proxies(tmp_path, API_NAME)


def behind(chain: Chain, variables: Dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run pcapctl with the api's name, which is not known here; returns its exit status and its words."""
    port = chain.url.rpartition(":")[2]
    done = chain.pcapctl(*arguments, "--api", f"https://{API_NAME}:{port}", env={**CLEARED, **variables})
    return done.returncode, str(done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("program", "way", "variable"),
    [
        ("tinyproxy", "http://", "HTTPS_PROXY"),
        ("tinyproxy", "", "https_proxy"),
        ("/usr/sbin/sshd", "socks5://", "ALL_PROXY"),
    ],
)
def test_a_capture_through_a_proxy(
    chain: Chain, proxies: Proxies, tmp_path: Path, program: str, way: str, variable: str
) -> None:
    """All connections of a capture go through the proxy, and fail without the variable."""
    require(program)
    path = tmp_path / "web.pcapng"
    arguments = ("hosts", "web-0", "--filter", FILTER, "--count", "10", "--output", str(path))
    status, said = behind(chain, {}, *arguments)
    assert status == 1 and f"the host name '{API_NAME}' cannot be resolved" in said and "PROXY" not in said
    running: ContextManager[str] = proxies.http() if program == "tinyproxy" else proxies.socks()
    with running as address, Generator(chain.link, rate=200):
        status, said = behind(chain, {variable: f"{way}{address}"}, *arguments)
    assert status == 0, said
    assert len(read_pcapng(path).packets) == 10


def test_a_password(chain: Chain, proxies: Proxies) -> None:
    """The right proxy password works; a wrong one is reported with the proxy's answer, without the password."""
    require("tinyproxy")
    with proxies.http("BasicAuth alice secret") as address:
        assert behind(chain, {"HTTPS_PROXY": f"http://alice:secret@{address}"}, "status")[0] == 0
        status, said = behind(chain, {"HTTPS_PROXY": f"http://alice:wr0ng@{address}"}, "status")
    assert status == 1 and "does not connect" in said and "HTTP 40" in said and "HTTPS_PROXY" in said
    assert "wr0ng" not in said


@pytest.mark.parametrize("value", [API_NAME, ".cf.internal", "*"])
def test_no_proxy(chain: Chain, proxies: Proxies, value: str) -> None:
    """The host is connected to directly, and a failed look-up says why no proxy was used."""
    require("tinyproxy")
    with proxies.http() as address:
        status, said = behind(chain, {"HTTPS_PROXY": address, "NO_PROXY": value}, "status")
    assert status == 1 and f"the host name '{API_NAME}' cannot be resolved" in said and "NO_PROXY" in said
    assert API_NAME not in proxies.log


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("http://127.0.0.1:1", "cannot connect to the proxy 127.0.0.1 port 1: Connection refused"),
        ("http://proxy.invalid:3128", "cannot connect to the proxy proxy.invalid port 3128"),
        ("gopher://127.0.0.1:1", "HTTPS_PROXY does not name a proxy that pcapctl can use"),
    ],
)
def test_a_proxy_that_is_none(chain: Chain, value: str, words: str) -> None:
    """An invalid proxy variable is reported with what is wrong and its name."""
    status, said = behind(chain, {"HTTPS_PROXY": value}, "status")
    assert status == 1 and words in said and "HTTPS_PROXY" in said


def test_this_machine_is_reached_directly(chain: Chain) -> None:
    """Connections to this machine do not use the proxy, as in the cf CLI."""
    done = chain.pcapctl("status", env={**CLEARED, "HTTPS_PROXY": "http://127.0.0.1:1"})
    assert done.returncode == 0, done.stderr
