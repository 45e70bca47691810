"""The jobs' templates: what they make of a manifest is what the daemons accept, and does what it says."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Union

import pytest
import yaml

from demo.certificates import API_NAME
from pcapd.config.load import load_agent, load_api
from pcapd.config.parse import parse_agent, parse_api
from pcapd.config.schema import (
    AgentConfig,
    AgentMetricsConfig,
    ApiConfig,
    BoshConfig,
    CloudFoundryClient,
    CloudFoundryConfig,
    ContainersConfig,
    MetricsConfig,
    OptInConfig,
    PolicyConfig,
    ProbeConfig,
    RecordingsConfig,
    StaticTarget,
)
from tests.bosh.release import JOBS, RELEASE, Issued, Rendered, RenderError, job_spec, nested, render

Properties = Mapping[str, Any]

#: What makes the least of an api: something to capture.
CLOUD = {"cloud_foundry.api": "https://api.example.com"}
HASH = "0123456789abcdef" * 4


@pytest.fixture
def api_least(issued: Issued) -> dict[str, Any]:
    return {**issued.api_properties(), **CLOUD}


@pytest.fixture
def agent_least(issued: Issued) -> dict[str, Any]:
    return issued.agent_properties()


def api_most(issued: Issued) -> dict[str, Any]:
    """Every property of the api's job, none at its default."""
    ca = issued.api.ca.read_text()
    return {
        **issued.api_properties(),
        "bpm.enabled": False,
        "open_files": 1000,
        "memory_limit": "2G",
        "id": "pcap-api/7",
        "log_level": "debug",
        "listen.host": "127.0.0.1",
        "listen.port": 8443,
        "listen.tls.enabled": True,
        "listen.tls.client_cas": ca,
        "agents.port": 9999,
        "agents.connect_timeout": "500ms",
        "workers": 2,
        "limits.concurrent_captures": 7,
        "limits.per_user": 2,
        "limits.max_duration": "5m",
        "limits.max_bytes": "1GiB",
        "limits.max_targets": 12,
        "drain_timeout": "1m",
        "trusted_proxies": ["10.0.1.10", "10.0.2.0/28"],
        "cloud_foundry.api": "https://api.example.com",
        "cloud_foundry.ca": ca,
        "cloud_foundry.required_permission": "read_basic_data",
        "cloud_foundry.headers_only_permission": "read_sensitive_data",
        "cloud_foundry.client.id": "pcap-api",
        "cloud_foundry.client.secret": "s3cret: #{'",
        "cloud_foundry.opt_in.label": "pcap/capture=yes",
        "cloud_foundry.opt_in.label_on": ["space"],
        "cloud_foundry.opt_in.apps": ["a-1"],
        "cloud_foundry.opt_in.spaces": ["s-1"],
        "cloud_foundry.opt_in.organizations": ["o-1"],
        "bosh.director": "https://192.0.2.1:25555",
        "bosh.ca": ca,
        "bosh.agent_port": 9998,
        "bosh.token_scope": "pcap.capture",
        "static.users": {"alice": {"token_sha256": HASH, "targets": ["vm-1"]}},
        "static.targets": {"vm-1": {"host": "10.0.0.7"}},
        "policy.headers_only": True,
        "policy.require_reason": True,
        "operators": ["static/alice"],
        "policy.devices": ["eth0"],
        "policy.exclude": ["port 22", "net 10.1.0.0/16"],
        "recordings.enabled": True,
        "recordings.store": "s3://pcap/recordings",
        "recordings.credentials": {"access_key_id": "a", "secret_access_key": "b"},
        "state": "postgresql+pg8000://u:p@db/pcap",
        "recordings.per_user": 5,
        "recordings.max_duration": "1d",
        "recordings.max_bytes": "10GB",
        "recordings.reserve": "1GB",
        "recordings.keep": "2d",
        "recordings.readers": "permitted",
        "metrics.enabled": True,
        "metrics.host": "0.0.0.0",
        "metrics.port": 9103,
        "probe.enabled": False,
        "probe.interval": "2m",
        "probe.agents": ["10.0.16.21"],
        "cli.enabled": False,
    }


def agent_most(issued: Issued) -> dict[str, Any]:
    """Every property of the agent's job, none at its default."""
    return {
        **issued.agent_properties(),
        "bpm.enabled": False,
        "privileges": "prctl",
        "open_files": 1000,
        "memory_limit": "512M",
        "id": "router/7",
        "log_level": "warn",
        "listen.host": "10.0.0.5",
        "listen.port": 9999,
        "capture.default_device": "ens4",
        "capture.ring_bytes": "8MiB",
        "capture.max_captures": 3,
        "capture.promiscuous": False,
        "metrics.enabled": True,
        "metrics.host": "10.0.0.5",
        "metrics.port": 9104,
        "containers.enabled": True,
        "containers.access": "host-veth",
        "containers.store": "/var/vcap/data/elsewhere/store.json",
        "containers.runc": "/var/vcap/packages/runc-1/bin/runc",
        "containers.runc_root": "/run/runc",
        "containers.netns_dir": "/var/vcap/data/netns",
    }


MOST = {"pcap-api": api_most, "pcap-agent": agent_most}


def least(job: str, issued: Issued) -> dict[str, Any]:
    return {**issued.api_properties(), **CLOUD} if job == "pcap-api" else issued.agent_properties()


def laid_out(rendered: Rendered, job: str, root: Path) -> Path:
    """Lay the job out below a directory that stands for /var/vcap; returns its configuration."""
    moved = {target: text.replace("/var/vcap/", f"{root}/") for target, text in rendered.files.items()}
    Rendered(moved, rendered.asked).write(root / "jobs" / job)
    for directory in (f"sys/log/{job}", "packages/pcapd/cli"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    return root / "jobs" / job / "config" / f"{job}.yml"


def load(rendered: Rendered, job: str, root: Path) -> Union[AgentConfig, ApiConfig]:
    """What the daemon understands, with the paths of a VM."""
    path = laid_out(rendered, job, root)
    return load_api(path) if job == "pcap-api" else load_agent(path)


# --- what the daemons accept ---------------------------------------------------------


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("much", ["least", "most"])
def test_the_daemon_accepts_it(job: str, much: str, issued: Issued, tmp_path: Path) -> None:
    """The daemon accepts the file and all files that it names, with the least and with every property set.

    The least permission that can be set is set with everything, and the api warns of it.
    ``--check-config`` also looks at the machine, which is not a VM of BOSH's here.
    """
    properties = least(job, issued) if much == "least" else MOST[job](issued)
    path = laid_out(render(job, nested(properties)), job, tmp_path)
    config = load_agent(path) if job == "pcap-agent" else load_api(path)
    assert [text for text in config.warnings if "required_permission" not in text] == []


def test_the_defaults_of_the_api_are_the_daemons(api_least: Properties, tmp_path: Path) -> None:
    """With the required properties alone, the api's configuration equals the daemon's defaults."""
    found = load(render("pcap-api", nested(api_least)), "pcap-api", tmp_path)
    assert isinstance(found, ApiConfig) and found.listen.tls is not None
    bare = {
        "id": "pcap/3f2a0c5e-0000-4000-8000-000000000001",
        "listen": {"tls": {"certificate": "listen.crt", "private_key": "listen.key"}},
        "agents": {
            "tls": {
                "certificate": "agents.crt",
                "private_key": "agents.key",
                "ca": "agents_ca.crt",
                "server_name": "pcap-agent.service.cf.internal",
            }
        },
        "cloud_foundry": {"api": "https://api.example.com"},
        "audit": {"file": str(tmp_path / "sys/log/pcap-api/audit.log")},
        "cli": {"directory": str(tmp_path / "packages/pcapd/cli")},
    }
    assert found == parse_api(bare, host_name="x", directory=tmp_path / "jobs/pcap-api/config/tls")


def test_the_defaults_of_the_agent_are_the_daemons(agent_least: Properties, tmp_path: Path) -> None:
    """With the required properties alone, the agent's configuration equals the daemon's defaults, apart from run_as."""
    found = load(render("pcap-agent", nested(agent_least)), "pcap-agent", tmp_path)
    bare = {
        "id": "pcap/3f2a0c5e-0000-4000-8000-000000000001",
        "listen": {
            "tls": {
                "certificate": "listen.crt",
                "private_key": "listen.key",
                "client_cas": "client_cas.crt",
                "allowed_clients": [API_NAME],
            }
        },
        "run_as": "vcap",
    }
    assert found == parse_agent(bare, host_name="x", directory=tmp_path / "jobs/pcap-agent/config/tls")


def test_the_defaults_of_sections_are_the_daemons(
    issued: Issued, api_least: Properties, tmp_path: Path
) -> None:
    """Sections that are off unless wanted have the daemon's defaults when they are on."""
    wanted = {
        **api_least,
        "metrics.enabled": True,
        "bosh.director": "https://192.0.2.1:25555",
        "agents.port": 1234,
        "recordings.enabled": True,
    }
    api = load(render("pcap-api", nested(wanted)), "pcap-api", tmp_path)
    assert isinstance(api, ApiConfig)
    assert api.metrics == MetricsConfig()
    assert api.bosh == BoshConfig("https://192.0.2.1:25555", agent_port=1234)
    files = tmp_path / "jobs/pcap-api/config/recordings"
    store = f"file://{tmp_path}/store/pcap-api/recordings"
    assert api.recordings == RecordingsConfig(store)
    assert (files / "state").read_text().strip() == f"sqlite:///{tmp_path}/store/pcap-api/state.db"
    # Their paths are on the VM's own disk, so nothing is moved here.
    wanted = {**issued.agent_properties(), "containers.enabled": True, "metrics.enabled": True}
    rendered = render("pcap-agent", nested(wanted))
    agent = parse_agent(rendered.yaml("config/pcap-agent.yml"), host_name="x")
    assert agent.containers == ContainersConfig()
    assert agent.metrics == AgentMetricsConfig()


def test_everything_of_the_api_can_be_set(issued: Issued, tmp_path: Path) -> None:
    """Each property of the api's job sets the key of its name."""
    found = load(render("pcap-api", nested(api_most(issued))), "pcap-api", tmp_path)
    assert isinstance(found, ApiConfig) and found.listen.tls is not None
    tls = tmp_path / "jobs/pcap-api/config/tls"
    assert (found.id, found.log_level, found.drain_timeout) == ("pcap-api/7", "debug", 60.0)
    assert (found.listen.host, found.listen.port) == ("127.0.0.1", 8443)
    assert found.listen.tls.client_cas == tls / "client_cas.crt"
    assert (found.agents.port, found.agents.connect_timeout) == (9999, 0.5)
    assert (found.workers, found.state) == (2, f"file:{tmp_path}/jobs/pcap-api/config/recordings/state")
    limits = found.limits
    assert (limits.concurrent_captures, limits.per_user, limits.max_targets) == (7, 2, 12)
    assert (limits.max_duration, limits.max_bytes) == (300.0, 2**30)
    secret = tmp_path / "jobs/pcap-api/config/cloud_foundry/client_secret"
    assert found.cloud_foundry is not None and found.cloud_foundry == CloudFoundryConfig(
        "https://api.example.com",
        tls / "cloud_foundry_ca.crt",
        "read_basic_data",
        "read_sensitive_data",
        OptInConfig(("pcap/capture", "yes"), ("space",), ("a-1",), ("s-1",), ("o-1",)),
        CloudFoundryClient("pcap-api", secret_file=secret),
    )
    assert secret.read_text() == "s3cret: #{'\n"
    assert found.policy == PolicyConfig(True, ("eth0",), ("port 22", "net 10.1.0.0/16"), True)
    assert found.bosh == BoshConfig("https://192.0.2.1:25555", tls / "bosh_ca.crt", 9998, "pcap.capture")
    assert found.static is not None
    assert found.static.users["alice"].targets == ("vm-1",)
    assert found.static.targets == {"vm-1": StaticTarget("10.0.0.7", 9999)}
    assert found.metrics == MetricsConfig("0.0.0.0", 9103)
    assert found.probe == ProbeConfig(False, 120.0, ("10.0.16.21",))
    assert found.cli is None
    files = tmp_path / "jobs/pcap-api/config/recordings"
    assert found.state == f"file:{files}/state"
    assert found.recordings == RecordingsConfig(
        "s3://pcap/recordings",
        files / "credentials.json",
        5,
        86400.0,
        10 * 10**9,
        10**9,
        2 * 86400.0,
        "permitted",
    )
    assert json.loads((files / "credentials.json").read_text())["secret_access_key"] == "b"


def test_everything_of_the_agent_can_be_set(issued: Issued) -> None:
    """Each property of the agent's job sets the key of its name."""
    rendered = render("pcap-agent", nested(agent_most(issued)))
    found = parse_agent(rendered.yaml("config/pcap-agent.yml"), host_name="x")
    assert (found.id, found.log_level) == ("router/7", "warn")
    assert (found.listen.host, found.listen.port) == ("10.0.0.5", 9999)
    assert found.capture == replace(
        found.capture, default_device="ens4", ring_bytes=2**23, max_captures=3, promiscuous=False
    )
    assert found.metrics == AgentMetricsConfig("10.0.0.5", 9104)
    assert found.containers == ContainersConfig(
        "host-veth",
        Path("/var/vcap/data/elsewhere/store.json"),
        Path("/var/vcap/packages/runc-1/bin/runc"),
        Path("/run/runc"),
        Path("/var/vcap/data/netns"),
    )


def test_false_is_a_value(api_least: Properties, agent_least: Properties) -> None:
    """A property that is false is not taken for one that is not set."""
    rendered = render("pcap-agent", nested({**agent_least, "capture.promiscuous": False}))
    assert rendered.yaml("config/pcap-agent.yml")["capture"]["promiscuous"] is False
    rendered = render(
        "pcap-api", nested({**api_least, "listen.tls.enabled": False, "listen.host": "127.0.0.1"})
    )
    assert "tls" not in rendered.yaml("config/pcap-api.yml")["listen"]


def test_an_agent_without_python_prctl(agent_least: Properties, tmp_path: Path) -> None:
    """With ``privileges: none`` bpm starts the agent as vcap; a start as root, which only run_as would end, is refused."""
    wanted = {**agent_least, "privileges": "none"}
    found = load(render("pcap-agent", nested(wanted)), "pcap-agent", tmp_path)
    assert isinstance(found, AgentConfig)
    assert (found.privileges, found.run_as) == ("none", None)
    with pytest.raises(RenderError, match=r"privileges: none needs bpm\.enabled"):
        render("pcap-agent", nested({**wanted, "bpm.enabled": False}))


def test_values_cannot_break_out(agent_least: Properties) -> None:
    """Quotes, line ends and YAML's own characters stay in their value."""
    odd = 'a"b\n  run_as: root # {}: &x *y'
    rendered = render("pcap-agent", nested({**agent_least, "id": odd}))
    assert rendered.yaml("config/pcap-agent.yml")["id"] == odd
    assert rendered.yaml("config/pcap-agent.yml")["run_as"] == "vcap"


def test_tls_needs_no_certificate_where_it_is_off(api_least: dict[str, Any]) -> None:
    """A job behind a proxy on the same machine needs no certificate when TLS is off."""
    for name in ("certificate", "private_key"):
        del api_least[f"listen.tls.{name}"]
    rendered = render("pcap-api", nested({**api_least, "listen.tls.enabled": False}))
    assert rendered.files["config/tls/listen.key"].strip() == ""
    assert "http://127.0.0.1:8080/health" in rendered.files["bin/route-health"]


# --- what is missing ---------------------------------------------------------------------

REQUIRED = {
    "pcap-api": [
        "listen.tls.certificate",
        "listen.tls.private_key",
        "agents.tls.certificate",
        "agents.tls.private_key",
        "agents.tls.ca",
        "agents.tls.server_name",
    ],
    "pcap-agent": [
        "listen.tls.certificate",
        "listen.tls.private_key",
        "listen.tls.client_cas",
        "listen.tls.allowed_clients",
    ],
}


@pytest.mark.parametrize(("job", "name"), [(job, name) for job, names in REQUIRED.items() for name in names])
def test_a_required_property_that_is_missing(job: str, name: str, issued: Issued) -> None:
    """Rendering fails with its name, so a deployment stops before anything is changed."""
    properties = least(job, issued)
    del properties[name]
    with pytest.raises(RenderError, match=f"Can't find property '{re.escape(name)}'"):
        render(job, nested(properties))


@pytest.mark.parametrize("job", JOBS)
def test_only_these_are_required(job: str, issued: Issued) -> None:
    """The least really has no more than what the specs call required."""
    properties = job_spec(job)["properties"]
    said = {name for name, facts in properties.items() if "Required" in facts["description"]}
    assert said == set(REQUIRED[job])
    assert set(least(job, issued)) - set(CLOUD) == said


def test_an_api_with_nothing_to_capture(issued: Issued) -> None:
    """An api without anything to capture is refused, and the message names all three possible sections."""
    with pytest.raises(
        RenderError, match=r"one of cloud_foundry\.api, bosh.director, static.users is required"
    ):
        render("pcap-api", nested(issued.api_properties()))


def test_static_users_without_targets(issued: Issued) -> None:
    """Static users without static targets are refused."""
    users = {"static.users": {"alice": {"token_sha256": HASH, "targets": ["*"]}}}
    with pytest.raises(RenderError, match=r"Can.t find property .static\.targets."):
        render("pcap-api", nested({**issued.api_properties(), **users}))


def test_a_drain_timeout_that_is_none(api_least: Properties) -> None:
    """A drain timeout that is not a number is refused by its name."""
    with pytest.raises(RenderError, match="drain_timeout must be a duration such as 10s or 1m"):
        render("pcap-api", nested({**api_least, "drain_timeout": "soon"}))


# --- the specs ---------------------------------------------------------------------------


@pytest.mark.parametrize("job", JOBS)
def test_specs_and_templates_agree(job: str, issued: Issued) -> None:
    """Every property of the spec is used by a template, every one that is used is in the spec."""
    asked: set[str] = set()
    for properties in (least(job, issued), MOST[job](issued)):
        asked |= render(job, nested(properties)).asked
    texts = [path.read_text() for path in (RELEASE / "jobs" / job).rglob("*") if path.suffix == ".erb"]
    written = {name for text in texts for name in re.findall(r"\bp\('([a-z_.]+)'", text)}
    declared = set(job_spec(job)["properties"])
    assert asked == declared
    assert written <= declared


@pytest.mark.parametrize("job", JOBS)
def test_every_property_is_set_by_these_tests(job: str, issued: Issued) -> None:
    """These tests set every property of the specs."""
    assert set(MOST[job](issued)) == set(job_spec(job)["properties"])


@pytest.mark.parametrize("job", JOBS)
def test_the_most_differs_from_the_defaults(job: str, issued: Issued) -> None:
    """Every property of the fullest example differs from its default."""
    properties, most = job_spec(job)["properties"], MOST[job](issued)
    same = {name for name, facts in properties.items() if facts.get("default") == most[name]}
    # privileges: none needs bpm.enabled: test_an_agent_without_python_prctl.
    assert same <= {"listen.tls.enabled", "privileges"}


@pytest.mark.parametrize("job", JOBS)
def test_every_property_is_described(job: str) -> None:
    """Every property has a description, and a default, an example, or a note that it is required."""
    for name, facts in job_spec(job)["properties"].items():
        assert facts["description"].rstrip().endswith("."), name
        known = {"default", "example"} & set(facts)
        assert known or "equired" in facts["description"] or "Without it" in facts["description"], name


@pytest.mark.parametrize("job", JOBS)
def test_every_template_is_in_the_spec(job: str) -> None:
    """Every template is in the spec, and every template of the spec exists."""
    directory = RELEASE / "jobs" / job / "templates"
    files = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert files == set(job_spec(job)["templates"])


@pytest.mark.parametrize("job", JOBS)
def test_packages_are_there(job: str) -> None:
    """Every package of a job is in the release."""
    for package in job_spec(job)["packages"]:
        assert (RELEASE / "packages" / package / "spec").is_file()


#: Configuration keys that have no property, and why.
WITHOUT_PROPERTY = {
    "cloud_foundry.client.secret_file",  # cloud_foundry.client.secret has its content
    "recordings.credentials_file",  # recordings.credentials has its content
    "run_as",  # always vcap
    "namespaces",  # of hosts that are no BOSH VMs
    "audit.file",  # where BOSH forwards logs from
    "cli.directory",  # in the package
}


@pytest.mark.parametrize("job", JOBS)
def test_every_key_has_its_property(job: str) -> None:
    """The example configuration has all keys; each is a property of the same name, or has a reason."""
    path = RELEASE.parent / "etc" / f"{job.replace('pcap-', 'pcapd-')}.yml"
    text = re.sub(r"^( *)#(?=[^ \n]|  )", r"\1", path.read_text(), flags=re.MULTILINE)
    declared = set(job_spec(job)["properties"])
    missing = {name for name in _leaves(yaml.safe_load(text)) if name not in declared}
    assert missing <= WITHOUT_PROPERTY


def _leaves(node: Mapping[str, Any], path: str = "") -> set[str]:
    found = set()
    for key, value in node.items():
        name = f"{path}{key}"
        inner = isinstance(value, dict) and name not in ("static.users", "static.targets", "namespaces")
        found |= _leaves(value, f"{name}.") if inner else {name}
    return found


# --- scripts, bpm, monit -------------------------------------------------------------------


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("much", ["least", "most"])
def test_scripts_are_good_bash(job: str, much: str, issued: Issued) -> None:
    """bash understands every script, and none has a line of ERB left."""
    rendered = render(job, nested(least(job, issued) if much == "least" else MOST[job](issued)))
    scripts = {target: text for target, text in rendered.files.items() if target.startswith("bin/")}
    assert {"bin/ctl", "bin/drain", "bin/post-start"} <= set(scripts)
    for target, text in scripts.items():
        assert text.startswith("#!/bin/bash\n"), target
        assert "<%" not in text, target
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), target


def test_the_api_runs_without_privileges(api_least: Properties) -> None:
    """bpm gives it no capability, no volume, and nothing unsafe."""
    (process,) = render("pcap-api", nested(api_least)).yaml("config/bpm.yml")["processes"]
    assert process == {
        "name": "pcap-api",
        "executable": "/var/vcap/packages/pcapd/bin/pcapd",
        "args": ["--role", "api", "--config", "/var/vcap/jobs/pcap-api/config/pcap-api.yml"],
        "limits": {"open_files": 65536},
    }


def test_workers_have_a_disk(api_least: Properties, tmp_path: Path) -> None:
    """Workers without recordings share a database on the ephemeral disk, where bpm or bin/ctl makes the directory."""
    rendered = render("pcap-api", nested({**api_least, "workers": 2}))
    (process,) = rendered.yaml("config/bpm.yml")["processes"]
    assert process["ephemeral_disk"] is True and "persistent_disk" not in process
    assert 'install -d -m 0700 -o vcap -g vcap "/var/vcap/data/$name"' in rendered.files["bin/ctl"]
    assert rendered.files["config/recordings/state"] == "sqlite:////var/vcap/data/pcap-api/state.db\n"
    found = load(rendered, "pcap-api", tmp_path)
    assert isinstance(found, ApiConfig) and found.state is not None and found.recordings is None


METADATA = {"path": "/var/vcap/data/container-metadata"}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({}, {"capabilities": ["NET_RAW"]}),
        (
            {"containers.enabled": True, "containers.access": "host-veth"},
            {"capabilities": ["NET_RAW"], "additional_volumes": [METADATA]},
        ),
        (
            {"containers.enabled": True},
            {
                "additional_volumes": [METADATA],
                "unsafe": {
                    "privileged": True,
                    "host_pid_namespace": True,
                    "unrestricted_volumes": [{"path": "/run"}],
                },
            },
        ),
    ],
    ids=["a VM", "host-veth", "namespace"],
)
def test_the_agent_has_what_its_access_needs(
    agent_least: Properties, properties: Properties, expected: Mapping[str, Any]
) -> None:
    """The agent has NET_RAW alone unless it enters containers, for which bpm offers nothing smaller than privileged."""
    (process,) = render("pcap-agent", nested({**agent_least, **properties})).yaml("config/bpm.yml")[
        "processes"
    ]
    for key in ("name", "executable", "args", "limits"):
        process.pop(key)
    assert process == expected


def test_memory_limits(api_least: Properties, agent_least: Properties) -> None:
    """Memory limits arrive in bpm's configuration."""
    for job, properties in (("pcap-api", api_least), ("pcap-agent", agent_least)):
        rendered = render(job, nested({**properties, "memory_limit": "1G"}))
        (process,) = rendered.yaml("config/bpm.yml")["processes"]
        assert process["limits"] == {"open_files": 65536, "memory": "1G"}


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize(("bpm", "pidfile"), [(True, "bpm/{0}/{0}.pid"), (False, "{0}/{0}.pid")])
def test_monit_ctl_and_drain_mean_the_same_process(job: str, bpm: bool, pidfile: str, issued: Issued) -> None:
    """monit, ctl and drain use the same pid file."""
    rendered = render(job, nested({**least(job, issued), "bpm.enabled": bpm}))
    path = f"/var/vcap/sys/run/{pidfile.format(job)}"
    assert f"with pidfile {path}\n" in rendered.files["monit"]
    assert f"\npidfile={path}\n" in rendered.files["bin/drain"]
    assert ("bpm/bin/bpm start" in rendered.files["monit"]) == bpm


@pytest.mark.parametrize(
    ("timeout", "tenths"),
    [("10s", "20 * 10"), ("500ms", "11 * 10"), ("1m", "70 * 10"), ("1.5 h", "5410 * 10")],
)
def test_the_drain_waits_longer_than_the_api_takes(api_least: Properties, timeout: str, tenths: str) -> None:
    """The drain script waits ten seconds longer than drain_timeout; the api may take three of them."""
    rendered = render("pcap-api", nested({**api_least, "drain_timeout": timeout}))
    assert f"tenth < {tenths};" in rendered.files["bin/drain"]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "https://127.0.0.1:8080/health"),
        ("::", "https://[::1]:8080/health"),
        ("10.0.0.5", "https://10.0.0.5:8080/health"),
        ("fd00::5", "https://[fd00::5]:8080/health"),
    ],
)
def test_health_checks_ask_where_the_api_listens(api_least: Properties, host: str, url: str) -> None:
    """The health check uses the loopback address where the api listens on all addresses."""
    rendered = render("pcap-api", nested({**api_least, "listen.host": host}))
    assert f'"{url}"' in rendered.files["bin/route-health"]
    assert f'"{url}"' in rendered.files["bin/post-start"]
