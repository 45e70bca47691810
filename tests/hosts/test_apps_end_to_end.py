"""From a cf login to a file: pcapctl and curl, the api, agents on cells, and real containers.

Cloud Controller and the UAA are doubles, and the router where there is one; all
else is real.  Every container talks all the time (`tests.kit.hosts.apps.Chatter`), so
whoever is captured by mistake is seen.  In the end no token is in any log.
"""

from __future__ import annotations

import json
import pwd
import threading
import time
from pathlib import Path
from typing import Iterator, Optional

import pytest

pytest.importorskip("pcapy", reason="pcapy-ng is not installed")
pytest.importorskip("prctl", reason="python-prctl is not installed")

from demo.certificates import Authority
from demo.processes import wait_until
from tests.kit.doubles import cloud_controller as cc
from tests.kit.doubles.agent import AgentDouble
from tests.kit.doubles.cloud_controller import CfApp, Process, User
from tests.kit.doubles.router import Router
from tests.kit.hosts.apps import Apps, apps_in, loop, wire
from tests.kit.hosts.chain import Result, SaveFile, assert_accounted, ordered, read_pcap
from tests.kit.hosts.containers import USER, needs
from tests.kit.lab.containers import Instance, entry
from tests.kit.lab.readers import capinfos, require, tcpdump_lines, tshark_fields

if needs():
    pytest.skip(str(needs()), allow_module_level=True)

BOTH_WAYS = pytest.mark.parametrize("access", ["namespace", "host-veth"])


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Apps]:
    with apps_in(tmp_path_factory.mktemp("apps"), authority) as apps:
        yield apps


def holds(file: SaveFile, name: str, payload: bytes) -> int:
    """How many packets of an interface carry it."""
    return sum(payload in packet.data for packet in file.of(name))


def check_only(result: Result, *instances: Instance, app: str = "myapp") -> None:
    """Each instance's interface holds its packets, nobody else's, and there is no other."""
    require("capinfos")
    capinfos(result.path)
    file = result.file
    names = [interface.name for interface in file.interfaces]
    assert sorted(names) == sorted(f"{app}/{instance.index}:eth0" for instance in instances)
    for instance in instances:
        own = file.of(f"{app}/{instance.index}:eth0")
        assert len(own) > 4
        assert all(wire(instance) in packet.data for packet in own)
    assert ordered(file.times)


# --- what is captured ----------------------------------------------------------


def test_from_login_to_file(apps: Apps) -> None:
    """An app's name is enough: the login, the api's address and the cells are all found."""
    client = apps.pcapctl("myapp")
    client.wait_for("myapp/0:eth0", "myapp/1:eth0", "myapp/2:eth0")
    result = client.stop()
    assert result.status == 0, client.said()
    check_only(result, *apps.real.values())
    assert_accounted(result)
    assert not any(source["late"] for source in result.sources.values())
    file = result.file
    for interface, cell in zip(sorted(file.interfaces, key=lambda one: one.name), (0, 0, 1)):
        assert f"agent cell-{cell}-namespace at {apps.cells[cell].inside}" in interface.description
    addresses = {instance.address: f"myapp/{index}" for index, instance in apps.real.items()}
    assert file.names == addresses
    # Independent readers agree.
    rows = tshark_fields(result.path, ["frame.interface_name", "icmp.type", "ip.dst"], "icmp.type == 8")
    assert {(row[0], row[2]) for row in rows} == {(f"{name}:eth0", to) for to, name in addresses.items()}


def test_audit(apps: Apps) -> None:
    """The audit log holds who captured which instances on which cells and how it ended, under one id."""
    before = len(apps.audit("capture_started"))
    result = apps.capture("--instance", "0,2", "--filter", "icmp", seconds=0.5)
    assert result.status == 0, result.stderr
    wait_until(lambda: len(apps.audit("capture_ended")) > before, "the end is on record")
    started = apps.audit("capture_started")[before]
    assert started["user"] == "alice@example.test"
    assert (started["app"], started["process_type"]) == (apps.app.guid, "web")
    assert (started["instances"], started["filter"], started["follow"]) == ([0, 2], "icmp", False)
    assert started["targets"] == [
        f"myapp/{index} at {cell.inside}:{apps.port}, container {apps.real[index].handle}"
        for index, cell in ((0, apps.cells[0]), (2, apps.cells[1]))
    ]
    ended = [record for record in apps.audit("capture_ended") if record["capture"] == started["capture"]]
    assert ended[0]["user"] == started["user"] and ended[0]["packets"] == result.report["packets"]
    for cell in apps.cells:
        assert started["capture"] in cell.logs() and started["request_id"] in cell.logs()


@BOTH_WAYS
@pytest.mark.long(but=("namespace",))
def test_instance_0_alone(apps: Apps, access: str) -> None:
    """Instances 0 and 1 talk on the same cell, and neither is ever in a capture of the other."""
    with apps.accessed(access):
        for index in (0, 1):
            result = apps.capture("--instance", str(index), seconds=0.7)
            assert result.status == 0, result.stderr
            check_only(result, apps.real[index])


@pytest.mark.parametrize("version", ["3.228.0", "3.191.0", "3.148.0"])
@BOTH_WAYS
@pytest.mark.long(but=("namespace-3.228.0",))
def test_the_store_is_rewritten(apps: Apps, access: str, version: str) -> None:
    """Captures find the right container while the store is rewritten all the time."""
    store = apps.cells[0].cell.store
    over = threading.Event()

    def rewrite() -> None:
        while not over.is_set():
            store.entries["passing"] = entry("passing", "other-app", 0, "10.255.99.99")
            store.write()
            store.entries.pop("passing")
            store.write()

    writer = threading.Thread(target=rewrite)
    apps.cc.api_version = version
    writer.start()
    try:
        with apps.accessed(access):
            result = apps.capture("--instance", "0", seconds=0.6)
    finally:
        apps.cc.api_version = "3.228.0"
        over.set()
        writer.join()
        store.write()
    assert result.status == 0, result.stderr
    check_only(result, apps.real[0])


def test_chosen_instances(apps: Apps) -> None:
    """A capture of chosen instances holds the packets of those only."""
    result = apps.capture("--instance", "0,2", seconds=0.7)
    assert result.status == 0, result.stderr
    check_only(result, apps.real[0], apps.real[2])


@pytest.mark.long
def test_another_type(apps: Apps) -> None:
    """The worker's instance 0, on the same cell as web's instance 2, is captured as an instance of its own."""
    result = apps.capture("--type", "worker", seconds=0.7)
    assert result.status == 0, result.stderr
    check_only(result, apps.worker)


@pytest.mark.long
def test_two_devices(apps: Apps) -> None:
    """Traffic on lo is captured once that device is named, and each device has an interface of its own."""
    result = apps.capture("--instance", "1", "--device", "eth0", "--device", "lo")
    assert result.status == 0, result.stderr
    file = result.file
    assert [interface.name for interface in file.interfaces] == ["myapp/1:eth0", "myapp/1:lo"]
    assert holds(file, "myapp/1:lo", loop(apps.real[1])) > 4
    assert holds(file, "myapp/1:eth0", wire(apps.real[1])) > 4
    assert not holds(file, "myapp/1:eth0", b"loop-")
    assert holds(file, "myapp/1:lo", b"loop-") == holds(file, "myapp/1:lo", loop(apps.real[1]))


def test_no_lo_from_the_cells_side(apps: Apps) -> None:
    """A capture of lo from the cell's side is refused with the reason."""
    with apps.accessed("host-veth"):
        result = apps.capture("--instance", "0", "--device", "lo")
    assert result.status == 1 and not result.path.exists()
    assert "access: namespace" in result.report["error"]


# --- curl ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "indices"),
    [
        ([], (0,)),
        ([("index", 1)], (1,)),
        ([("index", 0), ("index", 2)], (0, 2)),
        ([("index", ""), ("type", ""), ("device", ""), ("filter", "")], (0,)),
        ([("type", "web"), ("filter", "icmp[icmptype] == icmp-echo"), ("device", "eth0")], (0,)),
    ],
    ids=["default", "index", "indices", "empty", "filter"],
)
@pytest.mark.long(but=("default",))
def test_curl(apps: Apps, query: list[tuple[str, object]], indices: tuple[int, ...]) -> None:
    """curl on the interface of 2022 gets instance 0 unless it names another, as classic pcap."""
    require("curl", "tcpdump")
    done, path = apps.curl(*query, duration="600ms")
    assert (done.returncode, done.stdout) == (0, b"200"), done
    packets = read_pcap(path)
    for index, instance in apps.real.items():
        seen = sum(wire(instance) in packet.data for packet in packets)
        assert (seen > 4) is (index in indices)
    assert sum(any(wire(apps.real[index]) in p.data for index in indices) for p in packets) == len(packets)
    assert len(tcpdump_lines(path)) == len(packets)
    if dict(query).get("filter"):
        assert all("ICMP echo request" in line for line in tcpdump_lines(path))


def test_curl_for_a_device_and_a_type(apps: Apps) -> None:
    """curl captures another process type's device as pcapng, with the packets of that device alone."""
    require("curl")
    done, path = apps.curl(("type", "worker"), ("device", "lo"), headers=["Accept: application/x-pcapng"])
    assert (done.returncode, done.stdout) == (0, b"200"), done
    rows = tshark_fields(path, ["frame.interface_name", "udp.payload"])
    assert len(rows) > 4
    ours = [row for row in rows if row[1] == loop(apps.worker).hex()]
    assert len(ours) == len([row for row in rows if row[1]]) > 4
    assert {row[0] for row in rows} == {"myapp/0:lo"}


# --- who may -----------------------------------------------------------------------


def opened_anywhere(apps: Apps) -> int:
    """Connections and captures that agents have logged."""
    return len(apps.agents_log().splitlines())


def test_no_permission(apps: Apps) -> None:
    """A user who may only view the app is refused with the reason, and no agent opens anything."""
    auditor = User("auditor@example.test", audits={apps.app.space})
    before = opened_anywhere(apps)
    client = apps.pcapctl("myapp", home=apps.log_in(auditor))
    result = client.done()
    assert result.status == 1 and not result.path.exists()
    assert "auditor@example.test may not capture" in result.report["error"]
    done, path = apps.curl(token=apps.token(auditor))
    assert done.stdout == b"403" and b"read_sensitive_data" in path.read_bytes()
    time.sleep(0.2)
    assert opened_anywhere(apps) == before


@pytest.mark.long
def test_another_space(apps: Apps) -> None:
    """An app of another space looks the same as one that does not exist, by name, by GUID and to curl."""
    hidden = apps.cc.add(CfApp("secret", processes=[Process(instances=[cc.Instance(0)])]))
    missing = cc.new_guid()
    before = opened_anywhere(apps)
    said = {}
    for what, name, guid in (("hidden", "secret", hidden.guid), ("missing", "nothing", missing)):
        for way in (name, guid):
            client = apps.pcapctl(way)
            assert client.done().status == 1
            said[what, way == guid] = client.said().replace(way, "APP")
    for by_guid in (False, True):
        assert _error(said["hidden", by_guid]) == _error(said["missing", by_guid]) != ""
    answers = []
    for guid in (hidden.guid, missing):
        response, path = _ask_for(apps, guid)
        answers.append((response, path.replace(guid, "APP")))
    assert answers[0] == answers[1] and answers[0][0] == b"404"
    assert opened_anywhere(apps) == before


def _error(said: str) -> str:
    """The error in what pcapctl said: in its last event, or in words when it never got that far."""
    last = said.splitlines()[-1]
    return str(json.loads(last).get("error") or json.loads(last)) if last.startswith("{") else last


def _ask_for(apps: Apps, guid: str) -> tuple[bytes, str]:
    app, apps.app = apps.app, CfApp(guid=guid)
    try:
        done, path = apps.curl()
    finally:
        apps.app = app
    return done.stdout, path.read_text()


def test_an_expired_token_is_refreshed(apps: Apps) -> None:
    """An expired token is refreshed and stored as the cf CLI does it, and the api gets the new one."""
    expired = apps.uaa.token(user=apps.alice.name, exp=int(time.time()) - 10)
    home = apps.log_in(access=expired)
    done, _ = apps.curl(token=expired)
    assert done.stdout == b"401"
    result = apps.capture("--instance", "0", home=home, seconds=0.5)
    assert result.status == 0, result.stderr
    check_only(result, apps.real[0])
    saved = json.loads((home / ".cf" / "config.json").read_text())
    assert saved["AccessToken"] != f"bearer {expired}"
    assert saved["AccessToken"].removeprefix("bearer ") in apps.cc.users


# --- what goes wrong ---------------------------------------------------------------


@BOTH_WAYS
@pytest.mark.long
def test_a_container_goes_away(apps: Apps, access: str) -> None:
    """When a container goes away, the user is told, the other captures go on, and the file is whole."""
    spare = apps.place(apps.app, 3, apps.cells[0])
    try:
        with apps.accessed(access):
            client = apps.pcapctl("myapp", "--instance", "1,3")
            client.wait_for("myapp/1:eth0", "myapp/3:eth0")
            apps.remove(spare, apps.cells[0])
            gone = f"myapp/3 lost by {access}"
            wait_until(lambda: any(e["event"] == "notice" for e in client.events()), gone, timeout=20)
            result = client.stop()
    finally:
        apps.app.instances.pop()
    assert result.status == 3, client.said()
    (notice,) = result.notices
    assert (notice["origin"], notice["type"]) == ("myapp/3", "INSTANCE_UNAVAILABLE")
    assert result.report["error"] is None
    check_only(result, apps.real[1], spare)
    assert_accounted(result)


def test_the_only_container_goes_away(apps: Apps) -> None:
    """When the only container goes away, the capture ends by itself."""
    spare = apps.place(apps.app, 3, apps.cells[1])
    try:
        client = apps.pcapctl("myapp", "--instance", "3")
        client.wait_for("myapp/3:eth0")
        apps.remove(spare, apps.cells[1])
        result = client.done()
    finally:
        apps.app.instances.pop()
    assert result.status == 3, client.said()
    assert [notice["origin"] for notice in result.notices] == ["myapp/3"]
    check_only(result, spare)


@pytest.mark.long
def test_many_instances(apps: Apps) -> None:
    """Of 20 instances on 3 agents, the unreachable and stopped ones are named, the rest is captured, status 3."""
    fleet = apps.cc.add(CfApp("fleet", processes=[Process(instances=[])], space=apps.app.space))
    real = {index: apps.place(fleet, index, apps.cells[0]) for index in (0, 3, 6, 9)}
    with AgentDouble(apps.authority.issue_agent("double"), "127.0.0.7", apps.port) as double:
        hosts = [apps.cells[0].inside, double.host, apps.cells[1].nobody]
        for index in range(20):
            if index not in real:
                host = double.host if hosts[index % 3] == hosts[0] else hosts[index % 3]
                fleet.instances.append(cc.Instance(index, host=host))
        fleet.instances.sort(key=lambda instance: instance.index)
        fleet.instances[4].go_down("insufficient resources: memory")
        client = apps.pcapctl("fleet", "--duration", "2s")
        result = client.done()
    for instance in real.values():
        apps.remove(instance, apps.cells[0])
    missing = {4, *range(2, 20, 3)}
    assert result.status == 3, client.said()
    assert {notice["origin"] for notice in result.notices} == {f"fleet/{index}" for index in missing}
    words = {notice["origin"]: notice["message"] for notice in result.notices}
    assert "insufficient resources" in words["fleet/4"] and apps.cells[1].nobody in words["fleet/2"]
    file = result.file
    assert {one.name for one in file.interfaces} == {
        f"fleet/{index}:eth0" for index in range(20) if index not in missing
    }
    for index, instance in real.items():
        assert holds(file, f"fleet/{index}:eth0", wire(instance)) == len(file.of(f"fleet/{index}:eth0")) > 4
    assert all(file.of(one.name) for one in file.interfaces)
    assert ordered(file.times) and not any(source["late"] for source in result.sources.values())
    capinfos(result.path)


# --- a router in the way -------------------------------------------------------------


def test_through_a_router(apps: Apps) -> None:
    """pcapctl's WebSocket outlives the router's limit; a download is cut, and does not look whole."""
    credentials = apps.authority.issue_api("router")
    with Router(credentials, apps.api.port, response_limit=1.0) as router:
        before = len(apps.audit("capture_started"))
        result = apps.capture("--instance", "0", "--api", router.url, seconds=2.5)
        assert result.status == 0, result.stderr
        check_only(result, apps.real[0])
        forged = ["X-Forwarded-For: 203.0.113.99", "X-Vcap-Request-Id: forged"]
        done, path = apps.curl(url=router.url, duration="30s", headers=forged, address="127.0.0.9")
        assert (done.returncode, done.stdout) == (18, b"200"), done
        assert all(wire(apps.real[0]) in packet.data for packet in read_pcap_cut(path))
        log = list(router.access_log)
    # The audit log has the client's address from the trusted router, not the one that the client claims.
    clients = [r["client"].split(":")[0] for r in apps.audit("capture_started")[before:]]
    assert clients == ["127.0.0.1", "127.0.0.9"]
    assert "203.0.113.99" not in apps.api.log() and "forged" not in apps.api.log()
    # The router's ids are everywhere, and its log of URLs holds no token.
    for entry_ in log:
        assert [r for r in apps.audit("capture_started") if r["request_id"] == entry_["id"]]
        assert entry_["id"] in apps.cells[0].logs()
    apps.assert_discreet(*(str(entry_) for entry_ in log))


def read_pcap_cut(path: Path) -> list[object]:
    """The packets of a file that a router has cut, anywhere."""
    data, offset = path.read_bytes(), 24
    while offset + 16 <= len(data):
        size = 16 + int.from_bytes(data[offset + 8 : offset + 12], "little")
        if offset + size > len(data):
            break
        offset += size
    path.write_bytes(data[:offset])
    packets = read_pcap(path)
    assert packets
    return list(packets)


# --- following -------------------------------------------------------------------------


@pytest.mark.long
def test_follow(apps: Apps) -> None:
    """An instance that restarts, moves or is added continues as a new interface, and gaps are reported."""
    ringo = apps.cc.add(CfApp("ringo", processes=[Process(instances=[])], space=apps.app.space))
    first, second = apps.cells
    before = {index: apps.place(ringo, index, first) for index in (0, 1)}
    client = apps.pcapctl("ringo", "--follow")
    client.wait_for("ringo/0:eth0", "ringo/1:eth0")
    for instance in before.values():
        apps.remove(instance, first)
    after = {0: apps.place(ringo, 0, first), 1: apps.place(ringo, 1, second), 2: apps.place(ringo, 2, second)}

    def followed() -> bool:
        said = [e["message"] for e in client.events() if e["event"] == "notice"]
        return sum("was not captured from" in words for words in said) == 3

    wait_until(followed, "all three are captured again", timeout=40)
    time.sleep(1)
    result = client.stop()
    for index, instance in after.items():
        apps.remove(instance, second if index else first)
    assert result.status == 3, client.said()
    require("capinfos")
    capinfos(result.path)
    file = result.file
    names = [one.name for one in file.interfaces]
    assert sorted(names) == ["ringo/0:eth0"] * 2 + ["ringo/1:eth0"] * 2 + ["ringo/2:eth0"]
    for number, one in enumerate(file.interfaces):
        index = int(one.name[len("ringo/")])
        instance = before[index] if number < 2 else after[index]
        own = [packet for packet in file.packets if packet.interface == number]
        assert len(own) > 4 and all(wire(instance) in packet.data for packet in own)
        cell = second if instance is after[1] or instance is after[2] else first
        assert cell.inside in one.description
    said = {
        notice["origin"]: notice["message"] for notice in result.notices if "was not" in notice["message"]
    }
    assert set(said) == {"ringo/0", "ringo/1", "ringo/2"}
    assert f"now it is, on {second.inside}" in said["ringo/1"]
    extended = [r["targets"][0] for r in apps.audit("capture_extended")]
    assert sum(after[index].handle in str(extended) for index in after) == 3


# --- privileges --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access", "needed"),
    [("namespace", (2, 13, 19, 21)), ("host-veth", (13,))],
    ids=["namespace", "host-veth"],
)
@pytest.mark.long
def test_privileges_while_capturing(apps: Apps, access: str, needed: tuple[int, ...]) -> None:
    """While it captures, no thread of the agent is root or has other capabilities than the four it needs.

    The bounding set is left as it was: without new privileges (NoNewPrivs) and
    with empty inheritable and ambient sets, no program that is started gets any of it.
    """
    mask = sum(1 << number for number in needed)
    with apps.accessed(access):
        client = apps.pcapctl("myapp", "--instance", "0")
        client.wait_for("myapp/0:eth0")
        threads = apps.cells[0].agents[access].status()
        result = client.stop()
    assert result.status == 0, client.said()
    check_only(result, apps.real[0])
    uid = str(pwd.getpwnam(USER).pw_uid)
    ours: Optional[str] = Path("/proc/self/status").read_text().partition("CapBnd:")[2].split()[0]
    assert threads
    for status in threads:
        assert status["Uid"].split() == [uid] * 4 and status["Groups"] == ""
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == mask
        assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
        assert status["CapBnd"] == ours
        assert status["NoNewPrivs"] == "1"
