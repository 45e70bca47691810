"""What a capture is asked for: START of a client and of the api, and what it names.

See `pcapd.wire.messages`.
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
    SNAPLEN_DEFAULT,
    SNAPLEN_MAX,
)

__all__ = ["ApiTraffic", "App", "CaptureStart", "Container", "Deployment", "Request", "check_name"]


@dataclass(frozen=True)
class ApiTraffic:
    """Where the connections of an api are, of which no capture contains any.

    Attributes:
        addresses: IP addresses of the api's machine, without loopback addresses.
        port: TCP port on which it serves clients.
        listens_at: The address on which it does; None: all of its machine's.
        agent_ports: TCP ports of agents that it connects to.
    """

    addresses: Tuple[str, ...]
    port: int
    listens_at: Optional[str] = None
    agent_ports: Tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.addresses) > OWN_ADDRESSES_MAX + 1 or len(self.agent_ports) > AGENT_PORTS_MAX:
            raise ValueError("more addresses or ports of an api than fit")
        for address in (*self.addresses, self.listens_at or "::"):
            ipaddress.ip_address(address)
        for port in (self.port, *self.agent_ports):
            if not 0 < port < 65536:
                raise ValueError(f"{port} is no TCP port")


@dataclass(frozen=True)
class App:
    """A Cloud Foundry app, as a client names it.

    Attributes:
        guid: The app's GUID.
        type: The process type.
        indices: Instances; empty means all.
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
    """VMs of a BOSH deployment, as a client names them.

    Attributes:
        name: The deployment's.
        groups: Instance groups; empty means all.
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
        """Find what is named among the instances of the deployment.

        Args:
            there: Group, id and index of each of them.

        Returns:
            Positions in ``there``, and what is named and is not there.
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
    """An app instance's container, as the api knows it from Cloud Controller.

    Attributes:
        app: GUID of the app.
        index: Of the instance.
        handle: The container's handle: Cloud Controller's instance_guid (API 3.192 and later).
        address: The container's own IP address (instance_internal_ip), where it is told.
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
            raise ValueError(f"{self.index} is no instance index")


@dataclass(frozen=True)
class CaptureStart:
    """START from the api to an agent: capture one target.

    Attributes:
        capture: The capture's id, the same on every agent.
        request_id: What ties the logs of all daemons together.
        instance: The instance's name as the user will see it.
        interfaces: Empty means the agent's default interface.
        namespace: A name from the agent's configuration; None is the host.
        container: An app instance's container instead.
        api: The api's connections, which no agent captures; an api of an older version
            does not name them.
        user: Opaque id of the user, the same for all of their captures; what agents do for a
            user counts against this id.
        headers_only: Keep nothing of a packet behind its layer-4 header.
        exclude_filters: What of these passes is not to be captured, whatever ``filter`` says.
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
class Request:
    """START from a client to the api: capture these targets.

    Exactly one of ``targets``, ``app`` and ``deployment`` says what.

    Attributes:
        targets: Names from the api's configuration.
        app: A Cloud Foundry app.
        deployment: VMs of a BOSH deployment.
        follow: Go on with instances that restart, move or are added meanwhile.
        duration: Seconds from the first source on, after which the api ends the capture.
        max_bytes: Bytes of packets after which it does.
        token: Instead of an Authorization header, for clients that cannot set one.
        headers_only: As in `CaptureStart`.
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
        _check_capture(self.interfaces, self.filter, self.snaplen)


def check_name(name: str) -> None:
    """Refuse what cannot be the name of an instance, an interface or a target.

    Raises:
        ValueError: It cannot.
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
