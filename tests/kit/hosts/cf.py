"""A foundation of one HTTPS server with the names of four, and a user who is logged in."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import ssl
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

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection
from wsproto.events import Request as Upgrade

import pcapd
from demo.certificates import Authority
from demo.daemons import environment
from demo.processes import ROOT
from pcapd.wire import Callee, End, EndReason, Hello, Request, Source, Stats
from pcapd.wire.frames import Bytes

SYSTEM_DOMAIN = "sys.example.test"
GUID = "1cb006ee-fb05-47e1-b541-c34179ddc446"
#: Seconds that a pcapctl may run.
TIMEOUT = 60.0

#: Makes the names of the foundation known to a Python process, whatever its resolver says.
#: UNKNOWN_HOST names one that cannot be resolved.
SITECUSTOMIZE = f"""
import os, socket
original = socket.getaddrinfo
def getaddrinfo(host, *rest, **options):
    if host == os.environ.get("UNKNOWN_HOST"):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
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
        if path in self.state.canned:
            self._answer(self.state.canned[path])
        elif path == "/v1/stream":
            self._stream()
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
        argv, options = self.command(*arguments, ca=ca, command=command, **variables)
        done = subprocess.run(argv, **options, capture_output=True, timeout=TIMEOUT, check=False)
        self.assert_discreet(done.stdout, done.stderr)
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode()
        assert "Traceback" not in err
        return subprocess.CompletedProcess(argv, done.returncode, out, err)

    def command(
        self, *arguments: str, ca: bool = True, command: str = "cf", **variables: str
    ) -> tuple[list[str], dict[str, Any]]:
        """The command line of pcapctl, and the options of subprocess with which it runs at the user's."""
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
        return argv, {"cwd": self.work, "env": environ}

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
