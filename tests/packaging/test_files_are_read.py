"""Each file below etc and bosh is read in a test by the program that it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.processes import ROOT

#: By pattern: the program, and the module of tests that runs it on these files.
READERS = {
    "etc/pcapd-*.yml": ("pcapd", "unit/config/test_config_examples.py"),
    "etc/prometheus/*": ("promtool", "packaging/test_monitoring.py"),
    # No registry has Grafana: its queries are read by promtool, and compared with what is served.
    "etc/grafana/*": ("promtool", "hosts/test_metrics.py"),
    "etc/systemd/**/*": ("systemd", "hosts/test_systemd.py"),
    "bosh/config/*": ("bosh create-release", "bosh/test_bosh_cli.py"),
    "bosh/jobs/*/spec": ("bosh create-release", "bosh/test_bosh_cli.py"),
    "bosh/jobs/*/monit": ("monit", "bosh/test_monit.py"),
    "bosh/jobs/*/templates/**/*.erb": ("ERB of Ruby", "bosh/test_templates.py"),
    "bosh/packages/*/*": ("bosh create-release", "bosh/test_bosh_cli.py"),
    "bosh/manifests/**/*.yml": ("bosh interpolate", "bosh/test_manifests.py"),
}


def test_each_file_has_a_reader() -> None:
    """A file below etc or bosh that no test reads with its program does not belong to this repository."""
    read = {path for pattern in READERS for path in ROOT.glob(pattern) if path.is_file()}
    there = {path for name in ("etc", "bosh") for path in (ROOT / name).rglob("*") if path.is_file()}
    # What `bosh vendor-package` and bin/bosh-blobs leave behind is not ours.
    ours = {path for path in there if not {"blobs", ".dev_builds", "dev_releases"} & set(path.parts)}
    assert {str(path.relative_to(ROOT)) for path in ours - read} == set()


@pytest.mark.parametrize("pattern", READERS)
def test_a_reader_is_there(pattern: str) -> None:
    """Each pattern still matches a file, and its tests exist."""
    assert any(path.is_file() for path in ROOT.glob(pattern))
    assert (ROOT / "tests" / Path(READERS[pattern][1])).is_file()
