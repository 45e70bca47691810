"""The two kinds of START, from a client to the api and from the api to an agent.

The other messages are in `pcapd.wire.messages`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import dataclass
from typing import List, Optional, Sequence, Set, Tuple

from pcapd.limits import (
    AGENT_PORTS_MAX,
    FILTER_MAX,
    INSTANCES_MAX,
    INTERFACES_MAX,
    NAME_MAX,
    OWN_ADDRESSES_MAX,
    POLICY_FILTERS_LENGTH_MAX,
    POLICY_FILTERS_MAX,
    REASON_MAX,
    SNAPLEN_DEFAULT,
    SNAPLEN_MAX,
)

__all__ = ["ApiTraffic", "App", "Besides", "CaptureStart", "Container", "Deployment", "Request", "check_name"]


@dataclass(frozen=True)
class ApiTraffic:
    """The addresses and ports of an api's own connections, which are never captured.

    Attributes:
        addresses: IP addresses of the api's machine, without loopback addresses.
        port: TCP port on which the api serves clients.
        listens_at: The address on which the api listens; None for all addresses of its machine.
        agent_ports: TCP ports of the agents to which the api connects.
    """

    addresses: Tuple[str, ...]
    port: int
    listens_at: Optional[str] = None
    agent_ports: Tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.addresses) > OWN_ADDRESSES_MAX + 1 or len(self.agent_ports) > AGENT_PORTS_MAX:
            raise ValueError("too many addresses or ports of an api")
        for address in (*self.addresses, self.listens_at or "::"):
            ipaddress.ip_address(address)
        for port in (self.port, *self.agent_ports):
            if not 0 < port < 65536:
                raise ValueError(f"{port} is not a TCP port")


@dataclass(frozen=True)
class App:
    """A Cloud Foundry app, in a client's request.

    Attributes:
        guid: The app's GUID.
        type: The process type.
        indices: Indices of the app's instances; empty means all.
    """

    guid: str
    type: str = "web"
    indices: Tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.guid)
        check_name(self.type)
        if any(not 0 <= index < INSTANCES_MAX for index in self.indices):
            raise ValueError(f"an instance index must be 0 to {INSTANCES_MAX - 1}")
        if len(set(self.indices)) != len(self.indices):
            raise ValueError("an instance is named twice")


@dataclass(frozen=True)
class Deployment:
    """VMs of a BOSH deployment, in a client's request.

    Attributes:
        name: The deployment's name.
        groups: Names of instance groups; empty means all.
        instances: Ids or indices of instances in these groups, such as ``0``, a UUID or
            ``GROUP/UUID``; empty means all.
    """

    name: str
    groups: Tuple[str, ...] = ()
    instances: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *self.groups, *self.instances):
            check_name(name)
        for names in (self.groups, self.instances):
            if len(names) > INSTANCES_MAX:
                raise ValueError(f"more than {INSTANCES_MAX} groups or instances")
            if len(set(names)) != len(names):
                raise ValueError("a group or an instance is named twice")

    def select(self, there: Sequence[Tuple[str, str, int]]) -> Tuple[List[int], List[str]]:
        """Find the requested instances in the deployment.

        Args:
            there: Group, id and index of each instance of the deployment.

        Returns:
            Positions of the requested instances in ``there``, and texts that name the requested
            groups and instances that do not exist.
        """
        groups, wanted = frozenset(self.groups), frozenset(self.instances)
        found: List[int] = []
        known: Set[str] = set()
        for position, (group, id, index) in enumerate(there):
            if groups and group not in groups:
                continue
            names = wanted & {id, str(index), f"{group}/{id}", f"{group}/{index}"}
            known |= names
            if names or not wanted:
                found.append(position)
        present = {group for group, _, _ in there}
        lost = [f"group {group}" for group in self.groups if group not in present]
        return found, lost + [f"instance {name}" for name in self.instances if name not in known]


@dataclass(frozen=True)
class Container:
    """An app instance's container, as described by Cloud Controller.

    Attributes:
        app: GUID of the app.
        index: The instance's index.
        handle: The container's handle: Cloud Controller's instance_guid (API 3.192 and later).
        address: The container's own IP address (instance_internal_ip), if known.
        process: GUID of the process, which differs from the app's after rolling deployments.
    """

    app: str
    index: int
    handle: Optional[str] = None
    address: Optional[str] = None
    process: Optional[str] = None

    def __post_init__(self) -> None:
        for name in (self.app, self.handle or "-", self.process or "-"):
            check_name(name)
        if self.address is not None:
            ipaddress.ip_address(self.address)
        if not 0 <= self.index < INSTANCES_MAX:
            raise ValueError(f"{self.index} is not an instance index")


@dataclass(frozen=True)
class CaptureStart:
    """START from the api to an agent: capture one target.

    Attributes:
        capture: The capture's id, the same on every agent.
        request_id: The request's id; it is in the log lines of api and agents.
        instance: The instance's name shown to the user.
        interfaces: Names of interfaces; empty means the agent's default interface.
        namespace: Name of a network namespace in the agent's configuration; None means the host.
        container: The container of an app instance, instead of a namespace.
        api: The api's own connections, which no agent captures; an older api does not send
            this.
        user: Opaque id of the user, the same for all captures of this user; agents use it to
            share their threads fairly.
        headers_only: Whether to cut packets after their layer-4 header.
        exclude_filters: BPF filters; packets that match one of them are not captured, even if they
            match ``filter``.
    """

    capture: str
    request_id: str
    instance: str
    interfaces: Tuple[str, ...] = ()
    filter: str = ""
    snaplen: int = SNAPLEN_DEFAULT
    namespace: Optional[str] = None
    api: Optional[ApiTraffic] = None
    user: str = ""
    container: Optional[Container] = None
    headers_only: bool = False
    exclude_filters: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.namespace is not None and self.container is not None:
            raise ValueError("a namespace and a container cannot both be captured")
        for name in (self.capture, self.request_id, self.instance, self.namespace or "-", self.user or "-"):
            check_name(name)
        if len(self.exclude_filters) > POLICY_FILTERS_MAX:
            raise ValueError(f"more than {POLICY_FILTERS_MAX} filters to exclude")
        if sum(map(len, self.exclude_filters)) > POLICY_FILTERS_LENGTH_MAX:
            raise ValueError(f"filters to exclude have more than {POLICY_FILTERS_LENGTH_MAX} characters")
        _check_capture(self.interfaces, self.filter, self.snaplen)


@dataclass(frozen=True)
class Besides:
    """How a live capture is recorded besides.

    Attributes:
        keep: Seconds of packets to keep; None for all.
        keep_bytes: Bytes to keep; None for all.
    """

    keep: Optional[int] = None
    keep_bytes: Optional[int] = None

    def __post_init__(self) -> None:
        for number in (self.keep, self.keep_bytes):
            if number is not None and not 0 < number < 2**53:
                raise ValueError("keep and keep_bytes must be more than 0")


@dataclass(frozen=True)
class Request:
    """START from a client to the api: capture these targets.

    Exactly one of ``targets``, ``app`` and ``deployment`` is set.

    Attributes:
        targets: Names from the api's configuration.
        app: A Cloud Foundry app.
        deployment: VMs of a BOSH deployment.
        follow: Whether to add instances that restart, move or appear while the capture runs.
        duration: Seconds after the first source opened, after which the api ends the capture.
        max_bytes: Bytes of packets after which the api ends the capture.
        token: The user's token, from clients that cannot set an Authorization header.
        headers_only: As in `CaptureStart`.
        reason: Why the user captures, for the audit record; an older api ignores it.
        record: Whether the api also records the capture, which it confirms with the notice
            ``RECORDED``; an older api ignores it.
    """

    targets: Tuple[str, ...] = ()
    interfaces: Tuple[str, ...] = ()
    filter: str = ""
    snaplen: int = SNAPLEN_DEFAULT
    duration: Optional[float] = None
    max_bytes: Optional[int] = None
    token: Optional[str] = dataclasses.field(default=None, repr=False)
    app: Optional[App] = None
    follow: bool = False
    deployment: Optional[Deployment] = None
    headers_only: bool = False
    reason: str = ""
    record: Optional[Besides] = None

    def __post_init__(self) -> None:
        named = [bool(self.targets), self.app is not None, self.deployment is not None]
        if not any(named):
            raise ValueError("no target is named: targets, app and deployment are missing")
        if sum(named) > 1:
            raise ValueError("only one of targets, app and deployment can be captured at a time")
        for name in self.targets:
            check_name(name)
        if self.duration is not None and not 0 < self.duration < float("inf"):
            raise ValueError("the duration must be more than 0 seconds")
        if self.max_bytes is not None and self.max_bytes <= 0:
            raise ValueError("max_bytes must be more than 0")
        if len(self.reason) > REASON_MAX or (self.reason and not self.reason.isprintable()):
            raise ValueError(f"the reason must be at most {REASON_MAX} printable characters, in one line")
        _check_capture(self.interfaces, self.filter, self.snaplen)


def check_name(name: str) -> None:
    """Refuse a text that cannot be the name of an instance, an interface or a target.

    Raises:
        ValueError: The text cannot be a name.
    """
    if not 0 < len(name) <= NAME_MAX or not name.isprintable():
        raise ValueError(f"a name must have 1 to {NAME_MAX} printable characters")


def _check_capture(interfaces: Tuple[str, ...], filter_text: str, snaplen: int) -> None:
    if len(interfaces) > INTERFACES_MAX:
        raise ValueError(f"more than {INTERFACES_MAX} interfaces")
    if len(set(interfaces)) != len(interfaces):
        raise ValueError("an interface is named twice")
    for name in interfaces:
        check_name(name)
    if len(filter_text) > FILTER_MAX:
        raise ValueError(f"the filter has more than {FILTER_MAX} characters")
    if not 0 < snaplen <= SNAPLEN_MAX:
        raise ValueError(f"snaplen must be 1 to {SNAPLEN_MAX}")
