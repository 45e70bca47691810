"""A UAA whose tokens Cloud Controller accepts, those of people and those of clients."""

from __future__ import annotations

import time
from typing import Any

from tests.kit.doubles.cloud_controller import CloudController, User
from tests.kit.doubles.uaa import Uaa

#: The api's own client.
CLIENT = "pcap-api"
AUDITOR = ["cloud_controller.global_auditor"]


class SigningUaa(Uaa):
    """See the module.

    Attributes:
        people: By name; whose tokens are good at Cloud Controller.
    """

    def __init__(self, *arguments: Any, controller: CloudController, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._controller = controller
        self.people: dict[str, User] = {}
        self.authorities[CLIENT] = list(AUDITOR)

    @property
    def client(self) -> dict[str, str]:
        """The section ``client`` of an api's configuration."""
        return {"id": CLIENT, "secret": self.clients[CLIENT]}

    def token(self, **claims: Any) -> str:
        """Sign an access token."""
        person = self.people.get(claims.get("user", "alice"))
        known = {} if person is None else {"user_id": person.id}
        token = super().token(**{**known, **claims})
        content = self.access_tokens[token]
        if content.get("grant_type") == "client_credentials":
            person = User(content["client_id"], scopes=tuple(content["scope"]))
        if person is not None and content["exp"] > time.time():
            self._controller.users[token] = person
        return token
