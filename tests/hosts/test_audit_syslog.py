"""No record, no capture, where records go to syslog: over a Unix socket, and over TLS."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Iterator, Union

import pytest

from demo.certificates import Authority
from demo.configurations import free_port, merged
from demo.daemons import Daemon
from demo.processes import wait_until
from tests.kit.doubles.syslog import TlsSyslogDouble, UnixSyslogDouble
from tests.kit.hosts.chain import Chain
from tests.kit.lab.generator import FILTER, Generator

Receiver = Union[TlsSyslogDouble, UnixSyslogDouble]


def receiver_in(directory: Path, kind: str, authority: Authority) -> tuple[Receiver, dict[str, Any]]:
    """A receiver that runs, and the section of the api's configuration."""
    directory.mkdir(parents=True)
    if kind == "unix":
        receiver: Receiver = UnixSyslogDouble(directory / "log")
        receiver.start()
        return receiver, {"socket": str(directory / "log")}
    receiver = TlsSyslogDouble(authority.issue("syslog", dns=("syslog.example.test",)))
    receiver.start()
    client = authority.issue("syslog-client", client=True)
    return receiver, {
        "host": "127.0.0.1",
        "port": receiver.port,
        "ca": str(authority.certificate_path),
        "server_name": "syslog.example.test",
        "certificate": str(client.certificate),
        "private_key": str(client.private_key),
    }


def health(chain: Chain) -> tuple[int, str]:
    """Status and message."""
    context = ssl.create_default_context(cafile=str(chain.authority.certificate_path))
    try:
        with urllib.request.urlopen(f"{chain.url}/health", timeout=10, context=context) as answer:
            return answer.status, json.load(answer)["message"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["message"]


READY, UNABLE = (200, "ready"), (503, "audit records cannot be written")


@pytest.fixture(params=["unix", "tls"])
def audited(
    request: pytest.FixtureRequest, tmp_path: Path, authority: Authority
) -> Iterator[tuple[Chain, Receiver]]:
    pytest.importorskip("pcapy")
    if os.geteuid() != 0:
        pytest.skip("captures and namespaces need root")
    receiver, section = receiver_in(tmp_path / "syslog", request.param, authority)
    with Chain(tmp_path / "chain", api={"audit": {"syslog": section}}) as chain:
        yield chain, receiver


def test_records_arrive_or_nothing_is_captured(audited: tuple[Chain, Receiver]) -> None:
    """Records arrive in syslog's form; without a receiver captures end and none starts, until it is back."""
    chain, receiver = audited
    wait_until(lambda: health(chain) == READY, "the receiver is there")
    with Generator(chain.link, rate=500):
        done = chain.capture("web-0", "--filter", FILTER, "--duration", "300ms", "--reason", "Größe \u2713")
        assert done.status == 0, done.stderr
        wait_until(lambda: receiver.records("capture_ended"), "the record of the end arrives")
        (started,) = receiver.records("capture_started")
        assert (started["user"], started["purpose"], started["role"]) == ("alice", "Größe \u2713", "api")

        running = chain.begin("web-0", "--filter", FILTER)
        running.wait_for("web-0:eth0", packets=10)
        receiver.stop()
        wait_until(lambda: health(chain) == UNABLE, "the api sees that the receiver is gone", timeout=20)
        ended = running.wait()
        assert ended.status == 3 and ended.file.packets
        refused = chain.capture("web-0", "--duration", "300ms")
        assert refused.status == 1 and "could not be recorded" in refused.report["error"]

        receiver.start()
        wait_until(lambda: health(chain) == READY, "the receiver is back", timeout=20)
        assert chain.capture("web-0", "--filter", FILTER, "--duration", "300ms").status == 0
    wait_until(lambda: receiver.records("audit_resumed"), "the gap is recorded")
    # The record of the end, and that of the refusal if it was due before the receiver was back.
    assert [record["lost"] for record in receiver.records("audit_resumed")] in ([1], [2])


def test_what_is_last_arrives(audited: tuple[Chain, Receiver]) -> None:
    """The records of the ends of captures arrive although the api stops."""
    chain, receiver = audited
    wait_until(lambda: health(chain) == READY, "the receiver is there")
    client = chain.begin("web-0")
    client.wait_for("web-0:eth0")
    chain.api.stop()
    client.wait()
    wait_until(lambda: receiver.records("capture_ended"), "the record of the end arrives")
    assert receiver.records("capture_ended")[0]["reason"] == "draining"


def test_a_receiver_of_another_name(chain: Chain, tmp_path: Path, authority: Authority) -> None:
    """A server whose certificate has another name gets no record, and nothing is captured."""
    receiver, section = receiver_in(tmp_path / "syslog", "tls", chain.authority)
    section["server_name"] = "other.example.test"
    change = {
        "id": "other-syslog",
        "listen": {"port": free_port()},
        "metrics": None,
        "audit": {"syslog": section},
    }
    with Daemon("api", merged(chain.api.config, change), tmp_path, healthy=False) as api:
        env = {"PCAP_API": f"https://127.0.0.1:{api.port}"}
        refused = chain.begin("web-0", "--duration", "1s", env=env).wait()
    assert refused.status == 1 and "Hostname mismatch" in refused.report["error"]
    assert receiver.raw == []
