"""Clips of recordings: by command, by a lost instance, by a second filter, by an alert manager."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Iterator

import pytest

from demo.processes import wait_until
from tests.kit.hosts.chain import Chain
from tests.kit.hosts.clipping import Recording
from tests.kit.lab.generator import FILTER, Generator, stamp


@pytest.fixture
def api(chain: Chain, tmp_path: Path) -> Iterator[Recording]:
    """An api that records."""
    with Recording(chain, tmp_path) as recording:
        yield recording
        assert chain.token not in recording.log()


def test_a_clip_survives_the_ring(chain: Chain, api: Recording, tmp_path: Path) -> None:
    """A clip has every packet around its moment, though the ring keeps less than that."""
    with Generator(chain.link, rate=500):
        id = api.record("web-0", filter=FILTER, keep=2)
        time.sleep(3)
        asked = time.time()
        answer = api.ask(
            "POST", f"/v1/recordings/{id}/clip", {"before": 2, "after": 4, "reason": "it is slow"}
        )
        answered = time.time()
        assert answer.status == 201 and answer.json["state"] == "open", answer.body
        early = api.ask("GET", f"/v1/recordings/{id}/capture?clip=1")
        assert early.status == 409, early.body
        clip = api.finished(id, 1)
        wait_until(lambda: api.show(id)["first_us"] > (asked + 1) * 1e6, "the ring has turned")
    assert (clip["state"], clip["reason"]) == ("done", "it is slow")
    file = api.fetch(id, "clip=1", tmp_path / "clip.pcapng")
    numbers = [stamp(packet.data).number for packet in file.packets]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert asked - 2 <= file.times[0] / 1e6 < answered - 2 + 0.2
    assert asked + 4 - 0.2 < file.times[-1] / 1e6 <= answered + 4
    assert clip["bytes"] == (tmp_path / "clip.pcapng").stat().st_size == stored(api, id)
    assert api.ask("POST", f"/v1/recordings/{id}/stop").status == 200
    wait_until(lambda: api.show(id)["state"] == "stopped", "it is stopped")
    assert api.ask("POST", f"/v1/recordings/{id}/clip", {}).status == 409


def stored(api: Recording, id: str, number: int = 1) -> int:
    """Bytes of a clip's object, which only its owner may read."""
    status = (api.store / id / "clips" / f"{number:08}-0001.pcapng").stat()
    assert status.st_mode & 0o077 == 0
    return status.st_size


def test_a_quiet_recording_has_its_clip_soon(chain: Chain, api: Recording, tmp_path: Path) -> None:
    """A clip is made some seconds after its end, with its few packets, though nothing follows them."""
    id = api.record("web-0", interfaces=["lo"], filter="udp port 5555")
    chain.web0.run("python3", "-c", SEND, "5555", "3")
    assert api.ask("POST", f"/v1/recordings/{id}/clip", {"before": 10, "after": 1}).status == 201
    end = time.monotonic() + 1
    assert api.finished(id, 1)["state"] == "done"
    assert time.monotonic() - end < 5
    assert len(api.fetch(id, "clip=1", tmp_path / "clip.pcapng").packets) == 3


def test_a_killed_api_finishes_its_clips(chain: Chain, api: Recording, tmp_path: Path) -> None:
    """A clip that was open when the api was killed has the packets before and after the restart."""
    with Generator(chain.link, rate=200):
        id = api.record("web-0", filter=FILTER, keep=2)
        time.sleep(2)
        asked = time.time()
        assert api.ask("POST", f"/v1/recordings/{id}/clip", {"before": 2, "after": 10}).status == 201
        time.sleep(1.5)
        api.kill()
        api.start()
        clip = api.finished(id, 1)
    assert clip["state"] == "done", clip
    times = [time_us / 1e6 for time_us in api.fetch(id, "clip=1", tmp_path / "clip.pcapng").times]
    assert times[0] < asked - 1.5 and times[-1] > asked + 9.5
    assert sum(asked < one < asked + 0.5 for one in times) > 50


def test_a_lost_instance_makes_a_clip(chain: Chain, api: Recording) -> None:
    """When the interface of an instance disappears, its last packets are kept, and the reason names it."""
    web = chain.web0
    web.ip("link", "add", "app0", "type", "veth", "peer", "name", "app1")
    web.ip("link", "set", "app0", "up")
    id = api.record("web-0", interfaces=["app0", "lo"], clip_on="crash", before=5, after=1)
    web.run("python3", "-c", SEND, "5555", "3")
    web.ip("link", "delete", "app0")
    wait_until(lambda: api.clips(id), "a clip is made")
    clip = api.finished(id, 1)
    assert clip["state"] == "done" and clip["reason"].startswith("web-0: app0 is gone"), clip
    assert [one["number"] for one in api.clips(id)] == [1]
    (audited,) = [one for one in api.audited() if one["audit"] == "recording_clipped"]
    assert (audited["recording"], audited["clip"], audited["purpose"]) == (id, 1, clip["reason"])


def test_a_packet_that_matches_makes_a_clip(chain: Chain, api: Recording, tmp_path: Path) -> None:
    """One packet to a port makes one clip, in which the other packets are too; many make no more than one."""
    web = chain.web0
    order = {"clip_on": {"filter": "udp dst port 7777"}, "before": 5, "after": 1}
    id = api.record("web-0", interfaces=["lo"], filter="udp", **order)
    send = ("python3", "-c", SEND)
    web.run(*send, "5555", "3")
    time.sleep(1)
    assert api.clips(id) == []
    web.run(*send, "7777", "20")
    wait_until(lambda: api.clips(id), "a clip is made")
    assert api.finished(id, 1)["reason"] == "a packet matched: udp dst port 7777"
    file = api.fetch(id, "clip=1", tmp_path / "clip.pcapng")
    assert len(file.interfaces) == 1 and len(file.packets) == 23
    assert len(api.clips(id)) == 1
    time.sleep(api.limits["CLIP_INTERVAL"] + 0.5)
    assert len(api.clips(id)) == 1
    web.run(*send, "7777", "1")
    wait_until(lambda: len(api.clips(id)) == 2, "another clip is made")
    api.ask("POST", f"/v1/recordings/{id}/stop")
    wait_until(chain.settled, "nothing is captured any longer")


#: Sends datagrams to a port of the loopback interface.
SEND = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[2])):
    s.sendto(b"x" * 32, ("127.0.0.1", int(sys.argv[1])))
"""


@pytest.mark.parametrize("text", ["udp port", "udp) or (tcp", "host nowhere.example"])
def test_a_bad_second_filter(api: Recording, text: str) -> None:
    """A second filter that the agent does not compile, or that would leave the first, is refused at once."""
    order = {"targets": ["web-0"], "filter": "tcp", "clip_on": {"filter": text}}
    wait_until(lambda: api.ask("POST", "/v1/recordings", order).status != 503, "the api takes orders")
    answer = api.ask("POST", "/v1/recordings", order)
    assert answer.status == 400, answer.body
    assert api.ask("GET", "/v1/recordings").json == {"recordings": []}


#: What Alertmanager sends (version 4 of its webhook).
ALERT = {
    "version": "4",
    "groupKey": '{}:{alertname="HighLatency"}',
    "status": "firing",
    "receiver": "pcap",
    "groupLabels": {"alertname": "HighLatency"},
    "commonLabels": {"alertname": "HighLatency", "severity": "page"},
    "commonAnnotations": {},
    "externalURL": "http://alertmanager.example:9093",
    "alerts": [
        {"status": "firing", "labels": {"alertname": "High\u202eLatency"}, "startsAt": "2026-11-29T03:00:00Z"}
    ],
}


def test_an_alert_makes_a_clip(chain: Chain, api: Recording, tmp_path: Path) -> None:
    """The key of a hook makes clips, at most one in an interval, and opens nothing else."""
    with Generator(chain.link, rate=100):
        id = api.record("web-0", filter=FILTER, before=1, after=0)
        path, key = api.ask("POST", f"/v1/recordings/{id}/hook").json["hook"].values()
        body = tmp_path / "alert.json"
        body.write_text(json.dumps(ALERT))

        def strike(key: str, at: str = path, sent: Path = body) -> tuple[int, str]:
            (config := tmp_path / "curlrc").write_text(f'header = "Authorization: Bearer {key}"\n')
            argv = ["curl", "-s", "-K", str(config), "--cacert", str(chain.authority.certificate_path)]
            argv += ["--data-binary", f"@{sent}", "-w", "\n%{http_code}", f"https://127.0.0.1:{api.port}{at}"]
            done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
            answer, _, status = done.stdout.rpartition("\n")
            return int(status), answer

        assert strike("x" + key) == strike(key, "/v1/hooks/nobody") == strike("")
        assert strike("x" + key)[0] == 401
        status, answer = strike(key)
        assert status == 200 and json.loads(answer)["clip"]["reason"] == "alert High Latency", answer
        assert strike(key)[0] == 429
        (resolved := tmp_path / "resolved.json").write_text(json.dumps({**ALERT, "status": "resolved"}))
        assert strike(key, sent=resolved) == (200, '{"clip": null}\n')
        assert api.finished(id, 1)["state"] == "done"
        for page in (f"/v1/recordings/{id}", f"/v1/recordings/{id}/capture", "/v1/recordings"):
            assert api.ask("GET", page, token=key).status == 401
        newer = api.ask("POST", f"/v1/recordings/{id}/hook").json["hook"]["key"]
        assert strike(key)[0] == 401
        time.sleep(api.limits["CLIP_INTERVAL"])
        assert strike(newer)[0] == 200
    assert len(api.clips(id)) == 2
    assert key not in api.log() and newer not in api.log()
    kinds = [record["audit"] for record in api.audited()]
    assert kinds.count("recording_hook_made") == 2 and kinds.count("recording_hook_called") == 3


def test_a_clip_is_explained(chain: Chain, api: Recording) -> None:
    """The findings of a clip are stored with it, if its recording asks for that."""
    id = api.record("web-0", interfaces=["lo"], explain=True)
    refused = "import socket; socket.socket().connect_ex(('127.0.0.1', 4444))"
    chain.web0.run("python3", "-c", refused)
    assert api.ask("POST", f"/v1/recordings/{id}/clip", {"before": 10, "after": 0}).status == 201
    wait_until(lambda: (api.clips(id) or [{}])[0].get("findings"), "the clip is explained", timeout=30)
    (clip,) = api.clips(id)
    assert [finding["kind"] for finding in clip["findings"]] == ["connection_refused"], clip
    (listed,) = api.ask("GET", "/v1/recordings").json["recordings"]
    assert "findings" not in listed["clips"][0]


def test_a_capture_that_is_recorded_besides(chain: Chain, api: Recording, tmp_path: Path) -> None:
    """A pcapctl that is killed loses nothing: the recording goes on, and has its packets and the later ones."""
    api.record("web-0")  # the api is ready
    env = {"PCAP_API": f"https://127.0.0.1:{api.port}"}
    with Generator(chain.link, rate=200):
        client = chain.begin("web-0", "--filter", FILTER, "--resumable", "--duration", "8s", env=env)
        client.wait_for("web-0:eth0", packets=200)
        (notice,) = [one for one in client.notices() if one["type"] == "RECORDED"]
        id = notice["message"].split()[-1]
        client.process.kill()
        wait_until(lambda: api.show(id)["state"] == "stopped", "its duration is over", timeout=20)
    numbers = [stamp(packet.data).number for packet in api.fetch(id, "", tmp_path / "all.pcapng").packets]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and len(numbers) > 1000


def test_stop_ends_both(chain: Chain, api: Recording) -> None:
    """Ctrl-C ends the capture and the recording; an api without recordings refuses to make one."""
    api.record("web-0")  # the api is ready
    env = {"PCAP_API": f"https://127.0.0.1:{api.port}"}
    client = chain.begin("web-0", "--device", "lo", "--resumable", env=env)
    client.wait_for("web-0:lo")
    client.signal()
    result = client.wait()
    assert result.status == 0, result.stderr
    id = next(one["message"].split()[-1] for one in result.notices if one["type"] == "RECORDED")
    wait_until(lambda: api.show(id)["state"] == "stopped", "the recording has ended")
    refused = chain.capture("web-0", "--resumable", "--duration", "1s")
    assert refused.status == 1 and "this api makes no recordings" in str(refused.events)
