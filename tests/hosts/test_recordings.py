"""Recordings, from ``pcapctl record`` to the fetched file, with real daemons and packets."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, List, Optional

import pytest

from demo.configurations import LOCAL, free_port
from demo.processes import ROOT, end, wait_until
from tests.kit.hosts.chain import Chain, SaveFile, ordered, read_pcapng
from tests.kit.hosts.wireshark import User
from tests.kit.lab.generator import FILTER, Generator, Report
from tests.kit.lab.readers import require, tshark_fields

#: Seconds of a segment, so that the tests need not wait for five.
SEGMENT = 0.5
NAMES = ("web-0:eth0", "web-1:eth0")


class Recordings(Chain):
    """A chain whose api records; carol is an operator."""

    def __init__(self, directory: Path) -> None:
        store = {"store": f"file://{directory}/store", "reserve": 1_000_000, "per_user": 50}
        changes = {"recordings": store, "state": f"sqlite:///{directory}/state.db"}
        super().__init__(directory, api={**changes, "operators": ["static/carol"]})
        self.api.limits = {"SEGMENT_SECONDS": SEGMENT}
        self.carol = secrets.token_urlsafe(24)
        self.api.config["static"]["users"]["carol"] = {
            "token_sha256": hashlib.sha256(self.carol.encode()).hexdigest(),
            "targets": ["web-1"],
        }

    def said(self, *words: str, **options: Any) -> str:
        """What a pcapctl that succeeds prints."""
        done = self.pcapctl(*words, **options)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def record(self, *words: str) -> str:
        """Record both hosts; return the id once it has started."""
        id = self.said("record", "hosts", "web-0", "web-1", "--filter", FILTER, "--quiet", *words).strip()
        wait_until(lambda: self.shown(id)["state"] == "recording", "it records", timeout=20)
        return id

    def shown(self, id: str) -> Any:
        """What the api knows of a recording."""
        return json.loads(self.said("recording", "show", id, "--json"))

    def send(self, id: str, **how: Any) -> Report:
        """Send packets, and wait until the recording has them all."""
        before = self.shown(id)
        known = before["packets"] + before["deleted_packets"]
        with Generator(self.link, **how) as generator:
            sent = generator.wait()

        def there() -> bool:
            now = self.shown(id)
            return bool(now["packets"] + now["deleted_packets"] == known + 2 * sent.sent)

        wait_until(there, "everything is stored", timeout=20)
        return sent

    def fetched(self, id: str, *words: str, **options: Any) -> SaveFile:
        """A file that pcapctl fetches."""
        path = self.path()
        self.said("recording", "fetch", id, "--output", str(path), *words, **options)
        assert path.stat().st_mode & 0o777 == 0o600
        return read_pcapng(path)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recordings]:
    """Start the daemons once."""
    for package in ("obstore", "sqlalchemy", "pcapy", "prctl"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    if os.geteuid() != 0:
        pytest.skip("captures and namespaces need root")
    with Recordings(tmp_path_factory.mktemp("recordings")) as lab:
        yield lab
        for token in (lab.token, lab.bob, lab.carol):
            assert token not in lab.api.log()


@contextlib.contextmanager
def cutting(lab: Recordings, size: int, port: Optional[int] = None) -> Iterator[str]:
    """A router that cuts each connection after so many bytes; yields the URL of the api behind it."""
    port = port or free_port()
    program = [sys.executable, str(ROOT / "tests" / "kit" / "lab" / "forwarder.py")]
    process = subprocess.Popen([*program, str(port), LOCAL, str(lab.api.port), str(size)])
    try:
        wait_until(lambda: _listens(port), "the router listens", timeout=10)
        yield f"https://{LOCAL}:{port}"
    finally:
        end(process)


def _listens(port: int) -> bool:
    argv = ["ss", "--no-header", "--listening", "--tcp", "--numeric", f"sport = :{port}"]
    return bool(subprocess.run(argv, capture_output=True, check=True).stdout.strip())


def numbers(file: SaveFile) -> List[List[int]]:
    """The numbers of the packets, of each host; each host has one interface in each section."""
    found: List[List[int]] = [[], []]
    places = [NAMES.index(interface.name) for interface in file.interfaces]
    for packet in file.packets:
        found[places[packet.interface]].append(int.from_bytes(packet.data[42:50], "big"))
    return found


def test_it_was_already_recording(lab: Recordings) -> None:
    """Everything, the last minutes, and a part: each has every packet of its time once, for every reader."""
    id = lab.record("--reason", "TICKET-9")
    sent = lab.send(id, size=200, rate=2000, seconds=3.0)
    path = lab.path()
    said = lab.pcapctl("recording", "fetch", id[:8], "--output", str(path))
    assert said.returncode == 0 and f"{2 * sent.sent} packets" in said.stderr
    everything = read_pcapng(path)
    assert numbers(everything) == [list(range(sent.sent))] * 2 and ordered(everything.times)
    assert not everything.rest and sorted(one.name for one in everything.interfaces) == list(NAMES)
    assert [one.received for one in everything.interfaces] == [sent.sent] * 2
    counted = subprocess.run(
        ["capinfos", "-T", "-r", "-c", str(path)], capture_output=True, text=True, check=True
    )
    assert counted.stdout.split()[-1] == str(2 * sent.sent)
    count = [
        "tshark",
        "-r",
        str(path),
        "-Y",
        "udp.dstport == 9999",
        "-T",
        "fields",
        "-e",
        "frame.interface_name",
    ]
    shown = subprocess.run(count, capture_output=True, text=True, check=True)
    assert shown.stdout.split().count(NAMES[0]) == sent.sent
    again = lab.pcapctl("recording", "fetch", id, "--output", str(path))
    assert again.returncode == 1 and "already exists" in again.stderr
    # curl has the same bytes, and any of them.
    curl = ["curl", "-sS", "--cacert", str(lab.authority.certificate_path)]
    url = [f"{lab.url}/v1/recordings/{id}/capture", "-H", f"Authorization: bearer {lab.token}"]
    whole = subprocess.run([*curl, *url], capture_output=True, check=True).stdout
    data = path.read_bytes()
    assert whole[: len(data)] == data
    part = subprocess.run([*curl, "-r", "1000-1999", *url], capture_output=True, check=True).stdout
    assert part == data[1000:2000]
    # A part by time has what the whole file has in this time.
    begin, until = everything.times[1000], everything.times[-1000]
    words = [f"--from={_rfc3339(begin)}", f"--to={_rfc3339(until)}"]
    wanted = [us for us in everything.times if begin <= us <= until]
    assert lab.fetched(id, *words).times == wanted
    assert lab.fetched(id, "--last", "1h").times == everything.times
    lab.said("recording", "stop", id)
    wait_until(lambda: lab.shown(id)["state"] == "stopped", "it ends", timeout=20)
    lab.said("recording", "delete", id)
    assert id not in lab.said("recordings", "--json")


def _rfc3339(us: int) -> str:
    import datetime

    time = datetime.datetime.fromtimestamp(us // 1_000_000, datetime.timezone.utc)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{us % 1_000_000:06}Z"


@pytest.mark.parametrize("ring", [(), ("--keep", "4s")], ids=["all", "ring"])
def test_tail(lab: Recordings, ring: Any) -> None:
    """--tail follows a recording to its end and has every packet once, also where the ring deletes behind it."""
    id = lab.record(*ring)
    path = lab.path()
    words = ("recording", "fetch", id, "--tail", "--json", "--output", str(path))
    process = lab.start_pcapctl(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        sent = lab.send(id, size=200, rate=1000, seconds=9.0)
        wait_until(lambda: path.exists() and path.stat().st_size > 0, "packets arrive", timeout=10)
        lab.said("recording", "stop", id)
        said, _ = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 0, said
    assert numbers(read_pcapng(path)) == [list(range(sent.sent))] * 2
    sections = path.read_bytes().count(b"\x0a\x0d\x0d\x0a")
    assert sections > 1 if ring else sections == 1
    assert json.loads(said.splitlines()[-1])["packets"] == 2 * sent.sent


@pytest.mark.parametrize("resumable", [True, False])
def test_a_lost_connection_says_how_to_go_on(lab: Recordings, resumable: bool) -> None:
    """The report of a capture that lost its api has the command that fetches what is missing, and no more than that."""
    path, port = lab.path(), free_port()
    words = ["hosts", "web-0", "web-1", "--filter", FILTER, "--output", str(path)]
    words += ["--resumable", "--keep", "10m"] if resumable else []
    with Generator(lab.link, size=200, rate=500):
        with cutting(lab, 1 << 40, port) as url:
            process = lab.start_pcapctl(*words, "--api", url, stderr=subprocess.PIPE, text=True)
            wait_until(lambda: path.exists() and path.stat().st_size > 500_000, "packets arrive", timeout=30)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 1, said
        *_, before, last = said.splitlines()
        if not resumable:
            assert "connection to the api was lost" in before and "--resumable" in last, said
            return
        assert "goes on" in before and last.startswith("  pcapctl recording fetch "), said
        command = shlex.split(last)[1:]
        assert command[command.index("--api") + 1] == url
        time.sleep(3)
    id, rest = command[2], lab.path()
    assert lab.shown(id)["keep"] == 600
    lab.said("recording", "stop", id)
    wait_until(lambda: lab.shown(id)["state"] == "stopped", "it ends", timeout=20)
    with cutting(lab, 1 << 40, port):
        lab.said(*command, "--output", str(rest))
    here, there = numbers(read_pcapng(path)), numbers(read_pcapng(rest))
    for mine, others in zip(here, there):
        assert others[0] <= mine[-1] + 1 and len(set(mine) & set(others)) < 500
        both = sorted({*mine, *others})
        assert both == list(range(both[0], both[0] + len(both))) and len(both) > len(mine) + 1000


def test_ctrl_c_ends_a_tail(lab: Recordings) -> None:
    """Ctrl-C ends the file and not the recording."""
    id = lab.record()
    path = lab.path()
    process = lab.start_pcapctl(
        "recording", "fetch", id, "--tail", "--output", str(path), stderr=subprocess.PIPE
    )
    try:
        sent = lab.send(id, size=200, rate=500, seconds=1.0)
        whole = 2 * sent.sent
        wait_until(
            lambda: path.exists() and len(read_pcapng(path).packets) == whole, "all arrive", timeout=20
        )
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        end(process)
    assert process.returncode == 0, said
    assert lab.shown(id)["state"] == "recording"
    lab.said("recording", "delete", id)


def test_routers_cut_answers(lab: Recordings) -> None:
    """A fetch goes on where it was cut, to standard output too: the bytes are the same."""
    id = lab.record()
    sent = lab.send(id, size=500, rate=4000, seconds=2.0)
    lab.said("recording", "stop", id)
    wait_until(lambda: lab.shown(id)["state"] == "stopped", "it ends", timeout=20)
    path, events = lab.path(), lab.path(".events")
    lab.said("recording", "fetch", id, "--output", str(path))
    with cutting(lab, 1_500_000) as url:
        words = ("recording", "fetch", id, "--json", "--output", "-")
        command = lab.client_command(*words)
        environ = {**lab.client_environment(), "PCAP_API": url}
        with events.open("wb") as errors:
            done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=errors, check=False)
    assert done.returncode == 0, events.read_text()
    assert done.stdout == path.read_bytes()
    kinds = [json.loads(line)["event"] for line in events.read_text().splitlines()]
    assert kinds.count("cut") >= 4 and kinds[-1] == "end"
    assert numbers(read_pcapng(path)) == [list(range(sent.sent))] * 2
    lab.said("recording", "delete", id)


def test_other_users(lab: Recordings) -> None:
    """Others neither see nor fetch a recording; an operator does, which is on record."""
    id = lab.record()
    lab.send(id, size=200, count=10)
    bob, carol = {"PCAP_TOKEN": lab.bob}, {"PCAP_TOKEN": lab.carol}
    assert json.loads(lab.said("recordings", "--json", env=bob)) == {"recordings": []}
    for command in ("show", "stop", "delete", "fetch"):
        refused = lab.pcapctl("recording", command, id, env=bob)
        assert refused.returncode == 1 and "no recording" in refused.stderr
    seen = len(lab.api.records())
    table = lab.said("recordings", env=carol)
    assert id[:8] in table and "alice" not in table.splitlines()[0]
    assert len(lab.fetched(id, env=carol).packets) == 20
    lab.said("recording", "delete", id, env=carol)
    audits = [one for one in lab.api.records()[seen:] if "audit" in one]
    listed, fetched, deleted = [
        next(one for one in audits if one["audit"] == kind)
        for kind in ("recordings_listed", "recording_fetched", "recording_deleted")
    ]
    assert listed["user"] == "carol"
    assert {(one["user"], one["recording"], one["owner"]) for one in (fetched, deleted)} == {
        ("carol", id, "alice")
    }


def test_wireshark_replays(lab: Recordings, user: User) -> None:
    """The interface of recordings lists them, and tshark reads one to its end."""
    require("tshark", "dumpcap")
    id = lab.record()
    sent = lab.send(id, size=200, count=50)
    token = user.home / "token"
    token.write_text(lab.token)
    given = {"api": lab.url, "ca": str(lab.authority.certificate_path), "token-file": str(token)}
    words = [f"--{name}={value}" for name, value in given.items()]
    which = ("--extcap-interface=pcapctl-recordings", "--extcap-config", "--extcap-reload-option=recording")
    listed = user.extcap(*which, *words).stdout
    assert f"{{value={id}}}{{display=web-0, web-1, " in listed
    prefix = "pcapctl_recordings."
    user.preferences = {prefix + name.replace("-", ""): value for name, value in given.items()}
    user.preferences[f"{prefix}recording"] = id
    path = user.home / "x.pcapng"
    done = user.tshark("-i", "pcapctl-recordings", "-w", str(path))
    assert done.returncode == 0, done.stderr
    # dumpcap writes the file anew, and without our names of blocks.
    assert len(tshark_fields(path, ["frame.number"])) == 2 * sent.sent
    wait_until(lambda: not user.left_behind(), "nothing is left running")
    lab.said("recording", "delete", id)
