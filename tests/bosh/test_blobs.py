"""What the release is made of is pinned twice, for pip and for BOSH, and both say the same."""

from __future__ import annotations

import re

import yaml

from tests.bosh.release import RELEASE


def test_the_lock_and_the_index_agree() -> None:
    """Every wheel that pip may take is a blob of the release, and the other way round."""
    lock = (RELEASE / "config/wheels.lock").read_text()
    index = yaml.safe_load((RELEASE / "config/blobs.yml").read_text())
    locked = set(re.findall(r"--hash=(sha256:[0-9a-f]{64})$", lock, re.MULTILINE))
    wheels = {facts["sha"] for name, facts in index.items() if name.startswith("pcapd-wheels/")}
    assert locked and locked == wheels


def test_an_index_of_whole_entries() -> None:
    """BOSH checks size and hash of each blob."""
    for name, facts in yaml.safe_load((RELEASE / "config/blobs.yml").read_text()).items():
        assert set(facts) == {"size", "sha"}, name
        assert facts["size"] > 0
