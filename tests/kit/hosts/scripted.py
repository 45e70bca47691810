"""pcapctl against an api that a test scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

from demo.certificates import Credentials
from demo.daemons import environment
from pcapd.wire import Counters, End, EndReason
from tests.kit.doubles.stream_api import Client, Script, StreamApi, record
from tests.kit.hosts.chain import SaveFile, read_pcapng
from tests.kit.lab.readers import capinfos, require, tcpdump_lines

TOKEN = "token-of-alice-secret"
_PACKETS, _STATS = 4, 5


class Done:
    """What pcapctl did."""

    def __init__(self, process: subprocess.CompletedProcess[str], path: Path) -> None:
        self.status = process.returncode
        self.stderr = process.stderr
        self.events: list[dict[str, Any]] = [json.loads(line) for line in process.stdout.splitlines()]
        self.path = path
        assert TOKEN not in process.stderr + process.stdout

    @property
    def end(self) -> dict[str, Any]:
        """The last event, of which there is one."""
        (end,) = [event for event in self.events if event["event"] == "end"]
        assert self.events[-1] is end
        return end

    @property
    def file(self) -> SaveFile:
        """The file, after independent readers took it."""
        require("capinfos", "tcpdump")
        capinfos(self.path)
        file = read_pcapng(self.path)
        packets = [line for line in tcpdump_lines(self.path) if not line.startswith("\t")]
        assert len(packets) == len(file.packets) and file.rest == 0
        return file


def pcapctl(
    url: str,
    tmp_path: Path,
    ca: Optional[Path],
    *arguments: str,
    json_lines: bool = True,
    timeout: float = 60,
) -> Done:
    """Capture from the api at ``url``."""
    path = tmp_path / "out.pcapng"
    argv = [sys.executable, "-m", "pcapd.ctl", "hosts", "web-0", "--api", url, "--output", str(path)]
    argv += ["--ca", str(ca)] if ca else []
    argv += ["--json"] if json_lines else []
    env = {**environment(), "PCAP_TOKEN": TOKEN}
    process = subprocess.run(
        [*argv, *arguments], env=env, capture_output=True, text=True, check=False, timeout=timeout
    )
    return Done(process, path)


def play(script: Script, credentials: Credentials, tmp_path: Path, *arguments: str, **options: Any) -> Done:
    """Let the script be the api of one capture."""
    with StreamApi(credentials, script) as api:
        done = pcapctl(api.url, tmp_path, credentials.ca, *arguments, **options)
    assert not api.failures, api.failures
    return done


def started(client: Client) -> None:
    """A capture with three packets, all of them due."""
    client.greet()
    client.open()
    client.packets(record(1) + record(2) + record(3))
    client.stats(3)


def ended(client: Client, count: int, reason: EndReason = EndReason.DURATION) -> None:
    """A proper end."""
    client.stats(count, final=True)
    client.say(client.callee.end(End(reason, "", (Counters(1, count, 0, 0, count),))))
    client.close()
    client.wait()
