"""What Cloud Controller's answers about ssh to an app mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pcapd.clouds.appssh import check_ssh, parse_space, sshd_ports
from pcapd.errors import Forbidden, ResolverUnavailable


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_names_are_quoted_in_commands() -> None:
    """A name that the shell would not take as one word is quoted in the command that is suggested."""
    with pytest.raises(Forbidden) as caught:
        check_ssh(body({"enabled": False, "reason": "Disabled for app"}), "my app; rm -rf", "dev")
    assert caught.value.hint.startswith("enable it with: cf enable-ssh 'my app; rm -rf'; then: cf restart ")
    check_ssh(body({"enabled": True, "reason": ""}), "myapp", "dev")


@pytest.mark.parametrize("value", [[], {}, {"enabled": "false"}, {"enabled": 1}, {"enabled": None}])
def test_an_answer_about_ssh_that_makes_no_sense(value: Any) -> None:
    """What is no answer about ssh permits nothing."""
    with pytest.raises(ResolverUnavailable, match="makes no sense"):
        check_ssh(body(value), "myapp", "dev")


@pytest.mark.parametrize("space", [None, [], {"data": None}, {"data": {"guid": 5}}, {"data": {}}])
def test_an_app_without_a_space(space: Any) -> None:
    """An app whose space cannot be read is refused."""
    with pytest.raises(ResolverUnavailable, match="makes no sense"):
        parse_space(body({"relationships": {"space": space}}))


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([{"internal": 2222, "internal_tls_proxy_port": 61002}], (2222, 61002)),
        ([{"internal": 8080, "internal_tls_proxy_port": 61001}], (2222,)),
        ([{"internal": 2222, "internal_tls_proxy_port": None}], (2222,)),
        ([{"internal": 2222, "internal_tls_proxy_port": "1 or tcp"}, 7], (2222,)),
        ([{"internal": 2222, "internal_tls_proxy_port": 1 << 16}], (2222,)),
        (None, (2222,)),
    ],
)
def test_the_ports_that_carry_ssh(ports: Any, expected: tuple[int, ...]) -> None:
    """The port of Envoy is added where an answer has it; nothing else becomes part of a filter."""
    assert sshd_ports(body({"resources": [{"index": 3, "instance_ports": ports}]})) == {3: expected}
