"""What cannot be captured is refused before it starts, with words that a stranger can act on."""

from __future__ import annotations

import pytest

from tests.kit.hosts.chain import Chain

REFUSALS = {
    "no such filter": (("web-0", "--filter", "udp and nonsense("), ["nonsense"]),
    "syntax": (("web-0", "--filter", "udp and and tcp"), ["syntax error", "'and and tcp'", "pcap-filter"]),
    "escape": (("web-0", "--filter", "udp) or (tcp"), ["syntax error", "') or (tcp'"]),
    "host name": (("web-0", "--filter", "host example.com"), ["'example.com'", "write the address"]),
    "interface": (("web-0", "--device", "eth7"), ["no interface 'eth7'", "eth0", "lo"]),
    "target": (("web-7",), ["no target 'web-7'", "there are:", "web-0"]),
    "twice": (("web-0", "web-0"), ["named twice"]),
    "namespace gone": (("gone",), ["no network namespace", "pcapd-test-not-there"]),
    "namespace unknown": (("unknown-there",), ["agent agent", "not configured", "'nowhere'"]),
    "nobody there": (("nobody",), ["127.0.0.1:", "refused"]),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.long(
    but=(
        "syntax",
        "nobody there",
    )
)
def test_a_request_that_cannot_be_served(chain: Chain, case: str) -> None:
    """pcapctl ends with status 1, says why, and leaves no file."""
    arguments, words = REFUSALS[case]
    result = chain.capture(*arguments, "--duration", "1s")
    assert result.status == 1, result.events
    for word in words:
        assert word in result.report["error"]
    assert not result.path.exists()


def test_the_same_mistake_everywhere_is_said_once(chain: Chain) -> None:
    """A filter that is wrong on two targets is one message, not two."""
    result = chain.capture("web-0", "web-1", "--filter", "tcp and and udp", "--duration", "1s")
    assert result.status == 1
    assert result.report["error"].count("syntax error") == 1


def test_a_wrong_token(chain: Chain) -> None:
    """An unknown token is refused as such, and is not repeated anywhere."""
    result = chain.capture("web-0", "--duration", "1s", env={"PCAP_TOKEN": "wrong-token-0815"})
    assert result.status == 1
    assert "token is not known" in result.report["error"]
    assert "wrong-token-0815" not in result.stderr + chain.api.log()


def test_a_target_that_the_user_may_not_name(chain: Chain) -> None:
    """Bob may capture web-1 only, and does not learn whether other targets exist."""
    bob = {"PCAP_TOKEN": chain.bob}
    refused = [chain.capture(name, "--duration", "1s", env=bob) for name in ("web-0", "web-7")]
    for result, name in zip(refused, ("web-0", "web-7")):
        assert result.status == 1
        assert f"you may not capture '{name}'" in result.report["error"]
    allowed = chain.capture("web-1", "--duration", "300ms", env=bob)
    assert allowed.status == 0, allowed.stderr


def test_no_capability_to_capture(chain: Chain) -> None:
    """An agent without the privileges says which it needs, to the user and in its own log."""
    from demo.daemons import Daemon

    config = {**chain.agent.config, "id": "powerless"}
    config["listen"] = {**config["listen"], "port": chain.api.config["static"]["targets"]["nobody"]["port"]}
    chain_daemon = Daemon("agent", config, chain.directory, namespace=_Powerless())  # type: ignore[arg-type]
    with chain_daemon as agent:
        result = chain.capture("nobody", "--device", "lo", "--duration", "1s")
        log = agent.log()
    assert result.status == 1
    assert "not allowed to capture on lo" in result.report["error"]
    assert "CAP_NET_RAW" in result.report["error"]
    assert "without CAP_NET_RAW captures will fail" in log


class _Powerless:
    """In a daemon's place of a namespace: runs it without the privileges to capture."""

    @staticmethod
    def command(*argv: str) -> list[str]:
        return ["setpriv", "--bounding-set=-net_raw,-sys_admin,-net_admin", *argv]
