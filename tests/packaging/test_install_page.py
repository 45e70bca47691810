"""docs/install.rst alone leads from nothing to the first capture: all its commands run, on fresh machines."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from demo.namespaces import Namespace, connect
from demo.processes import ROOT
from tests.kit.lab.machines import Machine, tools
from tests.kit.lab.readers import require, tshark_fields
from tests.packaging.installed import PATIENCE

pytestmark = pytest.mark.long

PAGE = (ROOT / "docs" / "install.rst").read_text()
API, AGENT = "192.0.2.1", "192.0.2.11"
BUILD = "the build machine"
PLACES = (BUILD, "the api's machine", "the agent's machine")


def steps() -> list[tuple[str, str]]:
    """The page's literal blocks in its order: where to type it, and what."""
    found = re.findall(r"([^\n]*)::\n\n((?:    [^\n]*\n|\n(?=    ))+)", PAGE)
    result = []
    for line, block in found:
        (place,) = [each for each in PLACES if re.search(rf"\b[Oo]n {each}(, in the checkout)?$", line)]
        result.append((place, re.sub(r"^    ", "", block, flags=re.M)))
    return result


def test_every_block_says_where() -> None:
    """Each block of commands belongs to one of three machines, which all have some."""
    assert {place for place, _ in steps()} == set(PLACES)
    assert len(steps()) == len(re.findall(r"::$", PAGE, re.M)) >= 8


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[dict[str, Machine]]:
    """Return the api's machine and the agent's, connected, with systemd and without pcapd."""
    if os.geteuid() != 0:
        pytest.skip("machines need root")
    require("systemctl", "nsenter", "curl", "openssl")
    tools(tmp_path)
    with Namespace.unique("api") as left, Namespace.unique("agent") as right:
        connect(left, right)
        for host, address in ((left, API), (right, AGENT)):
            host.ip("address", "add", f"{address}/24", "dev", "eth0")
        with Machine(tmp_path, left, API) as api, Machine(tmp_path, right, AGENT) as agent:
            api.keep_log_of("pcapd-api.service")
            agent.keep_log_of("pcapd-agent.service")
            yield {PLACES[1]: api, PLACES[2]: agent}


def build(script: str, sources: Path, lab: Path) -> str:
    """Run a step on the build machine, which is this one, with the Python of the other two."""
    done = subprocess.run(
        ["bash", "-ec", script],
        cwd=sources,
        env={**os.environ, "PATH": f"{lab}/tools:/usr/sbin:/usr/bin:/sbin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}"
    return done.stdout


def suitable() -> bool:
    """Whether the system's Python can make environments and compile extensions."""
    code = (
        "import ensurepip, os, sys, sysconfig, venv;"
        "sys.exit(sys.version_info < (3, 10) or "
        "not os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h')))"
    )
    return subprocess.run(["/usr/bin/python3", "-c", code], check=False).returncode == 0


def test_from_nothing_to_a_capture(machines: dict[str, Machine], sources: Path, tmp_path: Path) -> None:
    """All commands succeed in the page's order, what it says of their output is true, and the file has packets."""
    if not suitable():
        pytest.skip("/usr/bin/python3 has no venv or no headers")
    said = {}
    for place, script in steps():
        if place == BUILD:
            text = build(script, sources, tmp_path)
        else:
            text = machines[place].type(script)
            for unit in re.findall(r"enable --now (\S+)", script):
                machines[place].wait_for_log(f"{unit}.service", "listens on 0.0.0.0:")
        said[script] = text
    for role in ("agent", "api"):
        assert any(f"good configuration of an {role}" in text for text in said.values())
    assert any(text.startswith("healthy: ready") for line in said.values() for text in line.splitlines())
    api, agent = machines.values()
    *_, last = said.values()
    assert "nothing was lost" in last and "refused" in last, last
    rows = tshark_fields(api.home / "first.pcapng", ["frame.interface_name", "tcp.dstport"])
    assert {row[0] for row in rows} == {"vm-1:eth0"} and "81" in {row[1] for row in rows}
    assert "capture_ended" in api.read("/var/log/pcapd/audit.log")
    for machine in (api, agent):
        keys = list((machine.etc / "pcapd" / "tls").glob("*.key"))
        assert [stat.S_IMODE(key.stat().st_mode) for key in keys] == [0o600]
        assert not (machine.etc / "pcapd" / "tls" / "ca.key").exists()
