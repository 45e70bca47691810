"""Several apis with one database, behind a real nginx."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any, Sequence

from demo.configurations import LOCAL, free_port, merged
from demo.daemons import Daemon
from demo.processes import wait_until
from tests.kit.hosts.chain import Chain, Client
from tests.kit.lab.generator import FILTER
from tests.kit.lab.nginx import nginx
from tests.kit.lab.postgres import Postgres

#: Of the configuration.
PER_USER = 3
#: seconds; shorter than agents wait for an api that is stopped.
LEASE, LEASE_INTERVAL = 6.0, 1.5


class Apis(Chain):
    """A chain with three apis; bob is an operator.

    Attributes:
        database: What they share.
        apis: All apis; the first is `api`.
        nginx: The port of nginx, which asks each api in turn.
        clients: That have captured.
    """

    def __init__(self, directory: Path, database: Postgres) -> None:
        super().__init__(directory)
        self.database = database
        changes = {
            "state": database.url,
            "limits": {"concurrent_captures": 20, "per_user": PER_USER},
            "operators": ["static/bob"],
        }
        self.api.config = merged(self.api.config, changes)
        others = [
            Daemon(
                "api",
                merged(
                    self.api.config, {"id": f"api-{number}", "listen": {"port": free_port()}, "metrics": None}
                ),
                directory,
            )
            for number in (1, 2)
        ]
        self.apis = [self.api, *others]
        for api in self.apis:
            api.limits = {"LEASE": LEASE, "LEASE_INTERVAL": LEASE_INTERVAL}
        self.nginx = free_port()
        self.clients: list[Client] = []

    def start_daemons(self) -> None:
        """Start the agents, the apis and nginx."""
        super().start_daemons()
        for api in self.apis[1:]:
            self._resources.enter_context(api)
        ports = [api.port for api in self.apis]
        answers = lambda: self.curl("", url=self.behind).returncode == 0  # noqa: E731
        self._resources.enter_context(nginx(self.directory, self.authority, self.nginx, ports, answers))

    @property
    def behind(self) -> str:
        """The URL of all apis."""
        return f"https://{LOCAL}:{self.nginx}"

    def at(self, api: int) -> str:
        """The URL of one api."""
        return f"https://{LOCAL}:{self.apis[api].port}"

    def curl(self, query: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[Any]:
        """As that of a chain, also with the URL of another api."""
        return subprocess.run(
            self.curl_command(query, *arguments, **options), capture_output=True, check=False, timeout=60
        )

    def counted(self) -> int:
        """How many captures count: those of apis whose leases have not ended."""
        live = "h.until_us > extract(epoch FROM clock_timestamp()) * 1000000"
        return int(
            self.database.sql(f"SELECT count(*) FROM captures c JOIN holders h ON c.holder = h.id AND {live}")
        )

    def run(self, url: str, count: int = 1) -> list[Client]:
        """Start captures of alice, and wait until each has packets."""
        env = {"PCAP_API": url}
        clients = [self.begin("web-0", "--filter", FILTER, env=env) for _ in range(count)]
        self.clients += clients
        for client in clients:
            client.wait_for("web-0:eth0", packets=1)
        return clients

    def refusal(self, url: str) -> tuple[dict[str, Any], float]:
        """Ask for a short capture: the error, empty if it was admitted, and the seconds that it took."""
        began = time.monotonic()
        done = self.curl("target=web-0&duration=1s&filter=udp+port+9", "--max-time", "30", url=url)
        taken = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        return (json.loads(done.stdout)["errors"][0] if done.stdout.startswith(b"{") else {}), taken

    def curl_health(self, url: str) -> dict[str, Any]:
        """What an api says of its health."""
        ca = str(self.authority.certificate_path)
        done = subprocess.run(
            ["curl", "--silent", "--cacert", ca, f"{url}/health"], capture_output=True, check=True, timeout=30
        )
        return dict(json.loads(done.stdout))

    def await_room(self, url: str, timeout: float) -> float:
        """Ask until a capture is admitted; the seconds that it took."""
        began = time.monotonic()
        wait_until(lambda: not self.refusal(url)[0], "a capture is admitted", timeout=timeout)
        return time.monotonic() - began

    def listed(self, url: str) -> list[dict[str, Any]]:
        """What bob, an operator, sees of running captures."""
        done = self.pcapctl("captures", *self._access(), env=self._bob(url))
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["captures"])

    def end(self, url: str, capture: str) -> None:
        """Let bob end a capture."""
        done = self.pcapctl("captures", "--stop", capture, *self._access(), env=self._bob(url))
        assert json.loads(done.stdout) == {"stopped": capture}, done.stderr

    def _access(self) -> Sequence[str]:
        return ("--ca", str(self.authority.certificate_path), "--json")

    def _bob(self, url: str) -> dict[str, str]:
        return {"PCAP_API": url, "PCAP_TOKEN": self.bob}
