"""Opens a container's network namespace, and verifies that it is the container's own.  Blocks.

If garden's networker has bind-mounted a namespace under the container's handle, this
namespace is used (cf-networking-release, garden-external-networker/bindmount).  Otherwise the
namespace of the container's first process is used.  Before ``/proc/PID`` is opened, the process
can end and its id can be reused.  Therefore the process is looked up again afterwards, and the
namespace is accepted only if the id and the start time of the process are unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pcapd.agent.containers.files import start_of
from pcapd.agent.containers.lookup import first_process
from pcapd.agent.containers.runtime import Process
from pcapd.capture.namespaces import identity, is_network_namespace, is_ours, open_namespace
from pcapd.config.schema import ContainersConfig
from pcapd.errors import CaptureFailed, CapturePermission, NamespaceGone

__all__ = ["Gone", "OpenNamespace", "mount_gone", "open_container"]

#: A function that returns why a namespace or container is gone; None while it exists.  Does not block.
Gone = Callable[[], "str | None"]


class OpenNamespace(NamedTuple):
    """An open network namespace.  It exists while its descriptor is open, so close that soon."""

    fd: int
    gone: Gone


def open_container(config: ContainersConfig, handle: str) -> OpenNamespace:
    """Open the network namespace of the container with this handle.

    Raises:
        NamespaceGone: The container does not run.
        CapturePermission: The agent lacks a privilege.
        CaptureFailed: runc does not report it, or the container has no network of its own.
    """
    opened = _mounted(config.netns_dir / handle) or _of_first_process(config, handle)
    try:
        shared = is_ours(opened.fd)
    except OSError:
        os.close(opened.fd)
        raise
    if shared:  # users who may capture an app may not capture the cell
        os.close(opened.fd)
        raise CaptureFailed(f"container {handle} has no network of its own", "its traffic is the cell's")
    return opened


def mount_gone(path: str, was: tuple[int, int]) -> str | None:
    """Why the namespace that was bind-mounted at a path is gone; None while it exists."""
    return None if identity(path) == was else "the network namespace is gone"


def _mounted(path: Path) -> OpenNamespace | None:
    try:
        path.lstat()
        fd = open_namespace(str(path))
    except (FileNotFoundError, NotADirectoryError, NamespaceGone):
        return None
    except (PermissionError, CapturePermission) as error:
        raise CapturePermission(
            f"not allowed to open {path}", "the agent needs CAP_DAC_READ_SEARCH"
        ) from error
    if not is_network_namespace(fd):  # after a reboot of the cell, the mount point is a plain file
        os.close(fd)
        return None
    status = os.fstat(fd)
    return OpenNamespace(fd, partial(mount_gone, str(path), (status.st_dev, status.st_ino)))


def _of_first_process(config: ContainersConfig, handle: str) -> OpenNamespace:
    process = first_process(config, handle)
    try:
        fd = open_namespace(f"/proc/{process.pid}/ns/net")
    except CapturePermission as error:
        raise CapturePermission(error.message, "the agent needs CAP_SYS_PTRACE") from error
    try:
        if first_process(config, handle) != process:
            raise NamespaceGone(f"container {handle} is being restarted", "try again")
    except BaseException:
        os.close(fd)
        raise
    return OpenNamespace(fd, partial(_process_gone, process))


def _process_gone(process: Process) -> str | None:
    return None if start_of(process.pid) == process.start else "the container has ended"
