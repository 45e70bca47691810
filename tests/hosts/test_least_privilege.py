"""What the daemons may do after their start, and which TLS they speak."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Iterator

import pytest

from demo.certificates import AGENT_NAME, Credentials
from demo.configurations import LOCAL, free_port, merged
from demo.daemons import Daemon
from demo.processes import ROOT, wait_until
from tests.kit.hosts.chain import Chain

NET_RAW, SYS_ADMIN = 1 << 13, 1 << 21


def threads_of(pid: int) -> list[dict[str, list[str]]]:
    """``status`` of every thread."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (line.split(":", 1) for line in (task / "status").read_text().splitlines())
        found.append({key: value.split() for key, value in lines})
    return found


def assert_hardened(pid: int) -> None:
    """No new privileges, no core dump, nothing for a debugger."""
    assert {status["NoNewPrivs"][0] for status in threads_of(pid)} == {"1"}
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    assert [line.split()[-3:-1] for line in limits if line.startswith("Max core")] == [["0", "0"]]
    # The files of a process that cannot be dumped are root's, whoever it runs as.
    assert Path(f"/proc/{pid}/environ").stat().st_uid == 0


def capabilities_of(pid: int) -> set[tuple[int, ...]]:
    """Permitted, effective, inheritable and ambient ones, of every thread."""
    sets = ("CapPrm", "CapEff", "CapInh", "CapAmb")
    return {tuple(int(status[name][0], 16) for name in sets) for status in threads_of(pid)}


def test_an_agent_that_becomes_a_user(chain: Chain) -> None:
    """With captures running every thread has exactly what is needed, and none ever gets more."""
    change = {"id": "unprivileged", "listen": {"port": free_port()}, "run_as": "nobody"}
    agent = Daemon("agent", merged(chain.agent.config, change), chain.directory)
    with agent:
        assert capabilities_of(agent.pid) == {(NET_RAW | SYS_ADMIN, NET_RAW | SYS_ADMIN, 0, 0)}
        assert {tuple(status["Uid"]) for status in threads_of(agent.pid)} == {("65534",) * 4}
        assert_hardened(agent.pid)
        assert "does not need" not in agent.log()
        api_config = merged(
            chain.api.config,
            {
                "id": "for-unprivileged",
                "listen": {"port": free_port()},
                "metrics": None,
                "static": {"targets": {"web-0": {"port": agent.port}}},
            },
        )
        with Daemon("api", api_config, chain.directory) as api:
            url = f"https://{LOCAL}:{api.port}"
            client = chain.begin("web-0", "--api", url)
            client.wait_for("web-0:eth0")
            assert capabilities_of(agent.pid) == {(NET_RAW | SYS_ADMIN, NET_RAW | SYS_ADMIN, 0, 0)}
            assert client.stop().status == 0
            api.stop()
        agent.stop()


@pytest.fixture
def without_prctl(tmp_path: Path) -> dict[str, str]:
    """Variables with which Python does not find python-prctl."""
    (tmp_path / "prctl.py").write_text("raise ImportError('prctl was imported')\n")
    return {"PYTHONPATH": str(tmp_path)}


def test_an_agent_without_python_prctl(chain: Chain, without_prctl: dict[str, str]) -> None:
    """With ``privileges: none`` an agent captures without python-prctl, with the capabilities of its start."""
    change = {"id": "no-prctl", "listen": {"port": free_port()}, "privileges": "none"}
    agent = Daemon("agent", merged(chain.agent.config, change), chain.directory)
    agent.variables = without_prctl
    agent.below = ("setpriv", "--bounding-set", "-all,+net_raw,+sys_admin")
    api_config = merged(
        chain.api.config,
        {
            "id": "for-no-prctl",
            "listen": {"port": free_port()},
            "metrics": None,
            "static": {"targets": {"web-0": {"port": agent.port}}},
        },
    )
    with agent, Daemon("api", api_config, chain.directory) as api:
        url = f"https://{LOCAL}:{api.port}"
        assert chain.capture("web-0", "--duration", "100ms", "--api", url).status == 0
        assert {found[:2] for found in capabilities_of(agent.pid)} == {(NET_RAW | SYS_ADMIN,) * 2}
        assert "privileges" not in agent.log()


def test_python_prctl_is_missing(chain: Chain, without_prctl: dict[str, str]) -> None:
    """Without python-prctl, an agent that is to use it does not start, and says what to do."""
    config = merged(chain.agent.config, {"id": "misses-prctl", "listen": {"port": free_port()}})
    daemon = Daemon("agent", config, chain.directory)
    daemon.write_config()
    command = [sys.executable, "-m", "pcapd", "--role", "agent", "--config", str(daemon.config_path)]
    for arguments in (command, [*command, "--check-config"]):
        done = subprocess.run(
            arguments,
            cwd=ROOT,
            env={**os.environ, **without_prctl},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 1
        assert "privileges: prctl needs the package python-prctl: install" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_daemons_that_stay_root(chain: Chain) -> None:
    """Daemons that stay root log a warning, and are hardened all the same."""
    for daemon, words in (
        (chain.agent, "the agent has privileges that it does not need"),
        (chain.api, "the api has privileges that it does not need"),
    ):
        assert words in daemon.log()
        assert_hardened(daemon.pid)


def test_an_api_without_privileges(chain: Chain) -> None:
    """An api serves without any capability, and logs no warning."""
    config = merged(chain.api.config, {"id": "bare-api", "listen": {"port": free_port()}, "metrics": None})
    daemon = Daemon("api", config, chain.directory)
    daemon.write_config()
    program = (
        "import prctl\nprctl.cap_effective.limit()\nprctl.cap_permitted.limit()\n"
        f"from pcapd.main import main\nmain(['--role', 'api', '--config', {str(daemon.config_path)!r}])"
    )
    with daemon.log_path.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=log, stderr=log)
    try:
        wait_until(lambda: "listens on" in daemon.log(), "it serves", timeout=20)
        assert capabilities_of(process.pid) == {(0, 0, 0, 0)}
        assert_hardened(process.pid)
        assert "privileges" not in daemon.log()
        url = f"https://{LOCAL}:{daemon.port}"
        assert chain.capture("web-0", "--duration", "100ms", "--api", url).status == 0
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_warnings_of_the_configuration_are_logged(chain: Chain) -> None:
    """Warnings of --check-config are in the log of every start."""
    config = merged(chain.api.config, {"id": "careless", "listen": {"port": free_port()}, "metrics": None})
    with Daemon("api", config, chain.directory) as daemon:
        daemon.stop()
        assert "can be changed by every user" not in daemon.log()
        daemon.config_path.chmod(0o666)
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pcapd",
                "--role",
                "api",
                "--config",
                str(daemon.config_path),
                "--check-config",
            ],
            cwd=ROOT,
            check=True,
        )
    # `Daemon.start` writes the file again, and leaves its mode.
    with daemon:
        records = [
            record for record in daemon.records() if "can be changed by every user" in record["message"]
        ]
        daemon.stop()
    assert [record["level"] for record in records] == ["warn"]


# --- TLS -----------------------------------------------------------------------------


def lax(own: Credentials, *, server: bool = False) -> ssl.SSLContext:
    """A context that would take anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(own.certificate, own.private_key)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    return context


def only(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    """The same for one version of the protocol."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.maximum_version = version
        context.minimum_version = version
    return context


def speaks(port: int, context: ssl.SSLContext) -> str:
    """The suite that a listener agrees to; empty when it refuses."""
    with socket.create_connection((LOCAL, port), 30) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=AGENT_NAME) as connection:
                cipher = connection.cipher()
                assert cipher is not None
                return cipher[0]
        except OSError:
            return ""


def can_be_spoken(own: Credentials, version: ssl.TLSVersion) -> bool:
    """Whether this machine's OpenSSL has the version at all: its two ends, in memory."""
    pipes = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = only(lax(own), version).wrap_bio(pipes[0], pipes[1], server_side=False)
    server = only(lax(own, server=True), version).wrap_bio(pipes[1], pipes[0], server_side=True)
    try:
        for _ in range(5):
            for end in (client, server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLError:
        return False
    return client.version() is not None


@pytest.fixture(params=["agent", "api"])
def listener(chain: Chain, request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of one of the two."""
    yield getattr(chain, request.param).port


@pytest.mark.parametrize(
    ("version", "spoken"), [("TLSv1", False), ("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)]
)
def test_the_versions_of_tls(chain: Chain, listener: int, version: str, spoken: bool) -> None:
    """TLS 1.2 and 1.3 are accepted, and nothing older."""
    own = chain.authority.issue_api("scanner")
    number = ssl.TLSVersion[version]
    if not can_be_spoken(own, number):
        pytest.skip(f"this OpenSSL does not have {version}")
    assert bool(speaks(listener, only(lax(own), number))) is spoken


def test_the_suites_of_tls_1_2(chain: Chain, listener: int) -> None:
    """Each suite that OpenSSL has is offered alone: what is taken has forward secrecy and is authenticated."""
    own = chain.authority.issue_api("scanner")
    everything = [suite["name"] for suite in lax(own).get_ciphers() if suite["protocol"] != "TLSv1.3"]
    assert len(everything) > 40
    assert {"AES128-SHA", "ECDHE-ECDSA-AES128-SHA"} <= set(everything)
    taken = set()
    for name in everything:
        context = only(lax(own), ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(f"{name}:@SECLEVEL=0")
        if speaks(listener, context):
            taken.add(name)
    assert taken == {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    }
