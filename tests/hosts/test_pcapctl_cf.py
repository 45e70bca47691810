"""``pcapctl cf`` as a process, against a foundation of one HTTPS server with the names of four.

Cloud Controller, UAA and the pcap api are told apart by the Host header, as
behind a gorouter.  Whatever a test does, afterwards no token and no secret is
anywhere but in the cf CLI's own configuration (`Foundation.pcapctl`).
"""

from __future__ import annotations

import contextlib
import json
import stat
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from demo.certificates import Authority
from pcapd.ctl.login import fetch
from pcapd.ctl.login.fetch import BODY_MAX, Client, CloudUnreachable
from pcapd.ctl.options import Trust
from pcapd.wire import App, Request
from tests.kit.doubles.stream_api import StreamApi
from tests.kit.hosts.cf import (
    GUID,
    SYSTEM_DOMAIN,
    Canned,
    Foundation,
    cc_error,
)
from tests.kit.lab.readers import capinfos, require, tcpdump_lines


@pytest.fixture
def foundation(tmp_path: Path, authority: Authority) -> Iterator[Foundation]:
    """Return a foundation where alice is logged in, with an app ``myapp``."""
    with Foundation(tmp_path, authority) as foundation:
        yield foundation


def assert_captured(foundation: Foundation, done: subprocess.CompletedProcess[str]) -> Request:
    """The capture ran to its end; returns what the pcap api was asked for."""
    assert done.returncode == 0, done.stderr
    return foundation.state.captures[-1]


def assert_failed(
    foundation: Foundation, done: subprocess.CompletedProcess[str], *words: str, status: int = 1
) -> None:
    """It failed in one line with these words, nothing was captured and nothing written."""
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert "\x1b" not in done.stderr
    assert not foundation.state.captures
    assert not list(foundation.work.iterdir())


# --- what is captured -----------------------------------------------------------


def test_by_name(foundation: Foundation) -> None:
    """The app of the targeted space, all instances, into a file with its name; the login stays as it is."""
    before = foundation.config_path.read_bytes()
    request = assert_captured(foundation, foundation.pcapctl("myapp"))
    assert request.app == App(GUID, "web", ())
    assert not request.follow
    (file,) = foundation.work.iterdir()
    assert file.name.startswith("myapp-20")
    assert file.name.endswith("Z.pcapng")
    require("capinfos", "tcpdump")
    assert capinfos(file)["Number of packets"] == "2"
    assert tcpdump_lines(file)
    assert foundation.config_path.read_bytes() == before
    assert not foundation.asked("/oauth/token")


@pytest.mark.parametrize(
    ("arguments", "instances"),
    [
        (["--instance", "0,2"], (0, 2)),
        (["--instance", "2", "--instance", "0"], (2, 0)),
        (["--instance", "all"], ()),
    ],
)
def test_instances(foundation: Foundation, arguments: list[str], instances: tuple[int, ...]) -> None:
    """Instances are chosen by lists, by repeated options, or all of them."""
    request = assert_captured(foundation, foundation.pcapctl("myapp", *arguments))
    assert request.app == App(GUID, "web", instances)


def test_everything_that_can_be_asked(foundation: Foundation) -> None:
    """Type, follow, interfaces and filter arrive at the pcap api."""
    done = foundation.pcapctl(
        *("myapp", "--type", "worker", "--follow", "--device", "eth0", "--device", "lo", "--filter", "tcp")
    )
    request = assert_captured(foundation, done)
    assert request.app == App(GUID, "worker", ())
    assert (request.follow, request.interfaces, request.filter) == (True, ("eth0", "lo"), "tcp")


def test_guid(foundation: Foundation) -> None:
    """A GUID is taken as it is: Cloud Controller is not asked for it, and no space is needed."""
    foundation.log_in(SpaceFields=None)
    guid = "00000000-0000-4000-8000-000000000001"
    request = assert_captured(foundation, foundation.pcapctl(guid, "--output", "x.pcapng"))
    assert request.app == App(guid, "web", ())
    assert not foundation.asked("/v3/apps")


@pytest.mark.parametrize(
    "arguments",
    [
        ["myapp", "--instance", "first"],
        ["myapp", "--instance", "0,all"],
        ["myapp", "--instance", "10000"],
        ["myapp", "--type", ""],
        ["myapp", "--api", "http://pcap.sys.example.test"],
        ["\x1b[2J"],
    ],
)
def test_usage(foundation: Foundation, arguments: list[str]) -> None:
    """Options that contradict each other are refused before any request is sent."""
    assert_failed(foundation, foundation.pcapctl(*arguments), status=2)
    assert not foundation.state.asked


def test_verbose(foundation: Foundation) -> None:
    """With --verbose the plan is printed before the start, and then a line per opened source."""
    done = foundation.pcapctl("myapp", "--instance", "0,1", "--filter", "tcp", "--verbose")
    assert_captured(foundation, done)
    (file,) = foundation.work.iterdir()
    assert done.stderr.splitlines()[:8] == [
        f"app myapp ({GUID}) in space dev of org acme: instances 0, 1 of type web",
        f"pcap api {foundation.url('pcap')}, derived from api.sys.example.test, which has no pcap link",
        "app: myapp, web, instances 0, 1",
        "filter: tcp, without the capture's own connections; whole packets",
        f"limits: none; writing to {file.name}",
        f"capturing app: myapp, web, instances 0, 1; writing to {file.name}",
        "myapp/0:eth0: Ethernet, agent diego-cell/0 at 10.0.0.5, clock +1.2 ms, filter tcp",
        "myapp/1:eth0: Ethernet, agent diego-cell/1 at 10.0.0.5, clock +1.2 ms, filter tcp",
    ]


def test_not_verbose(foundation: Foundation) -> None:
    """Without --verbose only the report is printed."""
    done = foundation.pcapctl("myapp")
    assert "agent agent/" not in done.stderr and "Ethernet" not in done.stderr
    assert "app myapp" not in done.stderr


def test_json(foundation: Foundation) -> None:
    """Scripts are told what was started; every line is JSON."""
    done = foundation.pcapctl("myapp", "--instance", "1", "--json", "--output", "x.pcapng")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    app = {"name": "myapp", "guid": GUID, "type": "web", "instances": [1]}
    limits = {"packets": None, "bytes": None, "seconds": None}
    about = {"filter": "", "interfaces": [], "snaplen": 262144, "headers_only": False, **limits}
    assert events[0] == {"event": "start", "app": app, "follow": False, "file": "x.pcapng", **about}
    assert events[-1]["event"] == "end"


# --- the login ------------------------------------------------------------------


def test_expired(foundation: Foundation) -> None:
    """An access token that ends is replaced, at UAA's login host, as the cf CLI does it, and kept for it."""
    foundation.log_in(foundation.state.new_access(seconds=30))
    before = foundation.config_path.read_text()
    old = foundation.config["AccessToken"]
    done = foundation.pcapctl("myapp", "--verbose")
    assert_captured(foundation, done)
    assert "your cf login was refreshed" in done.stderr
    (asked,) = foundation.asked("/oauth/token")
    assert asked.host == f"login.{SYSTEM_DOMAIN}"
    assert asked.authorization == "Basic Y2Y6"
    assert asked.form == {
        "grant_type": ["refresh_token"],
        "refresh_token": [foundation.state.refresh],
        "scope": [""],
    }
    new = foundation.config["AccessToken"]
    assert new != old
    assert foundation.config_path.read_text() == before.replace(old, new)
    assert foundation.asked("/v1/stream")[0].authorization == new
    assert stat.S_IMODE(foundation.config_path.stat().st_mode) == 0o600


def test_rotated(foundation: Foundation) -> None:
    """A refresh token that was replaced is kept: without it the user would be logged out."""
    foundation.log_in(foundation.state.new_access(seconds=-1))
    foundation.state.rotate = True
    before = foundation.state.refresh
    assert_captured(foundation, foundation.pcapctl("myapp"))
    assert foundation.config["RefreshToken"] == foundation.state.refresh != before
    foundation.state.access.clear()
    assert_captured(foundation, foundation.pcapctl("myapp", "--output", "again.pcapng"))


def test_refused(foundation: Foundation) -> None:
    """When UAA refuses, pcapctl suggests a new login, leaves the file alone, and does not repeat UAA's message."""
    foundation.log_in(foundation.state.new_access(seconds=-1))
    foundation.state.new_refresh()
    before = foundation.config_path.read_bytes()
    assert_failed(foundation, foundation.pcapctl("myapp", "--verbose"), "expired", "cf login")
    assert foundation.config_path.read_bytes() == before


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Canned(429, headers=(("Retry-After", "7"),)), "try again in 7 s"),
        (Canned(503, b"<html>"), "try again later"),
        (Canned(200, b"<html>"), "did not issue a token"),
        (Canned(200, {"access_token": "a\r\nX: y"}), "did not issue a token"),
        (Canned(302, headers=(("Location", "https://evil.example.test/"),)), "did not issue a token"),
        (Canned(200, b"{", length=100), "closed the connection"),
    ],
)
@pytest.mark.long(but=("0",))
def test_uaa_in_trouble(foundation: Foundation, answer: Canned, words: str) -> None:
    """Trouble of UAA's is no reason to log in again."""
    foundation.log_in(foundation.state.new_access(seconds=-1))
    foundation.state.canned["/oauth/token"] = answer
    before = foundation.config_path.read_bytes()
    done = foundation.pcapctl("myapp")
    assert_failed(foundation, done, words)
    assert "cf login" not in done.stderr
    assert foundation.config_path.read_bytes() == before


def test_ended_before_its_time(foundation: Foundation) -> None:
    """Cloud Controller refuses a token that looks good: one refresh, and on."""
    foundation.state.access.clear()
    assert_captured(foundation, foundation.pcapctl("myapp"))
    assert len(foundation.asked("/oauth/token")) == 1
    assert len(foundation.asked("/v3/apps")) == 2


def test_opaque(foundation: Foundation) -> None:
    """A token that does not say when it ends is tried."""
    foundation.log_in(foundation.state.new_opaque())
    assert_captured(foundation, foundation.pcapctl("myapp"))
    assert not foundation.asked("/oauth/token")


def test_client_credentials(foundation: Foundation) -> None:
    """After ``cf auth --client-credentials`` the client's secret is used instead of a refresh token."""
    foundation.state.secrets.add("sesame-open")
    client = {"UAAOAuthClient": "ci", "UAAOAuthClientSecret": "sesame-open"}
    expired = foundation.state.new_access(seconds=-1)
    foundation.log_in(expired, RefreshToken="", UAAGrantType="client_credentials", **client)
    assert_captured(foundation, foundation.pcapctl("myapp"))
    assert foundation.asked("/oauth/token")[0].authorization is None
    assert foundation.config["RefreshToken"] == ""
    assert foundation.config["AccessToken"] not in ("", f"bearer {expired}")


def test_no_secret_where_there_was_none(foundation: Foundation) -> None:
    """An access token is not stored where none was."""
    foundation.log_in(AccessToken="")
    before = foundation.config_path.read_bytes()
    assert_captured(foundation, foundation.pcapctl("myapp"))
    assert foundation.config_path.read_bytes() == before


def test_nobody_logged_in(foundation: Foundation) -> None:
    """After ``cf logout``, or without any login, pcapctl asks for a login."""
    foundation.log_in(AccessToken="", RefreshToken="")
    assert_failed(foundation, foundation.pcapctl("myapp"), "not logged in", "cf login")
    foundation.config_path.unlink()
    assert_failed(foundation, foundation.pcapctl("myapp"), "config.json", "cf login")
    assert not foundation.state.asked


def test_garbled(foundation: Foundation) -> None:
    """A truncated configuration file is reported."""
    foundation.config_path.write_text(foundation.config_path.read_text()[:200])
    assert_failed(foundation, foundation.pcapctl("myapp"), "not JSON", "cf login")


def test_no_space(foundation: Foundation) -> None:
    """An app's name without a target space is refused."""
    foundation.log_in(SpaceFields={"GUID": "", "Name": ""})
    assert_failed(foundation, foundation.pcapctl("myapp"), "no targeted space", "cf target")
    assert not foundation.state.asked


def test_clear_endpoint(foundation: Foundation) -> None:
    """A refresh token is not sent in clear, whatever the file says."""
    foundation.log_in(
        foundation.state.new_access(seconds=-1), AuthorizationEndpoint="http://login.example.test"
    )
    assert_failed(foundation, foundation.pcapctl("myapp"), "in clear")


# --- certificates -----------------------------------------------------------------


@pytest.mark.long
def test_insecure_warns_each_time(foundation: Foundation) -> None:
    """--insecure warns each time that no certificate is checked, also with --quiet."""
    foundation.log_in(access=foundation.state.new_access(seconds=-1))
    for name in ("a.pcapng", "b.pcapng"):
        done = foundation.pcapctl("myapp", "--quiet", "--insecure", "--output", name, ca=False)
        assert_captured(foundation, done)
        assert done.stderr.startswith("warning: certificates are not checked (--insecure)")
        assert len(done.stderr.splitlines()) == 1
    hosts = {asked.host.partition(".")[0] for asked in foundation.state.asked}
    assert {"api", "login", "pcap"} <= hosts


@pytest.mark.long
def test_warning_for_scripts(foundation: Foundation) -> None:
    """With --json the warning is an event, on stderr."""
    done = foundation.pcapctl("myapp", "--json", "--insecure", "--output", "-", ca=False)
    assert_captured(foundation, done)
    assert json.loads(done.stderr.splitlines()[0])["event"] == "warning"


def test_insecure_and_an_authority(foundation: Foundation) -> None:
    """--insecure and --ca exclude each other."""
    done = foundation.pcapctl("myapp", "--insecure")
    assert_failed(foundation, done, "--insecure and --ca exclude each other", status=2)
    assert not foundation.state.asked


@pytest.mark.parametrize("skipped", [False, True])
def test_unknown_authority(foundation: Foundation, skipped: bool) -> None:
    """Cloud Controller's is refused before the token is sent, however cf logged in."""
    foundation.log_in(SSLDisabled=skipped)
    done = foundation.pcapctl("myapp", "--quiet", ca=False)
    assert_failed(foundation, done, "the certificate of api.sys.example.test is not accepted", "--insecure")
    assert not foundation.state.asked


def test_skipped_validation_is_not_implied(foundation: Foundation) -> None:
    """A user who logged in with --skip-ssl-validation is told that it does not apply to the pcap api."""
    foundation.log_in(SSLDisabled=True)
    done = foundation.pcapctl("myapp", ca=False)
    assert done.returncode == 1 and not foundation.state.asked
    assert "--skip-ssl-validation, which does not apply here" in done.stderr


def test_unknown_authority_of_uaa(foundation: Foundation, tmp_path: Path) -> None:
    """A refresh token goes to nobody whose certificate is not good."""
    with elsewhere(tmp_path) as (url, asked):
        foundation.log_in(
            access=foundation.state.new_access(seconds=-1), AuthorizationEndpoint=url, SSLDisabled=True
        )
        done = foundation.pcapctl("myapp", "--quiet")
    assert_failed(foundation, done, "the certificate of localhost is not accepted", "--insecure")
    assert not asked


def test_unknown_authority_of_the_pcap_api(foundation: Foundation, tmp_path: Path) -> None:
    """A pcap api with a certificate of an unknown CA receives no access token."""
    foundation.log_in(SSLDisabled=True)
    with elsewhere(tmp_path) as (url, asked):
        done = foundation.pcapctl("myapp", "--quiet", "--api", url)
    assert_failed(foundation, done, "the certificate of localhost is not accepted", "--insecure")
    assert not asked


@contextlib.contextmanager
def elsewhere(tmp_path: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Serve with a certificate of an authority that nobody trusts; notes what it is told."""
    credentials = Authority(tmp_path / "strange", "a stranger").issue("stranger", dns=("localhost",))
    asked: list[bytes] = []
    with StreamApi(credentials, lambda client: asked.append(client.head())) as api:
        yield f"https://localhost:{api.port}", asked


@pytest.mark.long
def test_ca_outweighs_disabled(foundation: Foundation, tmp_path: Path) -> None:
    """With --ca certificates are checked, SSLDisabled or not."""
    foundation.log_in(SSLDisabled=True)
    done = foundation.pcapctl("myapp")
    assert_captured(foundation, done)
    assert "warning" not in done.stderr
    foundation.state.captures.clear()
    foundation.state.asked.clear()
    (file,) = foundation.work.iterdir()
    file.unlink()
    other = Authority(tmp_path / "other")
    done = foundation.pcapctl("myapp", "--ca", str(other.certificate_path), ca=False)
    assert_failed(foundation, done, "certificate")
    assert not foundation.state.asked


# --- Cloud Controller ---------------------------------------------------------------


def test_unknown_app(foundation: Foundation) -> None:
    """An unknown app is reported with its space, and how to look elsewhere."""
    done = foundation.pcapctl("yourapp")
    assert_failed(foundation, done, "'yourapp'", "space dev of org acme", "cf target")


def test_case_and_pages(foundation: Foundation) -> None:
    """The filter ignores case, so the right one may be on a later page."""
    foundation.state.apps = [("MyApp", "guid-1"), ("MYAPP", "guid-2"), ("myapp", "guid-3")]
    foundation.state.per_page = 1
    request = assert_captured(foundation, foundation.pcapctl("myapp"))
    assert request.app == App("guid-3", "web", ())
    assert len(foundation.asked("/v3/apps")) == 3


def test_only_other_case(foundation: Foundation) -> None:
    """An app whose name differs in case is another app."""
    foundation.state.apps = [("MyApp", "guid-1")]
    assert_failed(foundation, foundation.pcapctl("myapp"), "no app 'myapp'")


def test_odd_name(foundation: Foundation) -> None:
    """Commas, spaces and percent signs in an app's name are part of it."""
    foundation.state.apps = [("a, 100%&b/ü", "guid-1"), ("a", "guid-2")]
    request = assert_captured(foundation, foundation.pcapctl("a, 100%&b/ü"))
    assert request.app == App("guid-1", "web", ())
    (file,) = foundation.work.iterdir()
    assert "/" not in file.name


@pytest.mark.long
def test_pages_without_end(foundation: Foundation) -> None:
    """A list of pages that leads back to itself is left."""
    again = {"next": {"href": f"{foundation.url()}/v3/apps"}}
    foundation.state.canned["/v3/apps"] = Canned(200, {"resources": [], "pagination": again})
    assert_failed(foundation, foundation.pcapctl("myapp"), "does not end", "--guid")


@pytest.mark.parametrize(
    "href", ["https://evil.sys.example.test/v3/apps", "http://api.sys.example.test/v3/apps"]
)
def test_next_page_elsewhere(foundation: Foundation, href: str) -> None:
    """The token is not shown to another host, nor in clear, wherever the list points."""
    foundation.state.canned["/v3/apps"] = Canned(
        200, {"resources": [], "pagination": {"next": {"href": href}}}
    )
    assert_failed(foundation, foundation.pcapctl("myapp"), "another host")
    assert len(foundation.state.asked) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (cc_error(401, 1000, "CF-InvalidAuthToken"), ("does not accept your login", "cf login")),
        (cc_error(403, 10003, "CF-NotAuthorized"), ("CF-NotAuthorized", "cf target")),
        (cc_error(404, 10000, "CF-NotFound"), ("CF-NotFound", "cf api")),
        (
            cc_error(429, 10013, "CF-RateLimitExceeded", ("Retry-After", "42")),
            ("CF-RateLimitExceeded", "try again in 42 s"),
        ),
        (cc_error(429, 10013, "x\x1b", ("Retry-After", "soon")), ("try again later",)),
        (cc_error(500, 10001, "UnknownError"), ("500", "UnknownError", "later")),
        (cc_error(503, 10015, "CF-ServiceUnavailable"), ("503", "CF-ServiceUnavailable", "later")),
        (Canned(502, b"<html>"), ("502", "later")),
        (Canned(503, {"resources": [], "pagination": {"next": None}}), ("503", "later")),
        (Canned(418, b"\xff"), ("418", "cf api")),
        (Canned(302, headers=(("Location", "https://evil.sys.example.test/"),)), ("302",)),
        (Canned(200, b"<html>"), ("does not answer like Cloud Controller",)),
        (Canned(200, {"resources": 5}), ("does not answer like Cloud Controller",)),
        (Canned(200, b"[" * 200_000), ("does not answer like Cloud Controller",)),
        (Canned(200, bytes(BODY_MAX + 1)), ("is too long",)),
        (Canned(200, b'{"resources": [', length=1000), ("closed the connection",)),
    ],
)
@pytest.mark.long(but=("0",))
def test_cloud_controller_in_trouble(foundation: Foundation, answer: Canned, words: tuple[str, ...]) -> None:
    """Every failure of Cloud Controller has its own message."""
    foundation.state.canned["/v3/apps"] = answer
    assert_failed(foundation, foundation.pcapctl("myapp"), *words)
    assert {asked.host for asked in foundation.state.asked} <= {
        f"{n}.{SYSTEM_DOMAIN}" for n in ("api", "login")
    }


@pytest.mark.parametrize(
    "answer", [Canned(200, b"x" * 100, trickle=0.1), Canned(200, b"x", length=100, trickle=60)]
)
def test_trickle(foundation: Foundation, answer: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer has its time as a whole, however many bytes come in it."""
    foundation.state.canned["/slow"] = answer
    monkeypatch.setattr(fetch, "EXCHANGE_TIMEOUT", 0.5)
    client = Client(foundation.ca, Trust.GIVEN)
    began = time.monotonic()
    with pytest.raises(CloudUnreachable, match=r"within 0\.5 s"):
        client.get(f"https://localhost:{foundation.server.server_port}/slow")
    assert time.monotonic() - began < 3


def test_nobody_there(foundation: Foundation) -> None:
    """An unreachable Cloud Controller is reported with its address."""
    foundation.log_in(Target="https://127.0.0.1:1")
    assert_failed(foundation, foundation.pcapctl("myapp"), "cannot connect", "cf api")


# --- where the pcap api is ------------------------------------------------------------


def test_link(foundation: Foundation) -> None:
    """Cloud Controller's root document names it."""
    foundation.state.links["pcap"] = {"href": foundation.url("capture")}
    done = foundation.pcapctl("myapp", "--verbose")
    assert_captured(foundation, done)
    assert foundation.asked("/v1/stream")[0].host == f"capture.{SYSTEM_DOMAIN}"
    assert f"pcap api {foundation.url('capture')}, from the pcap link" in done.stderr
    assert foundation.asked("/")[0].authorization is None


def test_status_of_the_same_api(foundation: Foundation) -> None:
    """``pcapctl status`` finds the api as ``pcapctl cf`` does, and shows no token to it."""
    healthy = b'{"healthy":true,"message":"ready","version":"1","compatibility_level":1,"resolvers":{}}'
    foundation.state.canned["/health"] = Canned(200, healthy)
    done = foundation.pcapctl(command="status")
    assert done.returncode == 0, done.stderr
    where = "derived from api.sys.example.test, which has no pcap link"
    assert done.stdout.splitlines()[:2] == [f"{foundation.url('pcap')}, {where}", "healthy: ready"]
    (asked,) = foundation.asked("/health")
    assert asked.host.startswith("pcap.") and asked.authorization is None


@pytest.mark.parametrize("link", [None, {}, {"href": None}, {"href": ""}])
@pytest.mark.long(but=("link1",))
def test_beside_api(foundation: Foundation, link: Any) -> None:
    """Without a link the pcap api is ``pcap.`` in place of ``api.``, on the same port."""
    foundation.state.links["pcap"] = link
    assert_captured(foundation, foundation.pcapctl("myapp"))
    assert foundation.asked("/v1/stream")[0].host == f"pcap.{SYSTEM_DOMAIN}"


@pytest.mark.parametrize("way", ["option", "variable"])
def test_given(foundation: Foundation, way: str) -> None:
    """A pcap api that is given by name is used without asking for the root document."""
    foundation.state.links["pcap"] = {"href": foundation.url("capture")}
    url = foundation.url("mine")
    done = (
        foundation.pcapctl("myapp", "--api", url)
        if way == "option"
        else foundation.pcapctl("myapp", PCAP_API=url)
    )
    assert_captured(foundation, done)
    assert foundation.asked("/v1/stream")[0].host == f"mine.{SYSTEM_DOMAIN}"
    assert not foundation.asked("/")


def test_nowhere(foundation: Foundation) -> None:
    """Without a link and without ``api.`` in the name the pcap api is not found."""
    foundation.log_in(
        Target=f"https://{SYSTEM_DOMAIN}:{foundation.server.server_port}".replace("//", "//cc.")
    )
    assert_failed(foundation, foundation.pcapctl("myapp"), "no api", "PCAP_API", "--api", status=2)


@pytest.mark.parametrize(
    ("href", "words"),
    [
        (f"http://pcap.{SYSTEM_DOMAIN}", "in clear"),
        (f"pcap.{SYSTEM_DOMAIN}", "not an https URL"),
        ("ssh://x", "not an https URL"),
        ("https://x\x1b[2J", "not an https URL"),
        ({"a": 1}, "is not text"),
    ],
)
@pytest.mark.long
def test_bad_link(foundation: Foundation, href: Any, words: str) -> None:
    """A link where no token may be sent is refused."""
    foundation.state.links["pcap"] = {"href": href}
    assert_failed(foundation, foundation.pcapctl("myapp"), words, "--api")


@pytest.mark.parametrize(
    "answer",
    [Canned(503, b"x"), Canned(503, {"links": {}}), Canned(200, b"<html>"), Canned(200, {"links": []})],
)
@pytest.mark.long
def test_no_root_document(foundation: Foundation, answer: Canned) -> None:
    """When Cloud Controller cannot be asked, the pcap api's address is not guessed."""
    foundation.state.canned["/"] = answer
    assert_failed(foundation, foundation.pcapctl("myapp"), "api.sys.example.test")


def test_pcap_api_refuses(foundation: Foundation) -> None:
    """The pcap api's refusal of the token reaches the user."""
    foundation.log_in(foundation.state.new_access())
    foundation.state.access.clear()
    done = foundation.pcapctl(GUID)
    assert_failed(foundation, done, "the token is not good")
