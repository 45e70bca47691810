"""A BOSH environment for the api: a director, its UAA, agents on VMs, and a real api process."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Iterator

from demo.certificates import Authority
from demo.configurations import LOCAL, merged
from demo.processes import wait_until
from tests.kit.doubles.director import Deployment, Director, Instance
from tests.kit.doubles.uaa import Uaa
from tests.kit.hosts.foundation import Foundation, Response


class Environment(Foundation):
    """See `environment_in`.

    Attributes:
        director: With the deployment `cf`, whose groups are router (two VMs) and smoke-tests (none).
        uaa: Its UAA; the tokens that it gave must never be logged.
        evil: A UAA that has nothing to do with it, and must never be asked.
    """

    def __init__(self, directory: Path, authority: Authority, api: dict[str, Any]) -> None:
        super().__init__(directory, authority, 2, {})
        credentials = authority.issue("director", dns=("localhost",), ips=(LOCAL,))
        self.uaa, self.evil = Uaa(credentials), Uaa(credentials)
        self.director = Director(credentials, self.uaa)
        self.cf = self.director.add(
            Deployment(
                "cf",
                [
                    Instance("router", 0, [self.cells[0].host, "192.0.2.77"]),
                    Instance("router", 1, [self.cells[1].host], az="z2"),
                    Instance("smoke-tests", 0, expects_vm=False, az=None),
                ],
                ["blue"],
            )
        )
        self._bosh_changes = api

    def start(self) -> None:
        """Start everything."""
        for double in (self.uaa, self.evil, self.director):
            self.resources.enter_context(double)
        bosh = {"director": self.director.url, "ca": str(self.authority.certificate_path)}
        bosh["agent_port"] = self._port  # type: ignore[assignment]
        # What agents.port says is for apps.
        changes = {"cloud_foundry": None, "bosh": bosh, "agents": {"port": 9}}
        self._api_changes = merged(changes, self._bosh_changes)
        super().start()

    @property
    def agent_port(self) -> int:
        """Where agents of VMs listen."""
        return self._port

    # --- asking ------------------------------------------------------------

    def admin(self, **claims: Any) -> str:
        """Give alice a token with which she may do everything."""
        return self.director.token("bosh.admin", **claims)

    def vms(self, token: str, *query: tuple[str, Any], duration: str = "500ms", **headers: str) -> Response:
        """GET /capture for the deployment `cf`, unless the query names another; the group router if none."""
        names = {name for name, _ in query}
        asked = [("deployment", "cf")] if "deployment" not in names else []
        asked += [("group", "router")] if not names & {"group", "instance"} else []
        return self.get("/capture", token, [*asked, *query, ("duration", duration)], **headers)

    def wait_for_health(self, healthy: bool) -> dict[str, Any]:
        """Wait until the resolver says so."""

        def state() -> dict[str, Any]:
            return self.health()[1]["resolvers"]["bosh"]  # type: ignore[no-any-return]

        wait_until(lambda: state()["healthy"] is healthy, f"healthy is {healthy}", timeout=60)
        return state()

    # --- what is left of it ------------------------------------------------

    def assert_no_question(self) -> None:
        """Nobody saw the token: not the director, no agent, and no attacker."""
        assert set(self.director.paths()) <= {"/info"}
        assert not any("authorization" in asked.headers for asked in self.uaa.asked)
        assert not self.evil.asked
        self.assert_no_agent_was_asked()

    def assert_discreet(self) -> None:
        """No token is in any file of the api's, at its log level of debug."""
        super().assert_discreet()
        text = self.api.log()
        for token in [*self.uaa.access_tokens, *self.uaa.refresh_tokens]:
            # Without a signature the last part is empty.
            parts = [part for part in (token, *token.split(".")[1:]) if part]
            assert not any(part in text for part in parts), "a token is in the log"


@contextlib.contextmanager
def environment_in(directory: Path, authority: Authority, **api: Any) -> Iterator[Environment]:
    """An environment that is up and known to the api; afterwards no token may be in the api's log.

    Args:
        api: Laid over the api's configuration.
    """
    environment = Environment(directory, authority, api)
    with environment.resources:
        environment.start()
        environment.wait_for_health(True)
        yield environment
    environment.assert_discreet()
