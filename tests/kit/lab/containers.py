"""A Diego cell: real runc containers on wires like silk's, and their metadata store.

::

    with Cell(directory) as cell:
        instance = cell.run(app="APP-GUID", index=0)
        cell.ping(instance, b"who is there")

The cell is a network namespace of its own, where the agent runs and the
``s-…`` interfaces are.  Containers have user namespaces, as garden's have.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import itertools
import json
import os
import shutil
import socket
import struct
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Iterator, Optional, TypeVar

from demo.configurations import Config
from demo.namespaces import Namespace
from demo.processes import CommandFailed, run, wait_until
from pcapd.capture.namespaces import enter

T = TypeVar("T")

RUNC = Path(shutil.which("runc") or "/usr/sbin/runc")
BUSYBOX = Path(shutil.which("busybox") or "/bin/busybox")

#: The container's root is this user outside.
MAPPED_ROOT = 200000
#: The cell's side of every wire.
GATEWAY = "169.254.0.1"


def in_namespace(path: Path, function: Callable[[], T]) -> T:
    """Run a function in a network namespace, on a thread that ends with it."""
    results: list[Any] = []

    def body() -> None:
        try:
            enter(str(path))
            results.append((function(), None))
        except BaseException as error:
            results.append((None, error))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    result, error = results[0]
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Instance:
    """A running container.

    Attributes:
        handle: Its name for runc and in the store.
        pid: Of its first process.
        device: The cell's end of its wire.
    """

    handle: str
    app: str
    index: int
    address: str
    pid: int

    @property
    def device(self) -> str:
        return "s-" + "".join(f"{byte:03d}" for byte in ipaddress.IPv4Address(self.address).packed)

    @property
    def namespace(self) -> Path:
        return Path(f"/proc/{self.pid}/ns/net")


class Store:
    """The metadata store, written as silk's cni-wrapper-plugin writes it: in place, under a lock.

    Attributes:
        entries: What it holds, by handle; tests may change it and `write`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Any] = {}
        path.parent.mkdir(mode=0o700, parents=True)
        self.write()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the writer's lock."""
        lock = os.open(self.path.with_name(f"{self.path.name}_lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def write(self) -> None:
        """Write the entries."""
        with self.locked():
            self.put(json.dumps(self.entries, separators=(",", ":")).encode() + b"\n")
            version = self.path.with_name(f"{self.path.name}_version")
            before = int(version.read_text()) if version.exists() else 0
            version.write_text(str(before + 1))

    def put(self, data: bytes) -> None:
        """Write bytes in place, without the lock."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.truncate(fd, 0)
            os.write(fd, data)
        finally:
            os.close(fd)

    def give_to(self, uid: int) -> None:
        """Let a user own it, as silk lets vcap."""
        for path in (self.path.parent, *self.path.parent.iterdir()):
            os.chown(path, uid, uid)


def entry(handle: str, app: str, index: int, address: str, **changes: Any) -> dict[str, Any]:
    """Return a container's entry of the store; `changes` are laid over its metadata, None removes."""
    log_config = {
        "guid": app,
        "index": index,
        "source_name": "CELL",
        "tags": {"app_id": app, "process_id": app, "process_instance_id": handle, "process_type": "web"},
    }
    metadata = {
        "app_id": app,
        "container_workload": "app",
        "policy_group_id": app,
        "ports": "8080",
        "log_config": json.dumps(log_config),
        **changes,
    }
    kept = {key: value for key, value in metadata.items() if value is not None}
    return {"handle": handle, "ip": address, "metadata": kept}


class Cell:
    """A cell; on leaving, its containers and its network go.

    Args:
        directory: For root file systems, runc's states, the store.
        subnet: A number below 256: containers of cells with different ones have different addresses.
    """

    def __init__(self, directory: Path, subnet: int = 93) -> None:
        self.directory = directory
        self._subnet = subnet
        self.namespace = Namespace.unique("cell")
        self.runc_root = directory / "runc"
        self.netns_dir = directory / "container-netns"
        self.store = Store(directory / "container-metadata" / "store.json")
        self._numbers = itertools.count(1)
        self._running: dict[str, Instance] = {}
        self._rootfs = directory / "rootfs"

    def config(self, **changes: Any) -> Config:
        """Return the agent's ``containers`` section."""
        return {
            "store": str(self.store.path),
            "runc": str(RUNC),
            "runc_root": str(self.runc_root),
            "netns_dir": str(self.netns_dir),
            **changes,
        }

    def run(self, app: str, index: int, *, handle: Optional[str] = None, **metadata: Any) -> Instance:
        """Start an instance and enter it in the store; ``metadata`` as in `entry`."""
        handle = handle or str(uuid.uuid4())[:28]
        address = f"10.255.{self._subnet}.{next(self._numbers)}"
        instance = Instance(handle, app, index, address, self._start(handle))
        self._running[handle] = instance
        self._wire(instance)
        self.store.entries[handle] = entry(handle, app, index, address, **metadata)
        self.store.write()
        return instance

    def bind_mount(self, instance: Instance) -> Path:
        """Bind-mount its network namespace as garden's external networker does."""
        path = self.netns_dir / instance.handle
        path.touch()
        run(["mount", "--bind", str(instance.namespace), str(path)])
        return path

    def unmount(self, instance: Instance) -> None:
        """Take that away, lazily as the networker does."""
        path = self.netns_dir / instance.handle
        run(["umount", "--lazy", str(path)])
        path.unlink()

    def kill(self, instance: Instance) -> None:
        """Let the container crash; nothing is cleaned up behind it."""
        run([*self._runc, "kill", instance.handle, "KILL"])

    def delete(self, instance: Instance) -> None:
        """Remove the container, its wire and its entry."""
        self._running.pop(instance.handle, None)
        run([*self._runc, "delete", "--force", instance.handle])
        if os.path.ismount(self.netns_dir / instance.handle):
            self.unmount(instance)
        self.store.entries.pop(instance.handle, None)
        self.store.write()
        with contextlib.suppress(CommandFailed):  # it goes with the container, but later
            self.namespace.ip("link", "delete", instance.device)

    def ping(self, instance: Instance, payload: bytes, count: int = 1) -> None:
        """Send echo requests from the cell; the container's kernel answers each with the same payload."""

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
                for number in range(count):
                    raw.sendto(_echo_request(number, payload), (instance.address, 0))

        in_namespace(self.namespace.path, send)

    def whisper(self, instance: Instance, payload: bytes) -> None:
        """Send a datagram on the container's loopback interface."""

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.sendto(payload, ("127.0.0.1", 9))

        in_namespace(instance.namespace, send)

    @property
    def _runc(self) -> list[str]:
        return [str(RUNC), "--root", str(self.runc_root)]

    def _start(self, handle: str) -> int:
        bundle = self.directory / "bundles" / handle
        bundle.mkdir(parents=True)
        (bundle / "config.json").write_text(json.dumps(specification(self._rootfs, handle)))
        pid_file = bundle / "pid"
        run(
            [
                *("sh", "-c", '"$@" </dev/null >/dev/null 2>&1', "sh", *self._runc, "run", "--detach"),
                *("--bundle", str(bundle), "--pid-file", str(pid_file), handle),
            ]
        )
        return int(pid_file.read_text())

    def _wire(self, instance: Instance) -> None:
        """Lay a wire as silk's CNI plugin does: point to point, the cell's end named after the address."""
        device, address = instance.device, instance.address
        mac = ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)
        self.namespace.ip(
            *("link", "add", device, "address", f"aa:aa:{mac}", "type", "veth"),
            *("peer", "name", "eth0", "address", f"ee:ee:{mac}", "netns", str(instance.pid)),
        )
        inside = f"""
            link set eth0 addrgenmode none
            address add {address} peer {GATEWAY}/32 dev eth0
            link set eth0 up
            neigh replace {GATEWAY} lladdr aa:aa:{mac} dev eth0 nud permanent
            route add default via {GATEWAY} dev eth0
        """
        outside = f"""
            link set {device} addrgenmode none
            address add {GATEWAY} peer {address}/32 dev {device}
            link set {device} up
            neigh replace {address} lladdr ee:ee:{mac} dev {device} nud permanent
        """
        run(["ip", "-n", self.namespace.name, "-batch", "-"], input=_lines(outside))
        run(["nsenter", f"--net={instance.namespace}", "ip", "-batch", "-"], input=_lines(inside))
        wait_until(lambda: self._is_up(device), f"{device} is up")

    def _is_up(self, device: str) -> bool:
        (link,) = json.loads(self.namespace.ip("-j", "link", "show", "dev", device))
        return bool(link["operstate"] == "UP")

    def __enter__(self) -> Cell:
        self.namespace.create()
        # Shared, so that an agent with mounts of its own sees what comes and goes.
        self.netns_dir.mkdir(mode=0o700)
        run(["mount", "--bind", str(self.netns_dir), str(self.netns_dir)])
        run(["mount", "--make-shared", str(self.netns_dir)])
        (self._rootfs / "bin").mkdir(parents=True)
        for name in ("proc", "dev", "sys"):
            (self._rootfs / name).mkdir()
        shutil.copy(BUSYBOX, self._rootfs / "bin" / "busybox")
        for path in (self._rootfs, *self._rootfs.rglob("*")):
            os.chown(path, MAPPED_ROOT, MAPPED_ROOT)
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        for instance in list(self._running.values()):
            self.delete(instance)
        run(["umount", "--lazy", str(self.netns_dir)])
        self.namespace.delete()


def specification(rootfs: Path, handle: str) -> dict[str, Any]:
    """A container of `sleep`, isolated as garden isolates an app."""
    mapping = [{"containerID": 0, "hostID": MAPPED_ROOT, "size": 65536}]
    kinds = ("pid", "network", "ipc", "uts", "mount", "user")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/busybox", "sleep", "1000"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "root": {"path": str(rootfs)},
        "hostname": handle,
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "uidMappings": mapping,
            "gidMappings": mapping,
        },
    }


def _lines(text: str) -> str:
    return "".join(f"{line.strip()}\n" for line in text.split("\n") if line.strip())


def _echo_request(number: int, payload: bytes) -> bytes:
    header = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, number & 0xFFFF)
    even = header + payload + b"\0" * (len(payload) % 2)
    total = sum(struct.unpack(f"!{len(even) // 2}H", even))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return header[:2] + struct.pack("!H", total ^ 0xFFFF) + header[4:] + payload
