"""Proxies for all connections of pcapctl: selects one, and connects through it.

The environment variables are those of the cf CLI (golang.org/x/net/http/httpproxy),
``ALL_PROXY``, and for the BOSH CLI ``BOSH_ALL_PROXY``.  The proxy resolves the name of the
host to which it connects.  Supported are CONNECT (RFC 9110, section 9.3.6), SOCKS 5 (RFC 1928,
RFC 1929), and ``ssh -W`` of the system's ssh.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import socket
import time
from typing import TYPE_CHECKING, Callable, List, Mapping, NamedTuple, Optional, Tuple, Union
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import pcapd
from pcapd.ctl.stream.deadline import Deadline
from pcapd.errors import PcapdError
from pcapd.limits import CONNECT_TIMEOUT

if TYPE_CHECKING:
    import subprocess

__all__ = [
    "VARIABLES",
    "Proxy",
    "ProxyProblem",
    "Tunnel",
    "bypassing",
    "chosen",
    "of_bosh",
    "ssh_command",
    "through",
]

_BOSH = "BOSH_ALL_PROXY"
#: All variables that are read; all but the first in lower case too.
VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", _BOSH)
_ANSWER_MAX = 16 * 1024  # bytes of a proxy's answer
_SSH_MESSAGE_MAX = 500  # characters of ssh's error message
_LOOK = 0.02  # seconds between two checks of ssh
_SSH_END = 1.0  # seconds that ssh may take to exit after its connection was closed
_PORTS = {"http": 80, "socks5": 1080, "socks5h": 1080, "ssh+socks5": 22}
_SOCKS_PROBLEMS = {
    1: "general failure",
    2: "not allowed",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "no answer",
}

Connect = Callable[[str, int, Deadline], socket.socket]


class ProxyProblem(PcapdError):
    """The proxy that the environment names cannot be used."""


class Proxy(NamedTuple):
    """A proxy.

    Attributes:
        variable: The environment variable that names it.
        scheme: One of http, socks5, ssh+socks5.
        user: User name; may be empty.
        password: Password; may be empty.
        key: File of the private key, for ssh.
    """

    variable: str
    scheme: str
    host: str
    port: int
    user: str = ""
    password: str = ""
    key: str = ""


# --- selection: pure -------------------------------------------------------------


def chosen(environ: Mapping[str, str], host: str, *, secure: bool) -> Optional[Proxy]:
    """The proxy for a host according to the environment; None to connect directly.

    Args:
        secure: Whether the connection will use TLS.

    Raises:
        ProxyProblem: The variable's value is not usable.
    """
    if _is_loopback(host) or bypassing(environ, host):
        return None
    for name in ("HTTPS_PROXY" if secure else "HTTP_PROXY", "ALL_PROXY"):
        found = _get(environ, name)
        if found is not None:
            return _parse(*found)
    return None


def of_bosh(environ: Mapping[str, str], host: str) -> Optional[Proxy]:
    """The proxy of the BOSH CLI's own variable, also for hosts on this machine; None if it is not set.

    Raises:
        ProxyProblem: The variable's value is not usable.
    """
    text = environ.get(_BOSH, "")
    return _parse(_BOSH, text) if text and not bypassing(environ, host) else None


def bypassing(environ: Mapping[str, str], host: str) -> str:
    """The name of the environment variable that excludes a host from proxies; empty if none does."""
    found = _get(environ, "NO_PROXY")
    if found is None:
        return ""
    return (
        found[0] if any(_matches(name.strip().lower(), host.lower()) for name in found[1].split(",")) else ""
    )


def _get(environ: Mapping[str, str], name: str) -> Optional[Tuple[str, str]]:
    for spelling in (name, name.lower()):
        if environ.get(spelling):
            return spelling, environ[spelling]
    return None


def _matches(word: str, host: str) -> bool:
    if word == "*":
        return True
    address = _address(host)
    if address is not None:
        with contextlib.suppress(ValueError):
            return address in ipaddress.ip_network(word.strip("[]"), strict=False)
        return False
    domain = word.lstrip("*")
    if not domain or "/" in domain:
        return False
    # A leading dot excludes the domain itself.
    return host.endswith(domain if domain.startswith(".") else f".{domain}") or host == domain


def _address(host: str) -> Optional[Union[ipaddress.IPv4Address, ipaddress.IPv6Address]]:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host.lower() == "localhost" or (address is not None and bool(address.is_loopback))


def _parse(variable: str, text: str) -> Proxy:
    url = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = url.port
    except ValueError:
        port = 0
    if url.scheme not in _PORTS or not url.hostname or port == 0:
        hint = f"use http://HOST:PORT, socks5://HOST:PORT or, for {_BOSH}, ssh+socks5://…"
        raise ProxyProblem(f"{variable} does not name a proxy that pcapctl can use", hint)
    return _proxy(variable, url, port or _PORTS[url.scheme])


def _proxy(variable: str, url: SplitResult, port: int) -> Proxy:
    scheme = "socks5" if url.scheme == "socks5h" else url.scheme
    key = parse_qs(url.query).get("private-key", [""])[0]
    user, password = unquote(url.username or ""), unquote(url.password or "")
    return Proxy(variable, scheme, url.hostname or "", port, user, password, key)


# --- connection ------------------------------------------------------------------


def through(proxy: Proxy, host: str, port: int, deadline: Deadline, connect: Connect) -> socket.socket:
    """Connect to a host through a proxy.

    Args:
        connect: Function that connects to the proxy.

    Raises:
        ProxyProblem: The proxy cannot be reached, or refuses the connection.
    """
    if proxy.scheme == "ssh+socks5":
        return Tunnel(proxy, host, port)
    try:
        connection = connect(proxy.host, proxy.port, deadline)
    except (OSError, UnicodeError) as error:
        reason = (
            "no answer" if isinstance(error, socket.timeout) else getattr(error, "strerror", None) or error
        )
        raise _problem(
            proxy, f"cannot connect to the proxy {proxy.host} port {proxy.port}: {reason}"
        ) from error
    try:
        connection.settimeout(deadline.left(CONNECT_TIMEOUT))
        (_connect_http if proxy.scheme == "http" else _connect_socks)(proxy, connection, host, port)
    except OSError as error:
        connection.close()
        reason = "no answer" if isinstance(error, socket.timeout) else error.strerror or error
        raise _problem(proxy, f"the connection to the proxy {proxy.host} failed: {reason}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _problem(proxy: Proxy, message: str) -> ProxyProblem:
    return ProxyProblem(message, f"check {proxy.variable}, or name hosts to reach directly in NO_PROXY")


def _connect_http(proxy: Proxy, connection: socket.socket, host: str, port: int) -> None:
    name = host if _address(host) is not None else host.encode("idna").decode("ascii")
    authority = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    lines = [
        f"CONNECT {authority} HTTP/1.1",
        f"Host: {authority}",
        f"User-Agent: pcapctl/{pcapd.__version__}",
    ]
    if proxy.user:
        basic = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {basic}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    head = b""
    while b"\r\n\r\n" not in head:
        # Byte by byte, because the bytes after the answer are from the host behind the proxy.
        data = connection.recv(1)
        if not data or len(head) > _ANSWER_MAX:
            raise _problem(proxy, f"{proxy.host} port {proxy.port} is not an HTTP proxy")
        head += data
    status = head.split(b"\r\n", 1)[0].split(b" ")[1:2]
    if not status or not status[0].isdigit() or len(status[0]) != 3:
        raise _problem(proxy, f"{proxy.host} port {proxy.port} is not an HTTP proxy")
    if not status[0].startswith(b"2"):
        message = f"the proxy {proxy.host} does not connect to {host} port {port}: HTTP {status[0].decode()}"
        raise _problem(proxy, message)


def _connect_socks(proxy: Proxy, connection: socket.socket, host: str, port: int) -> None:
    methods = b"\x00\x02" if proxy.user else b"\x00"
    connection.sendall(bytes([5, len(methods)]) + methods)
    version, method = _exactly(proxy, connection, 2)
    if version != 5 or method not in methods:
        reason = "requires a user and a password" if version == 5 else "is not a SOCKS 5 proxy"
        raise _problem(proxy, f"{proxy.host} port {proxy.port} {reason}")
    if method == 2:
        user, password = proxy.user.encode()[:255], proxy.password.encode()[:255]
        connection.sendall(bytes([1, len(user)]) + user + bytes([len(password)]) + password)
        if _exactly(proxy, connection, 2)[1] != 0:
            raise _problem(proxy, f"the proxy {proxy.host} does not accept the user and the password")
    connection.sendall(b"\x05\x01\x00" + _socks_address(host) + port.to_bytes(2, "big"))
    version, reply, _, kind = _exactly(proxy, connection, 4)
    if version != 5 or reply != 0:
        reason = _SOCKS_PROBLEMS.get(reply, f"code {reply}")
        raise _problem(proxy, f"the proxy {proxy.host} does not connect to {host} port {port}: {reason}")
    length = {1: 4, 4: 16}.get(kind)
    _exactly(proxy, connection, 2 + (_exactly(proxy, connection, 1)[0] if length is None else length))


def _socks_address(host: str) -> bytes:
    address = _address(host)
    if address is None:
        name = host.encode("idna")
        return bytes([3, len(name)]) + name
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed


def _exactly(proxy: Proxy, connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise _problem(proxy, f"the proxy {proxy.host} closed the connection")
        data += more
    return data


class Tunnel(socket.socket):
    """One connection through the system's ssh, which uses its own configuration and keys.

    Like the BOSH CLI, it accepts any host key of the jump box: the connection through it uses
    TLS, and the certificate of the host behind it is checked.
    """

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        # Importing these is slow, and they are rarely needed.
        import subprocess  # noqa: PLC0415
        import tempfile  # noqa: PLC0415

        ours, theirs = socket.socketpair()
        super().__init__(fileno=ours.detach())
        self._proxy = proxy
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed when this object is freed
        with theirs:
            try:
                # In a separate session, so that Ctrl-C at the terminal ends pcapctl but not ssh.
                self._process = subprocess.Popen(  # noqa: S603  # no shell
                    ssh_command(proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"),
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=self._said,
                    start_new_session=True,
                )
            except OSError as error:
                self.close()
                raise _problem(proxy, f"cannot start ssh: {error.strerror}") from error
        _running[:] = [process for process in _running if process.poll() is None] + [self._process]

    def problem(self) -> Optional[ProxyProblem]:
        """Why ssh has ended; None while it runs."""
        until = time.monotonic() + _SSH_END
        while self._process.poll() is None:
            if time.monotonic() >= until:
                return None
            time.sleep(_LOOK)
        self._said.seek(0)
        lines = self._said.read(_ANSWER_MAX).decode(errors="replace").split("\n")
        message = next((line.strip() for line in reversed(lines) if line.strip()), "it exited")
        return _problem(self._proxy, f"ssh to {self._proxy.host}: {message[:_SSH_MESSAGE_MAX]}")


#: The ssh processes; each exits when its connection is closed.
_running: List[subprocess.Popen[bytes]] = []


def ssh_command(proxy: Proxy, target: str) -> List[str]:
    """The command line of an ssh whose stdin and stdout are a connection behind a jump box.

    Args:
        proxy: The jump box; a port of 0 is that of the user's ssh configuration.
        target: ``HOST:PORT`` or ``[HOST]:PORT``, as for ``ssh -W``.
    """
    options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
    options.append(f"ConnectTimeout={CONNECT_TIMEOUT:.0f}")
    key = ["-i", proxy.key, "-o", "IdentitiesOnly=yes"] if proxy.key else []
    user = ["-l", proxy.user] if proxy.user else []
    port = ["-p", str(proxy.port)] if proxy.port else []
    given = [argument for option in options for argument in ("-o", option)]
    return ["ssh", *given, *key, *user, *port, "-W", target, "--", proxy.host]
