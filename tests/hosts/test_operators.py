"""``pcapctl captures``: an operator sees and ends the capture of somebody else."""

from __future__ import annotations

import json

from demo.configurations import free_port, merged
from demo.daemons import Daemon
from tests.kit.hosts.chain import Chain
from tests.kit.lab.generator import FILTER, Generator


def test_an_operator_ends_a_capture(chain: Chain) -> None:
    """The file is complete up to the stop, its user is told who ended it, and both are on record."""
    change = {
        "id": "operated",
        "listen": {"port": free_port()},
        "metrics": None,
        "operators": ["static/bob"],
    }
    with (
        Daemon("api", merged(chain.api.config, change), chain.directory) as api,
        Generator(chain.link, rate=500),
    ):
        env = {"PCAP_API": f"https://127.0.0.1:{api.port}"}
        client = chain.begin("web-0", "--filter", FILTER, "--reason", "TICKET-7", env=env)
        client.wait_for("web-0:eth0", packets=50)
        bob = {**env, "PCAP_TOKEN": chain.bob}
        access = ("--ca", str(chain.authority.certificate_path), "--json")
        listed = json.loads(chain.pcapctl("captures", *access, env=bob).stdout)
        ((id, user),) = [(entry["capture"], entry["user"]) for entry in listed["captures"]]
        assert (user, listed["captures"][0]["purpose"]) == ("alice", "TICKET-7")
        done = chain.pcapctl("captures", "--stop", id, *access, env=bob)
        assert json.loads(done.stdout) == {"stopped": id}
        result = client.wait()
        assert result.status in (0, 3) and len(result.file.packets) >= 50
        assert any("an operator of the api (bob)" in notice["message"] for notice in result.notices)
        kinds = [record["audit"] for record in api.records() if "audit" in record]
        assert kinds == ["capture_started", "captures_listed", "capture_stop_requested", "capture_ended"]
