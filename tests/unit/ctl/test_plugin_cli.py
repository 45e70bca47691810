"""The cf CLI as its plugin sees it: replies, true or not, the login that they make, and how it is started."""

from __future__ import annotations

import socket
import sys
from typing import Any, Dict, List, Optional, Tuple, Union

import click
import pytest

import pcapd.ctl.cfplugin.command
import pcapd.ctl.main
from pcapd.clouds.uaa import LoginProblem
from pcapd.ctl.__main__ import start
from pcapd.ctl.cfplugin.cli import CfCli, CliUnreachable
from pcapd.ctl.cfplugin.gob import BOOL, STRING, UINT, Decoder, Encoder, Kind, Struct
from pcapd.ctl.cfplugin.metadata import metadata
from pcapd.errors import RemoteProtocolError

RESPONSE = Struct("Response", (("ServiceMethod", STRING), ("Seq", UINT), ("Error", STRING)))
ORG = Struct("Org", (("OrganizationFields", Struct("OrganizationFields", (("Name", STRING),))),))
SPACE = Struct("Space", (("SpaceFields", Struct("SpaceFields", (("Guid", STRING), ("Name", STRING)))),))

#: A reply: its type and itself; or the bytes, or an error, that come instead.
Reply = Union[Tuple[Kind, Any], bytes, OSError]


class Line:
    """A connection to the cf CLI, which answers by the method; a byte at a time, and then it closes."""

    def __init__(self, replies: Dict[str, Reply]) -> None:
        self._replies = replies
        self._pieces: List[bytes] = []
        self._closed = False

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        assert 0 < seconds <= 60

    def sendall(self, request: bytes) -> None:
        method = Decoder().feed(request)[0]["ServiceMethod"]
        reply = self._replies[method.partition(".")[2]]
        if isinstance(reply, OSError):
            raise reply
        data = reply if isinstance(reply, bytes) else answered(method, *reply)
        self._pieces = [data[at : at + 1] for at in range(len(data))]

    def recv(self, size: int) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        assert not self._closed, "it reads on behind the end"
        self._closed = True
        return b""


def answered(method: str, kind: Kind, value: Any, error: str = "") -> bytes:
    encoder = Encoder()
    return encoder.encode(RESPONSE, {"ServiceMethod": method, "Error": error}) + encoder.encode(kind, value)


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> Dict[str, Reply]:
    """Return what a cf CLI replies that somebody is logged in to."""
    replies: Dict[str, Reply] = {
        "ApiEndpoint": (STRING, "https://api.x"),
        "IsLoggedIn": (BOOL, True),
        "IsSSLDisabled": (BOOL, True),
        "GetCurrentOrg": (ORG, {"OrganizationFields": {"Name": "acme"}}),
        "GetCurrentSpace": (SPACE, {"SpaceFields": {"Guid": "space-guid", "Name": "dev"}}),
        "AccessToken": (STRING, "bearer a.token"),
    }
    monkeypatch.setattr(CfCli, "_connect", lambda cli: Line(replies))
    return replies


def test_a_login(replies: Dict[str, Reply]) -> None:
    """The login has api, user and space; the token is asked for only when needed."""
    login = CfCli(1).login()
    assert (login.target, login.org, login.space) == ("https://api.x", "acme", "dev")
    assert (login.space_guid, login.ssl_disabled, login.access_token) == ("space-guid", True, "")
    assert CfCli(1).token() == "a.token"


def test_an_api_with_a_slash(replies: Dict[str, Reply]) -> None:
    """A slash at the end of the api's address is dropped, as in the cf CLI's file."""
    replies["ApiEndpoint"] = (STRING, "https://api.x/")
    assert CfCli(1).login().target == "https://api.x"


@pytest.mark.parametrize(
    ("method", "reply", "words"),
    [
        ("ApiEndpoint", (STRING, ""), "has no api"),
        ("ApiEndpoint", (STRING, "http://api.x"), "a token is not sent in clear"),
        ("ApiEndpoint", (STRING, "https://user@api.x"), "is not an https URL"),
        ("IsLoggedIn", (BOOL, False), "is not logged in"),
    ],
)
def test_no_login(replies: Dict[str, Reply], method: str, reply: Reply, words: str) -> None:
    """An incomplete login is refused with what is missing, and no token is sent without TLS."""
    replies[method] = reply
    with pytest.raises(LoginProblem, match=words):
        CfCli(1).login()


@pytest.mark.parametrize("method", ["ApiEndpoint", "IsLoggedIn", "GetCurrentOrg", "IsSSLDisabled"])
def test_a_reply_of_another_type(replies: Dict[str, Reply], method: str) -> None:
    """A reply of another type is refused."""
    replies[method] = (UINT, 7)
    with pytest.raises(RemoteProtocolError, match=f"reply to {method} has the wrong type"):
        CfCli(1).login()


@pytest.mark.parametrize(
    "token", ["", "bearer", "bearer ", "bearer    ", "basic abc", "abc", "bearer a\r\nb", "bearer tökén"]
)
def test_no_token(replies: Dict[str, Reply], token: str) -> None:
    """A token that cannot be a header is refused without being repeated."""
    replies["AccessToken"] = (STRING, token)
    with pytest.raises(LoginProblem, match=r"^the cf CLI did not provide a token [^\r]*cf login"):
        CfCli(1).token()


def test_a_token_that_is_refused(replies: Dict[str, Reply]) -> None:
    """The cf CLI's own words, which may hold anything, are not repeated."""
    replies["AccessToken"] = answered("CliRpcCmd.AccessToken", STRING, "", error="the token is secret-r")
    with pytest.raises(LoginProblem, match="did not provide a token") as caught:
        CfCli(1).token()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"", "closed the connection"),
        (answered("CliRpcCmd.AccessToken", STRING, "bearer a")[:-1], "closed the connection"),
        (socket.timeout(), "did not answer within 60 s"),
        (ConnectionResetError(104, "reset"), "cannot connect to the cf CLI on port 1: reset"),
    ],
)
def test_no_reply(replies: Dict[str, Reply], reply: Reply, words: str) -> None:
    """A connection that ends before a whole reply is an error."""
    replies["AccessToken"] = reply
    with pytest.raises(CliUnreachable, match=words):
        CfCli(1).token()


def test_options_that_help_has() -> None:
    """Options are listed by their longest names, without arguments and hidden options."""
    command = click.Command(
        "x",
        params=[
            click.Argument(["app"]),
            click.Option(["-o", "--output"], help="Where to."),
            click.Option(["--secret"], hidden=True),
        ],
    )
    details = metadata(command, "1.2.3")["Commands"][0]["UsageDetails"]
    assert details["Options"] == {"output": "Where to. (also -o)"}


@pytest.mark.parametrize(
    ("arguments", "plugin"),
    [
        (["1", "pcap"], True),
        (["65535", "pcap"], True),
        (["0", "pcap"], False),
        (["65536", "pcap"], False),
        (["000001", "pcap"], False),
        (["-1", "pcap"], False),
        (["²", "pcap"], False),
        (["٣", "pcap"], False),
        (["cf", "pcap"], False),
        (["1"], False),
        ([], False),
    ],
)
def test_who_starts_us(monkeypatch: pytest.MonkeyPatch, arguments: List[str], plugin: bool) -> None:
    """A port in front is the cf CLI's; everything else is a command line of ours."""
    started: List[Optional[List[str]]] = []

    def note(given: Optional[List[str]] = None) -> None:
        started.append(given)
        raise SystemExit

    monkeypatch.setattr(sys, "argv", ["pcapctl", *arguments])
    monkeypatch.setattr(pcapd.ctl.cfplugin.command, "start", note)
    monkeypatch.setattr(pcapd.ctl.main, "main", note)
    with pytest.raises(SystemExit):
        start()
    assert started == [arguments if plugin else None]
