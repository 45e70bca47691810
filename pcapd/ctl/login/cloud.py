"""pcapctl's requests to Cloud Controller (v3) and UAA, with the cf CLI's login.

Error messages contain HTTP statuses and the titles of errors, never the details, in
which UAA quotes the refresh token.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NoReturn, Optional, Protocol, Tuple
from urllib.parse import urljoin, urlsplit

from pcapd.clouds.cloudcontroller import error_title
from pcapd.clouds.reading import AGAIN, retry_seconds
from pcapd.clouds.tokens import lasts
from pcapd.clouds.uaa import LoginProblem, check_url, parse_tokens
from pcapd.ctl.login.cfconfig import (
    Login,
    grant_for,
    list_parameter,
)
from pcapd.ctl.login.cflogin import NotSaved, read_login, save_tokens
from pcapd.ctl.login.fetch import Answer, Client
from pcapd.errors import LimitReached, PcapdError, TargetNotFound, Unauthenticated

__all__ = ["CfSession", "CloudController", "CloudProblem", "TokenSource"]

#: An access token must still be valid for this time, seconds; the same as in the cf CLI.
TOKEN_MARGIN = 60.0
#: Largest number of pages that are read of a list of apps.
PAGES_MAX = 20
#: Number of apps on a page of the list of all apps of a space.
PER_PAGE = 100

_LOG_IN = "log in with: cf login"


class CloudProblem(PcapdError):
    """Cloud Controller or UAA refused or failed a request."""


class TokenSource(Protocol):
    """The source of access tokens: the cf CLI's configuration, or the cf CLI itself."""

    refreshed: bool

    def token(self) -> str:
        """An access token that stays valid for a while."""
        ...

    def refresh(self) -> None:
        """Get a new token, because the current one was refused."""
        ...


class CfSession:
    """The user's tokens; expired ones are replaced.

    Args:
        path: The cf CLI's configuration file.
        login: The login in this file.
        client: HTTP client for UAA.
        warn: Function that shows a problem which does not end the command.
    """

    def __init__(self, path: Path, login: Login, client: Client, warn: Callable[[str], None]) -> None:
        self._path = path
        self._client = client
        self._warn = warn
        self.login = login
        #: Whether the tokens were refreshed.
        self.refreshed = False

    def token(self) -> str:
        """An access token that stays valid for a while.

        Raises:
            LoginProblem: The login has expired.
            CloudProblem: UAA failed, or its answer is invalid.
        """
        if not lasts(self.login.access_token, time.time() + TOKEN_MARGIN):
            self.refresh()
        return self.login.access_token

    def refresh(self) -> None:
        """Get new tokens, as the cf CLI does.

        Raises:
            LoginProblem: The login has expired.
            CloudProblem: UAA failed, or its answer is invalid.
        """
        current = read_login(self._path)
        if current.access_token != self.login.access_token and lasts(
            current.access_token, time.time() + TOKEN_MARGIN
        ):
            # The cf CLI, or another pcapctl, has already refreshed the tokens.
            self.login = current
            return
        endpoint = current.authorization_endpoint
        hint = "log in again with: cf login"
        check_url(endpoint, "the cf CLI's AuthorizationEndpoint", hint)
        grant = grant_for(current)
        answer = self._client.post(f"{endpoint.rstrip('/')}/oauth/token", grant.form, grant.authorization)
        tokens = parse_tokens(answer.body) if answer.status == 200 else None
        if tokens is None:
            _refresh_failed(answer, urlsplit(endpoint).hostname or endpoint)
        self.refreshed = True
        try:
            save_tokens(self._path, current, tokens)
        except NotSaved as error:
            self._warn(f"{error}; you may have to log in again with: cf login")
        self.login = _with(current, tokens.access, tokens.refresh)


def _with(login: Login, access: str, refresh: str) -> Login:
    return dataclasses.replace(login, access_token=access, refresh_token=refresh or login.refresh_token)


def _refresh_failed(answer: Answer, host: str) -> NoReturn:
    if answer.status in (400, 401, 403):
        raise LoginProblem("your cf login has expired", _LOG_IN)
    _check_load(answer, f"UAA at {host}")
    raise CloudProblem(f"UAA at {host} did not issue a token: HTTP status {answer.status}", "is it UAA?")


class CloudController:
    """Requests data about apps from Cloud Controller.

    Args:
        url: Cloud Controller's URL.
        session: The user's tokens.
        client: HTTP client for Cloud Controller.
    """

    def __init__(self, url: str, session: TokenSource, client: Client) -> None:
        self._url = url
        self._host = urlsplit(url).hostname or url
        self._session = session
        self._client = client

    def pcap_link(self) -> Optional[str]:
        """The pcap api's URL in the root document, or None.

        Raises:
            PcapdError: Cloud Controller failed, or its answer is invalid.
        """
        answer = self._client.get(f"{self._url}/")
        links = answer.json().get("links")
        if answer.status != 200 or not isinstance(links, dict):
            self._failed(answer)
        link = links.get("pcap")
        href = link.get("href") if isinstance(link, dict) else None
        if href is not None and not isinstance(href, str):
            raise CloudProblem(f"the pcap link of {self._host} is not text", "name the api with --api")
        return href or None

    def app_guid(self, name: str, space_guid: str) -> Optional[str]:
        """GUID of the app with exactly this name in a space; None if there is none.

        Raises:
            PcapdError: Cloud Controller failed, or its answer is invalid.
        """
        query = f"names={list_parameter(name)}&space_guids={list_parameter(space_guid)}"
        url: Optional[str] = f"{self._url}/v3/apps?{query}"
        for _ in range(PAGES_MAX):
            if url is None:
                return None
            answer = self._get(url)
            for app in self._resources(answer):
                # Cloud Controller's filter ignores case.
                if app.get("name") == name and isinstance(app.get("guid"), str):
                    return str(app["guid"])
            url = self._next(answer, url)
        raise CloudProblem(
            f"the list of apps of {self._host} does not end", "use the GUID that `cf app NAME --guid` prints"
        )

    def apps(self, space_guid: str) -> List[Tuple[str, str]]:
        """Names and GUIDs of the apps of a space, sorted by name, up to a limit.

        Raises:
            PcapdError: Cloud Controller failed, or its answer is invalid.
        """
        query = f"space_guids={list_parameter(space_guid)}&order_by=name&per_page={PER_PAGE}"
        url: Optional[str] = f"{self._url}/v3/apps?{query}"
        found = []
        for _ in range(PAGES_MAX):
            if url is None:
                break
            answer = self._get(url)
            for app in self._resources(answer):
                if isinstance(app.get("name"), str) and isinstance(app.get("guid"), str):
                    found.append((app["name"], app["guid"]))
            url = self._next(answer, url)
        return found

    def about_app(self, guid: str, what: str = "", missing: Optional[PcapdError] = None) -> bytes:
        """The body of the answer to ``GET /v3/apps/GUID``.

        Args:
            guid: The app's GUID, which was checked.
            what: The rest of the path, for example ``/ssh_enabled``.
            missing: The error for an answer 404; by default, that there is no app.

        Raises:
            TargetNotFound: There is no such app, or the user may not see it.
            PcapdError: Cloud Controller failed.
        """
        return self._get(f"{self._url}/v3/apps/{guid}{what}", missing or _no_app(guid)).body

    def _get(self, url: str, missing: Optional[PcapdError] = None) -> Answer:
        """Send GET with the user's token.

        Args:
            missing: The error for an answer 404; by default, that this is not Cloud Controller.
        """
        answer = self._client.get(url, self._session.token())
        if answer.status == 401:
            # Cloud Controller does not accept the token any more: its clock differs, or it was revoked.
            self._session.refresh()
            answer = self._client.get(url, self._session.token())
        if answer.status == 404 and missing is not None:
            raise missing
        if answer.status != 200:
            self._failed(answer)
        return answer

    def _resources(self, answer: Answer) -> List[Dict[str, Any]]:
        resources = answer.json().get("resources")
        if not isinstance(resources, list):
            self._failed(answer)
        return [app for app in resources if isinstance(app, dict)]

    def _next(self, answer: Answer, url: str) -> Optional[str]:
        pagination = answer.json().get("pagination")
        following = pagination.get("next") if isinstance(pagination, dict) else None
        href = following.get("href") if isinstance(following, dict) else None
        if not isinstance(href, str):
            return None
        try:
            target = urljoin(url, href)
            here = urlsplit(target)[:2] == urlsplit(url)[:2]
        except ValueError:  # for example for an unclosed bracket
            here = False
        if not here:
            # The token must be sent only to the host of the login.
            raise CloudProblem(f"the next page of {self._host} is on another host")
        return target

    def _failed(self, answer: Answer) -> NoReturn:
        server = f"Cloud Controller at {self._host}"
        _check_load(answer, server)
        if answer.status == 401:
            raise Unauthenticated(f"{server} does not accept your login", _LOG_IN)
        if answer.status == 403:
            raise CloudProblem(f"{server} does not let you read apps{_title(answer)}", "check: cf target")
        if answer.status == 404:
            raise TargetNotFound(
                f"{server} does not provide apps{_title(answer)}", "is it Cloud Controller? check: cf api"
            )
        if answer.status == 200:
            raise CloudProblem(f"{self._host} does not answer like Cloud Controller", "check: cf api")
        raise CloudProblem(
            f"{server} answered with HTTP status {answer.status}{_title(answer)}", "check: cf api"
        )


def _no_app(guid: str) -> TargetNotFound:
    return TargetNotFound(f"there is no app {guid}, or you may not see it", "cf apps lists those you may see")


def _check_load(answer: Answer, server: str) -> None:
    """Raise for errors that may be temporary."""
    if answer.status == 429:
        raise LimitReached(f"{server} limits how often you may ask{_title(answer)}", _later(answer))
    if answer.status >= 500:
        raise CloudProblem(f"{server} failed: HTTP status {answer.status}{_title(answer)}", _later(answer))


def _later(answer: Answer) -> str:
    seconds = retry_seconds(answer.headers.get("retry-after"))
    return AGAIN if seconds is None else f"try again in {seconds} s"


def _title(answer: Answer) -> str:
    """The title of Cloud Controller's error in the answer, if any."""
    title = error_title(answer.json())
    return f" ({title})" if title else ""
