"""The real bosh CLI makes the release and applies the ops files, where it can be had.

Without it these tests are skipped (`tests.kit.lab.programs`).  The blobs are stand-ins: what is
in them is `tests.bosh.test_monit`'s matter.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.processes import run
from tests.bosh.release import FOUNDATION, HAPROXY, JOBS, MANIFESTS, OPS, RELEASE
from tests.kit.lab import programs

pytestmark = [pytest.mark.long, pytest.mark.realbosh]


@pytest.fixture(scope="module")
def bosh(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The CLI's path."""
    return programs.find(programs.BOSH, tmp_path_factory.mktemp("bosh-cli"))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Our release with small files for blobs, and a package in Python's place."""
    directory = tmp_path / "release"
    shutil.copytree(RELEASE, directory, ignore=shutil.ignore_patterns("blobs", "src", "dev_releases"))
    index = {}
    for name in yaml.safe_load((RELEASE / "config/blobs.yml").read_text()):
        blob = directory / "blobs" / name
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_text(name)
        digest = hashlib.sha256(blob.read_bytes()).hexdigest()
        index[name] = {"size": blob.stat().st_size, "sha": f"sha256:{digest}"}
    (directory / "config/blobs.yml").write_text(yaml.safe_dump(index))
    python = directory / "packages/python-3.12"
    python.mkdir()
    (python / "spec").write_text("---\nname: python-3.12\nfiles: []\n")
    (python / "packaging").write_text("set -e\n")
    source = directory / "src/pcapd/setup.py"
    source.parent.mkdir(parents=True)
    source.write_text("")
    return directory


def test_create_release(bosh: str, release: Path, tmp_path: Path) -> None:
    """Every job and package is in the release, with what it depends on."""
    tarball = tmp_path / "release.tgz"
    run([bosh, "create-release", "--dir", str(release), "--force", "--version", "0+dev.1",
         "--tarball", str(tarball), "--non-interactive"], timeout=120)  # fmt: skip
    with tarfile.open(tarball) as archive:
        member = next(item for item in archive if item.name.removeprefix("./") == "release.MF")
        file = archive.extractfile(member)
        assert file is not None
        manifest = yaml.safe_load(file.read())
    assert manifest["name"] == "pcapd"
    assert {job["name"] for job in manifest["jobs"]} == set(JOBS)
    packages = {package["name"]: package["dependencies"] for package in manifest["packages"]}
    assert set(packages) == {"libpcap", "pcapd", "python-3.12"}
    assert set(packages["pcapd"]) == {"libpcap", "python-3.12"}


@pytest.mark.parametrize(
    ("base", "ops", "variables"),
    [
        (None, ["add-route.yml", "add-bosh-resolver.yml"], {"cf_network": "default"}),
        (None, ["use-postgres.yml", "use-s3.yml"], {}),
        (FOUNDATION, ["add-pcap-agent.yml"], {}),
        (FOUNDATION, ["add-pcap-agent.yml", "use-host-veth.yml"], {}),
        (FOUNDATION, ["add-pcap-agent.yml", "add-pcap-agent-to-router.yml", "trust-pcap-ca.yml"], {}),
        (HAPROXY, ["add-pcap-agent-to-haproxy.yml"], {}),
    ],
)
def test_interpolate(
    bosh: str,
    interpolate: Any,
    tmp_path: Path,
    base: Any,
    ops: list[str],
    variables: dict[str, str],
) -> None:
    """The CLI makes the same of an ops file as the library in the other tests does."""
    manifest = base or yaml.safe_load((MANIFESTS / "pcap-api.yml").read_text())
    path = tmp_path / "manifest.yml"
    path.write_text(yaml.safe_dump(manifest))
    argv = [bosh, "interpolate", str(path)]
    for name in ops:
        argv += ["--ops-file", str(OPS / name)]
    for name, value in variables.items():
        argv += ["--var", f"{name}={value}"]
    assert yaml.safe_load(run(argv).stdout) == interpolate(manifest, *ops, **variables)
