"""A user of ``pcapctl bosh`` with a home, logged in to a BOSH environment."""

from __future__ import annotations

import os
import pty
import secrets
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Optional

import yaml

from demo.daemons import environment as process_environment
from tests.kit.doubles.uaa import audience
from tests.kit.hosts.bosh import Environment
from tests.kit.hosts.foundation import PATIENCE

ADMIN = ["bosh.admin"]
#: Where the datagrams go that are captured.
UDP_PORT = 4711
#: The variables that would come from whoever runs the tests.
CLEARED = {name: "" for name in os.environ if name.startswith("BOSH_")}


class Operator:
    """Somebody with a home directory, in which the BOSH CLI may have logged in.

    Args:
        world: Where they work.
        directory: For their home and their files.
    """

    def __init__(self, world: Environment, directory: Path) -> None:
        self.world = world
        self.home = directory / "operator"
        self.config = self.home / ".bosh" / "config"
        self.config.parent.mkdir(parents=True)
        self.output = self.home / "out.pcapng"
        self.secrets: set[str] = set()
        self.variables = {
            **CLEARED,
            "HOME": str(self.home),
            "PCAP_API": world.url,
            "BOSH_ENVIRONMENT": "lab",
        }

    @property
    def pem(self) -> str:
        return self.world.authority.certificate_path.read_text()

    def log_in(self, *scopes: str, left: float = 120.0, **changes: Any) -> None:
        """Write the configuration as ``bosh log-in`` does; a change to None removes the key."""
        uaa = self.world.uaa
        claims = {"scope": list(scopes or ADMIN), "aud": audience(list(scopes or ADMIN), "bosh_cli")}
        common = {"client": "bosh_cli", "user": "alice", **claims}
        entry = {
            "url": self.world.director.url,
            "ca_cert": self.pem,
            "alias": "lab",
            "access_token_type": "bearer",
            "access_token": uaa.token(**common, exp=int(time.time() + left)),
            "refresh_token": uaa.refresh_token(**common),
            **changes,
        }
        entry = {key: value for key, value in entry.items() if value is not None}
        self.config.write_text(yaml.safe_dump({"environments": [{"url": "10.9.9.9", "alias": "x"}, entry]}))
        self.config.chmod(0o600)

    def be_client(self, scopes: list[str], name: str = "ops") -> dict[str, str]:
        """Make UAA know a client; return the variables of one."""
        secret = secrets.token_hex(12)
        self.secrets.add(secret)
        self.world.uaa.clients[name] = secret
        self.world.uaa.authorities[name] = scopes
        return {
            "BOSH_ENVIRONMENT": self.world.director.url,
            "BOSH_CLIENT": name,
            "BOSH_CLIENT_SECRET": secret,
            "BOSH_CA_CERT": str(self.world.authority.certificate_path),
        }

    @property
    def entry(self) -> dict[str, Any]:
        """What the configuration has of the environment now."""
        return yaml.safe_load(self.config.read_text())["environments"][1]  # type: ignore[no-any-return]

    def arguments(self, *arguments: str) -> list[str]:
        """Make the command line; the group router of `cf` unless it names another."""
        named = [] if "-d" in arguments else ["-d", "cf"]
        named += [] if "--group" in arguments else ["--group", "router"]
        command = [sys.executable, "-m", "pcapd.ctl", "bosh", *named, "--duration", "500ms", "--force"]
        ca = ["--ca", str(self.world.authority.certificate_path), "--output", str(self.output)]
        return [*command, *ca, *arguments]

    def environment(self, variables: dict[str, str]) -> dict[str, str]:
        """Make the process environment."""
        return process_environment(**{**self.variables, **variables})

    def pcapctl(
        self, *arguments: str, variables: Optional[dict[str, str]] = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it where there is no terminal."""
        done = subprocess.run(
            self.arguments(*arguments),
            cwd=self.home,
            env=self.environment(variables or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assert_discreet(done.stdout + done.stderr)
        return done

    def at_terminal(self, answer: str, *arguments: str) -> tuple[int, str]:
        """Run it at a terminal and answer its question; returns the exit status and what was shown."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self.arguments(*arguments),
            cwd=self.home,
            env=self.environment({}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown, answered, deadline = b"", False, time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.2)[0]:
                continue
            try:
                piece = os.read(ours, 65536)
            except OSError:  # EIO: nobody has the other end any more
                break
            if not piece:
                break
            shown += piece
            if not answered and b"[y/N]" in shown:
                answered = True
                os.write(ours, answer.encode())
        status = process.wait(timeout=PATIENCE)
        os.close(ours)
        self.assert_discreet(shown.decode())
        return status, shown.decode()

    def assert_discreet(self, said: str) -> None:
        """No token and no secret is in it."""
        uaa = self.world.uaa
        for token in [*uaa.access_tokens, *uaa.refresh_tokens, *self.secrets]:
            assert token.rpartition(".")[2] not in said

    def assert_nothing_captured(self) -> None:
        """No agent was asked, and there is no file."""
        self.world.assert_no_agent_was_asked()
        assert not self.output.exists()
