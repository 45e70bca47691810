"""An S3 server with a directory behind it, and a proxy before it that is slow or fails.

versitygw (https://github.com/versity/versitygw) is compiled by Go, once for all tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Iterator

import pytest

from demo.configurations import LOCAL, free_port
from demo.processes import end, wait_until

_MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
_BUILD_TIMEOUT = 600  # seconds; it is large
#: Of the server's only user.
KEY, SECRET = "lab", "lab-secret-of-nobody"


def versitygw(directory: Path) -> Path:
    """The server's program: ``PCAPD_TEST_VERSITYGW``, in PATH, or made by Go; the test is skipped without it."""
    given = os.environ.get("PCAPD_TEST_VERSITYGW") or shutil.which("versitygw")
    if given:
        return Path(given)
    if shutil.which("go") is None:
        pytest.skip("there is no versitygw and no Go to make it")
    done = subprocess.run(
        ["go", "install", _MODULE],
        env={**os.environ, "GOBIN": str(directory)},
        capture_output=True,
        text=True,
        timeout=_BUILD_TIMEOUT,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"Go cannot install versitygw: {done.stderr.strip().splitlines()[-1].strip()}")
    return directory / "versitygw"


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
