"""What users and operators can check of what we ship: bills of materials, and the client's signature."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import pcapd
from demo.certificates import Authority
from demo.configurations import LOCAL, api_config, free_port
from demo.daemons import Daemon
from demo.processes import ROOT, run
from tests.licences import BUILD, LOCKS, locked
from tests.packaging.client_file import PATIENCE, Builder
from tests.packaging.installed import Built


def sbom(*arguments: str, **variables: str) -> dict[str, Any]:
    """Run bin/sbom; return its document, which follows the schema."""
    command = [sys.executable, str(ROOT / "bin" / "sbom"), *arguments]
    text = run(command, env={**os.environ, **variables}, timeout=PATIENCE).stdout
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document: dict[str, Any] = json.loads(text)
    return document


def of_pypi(components: list[dict[str, Any]]) -> dict[str, str]:
    """The packages of PyPI, in the form of the locks; each has a licence."""
    assert all(one["licenses"] for one in components)
    return {
        one["name"]: f"{one['version']} --hash=sha256:{one['hashes'][0]['content']}"
        for one in components
        if one.get("purl", "").startswith("pkg:pypi/") and one["name"] != "pcapd"
    }


def test_the_client_lists_what_it_contains(client_file: Path, builder: Builder) -> None:
    """The client's SBOM has the packages of its lock, which are those in the file, and the file's own hash."""
    document = sbom("client", str(client_file), PIP_NO_INDEX="1", PIP_FIND_LINKS=str(builder.wheels))
    found = of_pypi(document["components"])
    assert found == locked(LOCKS[1])
    with zipfile.ZipFile(client_file) as archive:
        infos = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    versions = {f"{name}-{pin.partition(' ')[0]}.dist-info" for name, pin in found.items()}
    assert {name.lower() for name in infos} == versions
    root = document["metadata"]["component"]
    digest = (client_file.with_name("pcapctl.sha256")).read_text().split()[0]
    assert (root["name"], root["version"]) == ("pcapctl", pcapd.__version__)
    assert root["hashes"] == [{"alg": "SHA-256", "content": digest}]


def test_a_document_against_the_schema_fails() -> None:
    """The check that these tests use refuses a component without a name."""
    text = '{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "library"}]}'
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is not None


@pytest.mark.long
def test_the_release_and_the_wheel_list_theirs(built: Built) -> None:
    """The SBOMs of release and wheel have the release's lock, libpcap and the client within the release."""
    release = sbom("release")["components"]
    assert of_pypi(release) == locked(LOCKS[0])
    by_name = {one["name"]: one for one in release}
    assert of_pypi(by_name["pcapctl"]["components"]) == locked(LOCKS[1])
    index = (ROOT / "bosh" / "config" / "blobs.yml").read_text()
    libpcap = by_name["libpcap"]
    assert f"libpcap-{libpcap['version']}.tar" in index and libpcap["hashes"][0]["content"] in index
    assert by_name["python-prctl"]["licenses"] == [{"license": {"id": "GPL-3.0"}}]

    wheel = sbom("wheel", str(built.wheel))["components"]
    expected = {name: pin for name, pin in locked(LOCKS[0]).items() if name not in BUILD}
    assert of_pypi(wheel) == expected
    optional = {one["name"] for one in wheel if one["scope"] == "optional"}
    assert optional == {"pcapy-ng", "python-prctl"}


# --- the signature ----------------------------------------------------------------


def commands(page: str, program: str) -> list[str]:
    """The lines of a page of docs that call a program, without their comments."""
    text = (ROOT / "docs" / page).read_text()
    return [re.sub(r" {2,}#.*", "", line) for line in re.findall(rf"^    ({program} .*)$", text, re.M)]


def shell(command: str, directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a page has it."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=directory,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


@pytest.mark.long
def test_the_client_is_verified_as_the_pages_say(
    builder: Builder, tmp_path: Path, authority: Authority
) -> None:
    """The operator signs, the api serves, the user verifies: with the commands of the pages, and only the signed file."""
    operator, user = tmp_path / "operator", tmp_path / "user"
    for directory in (operator, user):
        directory.mkdir()
    make_key, publish = (
        commands("operations.rst", "ssh-keygen")[0],
        commands("operations.rst", 'echo "pcapctl')[0],
    )
    assert shell(f"{make_key} -N '' -q", operator).returncode == 0
    builder.build(operator / "cli" / "pcapctl", sign=operator / "pcapctl.key")
    assert shell(publish, operator).returncode == 0

    config = api_config(authority.issue_api("signed-client"), free_port(), {}, {})
    config["cli"] = {"directory": str(operator / "cli")}
    with Daemon("api", config, tmp_path) as api:
        url = f"https://{LOCAL}:{api.port}"
        for command in [
            *commands("for-app-developers.rst", "curl")[:2],
            f"curl -fO {url}/cli/pcapctl.sha256",
        ]:
            done = shell(
                command.replace("https://pcap.example.com", url),
                user,
                CURL_CA_BUNDLE=str(authority.certificate_path),
            )
            assert done.returncode == 0, done.stderr
    (user / "pcapctl.signers").write_bytes((operator / "pcapctl.signers").read_bytes())
    (verify,) = commands("for-app-developers.rst", "ssh-keygen")
    done = shell(verify, user)
    assert (done.returncode, done.stdout[:36]) == (0, 'Good "pcapctl" signature for pcapctl')
    assert shell("sha256sum --check pcapctl.sha256", user).returncode == 0

    client = user / "pcapctl"
    content = client.read_bytes()
    client.write_bytes(content + b"\0")
    assert shell(verify, user).returncode != 0
    client.write_bytes(content)
    # The same key, for another purpose; and another key.
    assert (
        shell("ssh-keygen -Y sign -f ../operator/pcapctl.key -n git < pcapctl > pcapctl.sig", user).returncode
        == 0
    )
    assert shell(verify, user).returncode != 0
    assert shell("ssh-keygen -t ed25519 -N '' -q -f other", user).returncode == 0
    assert shell("ssh-keygen -Y sign -f other -n pcapctl < pcapctl > pcapctl.sig", user).returncode == 0
    assert shell(verify, user).returncode != 0


@pytest.mark.long
def test_no_stale_signature_stays(builder: Builder, tmp_path: Path) -> None:
    """A client that is built without a key has no signature beside it, not even that of an older one."""
    client = tmp_path / "pcapctl"
    client.with_name("pcapctl.sig").write_text("of an older file")
    builder.build(client)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pcapctl", "pcapctl.sha256"]
