"""A VM as BOSH lays it out: /var/vcap, a user vcap, an ``eth0``, processes and a network of its own.

It is made of namespaces.  Python and libpcap are stand-ins for their packages
(compiling them takes too long): the machine's own at the paths of the packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

from demo.processes import ROOT, end, run, wait_until
from tests.bosh.release import RELEASE
from tests.kit.lab.containers import BUSYBOX, MAPPED_ROOT, Store, entry, specification

_SETUP = r"""
set -eu
directory=$1 python=$2
[ -d /var/vcap ] || mkdir /var/vcap
mount --bind "$directory" /var/vcap
mkdir -p /var/vcap/packages/python-3.12
mount --bind "$python" /var/vcap/packages/python-3.12
case $python in
/root/*)
  # It may look for its library there, and vcap may not enter /root.
  mkdir -p "$directory/home${python#/root}"
  mount --bind "$python" "$directory/home${python#/root}"
  mount --rbind "$directory/home" /root
  ;;
esac
for file in passwd group; do
  cp /etc/$file "$directory/etc-$file"
done
grep -q '^vcap:' /etc/passwd || echo 'vcap:x:4001:4001::/:/bin/sh' >>"$directory/etc-passwd"
grep -q '^vcap:' /etc/group || echo 'vcap:x:4001:' >>"$directory/etc-group"
for file in passwd group; do
  mount --bind "$directory/etc-$file" /etc/$file
done
ip link set lo up
ip link add eth0 type veth peer name wire
ip link set wire up
ip address add 10.0.0.5/24 dev eth0
ip link set eth0 up
ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev eth0
[ ! -d /var/vcap/jobs ] || chgrp -R vcap /var/vcap/jobs
touch "$directory/ready"
# bash takes care of processes whose parents are gone, as init does.
while sleep 0.2; do :; done
"""


class Machine:
    """The VM; on leaving, every process in it is gone.

    Args:
        directory: Becomes /var/vcap.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._holder: Optional[subprocess.Popen[Any]] = None
        self._init = 0

    @property
    def network(self) -> Path:
        """Its network namespace."""
        return Path(f"/proc/{self._init}/ns/net")

    def command(self, *argv: str) -> list[str]:
        """The command line that runs a command in the VM."""
        return ["nsenter", "--target", str(self._init), "--mount", "--net", "--pid", "--wd=/", *argv]

    def run(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as root."""
        return run(self.command(*argv), **options)

    def processes(self) -> dict[int, str]:
        """Command lines by the VM's process ids."""
        listed = self.run("ps", "-eo", "pid=,args=").stdout.splitlines()
        return {int(line.split()[0]): line.strip().partition(" ")[2].strip() for line in listed}

    def __enter__(self) -> Machine:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o755)
        (self.directory / "ready").unlink(missing_ok=True)
        argv = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
        script = ["bash", "-c", _SETUP, "setup", str(self.directory), sys.base_prefix]
        self._holder = subprocess.Popen([*argv, *script])
        wait_until((self.directory / "ready").exists, "the VM is there")
        self._init = int(Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text())
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        assert self._holder is not None
        os.kill(self._init, 9)
        end(self._holder)


class AppContainer:
    """An app's container on a VM that is a Diego cell, with an entry of the metadata store.

    Args:
        directory: What becomes /var/vcap.
        runc_root: Where runc keeps its state, as the VM sees it.
    """

    handle = "4c8a2f1e-0000-4000-8000-00ff"
    app = "5f0c9a3b-0000-4000-8000-000000000001"
    address = "10.255.93.2"

    def __init__(self, directory: Path, runc_root: str) -> None:
        self._runc = ["runc", "--root", runc_root]
        self._bundle = directory / "data/bundle"
        rootfs = self._bundle / "rootfs"
        (rootfs / "bin").mkdir(parents=True)
        for name in ("proc", "dev", "sys"):
            (rootfs / name).mkdir()
        shutil.copy(BUSYBOX, rootfs / "bin/busybox")
        for path in (rootfs, *rootfs.rglob("*")):
            os.chown(path, MAPPED_ROOT, MAPPED_ROOT)
        (directory / "data" / Path(runc_root).name).mkdir()
        (self._bundle / "config.json").write_text(json.dumps(specification(Path("rootfs"), self.handle)))
        self._store = Store(directory / "data/container-metadata/store.json")
        self._store.entries[self.handle] = entry(self.handle, self.app, 0, self.address)
        self._store.write()

    def start(self, machine: Machine) -> None:
        """Run it and lay its wire."""
        self._store.give_to(int(machine.run("id", "-u", "vcap").stdout))
        bundle = "/var/vcap/data/bundle"
        script = """
          "$@" run --detach --bundle "$bundle" --pid-file "$bundle/pid" "$handle" </dev/null >/dev/null 2>&1
          pid=$(cat "$bundle/pid")
          ip link add s-app type veth peer name eth0 netns "$pid"
          ip address add 169.254.0.1 peer "$address/32" dev s-app
          ip link set s-app up
          nsenter --target "$pid" --net ip address add "$address" peer 169.254.0.1/32 dev eth0
          nsenter --target "$pid" --net ip link set eth0 up
        """
        variables = {"bundle": bundle, "handle": self.handle, "address": self.address}
        settings = [f"{name}={value}" for name, value in variables.items()]
        machine.run("env", *settings, "bash", "-euc", script, "start", *self._runc)

    def ping(self, machine: Machine) -> None:
        """Two echo requests from its cell, which its kernel answers."""
        machine.run("busybox", "ping", "-c", "2", "-i", "0.2", self.address)


def compile_pcapd(machine: Machine, wheels: Path) -> None:
    """Run the package's packaging script as the director has it run: in a directory with its files, no network."""
    packages = machine.directory / "packages"
    _stand_in_libpcap(packages / "libpcap")
    work = machine.directory / "data" / "compile" / "pcapd"
    sources = work / "pcapd"
    sources.mkdir(parents=True)
    leave = shutil.ignore_patterns("__pycache__", "*.so", "dropin.cache", ".*")
    for name in ("pcapd", "twisted"):
        shutil.copytree(ROOT / name, sources / name, ignore=leave)
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.rst"):
        shutil.copy(ROOT / name, sources)
    (sources / "cli").mkdir()
    (sources / "cli" / "pcapctl").write_text("#!/bin/sh\necho the client\n")
    shutil.copytree(wheels, work / "pcapd-wheels")
    target = "/var/vcap/packages/pcapd"
    (packages / "pcapd").mkdir()
    shutil.copy(RELEASE / "packages/pcapd/packaging", work)
    script = "cd /var/vcap/data/compile/pcapd && exec bash ./packaging"
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "BOSH_INSTALL_TARGET": target}
    machine.run("bash", "-c", script, env=environment, timeout=300)


def _stand_in_libpcap(package: Path) -> None:
    (package / "include").mkdir(parents=True)
    (package / "lib").mkdir()
    for path in Path("/usr/include").glob("pcap*"):
        (package / "include" / path.name).symlink_to(path)
    for path in Path("/usr/lib").glob("*-linux-gnu/libpcap.so*"):
        (package / "lib" / path.name).symlink_to(path)
