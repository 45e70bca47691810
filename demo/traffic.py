"""Real HTTP traffic between two hosts of the lab.

A small server runs in one namespace and a client in the other; both only use
Python's standard library.  Every request has its own connection, so that a
short capture shows complete conversations.
"""

from __future__ import annotations

import http.client
import http.server
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, NoReturn, Optional, Sequence

from demo.namespaces import End
from demo.processes import COMMAND_TIMEOUT, ROOT, CommandFailed, end

PORT = 8080


class HttpTraffic:
    """HTTP traffic that runs from entering the context to leaving it.

    Args:
        client: The host that sends requests.
        server: The host that answers them.
        rate: Requests per second.
        seconds: How long to send requests; 0: until `stop`.
        port: The server's port.
    """

    def __init__(
        self, client: End, server: End, *, rate: float = 20.0, seconds: float = 0.0, port: int = PORT
    ) -> None:
        self._client_end = client
        self._server_end = server
        self._request = ("request", server.ipv4, str(port), str(rate), str(seconds))
        self._serve = ("serve", server.ipv4, str(port))
        self._longest = seconds + COMMAND_TIMEOUT
        self._server: Optional[subprocess.Popen[Any]] = None
        self._client: Optional[subprocess.Popen[Any]] = None

    def start(self) -> None:
        """Return once the server answers and the client has started."""
        self._server = self._start(self._server_end, self._serve)
        assert self._server.stdout is not None
        if not self._server.stdout.readline():
            raise CommandFailed(f"the HTTP server did not start: {_complaint(self._server)}")
        self._client = self._start(self._client_end, self._request)

    def wait(self) -> int:
        """Wait until the client's ``seconds`` are over; returns the number of answered requests."""
        assert self._client is not None, "not started"
        output, complaint = self._client.communicate(timeout=self._longest)
        if self._client.returncode != 0:
            raise CommandFailed(f"the HTTP client failed: {complaint.strip()}")
        return int(output)

    def stop(self) -> int:
        """Stop the client now; returns the number of answered requests."""
        assert self._client is not None, "not started"
        self._client.send_signal(signal.SIGTERM)
        return self.wait()

    @staticmethod
    def _start(host: End, role: Sequence[str]) -> subprocess.Popen[Any]:
        return host.namespace.popen(
            *(sys.executable, "-m", "demo.traffic", *role),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C goes to the program that runs the lab, which then ends this process.
            start_new_session=True,
        )

    def __enter__(self) -> HttpTraffic:
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._end()

    def _end(self) -> None:
        for process in (self._client, self._server):
            if process is not None:
                end(process)


def _complaint(process: subprocess.Popen[Any]) -> str:
    return str(process.communicate(timeout=COMMAND_TIMEOUT)[1]).strip()


# --- inside the namespaces -----------------------------------------------------


class _Page(http.server.BaseHTTPRequestHandler):
    """Answers every GET with the requested path."""

    def do_GET(self) -> None:
        body = f"You asked for {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: stderr is not read, and a full pipe would block the server."""


def _serve(address: str, port: int) -> NoReturn:
    server = http.server.ThreadingHTTPServer((address, port), _Page)
    print("ready", flush=True)
    server.serve_forever()
    raise AssertionError("unreachable: it serves until it is killed")


def _request(address: str, port: int, rate: float, seconds: float) -> None:
    """Send requests at ``rate``; prints the number of answered requests."""
    answered = 0
    start = time.monotonic()
    # Set by a signal: the loop stops only between two requests, so that each
    # connection is closed normally.
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    while not stopped and not (seconds and time.monotonic() - start >= seconds):
        connection = http.client.HTTPConnection(address, port, timeout=10)
        connection.request("GET", f"/request/{answered}")
        assert connection.getresponse().read()
        connection.close()
        answered += 1
        time.sleep(max(0.0, start + answered / rate - time.monotonic()))
    print(answered)


def _main(role: str, address: str, port: str, *rest: str) -> None:
    if role == "serve":
        _serve(address, int(port))
    rate, seconds = map(float, rest)
    _request(address, int(port), rate, seconds)


if __name__ == "__main__":
    _main(*sys.argv[1:])
