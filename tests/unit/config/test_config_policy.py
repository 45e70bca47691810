"""The section ``policy`` of an api's configuration, and what belongs to it elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcapd.api.resolvers.ownclient import check_client
from pcapd.config.schema import AuditConfig, CloudFoundryClient, OptInConfig, PolicyConfig, SyslogConfig
from pcapd.errors import ConfigError
from pcapd.limits import POLICY_FILTERS_LENGTH_MAX, POLICY_FILTERS_MAX, SECRET_MAX
from tests.kit.unit.config import API, CLOUD_FOUNDRY, STATIC, api, problems


def test_without_one() -> None:
    """Without a policy everything is allowed."""
    assert api(API + STATIC).policy == PolicyConfig(False, None, ())
    assert api(API + STATIC + "policy: {devices: null, exclude: []}").policy == PolicyConfig()


def test_no_interface_at_all() -> None:
    """An empty list is a slip, and must not allow every interface."""
    (found,) = problems(api, API + STATIC + "policy: {devices: []}")
    assert found.startswith("policy.devices: required: an empty list would allow nothing")


def test_all_of_it() -> None:
    """Each key of the policy arrives."""
    text = 'policy: {headers_only: true, devices: [eth0, lo], exclude: ["port 22", "(net 10.0.0.0/8)"]'
    text += ", require_reason: true}"
    found = api(API + STATIC + text).policy
    assert found == PolicyConfig(True, ("eth0", "lo"), ("port 22", "(net 10.0.0.0/8)"), True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("vlan 7 and port 22", "must not have vlan, which changes the meaning of every filter after it"),
        ("not mpls", "must not have mpls, which changes the meaning of every filter after it"),
        ("port 22) or (port 23", "has parentheses that do not match"),
        ("(port 22", "has parentheses that do not match"),
        ("port\\t22", "must be printable ASCII, in one line"),
        ("port 22 # ü", "must be printable ASCII, in one line"),
    ],
)
def test_an_exclusion_that_cannot_be(text: str, problem: str) -> None:
    """An exclusion that cannot be a filter is refused before the api starts, as far as possible without libpcap."""
    (found,) = problems(api, API + STATIC + f'policy: {{exclude: ["{text}"]}}')
    assert found == f"policy.exclude[0]: {problem}"


@pytest.mark.parametrize(
    "texts", [["port 22"] * (POLICY_FILTERS_MAX + 1), ["a" * (POLICY_FILTERS_LENGTH_MAX + 1)]]
)
def test_too_many_exclusions(texts: list[str]) -> None:
    """Exclusions that do not fit into a START together are refused."""
    (found,) = problems(api, API + STATIC + f"policy: {{exclude: {texts}}}")
    assert found.startswith("policy.exclude: must be at most ")


def with_opt_in(text: str) -> str:
    return CLOUD_FOUNDRY.replace("}", f", opt_in: {text}}}")


def test_an_opt_in() -> None:
    """Each key of the opt-in arrives; a label counts everywhere unless places are named."""
    found = api(API + with_opt_in("{label: x.example/y=on, apps: [a-1], spaces: [s-1]}"))
    assert found.cloud_foundry is not None
    assert found.cloud_foundry.opt_in == OptInConfig(("x.example/y", "on"), apps=("a-1",), spaces=("s-1",))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "label: required: without label, apps, spaces or organizations nothing"),
        ("{label: capture}", "label: must be KEY=VALUE"),
        ("{label: 'a b=c'}", "label: must be KEY=VALUE"),
        ("{apps: [../x]}", "apps[0]: must be a GUID"),
        ("{label: a=b, label_on: [foundation]}", "label_on[0]: must be one of app, space, organization"),
        ("{apps: [a], label_on: [app]}", "label_on: needs label"),
    ],
)
def test_an_opt_in_that_cannot_be(text: str, problem: str) -> None:
    """An opt-in that would allow nothing, or means nothing, is refused before the api starts."""
    (found,) = problems(api, API + with_opt_in(text))
    assert found.startswith(f"cloud_foundry.opt_in.{problem}")


def with_client(text: str) -> str:
    return CLOUD_FOUNDRY.replace("}", f", client: {text}}}")


def test_a_client_of_the_apis_own() -> None:
    """The secret is in the configuration, where nothing shows it, or in a file."""
    found = api(API + with_client("{id: pcap-api, secret: s3cret}"))
    assert found.cloud_foundry is not None
    assert found.cloud_foundry.client == CloudFoundryClient("pcap-api", "s3cret")
    assert "s3cret" not in repr(found)
    found = api(API + with_client("{id: pcap-api, secret_file: /run/secret}"))
    assert found.cloud_foundry is not None and found.cloud_foundry.client is not None
    assert found.cloud_foundry.client.secret_file == Path("/run/secret")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{secret: x}", "id: required"),
        ("{id: x}", "secret, secret_file: exactly one is required"),
        ("{id: x, secret: a, secret_file: b}", "secret, secret_file: exactly one is required"),
        ("{id: x, secret: 1234}", "secret: must be text, not a whole number"),
        ("{id: x, secret: a, scope: b}", "scope: unknown key"),
    ],
)
def test_a_client_that_cannot_be(text: str, problem: str) -> None:
    """A client without its id or with a doubtful secret is refused; the secret is in no message."""
    (found,) = problems(api, API + with_client(text))
    assert found.startswith(f"cloud_foundry.client.{problem}") and "1234" not in found


@pytest.mark.parametrize("content", [None, "", "\n", "one\ntwo\n", "x" * (SECRET_MAX + 1), "\udcff"])
def test_a_file_without_a_secret(tmp_path: Path, content: str | None) -> None:
    """``--check-config`` reports a file that cannot be read, or is not one line; the content is in no message."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content, errors="surrogateescape")
    with pytest.raises(ConfigError) as refused:
        check_client(CloudFoundryClient("pcap-api", secret_file=file))
    (problem,) = refused.value.problems
    assert problem.startswith("cloud_foundry.client.secret_file: ") and "xx" not in problem
    file.write_text("s3cret\n")
    check_client(CloudFoundryClient("pcap-api", secret_file=file))


def test_audit_records_to_syslog() -> None:
    """Records go to a Unix socket, or to a server over TLS, whose port is that of RFC 5425."""
    found = api(API + STATIC + "audit: {syslog: {socket: /dev/log}}").audit
    assert found == AuditConfig(syslog=SyslogConfig(Path("/dev/log")))
    found = api(
        API + STATIC + "audit: {syslog: {host: logs.example.com, server_name: syslog.example.com}}"
    ).audit
    assert found is not None and found.syslog == SyslogConfig(
        host="logs.example.com", port=6514, server_name="syslog.example.com"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "audit.file, syslog: exactly one is required"),
        ("{file: a.log, syslog: {socket: /dev/log}}", "audit.file, syslog: exactly one is required"),
        ("{syslog: {}}", "audit.syslog.socket, host: exactly one is required; UDP is not supported"),
        ("{syslog: {host: a, udp: true}}", "audit.syslog.udp: unknown key"),
        ("{syslog: {socket: log}}", "audit.syslog.socket: must be an absolute path"),
        ("{syslog: {socket: /dev/log, port: 514}}", "audit.syslog.port: needs host"),
        ("{syslog: {host: a b}}", "audit.syslog.host: "),
        ("{syslog: {host: a, certificate: b}}", "audit.syslog.certificate, private_key: both are required"),
    ],
)
def test_audit_records_that_would_go_nowhere(text: str, problem: str) -> None:
    """Audit records have exactly one place, which can lose none silently."""
    (found,) = problems(api, API + STATIC + f"audit: {text}")
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("operator", "problem"),
    [
        ("alice", "operators[0]: must be static/NAME, cloud_foundry/ORIGIN/NAME or bosh/ORIGIN/NAME"),
        ("bosh/admin", "operators[0]: must be "),
        ("static/carol", "operators: there is no user carol in static.users"),
        ("bosh/uaa/admin", "operators: bosh/uaa/admin needs the section bosh"),
    ],
)
def test_an_operator_that_nobody_can_be(operator: str, problem: str) -> None:
    """An operator whom no token can name is a slip."""
    (found,) = problems(api, API + STATIC + f"operators: [{operator}]")
    assert found.startswith(problem)
    assert api(API + STATIC + "operators: [static/alice]").operators == ("static/alice",)


def test_users_and_permissions() -> None:
    """A user of the configuration's, or a permission, may be good for headers only."""
    found = api(API + STATIC.replace("targets: [vm]", "targets: [vm], headers_only: true"))
    assert found.static is not None and found.static.users["alice"].headers_only
    found = api(API + CLOUD_FOUNDRY.replace("}", ", headers_only_permission: read_basic_data}"))
    assert found.cloud_foundry is not None
    assert found.cloud_foundry.headers_only_permission == "read_basic_data"
    same = CLOUD_FOUNDRY.replace("}", ", headers_only_permission: read_sensitive_data}")
    (problem,) = problems(api, API + same)
    assert problem == "cloud_foundry.headers_only_permission: must differ from required_permission"
