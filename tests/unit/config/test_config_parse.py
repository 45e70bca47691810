from __future__ import annotations

from dataclasses import fields, is_dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Callable, Mapping

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pcapd.config import schema
from pcapd.config.parse import parse_agent, parse_api
from pcapd.config.schema import (
    AgentConfig,
    AgentListenConfig,
    AgentMetricsConfig,
    AgentsConfig,
    ApiConfig,
    ApiLimits,
    AuditConfig,
    BoshConfig,
    CaptureConfig,
    CliConfig,
    ClientTLS,
    CloudFoundryConfig,
    ContainersConfig,
    ListenConfig,
    MetricsConfig,
    ProbeConfig,
    ServerTLS,
    StaticTarget,
)
from pcapd.errors import ConfigError
from tests.kit.unit.config import AGENT, API, CLOUD_FOUNDRY, EMPTY_HASH, HASH, STATIC, agent, api, problems

# --- the least, and the most --------------------------------------------------


def test_the_least_of_an_agent() -> None:
    """With TLS alone an agent has every default of the design, and the host name for an id."""
    tls = ServerTLS(Path("/etc/pcapd/a.crt"), Path("/etc/pcapd/a.key"), Path("/ca.crt"), ("pcap-api",))
    expected = AgentConfig(
        id="cell-1",
        log_level="info",
        listen=AgentListenConfig(host="0.0.0.0", port=9494, tls=tls),
        capture=CaptureConfig("eth0", 16777216, 16, True),
        containers=None,
        namespaces={},
        run_as=None,
        warnings=(),
    )
    assert expected == agent(AGENT)


def test_the_most_of_an_agent() -> None:
    """Every key of an agent's configuration is understood."""
    config = agent(
        """
id: router/0
log_level: debug
listen:
  host: "::1"
  port: 0
  tls: {certificate: a, private_key: b, client_cas: c, allowed_clients: [A.example, b]}
capture: {default_device: ens3, ring_bytes: 1MiB, max_captures: 1024, promiscuous: no}
containers: {access: host-veth, store: /s, runc: /r, runc_root: /rr, netns_dir: ns}
namespaces: {web-0: /run/netns/web-0}
run_as: vcap
metrics: {host: "::1", port: 1}
"""
    )
    assert (config.id, config.log_level, config.run_as) == ("router/0", "debug", "vcap")
    assert (
        config.listen.host,
        config.listen.port,
        config.listen.tls.allowed_clients,
    ) == ("::1", 0, ("a.example", "b"))
    assert CaptureConfig("ens3", 1048576, 1024, False) == config.capture
    assert (
        ContainersConfig("host-veth", Path("/s"), Path("/r"), Path("/rr"), Path("/etc/pcapd/ns"))
        == config.containers
    )
    assert {"web-0": Path("/run/netns/web-0")} == config.namespaces
    assert AgentMetricsConfig("::1", 1) == config.metrics


def test_the_defaults_of_containers() -> None:
    """An empty section of containers is a cell as Cloud Foundry sets it up."""
    expected = ContainersConfig(
        "namespace",
        Path("/var/vcap/data/container-metadata/store.json"),
        Path("/var/vcap/packages/runc/bin/runc"),
        Path("/run/containerd/runc/garden"),
        Path("/var/vcap/data/garden-cni/container-netns"),
    )
    assert expected == agent(AGENT + "containers: {}").containers


def test_the_least_of_an_api() -> None:
    """With agents and one resolver an api has every default of the design."""
    tls = ClientTLS(
        Path("/etc/pcapd/a.crt"), Path("/etc/pcapd/a.key"), Path("/etc/pcapd/ca.crt"), "pcap-agent"
    )
    expected = ApiConfig(
        id="api-1",
        log_level="info",
        listen=ListenConfig("127.0.0.1", 8080, None),
        agents=AgentsConfig(port=9494, connect_timeout=5.0, tls=tls),
        limits=ApiLimits(50, 5, 3600.0, 10_000_000_000, 1000),
        drain_timeout=10.0,
        cloud_foundry=CloudFoundryConfig("https://api.example.com", None, "read_sensitive_data"),
        bosh=None,
        static=None,
        metrics=None,
        warnings=(),
    )
    assert expected == api(API + CLOUD_FOUNDRY)


def test_the_most_of_an_api() -> None:
    """Every key of an api's configuration is understood."""
    config = api(
        f"""
id: pcap-api/0
log_level: warn
listen: {{host: 0.0.0.0, port: 8443, tls: {{certificate: c, private_key: k, client_cas: ca}}}}
agents:
  port: 1234
  connect_timeout: 500ms
  tls: {{certificate: c, private_key: k, ca: ca, server_name: Pcap-Agent.example}}
limits: {{concurrent_captures: 1, per_user: 2, max_duration: 5m, max_bytes: 64KiB, max_targets: 3}}
drain_timeout: 1m
trusted_proxies: [192.0.2.9, 10.0.16.0/24, "2001:db8::/64"]
cloud_foundry: {{api: "https://api.example.com/", ca: ca, required_permission: read_sensitive_data}}
bosh: {{director: "https://192.0.2.1:25555", ca: ca, agent_port: 5, token_scope: pcap.capture}}
static:
  users: {{alice: {{token_sha256: {HASH.upper()}, targets: ["*"]}}}}
  targets:
    web-0: {{host: 127.0.0.1, port: 9495, namespace: web-0}}
    vm-1: {{host: "FD00::0:7"}}
metrics: {{host: "::1", port: 0}}
cli: {{directory: client}}
audit: {{file: audit.log}}
probe: {{enabled: no, interval: 1h, agents: ["FD00::0:7", 192.0.2.7]}}
"""
    )
    ca = Path("/etc/pcapd/ca")
    assert ListenConfig("0.0.0.0", 8443, ServerTLS(ca.with_name("c"), ca.with_name("k"), ca)) == config.listen
    assert (
        config.agents.port,
        config.agents.connect_timeout,
        config.agents.tls.server_name,
    ) == (1234, 0.5, "pcap-agent.example")
    assert ApiLimits(1, 2, 300.0, 65536, 3) == config.limits
    assert config.drain_timeout == 60.0
    networks = ("192.0.2.9/32", "10.0.16.0/24", "2001:db8::/64")
    assert tuple(map(ip_network, networks)) == config.trusted_proxies
    assert CloudFoundryConfig("https://api.example.com", ca) == config.cloud_foundry
    assert BoshConfig("https://192.0.2.1:25555", ca, 5, "pcap.capture") == config.bosh
    assert config.static is not None
    assert config.static.users["alice"].token_sha256 == HASH
    assert {
        "web-0": StaticTarget("127.0.0.1", 9495, "web-0"),
        "vm-1": StaticTarget("fd00::7", 1234, None),
    } == config.static.targets
    assert MetricsConfig("::1", 0) == config.metrics
    assert CliConfig(Path("/etc/pcapd/client")) == config.cli
    assert AuditConfig(Path("/etc/pcapd/audit.log")) == config.audit
    assert ProbeConfig(False, 3600.0, ("fd00::7", "192.0.2.7")) == config.probe


def test_ports_of_agents() -> None:
    """Targets and VMs without a port of their own have that of agents."""
    config = api(API.replace("{tls", "{port: 1234, tls", 1) + STATIC + 'bosh: {director: "https://d"}')
    assert config.static is not None
    assert config.bosh is not None
    assert (config.static.targets["vm"].port, config.bosh.agent_port) == (1234, 1234)


def test_null_is_absent() -> None:
    """A null equals leaving the key out."""
    assert agent(AGENT) == agent(AGENT + "id:\ncapture: {ring_bytes: null}\ncontainers: ~\nrun_as: null")


def test_empty_mappings() -> None:
    """Names may be none at all: a template that writes the file has nothing to leave out."""
    assert agent(AGENT + "namespaces: {}").namespaces == {}
    config = api(API + "static: {users: {}, targets: {}}")
    assert config.static is not None
    assert (config.static.users, config.static.targets) == ({}, {})


# --- problems -----------------------------------------------------------------


def test_an_agent_without_tls() -> None:
    """An agent refuses to listen without TLS, and says why."""
    why = "listen.tls: required: without it anyone who can reach the port could start captures"
    assert [why] == problems(agent, "listen: {}")
    assert [why] == problems(agent, "{}")


def test_an_agent_without_client_cas() -> None:
    """An agent refuses to let in just anyone, and says why."""
    assert problems(agent, AGENT.replace("client_cas: /ca.crt, ", "")) == [
        "listen.tls.client_cas: required: without it anyone who can reach the port could start captures"
    ]


@pytest.mark.parametrize("clients", ["[]", "null", ""])
def test_an_agent_without_allowed_clients(clients: str) -> None:
    """An agent refuses to let in every certificate of a CA, and says why."""
    assert problems(agent, AGENT.replace("[pcap-api]", clients)) == [
        "listen.tls.allowed_clients: required: without it any certificate of client_cas could start captures"
    ]


def test_an_api_without_agents() -> None:
    """An api without agents is told of the section, not of each key in it."""
    assert problems(api, CLOUD_FOUNDRY + "listen: {host: 127.0.0.1}") == ["agents: required"]


def test_an_api_without_resolvers() -> None:
    """An api without any resolver is refused."""
    assert problems(api, API) == [
        "cloud_foundry, bosh, static: at least one is required, otherwise nothing can be captured"
    ]


def test_a_resolver_with_problems_is_one() -> None:
    """A resolver that is there but wrong does not count as missing."""
    assert problems(api, API + "bosh: []") == ["bosh: must be a mapping, not a list"]


def test_an_api_knows_no_allowed_clients() -> None:
    """The agents' allowed_clients is an unknown key to an api."""
    text = API.replace("host: 127.0.0.1", "tls: {certificate: a, private_key: b, allowed_clients: [c]}")
    (problem,) = problems(api, text + CLOUD_FOUNDRY)
    assert problem.startswith("listen.tls.allowed_clients: unknown key")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lisen: {}", "lisen: unknown key, did you mean listen?"),
        ("capture: {ring_byte: 1MiB}", "capture.ring_byte: unknown key, did you mean ring_bytes?"),
        (
            "zzz: 1",
            "zzz: unknown key; known here: id, log_level, listen, capture, containers, namespaces, "
            "run_as, privileges",
        ),
        ("static: {}", "static: unknown key; known"),
        ("12: x", "(a whole number): unknown key; known"),
        ('"a\\nb": x', "'a\\nb': unknown key; known"),
    ],
)
def test_unknown_keys(text: str, problem: str) -> None:
    """An unknown key is a problem with its path, and with the key that was likely meant."""
    (found,) = problems(agent, AGENT + text)
    assert found.startswith(problem)


def test_the_unknown_key_of_the_issue() -> None:
    """The misspelt listen.tsl gets listen.tls as a suggestion."""
    found = problems(agent, "listen: {tsl: {}}")
    assert "listen.tsl: unknown key, did you mean tls?" in found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id: 1", "id: must be text, not a whole number (quotes make it text)"),
        ("id: yes", "id: must be text, not a boolean (quotes make it text)"),
        ("id: [a]", "id: must be text, not a list"),
        ("id: ''", "id: must not be empty"),
        ("id: 'a b'", "id: must be at most 128 letters, digits, '.', '_', '-' and '/', beginning"),
        ("log_level: loud", "log_level: must be one of debug, info, warn, error"),
        ("capture: []", "capture: must be a mapping, not a list"),
        ("capture: {promiscuous: 1}", "capture.promiscuous: must be true or false, not a whole number"),
        ("capture: {promiscuous: 'yes'}", "capture.promiscuous: must be true or false, not text"),
        ("capture: {max_captures: yes}", "capture.max_captures: must be a whole number, not a boolean"),
        ("capture: {max_captures: 1.5}", "capture.max_captures: must be a whole number, not a number with"),
        ("capture: {max_captures: 0}", "capture.max_captures: must be from 1 to 1024"),
        ("capture: {max_captures: 1025}", "capture.max_captures: must be from 1 to 1024"),
        ("capture: {ring_bytes: 1048575}", "capture.ring_bytes: must be from 1MiB to 1GiB"),
        ("capture: {ring_bytes: 1025MiB}", "capture.ring_bytes: must be from 1MiB to 1GiB"),
        ("capture: {ring_bytes: 4194304.0}", "capture.ring_bytes: must be a size such as"),
        ("capture: {ring_bytes: lots}", "capture.ring_bytes: must be a size such as"),
        (
            "capture: {ring_bytes: yes}",
            "capture.ring_bytes: must be a size such as 64KiB or 100MB, not a boolean",
        ),
        ("capture: {default_device: a/b}", "capture.default_device: must be an interface"),
        ("containers: {access: root}", "containers.access: must be one of namespace, host-veth"),
        ("containers: {runc: 1}", "containers.runc: must be text"),
        ('containers: {runc: "a\\0"}', "containers.runc: must be a path"),
        ("namespaces: {a: run/a}", "namespaces.a: must be an absolute path"),
        ('namespaces: {a: "/a\\0b"}', "namespaces.a: must be an absolute path"),
        ("namespaces: {a: }", "namespaces.a: required"),
        (
            "namespaces: {a/b: /a}",
            "namespaces.a/b: must be at most 64 letters, digits, '.', '_' and '-', beginning",
        ),
        ("namespaces: {1: /a}", "namespaces.(a whole number): must be text"),
        ("namespaces: [a]", "namespaces: must be a mapping, not a list"),
        ("run_as: 'a b'", "run_as: must be the name of a user"),
        ("privileges: root", "privileges: must be one of prctl, none"),
        ("privileges: none\nrun_as: vcap", "run_as: needs privileges: prctl; with none, start"),
        (
            "privileges: none\ncontainers: {access: namespace}",
            "containers.access: namespace needs privileges: prctl; with none, use host-veth",
        ),
    ],
)
def test_wrong_values_of_an_agent(text: str, problem: str) -> None:
    """A value that cannot be is exactly one problem, with its path and what it may be."""
    (found,) = problems(agent, AGENT + text)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("clients", "problem"),
    [
        ("pcap-api", "allowed_clients: must be a list, not text"),
        ("[a, 1]", "allowed_clients[1]: must be text, not a whole number"),
        ("['*.example.com']", "allowed_clients[0]: must be a DNS name, without wildcards"),
        ("['10.0.0.1']", "allowed_clients[0]: must be a DNS name, not an IP address"),
    ],
)
def test_wrong_allowed_clients(clients: str, problem: str) -> None:
    """Clients are a list of DNS names; a pattern would let in more than it says."""
    (found,) = problems(agent, AGENT.replace("[pcap-api]", clients))
    assert found.startswith(f"listen.tls.{problem}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "drain_timeout: 10",
            "drain_timeout: must be a duration such as 500ms, 30s, 5m, 1h or 7d, not a whole number",
        ),
        ("drain_timeout: '10'", "drain_timeout: must be a duration such as"),
        ("drain_timeout: 0s", "drain_timeout: must be longer than 0"),
        ("trusted_proxies: 10.0.0.1", "trusted_proxies: must be a list, not text"),
        ("trusted_proxies: [router]", "trusted_proxies[0]: must be an IP address, or a network"),
        ("trusted_proxies: [10.0.0.1/24]", "trusted_proxies[0]: must be an IP address, or a network"),
        ("trusted_proxies: ['fe80::1%eth0']", "trusted_proxies[0]: must be an IP address, or a network"),
        ("limits: {per_user: 0}", "limits.per_user: must be from 1 to 1024"),
        ("limits: {max_bytes: 0}", "limits.max_bytes: must be from 1 to 1024TiB"),
        ("limits: {max_targets: 65536}", "limits.max_targets: must be from 1 to 65535"),
        ("metrics: {port: 65536}", "metrics.port: must be from 0 to 65535"),
        ("metrics: {host: localhost}", "metrics.host: must be an IP address"),
        ("metrics: {host: 'fe80::1%eth0'}", "metrics.host: must be an IP address"),
        ("bosh: {}", "bosh.director: required"),
        ("bosh: {director: 'https://d', agent_port: 0}", "bosh.agent_port: must be from 1 to 65535"),
        ("bosh: {director: 'https://d', token_scope: 'a b'}", "bosh.token_scope: must be one scope"),
        ("bosh: {director: 'http://d'}", "bosh.director: must be an https URL"),
        ("bosh: {director: 'https://'}", "bosh.director: must be an https URL"),
        ("bosh: {director: 'https://d#x'}", "bosh.director: must be an https URL"),
        ("bosh: {director: 'https://d:0'}", "bosh.director: must be an https URL"),
        ("bosh: {director: 'https://d:x'}", "bosh.director: must be an https URL"),
        ("bosh: {director: 'https://[d'}", "bosh.director: must be an https URL"),
        ("bosh: {director: 'https://d\\e'}", "bosh.director: must be an https URL"),
        ('bosh: {director: "https://d\\te"}', "bosh.director: must be an https URL"),
        ("bosh: {director: 'https://u:p@d'}", "bosh.director: must not contain a user name or password"),
        ("bosh: {director: 'https://d/x'}", "bosh.director: must be an https URL"),
        ("bosh: {director: 'https://d?'}", "bosh.director: must be an https URL"),
        (
            "bosh: {director: 'https://d'}\nstatic: {}",
            "static.users: required",
        ),
    ],
)
def test_wrong_values_of_an_api(text: str, problem: str) -> None:
    """A value that cannot be is a problem, with its path and what it may be."""
    found = problems(api, API + CLOUD_FOUNDRY + text)
    assert found[0].startswith(problem)


@pytest.mark.parametrize(
    "director", ["https://192.0.2.1", "https://[2001:db8::1]:25555", "https://director.bosh"]
)
def test_hosts_in_urls(director: str) -> None:
    """A server is named by DNS name or by address, of version 6 too."""
    config = api(API + yaml.safe_dump({"bosh": {"director": director}}))
    assert BoshConfig(director) == config.bosh


def test_wrong_permissions() -> None:
    """Only permissions that Cloud Controller knows can be required."""
    (found,) = problems(api, API + CLOUD_FOUNDRY.replace("}", ", required_permission: root}"))
    assert found == "cloud_foundry.required_permission: must be one of read_sensitive_data, read_basic_data"


@pytest.mark.parametrize("section", ["listen", "agents"])
def test_ports(section: str) -> None:
    """Port 0 is good for listening only."""
    text = yaml.safe_load(API + CLOUD_FOUNDRY)
    text[section]["port"] = 0
    if section == "listen":
        assert api(yaml.safe_dump(text)).listen.port == 0
    else:
        assert problems(api, yaml.safe_dump(text)) == ["agents.port: must be from 1 to 65535"]


def static(users: Mapping[str, Any], targets: Mapping[str, Any]) -> str:
    return API + yaml.safe_dump({"static": {"users": users, "targets": targets}})


ALICE = {"token_sha256": HASH, "targets": ["vm"]}
VM = {"host": "10.0.0.7"}


@pytest.mark.parametrize(
    ("users", "targets", "problem"),
    [
        ({"alice": ALICE}, {}, "static.users.alice.targets: there is no target vm"),
        ({"alice": None}, {"vm": VM}, "static.users.alice: required"),
        ({"al ice": ALICE}, {"vm": VM}, "static.users.al ice: must be at most 64"),
        (
            {"alice": {**ALICE, "token_sha256": HASH[1:]}},
            {"vm": VM},
            "static.users.alice.token_sha256: must be the 64",
        ),
        (
            {"alice": {**ALICE, "token_sha256": 1}},
            {"vm": VM},
            "static.users.alice.token_sha256: must be text",
        ),
        (
            {"alice": {**ALICE, "token_sha256": EMPTY_HASH}},
            {"vm": VM},
            "static.users.alice.token_sha256: is the hash of an empty token",
        ),
        ({"alice": {"targets": ["vm"]}}, {"vm": VM}, "static.users.alice.token_sha256: required"),
        ({"alice": {**ALICE, "targets": []}}, {"vm": VM}, "static.users.alice.targets: required"),
        ({"alice": {**ALICE, "targets": "*"}}, {"vm": VM}, "static.users.alice.targets: must be a list"),
        (
            {"alice": {**ALICE, "targets": ["vm", "v*"]}},
            {"vm": VM},
            "static.users.alice.targets[1]: must be at",
        ),
        (
            {"alice": {**ALICE, "targets": ["w"]}},
            {"vm": VM},
            "static.users.alice.targets: there is no target w",
        ),
        (
            {"alice": ALICE, "bob": ALICE},
            {"vm": VM},
            "static.users.bob.token_sha256: is also the token of alice",
        ),
        ({"alice": ALICE}, {"vm": {"host": "vm.example"}}, "static.targets.vm.host: must be an IP address"),
        ({"alice": ALICE}, {"vm": {**VM, "port": 0}}, "static.targets.vm.port: must be from 1"),
        (
            {"alice": ALICE},
            {"vm": {**VM, "namespace": "/run/x"}},
            "static.targets.vm.namespace: must be at most",
        ),
        (
            {"alice": ALICE},
            {"vm": {**VM, "hots": 1}},
            "static.targets.vm.hots: unknown key, did you mean host?",
        ),
        ({"alice": ALICE}, {"vm": 1}, "static.targets.vm: must be a mapping, not a whole number"),
    ],
)
def test_wrong_static(users: Mapping[str, Any], targets: Mapping[str, Any], problem: str) -> None:
    """A mistake in users or targets is exactly one problem, and never shows a token's hash."""
    (found,) = problems(api, static(users, targets))
    assert found.startswith(problem)
    assert HASH[1:] not in found


def test_users_without_a_token_share_none() -> None:
    """Two users whose hashes cannot be used are a problem each, and not one more for being alike."""
    wrong = {**ALICE, "token_sha256": "x"}
    found = problems(api, static({"alice": wrong, "bob": wrong}, {"vm": VM}))
    assert [problem.split(":")[0] for problem in found] == [
        "static.users.alice.token_sha256",
        "static.users.bob.token_sha256",
    ]


def test_all_problems_at_once() -> None:
    """Problems of all sections come together, in the error's attributes and in its text."""
    text = API.replace("ca: ca.crt, ", "") + static({"alice": ALICE}, {"vm": {}}).removeprefix(API)
    with pytest.raises(ConfigError) as caught:
        api(text + "log_level: x\nlimits: {per_user: no, max_duration: 1}\nzzz: 1\n")
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "agents.tls.ca",
        "log_level",
        "limits.per_user",
        "limits.max_duration",
        "static.targets.vm.host",
        "zzz",
    ]
    assert caught.value.source == "b.yml"
    assert str(caught.value).startswith("b.yml: agents.tls.ca: required; log_level: ")


# --- what the values do -------------------------------------------------------


def test_token_hashes_are_not_shown() -> None:
    """Neither a user nor the whole configuration shows a token's hash."""
    assert HASH not in repr(api(API + STATIC))


def test_what_a_user_may_capture() -> None:
    """A user may capture what is named, or everything with a star."""
    config = api(
        static({"a": ALICE, "b": {"token_sha256": "cd" * 32, "targets": ["*"]}}, {"vm": VM, "w": VM})
    )
    assert config.static is not None
    users = config.static.users
    assert [users[u].may_capture(t) for u in "ab" for t in ("vm", "w")] == [True, False, True, True]


def test_tokens_in_clear_are_a_warning() -> None:
    """To listen without TLS is a warning, except on the loopback."""
    assert api(API + CLOUD_FOUNDRY).warnings == ()
    (warning,) = api(API.replace("127.0.0.1", "0.0.0.0") + CLOUD_FOUNDRY).warnings
    assert warning == "listen.tls: absent, so tokens and packets reach 0.0.0.0 in clear"


def test_mere_visibility_is_a_warning() -> None:
    """To let everyone who sees an app read its payloads is a warning."""
    (warning,) = api(API + CLOUD_FOUNDRY.replace("}", ", required_permission: read_basic_data}")).warnings
    assert warning.startswith("cloud_foundry.required_permission: ")


def test_to_trust_everybody_is_a_warning() -> None:
    """To trust every proxy is a warning, since any client may then claim any address."""
    (warning,) = api(API + CLOUD_FOUNDRY + 'trusted_proxies: ["::/0"]').warnings
    assert warning.startswith("trusted_proxies: ")


# --- anything at all ----------------------------------------------------------

SECTIONS = [value for value in vars(schema).values() if isinstance(value, type) and is_dataclass(value)]
KEYS = st.sampled_from(
    sorted({"alice", "vm", *(key.name for section in SECTIONS for key in fields(section))})
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.binary(max_size=5),
    st.sampled_from(
        ["*", "1h", "64KiB", "10.0.0.1", "::1", "https://a", "//[", "https://[", HASH, "/", "\0"]
    ),
    st.builds(lambda: 16**5000),  # its repr raises
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | SCALARS, inner, max_size=6),
    max_leaves=30,
)


# Not parametrized: pytest-twisted would wrap hypothesis' test once more for each parameter.
@given(
    parse=st.sampled_from([parse_agent, parse_api]),
    values=st.dictionaries(KEYS | SCALARS, VALUES, max_size=10),
)
def test_any_values(parse: Callable[..., object], values: Mapping[object, object]) -> None:
    """No values raise anything but ConfigError, whose problems are one line each."""
    try:
        parse(values, host_name="h")
    except ConfigError as error:
        assert error.problems
        assert not any("\n" in problem for problem in error.problems)


@given(
    section=st.sampled_from(["listen", "agents", "limits", "cloud_foundry", "bosh", "static", "metrics"]),
    values=VALUES,
)
def test_any_section(section: str, values: object) -> None:
    """Any value in place of one section raises only problems of that section."""
    try:
        parse_api({**yaml.safe_load(API + CLOUD_FOUNDRY + STATIC), section: values}, host_name="h")
    except ConfigError as error:
        assert all(problem.startswith((section, "cloud_foundry, bosh")) for problem in error.problems)
