"""Which proxy the environment names for which host, as golang.org/x/net/http/httpproxy has it."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, Optional

import pytest

from pcapd.ctl.stream.deadline import Deadline
from pcapd.ctl.stream.proxy import Proxy, ProxyProblem, bypassing, chosen, of_bosh, through


@pytest.mark.parametrize(
    ("environ", "secure", "proxy"),
    [
        ({}, True, None),
        ({"HTTPS_PROXY": "p:3128"}, True, Proxy("HTTPS_PROXY", "http", "p", 3128)),
        ({"HTTPS_PROXY": "p:3128"}, False, None),
        ({"HTTP_PROXY": "p"}, False, Proxy("HTTP_PROXY", "http", "p", 80)),
        ({"https_proxy": "http://p"}, True, Proxy("https_proxy", "http", "p", 80)),
        ({"HTTPS_PROXY": "a", "https_proxy": "b"}, True, Proxy("HTTPS_PROXY", "http", "a", 80)),
        ({"ALL_PROXY": "socks5h://p"}, True, Proxy("ALL_PROXY", "socks5", "p", 1080)),
        ({"ALL_PROXY": "a", "HTTPS_PROXY": "b"}, True, Proxy("HTTPS_PROXY", "http", "b", 80)),
        (
            {"HTTPS_PROXY": "http://al%40x:s%3Ac@[2001:db8::1]:8"},
            True,
            Proxy("HTTPS_PROXY", "http", "2001:db8::1", 8, "al@x", "s:c"),
        ),
        ({"HTTPS_PROXY": ""}, True, None),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "x.example.com"}, True, None),
    ],
)
def test_chosen(environ: Dict[str, str], secure: bool, proxy: Optional[Proxy]) -> None:
    """The proxy of a URL comes from the variables of its scheme, or from ALL_PROXY."""
    assert chosen(environ, "x.example.com", secure=secure) == proxy


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine(host: str) -> None:
    """This machine is reached without a proxy, unless through a jump box."""
    assert chosen({"HTTPS_PROXY": "p"}, host, secure=True) is None
    assert of_bosh({"BOSH_ALL_PROXY": "socks5://p"}, host) is not None


@pytest.mark.parametrize(
    ("value", "host", "directly"),
    [
        ("example.com", "example.com", True),
        ("example.com", "www.example.com", True),
        ("example.com", "badexample.com", False),
        (".example.com", "www.example.com", True),
        (".example.com", "example.com", False),
        ("*.example.com", "www.example.com", True),
        ("a.example, EXAMPLE.com ,", "www.Example.Com", True),
        ("*", "anything", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("[2001:db8::1]", "2001:db8::1", True),
        ("1.2.3", "10.1.2.3", False),
        ("10.0.0.0/8", "ten.example.com", False),
        (",,", "example.com", False),
        (".", "example.com", False),
    ],
)
def test_no_proxy(value: str, host: str, directly: bool) -> None:
    """NO_PROXY decides by host name, domain, address and network."""
    assert bypassing({"NO_PROXY": value}, host) == ("NO_PROXY" if directly else "")


def test_a_jump_box() -> None:
    """A jump box is parsed as ``bbl print-env`` writes it."""
    environ = {"BOSH_ALL_PROXY": "ssh+socks5://jumpbox@192.0.2.1:22?private-key=/tmp/key"}
    expected = Proxy("BOSH_ALL_PROXY", "ssh+socks5", "192.0.2.1", 22, "jumpbox", key="/tmp/key")
    assert of_bosh(environ, "10.0.0.6") == expected
    assert of_bosh({**environ, "no_proxy": "10.0.0.0/8"}, "10.0.0.6") is None


@pytest.mark.parametrize(
    "value", ["https://p", "http://", "p:x", "socks4://p", "http://p:0", "http://p:99999"]
)
def test_no_proxy_of_ours(value: str) -> None:
    """An invalid proxy is reported by its variable and not its value, which may hold a password."""
    with pytest.raises(ProxyProblem, match=r"^HTTPS_PROXY does not name a proxy") as caught:
        chosen({"HTTPS_PROXY": value.replace("//", "//alice:secret@")}, "x.example.com", secure=True)
    assert "secret" not in str(caught.value)


def test_a_name_that_is_not_ascii() -> None:
    """An HTTP proxy gets the name as DNS has it (RFC 5890)."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(_one_request, server)
        proxy = Proxy("HTTPS_PROXY", "http", *server.getsockname())
        with through(proxy, "bücher.example", 443, Deadline(10.0), _connect):
            assert asked.result(10).startswith(b"CONNECT xn--bcher-kva.example:443 HTTP/1.1\r\n")


def _connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    return socket.create_connection((host, port), deadline.seconds)


def _one_request(server: socket.socket) -> bytes:
    connection, _ = server.accept()
    with connection:
        request = connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
    return request
