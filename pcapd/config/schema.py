"""The values of a configuration, which cannot be changed, with their defaults.

`pcapd.config.parse` makes an `AgentConfig` or `ApiConfig` of each file and checks every
rule.  Times are in seconds, sizes in bytes.  Relative paths are made absolute with the
configuration file's directory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, Literal, Mapping, Optional, Tuple, Union

from pcapd.config.rules import (
    AuditConfig,
    CloudFoundryClient,
    LabelPlace,
    OptInConfig,
    PolicyConfig,
    Readers,
    RecordingsConfig,
    SyslogConfig,
)
from pcapd.limits import AGENT_CAPTURES, AGENT_CONNECT_TIMEOUT, DRAIN_TIMEOUT, RING_BYTES

__all__ = [
    "ANY_TARGET",
    "AgentConfig",
    "AgentListenConfig",
    "AgentMetricsConfig",
    "AgentsConfig",
    "ApiConfig",
    "ApiLimits",
    "AuditConfig",
    "BoshConfig",
    "CaptureConfig",
    "CliConfig",
    "ClientTLS",
    "CloudFoundryClient",
    "CloudFoundryConfig",
    "ContainerAccess",
    "ContainersConfig",
    "LabelPlace",
    "ListenConfig",
    "LogLevel",
    "MetricsConfig",
    "OptInConfig",
    "Permission",
    "PolicyConfig",
    "Privileges",
    "ProbeConfig",
    "Readers",
    "RecordingsConfig",
    "ServerTLS",
    "StaticConfig",
    "StaticTarget",
    "StaticUser",
    "SyslogConfig",
]

LogLevel = Literal["debug", "info", "warn", "error"]
#: ``namespace``: capture in the container's network namespace.  ``host-veth``: capture at the
#: cell's end of the container's eth0, which needs only CAP_NET_RAW.
ContainerAccess = Literal["namespace", "host-veth"]
#: How an agent gives up privileges: with python-prctl (which is under the GPL), or not at all.
Privileges = Literal["prctl", "none"]
#: Permissions on an app that Cloud Controller can grant to a user.
Permission = Literal["read_sensitive_data", "read_basic_data"]

#: In the targets of a static user, this means all targets, also those added later.
ANY_TARGET: Final = "*"

#: Default TCP port of agents.
_AGENT_PORT: Final = 9494


@dataclass(frozen=True)
class ServerTLS:
    """The daemon's certificate for clients, and the clients that it accepts.

    Attributes:
        client_cas: CAs of client certificates; None if clients need no certificate.
        allowed_clients: Lower-case DNS names; a client's certificate must have one of
            them.  Only for agents, and never empty there.
    """

    certificate: Path
    private_key: Path
    client_cas: Optional[Path] = None
    allowed_clients: Tuple[str, ...] = ()


@dataclass(frozen=True)
class ClientTLS:
    """The api's certificate for agents, and how it verifies theirs.

    Attributes:
        ca: CAs of the agents' certificates.
        server_name: Lower-case DNS name that an agent's certificate must have; the api
            connects to agents by address.
    """

    certificate: Path
    private_key: Path
    ca: Path
    server_name: str


@dataclass(frozen=True)
class ListenConfig:
    """The address and port to listen on; with port 0, any free port is used."""

    host: str = "0.0.0.0"  # noqa: S104  a server's usual default; configurable
    port: int = 8080
    tls: Optional[ServerTLS] = None


@dataclass(frozen=True, kw_only=True)
class AgentListenConfig(ListenConfig):
    """The address, port and TLS of an agent; ``client_cas`` and ``allowed_clients`` are required."""

    tls: ServerTLS
    port: int = _AGENT_PORT


@dataclass(frozen=True)
class CaptureConfig:
    """Settings for the captures of an agent.

    Attributes:
        default_device: Interface for requests that name none.
        ring_bytes: Size of the kernel's ring buffer for each source, in bytes.
        max_captures: Largest number of simultaneous captures.
        promiscuous: Whether to capture packets for other machines too.
    """

    default_device: str = "eth0"
    ring_bytes: int = RING_BYTES
    max_captures: int = AGENT_CAPTURES
    promiscuous: bool = True


@dataclass(frozen=True)
class ContainersConfig:
    """Settings with which an agent finds the containers of its Diego cell.

    Attributes:
        store: File with container metadata, written by silk's CNI plugin.
        runc: Path of the runc command.
        runc_root: Path of runc's state directory.
        netns_dir: Directory with network namespaces, bind-mounted by handle; used if present.
    """

    access: ContainerAccess = "namespace"
    store: Path = Path("/var/vcap/data/container-metadata/store.json")
    runc: Path = Path("/var/vcap/packages/runc/bin/runc")
    runc_root: Path = Path("/run/containerd/runc/garden")
    netns_dir: Path = Path("/var/vcap/data/garden-cni/container-netns")


@dataclass(frozen=True)
class MetricsConfig:
    """The separate listener for Prometheus."""

    host: str = "127.0.0.1"
    port: int = 9102


@dataclass(frozen=True)
class AgentMetricsConfig(MetricsConfig):
    """The same of an agent, which may run beside an api."""

    port: int = 9103


@dataclass(frozen=True)
class AgentConfig:
    """The configuration of an agent.

    Attributes:
        containers: None if the machine runs no containers.
        namespaces: Absolute paths of the network namespaces that may be captured, by name.
        run_as: User to which the agent switches after the start; None to keep the user.
        privileges: With ``none`` the agent does without python-prctl, ``run_as``, and
            containers with access ``namespace``.
        warnings: Settings that work but should be changed, one sentence each.
    """

    id: str
    listen: AgentListenConfig
    log_level: LogLevel = "info"
    capture: CaptureConfig = CaptureConfig()
    containers: Optional[ContainersConfig] = None
    namespaces: Mapping[str, Path] = field(default_factory=dict)
    run_as: Optional[str] = None
    privileges: Privileges = "prctl"
    metrics: Optional[AgentMetricsConfig] = None
    warnings: Tuple[str, ...] = ()


@dataclass(frozen=True)
class AgentsConfig:
    """Settings for the api's connections to agents.

    Attributes:
        connect_timeout: Time limit for connecting to an agent, in seconds.
    """

    tls: ClientTLS
    port: int = _AGENT_PORT
    connect_timeout: float = AGENT_CONNECT_TIMEOUT


@dataclass(frozen=True)
class ApiLimits:
    """The limits of one api.

    Attributes:
        concurrent_captures: Largest number of simultaneous captures.
        per_user: Largest number of simultaneous captures of one user.
        max_duration: Longest duration of one capture, in seconds.
        max_bytes: Largest total size of the packets of one capture, in bytes.
        max_targets: Largest number of instances in one capture.
    """

    concurrent_captures: int = 50
    per_user: int = 5
    max_duration: float = 3600.0
    max_bytes: int = 10 * 1000**3
    max_targets: int = 1000


@dataclass(frozen=True)
class CloudFoundryConfig:
    """The Cloud Controller that authorizes captures of apps.

    Attributes:
        api: Cloud Controller's https URL, without a final slash.
        ca: File with CAs of its certificate; None for the system's CAs.
        required_permission: The permission on an app that a user needs.
        headers_only_permission: The permission needed for headers only; None for the same.
        opt_in: The apps that may be captured; None for all.
        client: The api's own client; None without one.
    """

    api: str
    ca: Optional[Path] = None
    required_permission: Permission = "read_sensitive_data"
    headers_only_permission: Optional[Permission] = None
    opt_in: Optional[OptInConfig] = None
    client: Optional[CloudFoundryClient] = None

    def permission(self, *, headers_only: bool) -> Permission:
        """The permission that a capture needs."""
        weaker = self.headers_only_permission if headers_only else None
        return weaker or self.required_permission


@dataclass(frozen=True)
class BoshConfig:
    """The BOSH director that authorizes captures of VMs.

    Attributes:
        director: The director's https URL, without a final slash.
        ca: File with CAs of its certificate; None for the system's CAs.
        agent_port: TCP port of the agents on the VMs.
        token_scope: UAA scope that allows a capture; None requires an admin of the deployment.
    """

    director: str
    ca: Optional[Path] = None
    agent_port: int = _AGENT_PORT
    token_scope: Optional[str] = None


@dataclass(frozen=True)
class StaticUser:
    """A user with a token from the configuration.

    Attributes:
        token_sha256: SHA-256 of the token, lower-case hexadecimal.
        targets: Names of the targets that the user may capture; `ANY_TARGET` stands for all.
        headers_only: Whether the user may capture only the headers of packets.
    """

    token_sha256: str = field(repr=False)
    targets: Tuple[str, ...]
    headers_only: bool = False

    def may_capture(self, target: str) -> bool:
        """Whether the user may capture the target of that name."""
        return ANY_TARGET in self.targets or target in self.targets


@dataclass(frozen=True)
class StaticTarget:
    """A machine that can be captured by name.

    Attributes:
        host: IP address of the machine's agent.
        namespace: Name of one of the agent's ``namespaces``; None for the machine's own.
    """

    host: str
    port: int
    namespace: Optional[str] = None


@dataclass(frozen=True)
class StaticConfig:
    """Users and targets by name."""

    users: Mapping[str, StaticUser]
    targets: Mapping[str, StaticTarget]


@dataclass(frozen=True)
class ProbeConfig:
    """How the api asks agents whether they are there.

    Attributes:
        enabled: Whether it asks.
        interval: Seconds between two questions to an agent.
        agents: IP addresses of agents to ask beside those of static targets.
    """

    enabled: bool = True
    interval: float = 300.0
    agents: Tuple[str, ...] = ()


@dataclass(frozen=True)
class CliConfig:
    """The command line client for download, under ``/cli/``.

    Attributes:
        directory: Directory whose files anyone may download, without its subdirectories.
    """

    directory: Path


@dataclass(frozen=True)
class ApiConfig:
    """The configuration of an api, with at least one of the three resolvers.

    Attributes:
        drain_timeout: Seconds at a stop in which captures end and clients read the rest.
        operators: Users who may see and stop everybody's captures: ``static/NAME``,
            ``cloud_foundry/ORIGIN/NAME`` or ``bosh/ORIGIN/NAME``.
        trusted_proxies: Proxies whose headers for the client's address and the request's id are used.
        workers: Processes that serve the port together.
        state: URL of the database that these processes and other apis share, or ``file:`` and the file that
            has it; None for none.
        worker: This process's number among `workers`, from 0; None for a single one.  Not in the file.
        warnings: Settings that work but should be changed, one sentence each.
    """

    id: str
    agents: AgentsConfig
    log_level: LogLevel = "info"
    listen: ListenConfig = ListenConfig()
    limits: ApiLimits = ApiLimits()
    drain_timeout: float = DRAIN_TIMEOUT
    trusted_proxies: Tuple[Union[IPv4Network, IPv6Network], ...] = ()
    cloud_foundry: Optional[CloudFoundryConfig] = None
    bosh: Optional[BoshConfig] = None
    static: Optional[StaticConfig] = None
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    operators: Tuple[str, ...] = ()
    metrics: Optional[MetricsConfig] = None
    probe: ProbeConfig = ProbeConfig()
    cli: Optional[CliConfig] = None
    audit: Optional[AuditConfig] = None
    workers: int = 1
    state: Optional[str] = None
    recordings: Optional[RecordingsConfig] = None
    worker: Optional[int] = None
    warnings: Tuple[str, ...] = ()

    @property
    def process(self) -> str:
        """Name of this process, different from those of other apis and workers with ids of their own."""
        return self.id if self.worker is None else f"{self.id} worker {self.worker}"

    @property
    def agent_ports(self) -> Tuple[int, ...]:
        """TCP ports of all agents to which this api may connect."""
        ports = {self.agents.port} if self.cloud_foundry else set()
        ports |= {self.bosh.agent_port} if self.bosh else set()
        ports |= {target.port for target in self.static.targets.values()} if self.static else set()
        return tuple(sorted(ports))
