"""No record, no capture: a real disk that is full, almost full, or gone, and back again."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Iterator

import pytest

from demo.processes import wait_until
from pcapd.limits import AUDIT_CHECK_INTERVAL
from tests.kit.hosts.chain import Chain, assert_accounted
from tests.kit.hosts.scraping import samples
from tests.kit.lab.generator import FILTER, Generator

pytestmark = pytest.mark.long

#: bytes
DISK = 256 * 1024
#: Mounts a disk for the one program, which alone sees it.
MOUNT = f'mount -t tmpfs -o size={DISK},mode=755 audit "$0" && mkdir "$0/log" && exec "$@"'


class Audited(Chain):
    """A chain whose api has a small disk for its audit log."""

    def __init__(self, directory: Path) -> None:
        self.mount = directory / "disk"
        self.mount.mkdir(parents=True)
        file = str(self.mount / "log" / "audit.log")
        super().__init__(directory, api={"audit": {"file": file}})
        self.api.below = (
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            MOUNT,
            str(self.mount),
        )

    @property
    def disk(self) -> Path:
        """The mount point, as the api sees it."""
        return Path(f"/proc/{self.api.pid}/root{self.mount}")

    def records(self, event: str) -> list[dict[str, Any]]:
        """The audit records of a kind."""
        lines = (self.disk / "log" / "audit.log").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["audit"] == event]

    def health(self) -> tuple[int, str]:
        """Status and message."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate_path))
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=10, context=context) as answer:
                return answer.status, json.load(answer)["message"]
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["message"]

    def failures(self) -> float:
        """The metric."""
        return samples(self.api)["pcapd_audit_failures_total"]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    pytest.importorskip("pcapy")
    if os.geteuid() != 0:
        pytest.skip("captures, namespaces and disks need root")
    with Audited(tmp_path_factory.mktemp("audited")) as chain:
        yield chain


def fill(chain: Audited, left: int) -> None:
    with (chain.disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        free = os.statvfs(chain.disk)
        for _ in range((free.f_bavail * free.f_frsize - left) // 4096):
            file.write(bytes(4096))


TROUBLE = {
    "full": (lambda chain: fill(chain, 0), "No space left on device"),
    "almost full": (lambda chain: fill(chain, 16 * 1024), "No space left on device"),
    "gone": (lambda chain: (chain.disk / "log").rename(chain.disk / "away"), "No such file or directory"),
}


def restore(chain: Audited) -> None:
    (chain.disk / "filler").unlink(missing_ok=True)
    if (chain.disk / "away").exists():
        (chain.disk / "away").rename(chain.disk / "log")


@pytest.mark.parametrize("trouble", ["none", *TROUBLE])
def test_the_disk_of_the_audit_log(audited: Audited, trouble: str) -> None:
    """When the audit log's disk is full, captures end whole, new ones are refused, and the api recovers."""
    chain = audited
    before = chain.failures()
    with Generator(chain.link, rate=500):
        client = chain.begin("web-0", "--filter", FILTER)
        client.wait_for("web-0:eth0", packets=100)
        if trouble == "none":
            # Longer than the api needs to see that something is wrong.
            client.wait_for("web-0:eth0", packets=100 + int(600 * AUDIT_CHECK_INTERVAL))
            assert (client.stop().status, chain.health()) == (0, (200, "ready"))
            assert chain.records("capture_ended")[-1]["reason"] == "stopped"
            return
        make, reason = TROUBLE[trouble]
        make(chain)
        result = client.wait(AUDIT_CHECK_INTERVAL + 10)
    assert_accounted(result)
    assert result.status == 3 and reason in json.dumps(result.events)
    assert chain.health() == (503, "audit records cannot be written")
    assert chain.pcapctl("status").returncode == 1
    refused = chain.capture("web-0", "--duration", "1s")
    assert refused.status == 1 and f"could not be recorded: {reason}" in refused.stderr + json.dumps(
        refused.events
    )
    assert b'"audit_unavailable"' in chain.curl("target=web-0").stdout
    assert chain.failures() > before
    assert chain.settled()
    restore(chain)
    wait_until(
        lambda: chain.health() == (200, "ready"), "it goes on by itself", timeout=AUDIT_CHECK_INTERVAL + 5
    )
    assert chain.records("audit_resumed")
    assert chain.capture("web-0", "--duration", "100ms").status == 0
    ended = [record["reason"] for record in chain.records("capture_ended")][-2:]
    if trouble == "almost full":  # what is kept back was for this
        assert ended == ["unrecorded", "stopped"]
    else:
        assert (
            "an audit record could not be written: capture_ended" in chain.api.log() or "unrecorded" in ended
        )
    assert not [line for line in chain.api.records() if "failure" in line]
