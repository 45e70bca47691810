"""A user with Wireshark and pcapctl, in a home of their own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from demo.daemons import environment

#: Seconds that a tshark of a test may run.
PATIENCE = 40.0


@dataclass
class User:
    """Somebody with Wireshark and pcapctl.

    Attributes:
        home: Their home.
        preferences: Options of the interfaces, as tshark takes them.
    """

    home: Path
    preferences: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where their Wireshark looks for capture interfaces."""
        return self.home / ".config" / "wireshark" / "extcap"

    @property
    def environment(self) -> dict[str, str]:
        """Theirs alone: nothing of whoever runs the tests."""
        return environment(
            HOME=str(self.home), XDG_CONFIG_HOME=str(self.home / ".config"), PCAP_API="", CF_HOME=""
        )

    def pcapctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run pcapctl."""
        argv = [sys.executable, "-m", "pcapd.ctl", *arguments]
        return self._run(argv)

    def extcap(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call the launcher, as Wireshark does."""
        return self._run([str(self.folder / "pcapctl"), *arguments])

    def tshark(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run tshark to its end."""
        return self._run(self.command(*arguments))

    def command(self, *arguments: str) -> list[str]:
        """A command line of tshark."""
        argv = ["tshark", *arguments]
        for name, value in self.preferences.items():
            argv += ["-o", f"extcap.{name}:{value}"]
        return argv

    def _run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def left_behind(self) -> list[str]:
        """Processes of theirs that capture."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().decode().split("\0")
                    home = f"HOME={self.home}\0".encode() in (entry / "environ").read_bytes()
                except OSError:
                    continue
                if home:
                    found.append(" ".join(words))
        return found
