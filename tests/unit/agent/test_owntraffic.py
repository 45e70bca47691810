"""What an agent takes for pcapd's own, from where the api is and how both listen."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from pcapd.agent.owntraffic import Ends, own_traffic
from pcapd.capture.exclusion import OwnTraffic
from pcapd.limits import OWN_ADDRESSES_MAX
from pcapd.wire import ApiTraffic

HERE, THERE = "192.0.2.1", "192.0.2.2"
LOOPBACK = ip_network("127.0.0.0/8"), ip_network("::1")
ENDS = Ends(HERE, 9494, THERE)
API = ApiTraffic((THERE, "fd00::2"), 8080, None, (9494, 9495))


def networks(*addresses: str) -> tuple[object, ...]:
    return tuple(map(ip_network, addresses))


def test_an_api_on_another_machine() -> None:
    """Addresses count with their ports; loopback addresses are only our own."""
    assert own_traffic(ENDS, API, [HERE, "fd00::1"], at_home=True) == (
        OwnTraffic((*networks(HERE, "fd00::1"), *LOOPBACK), (9494,)),
        OwnTraffic(networks(THERE, "fd00::2"), (8080,)),
        OwnTraffic(networks(THERE, "fd00::2"), (9494, 9495), far=True),
    )


def test_in_another_namespace_loopback_is_somebody_elses() -> None:
    """127.0.0.1 in a container's namespace is not excluded, wherever the api is."""
    rules = own_traffic(Ends(HERE, 9494, HERE), ApiTraffic((HERE,), 8080), [HERE], at_home=False)
    assert not any(network.is_loopback for rule in rules for network in rule.networks)


@pytest.mark.parametrize("api", [HERE, "127.0.0.1"])
def test_an_api_on_this_machine(api: str) -> None:
    """Traffic of an api on this machine is excluded on the loopback interface too."""
    rules = own_traffic(Ends(HERE, 9494, api), ApiTraffic((HERE,), 8080, None, (9494,)), [HERE], at_home=True)
    assert [rule.networks[-2:] for rule in rules] == [LOOPBACK] * 3


@pytest.mark.parametrize(
    ("listens_at", "api", "expected"),
    [
        (THERE, THERE, networks(THERE)),
        ("127.0.0.1", THERE, None),
        ("127.0.0.1", HERE, networks("127.0.0.1")),
    ],
    ids=["one address", "its own loopback", "our loopback"],
)
def test_an_api_that_listens_at_one_address(
    listens_at: str, api: str, expected: tuple[object, ...] | None
) -> None:
    """An api that listens at one address is excluded there only; others may use the same port elsewhere."""
    traffic = ApiTraffic((THERE,), 8080, listens_at, (9494,))
    rules = own_traffic(Ends(HERE, 9494, api), traffic, [HERE], at_home=True)
    assert next((rule.networks for rule in rules if rule.ports == (8080,)), None) == expected


def test_an_api_that_says_nothing_of_itself() -> None:
    """An older one: at least what reaches this agent is left out."""
    assert own_traffic(ENDS, None, [HERE], at_home=False) == (OwnTraffic(networks(HERE), (9494,)),)


def test_more_addresses_than_a_filter_can_name() -> None:
    """With more addresses than a filter can name, the api's port is excluded at every address."""
    many = [f"10.0.0.{number}" for number in range(OWN_ADDRESSES_MAX + 1)]
    assert own_traffic(ENDS, None, many, at_home=False) == (
        OwnTraffic(networks("0.0.0.0/0", "::/0"), (9494,)),
    )
