"""pcapctl's requests to a BOSH director and its UAA, with the BOSH CLI's login.

Error messages contain HTTP statuses, never UAA's text, which quotes the refresh token.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Callable, List, Mapping, Optional, Tuple, TypeVar
from urllib.parse import urlsplit

from pcapd.clouds.director import Vm, parse_info, parse_instances, refusal
from pcapd.clouds.directorssh import (
    Account,
    Task,
    parse_accounts,
    parse_task,
    ssh_refusal,
    task_id,
    task_refusal,
)
from pcapd.clouds.tokens import lasts
from pcapd.clouds.uaa import LoginProblem, check_url, parse_tokens
from pcapd.ctl.login.boshconfig import Environment, Settings, grant_for
from pcapd.ctl.login.boshlogin import read_environment, save_tokens
from pcapd.ctl.login.cflogin import NotSaved
from pcapd.ctl.login.cloud import CloudProblem
from pcapd.ctl.login.fetch import Answer, Client
from pcapd.errors import Unauthenticated
from pcapd.wire import Deployment

__all__ = ["BoshSession", "DirectorClient"]

T = TypeVar("T")

#: An access token must still be valid for this time, seconds; new ones are valid for 120.
TOKEN_MARGIN = 30.0


class BoshSession:
    """The user's login; expired tokens are replaced.

    Args:
        path: The BOSH CLI's configuration file.
        given: The settings with which the environment was found.
        environment: The director and the login.
        client: HTTP client for the director and UAA.
        warn: Function that shows a problem which does not end the command.
    """

    def __init__(
        self,
        path: Path,
        given: Settings,
        environment: Environment,
        client: Client,
        warn: Callable[[str], None],
    ) -> None:
        self._path = path
        self._given = given
        self._environment = environment
        self._client = client
        self._warn = warn
        # The token of a client is never stored: with a client, a stored token would be another user's.
        self._access = "" if environment.client else environment.access_token
        #: Whether a user's tokens were refreshed.
        self.refreshed = False

    def token(self) -> str:
        """An access token that does not expire soon (`TOKEN_MARGIN`).

        Raises:
            PcapdError: The login has expired, or the director or UAA failed.
        """
        if not lasts(self._access, time.time() + TOKEN_MARGIN):
            self.refresh()
        return self._access

    def refresh(self) -> None:
        """Get a new token, as the BOSH CLI does.

        Raises:
            PcapdError: The login has expired, or the director or UAA failed.
        """
        environment = self._environment
        if not environment.client:
            environment = read_environment(self._path, self._given)
            if environment.access_token != self._access and lasts(
                environment.access_token, time.time() + TOKEN_MARGIN
            ):
                # The BOSH CLI, or another pcapctl, has already refreshed the tokens.
                self._access = environment.access_token
                return
        grant = grant_for(environment)
        uaa = self._uaa()
        answer = self._client.post(f"{uaa}/oauth/token", grant.form, grant.authorization)
        tokens = parse_tokens(answer.body) if answer.status == 200 else None
        if tokens is None:
            raise _not_granted(answer, environment, urlsplit(uaa).hostname or uaa)
        self._access = tokens.access
        if environment.client:
            return
        self.refreshed = True
        try:
            save_tokens(self._path, environment, tokens)
        except NotSaved as error:
            self._warn(f"{error}; you may have to log in again with: bosh log-in")
        self._environment = dataclasses.replace(
            environment, refresh_token=tokens.refresh or environment.refresh_token
        )

    def _uaa(self) -> str:
        answer = self._client.get(f"{self._environment.url}/info")
        if answer.status != 200:
            host = urlsplit(self._environment.url).hostname
            raise CloudProblem(
                f"the director at {host} answered with HTTP status {answer.status}", "is it a BOSH director?"
            )
        url = parse_info(answer.body).uaa.rstrip("/")
        check_url(url, "the UAA URL that the director reports", "report this to the operator")
        return url


def _not_granted(answer: Answer, environment: Environment, host: str) -> Exception:
    if answer.status in (400, 401, 403):
        if environment.client:
            hint = "check BOSH_CLIENT and BOSH_CLIENT_SECRET"
            return LoginProblem(f"UAA at {host} does not accept client {environment.client}", hint)
        hint = f"log in with: bosh -e {environment.key} log-in"
        return LoginProblem("your BOSH login has expired", hint)
    return CloudProblem(
        f"UAA at {host} did not issue a token: HTTP status {answer.status}", "try again later"
    )


class DirectorClient:
    """Requests to the director: a deployment's instances, and ssh on its VMs.

    Args:
        url: The director's URL.
        session: The user's login.
        client: HTTP client for the director.
    """

    def __init__(self, url: str, session: BoshSession, client: Client) -> None:
        self._url = url
        self._session = session
        self._client = client

    def instances(self, wanted: Deployment) -> Tuple[Vm, ...]:
        """The instances of a deployment; its name must have been checked.

        Raises:
            PcapdError: The deployment does not exist or is not visible, or the request failed.
        """
        return self._accepted(lambda: self._instances(wanted))

    def _accepted(self, ask: Callable[[], T]) -> T:
        """Send a request, and once more with a new token if the director does not accept the first."""
        try:
            return ask()
        except Unauthenticated:
            # The director's clock differs, or UAA has a new key.
            self._session.refresh()
        return ask()

    def _instances(self, wanted: Deployment) -> Tuple[Vm, ...]:
        url = f"{self._url}/deployments/{wanted.name}/instances"
        answer = self._client.get(url, self._session.token())
        if answer.status != 200:
            raise refusal(answer.status, answer.body, wanted.name)
        return parse_instances(answer.body)

    # --- ssh ------------------------------------------------------------------

    def ssh(self, deployment: str, request: Mapping[str, Any], *, timeout: Optional[float] = None) -> int:
        """Send a request for ssh on VMs, and return the number of the task that does it.

        Args:
            request: Made by `pcapd.clouds.directorssh`.
            timeout: Seconds for the exchange; None for the usual time.

        Raises:
            PcapdError: The director refuses, or did not answer.
        """
        return self._accepted(lambda: self._ssh(deployment, request, timeout))

    def _ssh(self, deployment: str, request: Mapping[str, Any], timeout: Optional[float]) -> int:
        url = f"{self._url}/deployments/{deployment}/ssh"
        answer = self._client.post_json(url, request, self._session.token(), timeout=timeout)
        if answer.status not in (302, 303):
            raise ssh_refusal(answer.status, answer.body, deployment)
        return task_id(answer.headers.get("location"))

    def task(self, number: int) -> Task:
        """The state of a task.

        Raises:
            PcapdError: The request failed.
        """
        return parse_task(self._accepted(lambda: self._about_task(f"tasks/{number}")))

    def accounts(self, number: int) -> List[Account]:
        """The accounts that a finished task has made.

        Raises:
            PcapdError: The request failed.
        """
        path = f"tasks/{number}/output?type=result"
        return parse_accounts(self._accepted(lambda: self._about_task(path)))

    def _about_task(self, path: str) -> bytes:
        answer = self._client.get(f"{self._url}/{path}", self._session.token())
        if answer.status == 401:
            raise Unauthenticated("the director does not accept the token", "log in again: bosh log-in")
        if answer.status not in (200, 204):
            raise task_refusal(answer.status)
        return answer.body
