"""Host names for completion: from the files of ssh as people have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pcapd.ctl.ssh.names import Configuration, host_names, parse_configuration, parse_known_hosts

CONFIGURATION = """
# Machines of the team.  Host commented
Include ~/.orbstack/ssh/config config.d/*  "with spaces/config"

Host bastion jump.example.com
    HostName 192.0.2.7
    User alice
    IdentityFile ~/.ssh/id_ed25519

host=web-?.example.com web-1.example.com !web-2.example.com
  ProxyJump bastion
\tHOST\tdb_0 "quoted" # the database
Match host *.internal exec "test -f /tmp/x"
    User bob
    Include inner
Host *
    ServerAliveInterval 30
HostName not-a-host
Host "open
Host -oProxyCommand=id $(id) a;b pläne
"""

KNOWN_HOSTS = """
# a comment
web-1.example.com,192.0.2.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ
|1|JfKTdBh7rNbXkVAQCRp4OQoPfmI=|USECr3SWf1JUPsms5AqfD5QfxkM= ssh-rsa AAAAB3NzaC1yc2E
[git.example.com]:2222,[192.0.2.9]:2222 ecdsa-sha2-nistp256 AAAAE2VjZHNh
192.0.2.5 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ
2001:db8::1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ
@cert-authority *.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ
@revoked old.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ
*.corp.example.com,!bad.corp.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ
truncated
\x00\x07\xff bad bytes
"""


def test_configuration() -> None:
    """Hosts that are no patterns, and the files that are included; nothing that a shell would have to quote."""
    assert parse_configuration(CONFIGURATION) == Configuration(
        ("bastion", "jump.example.com", "web-1.example.com", "db_0", "quoted"),
        ("~/.orbstack/ssh/config", "config.d/*", "with spaces/config", "inner"),
    )


def test_known_hosts() -> None:
    """Plain names without their port; an address only where there is no name; nothing hashed."""
    assert parse_known_hosts(KNOWN_HOSTS) == ["web-1.example.com", "git.example.com", "192.0.2.5"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home with the files above."""
    (tmp_path / ".ssh" / "config.d").mkdir(parents=True)
    (tmp_path / ".ssh" / "config").write_text(CONFIGURATION)
    (tmp_path / ".ssh" / "known_hosts").write_text(KNOWN_HOSTS)
    return tmp_path


def test_all_files(home: Path) -> None:
    """The user's files come first, then the system's; included ones are found; each name comes once."""
    (home / ".ssh" / "config.d" / "10-more").write_text("Host more\nInclude config.d/20-*")
    (home / ".ssh" / "config.d" / "20-most").write_text("Host most bastion\nInclude config")
    (home / ".orbstack" / "ssh").mkdir(parents=True)
    (home / ".orbstack" / "ssh" / "config").write_text("Host orb\n")
    system = home / "system"
    (system / "ssh_config.d").mkdir(parents=True)
    (system / "ssh_config").write_text("Include ssh_config.d/*.conf\nHost *\n")
    (system / "ssh_config.d" / "site.conf").write_text("Host site\n")
    (system / "ssh_known_hosts").write_text("everybody ssh-ed25519 AAAA\n")
    found = host_names(home, system)
    assert found[:6] == ["bastion", "jump.example.com", "web-1.example.com", "db_0", "quoted", "orb"]
    assert sorted(found[6:]) == ["192.0.2.5", "everybody", "git.example.com", "more", "most", "site"]


def test_files_that_cannot_be_read(home: Path) -> None:
    """A named pipe, a directory, a loop of links and a missing file give no names, and nothing waits."""
    for name in ("known_hosts", "config"):
        (home / ".ssh" / name).unlink()
    os.mkfifo(home / ".ssh" / "known_hosts")
    (home / ".ssh" / "known_hosts2").mkdir()
    (home / ".ssh" / "config").symlink_to("config")
    assert host_names(home, home / "missing") == []


def test_limits(home: Path) -> None:
    """Of a file that is too long only whole lines of its beginning count; so do the first files."""
    lines = [f"h{number:07d} ssh-ed25519 {'A' * 60}" for number in range(20_000)]
    (home / ".ssh" / "known_hosts").write_text("\n".join(lines))
    for number in range(200):
        (home / ".ssh" / "config.d" / f"{number:03d}").write_text(f"Host c{number}\nInclude config.d/*\n")
    found = host_names(home, home / "missing")
    hosts = [name for name in found if name.startswith("h")]
    assert hosts == [f"h{number:07d}" for number in range(len(hosts))]
    assert 10_000 < len(hosts) < 20_000
    assert 50 < sum(name.startswith("c") for name in found) < 64
