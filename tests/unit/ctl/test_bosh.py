"""``pcapctl bosh`` without a network: what a director and its UAA may answer, and what becomes of it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any, Dict, Optional

import pytest

from pcapd.clouds.uaa import LoginProblem
from pcapd.ctl.login import bosh
from pcapd.ctl.login.bosh import UNASKED_MAX, BoshArguments, NotConfirmed, prepare
from pcapd.ctl.login.boshconfig import Settings
from pcapd.ctl.login.boshdirector import BoshSession, DirectorClient
from pcapd.ctl.login.boshlogin import read_environment
from pcapd.ctl.login.cloud import CloudProblem
from pcapd.ctl.login.fetch import Answer
from pcapd.ctl.options import CaptureOptions, UsageProblem
from pcapd.ctl.sinks.output import OutputError
from pcapd.errors import Forbidden, PcapdError, TargetNotFound, Unauthenticated
from pcapd.savefile.form import Form
from pcapd.wire import Deployment
from tests.kit.unit.ctl import Request, Web, access, answer

DIRECTOR, UAA = "https://192.0.2.6:25555", "https://192.0.2.6:8443"
INSTANCES = f"{DIRECTOR}/deployments/cf/instances"


def info(uaa: str) -> Answer:
    users = {"type": "uaa", "options": {"url": uaa}}
    uuid = "f0e35ab6-1e43-4f0a-a2a6-3d1b7e3a0c11"
    return answer({"name": "lab", "uuid": uuid, "user_authentication": users})


def instances(count: int) -> Answer:
    ids = [f"00000000-0000-4000-8000-{number:012d}" for number in range(count)]
    return answer(
        [
            {"job": "web", "id": id, "index": number, "ips": [f"192.0.2.{10 + number}"], "az": "z1"}
            for number, id in enumerate(ids)
        ]
    )


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    """Return what there is to be reached, with two VMs."""
    web = Web(
        {
            f"{DIRECTOR}/info": [info(UAA)],
            INSTANCES: [instances(2)],
            f"{UAA}/oauth/token": [answer({"access_token": "new", "refresh_token": "new-refresh"})],
        }
    )
    monkeypatch.setattr(bosh, "Client", web)
    return web


class Home:
    """Where the BOSH CLI keeps its configuration."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "config"

    def log_in(self, **changes: str) -> None:
        values = {
            "url": DIRECTOR,
            "alias": "lab",
            "access_token": access(),
            "access_token_type": "bearer",
            "refresh_token": "old-refresh",
        }
        # JSON is YAML.
        self.path.write_text(json.dumps({"environments": [{**values, **changes}]}, indent=1))

    @property
    def access_token(self) -> str:
        """What the file holds now."""
        return str(json.loads(self.path.read_text())["environments"][0]["access_token"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Return a home with a login that is good for an hour."""
    home = Home(tmp_path)
    home.log_in()
    for name in ("CLIENT", "CLIENT_SECRET", "CA_CERT", "ALL_PROXY"):
        monkeypatch.delenv(f"BOSH_{name}", raising=False)
    monkeypatch.setenv("BOSH_CONFIG", str(home.path))
    monkeypatch.setenv("BOSH_ENVIRONMENT", "lab")
    return home


def session(home: Home, web: Any, **client: str) -> BoshSession:
    given = Settings("lab", **client)
    return BoshSession(home.path, given, read_environment(home.path, given), web, print)


# --- the login ------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [None, 29, -60])
def test_a_token_that_is_not_good_for_long(home: Home, web: Web, seconds: Optional[float]) -> None:
    """A missing, expiring or expired token is refreshed once."""
    home.log_in(access_token="" if seconds is None else access(seconds))
    user = session(home, web)
    assert (user.token(), user.token(), user.refreshed) == ("new", "new", True)
    assert web.times(f"{UAA}/oauth/token") == 1


@pytest.mark.parametrize("seconds", [None, 600])
def test_a_token_that_is_good(home: Home, web: Web, seconds: Optional[float]) -> None:
    """A good token is used without asking UAA; one without an expiry is tried."""
    token = "opaque" if seconds is None else access(seconds)
    home.log_in(access_token=token)
    user = session(home, web)
    assert (user.token(), user.refreshed, web.asked) == (token, False, [])


@pytest.mark.parametrize("good", [True, False])
def test_tokens_that_someone_else_got(home: Home, web: Web, good: bool) -> None:
    """The BOSH CLI was faster: its token is used, and UAA is not asked; unless that one ends, too."""
    user = session(home, web)
    theirs = access(7200 if good else -7200)
    home.log_in(access_token=theirs)
    user.refresh()
    assert web.times(f"{UAA}/oauth/token") == (0 if good else 1)
    assert user.token() == (theirs if good else "new")


def test_a_token_that_was_refused(home: Home, web: Web) -> None:
    """A token that was refused is refreshed, although it looks good in the file."""
    user = session(home, web)
    user.refresh()
    assert user.token() == "new" and home.access_token == "new"


def test_a_client_s_token_is_never_kept(home: Home, web: Web) -> None:
    """A client's token is never stored, and the file's user keeps theirs without a message."""
    before = home.path.read_bytes()
    client = session(home, web, client="ops", client_secret="secret")
    assert (client.token(), client.refreshed) == ("new", False)
    assert home.path.read_bytes() == before


@pytest.mark.parametrize(
    ("client", "refused", "kind", "words"),
    [
        (False, answer({"error_description": "old-refresh"}, 400), LoginProblem, "your BOSH login has expired"),
        (False, answer({"error_description": "old-refresh"}, 401), LoginProblem, "your BOSH login has expired"),
        (True, answer(b"", 401), LoginProblem, "does not accept client ops"),
        (False, answer(b"", 503), CloudProblem, "did not issue a token: HTTP status 503"),
        (False, answer({"access_token": "a b"}), CloudProblem, "did not issue a token: HTTP status 200"),
    ],
)  # fmt: skip
def test_uaa_gives_no_token(
    home: Home, web: Web, client: bool, refused: Answer, kind: type[PcapdError], words: str
) -> None:
    """When UAA gives no token, the remedy is printed without the token, and the file is unchanged."""
    before = home.path.read_bytes()
    web.answers[f"{UAA}/oauth/token"] = [refused]
    user = session(home, web, **({"client": "ops", "client_secret": "secret"} if client else {}))
    with pytest.raises(kind, match=words) as caught:
        user.refresh()
    assert "old-refresh" not in str(caught.value) and home.path.read_bytes() == before


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answer(b"", 302), "answered with HTTP status 302"),
        (answer({**info(UAA).json()}, 503), "answered with HTTP status 503"),
        (info("http://192.0.2.6:8080"), "a token is not sent in clear"),
        (info("https://user@192.0.2.6"), "is not an https URL"),
        (info("192.0.2.6"), "is not an https URL"),
    ],
)
def test_no_uaa_to_send_a_token_to(home: Home, web: Web, said: Answer, words: str) -> None:
    """The director must answer, and name a UAA that may have the refresh token."""
    web.answers[f"{DIRECTOR}/info"] = [said]
    with pytest.raises(PcapdError, match=words):
        session(home, web).refresh()
    assert [asked.url for asked in web.asked] == [f"{DIRECTOR}/info"]


# --- the director ----------------------------------------------------------------------------


def director(home: Home, web: Any) -> DirectorClient:
    return DirectorClient(DIRECTOR, session(home, web), web)


def test_a_token_ended_before_its_time(home: Home, web: Web) -> None:
    """The director refuses it: with a new one it is asked again."""
    web.answers[INSTANCES].insert(0, answer(b"", 401))
    assert len(director(home, web).instances(Deployment("cf"))) == 2
    assert web.asked[-1] == Request(INSTANCES, "new")


def test_new_tokens_do_not_help(home: Home, web: Web) -> None:
    """When new tokens are refused too, that is reported after one more attempt."""
    web.answers[INSTANCES] = [answer(b"", 401)]
    with pytest.raises(Unauthenticated):
        director(home, web).instances(Deployment("cf"))
    assert (web.times(INSTANCES), web.times(f"{UAA}/oauth/token")) == (2, 1)


@pytest.mark.parametrize(("status", "kind"), [(403, Forbidden), (500, PcapdError)])
def test_no_new_token_for_other_refusals(home: Home, web: Web, status: int, kind: type[PcapdError]) -> None:
    """A refusal for missing rights is reported without refreshing the token."""
    web.answers[INSTANCES] = [answer(b"", status)]
    with pytest.raises(kind):
        director(home, web).instances(Deployment("cf"))
    assert len(web.asked) == 1


# --- the command -----------------------------------------------------------------------------


def asked(deployment: str = "cf", **changes: Any) -> BoshArguments:
    facts: Dict[str, Any] = {"groups": ("web",), "instances": (), "environment": None, "ca": None}
    return BoshArguments(deployment, **{**facts, "api": "https://pcap.x", **changes})


def options(output: str = "-", **changes: Any) -> CaptureOptions:
    return CaptureOptions(output, Form.PCAPNG, **changes)


def test_prepared(home: Home, web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    """The VMs are shown, and the token is that of the login."""
    reached, wanted = prepare(asked(), options())
    assert (reached.api, reached.token) == ("https://pcap.x", home.access_token)
    assert wanted.deployment == Deployment("cf", ("web",))
    assert len(capsys.readouterr().err.splitlines()) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"deployment": "c/f"}, "is not the name of a deployment"),
        ({"groups": ("../x",)}, "is not the name of an instance group"),
        ({"instances": ("a/b/c",)}, "is not the id or index"),
        ({"api": None}, "no api"),
        ({"api": ""}, "no api"),
        ({"api": "http://192.0.2.1"}, "not sent in clear"),
    ],
)
def test_what_the_command_line_gets_wrong(home: Home, web: Web, changes: Dict[str, Any], words: str) -> None:
    """Contradicting options are reported before any request."""
    with pytest.raises(UsageProblem, match=words):
        prepare(asked(**changes), options())
    assert not web.asked


def test_a_file_that_cannot_be_written(home: Home, web: Web, tmp_path: Path) -> None:
    """A configuration file that cannot be written is reported before any request."""
    (tmp_path / "there.pcapng").touch()
    with pytest.raises(OutputError, match=r"there\.pcapng"):
        prepare(asked(), options(str(tmp_path / "there.pcapng")))
    assert not web.asked


def test_nothing_to_capture(home: Home, web: Web) -> None:
    """Instances that are named but do not exist are reported."""
    with pytest.raises(TargetNotFound, match="there is no group router"):
        prepare(asked(groups=("router",)), options())


class Stream(io.StringIO):
    """One that may be a terminal."""

    def __init__(self, text: str = "", *, terminal: bool = True) -> None:
        super().__init__(text)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def at_terminal(
    monkeypatch: pytest.MonkeyPatch, typed: str, *, stdin: bool = True, stderr: bool = True
) -> Stream:
    """Let somebody sit there, and type; returns what they see."""
    shown = Stream(terminal=stderr)
    monkeypatch.setattr(sys, "stdin", Stream(typed, terminal=stdin))
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


@pytest.mark.parametrize(
    ("count", "yes", "question"),
    [(UNASKED_MAX, False, False), (UNASKED_MAX + 1, True, False), (UNASKED_MAX + 1, False, True)],
)
def test_many_vms(
    home: Home, web: Web, monkeypatch: pytest.MonkeyPatch, count: int, yes: bool, question: bool
) -> None:
    """More than five VMs need confirmation, unless --yes is given."""
    web.answers[INSTANCES] = [instances(count)]
    shown = at_terminal(monkeypatch, "y\n")
    prepare(asked(yes=yes), options())
    assert (f"Capture on these {count} VMs? [y/N]" in shown.getvalue()) is question


@pytest.mark.parametrize("typed", ["n\n", "\n", "", "yess\n"])
def test_not_agreed(home: Home, web: Web, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """Any answer but yes is a no."""
    web.answers[INSTANCES] = [instances(UNASKED_MAX + 1)]
    at_terminal(monkeypatch, typed)
    with pytest.raises(NotConfirmed):
        prepare(asked(), options())


@pytest.mark.parametrize("lacking", ["stdin", "stderr", "json"])
def test_nobody_to_ask(home: Home, web: Web, monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    """Without a visible question or a terminal for the answer, and in scripts, --yes is required."""
    web.answers[INSTANCES] = [instances(UNASKED_MAX + 1)]
    shown = at_terminal(monkeypatch, "y\n", **({lacking: False} if lacking != "json" else {}))
    with pytest.raises(UsageProblem, match=r"no terminal to ask .*--yes"):
        prepare(asked(), options(json=lacking == "json"))
    assert "[y/N]" not in shown.getvalue()


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
    home.log_in(access_token="")
    prepare(asked(), options(**said))
    assert ("your BOSH login was refreshed" in capsys.readouterr().err) is details
