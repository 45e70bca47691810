"""``/cli/`` of a running api: the files of one directory, whole and unchanged, and no way out of it."""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import pytest

from demo.certificates import Authority
from demo.configurations import LOCAL, api_config, free_port
from demo.daemons import Daemon
from demo.processes import wait_until

#: Far more than what sockets and buffers hold.
CONTENT = os.urandom(24 * 1024 * 1024)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass
class Server:
    """An api that serves a directory, over TLS."""

    daemon: Daemon
    directory: Path
    context: ssl.SSLContext

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(LOCAL, self.daemon.port, timeout=30, context=self.context)

    def fetch(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request without a token; http.client sends the path as it is."""
        connection = self.connect()
        try:
            connection.request(
                method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
            )
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def open_files(self) -> list[str]:
        """The files of the directory that the api has open."""
        descriptors = Path(f"/proc/{self.daemon.pid}/fd")
        found = []
        for name in os.listdir(descriptors):
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                found.append(os.readlink(descriptors / name))
        return [path for path in found if path.startswith(str(self.directory))]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    outside = tmp_path_factory.mktemp("client-download")
    (outside / "secret").write_text("secret")
    directory = outside / "cli"
    (directory / "below").mkdir(parents=True)
    (directory / "pcapctl").write_bytes(CONTENT)
    (directory / "small").write_bytes(b"small")
    (directory / "empty").touch()
    (directory / "below" / "deeper").write_text("deeper")
    (directory / ".hidden").write_text("hidden")
    (directory / "link").symlink_to("../secret")
    (directory / "inner-link").symlink_to("pcapctl")
    os.mkfifo(directory / "pipe")
    config = api_config(authority.issue_api("client-download"), free_port(), {}, {})
    config["cli"] = {"directory": "cli"}
    daemon = Daemon("api", config, outside)
    with daemon:
        yield Server(daemon, directory, ssl.create_default_context(cafile=str(authority.certificate_path)))


def test_a_file_is_sent_as_it_is(server: Server) -> None:
    """A file is sent to any client unchanged, with its length, as a download."""
    answer = server.fetch("/cli/pcapctl")
    assert answer.status == 200 and answer.body == CONTENT
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="pcapctl"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_empty_file(server: Server) -> None:
    """An empty file is sent with length 0."""
    answer = server.fetch("/cli/empty")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "0", b"")


def test_only_the_head(server: Server) -> None:
    """HEAD tells the length and sends no byte of the file."""
    answer = server.fetch("/cli/pcapctl", "HEAD")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, str(len(CONTENT)), b"")


def test_a_file_that_the_client_has(server: Server) -> None:
    """A file that the client has is not sent again unless it has changed."""
    tag = server.fetch("/cli/small").headers["ETag"]
    same = server.fetch("/cli/small", If_None_Match=tag)
    assert (same.status, same.body) == (304, b"")
    (server.directory / "small").write_bytes(b"changed")
    other = server.fetch("/cli/small", If_None_Match=tag)
    assert (other.status, other.body) == (200, b"changed")


@pytest.mark.parametrize(
    "path",
    [
        "/cli",
        "/cli/",
        "/cli/nothing",
        "/cli/..",
        "/cli/../secret",
        "/cli/%2e%2e/secret",
        "/cli/..%2fsecret",
        "/cli/%2e%2e%2fsecret",
        "/cli/..%5csecret",
        "/cli//etc/passwd",
        "/cli/%2fetc%2fpasswd",
        "/cli/pcapctl%00.txt",
        "/cli/pcapctl/",
        "/cli/pcapctl/x",
        "/cli/./pcapctl",
        "/cli/.hidden",
        "/cli/link",
        "/cli/inner-link",
        "/cli/below",
        "/cli/below/",
        "/cli/below/deeper",
        "/cli/below%2fdeeper",
        "/cli/pipe",
        "/cli/" + "a" * 300,
        "/cli/%ff",
    ],
)
def test_nothing_else_is_sent(server: Server, path: str) -> None:
    """Paths out of the directory, listings, links, pipes and hidden files are not served."""
    answer = server.fetch(path)
    assert answer.status == 404
    assert b'"target_not_found"' in answer.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_is_for_reading(server: Server, method: str) -> None:
    """The download pages accept no writing method."""
    answer = server.fetch("/cli/pcapctl", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert (server.directory / "pcapctl").read_bytes() == CONTENT


def test_a_slow_client_waits_alone(server: Server) -> None:
    """A file is read as fast as its client takes it, and arrives whole."""
    before = server.daemon.usage().rss
    connection = server.connect()
    connection.request("GET", "/cli/pcapctl")
    response = connection.getresponse()
    time.sleep(0.5)
    assert server.fetch("/health").status == 200
    assert server.daemon.usage().rss - before < len(CONTENT) / 3
    assert response.read() == CONTENT
    connection.close()


def test_files_are_closed(server: Server) -> None:
    """Files are closed, also when a client goes away in the middle or reads nothing."""
    connection = server.connect()
    connection.request("GET", "/cli/pcapctl")
    connection.getresponse().read(100)
    assert server.open_files() == [str(server.directory / "pcapctl")]
    connection.close()
    server.fetch("/cli/pcapctl", "HEAD")
    server.fetch("/cli/below")
    wait_until(lambda: server.open_files() == [], "the api closes its files")


def test_an_api_without_the_section_has_no_such_page(tmp_path: Path, authority: Authority) -> None:
    """An api without the section answers 404 for its pages."""
    config = api_config(authority.issue_api("no-client-download"), free_port(), {}, {})
    with Daemon("api", config, tmp_path) as daemon:
        context = ssl.create_default_context(cafile=str(authority.certificate_path))
        assert Server(daemon, tmp_path, context).fetch("/cli/pcapctl").status == 404
