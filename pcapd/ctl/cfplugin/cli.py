"""The cf CLI as its plugins see it: an RPC server on this machine, as long as the command runs."""

from __future__ import annotations

import socket
import time
from typing import Any, Dict, Type, TypeVar

from pcapd.clouds.uaa import LoginProblem, check_url
from pcapd.ctl.cfplugin.calls import Call, CallRefused
from pcapd.ctl.cfplugin.gob import STRING, Kind
from pcapd.ctl.login.cfconfig import Login
from pcapd.ctl.stopping import Parent
from pcapd.errors import PcapdError, RemoteProtocolError

__all__ = ["CfCli", "CliUnreachable", "RpcSession"]

T = TypeVar("T", str, bool, Dict[str, Any])

#: Attempts to connect, and seconds between them, as Go's plugins do it.
ATTEMPTS, PAUSE = 5, 0.2
#: Seconds for one reply: the cf CLI may have to ask UAA for a new token.
REPLY_TIMEOUT = 60.0

_LOG_IN = "log in with: cf login"


class CliUnreachable(PcapdError):
    """There is no cf CLI behind the port."""


class CfCli:
    """Asks the cf CLI that started us.

    Args:
        port: On the loopback interface.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._parent = Parent("the cf CLI")

    def parent(self) -> Parent:
        """The cf CLI as the program whose end is ours.  Ctrl-C kills it without a word.

        Raises:
            CliUnreachable: It is gone already.
        """
        try:
            self._parent.hold(self._connect())
        except OSError as error:
            raise self._unreachable(error) from error
        return self._parent

    def call(self, method: str, kind: Kind = STRING, argument: Any = "") -> Any:
        """Call a method and return its reply.

        Raises:
            CliUnreachable: There is no answer.
            RemoteProtocolError: The answer is not one.
            CallRefused: The answer is an error.
        """
        call = Call(method, kind, argument)
        deadline = time.monotonic() + REPLY_TIMEOUT
        try:
            with self._connect() as connection:
                connection.sendall(call.request)
                while True:
                    connection.settimeout(max(0.001, deadline - time.monotonic()))
                    data = connection.recv(65536)
                    if not data:
                        raise CliUnreachable("the cf CLI closed the connection", _START)
                    if call.receive(data):
                        return call.reply
        except socket.timeout as error:
            raise CliUnreachable(f"the cf CLI did not answer within {REPLY_TIMEOUT:g} s") from error
        except OSError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: OSError) -> CliUnreachable:
        return CliUnreachable(f"no cf CLI on port {self._port}: {error.strerror or error}", _START)

    def _connect(self) -> socket.socket:
        for _ in range(ATTEMPTS - 1):
            try:
                return socket.create_connection(("127.0.0.1", self._port), REPLY_TIMEOUT)
            except ConnectionError:
                time.sleep(PAUSE)
        return socket.create_connection(("127.0.0.1", self._port), REPLY_TIMEOUT)

    def _typed(self, method: str, kind: Type[T]) -> T:
        reply = self.call(method)
        if not isinstance(reply, kind):
            raise RemoteProtocolError(f"the cf CLI answers {method} with another type")
        return reply

    def login(self) -> Login:
        """Who is logged in where, and what they target; without a token.

        Raises:
            LoginProblem: Nobody is.
        """
        target = self._typed("ApiEndpoint", str).rstrip("/")
        if not target:
            hint = "name it with: cf login -a https://api.example.com"
            raise LoginProblem("the cf CLI has no api", hint)
        check_url(target, "the cf CLI's api", "name another with: cf login -a https://api.example.com")
        if not self._typed("IsLoggedIn", bool):
            raise LoginProblem("the cf CLI is not logged in", _LOG_IN)
        org = _fields(self._typed("GetCurrentOrg", dict), "OrganizationFields")
        space = _fields(self._typed("GetCurrentSpace", dict), "SpaceFields")
        return Login(
            target=target,
            org=_text(org, "Name"),
            space=_text(space, "Name"),
            space_guid=_text(space, "Guid"),
            ssl_disabled=self._typed("IsSSLDisabled", bool),
        )

    def token(self) -> str:
        """An access token that is good for a minute at least; the cf CLI renews it where it must.

        Raises:
            LoginProblem: The login is over.
        """
        try:
            scheme, _, token = self._typed("AccessToken", str).partition(" ")
        except CallRefused as error:
            raise LoginProblem("the cf CLI gives no token", _LOG_IN) from error
        if scheme.lower() != "bearer" or not token.isascii() or not token.isprintable() or not token.strip():
            raise LoginProblem("the cf CLI gives no token", _LOG_IN)
        return token.strip()


_START = "use it as: cf pcap APP"


def _fields(value: Any, name: str) -> Any:
    inner = value.get(name, {})
    return inner if isinstance(inner, dict) else {}


def _text(value: Any, name: str) -> str:
    text = value.get(name, "")
    return text if isinstance(text, str) else ""


class RpcSession:
    """The user's tokens, kept fresh by the cf CLI."""

    #: New tokens are the cf CLI's business.
    refreshed = False

    def __init__(self, cli: CfCli) -> None:
        self._cli = cli

    def token(self) -> str:
        """A token that is good for a while."""
        return self._cli.token()

    def refresh(self) -> None:
        """Nothing: the cf CLI renews what it knows to be over."""
