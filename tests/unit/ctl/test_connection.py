"""Where a token may be sent."""

from __future__ import annotations

from typing import Tuple

import pytest

from pcapd.ctl.connection import address_of
from pcapd.ctl.options import UsageProblem


@pytest.mark.parametrize(
    ("api", "address"),
    [
        ("https://pcap.example.com", (True, "pcap.example.com", 443, "")),
        ("pcap.example.com", (True, "pcap.example.com", 443, "")),
        ("pcap.example.com:8080/", (True, "pcap.example.com", 8080, "")),
        ("https://[2001:db8::1]:99/behind/a/router/", (True, "2001:db8::1", 99, "/behind/a/router")),
        ("http://localhost:1", (False, "localhost", 1, "")),
        ("http://127.0.0.1", (False, "127.0.0.1", 80, "")),
        ("http://[::1]", (False, "::1", 80, "")),
    ],
)
def test_an_api(api: str, address: Tuple[bool, str, int, str]) -> None:
    assert address_of(api) == address


@pytest.mark.parametrize(
    "api",
    [
        "",
        "https://",
        "https://:443",
        "ftp://pcap.example.com",
        "https://user@pcap.example.com",
        "https://user:word@pcap.example.com",
        "https://:word@pcap.example.com",
        "https://pcap.example.com?x",
        "https://pcap.example.com#x",
        "https://pcap.example.com:99999",
        "https://pcap.example.com:x",
    ],
)
def test_no_api(api: str) -> None:
    """Nothing is dropped in silence of what somebody took for part of an address."""
    with pytest.raises(UsageProblem, match=r"no URL of an api|no usable port"):
        address_of(api)


@pytest.mark.parametrize(
    "host", ["pcap.example.com", "127.0.0.1.example.com", "localhost.example.com", "10.0.0.1"]
)
def test_in_clear_only_to_this_machine(host: str) -> None:
    """Unless there is no secret to send."""
    with pytest.raises(UsageProblem, match="not sent in clear"):
        address_of(f"http://{host}")
    assert address_of(f"http://{host}", secret=False) == (False, host, 80, "")
