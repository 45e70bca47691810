"""Manifests and ops files, applied by the library that `bosh interpolate` uses, make deployments of our jobs.

The BOSH CLI itself cannot be had on every machine; its part here is go-patch.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from pcapd.config.parse import parse_agent, parse_api
from pcapd.config.schema import ContainersConfig
from tests.bosh.release import FOUNDATION, HAPROXY, MANIFESTS, OPS, Issued, job_spec, render


def job_of(manifest: dict[str, Any], group: str, name: str) -> dict[str, Any]:
    (found,) = [entry for entry in manifest["instance_groups"] if entry["name"] == group]
    (job,) = [job for job in found["jobs"] if job["name"] == name]
    return dict(job)


def filled(node: Any, issued: Issued) -> Any:
    """Put values where the director would: certificates, and the template's variables."""
    variables = yaml.safe_load((MANIFESTS / "vars-template.yml").read_text())
    if isinstance(node, dict):
        return {key: filled(value, issued) for key, value in node.items()}
    if isinstance(node, list):
        return [filled(value, issued) for value in node]
    if not isinstance(node, str) or "((" not in node:
        return node
    if not re.fullmatch(r"\(\([^()]+\)\)", node):  # within a text
        return re.sub(r"\(\(([^()]+)\)\)", lambda match: variables[match[1]], node)
    name = node.strip("()")
    credentials = issued.agent if name.startswith("pcap_agent") else issued.api
    files = {"certificate": credentials.certificate, "private_key": credentials.private_key}
    if name == "/pcap_ca.certificate":
        return issued.api.ca.read_text()
    if "." in name:
        return files[name.rpartition(".")[2]].read_text()
    return variables[name]


def declared(properties: dict[str, Any], job: str) -> None:
    """Every property that a manifest sets is one of the job's: the director would drop it silently."""
    known = job_spec(job)["properties"]

    def walk(node: dict[str, Any], path: str) -> None:
        for key, value in node.items():
            name = f"{path}{key}"
            if name in known:
                continue
            assert isinstance(value, dict), f"{job} has no property {name}"
            walk(value, f"{name}.")

    walk(properties, "")


def own(text: str) -> Any:
    return yaml.safe_load((MANIFESTS / text).read_text())


def test_the_api(issued: Issued, interpolate: Any) -> None:
    """With its ops files the api has a route and the director's VMs, and the daemon accepts the configuration."""
    manifest = interpolate(own("pcap-api.yml"), "add-route.yml", "add-bosh-resolver.yml")
    properties = job_of(manifest, "pcap-api", "pcap-api")["properties"]
    declared(properties, "pcap-api")
    config = parse_api(
        render("pcap-api", filled(properties, issued)).yaml("config/pcap-api.yml"), host_name="x"
    )
    assert config.cloud_foundry is not None and config.bosh is not None
    assert list(map(str, config.trusted_proxies)) == ["10.0.1.10/32", "10.0.1.11/32"]
    (route,) = job_of(manifest, "pcap-api", "route_registrar")["properties"]["route_registrar"]["routes"]
    assert route["tls_port"] == config.listen.port
    health = route["health_check"]["script_path"].removeprefix("/var/vcap/jobs/pcap-api/")
    assert health in job_spec("pcap-api")["templates"].values()
    assert {release["name"] for release in manifest["releases"]} == {
        "bpm",
        "pcapd",
        "routing",
        "bosh-dns-aliases",
    }


def test_a_client_of_the_apis_own(issued: Issued, interpolate: Any) -> None:
    """The api and UAA have the same client, with the one authority that it needs."""
    manifest = interpolate(own("pcap-api.yml"), "add-cloud-foundry-client.yml")
    properties = job_of(manifest, "pcap-api", "pcap-api")["properties"]
    declared(properties, "pcap-api")
    client = properties["cloud_foundry"]["client"]
    foundation = interpolate(FOUNDATION, "add-pcap-client-to-uaa.yml")
    clients = job_of(foundation, "uaa", "uaa")["properties"]["uaa"]["clients"]
    assert clients["cf"] == {}
    known = clients[client["id"]]
    assert (known["secret"], known["authorities"]) == (client["secret"], "cloud_controller.global_auditor")
    assert known["authorized-grant-types"] == "client_credentials"
    assert {"name": client["secret"].strip("()"), "type": "password"} in manifest["variables"]


def test_two_apis(issued: Issued, interpolate: Any) -> None:
    """With both ops files, applied once or twice, two apis share a database and a bucket, one updated after the other."""
    ops = ("use-postgres.yml", "use-s3.yml")
    manifest = interpolate(own("pcap-api.yml"), *ops, *ops)
    (group,) = manifest["instance_groups"]
    assert (group["instances"], manifest["update"]["max_in_flight"]) == (2, 1)
    properties = job_of(manifest, "pcap-api", "pcap-api")["properties"]
    declared(properties, "pcap-api")
    rendered = render("pcap-api", filled(properties, issued))
    assert rendered.files["config/recordings/state"] == "postgresql+pg8000://pcap:SECRET@10.0.0.9/pcap\n"
    assert (
        '"endpoint":"https://s3.eu-central-1.amazonaws.com"'
        in rendered.files["config/recordings/credentials.json"]
    )
    config = parse_api(rendered.yaml("config/pcap-api.yml"), host_name="x")
    assert config.recordings is not None and config.recordings.store == "s3://pcap-recordings/recordings"
    assert config.state == "file:/var/vcap/jobs/pcap-api/config/recordings/state"


def test_a_database_without_recordings(issued: Issued, interpolate: Any) -> None:
    """The database alone is enough for apis that share limits."""
    manifest = interpolate(own("pcap-api.yml"), "use-postgres.yml")
    properties = job_of(manifest, "pcap-api", "pcap-api")["properties"]
    config = parse_api(
        render("pcap-api", filled(properties, issued)).yaml("config/pcap-api.yml"), host_name="x"
    )
    assert config.recordings is None and config.state is not None


@pytest.mark.parametrize(
    ("ops", "access"),
    [(["add-pcap-agent.yml"], "namespace"), (["add-pcap-agent.yml", "use-host-veth.yml"], "host-veth")],
)
def test_an_agent_on_every_cell(ops: list[str], access: str, issued: Issued, interpolate: Any) -> None:
    """The agent is on cells and nowhere else, whether the ops file is applied once or twice."""
    manifest = interpolate(FOUNDATION, *ops, *ops)
    job = job_of(manifest, "diego-cell", "pcap-agent")
    declared(job["properties"], "pcap-agent")
    assert [job["name"] for job in manifest["instance_groups"][0]["jobs"]] == ["gorouter"]
    rendered = render("pcap-agent", filled(job["properties"], issued))
    config = parse_agent(rendered.yaml("config/pcap-agent.yml"), host_name="x")
    assert isinstance(config.containers, ContainersConfig) and config.containers.access == access
    assert [variable["name"] for variable in manifest["variables"]] == [
        "service_cf_internal_ca",
        "pcap_agent",
    ]


@pytest.mark.parametrize(("base", "group"), [(HAPROXY, "haproxy"), (FOUNDATION, "router")])
def test_an_agent_in_one_group(base: dict[str, Any], group: str, issued: Issued, interpolate: Any) -> None:
    """A deployment that has no variables gets them; the agent captures the VM and no containers."""
    manifest = interpolate(base, f"add-pcap-agent-to-{group}.yml")
    job = job_of(manifest, group, "pcap-agent")
    declared(job["properties"], "pcap-agent")
    config = parse_agent(
        render("pcap-agent", filled(job["properties"], issued)).yaml("config/pcap-agent.yml"), host_name="x"
    )
    assert config.containers is None
    assert "pcap_agent" in [variable["name"] for variable in manifest["variables"]]


def test_an_agent_on_cells_and_routers(interpolate: Any) -> None:
    """Both ops files of cf-deployment work together, with one certificate and one release."""
    manifest = interpolate(FOUNDATION, "add-pcap-agent.yml", "add-pcap-agent-to-router.yml")
    names = [variable["name"] for variable in manifest["variables"]]
    assert names == ["service_cf_internal_ca", "pcap_agent"]
    assert [release["name"] for release in manifest["releases"]] == ["diego", "pcapd"]


def test_an_agent_on_all_vms(issued: Issued) -> None:
    """The runtime config: not on cells, not twice, without bpm; nothing in it belongs to one deployment."""
    config = own("runtime-configs/pcap-agent.yml")
    (addon,) = config["addons"]
    (job,) = addon["jobs"]
    declared(job["properties"], "pcap-agent")
    rendered = render("pcap-agent", filled(job["properties"], issued))
    parse_agent(rendered.yaml("config/pcap-agent.yml"), host_name="x")
    assert {"name": "rep", "release": "diego"} in addon["exclude"]["jobs"]
    assert {"name": "pcap-agent", "release": "pcapd"} in addon["exclude"]["jobs"]
    assert config["releases"] == [{"name": "pcapd", "version": "((pcapd_version))"}]
    assert [variable["name"] for variable in config["variables"]] == ["/pcap_agent"]


def test_variables_in_paths() -> None:
    """The BOSH CLI applies operations before it puts variables in: one in a path is never replaced."""
    for path in OPS.glob("*.yml"):
        for operation in yaml.safe_load(path.read_text()):
            assert "((" not in operation["path"], path.name


def test_gorouter_trusts_the_api(interpolate: Any) -> None:
    """The gorouter trusts the api in addition to the CAs that it trusted before."""
    manifest = interpolate(FOUNDATION, "trust-pcap-ca.yml")
    router = job_of(manifest, "router", "gorouter")["properties"]["router"]
    assert router["ca_certs"] == ["((uaa_ssl.ca))", "((/pcap_ca.certificate))"]


def test_the_name_of_nats(interpolate: Any) -> None:
    """A VM of another deployment knows NATS by the link's name and by the name for single instances."""
    manifest = interpolate(own("pcap-api.yml"), "add-route.yml", cf_network="default")
    aliases = job_of(manifest, "pcap-api", "bosh-dns-aliases")["properties"]["aliases"]
    assert [alias["domain"] for alias in aliases] == [
        "nats.service.cf.internal",
        "_.nats.service.cf.internal",
    ]
    assert [alias["targets"][0]["query"] for alias in aliases] == ["*", "_"]
    for alias in aliases:
        (target,) = alias["targets"]
        assert (target["instance_group"], target["deployment"], target["network"]) == (
            "nats",
            "cf",
            "default",
        )


def test_names_in_certificates(interpolate: Any) -> None:
    """One CA issues all certificates; the agents' carry the name that the api expects, and the other way round."""
    api = own("pcap-api.yml")
    foundation = interpolate(FOUNDATION, "add-pcap-agent.yml")
    options = {
        variable["name"]: variable["options"] for variable in [*api["variables"], *foundation["variables"]]
    }
    assert {options[name]["ca"] for name in ("pcap_api_listen", "pcap_api_client", "pcap_agent")} == {
        "/pcap_ca"
    }
    server_name = job_of(api, "pcap-api", "pcap-api")["properties"]["agents"]["tls"]["server_name"]
    assert options["pcap_agent"]["alternative_names"] == [server_name]
    allowed = job_of(foundation, "diego-cell", "pcap-agent")["properties"]["listen"]["tls"]["allowed_clients"]
    assert options["pcap_api_client"]["alternative_names"] == allowed
    assert options["pcap_agent"]["extended_key_usage"] == ["server_auth"]


def test_every_variable_has_its_place() -> None:
    """Every variable that is not generated is in vars-template.yml."""
    given = set(own("vars-template.yml"))
    generated, used = set(), set()
    for path in [*MANIFESTS.glob("*/*.yml"), MANIFESTS / "pcap-api.yml"]:
        text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
        used |= {name.partition(".")[0] for name in re.findall(r"\(\(([^)]+)\)\)", text)}
        generated |= set(re.findall(r"name: (/?pcap_\w+)\n\s+type: (?:certificate|password)", text))
    assert used - generated == given
