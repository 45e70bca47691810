"""Parses the cell's container metadata store, a file with the cell's containers.  Pure.

silk's cni-wrapper-plugin writes this file.  It contains a JSON object whose keys are handles::

    {HANDLE: {"handle": HANDLE, "ip": IP, "metadata": {"app_id": …, "container_workload":
     "app" | "task" | "staging", "log_config": "JSON in a string", …} or null}}

Sources: silk-release, src/code.cloudfoundry.org/lib/datastore/datastore.go and
cni-wrapper-plugin/main.go; guardian, netplugin/external_networker.go
(metadata); executor, resources.go (log_config).

The content is not trusted.  An invalid value is treated as unknown, and an entry without a
valid address is ignored.  An entry without a valid handle is kept with an empty handle: it
cannot be requested, but it shows that its address is in use.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from typing import Any

from pcapd.limits import INSTANCES_MAX

__all__ = ["StoredContainer", "is_handle", "parse_object", "parse_store", "usual"]

# A handle becomes part of a path and an argument of a command.  runc allows only these characters.
_HANDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}")
# The handle of a task is its whole GUID; that of an app instance is 28 characters of its GUID.
_WHOLE_GUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_APP = "app"


@dataclass(frozen=True)
class StoredContainer:
    """A container of this cell; a value is None if the store does not contain it.

    Attributes:
        handle: For an app, Cloud Controller's instance_guid; empty if the entry's handle is not valid.
        address: The container's IP address, in the form that `usual` returns.
        app: GUID of the container's app.
        workload: ``app``, ``task`` or ``staging``.
        index: Index of the app's instance, from log_config.
        process: GUID of the app's process, from log_config.
    """

    handle: str
    address: str
    app: str | None = None
    workload: str | None = None
    index: int | None = None
    process: str | None = None

    @property
    def runs_app(self) -> bool:
        """Whether the container is an instance of an app, not a task or the staging of an app."""
        if self.workload is None:
            return not _WHOLE_GUID.fullmatch(self.handle)
        return self.workload == _APP


def is_handle(text: str) -> bool:
    """Whether a text is a valid container handle."""
    return _HANDLE.fullmatch(text) is not None


def usual(address: str) -> str:
    """Normalize an IP address; an IPv4-mapped IPv6 address becomes IPv4 (RFC 4291, 2.5.5.2).

    Raises:
        ValueError: The text is not an address.
    """
    found = ipaddress.ip_address(address)
    return str(getattr(found, "ipv4_mapped", None) or found)


def parse_store(data: bytes) -> tuple[StoredContainer, ...]:
    """Parse a store; an empty file is an empty store.

    Raises:
        ValueError: The data is not one JSON object.
    """
    if not data.strip():
        return ()
    found = (_container(key, value) for key, value in parse_object(data).items())
    return tuple(container for container in found if container is not None)


def parse_object(data: str | bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: The text is not an object, or has an object with the same key twice.
    """
    try:
        value = json.loads(data, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # programs differ in which of the two values they use
        raise ValueError("an object has the same key twice")
    return found


def _container(key: str, value: Any) -> StoredContainer | None:
    address = _address(value.get("ip")) if isinstance(value, dict) else None
    if address is None:
        return None
    if value.get("handle") != key or not is_handle(key):
        return StoredContainer("", address)
    metadata = _mapping(value.get("metadata"))
    log_config = _log_config(metadata.get("log_config"), key)
    tags = _mapping(log_config.get("tags"))
    return StoredContainer(
        handle=key,
        address=address,
        app=_text(metadata.get("app_id")),
        workload=_text(metadata.get("container_workload")),
        index=_index(log_config.get("index")),
        process=_text(tags.get("process_id")),
    )


def _log_config(value: Any, handle: str) -> dict[str, Any]:
    if not isinstance(value, str):
        return {}
    try:
        found = parse_object(value)
    except ValueError:
        return {}
    # log_config contains the id of its instance; ignore it if it belongs to another instance.
    about = _mapping(found.get("tags")).get("process_instance_id", handle)
    return found if about == handle else {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _index(value: Any) -> int | None:
    # Not isinstance, which would accept a JSON true as a number.
    return value if type(value) is int and 0 <= value < INSTANCES_MAX else None


def _address(value: Any) -> str | None:
    """The address, if it is valid and can belong to one container only."""
    # Only from text: ip_address would accept a number too.
    try:
        found = ipaddress.ip_address(usual(value)) if isinstance(value, str) else None
    except ValueError:
        return None
    if found is None or getattr(found, "scope_id", None) is not None:
        return None
    # 127.0.0.1 exists in every namespace, and silk's gateway 169.254.0.1 on every veth pair.
    special = found.is_unspecified or found.is_reserved or found.is_multicast
    return None if special or found.is_loopback or found.is_link_local else str(found)
