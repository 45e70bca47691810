"""A foundation for the api: Cloud Controller's double, cells' agents, and a real api process."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Optional, Sequence
from urllib.parse import urlencode

from demo.certificates import Authority
from demo.configurations import LOCAL, Config, api_config, free_port, merged
from demo.daemons import Daemon, environment
from demo.processes import wait_until
from tests.kit.doubles.agent import AgentDouble
from tests.kit.doubles.cloud_controller import CfApp, CloudController

#: Seconds that any answer may take.
PATIENCE = 60.0


class Response(NamedTuple):
    """An HTTP answer.

    Attributes:
        whole: The body came to its proper end.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool

    @property
    def error(self) -> dict[str, Any]:
        """The only error in it."""
        (error,) = json.loads(self.body)["errors"]
        return error  # type: ignore[no-any-return]


class Foundation:
    """See `foundation_in`.

    Attributes:
        cc: Cloud Controller; its users' tokens must never be logged.
        cells: The agents, on 127.0.0.2 and so on.
        api: The api's process.
        static_token: Of a user of the static resolver.
        healthy: Whether the api is to be healthy when it has started.
        limits: Of the api, as `demo.daemons.Daemon.limits`.
    """

    healthy = True
    limits: Mapping[str, float] = {}

    def __init__(self, directory: Path, authority: Authority, cells: int, api: Config) -> None:
        self.directory = directory
        self.authority = authority
        self.cc = CloudController(authority.issue("cloud-controller", dns=("localhost",), ips=(LOCAL,)))
        self.static_token = "static-token-of-bob"
        self._port = free_port()
        agent = authority.issue_agent()
        self.cells = [AgentDouble(agent, f"127.0.0.{number + 2}", self._port) for number in range(cells)]
        self._api_changes = api
        self.api: Daemon
        self.resources = contextlib.ExitStack()

    def start(self) -> None:
        """Start everything."""
        self.resources.enter_context(self.cc)
        for cell in self.cells:
            self.resources.enter_context(cell)
        targets = {"cell": {"host": self.cells[0].host, "port": self._port}}
        credentials = self.authority.issue_api()
        base = api_config(credentials, free_port(), targets, {"bob": self.static_token})
        settings = {
            "agents": {"port": self._port, "connect_timeout": "1s"},
            "trusted_proxies": [LOCAL],
            "cloud_foundry": {"api": self.cc.url, "ca": str(self.authority.certificate_path)},
        }
        config = merged(merged(base, settings), self._api_changes)
        self.api = Daemon("api", config, self.directory, healthy=self.healthy)
        self.api.limits = self.limits
        self.resources.enter_context(self.api)

    # --- asking ------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the api serves."""
        return f"https://{LOCAL}:{self.api.port}"

    def connection(self, port: Optional[int] = None) -> http.client.HTTPSConnection:
        """Connect to the api, or to what stands before it."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate_path))
        return http.client.HTTPSConnection(LOCAL, port or self.api.port, timeout=PATIENCE, context=context)

    def get(
        self,
        path: str,
        token: Optional[str] = None,
        query: Sequence[tuple[str, Any]] = (),
        *,
        port: Optional[int] = None,
        **headers: str,
    ) -> Response:
        """GET to the end."""
        connection = self.connection(port)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["Authorization"] = f"bearer {token}"
        connection.request("GET", f"{path}?{urlencode(query)}" if query else path, headers=given)
        answer = connection.getresponse()
        body, whole = b"", True
        try:
            while piece := answer.read1(65536):
                body += piece
        except (http.client.HTTPException, OSError):
            whole = False
        connection.close()
        return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, body, whole)

    def capture(
        self, app: CfApp, token: str, *query: tuple[str, Any], duration: str = "500ms", **options: Any
    ) -> Response:
        """GET /capture for an app."""
        asked = [("appid", app.guid), *query, ("duration", duration)]
        return self.get("/capture", token, asked, **options)

    def pcapctl(self, app: CfApp, token: str, *arguments: str, url: Optional[str] = None) -> Pcapctl:
        """Start ``pcapctl cf``, logged in with a token."""
        return Pcapctl(self, app, token, arguments, url or self.url)

    def log_in(self, app: CfApp, token: str) -> Path:
        """Make a home with what ``cf login`` and ``cf target`` leave there."""
        home = self.directory / "home"
        (home / ".cf").mkdir(parents=True, exist_ok=True)
        login = {
            "AccessToken": f"bearer {token}",
            "AuthorizationEndpoint": self.cc.url,
            "ConfigVersion": 4,
            "RefreshToken": "",
            "SpaceFields": {"GUID": app.space, "Name": "dev", "AllowSSH": True},
            "Target": self.cc.url,
            "UaaEndpoint": self.cc.url,
            "UAAOAuthClient": "cf",
        }
        (home / ".cf" / "config.json").write_text(json.dumps(login))
        return home

    def health(self) -> tuple[int, dict[str, Any]]:
        """Ask GET /health."""
        answer = self.get("/health")
        return answer.status, json.loads(answer.body)

    def wait_for_health(self, healthy: bool) -> dict[str, Any]:
        """Wait until the resolver says so."""

        def state() -> dict[str, Any]:
            return self.health()[1]["resolvers"]["cloud_foundry"]  # type: ignore[no-any-return]

        wait_until(lambda: state()["healthy"] is healthy, f"healthy is {healthy}", timeout=30)
        return state()

    # --- what is left of it ------------------------------------------------

    def audit(self, event: str) -> list[dict[str, Any]]:
        """Return the audit records of one kind."""
        return [record for record in self.api.records() if record.get("audit") == event]

    def assert_discreet(self) -> None:
        """No token is in any file of the api's, at its log level of debug."""
        text = self.api.log()
        assert "DEBUG" in text.upper() or text
        for token in [self.static_token, *self.cc.users]:
            parts = [token, *token.split(".")[1:]]
            assert not any(part in text for part in parts), "a token is in the log"

    def assert_no_agent_was_asked(self) -> None:
        """Nothing was opened anywhere: there was not even a connection."""
        assert [cell.connections for cell in self.cells] == [0] * len(self.cells)


class Pcapctl:
    """A ``pcapctl cf`` as a process."""

    def __init__(
        self, foundation: Foundation, app: CfApp, token: str, arguments: Sequence[str], url: str
    ) -> None:
        home = foundation.log_in(app, token)
        self.output = foundation.directory / "out.pcapng"
        argv = [sys.executable, "-m", "pcapd.ctl", "cf", app.guid, "--api", url, "--force"]
        argv += ["--ca", str(foundation.authority.certificate_path), "--output", str(self.output), *arguments]
        self.process = subprocess.Popen(
            argv,
            cwd=foundation.directory,
            env=environment(CF_HOME=str(home)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def done(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, out, err)


@contextlib.contextmanager
def foundation_in(directory: Path, authority: Authority, cells: int = 2, **api: Any) -> Iterator[Foundation]:
    """A foundation that is up; afterwards no token may be in the api's log.

    Args:
        api: Laid over the api's configuration.
    """
    foundation = Foundation(directory, authority, cells, api)
    with foundation.resources:
        foundation.start()
        yield foundation
    foundation.assert_discreet()
