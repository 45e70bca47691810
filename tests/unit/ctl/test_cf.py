"""``pcapctl cf`` without a network: what Cloud Controller and UAA may answer, and what becomes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Optional

import pytest

from pcapd.clouds.uaa import LoginProblem
from pcapd.ctl.extcap.choices import apps
from pcapd.ctl.extcap.configuration import Choice
from pcapd.ctl.login import cf
from pcapd.ctl.login.cf import CfArguments, prepare
from pcapd.ctl.login.cflogin import read_login
from pcapd.ctl.login.cloud import PAGES_MAX, CfSession, CloudController, CloudProblem
from pcapd.ctl.login.fetch import Answer
from pcapd.ctl.options import CaptureOptions, UsageProblem
from pcapd.ctl.sinks.output import OutputError
from pcapd.errors import LimitReached, PcapdError, TargetNotFound, Unauthenticated
from pcapd.savefile.form import Form
from pcapd.wire import App
from tests.kit.unit.ctl import Web, access, answer

API, LOGIN = "https://api.x", "https://login.x"
APPS = f"{API}/v3/apps"
GUID = "1cb006ee-fb05-47e1-b541-c34179ddc446"


def app(name: Any, guid: Any = GUID) -> Dict[str, Any]:
    return {"name": name, "guid": guid}


def page(*resources: Any, following: Any = None) -> Answer:
    return answer({"resources": list(resources), "pagination": {"next": following}})


def refusal(status: int, title: str = "CF-Title", **headers: str) -> Answer:
    return answer({"errors": [{"title": title, "detail": "some detail"}]}, status, **headers)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    """Return what there is to be reached, with one app."""
    web = Web(
        {
            f"{API}/": [answer({"links": {}})],
            APPS: [page(app("myapp"))],
            f"{LOGIN}/oauth/token": [answer({"access_token": "new", "refresh_token": "new-refresh"})],
        }
    )
    monkeypatch.setattr(cf, "Client", web)
    monkeypatch.setattr("pcapd.ctl.extcap.choices.Client", web)
    return web


class Home:
    """Where the cf CLI keeps its configuration."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / ".cf" / "config.json"
        self.path.parent.mkdir()

    def log_in(self, **changes: Any) -> None:
        values = {
            "ConfigVersion": 4,
            "Target": API,
            "AuthorizationEndpoint": LOGIN,
            "AccessToken": f"bearer {access()}",
            "RefreshToken": "old-refresh",
            "OrganizationFields": {"Name": "acme"},
            "SpaceFields": {"Name": "dev", "GUID": "space-guid"},
        }
        self.path.write_text(json.dumps({**values, **changes}))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Return a home with a login that is good for an hour."""
    home = Home(tmp_path)
    home.log_in()
    monkeypatch.setenv("CF_HOME", str(tmp_path))
    return home


def session(home: Home, web: Any) -> CfSession:
    return CfSession(home.path, read_login(home.path), web, print)


def controller(home: Home, web: Any) -> CloudController:
    return CloudController(API, session(home, web), web)


# --- Cloud Controller's answers --------------------------------------------------------


def test_an_app_of_another_name_or_none(home: Home, web: Web) -> None:
    """An app is found by its exact name only, and only with a GUID; malformed entries are skipped."""
    web.answers[APPS] = [page("myapp", app("MyApp", "1"), app("myapp", 5), app("myapp", "right"))]
    assert controller(home, web).app_guid("myapp", "space-guid") == "right"
    web.answers[APPS] = [page(app("MyApp"))]
    assert controller(home, web).app_guid("myapp", "space-guid") is None


def test_apps_that_are_none(home: Home, web: Web) -> None:
    """Names and GUIDs are texts, whatever the list says, and the list ends where it says."""
    web.answers[APPS] = [page(7, app(["myapp"]), app("myapp", None), app("myapp"))]
    assert controller(home, web).apps("space-guid") == [("myapp", GUID)]
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    "following", [None, {}, {"href": None}, {"href": 7}, {"href": ["x"]}, "https://api.x/v3/apps?page=2"]
)
def test_no_further_page(home: Home, web: Web, following: Any) -> None:
    """A malformed link to the next page ends the list."""
    web.answers[APPS] = [page(following=following)]
    assert controller(home, web).app_guid("myapp", "space-guid") is None
    assert controller(home, web).apps("space-guid") == []
    assert len(web.asked) == 2


@pytest.mark.parametrize(
    "href",
    ["https://evil.x/v3/apps", "http://api.x/v3/apps", "//evil.x", "https://api.x:1/", "https://[api.x/"],
)
def test_no_page_elsewhere(home: Home, web: Web, href: str) -> None:
    """A token goes where the login is from, wherever the list points."""
    web.answers[APPS] = [page(following={"href": href})]
    with pytest.raises(CloudProblem, match="is on another host"):
        controller(home, web).app_guid("myapp", "space-guid")
    assert [asked.url.partition("?")[0] for asked in web.asked] == [APPS]


def test_pages_without_end(home: Home, web: Web) -> None:
    """A list that leads back to itself is left; of very many apps the first ones are shown."""
    web.answers[APPS] = [page(following={"href": "/v3/apps?page=2"})]
    with pytest.raises(CloudProblem, match="does not end"):
        controller(home, web).app_guid("myapp", "space-guid")
    assert len(web.asked) == PAGES_MAX
    assert controller(home, web).apps("space-guid") == []
    assert len(web.asked) == 2 * PAGES_MAX


@pytest.mark.parametrize(
    ("refused", "kind", "words"),
    [
        (refusal(401), Unauthenticated, r"does not accept your login \(log in with"),
        (refusal(403), CloudProblem, r"does not let you read apps \(CF-Title\) \(check: cf target\)"),
        (refusal(404), TargetNotFound, r"does not provide apps \(CF-Title\)"),
        (refusal(429, retry_after="42"), LimitReached, r"how often .*\(try again in 42 s\)"),
        (refusal(500), CloudProblem, r"failed: HTTP status 500 \(CF-Title\) \(try again later\)"),
        (refusal(503, "x\x1b"), CloudProblem, r"failed: HTTP status 503 \(try again later\)"),
        (refusal(418), CloudProblem, r"answered with HTTP status 418"),
        (answer({"resources": 5}), CloudProblem, "does not answer like Cloud Controller"),
        (answer(b"<html>"), CloudProblem, "does not answer like Cloud Controller"),
    ],
)  # fmt: skip
def test_cloud_controller_refuses(
    home: Home, web: Web, refused: Answer, kind: type[PcapdError], words: str
) -> None:
    """Each refusal of Cloud Controller has its own message, without the response's details."""
    web.answers[APPS] = [refused]
    with pytest.raises(kind, match=words) as caught:
        controller(home, web).app_guid("myapp", "space-guid")
    assert "detail" not in str(caught.value)


@pytest.mark.parametrize(
    "said", ["", "soon", "-1", "1.5", "²", "٣", "123456", "Fri, 31 Dec 1999 23:59:59 GMT"]
)
def test_when_to_try_again(home: Home, web: Web, said: str) -> None:
    """Retry-After is shown in seconds, and no other text of the header."""
    web.answers[APPS] = [refusal(429, retry_after=said)]
    with pytest.raises(LimitReached, match="try again later") as caught:
        controller(home, web).app_guid("myapp", "space-guid")
    assert not said or said not in str(caught.value)


def test_a_link_that_is_no_text(home: Home, web: Web) -> None:
    """A link that is not text is an error, not a guess."""
    web.answers[f"{API}/"] = [answer({"links": {"pcap": {"href": {"a": 1}}}})]
    with pytest.raises(CloudProblem, match="is not text"):
        controller(home, web).pcap_link()


# --- the login ------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [None, 59, -60])
def test_a_token_that_is_not_good_for_long(home: Home, web: Web, seconds: Optional[float]) -> None:
    """A missing, expiring or expired token is refreshed once."""
    home.log_in(AccessToken="" if seconds is None else f"bearer {access(seconds)}")
    user = session(home, web)
    assert (user.token(), user.token(), user.refreshed) == ("new", "new", True)
    assert len(web.asked) == 1


@pytest.mark.parametrize("seconds", [None, 600])
def test_a_token_that_is_good(home: Home, web: Web, seconds: Optional[float]) -> None:
    """UAA is not asked; a token that does not say how long it is good is tried."""
    token = "opaque" if seconds is None else access(seconds)
    home.log_in(AccessToken=f"bearer {token}")
    user = session(home, web)
    assert (user.token(), user.refreshed, web.asked) == (token, False, [])


@pytest.mark.parametrize(
    "endpoint", ["http://login.x", "ftp://login.x", "https://user@login.x", "login.x", ""]
)
def test_no_refresh_token_in_clear(home: Home, web: Web, endpoint: str) -> None:
    """The refresh token is sent by https only."""
    home.log_in(AccessToken="", AuthorizationEndpoint=endpoint)
    with pytest.raises(LoginProblem, match="AuthorizationEndpoint"):
        session(home, web).token()
    assert not web.asked


@pytest.mark.parametrize(
    ("refused", "kind", "words"),
    [
        (answer({"error_description": "old-refresh"}, 400), LoginProblem, "your cf login has expired"),
        (answer({"error_description": "old-refresh"}, 401), LoginProblem, "your cf login has expired"),
        (answer(b"", 403), LoginProblem, "your cf login has expired"),
        (refusal(429), LimitReached, "UAA at login.x limits how often"),
        (answer(b"", 502), CloudProblem, "UAA at login.x failed: HTTP status 502"),
        (answer(b"", 404), CloudProblem, "UAA at login.x did not issue a token: HTTP status 404"),
        (
            answer({"access_token": "a b"}),
            CloudProblem,
            "UAA at login.x did not issue a token: HTTP status 200",
        ),
    ],
)
def test_uaa_gives_no_token(
    home: Home, web: Web, refused: Answer, kind: type[PcapdError], words: str
) -> None:
    """When UAA gives no token, the message suggests a login, a wait or another address, without the token."""
    home.log_in(AccessToken="")
    web.answers[f"{LOGIN}/oauth/token"] = [refused]
    with pytest.raises(kind, match=words) as caught:
        session(home, web).token()
    assert "old-refresh" not in str(caught.value)


# --- the command -----------------------------------------------------------------------------


def asked(name: str = "myapp", **changes: Any) -> CfArguments:
    facts: Dict[str, Any] = {"instances": (), "type": "web", "follow": False, "api": None, "ca": None}
    return CfArguments(name, **{**facts, **changes})


def options(output: str = "-", **changes: Any) -> CaptureOptions:
    return CaptureOptions(output, Form.PCAPNG, **changes)


def test_prepared(home: Home, web: Web) -> None:
    """The app's GUID, the api beside Cloud Controller's, and the login's token."""
    reached, wanted = prepare(asked(), options())
    assert (reached.api, wanted.app, wanted.name) == ("https://pcap.x", App(GUID, "web", ()), "myapp")
    assert reached.token is not None and reached.token in home.path.read_text()


def test_a_file_that_cannot_be_written(home: Home, web: Web, tmp_path: Path) -> None:
    """A configuration file that cannot be written is reported before any request."""
    (tmp_path / "there.pcapng").touch()
    with pytest.raises(OutputError, match=r"there\.pcapng"):
        prepare(asked(), options(str(tmp_path / "there.pcapng")))
    assert not web.asked


def test_no_such_app(home: Home, web: Web) -> None:
    """An app that is not found is reported with its space, and how to look elsewhere."""
    with pytest.raises(TargetNotFound, match=r"no app 'yours' in space dev of org acme .*cf target"):
        prepare(asked("yours"), options())


def test_no_space(home: Home, web: Web) -> None:
    """An app's name means nothing without one, and no other space is looked into."""
    home.log_in(SpaceFields={})
    for find in (lambda: prepare(asked(), options()), lambda: apps(None)):
        with pytest.raises(LoginProblem, match="no targeted space"):
            find()
    assert not web.asked


@pytest.mark.parametrize("href", ["http://pcap.x", "ssh://pcap.x", "https://user@pcap.x", "pcap.x"])
def test_a_link_where_no_token_may_go(home: Home, web: Web, href: str) -> None:
    """A link to a place where no token may go is refused, whether Cloud Controller or the user named it."""
    web.answers[f"{API}/"] = [answer({"links": {"pcap": {"href": href}}})]
    with pytest.raises(LoginProblem, match=r"the pcap link of api\.x.*--api"):
        prepare(asked(), options())


def test_no_api_to_be_found(home: Home, web: Web) -> None:
    """Without a link and without ``api.`` in the name, no pcap api is found."""
    home.log_in(Target="https://cc.x")
    web.answers["https://cc.x/"] = web.answers[f"{API}/"]
    with pytest.raises(UsageProblem, match=r"cc\.x has no pcap link"):
        prepare(asked(GUID), options())


@pytest.mark.parametrize(
    ("said", "details"),
    [
        ({}, False),
        ({"verbose": True}, True),
        ({"verbose": True, "quiet": True}, False),
        ({"verbose": True, "json": True}, False),
    ],
)
def test_details(
    home: Home, web: Web, capsys: pytest.CaptureFixture[str], said: Dict[str, bool], details: bool
) -> None:
    """Details are printed with --verbose only, and with neither --quiet nor --json."""
    prepare(asked(), options(**said))
    assert ("pcap api https://pcap.x, derived from api.x" in capsys.readouterr().err) is details


# --- the list in Wireshark -------------------------------------------------------------------


def test_names_that_a_sentence_cannot_carry(home: Home, web: Web) -> None:
    """An app whose name Wireshark's configuration cannot hold goes by its GUID; the first is the default."""
    names = ["myapp", "my app", " myapp", "myapp\t", "a{b", "a}b", "a\x1bb"]
    web.answers[APPS] = [page(*(app(name, f"guid-{number}") for number, name in enumerate(names)))]
    values = ["myapp", "my app", "guid-2", "guid-3", "guid-4", "guid-5", "guid-6"]
    assert apps(None) == [Choice(value, name, default=value == "myapp") for value, name in zip(values, names)]
