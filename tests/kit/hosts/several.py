"""Several apis with one database, behind a real nginx."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator, Sequence

import pytest

from demo.configurations import LOCAL, free_port, merged
from demo.daemons import Daemon
from demo.processes import end, wait_until
from tests.kit.hosts.chain import Chain, Client
from tests.kit.lab.generator import FILTER
from tests.kit.lab.postgres import Postgres

NGINX = """
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 128; }}
http {{
  access_log off;
  {paths}
  map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
  upstream apis {{ {servers} }}
  server {{
    listen {address}:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {private_key};
    location / {{
      proxy_pass https://apis;
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {ca};
      proxy_ssl_name localhost;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_read_timeout 60s;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }}
  }}
}}
"""
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
        self._resources.enter_context(self._nginx())

    @contextlib.contextmanager
    def _nginx(self) -> Iterator[None]:
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            pytest.skip("nginx is not installed (apt-get install nginx-light)")
        credentials = self.authority.issue_api("nginx")
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        config = self.directory / "nginx.conf"
        config.write_text(
            NGINX.format(
                directory=self.directory,
                paths="\n".join(f"{kind}_temp_path {self.directory}/{kind};" for kind in kinds),
                servers=" ".join(f"server {LOCAL}:{api.port};" for api in self.apis),
                address=LOCAL,
                port=self.nginx,
                certificate=credentials.certificate,
                private_key=credentials.private_key,
                ca=credentials.ca,
            )
        )
        process = subprocess.Popen([program, "-p", str(self.directory), "-c", str(config)])
        try:
            wait_until(lambda: self.curl("", url=self.behind).returncode == 0, "nginx serves")
            yield
        finally:
            end(process)

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
