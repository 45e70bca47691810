"""Files with several places in Wireshark's programs: what the report says of them, and the profile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import List, Optional, Tuple

import pytest

from demo.daemons import environment
from demo.traffic import HttpTraffic
from pcapd.ctl.extcap import profile
from tests.kit.hosts.chain import Chain
from tests.kit.lab.readers import require, tshark_fields

pytestmark = pytest.mark.long


def run(home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program of a user with this home."""
    mine = environment(HOME=str(home), XDG_CONFIG_HOME=str(home / ".config"))
    return subprocess.run(argv, env=mine, capture_output=True, text=True, check=False, timeout=60, cwd=home)


def pcapctl(home: Path, *arguments: str) -> List[str]:
    """Run pcapctl, which must succeed; returns its lines."""
    done = run(home, sys.executable, "-m", "pcapd.ctl", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(("dedupe", "said"), [([], True), (["--dedupe"], False)], ids=["both", "dedupe"])
def test_seen_at_two_places(chain: Chain, tmp_path: Path, dedupe: List[str], said: bool) -> None:
    """tshark takes second sightings for retransmissions; the report says what they are, and the remedy.

    ``explain`` finds nothing wrong in either file, also where an answer is at another place than
    its request.
    """
    require("tshark")
    path = tmp_path / "both.pcapng"
    with HttpTraffic(chain.link.left, chain.link.right):
        arguments = ("--filter", "tcp", "--duration", "2s", "--output", str(path), *dedupe)
        done = chain.pcapctl("hosts", "web-0", "web-1", *arguments)
    assert done.returncode == 0, done.stderr
    assert bool(tshark_fields(path, ["frame.number"], "tcp.analysis.flags")) is said
    (line,) = [line for line in done.stderr.splitlines() if "seen at two places" in line] or [""]
    assert bool(line) is said
    explained = json.loads("\n".join(pcapctl(tmp_path, "explain", str(path), "--json")))
    assert explained["packets"] > 100
    assert [one["summary"] for one in explained["findings"] if one["severity"] != "note"] == []
    if said:
        twice, of = (int(word) for word in line.split() if word.isdigit())
        assert of // 2 - 25 <= twice <= of // 2 and "--dedupe" in line and "wireshark-profile" in line


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Somebody with Wireshark's programs and nothing else."""
    home = tmp_path / "home"
    home.mkdir()
    return home


def test_the_profile(home: Path) -> None:
    """tshark takes all of it without a complaint: our columns, and no colours of alarm."""
    require("tshark", "text2pcap")
    (line,) = pcapctl(home, "wireshark-profile", "--install")
    folder = Path(line.removeprefix("installed ").partition(";")[0])
    (home / "one.txt").write_text("0000 ff ff ff ff ff ff 02 00 00 00 00 01 08 06\n")
    run(home, "text2pcap", "one.txt", "one.pcapng")
    default, ours = (
        run(home, "tshark", *with_it, "-r", "one.pcapng", "-T", "psml") for with_it in ([], ["-C", "pcapd"])
    )
    assert ours.stderr == default.stderr
    assert "<section>Interface</section>" in ours.stdout and "<section>Lost before</section>" in ours.stdout
    assert not any("analysis" in rule for rule in (folder / "colorfilters").read_text().splitlines()[1:])


@pytest.mark.parametrize(("version", "apart"), [((4, 0), False), ((4, 2), True), (None, True)])
def test_conversations_apart(version: Optional[Tuple[int, int]], apart: bool) -> None:
    """The profile colours conversations only in a Wireshark version that knows the preference."""
    assert ("deinterlacing" in profile.files(version)["preferences"]) is apart


def test_the_users_changes(home: Path) -> None:
    """A file of the profile that the user has changed survives a second installation and the removal."""
    pcapctl(home, "extcap", "--install")
    folder = home / ".config" / "wireshark" / "profiles" / "pcapd"
    (folder / "preferences").write_text("# Configuration file for Wireshark 4.0.17.\n")
    (folder / "colorfilters").unlink()
    pcapctl(home, "wireshark-profile", "--install")
    assert sorted(os.listdir(folder)) == ["colorfilters", "preferences"]
    pcapctl(home, "extcap", "--uninstall")
    assert os.listdir(folder) == ["preferences"]
    assert "4.0.17" in (folder / "preferences").read_text()


def test_nothing_is_left(home: Path) -> None:
    """Removing the profile deletes its unchanged files and its directory."""
    pcapctl(home, "wireshark-profile", "--install")
    assert len(pcapctl(home, "wireshark-profile", "--uninstall")) == 2
    assert not (home / ".config" / "wireshark" / "profiles" / "pcapd").exists()
    assert pcapctl(home, "wireshark-profile", "--uninstall") == ["there was nothing to remove"]
