"""Client of the cf CLI's RPC server for plugins, which runs as long as the command."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any, Dict, Type, TypeVar

from pcapd.clouds.uaa import LoginProblem, check_url
from pcapd.ctl.cfplugin.calls import Call, CallRefused
from pcapd.ctl.cfplugin.gob import STRING, Kind
from pcapd.ctl.login.cfconfig import Login
from pcapd.ctl.stopping import Parent
from pcapd.errors import PcapdError, RemoteProtocolError

__all__ = ["CfCli", "CliUnreachable", "RpcSession"]

T = TypeVar("T", str, bool, Dict[str, Any])

#: Attempts to connect, and seconds between them, as in plugins written in Go.
ATTEMPTS, PAUSE = 5, 0.2
#: Seconds for one reply: the cf CLI may need a new token from UAA.
REPLY_TIMEOUT = 60.0

_LOG_IN = "log in with: cf login"


class CliUnreachable(PcapdError):
    """The cf CLI does not answer on its port."""


class CfCli:
    """Sends requests to the cf CLI that started us.

    Args:
        port: Its port on the loopback interface.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._parent = Parent("the cf CLI")

    def parent(self) -> Parent:
        """The cf CLI as the program whose exit stops us.  Ctrl-C kills it without a message.

        Raises:
            CliUnreachable: It has exited already.
        """
        try:
            self._parent.hold(self._connect())
        except OSError as error:
            raise self._unreachable(error) from error
        return self._parent

    @property
    def program(self) -> str:
        """The cf CLI's own program, to run it again; where the system does not tell, the one in PATH."""
        with contextlib.suppress(OSError):
            path = Path(f"/proc/{os.getppid()}/exe").readlink()
            # If the cf CLI has ended, the parent is another program.
            if path.name.startswith("cf") and os.access(path, os.X_OK):
                return str(path)
        return "cf"

    def call(self, method: str, kind: Kind = STRING, argument: Any = "") -> Any:
        """Call a method and return its reply.

        Raises:
            CliUnreachable: There was no reply.
            RemoteProtocolError: The reply is invalid.
            CallRefused: The reply is an error.
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
        return CliUnreachable(
            f"cannot connect to the cf CLI on port {self._port}: {error.strerror or error}", _START
        )

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
            raise RemoteProtocolError(f"the cf CLI's reply to {method} has the wrong type")
        return reply

    def login(self) -> Login:
        """The user's login and target, without a token.

        Raises:
            LoginProblem: The user is not logged in.
        """
        target = self._typed("ApiEndpoint", str).rstrip("/")
        if not target:
            hint = "set it with: cf login -a https://api.example.com"
            raise LoginProblem("the cf CLI has no api endpoint", hint)
        check_url(
            target, "the cf CLI's api endpoint", "set another with: cf login -a https://api.example.com"
        )
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
        """An access token that is valid for at least a minute; the cf CLI refreshes it if needed.

        Raises:
            LoginProblem: The login has expired.
        """
        try:
            scheme, _, token = self._typed("AccessToken", str).partition(" ")
        except CallRefused as error:
            raise LoginProblem("the cf CLI did not provide a token", _LOG_IN) from error
        if scheme.lower() != "bearer" or not token.isascii() or not token.isprintable() or not token.strip():
            raise LoginProblem("the cf CLI did not provide a token", _LOG_IN)
        return token.strip()


_START = "start the plugin with: cf pcap APP"


def _fields(value: Any, name: str) -> Any:
    inner = value.get(name, {})
    return inner if isinstance(inner, dict) else {}


def _text(value: Any, name: str) -> str:
    text = value.get(name, "")
    return text if isinstance(text, str) else ""


class RpcSession:
    """The user's tokens, refreshed by the cf CLI."""

    #: Always false: the cf CLI refreshes the tokens.
    refreshed = False

    def __init__(self, cli: CfCli) -> None:
        self._cli = cli

    def token(self) -> str:
        """A token that stays valid for a while."""
        return self._cli.token()

    def refresh(self) -> None:
        """Do nothing: the cf CLI refreshes expired tokens itself."""
