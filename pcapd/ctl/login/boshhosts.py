"""How ssh reaches the VMs of a deployment.  Pure: words and texts only.

The jump host and the proxy are those of ``bosh ssh`` (BOSH CLI, ``ssh/ssh_args.go`` and
``cmd/opts/opts.go``): BOSH_ALL_PROXY, else BOSH_GW_HOST, BOSH_GW_USER and BOSH_GW_PRIVATE_KEY,
else what the director suggests; BOSH_GW_DISABLE turns the jump host off.
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Final, Mapping, Optional, Sequence

from pcapd.clouds.director import Vm
from pcapd.clouds.directorssh import Account
from pcapd.ctl.ssh.hosts import Host
from pcapd.ctl.ssh.said import KEY_CHANGED
from pcapd.ctl.stream.proxy import Proxy, ProxyProblem, of_bosh, ssh_command

__all__ = ["KEY", "KNOWN_HOSTS", "bosh_host", "known_hosts", "proxy_command"]

#: Names of the files with the private key, and with the VMs' host keys.
KEY, KNOWN_HOSTS = "key", "known_hosts"
_TARGET: Final = "HOST:PORT"

#: Values of BOSH_GW_DISABLE that mean yes (Go, strconv.ParseBool).
_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
#: Seconds for ssh's connection to a VM, after which it says so itself.
_CONNECT_TIMEOUT: Final = 15
_CHANGED: Final = "its host key is not the one that its BOSH agent reported: do not trust this connection"
_ROUTE: Final = (
    "VMs are usually reached through a jump host: set BOSH_GW_HOST, BOSH_GW_USER and BOSH_GW_PRIVATE_KEY, "
    "or BOSH_ALL_PROXY; check: {check}"
)


def known_hosts(accounts: Sequence[Account]) -> str:
    """A file of known hosts: the key of each VM, under the id of its instance."""
    return "".join(f"{account.id} {account.host_key}\n" for account in accounts)


def bosh_host(
    vm: Vm, account: Account, *, deployment: str, user: str, files: Path, environ: Mapping[str, str]
) -> Host:
    """A VM as a host for `pcapd.ctl.ssh`; its name is GROUP/ID, as in captures by agents.

    The user's ssh configuration applies, except for what concerns keys and accounts: the only
    key is the one for this capture (servers disconnect after few wrong ones), and the only
    accepted host key is the one in the director's answer.

    Args:
        user: The name of the account.
        files: The directory with the files `KEY` and `KNOWN_HOSTS`.

    Raises:
        ProxyProblem: ssh cannot use the proxy that the environment names.
    """
    options = [
        "BatchMode=yes",
        "ClearAllForwardings=yes",
        "RemoteCommand=none",
        "ForwardAgent=no",
        "LogLevel=ERROR",  # stemcells have a banner, which is no reason for a failure
        f"ConnectTimeout={_CONNECT_TIMEOUT}",
        "StrictHostKeyChecking=yes",
        "VerifyHostKeyDNS=no",
        "UpdateHostKeys=no",
        f'UserKnownHostsFile="{files / KNOWN_HOSTS}"',
        "GlobalKnownHostsFile=/dev/null",
        f"HostKeyAlias={vm.id}",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
    ]
    program = ["ssh", "-T", *(word for option in options for word in ("-o", option))]
    program += ["-i", str(files / KEY), "-l", user]
    # Last, so that connections of this capture may share a socket of their own.
    place = ["-o", "ControlPath=none"]
    command = proxy_command(account, environ)
    if command:
        place += ["-o", f"ProxyCommand={command}"]
    check = f"bosh -d {deployment} ssh {vm.name}"
    remedies = (
        ("Host key verification failed", _CHANGED),
        (KEY_CHANGED, _CHANGED),
        ("Permission denied", "neither the VM nor the jump host may ask for a password; check: {check}"),
        ("Connection timed out", _ROUTE),
        ("No route to host", _ROUTE),
        ("Network is unreachable", _ROUTE),
        ("Connection refused", _ROUTE),
    )
    return Host(
        vm.name,
        tuple(program),
        (*place, account.address),
        shares=True,
        try_with=check,
        remedies=remedies,
    )


def proxy_command(account: Account, environ: Mapping[str, str]) -> str:
    """The value of ssh's ProxyCommand for a VM; empty to connect as the user's configuration says.

    Raises:
        ProxyProblem: ssh cannot use the proxy that BOSH_ALL_PROXY names.
    """
    proxy = of_bosh(environ, account.address)
    if proxy is not None and proxy.scheme != "ssh+socks5":
        return _netcat(proxy)
    if proxy is None:
        proxy = _gateway(account, environ)
    if proxy is None:
        return ""
    # ssh replaces %h and %p, and a shell reads the result.
    words = [
        "[%h]:%p" if word == _TARGET else word.replace("%", "%%") for word in ssh_command(proxy, _TARGET)
    ]
    return shlex.join(words)


def _gateway(account: Account, environ: Mapping[str, str]) -> Optional[Proxy]:
    if environ.get("BOSH_GW_DISABLE") in _TRUE:
        return None
    host = environ.get("BOSH_GW_HOST") or account.gateway_host
    user = environ.get("BOSH_GW_USER") or account.gateway_user
    if not host:
        return None
    return Proxy("BOSH_GW_HOST", "ssh+socks5", host, 0, user, key=environ.get("BOSH_GW_PRIVATE_KEY", ""))


def _netcat(proxy: Proxy) -> str:
    """The programs that the BOSH CLI also uses for a SOCKS proxy."""
    if proxy.user:
        raise ProxyProblem(
            f"ssh cannot use the user and password in {proxy.variable}",
            "use a proxy without, or ssh+socks5://USER@HOST:22?private-key=FILE",
        )
    place = shlex.quote(f"{proxy.host}:{proxy.port}".replace("%", "%%"))
    if proxy.scheme == "socks5" and shutil.which("connect-proxy"):
        return f"connect-proxy -S {place} %h %p"
    if shutil.which("nc") is None:
        raise ProxyProblem(
            f"ssh needs the program nc for the proxy that {proxy.variable} names",
            "install it, for example with: apt-get install netcat-openbsd",
        )
    return f"nc -X {'5' if proxy.scheme == 'socks5' else 'connect'} -x {place} %h %p"
