"""``pcapctl cf`` as a process, against a foundation of one HTTPS server with the names of four.

Cloud Controller, UAA and the pcap api are told apart by the Host header, as
behind a gorouter.  Whatever a test does, afterwards no token and no secret is
anywhere but in the cf CLI's own configuration (`Foundation.pcapctl`).
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import ssl
import stat
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Optional, Union
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection
from wsproto.events import Request as Upgrade

import pcapd
from demo.certificates import Authority
from demo.daemons import environment
from demo.processes import ROOT
from pcapd.ctl.login import fetch
from pcapd.ctl.login.fetch import BODY_MAX, Client, CloudUnreachable
from pcapd.ctl.options import Trust
from pcapd.wire import App, Callee, End, EndReason, Hello, Request, Source, Stats
from pcapd.wire.frames import Bytes
from tests.doubles.stream_api import StreamApi
from tests.lab.readers import capinfos, require, tcpdump_lines

SYSTEM_DOMAIN = "sys.example.test"
GUID = "1cb006ee-fb05-47e1-b541-c34179ddc446"
#: Seconds that a pcapctl may run.
TIMEOUT = 60.0

#: Makes the names of the foundation known to a Python process, whatever its resolver says.
SITECUSTOMIZE = f"""
import socket
original = socket.getaddrinfo
def getaddrinfo(host, *rest, **options):
    return original("127.0.0.1" if host.endswith(".{SYSTEM_DOMAIN}") else host, *rest, **options)
socket.getaddrinfo = getaddrinfo
"""


class Asked(NamedTuple):
    """One HTTP request as it came."""

    method: str
    host: str
    target: str
    authorization: Optional[str]
    form: dict[str, list[str]]


class Canned(NamedTuple):
    """An answer that is given instead of the right one."""

    status: int
    body: Union[bytes, dict[str, Any]] = b""
    headers: tuple[tuple[str, str], ...] = ()
    length: Optional[int] = None  # what Content-Length claims
    trickle: float = 0.0  # seconds between the bytes


def cc_error(status: int, code: int, title: str, *headers: tuple[str, str]) -> Canned:
    """What Cloud Controller says when it refuses; the detail must not be relied on."""
    body = {"errors": [{"code": code, "title": title, "detail": "some\x1b[2J detail"}]}
    return Canned(status, body, headers)


@dataclass
class State:
    """What the foundation knows.

    Attributes:
        apps: Names and GUIDs of the apps in space ``space-guid``.
        links: Laid over the root document's links.
        access: Access tokens that are good.
        refresh: The refresh token that is good.
        rotate: A refresh gives a new refresh token, and the old one ends.
        canned: Answers by path, instead of the right ones.
        secrets: All that must not be told.
        asked: The requests, in order.
        captures: What the pcap api was asked for.
    """

    apps: list[tuple[str, str]] = field(default_factory=lambda: [("myapp", GUID)])
    links: dict[str, Any] = field(default_factory=dict)
    access: set[str] = field(default_factory=set)
    refresh: str = ""
    rotate: bool = False
    per_page: int = 50
    canned: dict[str, Canned] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    asked: list[Asked] = field(default_factory=list)
    captures: list[Request] = field(default_factory=list)

    def new_access(self, seconds: float = 600.0) -> str:
        """Make an access token that is good, and says how long."""
        claims = {"jti": secrets.token_hex(8), "exp": int(time.time() + seconds), "user_name": "alice"}
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        return self._good(f"eyJhbGciOiJSUzI1NiJ9.{body}.{secrets.token_urlsafe(24)}")

    def new_opaque(self) -> str:
        """Make an access token that is good and says nothing."""
        return self._good(secrets.token_hex(16))

    def new_refresh(self) -> str:
        """Make the refresh token that is good from now on."""
        self.refresh = f"{secrets.token_hex(16)}-r"
        self.secrets.add(self.refresh)
        return self.refresh

    def _good(self, token: str) -> str:
        self.access.add(token)
        self.secrets.add(token)
        return token


class Endpoint(BaseHTTPRequestHandler):
    """Answers for every host of the foundation."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: pytest shows what matters."""

    def do_GET(self) -> None:
        self._note({})
        path = urlsplit(self.path).path
        if path == "/v1/stream":
            self._stream()
        elif path in self.state.canned:
            self._answer(self.state.canned[path])
        elif path == "/":
            self._json(
                200, {"links": {"self": {"href": self._url("api")}, "credhub": None, **self.state.links}}
            )
        elif path == "/v3/apps":
            self._apps(parse_qs(urlsplit(self.path).query))
        else:
            self._answer(cc_error(404, 10000, "CF-NotFound"))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        form = parse_qs(body, keep_blank_values=True)
        self._note(form)
        path = urlsplit(self.path).path
        if path in self.state.canned:
            self._answer(self.state.canned[path])
        elif form.get("grant_type") == ["client_credentials"]:
            self._json(200, {"access_token": self.state.new_access(), "token_type": "bearer"})
        elif form.get("refresh_token") != [self.state.refresh]:
            # UAA does quote the token.
            words = f"Invalid refresh token: {form.get('refresh_token')}"
            self._json(401, {"error": "invalid_token", "error_description": words})
        else:
            refresh = self.state.new_refresh() if self.state.rotate else self.state.refresh
            tokens = {"access_token": self.state.new_access(), "refresh_token": refresh}
            self._json(
                200, {**tokens, "token_type": "bearer", "expires_in": 599, "scope": "openid", "jti": "x"}
            )

    @property
    def state(self) -> State:
        return self.server.state

    def _note(self, form: dict[str, list[str]]) -> None:
        host = self.headers["Host"].partition(":")[0]
        self.state.asked.append(Asked(self.command, host, self.path, self.headers.get("Authorization"), form))

    def _url(self, name: str) -> str:
        return f"https://{name}.{SYSTEM_DOMAIN}:{self.server.server_port}"

    def _authorized(self) -> bool:
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        return scheme.lower() == "bearer" and token in self.state.access

    def _apps(self, query: dict[str, list[str]]) -> None:
        if not self._authorized():
            self._answer(cc_error(401, 1000, "CF-InvalidAuthToken"))
            return
        if set(query) - {"names", "space_guids", "page", "per_page"}:
            self._answer(cc_error(400, 10005, "CF-BadQueryParameter"))
            return
        wanted = unquote(query["names"][0]).lower()
        here = query["space_guids"] == ["space-guid"]
        found = [app for app in self.state.apps if here and app[0].lower() == wanted]
        page, size = int(query.get("page", ["1"])[0]), self.state.per_page
        following = None
        if page * size < len(found):
            names, spaces = urlsplit(self.path).query.split("&")[:2]
            following = {
                "href": f"{self._url('api')}/v3/apps?{names}&{spaces}&page={page + 1}&per_page={size}"
            }
        resources = [{"guid": guid, "name": name} for name, guid in found[(page - 1) * size : page * size]]
        self._json(200, {"pagination": {"next": following}, "resources": resources})

    def _json(self, status: int, value: Any) -> None:
        self._answer(Canned(status, value))

    def _answer(self, canned: Canned) -> None:
        body = canned.body if isinstance(canned.body, bytes) else json.dumps(canned.body).encode()
        self.send_response(canned.status)
        for name, value in canned.headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json;charset=UTF-8")
        self.send_header("Content-Length", str(len(body) if canned.length is None else canned.length))
        self.end_headers()
        for byte in body if canned.trickle else ():
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(canned.trickle)
        if not canned.trickle:
            self.wfile.write(body)
        self.close_connection = canned.length is not None

    def _stream(self) -> None:
        self.close_connection = True
        if not self._authorized():
            self._json(401, {"errors": [{"code": "unauthenticated", "title": "the token is not good"}]})
            return
        head = f"{self.requestline}\r\n".encode() + b"".join(
            f"{name}: {value}\r\n".encode() for name, value in self.headers.items()
        )
        websocket = WSConnection(ConnectionType.SERVER)
        websocket.receive_data(head + b"\r\n")
        assert isinstance(next(websocket.events()), Upgrade)
        self.connection.sendall(websocket.send(AcceptConnection()))
        with contextlib.suppress(OSError):
            self._capture(websocket)

    def _capture(self, websocket: WSConnection) -> None:
        """Play the pcap api: one packet from each interface of each instance, and the end."""
        callee = Callee(Request)

        def send(*frames: Bytes) -> None:
            self.connection.sendall(websocket.send(BytesMessage(data=b"".join(frames))))

        send(callee.hello(Hello(pcapd.COMPATIBILITY_LEVEL, "api", "double", "0", now_us())))
        request = next(
            message for message in self._messages(websocket, callee) if isinstance(message, Request)
        )
        self.state.captures.append(request)
        assert request.app is not None
        number = 0
        for index in request.app.indices or (0, 1):
            for interface in request.interfaces or ("eth0",):
                number += 1
                source = Source(
                    f"myapp/{index}",
                    interface,
                    1,
                    request.snaplen,
                    request.filter,
                    agent=f"diego-cell/{index}",
                    agent_address="10.0.0.5",
                    clock_offset_us=1200,
                    headers_only=request.headers_only,
                )
                send(callee.source(number, source), *callee.packets(number, packet()))
                send(callee.stats(number, Stats(1, 0, 0, 1, now_us(), final=True)))
        send(callee.end(End(EndReason.DURATION)))
        self.connection.sendall(websocket.send(CloseConnection(code=1000)))

    def _messages(self, websocket: WSConnection, callee: Callee) -> Iterator[Any]:
        while data := self.connection.recv(65536):
            websocket.receive_data(data)
            for event in websocket.events():
                if isinstance(event, BytesMessage):
                    yield from (said.message for said in callee.receive(event.data))


def now_us() -> int:
    return time.time_ns() // 1000


def packet() -> bytes:
    """One record of a small Ethernet frame."""
    seconds, fraction = divmod(now_us(), 1_000_000)
    data = bytes(12) + b"\x88\xb5" + bytes(46)
    return struct.pack("<4I", seconds, fraction, len(data), len(data)) + data


class Server(ThreadingHTTPServer):
    """HTTPS, each connection in a thread of its own so that none holds up the others."""

    daemon_threads = True

    def __init__(self, state: State, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Endpoint)
        self.state = state
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Begin with TLS, in the connection's own thread."""
        with contextlib.suppress(OSError, ssl.SSLError):
            super().finish_request(self._context.wrap_socket(request, server_side=True), client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is none of our business."""


class Foundation:
    """The server, a user's home, and their terminal.

    Args:
        directory: Where the home and the working directory are made.
        authority: Signs the server's certificate.
    """

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.state = State()
        self.ca = authority.certificate_path
        names = (f"*.{SYSTEM_DOMAIN}", SYSTEM_DOMAIN, "localhost")
        credentials = authority.issue("foundation", dns=names, ips=("127.0.0.1",))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(credentials.certificate, credentials.private_key)
        self.server = Server(self.state, context)
        self._directory = directory
        self.work = directory / "work"
        self.config_path = directory / "home" / ".cf" / "config.json"
        for path in (self.work, self.config_path.parent, directory / "site"):
            path.mkdir(parents=True)
        (directory / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)
        self.log_in()

    def __enter__(self) -> Foundation:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def url(self, name: str = "api") -> str:
        """Where one of the hosts serves."""
        return f"https://{name}.{SYSTEM_DOMAIN}:{self.server.server_port}"

    def log_in(self, access: Optional[str] = None, **changes: Any) -> None:
        """Write the configuration as ``cf login`` would; a change to None removes the key."""
        values = {
            "AccessToken": f"bearer {access or self.state.new_access()}",
            "AuthorizationEndpoint": self.url("login"),
            "ConfigVersion": 4,
            "OrganizationFields": {"GUID": "org-guid", "Name": "acme"},
            "PluginRepos": [{"Name": "CF-Community", "URL": "https://plugins.example.test"}],
            "RefreshToken": self.state.new_refresh(),
            "SpaceFields": {"GUID": "space-guid", "Name": "dev", "AllowSSH": True},
            "SSLDisabled": False,
            "Target": self.url(),
            "UaaEndpoint": self.url("uaa"),
            "UAAGrantType": "",
            "UAAOAuthClient": "cf",
            "UAAOAuthClientSecret": "",
            **changes,
        }
        kept = {key: value for key, value in values.items() if value is not None}
        self.config_path.write_text(json.dumps(kept, indent=2))
        self.config_path.chmod(0o600)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it is now."""
        value: dict[str, Any] = json.loads(self.config_path.read_text())
        return value

    def pcapctl(
        self, *arguments: str, ca: bool = True, command: str = "cf", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``pcapctl cf``, or another command, and make sure that it tells no secret."""
        environ = environment(
            PYTHONPATH=f"{self._directory / 'site'}:{ROOT}",
            HOME="/nonexistent",
            CF_HOME=str(self._directory / "home"),
            **variables,
        )
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            environ.pop(name, None)
        argv = [sys.executable, "-m", "pcapd.ctl", command, *arguments]
        argv += ["--ca", str(self.ca)] if ca else []
        done = subprocess.run(
            argv, cwd=self.work, env=environ, capture_output=True, timeout=TIMEOUT, check=False
        )
        self.assert_discreet(done.stdout, done.stderr)
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode()
        assert "Traceback" not in err
        return subprocess.CompletedProcess(argv, done.returncode, out, err)

    def assert_discreet(self, *outputs: bytes) -> None:
        """No secret is in the output, in another file, in a URL, or has gone to a stranger."""
        texts = [*outputs, *(target.encode() for _, _, target, _, _ in self.state.asked)]
        files = [path for path in self._directory.rglob("*") if path.is_file() and path != self.config_path]
        texts += [path.read_bytes() for path in files]
        for secret in self.state.secrets:
            assert not any(secret.encode() in text for text in texts)
        assert not list(self.config_path.parent.glob("temp-config*"))
        assert not [asked for asked in self.state.asked if asked.host.startswith("evil")]

    def asked(self, path: str) -> list[Asked]:
        """The requests for one path."""
        return [asked for asked in self.state.asked if urlsplit(asked.target).path == path]


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
    """Lists, repeated options, and all."""
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
    """What cannot be is said before anybody is asked."""
    assert_failed(foundation, foundation.pcapctl(*arguments), status=2)
    assert not foundation.state.asked


def test_verbose(foundation: Foundation) -> None:
    """Before the start the plan, then a line for each source that is opened."""
    done = foundation.pcapctl("myapp", "--instance", "0,1", "--filter", "tcp", "--verbose")
    assert_captured(foundation, done)
    (file,) = foundation.work.iterdir()
    assert done.stderr.splitlines()[:8] == [
        f"app myapp ({GUID}) in space dev of org acme: instances 0, 1 of type web",
        f"pcap api {foundation.url('pcap')}, beside api.sys.example.test, which has no pcap link",
        "app: myapp, web, instances 0, 1",
        "filter: tcp, without the capture's own connections; whole packets",
        f"limits: none; writing to {file.name}",
        f"capturing app: myapp, web, instances 0, 1; writing to {file.name}",
        "myapp/0:eth0: Ethernet, agent diego-cell/0 at 10.0.0.5, clock +1.2 ms, filter tcp",
        "myapp/1:eth0: Ethernet, agent diego-cell/1 at 10.0.0.5, clock +1.2 ms, filter tcp",
    ]


def test_not_verbose(foundation: Foundation) -> None:
    """Without --verbose only the report."""
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
    """When UAA refuses, the user logs in again; the file stays, and UAA's words stay untold."""
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
        (Canned(200, b"<html>"), "no token"),
        (Canned(200, {"access_token": "a\r\nX: y"}), "no token"),
        (Canned(302, headers=(("Location", "https://evil.example.test/"),)), "no token"),
        (Canned(200, b"{", length=100), "broke off"),
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
    """After ``cf auth --client-credentials`` there is no refresh token, but a secret."""
    foundation.state.secrets.add("sesame-open")
    client = {"UAAOAuthClient": "ci", "UAAOAuthClientSecret": "sesame-open"}
    expired = foundation.state.new_access(seconds=-1)
    foundation.log_in(expired, RefreshToken="", UAAGrantType="client_credentials", **client)
    assert_captured(foundation, foundation.pcapctl("myapp"))
    assert foundation.asked("/oauth/token")[0].authorization is None
    assert foundation.config["RefreshToken"] == ""
    assert foundation.config["AccessToken"] not in ("", f"bearer {expired}")


def test_no_secret_where_there_was_none(foundation: Foundation) -> None:
    """An access token is not kept where none was."""
    foundation.log_in(AccessToken="")
    before = foundation.config_path.read_bytes()
    assert_captured(foundation, foundation.pcapctl("myapp"))
    assert foundation.config_path.read_bytes() == before


def test_nobody_logged_in(foundation: Foundation) -> None:
    """After ``cf logout``, and where there never was a login."""
    foundation.log_in(AccessToken="", RefreshToken="")
    assert_failed(foundation, foundation.pcapctl("myapp"), "not logged in", "cf login")
    foundation.config_path.unlink()
    assert_failed(foundation, foundation.pcapctl("myapp"), "config.json", "cf login")
    assert not foundation.state.asked


def test_garbled(foundation: Foundation) -> None:
    """A file that is cut off."""
    foundation.config_path.write_text(foundation.config_path.read_text()[:200])
    assert_failed(foundation, foundation.pcapctl("myapp"), "not JSON", "cf login")


def test_no_space(foundation: Foundation) -> None:
    """A name needs a space to be looked up in."""
    foundation.log_in(SpaceFields={"GUID": "", "Name": ""})
    assert_failed(foundation, foundation.pcapctl("myapp"), "no space", "cf target")
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
    """Nothing is checked on any of the three paths, and that is said, also with --quiet."""
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
    """They exclude each other."""
    done = foundation.pcapctl("myapp", "--insecure")
    assert_failed(foundation, done, "--insecure and --ca exclude each other", status=2)
    assert not foundation.state.asked


@pytest.mark.parametrize("skipped", [False, True])
def test_unknown_authority(foundation: Foundation, skipped: bool) -> None:
    """Cloud Controller's is refused before the token is sent, however cf logged in."""
    foundation.log_in(SSLDisabled=skipped)
    done = foundation.pcapctl("myapp", "--quiet", ca=False)
    assert_failed(foundation, done, "the certificate of api.sys.example.test is not good", "--insecure")
    assert not foundation.state.asked


def test_skipped_validation_is_not_implied(foundation: Foundation) -> None:
    """Who logged in with --skip-ssl-validation is told that it does not count here."""
    foundation.log_in(SSLDisabled=True)
    done = foundation.pcapctl("myapp", ca=False)
    assert done.returncode == 1 and not foundation.state.asked
    assert "--skip-ssl-validation, which does not count here" in done.stderr


def test_unknown_authority_of_uaa(foundation: Foundation, tmp_path: Path) -> None:
    """A refresh token goes to nobody whose certificate is not good."""
    with elsewhere(tmp_path) as (url, asked):
        foundation.log_in(
            access=foundation.state.new_access(seconds=-1), AuthorizationEndpoint=url, SSLDisabled=True
        )
        done = foundation.pcapctl("myapp", "--quiet")
    assert_failed(foundation, done, "the certificate of localhost is not good", "--insecure")
    assert not asked


def test_unknown_authority_of_the_pcap_api(foundation: Foundation, tmp_path: Path) -> None:
    """Nor does the access token."""
    foundation.log_in(SSLDisabled=True)
    with elsewhere(tmp_path) as (url, asked):
        done = foundation.pcapctl("myapp", "--quiet", "--api", url)
    assert_failed(foundation, done, "the certificate of localhost is not good", "--insecure")
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
    """No app of that name, where it was looked for, and how to look elsewhere."""
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
    """Commas, spaces and percent signs in a name are part of it."""
    foundation.state.apps = [("a, 100%&b/ü", "guid-1"), ("a", "guid-2")]
    request = assert_captured(foundation, foundation.pcapctl("a, 100%&b/ü"))
    assert request.app == App("guid-1", "web", ())
    (file,) = foundation.work.iterdir()
    assert "/" not in file.name


@pytest.mark.long
def test_pages_without_end(foundation: Foundation) -> None:
    """A list that leads back to itself is left."""
    again = {"next": {"href": f"{foundation.url()}/v3/apps"}}
    foundation.state.canned["/v3/apps"] = Canned(200, {"resources": [], "pagination": again})
    assert_failed(foundation, foundation.pcapctl("myapp"), "no end", "--guid")


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
        (Canned(200, b"<html>"), ("does not answer as Cloud Controller does",)),
        (Canned(200, {"resources": 5}), ("does not answer as Cloud Controller does",)),
        (Canned(200, b"[" * 200_000), ("does not answer as Cloud Controller does",)),
        (Canned(200, bytes(BODY_MAX + 1)), ("no end",)),
        (Canned(200, b'{"resources": [', length=1000), ("broke off",)),
    ],
)
@pytest.mark.long(but=("0",))
def test_cloud_controller_in_trouble(foundation: Foundation, answer: Canned, words: tuple[str, ...]) -> None:
    """Every failure has words of its own."""
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
    """Cloud Controller is away."""
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
    where = "beside api.sys.example.test, which has no pcap link"
    assert done.stdout.splitlines()[:2] == [f"{foundation.url('pcap')}, {where}", "healthy: ready"]
    (asked,) = foundation.asked("/health")
    assert asked.host.startswith("pcap.") and asked.authorization is None


@pytest.mark.parametrize("link", [None, {}, {"href": None}, {"href": ""}])
@pytest.mark.long(but=("link1",))
def test_beside_api(foundation: Foundation, link: Any) -> None:
    """Without a link: ``api.`` → ``pcap.``, on the same port."""
    foundation.state.links["pcap"] = link
    assert_captured(foundation, foundation.pcapctl("myapp"))
    assert foundation.asked("/v1/stream")[0].host == f"pcap.{SYSTEM_DOMAIN}"


@pytest.mark.parametrize("way", ["option", "variable"])
def test_given(foundation: Foundation, way: str) -> None:
    """Who names it is not second-guessed: the root document is not even asked for."""
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
    """Neither a link nor an ``api.``."""
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
        ({"a": 1}, "no text"),
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
    """It is not guessed where Cloud Controller cannot be asked."""
    foundation.state.canned["/"] = answer
    assert_failed(foundation, foundation.pcapctl("myapp"), "api.sys.example.test")


def test_pcap_api_refuses(foundation: Foundation) -> None:
    """What the pcap api says of the token reaches the user."""
    foundation.log_in(foundation.state.new_access())
    foundation.state.access.clear()
    done = foundation.pcapctl(GUID)
    assert_failed(foundation, done, "the token is not good")
