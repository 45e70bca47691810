"""Object stores: an S3 server with a directory behind it, a proxy before it that is slow or fails, and Azurite."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import socket
import subprocess
import threading
import time
from email.utils import formatdate
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Iterator

from demo.configurations import LOCAL, free_port
from demo.processes import end, wait_until
from tests.kit.lab import programs

#: Of the server's only user.
KEY, SECRET = "lab", "lab-secret-of-nobody"
#: Of Azurite's only user, which are in its documentation.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def versitygw(directory: Path) -> Path:
    """The server's program; the test is skipped without it."""
    return Path(programs.find(programs.VERSITYGW, directory / "programs"))


@contextlib.contextmanager
def s3(program: Path, directory: Path, bucket: str) -> Iterator[int]:
    """Run a server with one bucket; gives its port."""
    (directory / "root" / bucket).mkdir(parents=True)
    port = free_port()
    argv = [str(program), "--port", f"{LOCAL}:{port}", "posix", str(directory / "root")]
    with (directory / "versitygw.log").open("wb") as log:
        process = subprocess.Popen(
            argv,
            env={**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _listens(port), "the S3 server listens", timeout=20)
        yield port
    finally:
        end(process)


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex((LOCAL, port)) == 0


def s3_settings(port: int) -> dict[str, str]:
    """The settings of a store at this port."""
    return {
        "access_key_id": KEY,
        "secret_access_key": SECRET,
        "endpoint": f"http://{LOCAL}:{port}",
        "region": "us-east-1",
    }


@contextlib.contextmanager
def azurite(directory: Path, container: str) -> Iterator[int]:
    """Run Azurite with one container; gives its port."""
    port = free_port()
    program = programs.find(programs.AZURITE, directory / "programs")
    place = ["--blobHost", LOCAL, "--blobPort", str(port), "--location", str(directory / "blobs")]
    with (directory / "azurite.log").open("wb") as log:
        process = subprocess.Popen([program, *place, "--skipApiVersionCheck"], stdout=log, stderr=log)
    try:
        wait_until(lambda: _listens(port), "Azurite listens", timeout=60)
        _make_container(port, container)
        yield port
    finally:
        end(process)


def azure_settings(port: int) -> dict[str, str]:
    """The settings of a store at this port."""
    return {
        "account_name": ACCOUNT,
        "account_key": ACCOUNT_KEY,
        "endpoint": f"http://{LOCAL}:{port}/{ACCOUNT}",
    }


def _make_container(port: int, name: str) -> None:
    """Sent as in https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key"""
    named = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    path = f"/{ACCOUNT}/{name}"
    signed = "PUT" + "\n" * 12 + "".join(f"{key}:{value}\n" for key, value in named.items())
    signed += f"/{ACCOUNT}{path}\nrestype:container"
    key = base64.b64decode(ACCOUNT_KEY)
    signature = base64.b64encode(hmac.new(key, signed.encode(), hashlib.sha256).digest()).decode()
    headers = {**named, "Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": "0"}
    connection = HTTPConnection(LOCAL, port, timeout=30)
    try:
        connection.request("PUT", f"{path}?restype=container", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()
    finally:
        connection.close()


class Faults:
    """What the proxy does.

    Attributes:
        delay: Seconds before each request is passed on.
        refuse: Whether it answers 503.
        requests: Method and path of each request.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self.refuse = False
        self.requests: list[tuple[str, str]] = []


@contextlib.contextmanager
def proxy(backend: int, faults: Faults) -> Iterator[int]:
    """Run a proxy before a server; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            faults.requests.append((self.command, self.path))
            time.sleep(faults.delay)
            if faults.refuse:
                self._answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
                return
            connection = HTTPConnection(LOCAL, backend, timeout=30)
            try:
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                self._answer(answer.status, dict(answer.getheaders()), answer.read())
            finally:
                connection.close()

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
            self.send_header("Content-Length", length)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((LOCAL, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
