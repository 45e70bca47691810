"""The api behind gorouter's rules, and behind a real nginx: WebSockets live on, the rest is cut honestly."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from demo.certificates import Authority
from demo.configurations import LOCAL, free_port
from demo.processes import wait_until
from tests.kit.doubles.cloud_controller import CfApp, Instance, Process
from tests.kit.doubles.router import Router
from tests.kit.hosts.foundation import Foundation, foundation_in
from tests.kit.lab.nginx import nginx
from tests.kit.lab.readers import capinfos, require, tcpdump_lines


@pytest.fixture
def foundation(tmp_path: Path, authority: Authority) -> Iterator[Foundation]:
    with foundation_in(tmp_path, authority, cells=1) as foundation:
        yield foundation


@pytest.fixture
def app(foundation: Foundation) -> CfApp:
    instances = [Instance(0, host=foundation.cells[0].host)]
    return foundation.cc.add(CfApp(processes=[Process(instances=instances)]))


@pytest.fixture
def token(foundation: Foundation, app: CfApp) -> str:
    return foundation.cc.developer(app)


def router(foundation: Foundation, **limits: float) -> Router:
    return Router(foundation.authority.issue_api("router"), foundation.api.port, **limits)


def test_download_is_cut(foundation: Foundation, app: CfApp, token: str) -> None:
    """A response that lasts too long breaks off, so that no client takes it for whole; the agents stop."""
    with router(foundation, response_limit=2) as gorouter:
        answer = foundation.capture(app, token, duration="60s", port=gorouter.port)
        assert answer.status == 200 and not answer.whole
        assert b"myapp/0" in answer.body
        wait_until(lambda: gorouter.access_log[0]["end"] == "backend-request-timeout", "it was cut")
    wait_until(lambda: not foundation.cells[0].running, "the agent stopped")
    wait_until(lambda: bool(foundation.audit("capture_ended")), "the end is on record")
    assert foundation.audit("capture_ended")[0]["reason"] == "abandoned"


def test_cut_download_is_readable(foundation: Foundation, app: CfApp, token: str, tmp_path: Path) -> None:
    """A download that a router cut is a file of whole packets."""
    require("tcpdump")
    with router(foundation, response_limit=2) as gorouter:
        answer = foundation.capture(app, token, duration="60s", port=gorouter.port)
    path = tmp_path / "cut.pcap"
    path.write_bytes(answer.body)
    assert sum("0x88b5" in line for line in tcpdump_lines(path)) == 1


@pytest.mark.long
def test_websocket_lives_on(foundation: Foundation, app: CfApp, token: str) -> None:
    """A WebSocket is exempt from that limit: pcapctl's capture is complete."""
    require("capinfos")
    with router(foundation, response_limit=1) as gorouter:
        client = foundation.pcapctl(app, token, "--duration", "4s", url=gorouter.url)
        done = client.done()
        assert done.returncode == 0, done.stderr
        assert capinfos(client.output)
        assert "upgrade" not in gorouter.access_log[0]["end"]


@pytest.mark.long
def test_request_id(foundation: Foundation, app: CfApp, token: str) -> None:
    """The router's request id, not the caller's, is on record and reaches the agent; URLs hold no token."""
    with router(foundation) as gorouter:
        answer = foundation.capture(app, token, port=gorouter.port, X_Vcap_Request_Id="mine")
        assert answer.whole
        foundation.pcapctl(app, token, "--duration", "1s", url=gorouter.url).done()
        ids = [entry["id"] for entry in gorouter.access_log]
        assert not any(token in entry["line"] for entry in gorouter.access_log)
    assert [record["request_id"] for record in foundation.audit("capture_started")] == ids
    assert [start.request_id for start in foundation.cells[0].started] == ids


@pytest.mark.long
def test_quiet_pcapng_is_kept_alive(foundation: Foundation, app: CfApp, token: str) -> None:
    """Statistics blocks keep a quiet pcapng download from being cut as idle; classic pcap has none."""
    with router(foundation, idle_limit=7) as gorouter:
        kept = foundation.capture(
            app, token, duration="12s", port=gorouter.port, Accept="application/x-pcapng"
        )
        assert kept.whole
        cut = foundation.capture(app, token, duration="30s", port=gorouter.port)
        assert cut.status == 200 and not cut.whole
        assert gorouter.access_log[1]["end"] == "idle"


@pytest.mark.long
def test_quiet_websocket_is_kept_alive(foundation: Foundation, app: CfApp, token: str) -> None:
    """Frames without packets keep a quiet WebSocket from being closed as idle."""
    with router(foundation, idle_limit=2) as gorouter:
        done = foundation.pcapctl(app, token, "--duration", "6s", url=gorouter.url).done()
        assert done.returncode == 0, done.stderr


def test_client_leaves(foundation: Foundation, app: CfApp, token: str) -> None:
    """A client that leaves ends its capture, through the router."""
    with router(foundation) as gorouter:
        client = foundation.pcapctl(app, token, "--duration", "60s", url=gorouter.url)
        foundation.cells[0].wait()
        client.process.kill()
        client.done()
        wait_until(lambda: not foundation.cells[0].running, "the agent stopped")


@pytest.fixture(name="nginx")
def nginx_of(foundation: Foundation, tmp_path: Path) -> Iterator[int]:
    """A real nginx in front of the api; its port."""
    port = free_port()
    answers = lambda: _answers(foundation, port)  # noqa: E731
    with nginx(tmp_path, foundation.authority, port, [foundation.api.port], answers, idle=3):
        yield port


def _answers(foundation: Foundation, port: int) -> bool:
    try:
        return foundation.get("/health", port=port).status == 200
    except OSError:
        return False


@pytest.mark.long
def test_nginx_websocket(foundation: Foundation, app: CfApp, token: str, nginx: int) -> None:
    """Through a real nginx, a capture over the WebSocket is complete, longer than its read timeout."""
    done = foundation.pcapctl(app, token, "--duration", "5s", url=f"https://{LOCAL}:{nginx}").done()
    assert done.returncode == 0, done.stderr
    assert len(foundation.cells[0].started[0].request_id) == 32  # nginx's $request_id


@pytest.mark.long
def test_nginx_download(foundation: Foundation, app: CfApp, token: str, nginx: int) -> None:
    """Through a real nginx a download is complete; one that nginx cuts as idle does not look whole."""
    assert foundation.capture(app, token, duration="1s", port=nginx).whole
    cut = foundation.capture(app, token, duration="20s", port=nginx)
    assert cut.status == 200 and not cut.whole
