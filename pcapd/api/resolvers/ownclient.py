"""The api's own UAA client: fetches its token, keeps it for most of its life, and renews it.

The token is sent only to Cloud Controller, and the secret only to the UAA that Cloud Controller's root
document names.  Neither is logged.  A client that may not read all roles is refused here: Cloud Controller
would answer it with fewer roles than there are, and users would seem to have lost theirs.

Source: RFC 6749, section 4.4; cf's and UAA's client sends its credentials in the form.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from pcapd.clouds.roles import AUDITORS
from pcapd.clouds.uaa import ClientToken, parse_client_token
from pcapd.config.schema import CloudFoundryClient
from pcapd.errors import ConfigError, RequestError, ResolverUnavailable
from pcapd.limits import CLIENT_TOKEN_MARGIN, CLIENT_TOKEN_PAUSE, SECRET_MAX
from pcapd.net.fetch import Authority, Trust
from pcapd.net.reactor import Reactor

__all__ = ["OwnClient", "check_client"]


class OwnClient:
    """See the module.

    Args:
        reactor: The reactor.
        config: The section ``cloud_foundry.client``.
        trust: The CAs of UAA's certificate.

    Raises:
        ConfigError: The file with the secret cannot be used.
    """

    log = Logger()

    def __init__(self, reactor: Reactor, config: CloudFoundryClient, trust: Trust) -> None:
        self._reactor = reactor
        self._config = config
        self._trust = trust
        self._secret = _secret(config)
        self._url = ""
        self._uaa: Authority | None = None
        self._one_at_a_time = DeferredLock()
        self._token: ClientToken | None = None
        self._until = 0.0  # it is used until this time of the reactor's clock
        self._trouble: RequestError | None = None
        self._not_before = 0.0  # UAA is not asked again before this time

    def prepare(self) -> Callable[[], None]:
        """Read the secret again; call the result to use it.

        Raises:
            ConfigError: The file with the secret cannot be used.
        """
        secret = _secret(self._config)

        def use() -> None:
            if self._uaa is not None:
                self._uaa.renew()
            if secret != self._secret:
                self._secret, self._token = secret, None
            self._not_before = 0.0

        return use

    def close(self) -> None:
        """Close idle connections, and busy ones after their answer."""
        if self._uaa is not None:
            self._uaa.close()

    async def try_it(self, uaa: str) -> None:
        """Fetch a token if there is none, so that a wrong secret is in the log before somebody needs it."""
        # It is logged, and not raised: users with a token of their own can capture all the same.
        with contextlib.suppress(ResolverUnavailable):
            await self.get(uaa)

    async def get(self, uaa: str) -> str:
        """Get the token.

        Args:
            uaa: URL of UAA, from Cloud Controller's root document.

        Raises:
            ResolverUnavailable: UAA gives none.
        """
        await self._one_at_a_time.acquire()
        try:
            now = self._reactor.seconds()
            if self._token is None or now >= self._until:
                if self._trouble is not None and now < self._not_before:
                    raise self._trouble
                await self._renew(uaa)
            assert self._token is not None
            return self._token.access
        finally:
            self._one_at_a_time.release()

    def forget(self, token: str) -> None:
        """Fetch another token next time: Cloud Controller has not accepted this one."""
        if self._token is not None and self._token.access == token:
            self._token = None

    async def _renew(self, uaa: str) -> None:
        try:
            token = await self._fetch(uaa)
        except ResolverUnavailable as error:
            if self._trouble is None or error.message != self._trouble.message:
                self.log.warn(
                    "no token for the api's own client {id}: {reason}", id=self._config.id, reason=str(error)
                )
            self._trouble, self._not_before = error, self._reactor.seconds() + CLIENT_TOKEN_PAUSE
            raise
        self._token, self._trouble = token, None
        margin = min(CLIENT_TOKEN_MARGIN, token.seconds / 2)
        self._until = self._reactor.seconds() + token.seconds - margin
        self.log.info(
            "the api's own client {id} has a token for {seconds} s", id=self._config.id, seconds=token.seconds
        )

    async def _fetch(self, uaa: str) -> ClientToken:
        if not uaa:
            raise ResolverUnavailable("Cloud Controller does not name its UAA")
        if self._uaa is None or uaa != self._url:
            self._url, self._uaa = uaa, Authority(self._reactor, "UAA", uaa, self._trust)
        form = {
            "grant_type": "client_credentials",
            "client_id": self._config.id,
            "client_secret": self._secret,
            "token_format": "jwt",
        }
        # The URL of UAA may contain a path.
        path = uaa.rstrip("/").removeprefix(self._uaa.base)
        answer = await self._uaa.post(f"{path}/oauth/token", form)
        if answer.status in {400, 401, 403}:
            raise ResolverUnavailable(
                f"UAA does not accept the api's own client ({answer.status})",
                "ask the operator to check cloud_foundry.client",
            )
        if answer.status != 200:
            raise ResolverUnavailable(f"UAA answered with an error ({answer.status})", "try again later")
        token = parse_client_token(answer.body)
        if not token.scopes & AUDITORS:
            raise ResolverUnavailable(
                "the api's own client lacks the authority cloud_controller.global_auditor",
                "ask the operator to add it",
            )
        return token


def check_client(config: CloudFoundryClient | None) -> None:
    """Check that the file with the secret can be read; UAA is not asked.

    Raises:
        ConfigError: It cannot.
    """
    if config is not None:
        _secret(config)


def _secret(config: CloudFoundryClient) -> str:
    return config.secret if config.secret_file is None else _read(config.secret_file)  # type: ignore[return-value]


def _read(path: Path) -> str:
    """The first line of a file."""
    problem = ""
    try:
        with path.open("rb") as stream:
            data = stream.read(SECRET_MAX + 1)
        lines = data.decode().splitlines()
        if len(data) > SECRET_MAX or not lines or not lines[0] or any(lines[1:]):
            problem = f"{path} must have one line with the secret"
    except (OSError, UnicodeDecodeError) as error:
        problem = f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not text'}"
    if problem:
        raise ConfigError("configuration", [f"cloud_foundry.client.secret_file: {problem}"])
    return lines[0]
